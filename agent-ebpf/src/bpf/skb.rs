//! A packet behind a tc context, for the parser: read where it lies, or from a copy where it does not lie in one piece.

use agent_ebpf::parse::Packet;
use aya_ebpf::{helpers::bpf_skb_load_bytes, programs::TcContext};

/// Bytes that every header the parser follows fits into, but for absurd ones.
pub(super) const HEAD_BYTES: usize = 256;

/// The head of a packet that is linear in memory: no helper call, no copy.
pub(super) struct Linear<'a>(pub(super) &'a TcContext);

impl Packet for Linear<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // The verifier wants to see how far an offset can reach.
        if offset > HEAD_BYTES - N {
            return None;
        }
        let start = self.0.data() + offset;
        if start + N > self.0.data_end() {
            return None;
        }
        // SAFETY: the N bytes lie between data and data_end, checked on the line above; [u8; N] wants no alignment.
        Some(unsafe { *(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }
}

/// A copy of a packet's head.
pub(super) struct Copied<'a> {
    head: &'a [u8; HEAD_BYTES],
    head_len: usize,
    len: usize,
}

impl<'a> Copied<'a> {
    /// Copies what is there of the packet's first [`HEAD_BYTES`] bytes to `head`.
    #[inline(always)]
    pub(super) fn new(ctx: &TcContext, head: &'a mut [u8; HEAD_BYTES]) -> Option<Self> {
        let len = ctx.len() as usize;
        let head_len = len.min(HEAD_BYTES);
        if head_len == 0 {
            return None;
        }
        // SAFETY: the helper writes head_len bytes, between 1 and HEAD_BYTES, to a buffer of HEAD_BYTES, or fails.
        let outcome =
            unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, head.as_mut_ptr().cast(), head_len as u32) };
        (outcome == 0).then_some(Self { head, head_len, len })
    }
}

impl Packet for Copied<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > HEAD_BYTES - N || offset + N > self.head_len {
            return None;
        }
        // SAFETY: offset + N is at most HEAD_BYTES, by the first check; [u8; N] wants no alignment.
        Some(unsafe { *self.head.as_ptr().add(offset).cast::<[u8; N]>() })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }
}
