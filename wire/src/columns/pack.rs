//! A column's numbers into bits, in the form that is smallest.

use super::{
    bits::{Writer, below_highest, length, number_bits},
    code::{self, MAX_SYMBOLS},
    column::{ABOVE, FOLDED, FORM_BITS, LENGTHS, LISTED, LISTED_BITS, MAX_LISTED, SAME, SMALL_BITS, WIDTH},
};

/// Writes a column in the form that is smallest.
pub(super) fn pack(values: impl Iterator<Item = u64>) -> Vec<u8> {
    let values: Vec<u64> = values.collect();
    let mut to = Writer::default();
    if values.iter().any(|value| *value != 0) {
        Plan::new(&values).write(&values, &mut to);
    }
    to.finish()
}

/// The same of numbers that may be negative, in two's complement: by how far they are from 0, or from the least of them.
pub(super) fn pack_signed(values: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut values: Vec<u64> = values.collect();
    let mut to = Writer::default();
    if values.iter().all(|value| *value == 0) {
        return to.finish();
    }
    let least = values.iter().map(|value| value.cast_signed()).min().unwrap_or(0).cast_unsigned();
    let above: Vec<u64> = values.iter().map(|value| value.wrapping_sub(least)).collect();
    values.iter_mut().for_each(|value| *value = folded(*value));
    let [plan, other] = [Plan::new(&values), Plan::new(&above)];
    if other.bits + number_bits(folded(least)) < plan.bits {
        to.put(ABOVE, 1);
        to.number(folded(least));
        other.write(&above, &mut to);
    } else {
        to.put(FOLDED, 1);
        plan.write(&values, &mut to);
    }
    to.finish()
}

/// A number in two's complement as one that is small when it is near 0.
fn folded(number: u64) -> u64 {
    let number = number.cast_signed();
    (number << 1 ^ number >> 63).cast_unsigned()
}

/// What a column will be, and how many bits.
struct Plan {
    bits: u64,
    form: PlannedForm,
}

enum PlannedForm {
    Same(u64),
    Width { least: u64, width: u32 },
    Lengths(Lengths),
    Listed(Listed),
}

impl Plan {
    /// Of one value or more.
    fn new(values: &[u64]) -> Self {
        let [least, most] = [values.iter().min(), values.iter().max()].map(|value| value.copied().unwrap_or(0));
        if least == most {
            return Self { bits: u64::from(FORM_BITS) + number_bits(least), form: PlannedForm::Same(least) };
        }
        let width = length(most - least);
        let fixed = number_bits(least) + u64::from(SMALL_BITS) + values.len() as u64 * u64::from(width);
        let lengths = Lengths::new(values, least);
        let listed = Listed::new(values).filter(|listed| listed.bits < lengths.bits.min(fixed));
        let (bits, form) = match listed {
            Some(listed) => (listed.bits, PlannedForm::Listed(listed)),
            None if lengths.bits < fixed => (lengths.bits, PlannedForm::Lengths(lengths)),
            None => (fixed, PlannedForm::Width { least, width }),
        };
        Self { bits: bits + u64::from(FORM_BITS), form }
    }

    fn write(&self, values: &[u64], to: &mut Writer) {
        match &self.form {
            PlannedForm::Same(number) => {
                to.put(SAME, FORM_BITS);
                to.number(*number);
            }
            PlannedForm::Width { least, width } => {
                to.put(WIDTH, FORM_BITS);
                to.number(*least);
                to.put((*width).into(), SMALL_BITS);
                values.iter().for_each(|value| to.put(value - least, *width));
            }
            PlannedForm::Lengths(lengths) => {
                to.put(LENGTHS, FORM_BITS);
                lengths.write(values, to);
            }
            PlannedForm::Listed(listed) => {
                to.put(LISTED, FORM_BITS);
                listed.write(values, to);
            }
        }
    }
}

/// Bits of all symbols by their code, and of the code.
fn code_bits(counts: &[u32], code: &[u8]) -> u64 {
    let symbols: u64 = counts.iter().zip(code).map(|(count, length)| u64::from(*count) * u64::from(*length)).sum();
    symbols + code::bits(code)
}

/// What is above the least, by its length.
struct Lengths {
    least: u64,
    code: Vec<u8>,
    bits: u64,
}

impl Lengths {
    fn new(values: &[u64], least: u64) -> Self {
        let mut counts = [0; MAX_SYMBOLS];
        let mut rest = 0;
        for value in values {
            let length = length(value - least);
            counts[length as usize] += 1;
            rest += u64::from(length.saturating_sub(1));
        }
        let last = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
        let code = code::lengths(&counts[..=last]);
        let bits = number_bits(least) + u64::from(SMALL_BITS) + code_bits(&counts, &code) + rest;
        Self { least, code, bits }
    }

    fn write(&self, values: &[u64], to: &mut Writer) {
        to.number(self.least);
        to.put(self.code.len() as u64, SMALL_BITS);
        code::write(&self.code, to);
        let codes = code::codes(&self.code);
        for value in values {
            let value = value - self.least;
            let length = length(value);
            let (code, bits) = codes[length as usize];
            to.put(code, bits);
            to.put(below_highest(value, length), length.saturating_sub(1));
        }
    }
}

/// Few different numbers.
struct Listed {
    numbers: Vec<u64>,
    code: Vec<u8>,
    bits: u64,
}

impl Listed {
    fn new(values: &[u64]) -> Option<Self> {
        let mut numbers: Vec<(u64, u32)> = Vec::new();
        for value in values {
            match numbers.binary_search_by_key(value, |(number, _)| *number) {
                Ok(at) => numbers[at].1 += 1,
                Err(_) if numbers.len() == MAX_LISTED => return None,
                Err(at) => numbers.insert(at, (*value, 1)),
            }
        }
        let (numbers, counts): (Vec<u64>, Vec<u32>) = numbers.into_iter().unzip();
        let code = code::lengths(&counts);
        let said: u64 = differences(&numbers).map(number_bits).sum();
        let bits = u64::from(LISTED_BITS) + said + code_bits(&counts, &code);
        Some(Self { numbers, code, bits })
    }

    fn write(&self, values: &[u64], to: &mut Writer) {
        to.put(self.numbers.len() as u64 - 1, LISTED_BITS);
        differences(&self.numbers).for_each(|number| to.number(number));
        code::write(&self.code, to);
        let codes = code::codes(&self.code);
        for value in values {
            // All are in the list.
            let (code, bits) = codes[self.numbers.binary_search(value).unwrap_or(0)];
            to.put(code, bits);
        }
    }
}

fn differences(numbers: &[u64]) -> impl Iterator<Item = u64> {
    let before = std::iter::once(0).chain(numbers.iter().copied());
    numbers.iter().zip(before).map(|(number, before)| number - before)
}
