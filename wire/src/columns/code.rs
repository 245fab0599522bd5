//! Codes for symbols by how often each stands: complete, canonical, none longer than [`MAX_LENGTH`].

use super::bits::{Reader, Writer};

/// The longest code, in bits.
const MAX_LENGTH: u32 = 7;
/// Bits that a code's length takes.
const LENGTH_BITS: u32 = 3;
const CODES: usize = 1 << MAX_LENGTH;
/// Symbols at the most: as many as there are lengths of numbers.
pub(super) const MAX_SYMBOLS: usize = 65;

/// The length of each symbol's code; 0 for one that never stands. Two or more stand.
pub(super) fn lengths(counts: &[u32]) -> Vec<u8> {
    let mut counts = counts.to_vec();
    loop {
        let lengths = unbounded(&counts);
        if lengths.iter().all(|length| u32::from(*length) <= MAX_LENGTH) {
            return lengths;
        }
        // Evened out a little: with all alike the longest is 7.
        counts.iter_mut().for_each(|count| *count = count.div_ceil(2));
    }
}

/// Huffman's.
fn unbounded(counts: &[u32]) -> Vec<u8> {
    let mut lengths = vec![0; counts.len()];
    // Trees that are left: how often their symbols stand, and which those are.
    let mut trees: Vec<(u64, Vec<usize>)> = Vec::new();
    let standing = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    trees.extend(standing.map(|(symbol, count)| (u64::from(*count), vec![symbol])));
    trees.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    while let (Some((count, mut symbols)), Some((second, more))) = (trees.pop(), trees.pop()) {
        symbols.extend(more);
        symbols.iter().for_each(|symbol| lengths[*symbol] += 1);
        if trees.is_empty() {
            break;
        }
        let count = count + second;
        let at = trees.partition_point(|(other, _)| *other >= count);
        trees.insert(at, (count, symbols));
    }
    lengths
}

/// Each symbol's code, as it stands in a stream, beside its length.
pub(super) fn codes(lengths: &[u8]) -> Vec<(u64, u32)> {
    let mut codes = vec![(0, 0); lengths.len()];
    let mut next = 0u32;
    for length in 1..=MAX_LENGTH {
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, own)| u32::from(**own) == length) {
            let reversed = next.reverse_bits() >> (u32::BITS - length);
            codes[symbol] = (reversed.into(), length);
            next += 1;
        }
        next <<= 1;
    }
    codes
}

/// Bits that a code takes.
pub(super) fn bits(lengths: &[u8]) -> u64 {
    (lengths.len() as u64 - 1) * u64::from(LENGTH_BITS)
}

/// Writes the lengths of all codes but the last symbol's, which makes them complete.
pub(super) fn write(lengths: &[u8], to: &mut Writer) {
    let all_but_last = lengths.split_last().map_or(lengths, |(_, others)| others);
    all_but_last.iter().for_each(|length| to.put(u64::from(*length), LENGTH_BITS));
}

/// Symbols by the next bits of a stream.
#[derive(Debug)]
pub(super) struct Table([(u8, u8); CODES]);

impl Table {
    /// Nothing to be read.
    pub(super) const EMPTY: Self = Self([(0, 0); CODES]);

    /// Reads the code of so many symbols. None where it is not complete, or there are too many.
    pub(super) fn read(count: usize, from: &mut Reader<'_>) -> Option<Self> {
        let mut lengths = [0; MAX_SYMBOLS];
        let (last, others) = lengths.get_mut(..count)?.split_last_mut()?;
        others.fill_with(|| from.take(LENGTH_BITS) as u8);
        let taken: usize = others.iter().filter(|length| **length > 0).map(|length| CODES >> length).sum();
        // A code of n bits takes 2^-n of the room.
        let room = CODES.checked_sub(taken).filter(|room| room.is_power_of_two() && *room < CODES)?;
        *last = (MAX_LENGTH - room.trailing_zeros()) as u8;
        let mut table = Self::EMPTY;
        for (symbol, (code, length)) in codes(&lengths[..count]).into_iter().enumerate().filter(|(_, code)| code.1 > 0)
        {
            for entry in table.0.iter_mut().skip(code as usize).step_by(1 << length) {
                *entry = (symbol as u8, length as u8);
            }
        }
        Some(table)
    }

    /// The symbol that the bits begin with, and how many of them it takes.
    pub(super) fn symbol(&self, bits: u64) -> (u32, u32) {
        let (symbol, length) = self.0[bits as usize % CODES];
        (symbol.into(), length.into())
    }
}
