//! Which form of hook which kernel grants: one table, printed, and kept in docs/kernel.md between two marks.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

use super::guest::HOOK;
use crate::sys;

/// Where it is kept.
const DOCUMENT: &str = "docs/kernel.md";
/// The line before it.
const BEGIN: &str = "<!-- hooks by kernel: cargo xtask vm --all --keep -->";
/// The line behind it.
const END: &str = "<!-- end of hooks by kernel -->";
/// What stands in a cell that nobody filled.
const BLANK: &str = "?";

/// Columns are kernels, rows are forms.
#[derive(Debug, Default)]
pub(super) struct Matrix {
    kernels: Vec<String>,
    forms: Vec<String>,
    cells: BTreeMap<(String, String), String>,
}

impl Matrix {
    /// Adds what one kernel's test printed.
    pub(super) fn add(&mut self, kernel: &str, said: &str) {
        self.kernels.push(kernel.to_owned());
        for line in said.lines().filter_map(|line| line.strip_prefix(HOOK)) {
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
        let (before, rest) = text.split_once(BEGIN).with_context(|| format!("find the line {BEGIN} in {DOCUMENT}"))?;
        let (_, after) = rest.split_once(END).with_context(|| format!("find the line {END} in {DOCUMENT}"))?;
        let text = format!("{before}{BEGIN}\n{}{END}{after}", self.table());
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// What is wrong with the table that the document has.
pub(crate) fn complaint(document: &str) -> Option<&'static str> {
    let Some(table) = document.split_once(BEGIN).and_then(|(_, rest)| Some(rest.split_once(END)?.0)) else {
        return Some("the table of hooks by kernel is not there");
    };
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter_map(|line| line.strip_prefix('|'))
        .map(|line| line.trim_end_matches('|').split('|').map(str::trim).collect())
        .collect();
    let columns = rows.first().map_or(0, Vec::len);
    if rows.len() < 3 || columns <= super::kernels::SERIES.len() + 1 {
        return Some("the table of hooks by kernel lacks a kernel");
    }
    if rows.iter().any(|row| row.len() != columns || row.iter().any(|cell| cell.is_empty() || *cell == BLANK)) {
        return Some("the table of hooks by kernel has a blank cell");
    }
    None
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
    use super::{BEGIN, END, Matrix, complaint};

    #[test]
    fn a_blank_cell_and_a_missing_kernel_are_found() {
        let mut matrix = Matrix::default();
        for kernel in ["native", "5.10", "6.1", "6.12", "6.18", "7"] {
            matrix.add(kernel, "hook\ttcx\tpassed\nnoise\nhook\tkprobe\tENOENT\n");
        }
        assert!(!matrix.has_blanks());
        let document = |table: &str| format!("x\n{BEGIN}\n{table}{END}\n");
        assert_eq!(complaint(&document(&matrix.table())), None);
        assert!(complaint("x").is_some());
        assert!(complaint(&document("| form | 6.1 |\n|---|---|\n| tcx | passed |\n")).is_some());
        matrix.add("8", "hook\ttcx\tpassed\n");
        assert!(matrix.has_blanks());
        assert!(complaint(&document(&matrix.table())).is_some());
    }
}
