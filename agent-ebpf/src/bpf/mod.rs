//! The programs, the maps, and what the BPF target needs beside them.

mod events;
mod flow;
mod fragments;
mod loss;
mod maps;
mod skb;
mod tc;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// The helpers that write to no one but us still want a GPL-compatible object.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
