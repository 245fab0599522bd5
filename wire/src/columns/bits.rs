//! Bits in bytes, the lowest of each byte first.

/// Takes bits.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Bits that are no whole byte yet.
    held: u128,
    count: u32,
}

impl Writer {
    /// The lowest `bits` of a value that has no others.
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        self.held |= u128::from(value) << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// A value below its length.
    pub(super) fn number(&mut self, value: u64) {
        let length = length(value);
        if length < SHORT {
            self.put(u64::from(length) << 1, SHORT_BITS);
        } else {
            self.put(u64::from(length) << 1 | 1, LONG_BITS);
        }
        self.put(below_highest(value, length), length.saturating_sub(1));
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.held as u8);
        }
        self.bytes
    }
}

/// Numbers below this length say so in [`SHORT_BITS`], others in [`LONG_BITS`]; the lowest says which.
const SHORT: u32 = 8;
const SHORT_BITS: u32 = 4;
const LONG_BITS: u32 = 8;

/// Bits of a value from the highest that is set.
pub(super) fn length(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// Bits that a number takes.
pub(super) fn number_bits(value: u64) -> u64 {
    let length = length(value);
    u64::from(if length < SHORT { SHORT_BITS } else { LONG_BITS } + length.saturating_sub(1))
}

/// A value of that length without its highest bit.
pub(super) fn below_highest(value: u64, length: u32) -> u64 {
    if length > 1 { value & !(1 << (length - 1)) } else { 0 }
}

/// A value of that length from what [`below_highest`] left.
pub(super) fn with_highest(rest: u64, length: u32) -> u64 {
    if length == 0 { 0 } else { rest | 1 << (length - 1) }
}

/// Gives bits; beyond the end they are 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, 57 of them or more.
    pub(super) fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        word >> (self.at % 8)
    }

    pub(super) fn skip(&mut self, bits: u32) {
        self.at += bits as usize;
    }

    /// So many bits, 64 at the most.
    pub(super) fn take(&mut self, bits: u32) -> u64 {
        let low = bits.min(32);
        let mut value = self.peek() & low_bits(low);
        self.skip(low);
        if bits > low {
            value |= (self.peek() & low_bits(bits - low)) << low;
            self.skip(bits - low);
        }
        value
    }

    /// A value below its length; none where that is over 64.
    pub(super) fn number(&mut self) -> Option<u64> {
        let bits = if self.take(1) == 0 { SHORT_BITS } else { LONG_BITS };
        let length = self.take(bits - 1) as u32;
        (length <= u64::BITS).then(|| with_highest(self.take(length.saturating_sub(1)), length))
    }

    /// Nothing was read from beyond the end.
    pub(super) fn is_inside(&self) -> bool {
        self.at.div_ceil(8) <= self.bytes.len()
    }
}

/// As many bits, set; below 64.
pub(super) fn low_bits(bits: u32) -> u64 {
    (1 << bits) - 1
}
