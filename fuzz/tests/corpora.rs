//! Every kept input through its target, without a fuzzer, and small changes of each: what once broke something stays mended.

use std::{fs, path::Path};

use fuzz::{TARGETS, Target};

/// Changes tried of one input.
const CHANGES: usize = 400;
/// Larger inputs are kept as they are.
const MAX_CHANGED: usize = 4_096;

#[test]
fn kept_inputs_break_nothing() {
    for Target { name, run } in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut inputs = 0;
        let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in listed {
            let path = entry.expect("an entry").path();
            let input = fs::read(&path).expect("read");
            println!("{}", path.display());
            run(&input);
            if input.len() <= MAX_CHANGED {
                changed(&input).for_each(|input| run(&input));
            }
            inputs += 1;
        }
        assert!(inputs > 0, "no inputs in {}", folder.display());
        run(&[]);
    }
}

/// Cut off, with a byte turned, or with a piece doubled; always the same ones.
fn changed(input: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let length = input.len().max(1);
    (0..CHANGES).map(move |n| {
        let at = n.wrapping_mul(0x9e37_79b1) % length;
        let mut made = input.to_vec();
        match n % 3 {
            0 => made.truncate(at),
            1 => made.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (n / 3 % 8)),
            _ => made.extend_from_slice(&input[at.min(input.len())..]),
        }
        made
    })
}
