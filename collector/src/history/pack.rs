//! What an edge did within one bucket, in a few bytes. Pure.
//!
//! Most edges speak one protocol one way and lose nothing: most of the numbers are 0, and what the server's side counted is
//! what the client's side did. So a record has a mask of the numbers that are not 0, the server's side is written as its
//! difference from the client's, and everything is a variable-length integer.

/// Numbers of a record.
pub const FIELDS: usize = 29;
/// The growth of an edge's totals within a bucket, by the indices below.
pub type Numbers = [u64; FIELDS];

/// Numbers of one side's traffic: buffers, segments and bytes there, and the same back.
pub const SIDE: usize = 6;
/// Where the client's side begins.
pub const CLIENT: usize = 0;
/// Where the server's side begins.
pub const SERVER: usize = SIDE;
/// Connections: opened, established, closed, reset.
pub const OPENED: usize = 12;
/// See [`OPENED`].
pub const ESTABLISHED: usize = 13;
/// See [`OPENED`].
pub const CLOSED: usize = 14;
/// See [`OPENED`].
pub const RESETS: usize = 15;
/// What sockets told: attempts to connect, and from [`REFUSED`] on four ways to fail.
pub const ATTEMPTS: usize = 16;
/// Refused, timed out, unreachable, failed otherwise.
pub const REFUSED: usize = 17;
/// Segments that sockets sent again.
pub const RETRANSMITTED: usize = 21;
/// Lost between the sides, there and back.
pub const LOST: usize = 22;
/// DNS: queries.
pub const QUERIES: usize = 24;
/// DNS: answers.
pub const ANSWERS: usize = 25;
/// DNS: queries without an answer.
pub const TIMEOUTS: usize = 26;
/// DNS: answers that there is no such name.
pub const NAMELESS: usize = 27;
/// DNS: answers that are neither that nor good.
pub const BAD_ANSWERS: usize = 28;

/// What else a record says, as bits.
pub mod flags {
    /// The client's side was reported.
    pub const CLIENT: u8 = 1;
    /// The server's side was reported.
    pub const SERVER: u8 = 2;
    /// The loss between the two is measured.
    pub const MEASURED: u8 = 4;
    /// It was about to be.
    pub const SETTLING: u8 = 8;
    /// Who is the client was guessed.
    pub const GUESSED: u8 = 16;
    /// Orrery's own reports.
    pub const OWN: u8 = 32;
}

/// One edge within one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Which edge.
    pub edge: u32,
    /// See [`flags`].
    pub flags: u8,
    /// How much.
    pub numbers: Numbers,
}

/// Appends a record; `before` is the edge of the one before it, which is less.
pub fn write(bytes: &mut Vec<u8>, record: &Record, before: u32) {
    varint(bytes, u64::from(record.edge.wrapping_sub(before)));
    bytes.push(record.flags);
    let mut numbers = record.numbers;
    if has_both(record.flags) {
        for index in 0..SIDE {
            let difference = record.numbers[SERVER + index].wrapping_sub(record.numbers[CLIENT + index]).cast_signed();
            numbers[SERVER + index] = ((difference << 1) ^ (difference >> 63)).cast_unsigned();
        }
    }
    let mask = numbers.iter().enumerate().fold(0, |mask, (index, number)| mask | (u64::from(*number != 0) << index));
    varint(bytes, mask);
    numbers.iter().filter(|number| **number != 0).for_each(|number| varint(bytes, *number));
}

/// Reads the record at `*at` and moves on; `None` at the end, or where the bytes are damaged.
pub fn read(bytes: &[u8], at: &mut usize, before: u32) -> Option<Record> {
    let edge = before.wrapping_add(u32::try_from(take(bytes, at)?).ok()?);
    let flags = *bytes.get(*at)?;
    *at += 1;
    let mask = take(bytes, at)?;
    let mut numbers = [0; FIELDS];
    for (index, number) in numbers.iter_mut().enumerate() {
        if mask & (1 << index) != 0 {
            *number = take(bytes, at)?;
        }
    }
    if has_both(flags) {
        for index in 0..SIDE {
            let zigzag = numbers[SERVER + index];
            let difference = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
            numbers[SERVER + index] = numbers[CLIENT + index].wrapping_add(difference);
        }
    }
    Some(Record { edge, flags, numbers })
}

const fn has_both(of: u8) -> bool {
    of & (flags::CLIENT | flags::SERVER) == flags::CLIENT | flags::SERVER
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CLIENT, FIELDS, LOST, OPENED, Record, SERVER, SIDE, flags, read, write};

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![3 => Just(0), 3 => 0..100_000_u64, 1 => any::<u64>()]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            all in proptest::collection::vec((1..5_000_u32, 0..64_u8, proptest::array::uniform29(number())), 0..40)
        ) {
            let mut bytes = Vec::new();
            let mut edge = 0;
            let mut records = Vec::new();
            for (step, flags, numbers) in all {
                let record = Record { edge: edge + step, flags, numbers };
                write(&mut bytes, &record, edge);
                edge = record.edge;
                records.push(record);
            }
            let (mut at, mut before, mut got) = (0, 0, Vec::new());
            while let Some(record) = read(&bytes, &mut at, before) {
                before = record.edge;
                got.push(record);
            }
            prop_assert_eq!(got, records);
        }

        #[test]
        fn damage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut at = 0;
            while read(&bytes, &mut at, 0).is_some() {}
        }
    }

    #[test]
    fn a_usual_edge_takes_some_twenty_bytes() {
        // A hundred requests a second, both ends watched.
        let mut numbers = [0; FIELDS];
        for side in [CLIENT, SERVER] {
            numbers[side..side + SIDE].copy_from_slice(&[3_000, 3_000, 600_000, 3_000, 3_000, 4_000_000]);
        }
        (numbers[OPENED], numbers[OPENED + 1], numbers[OPENED + 2]) = (1_500, 1_500, 1_500);
        numbers[LOST] = 0;
        let mut bytes = Vec::new();
        write(&mut bytes, &Record { edge: 7, flags: flags::CLIENT | flags::SERVER | flags::MEASURED, numbers }, 6);
        assert!(bytes.len() <= 26, "{}", bytes.len());
    }
}
