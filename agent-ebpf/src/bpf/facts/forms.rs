//! The entry programs: each fact in every form a kernel may grant. They find the arguments and leave at once where nothing
//! is told; the bodies are elsewhere.
//!
//! Functions and their arguments: `tcp_set_state(sk, state)`, `tcp_retransmit_skb(sk, skb, segs)` and
//! `tcp_rcv_space_adjust(sk)` (net/ipv4), `sk_skb_reason_drop(sk, skb, reason)` from 6.11, `kfree_skb_reason(skb, reason)`
//! from 5.17 and `kfree_skb(skb)` before (net/core/skbuff.c).

use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, fentry, kprobe, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, FEntryContext, ProbeContext, RawTracePointContext, TracePointContext},
};

use super::{
    drop::{dropped, noise},
    maps::setting,
    read::{argument, read},
    socket::{received, retransmitted, state_changed, telling},
};

/// `inet_sock_set_state(sk, old, new)`.
#[inline(always)]
fn state(args: *const u64) -> u32 {
    let (old, new) = (argument(args, 1) as u32, argument(args, 2) as u32);
    if telling(old, new) { state_changed(argument(args, 0), old, new) } else { 0 }
}

/// Before the function changes it, the socket still has its old state.
#[inline(always)]
fn state_set(sk: u64, new: u32) -> u32 {
    let old = u32::from(read::<u8>(sk, setting!(sock_state)).unwrap_or(0));
    if telling(old, new) { state_changed(sk, old, new) } else { 0 }
}

/// `tcp_retransmit_skb(sk, skb)`, with an error from 6.15 on.
#[inline(always)]
fn retransmit(args: *const u64) -> u32 {
    if setting!(retransmit_error) != 0 && argument(args, 2) as i32 != 0 {
        return 0;
    }
    retransmitted(argument(args, 0), argument(args, 1))
}

/// `kfree_skb(skb, location)`, with a reason from 5.17 on, with the receiving socket from 6.11 on.
#[inline(always)]
fn drops(args: *const u64) -> u32 {
    let reason = if setting!(drop_reason) != 0 { argument(args, 2) as u32 } else { 0 };
    if noise(reason) {
        return 0;
    }
    let receiver = if setting!(drop_socket) != 0 { argument(args, 3) } else { 0 };
    dropped(argument(args, 0), reason, receiver)
}

#[inline(always)]
fn drop_for(skb: u64, reason: u32, receiver: u64) -> u32 {
    if noise(reason) { 0 } else { dropped(skb, reason, receiver) }
}

#[btf_tracepoint]
pub(super) fn connect_tp_btf(ctx: BtfTracePointContext) -> i32 {
    state(ctx.as_ptr().cast()) as i32
}

#[raw_tracepoint]
pub(super) fn connect_raw_tracepoint(ctx: RawTracePointContext) -> i32 {
    state(ctx.as_ptr().cast()) as i32
}

#[tracepoint]
pub(super) fn connect_tracepoint(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr() as u64;
    let number = |offset| read::<u32>(record, offset).unwrap_or(0);
    let (old, new) = (number(setting!(state_old)), number(setting!(state_new)));
    if telling(old, new) { state_changed(read(record, setting!(state_sk)).unwrap_or(0), old, new) } else { 0 }
}

#[fentry]
pub(super) fn connect_fentry(ctx: FEntryContext) -> i32 {
    let args = ctx.as_ptr().cast();
    state_set(argument(args, 0), argument(args, 1) as u32) as i32
}

#[kprobe]
pub(super) fn connect_kprobe(ctx: ProbeContext) -> u32 {
    state_set(ctx.arg::<u64>(0).unwrap_or(0), ctx.arg::<u32>(1).unwrap_or(0))
}

#[btf_tracepoint]
pub(super) fn retransmit_tp_btf(ctx: BtfTracePointContext) -> i32 {
    retransmit(ctx.as_ptr().cast()) as i32
}

#[raw_tracepoint]
pub(super) fn retransmit_raw_tracepoint(ctx: RawTracePointContext) -> i32 {
    retransmit(ctx.as_ptr().cast()) as i32
}

