//! Tables of kernels: which form of hook each grants, and what the tests held on it. Printed, and kept in docs/kernel.md
//! between marks.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

use super::guest::{HELD, HOOK};
use crate::sys;

/// Where it is kept.
const DOCUMENT: &str = "docs/kernel.md";
/// The lines before and behind the table of hooks.
const HOOKS: [&str; 2] = ["<!-- hooks by kernel: cargo xtask vm --all --keep -->", "<!-- end of hooks by kernel -->"];
/// The lines before and behind the table of tests.
const TESTS: [&str; 2] = ["<!-- tests by kernel: cargo xtask vm --all --keep -->", "<!-- end of tests by kernel -->"];
/// What stands in a cell that nobody filled.
const BLANK: &str = "?";

/// Columns are kernels, rows are forms.
#[derive(Debug)]
pub(super) struct Matrix {
    /// How its lines begin in what a test prints.
    mark: &'static str,
    /// Where it stands in the document.
    between: [&'static str; 2],
    kernels: Vec<String>,
    forms: Vec<String>,
    cells: BTreeMap<(String, String), String>,
}

impl Matrix {
    fn new(mark: &'static str, between: [&'static str; 2]) -> Self {
        Self { mark, between, kernels: Vec::new(), forms: Vec::new(), cells: BTreeMap::new() }
    }

    /// Which kernel grants which form of hook.
    pub(super) fn of_hooks() -> Self {
        Self::new(HOOK, HOOKS)
    }

    /// What tests held on which kernel.
    pub(super) fn of_tests() -> Self {
        Self::new(HELD, TESTS)
    }

    /// Adds what one kernel's test printed.
    pub(super) fn add(&mut self, kernel: &str, said: &str) {
        self.kernels.push(kernel.to_owned());
        for line in said.lines().filter_map(|line| line.strip_prefix(self.mark)) {
            let Some((form, word)) = line.split_once('\t') else { continue };
            if !self.forms.iter().any(|known| known == form) {
                self.forms.push(form.to_owned());
            }
            self.cells.insert((form.to_owned(), kernel.to_owned()), word.trim().to_owned());
        }
    }

    /// As a table of a document.
    pub(super) fn table(&self) -> String {
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = row(std::iter::once("form".to_owned()).chain(self.kernels.iter().cloned()).collect());
        text += &row(vec!["---".to_owned(); self.kernels.len() + 1]);
        for form in &self.forms {
            let cell = |kernel: &String| {
                self.cells.get(&(form.clone(), kernel.clone())).map_or_else(|| BLANK.to_owned(), String::clone)
            };
            text += &row(std::iter::once(form.clone()).chain(self.kernels.iter().map(cell)).collect());
        }
        text
    }

    /// Whether any cell is blank, or there are none.
    pub(super) fn has_blanks(&self) -> bool {
        self.forms.is_empty() || self.cells.len() != self.forms.len() * self.kernels.len()
    }

    /// Writes it into the document.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        let path = sys::root().join(DOCUMENT);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let [begin, end] = self.between;
        let (before, rest) = text.split_once(begin).with_context(|| format!("find the line {begin} in {DOCUMENT}"))?;
        let (_, after) = rest.split_once(end).with_context(|| format!("find the line {end} in {DOCUMENT}"))?;
        let text = format!("{before}{begin}\n{}{end}{after}", self.table());
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// What is wrong with the tables that the document has.
pub(crate) fn complaint(document: &str) -> Option<&'static str> {
    // The first has a column for the machine's own kernel.
    [(HOOKS, 2), (TESTS, 1)].iter().find_map(|(between, beside)| {
        let Some(table) = document.split_once(between[0]).and_then(|(_, rest)| Some(rest.split_once(between[1])?.0))
        else {
            return Some("a table by kernel is not there");
        };
        let rows: Vec<Vec<&str>> = table
            .lines()
            .filter_map(|line| line.strip_prefix('|'))
            .map(|line| line.trim_end_matches('|').split('|').map(str::trim).collect())
            .collect();
        let columns = rows.first().map_or(0, Vec::len);
        if rows.len() < 3 || columns < super::kernels::SERIES.len() + beside {
            return Some("a table by kernel lacks a kernel");
        }
        let blank = |row: &Vec<&str>| row.len() != columns || row.iter().any(|cell| cell.is_empty() || *cell == BLANK);
        rows.iter().any(blank).then_some("a table by kernel has a blank cell")
    })
}

/// What this machine's own kernel grants.
pub(super) fn native(binary: &std::path::Path) -> anyhow::Result<String> {
    let mut command = sys::as_root("env").context("this needs root, and there is no sudo")?;
    let out =
        command.arg("ORRERY_REQUIRE_ROOT=1").arg(binary).arg("--nocapture").output().context("run the hook test")?;
    if !out.status.success() {
        bail!("the hook test failed on this kernel:\n{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{HOOKS, Matrix, TESTS, complaint};

    #[test]
    fn a_blank_cell_and_a_missing_kernel_are_found() {
        let (mut hooks, mut tests) = (Matrix::of_hooks(), Matrix::of_tests());
        for kernel in ["native", "5.10", "6.1", "6.12", "6.18", "7"] {
            let said = "hook\ttcx\tpassed\nheld\texact\tpassed\nnoise\nhook\tkprobe\tENOENT\n";
            hooks.add(kernel, said);
            tests.add(kernel, said);
        }
        assert!(!hooks.has_blanks() && !tests.has_blanks());
        let document = |hooks: &str, tests: &str| {
            format!("x\n{}\n{hooks}{}\n{}\n{tests}{}\n", HOOKS[0], HOOKS[1], TESTS[0], TESTS[1])
        };
        assert_eq!(complaint(&document(&hooks.table(), &tests.table())), None);
        assert!(complaint("x").is_some());
        let short = "| form | 6.1 |\n|---|---|\n| tcx | passed |\n";
        assert!(complaint(&document(short, &tests.table())).is_some());
        assert!(complaint(&document(&hooks.table(), short)).is_some());
        tests.add("8", "hook\ttcx\tpassed\n");
        assert!(tests.has_blanks());
        assert!(complaint(&document(&hooks.table(), &tests.table())).is_some());
    }
}
