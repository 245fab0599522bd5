//! How many tests of which kind ran, read from what the runners print. Every count comes from a runner's own line, so a
//! runner that ran nothing counts nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Number of tests by kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    ran: BTreeMap<&'static str, u32>,
    skipped: u32,
}

impl Counts {
    /// `number` of one kind.
    pub(crate) fn of(kind: &'static str, number: u32) -> Self {
        Self { ran: BTreeMap::from([(kind, number)]), skipped: 0 }
    }

    /// How many ran in all.
    pub(crate) fn total(&self) -> u32 {
        self.ran.values().sum()
    }

    fn add(&mut self, kind: &'static str, number: u32) {
        *self.ran.entry(kind).or_default() += number;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, number) in &self.ran {
            write!(f, "{number} {kind}  ")?;
        }
        if self.skipped > 0 {
            write!(f, "{} skipped by the runner", self.skipped)?;
        }
        Ok(())
    }
}

/// Counts the tests in a runner's lines. Rust tests are told apart by where they stand; others are all of `kind`.
pub(super) fn read(kind: &'static str, lines: &[String]) -> Counts {
    let mut counts = Counts::default();
    let kind_of = |place: &str| if kind == "rust" { rust_kind(place) } else { kind };
    let mut binary = "";
    for line in lines {
        if let Some(named) = cargo_binary(line) {
            binary = named;
        } else if let Some(place) = nextest(line) {
            counts.add(kind_of(place), 1);
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... ok")) {
            counts.add(kind_of(&format!("{binary} {name}")), 1);
        } else if let Some((passed, skipped)) = vitest(line) {
            counts.add(kind, passed);
            counts.skipped += skipped;
        } else if let Some(skipped) = skipped(line) {
            counts.skipped += skipped;
        }
    }
    counts
}

/// `tests::laws` of the line in which cargo says that it runs `tests/laws.rs`; nothing for unit tests.
fn cargo_binary(line: &str) -> Option<&str> {
    let source = line.trim_start().strip_prefix("Running ")?.split(" (").next()?;
    match source.strip_prefix("unittests ") {
        Some(_) => Some(""),
        None => source.strip_suffix(".rs"),
    }
}

/// `crate::binary path::of::test` of a line in which nextest says that one passed. (Such a line may count tests in
/// brackets after the time.)
fn nextest(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("PASS [")?;
    let after_time = rest.split_once(']')?.1.trim_start();
    Some(match after_time.strip_prefix('(') {
        Some(counted) => counted.split_once(')')?.1.trim_start(),
        None => after_time,
    })
}

/// How many passed and how many were skipped, in vitest's closing line, `Tests  12 passed | 2 skipped (14)`.
fn vitest(line: &str) -> Option<(u32, u32)> {
    let rest = line.trim_start().strip_prefix("Tests ")?;
    let of = |word: &str| {
        let number = |part: &str| part.split('(').next()?.trim().strip_suffix(word)?.trim().parse().ok();
        rest.split('|').find_map(number).unwrap_or(0)
    };
    Some((of("passed"), of("skipped")))
}

/// What libtest says it left out: `N ignored;`. nextest's own `skipped` counts what its command line filtered out, which is
/// not ours to report.
fn skipped(line: &str) -> Option<u32> {
    let rest = line.strip_prefix("test result: ok.")?;
    let number = rest.split(';').find_map(|part| part.trim().strip_suffix(" ignored")?.parse().ok())?;
    Some(number).filter(|number| *number > 0)
}

/// The kind of a Rust test by its binary and its path.
fn rust_kind(place: &str) -> &'static str {
    let has = |word: &str| {
        place.split(|c: char| !c.is_alphanumeric()).any(|part| part == word || part.strip_suffix('s') == Some(word))
    };
    let binary = place.split(' ').next().unwrap_or_default();
    match () {
        () if has("law") => "law",
        () if has("golden") => "golden",
        () if has("contract") => "contract",
        () if has("corpus") => "fuzz corpus",
        // nextest names the binaries of `tests/` as crate::binary, cargo by their path.
        () if (binary.contains("::") && !binary.contains("::bin/")) || binary.starts_with("tests/") => "integration",
        () => "unit",
    }
}

/// The line without terminal colours.
pub(super) fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // A colour sequence ends with its first letter.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Counts, plain, read};

    fn check(kind: &'static str, lines: &[&str], expect: &str) {
        let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
        assert_eq!(read(kind, &lines).to_string().trim(), expect);
    }

    #[test]
    fn nextest_lines_are_told_apart_by_their_place() {
        check(
            "rust",
            &[
                "        PASS [   0.004s] (1/5) wire codec::tests::round_trip",
                "        PASS [   0.004s] collector::laws merge_is_commutative",
                "        PASS [   0.004s] (  3/5) collector merge::tests::law_idempotent",
                "        PASS [   0.004s] collector::server streams_end_on_shutdown",
                "        PASS [   0.004s] orrery-agent::bin/orrery-agent tests::x",
                "     Summary [   1.0s] 5 tests run: 5 passed, 7 skipped",
            ],
            "1 integration  2 law  2 unit",
        );
    }

    #[test]
    fn cargo_test_lines_count_too() {
        check(
            "rust",
            &[
                "     Running unittests src/lib.rs (target/debug/deps/x-1)",
                "test merge::tests::one ... ok",
                "     Running tests/laws.rs (target/debug/deps/laws-1)",
                "test merge_is_commutative ... ok",
                "     Running tests/server.rs (target/debug/deps/server-1)",
                "test streams_end ... ok",
                "test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured",
            ],
            "1 integration  1 law  1 unit  1 skipped by the runner",
        );
        check("kernel", &["test exact ... ok", "test other ... ok"], "2 kernel");
    }

    #[test]
    fn vitest_says_its_number_at_the_end() {
        check("ui", &["\u{1b}[2m Test Files \u{1b}[22m 3 passed (3)", "      Tests  45 passed (45)"], "45 ui");
        check("ui", &["      Tests  45 passed | 2 skipped (47)"], "45 ui  2 skipped by the runner");
        check("ui", &["      Tests  1 failed | 2 skipped | 45 passed (48)"], "45 ui  2 skipped by the runner");
        check("e2e", &[" Test Files  2 skipped (2)", "      Tests  5 skipped (5)"], "0 e2e  5 skipped by the runner");
    }

    #[test]
    fn nothing_read_is_nothing_counted() {
        assert_eq!(read("rust", &[]), Counts::default());
        assert_eq!(Counts::default().total(), 0);
    }
}
