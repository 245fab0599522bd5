//! One column: many numbers of one kind in few bits, in one of four forms that `columns.proto` writes down.

use super::{
    bits::{Reader, low_bits, with_highest},
    code::Table,
};
use crate::codec::DecodeError;

pub(super) const SAME: u64 = 0;
pub(super) const WIDTH: u64 = 1;
pub(super) const LENGTHS: u64 = 2;
pub(super) const LISTED: u64 = 3;
pub(super) const FORM_BITS: u32 = 2;
/// How negative numbers are kept.
pub(super) const FOLDED: u64 = 0;
pub(super) const ABOVE: u64 = 1;
/// Bits of a width, of a symbol, and of a number of symbols.
pub(super) const SMALL_BITS: u32 = 7;
/// Different numbers that a column lists at the most.
pub(super) const MAX_LISTED: usize = 64;
/// Bits of their number, less one.
pub(super) const LISTED_BITS: u32 = 6;

/// Reads a column, row by row. What is wrong with it is told at the end: until then it gives some number or other.
#[derive(Debug)]
pub(super) struct Column<'a> {
    form: Form,
    sign: Sign,
    from: Reader<'a>,
}

#[derive(Debug)]
enum Sign {
    None,
    Folded,
    Above(u64),
}

#[derive(Debug)]
enum Form {
    Broken,
    Same(u64),
    Width { least: u64, width: u32 },
    Lengths { least: u64, table: Table },
    Listed { numbers: Vec<u64>, table: Table },
}

impl<'a> Column<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Self {
        let mut from = Reader::new(bytes);
        let form = if bytes.is_empty() { Some(Form::Same(0)) } else { Form::read(&mut from) };
        Self { form: form.unwrap_or(Form::Broken), sign: Sign::None, from }
    }

    /// A column of numbers in two's complement.
    pub(super) fn open_signed(bytes: &'a [u8]) -> Self {
        if bytes.is_empty() {
            return Self::open(bytes);
        }
        let mut from = Reader::new(bytes);
        let sign = match from.take(1) {
            FOLDED => Some(Sign::Folded),
            _ => from.number().map(|least| Sign::Above(unfolded(least))),
        };
        let form = sign.as_ref().and_then(|_| Form::read(&mut from));
        Self { form: form.unwrap_or(Form::Broken), sign: sign.unwrap_or(Sign::None), from }
    }

    pub(super) fn next(&mut self) -> u64 {
        let number = self.next_unsigned();
        match self.sign {
            Sign::None => number,
            Sign::Folded => unfolded(number),
            Sign::Above(least) => least.wrapping_add(number),
        }
    }

    fn next_unsigned(&mut self) -> u64 {
        match &self.form {
            Form::Broken => 0,
            Form::Same(number) => *number,
            Form::Width { least, width } => least.wrapping_add(self.from.take(*width)),
            Form::Lengths { least, table } => {
                let bits = self.from.peek();
                let (length, code) = table.symbol(bits);
                self.from.skip(code);
                let below = length.saturating_sub(1);
                // A look is 57 bits, of which the code has 7 at the most.
                let rest = if below <= 50 {
                    self.from.skip(below);
                    bits >> code & low_bits(below)
                } else {
                    self.from.take(below)
                };
                least.wrapping_add(with_highest(rest, length))
            }
            Form::Listed { numbers, table } => {
                let (symbol, code) = table.symbol(self.from.peek());
                self.from.skip(code);
                numbers.get(symbol as usize).copied().unwrap_or(0)
            }
        }
    }

    /// Whether all that was read was there.
    pub(super) fn close(&self) -> Result<(), DecodeError> {
        if matches!(self.form, Form::Broken) || !self.from.is_inside() {
            return Err(DecodeError::Invalid { reason: "a column is broken, or shorter than its rows" });
        }
        Ok(())
    }
}

impl Form {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(match from.take(FORM_BITS) {
            SAME => Self::Same(from.number()?),
            WIDTH => {
                let (least, width) = (from.number()?, from.take(SMALL_BITS) as u32);
                if width > u64::BITS {
                    return None;
                }
                Self::Width { least, width }
            }
            LENGTHS => {
                let (least, count) = (from.number()?, from.take(SMALL_BITS) as usize);
                Self::Lengths { least, table: Table::read(count, from)? }
            }
            _ => {
                let count = from.take(LISTED_BITS) as usize + 1;
                let mut last = 0u64;
                let mut number = || {
                    last = last.wrapping_add(from.number()?);
                    Some(last)
                };
                let numbers = (0..count).map(|_| number()).collect::<Option<_>>()?;
                Self::Listed { numbers, table: Table::read(count, from)? }
            }
        })
    }
}