#[tracepoint]
pub(super) fn retransmit_tracepoint(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr() as u64;
    if setting!(retransmit_error) != 0 && read::<i32>(record, setting!(retransmit_err)).is_some_and(|error| error != 0)
    {
        return 0;
    }
    let pointer = |offset| read::<u64>(record, offset).unwrap_or(0);
    retransmitted(pointer(setting!(retransmit_sk)), pointer(setting!(retransmit_skb)))
}

#[fentry]
pub(super) fn retransmit_fentry(ctx: FEntryContext) -> i32 {
    let args = ctx.as_ptr().cast();
    retransmitted(argument(args, 0), argument(args, 1)) as i32
}

#[kprobe]
pub(super) fn retransmit_kprobe(ctx: ProbeContext) -> u32 {
    retransmitted(ctx.arg::<u64>(0).unwrap_or(0), ctx.arg::<u64>(1).unwrap_or(0))
}

#[btf_tracepoint]
pub(super) fn rtt_tp_btf(ctx: BtfTracePointContext) -> i32 {
    received(argument(ctx.as_ptr().cast(), 0)) as i32
}

#[raw_tracepoint]
pub(super) fn rtt_raw_tracepoint(ctx: RawTracePointContext) -> i32 {
    received(argument(ctx.as_ptr().cast(), 0)) as i32
}

#[tracepoint]
pub(super) fn rtt_tracepoint(ctx: TracePointContext) -> u32 {
    received(read(ctx.as_ptr() as u64, setting!(receive_sk)).unwrap_or(0))
}

#[fentry]
pub(super) fn rtt_fentry(ctx: FEntryContext) -> i32 {
    received(argument(ctx.as_ptr().cast(), 0)) as i32
}

#[kprobe]
pub(super) fn rtt_kprobe(ctx: ProbeContext) -> u32 {
    received(ctx.arg::<u64>(0).unwrap_or(0))
}

#[btf_tracepoint]
pub(super) fn drop_tp_btf(ctx: BtfTracePointContext) -> i32 {
    drops(ctx.as_ptr().cast()) as i32
}

#[raw_tracepoint]
pub(super) fn drop_raw_tracepoint(ctx: RawTracePointContext) -> i32 {
    drops(ctx.as_ptr().cast()) as i32
}

#[tracepoint]
pub(super) fn drop_tracepoint(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr() as u64;
    let reason = read::<u32>(record, setting!(drop_why)).unwrap_or(0);
    drop_for(read(record, setting!(drop_skb)).unwrap_or(0), reason, 0)
}

#[fentry]
pub(super) fn drop_for_socket_fentry(ctx: FEntryContext) -> i32 {
    let args = ctx.as_ptr().cast();
    drop_for(argument(args, 1), argument(args, 2) as u32, argument(args, 0)) as i32
}

#[fentry]
pub(super) fn drop_with_reason_fentry(ctx: FEntryContext) -> i32 {
    let args = ctx.as_ptr().cast();
    drop_for(argument(args, 0), argument(args, 1) as u32, 0) as i32
}

#[fentry]
pub(super) fn drop_fentry(ctx: FEntryContext) -> i32 {
    drop_for(argument(ctx.as_ptr().cast(), 0), 0, 0) as i32
}

#[kprobe]
pub(super) fn drop_for_socket_kprobe(ctx: ProbeContext) -> u32 {
    let pointer = |index| ctx.arg::<u64>(index).unwrap_or(0);
    drop_for(pointer(1), ctx.arg::<u32>(2).unwrap_or(0), pointer(0))
}

#[kprobe]
pub(super) fn drop_with_reason_kprobe(ctx: ProbeContext) -> u32 {
    drop_for(ctx.arg::<u64>(0).unwrap_or(0), ctx.arg::<u32>(1).unwrap_or(0), 0)
}

#[kprobe]
pub(super) fn drop_kprobe(ctx: ProbeContext) -> u32 {
    drop_for(ctx.arg::<u64>(0).unwrap_or(0), 0, 0)
}
