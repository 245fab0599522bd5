//! A packet behind a program's context, for the parser: read where it lies, or from a copy where it does not lie in one piece.

use core::arch::asm;

use agent_ebpf::parse::Packet;
use aya_ebpf::{
    helpers::bpf_skb_load_bytes,
    programs::{TcContext, sk_buff::SkBuff},
};

/// How far into a packet headers are followed: one more than the largest offset.
const HEAD_BYTES: usize = 256;

/// Room for a copy of a packet's head: whatever is read at an offset below [`HEAD_BYTES`] lies inside.
pub(super) type Head = [u8; HEAD_BYTES + 32];

/// The head of a packet that is linear in memory: no helper call, no copy.
pub(super) struct Linear<'a>(pub(super) &'a SkBuff);

impl Packet for Linear<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // The verifier wants to see how far an offset can reach.
        if offset > HEAD_BYTES - N {
            return None;
        }
        // SAFETY: the context is valid for the whole run of the program.
        let (data, data_end) = unsafe { ((*self.0.skb).data as usize, (*self.0.skb).data_end as usize) };
        let mut start = data + offset;
        // The compiler may add up a second time what it reads from; to verifiers that is another place than the one that was
        // checked, unless it cannot look into the sum. (Nothing at all in its place would leave two notes of lines at one
        // instruction, which the kernel refuses.)
        // SAFETY: nothing is done.
        unsafe { asm!("{start} += 0", start = inout(reg) start, options(pure, nomem, nostack)) }
        if start + N > data_end {
            return None;
        }
        Some(words(start))
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }
}

/// Bytes that may be written by words.
#[repr(align(4))]
struct Aligned<const N: usize>([u8; N]);

/// `N` bytes from `start`, which the caller has checked, `N` being even. Read by words: of bytes that may lie anywhere the
/// compiler makes a load, a shift and an or for each, and a store for each where they go to.
#[inline(always)]
pub(crate) fn words<const N: usize>(start: usize) -> [u8; N] {
    const { assert!(N % 2 == 0, "words are even") };
    let mut bytes = Aligned([0; N]);
    let mut at = 0;
    while at + 4 <= N {
        let word: u64;
        // SAFETY: a read of four of the checked bytes, and a write of as many inside the aligned array.
        unsafe {
            asm!("{word} = *(u32 *)({from} + 0)", word = lateout(reg) word, from = in(reg) start + at,
                options(pure, readonly, nostack));
            bytes.0.as_mut_ptr().add(at).cast::<u32>().write(word as u32);
        }
        at += 4;
    }
    if at + 2 <= N {
        let word: u64;
        // SAFETY: as above, of two.
        unsafe {
            asm!("{word} = *(u16 *)({from} + 0)", word = lateout(reg) word, from = in(reg) start + at,
                options(pure, readonly, nostack));
            bytes.0.as_mut_ptr().add(at).cast::<u16>().write(word as u16);
        }
    }
    bytes.0
}

/// A copy of a packet's head.
pub(super) struct Copied<'a> {
    head: &'a Head,
    head_len: usize,
    len: usize,
}

impl<'a> Copied<'a> {
    /// Copies what is there of the packet's first [`HEAD_BYTES`] bytes to `head`.
    #[inline(always)]
    pub(super) fn new(ctx: &TcContext, head: &'a mut Head) -> Option<Self> {
        let len = ctx.len() as usize;
        if len == 0 {
            return None;
        }
        // Verifiers up to 6.1 do not follow a length through two tests: from 1 to HEAD_BYTES by arithmetic alone.
        let mut last = len.min(HEAD_BYTES) - 1;
        // SAFETY: plain arithmetic on one register.
        unsafe { asm!("{last} &= 0xff", last = inout(reg) last, options(pure, nomem, nostack)) }
        let head_len = last + 1;
        // SAFETY: the helper writes head_len bytes, between 1 and HEAD_BYTES, to a larger buffer, or fails.
        let outcome = unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, head.as_mut_ptr().cast(), head_len as u32) };
        (outcome == 0).then_some(Self { head, head_len, len })
    }
}

impl Packet for Copied<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset + N > self.head_len {
            return None;
        }
        let mut index = offset;
        // The compiler knows that the offset is below HEAD_BYTES and may test it in another register than the one it
        // reads with, where the verifier does not see it; a mask it cannot look into stays.
        // SAFETY: plain arithmetic on one register.
        unsafe { asm!("{index} &= 0xff", index = inout(reg) index, options(pure, nomem, nostack)) }
        // SAFETY: index is at most 255 and N at most 32, so all N bytes lie in the buffer.
        Some(unsafe { *self.head.as_ptr().add(index).cast::<[u8; N]>() })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }
}