/// What a folded number was.
fn unfolded(number: u64) -> u64 {
    number >> 1 ^ (number & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy as _, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::Column;
    use crate::columns::pack::{pack, pack_signed};

    fn unpack(bytes: &[u8], rows: usize) -> Option<Vec<u64>> {
        let mut column = Column::open(bytes);
        let values = (0..rows).map(|_| column.next()).collect();
        column.close().is_ok().then_some(values)
    }

    fn bytes(values: &[u64]) -> usize {
        let packed = pack(values.iter().copied());
        assert_eq!(unpack(&packed, values.len()).as_deref(), Some(values));
        packed.len()
    }

    #[test]
    fn each_form_is_taken_where_it_is_small() {
        assert_eq!([bytes(&[]), bytes(&[0; 1_000])], [0, 0]);
        assert_eq!([bytes(&[1; 1_000]), bytes(&[u64::MAX; 3])], [1, 10]);
        // Ten bits of 1,024 numbers.
        let all: Vec<u64> = (0..1_024).map(|n| 7_000_000_000 + n * 389 % 1_024).collect();
        assert!((1_280..1_290).contains(&bytes(&all)));
        // Most are small, a few are not.
        let uneven: Vec<u64> = (0..1_000u64).map(|n| if n % 50 == 0 { n << 40 } else { n % 4 }).collect();
        assert!(bytes(&uneven) < 500, "{}", bytes(&uneven));
        let ports: Vec<u64> = (0..1_000).map(|n| [443, 8_080, 5_432, 443][n % 4]).collect();
        assert!(bytes(&ports) < 200, "{}", bytes(&ports));
        assert!(bytes(&[0, u64::MAX, 1, u64::MAX - 1]) < 40);
    }

    #[test]
    fn lengths_of_all_kinds_have_codes_of_seven_bits_at_the_most() {
        // As many as Huffman's would give far longer codes.
        let fibonacci = [1usize, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610];
        let values: Vec<u64> =
            fibonacci.iter().enumerate().flat_map(|(length, count)| vec![(1u64 << length) - 1; *count]).collect();
        bytes(&values);
        let every: Vec<u64> = (0..64).map(|length| 1 << length).chain([0, u64::MAX]).collect();
        bytes(&every);
        let everywhere: Vec<u64> = (0..640).map(|at| (1u64 << (at % 64)) + at / 64).collect();
        bytes(&everywhere);
    }

    #[test]
    fn what_is_broken_is_told() {
        // A width of 65; a length of 65; no code; symbols beyond the 65th; a code that is too little, and one that is too much.
        let broken: [&[u8]; 6] = [
            &[0b0100_0001, 0b1_0000],
            &[0b1100, 0b10],
            &[0b10, 0, 0, 0],
            &[0b1000_0010, 0xff, 0xff, 0xff],
            &[0b11, 0, 0],
            &[0b1011, 0, 0b1001_0000, 0b100],
        ];
        for bytes in broken {
            assert_eq!(unpack(bytes, 0), None, "{bytes:?}");
        }
        let whole = pack([3, 1 << 40, 5, 9].into_iter());
        for length in 1..whole.len() {
            assert_eq!(unpack(&whole[..length], 4), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn columns_survive_the_trip(
            values in prop::collection::vec(
                prop_oneof![any::<u64>(), 0..9u64, 1_000..2_000u64, (0..64u32).prop_map(|bits| u64::MAX >> bits)], 0..300,
            ),
        ) {
            let unpacked = unpack(&pack(values.iter().copied()), values.len());
            prop_assert_eq!(unpacked.as_ref(), Some(&values));
            let packed = pack_signed(values.iter().map(|value| value.wrapping_sub(1_500)));
            let mut column = Column::open_signed(&packed);
            for value in values {
                prop_assert_eq!(column.next(), value.wrapping_sub(1_500));
            }
            prop_assert!(column.close().is_ok());
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&bytes, 500);
            let mut column = Column::open_signed(&bytes);
            (0..500).for_each(|_| _ = column.next());
        }
    }
}
