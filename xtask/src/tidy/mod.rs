//! What the compiler does not check: sizes, borders between rooms, documents that name what is there.
//! Each rule is a function from file contents to complaints, so that each can be tested on a made-up tree.

mod arrows;
mod crates;
mod source;

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::sys;

/// Longest file, in lines.
const MOST_LINES: usize = 400;
/// Longest test file.
const MOST_TEST_LINES: usize = 600;
/// Kinds of file that have a longest length.
const MEASURED: &[&str] = &["rs", "ts", "tsx", "proto"];
/// The only places that name aya.
const AYA_ROOMS: &[&str] = &["agent/src/source/kernel", "agent/build.rs", "agent-ebpf/"];
/// The only places with `unsafe` code. A build script has to set its environment, which is unsafe since edition 2024.
const UNSAFE_ROOMS: &[&str] = &["agent-ebpf/src/bpf", "agent/src/source/kernel", "agent/build.rs", "xtask/lab/"];
/// Folders whose paths ARCHITECTURE.md may name; anything else in backticks is not taken for a path.
const TOP_FOLDERS: &[&str] = &["agent-ebpf", "agent", "wire", "collector", "ui", "xtask", "deploy", "docs", ".ci"];
/// The commands a reader of the README has to find.
const COMMANDS: &[&str] = &["cargo xtask demo", "cargo xtask test"];

/// A file of the project.
struct File {
    /// Its path from the project's root.
    path: String,
    /// Its text; not every file has one.
    text: String,
}

impl File {
    fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    fn is_in(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| self.path.starts_with(room))
    }

    fn is_test(&self) -> bool {
        ["/tests/", "/e2e/", "/benches/"].iter().any(|folder| self.path.contains(folder))
            || self.path.ends_with("/tests.rs")
            || self.path.contains(".test.")
    }
}

/// Checks everything, prints each complaint, and says how many rules ran.
pub(crate) fn run() -> anyhow::Result<u32> {
    let files = read_all()?;
    let exists = |path: &str| sys::root().join(path).exists();
    let rules: [(&str, Vec<String>); 11] = [
        ("file lengths", lengths(&files)),
        ("module docs", module_docs(&files)),
        ("aya in its rooms", kernel_crate(&files)),
        ("unsafe in its rooms", unsafe_code(&files)),
        ("lock files", locks(&files)),
        ("README commands", readme(&files)),
        ("ARCHITECTURE.md paths", architecture(&files, exists)),
        ("links in documents", links(&files, exists)),
        ("arrows between rooms", arrows::check(&files)),
        ("hooks by kernel", hooks_by_kernel(&files)),
        ("licences and sources of crates", crates::check()?),
    ];
    let mut complaints = 0;
    for (rule, found) in &rules {
        for complaint in found {
            complaints += 1;
            println!("tidy: {rule}: {complaint}");
        }
    }
    if complaints > 0 {
        bail!("tidy: {complaints} complaints");
    }
    println!("tidy: {} files, {} rules, no complaints", files.len(), rules.len());
    u32::try_from(rules.len()).context("count the rules")
}

/// Tests that the runners leave out, with the reason that stands beside them: runners print the number only.
pub(crate) fn ignored_tests() -> anyhow::Result<Vec<String>> {
    Ok(ignored(&read_all()?))
}

fn ignored(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.extension() == "rs") {
        // Seen in the code with strings blanked out, so that one quoted in a string is none; read from the text.
        let code = source::code(&file.text);
        for (line, text) in code.lines().zip(file.text.lines()) {
            if line.trim_start().starts_with("#[ignore") {
                let reason = text.split('"').nth(1).unwrap_or("no reason is given");
                found.push(format!("{}: {reason}", file.path));
            }
        }
    }
    found
}

/// All files that git knows or would add, with their text.
fn read_all() -> anyhow::Result<Vec<File>> {
    let listed = sys::ask("git", ["ls-files", "--cached", "--others", "--exclude-standard"])
        .context("list the project's files with git")?;
    Ok(listed
        .lines()
        .filter_map(|path| {
            // What is deleted but still listed, and what is no text, has nothing to be tidy about.
            let text = std::fs::read_to_string(sys::root().join(path)).ok()?;
            Some(File { path: path.to_owned(), text })
        })
        .collect())
}

fn lengths(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| MEASURED.contains(&file.extension()))
        .filter_map(|file| {
            let most = if file.is_test() { MOST_TEST_LINES } else { MOST_LINES };
            let lines = file.text.lines().count();
            (lines > most).then(|| format!("{} has {lines} lines, at most {most}: make two rooms of it", file.path))
        })
        .collect()
}

/// The table in docs/kernel.md has every kernel, and says something in every cell.
fn hooks_by_kernel(files: &[File]) -> Vec<String> {
    let text = files.iter().find(|file| file.path == "docs/kernel.md").map_or("", |file| file.text.as_str());
    crate::vm::matrix_complaint(text).map(|why| format!("docs/kernel.md: {why}")).into_iter().collect()
}

fn module_docs(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.extension() == "rs" && !file.text.starts_with("//!"))
        .map(|file| format!("{} does not start with `//!`: say what the room does", file.path))
        .collect()
}

fn kernel_crate(files: &[File]) -> Vec<String> {
    let names = |word: &str| word == "aya" || word.starts_with("aya_");
    words_outside(files, AYA_ROOMS, names, "aya")
}

fn unsafe_code(files: &[File]) -> Vec<String> {
    words_outside(files, UNSAFE_ROOMS, |word| word == "unsafe", "unsafe code")
}

/// Rust files outside `rooms` whose code (not comments, not strings) has a word that `wanted` accepts.
fn words_outside(files: &[File], rooms: &[&str], wanted: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.extension() == "rs" && !file.is_in(rooms))
        .filter_map(|file| {
            let code = source::code(&file.text);
            let line = code.lines().position(|line| source::words(line).any(&wanted))?;
            Some(format!("{}:{}: {what} belongs in {}", file.path, line + 1, rooms.join(", ")))
        })
        .collect()
}

/// Lock files that name another registry than the public one: they would not install elsewhere.
fn locks(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        let name = Path::new(&file.path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (key, public) = match name.as_str() {
            "Cargo.lock" => ("source = \"", "registry+https://github.com/rust-lang/crates.io-index"),
            "package-lock.json" => ("\"resolved\": \"", "https://registry.npmjs.org/"),
            _ => continue,
        };
        for (number, line) in file.text.lines().enumerate() {
            if let Some(address) = line.trim().strip_prefix(key)
                && !address.starts_with(public)
            {
                complaints.push(format!("{}:{}: not the public registry", file.path, number + 1));
            }
        }
    }
    complaints
}

fn readme(files: &[File]) -> Vec<String> {
    let Some(file) = files.iter().find(|file| file.path == "README.md") else {
        return vec!["README.md is missing".to_owned()];
    };
    COMMANDS
        .iter()
        .filter(|command| !file.text.contains(**command))
        .map(|command| format!("README.md does not name `{command}`"))
        .collect()
}

/// Paths that ARCHITECTURE.md names and that are not there.
fn architecture(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let Some(file) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else {
        return vec!["ARCHITECTURE.md is missing".to_owned()];
    };
    let mut complaints = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            for path in paths(quoted) {
                if !exists(&path) {
                    complaints.push(format!("ARCHITECTURE.md:{}: no such path: {path}", number + 1));
                }
            }
        }
    }
    complaints
}

/// The paths that a quoted text stands for: none when it is no path, several with `{a,b}` in it.
fn paths(quoted: &str) -> Vec<String> {
    let Some((top, _)) = quoted.split_once('/') else {
        return Vec::new();
    };
    if !TOP_FOLDERS.contains(&top) || quoted.contains([' ', '*', '<', ':']) {
        return Vec::new();
    }
    match (quoted.split_once('{'), quoted.split_once('}')) {
        (Some((head, _)), Some((inside, tail))) => {
            let choices = inside.split_once('{').map_or("", |(_, choices)| choices);
            choices.split(',').map(|choice| format!("{head}{}{tail}", choice.trim())).collect()
        }
        _ => vec![quoted.to_owned()],
    }
}

/// Links of documents to files that are not there.
fn links(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.extension() == "md") {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in file.text.lines().enumerate() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = target.split('#').next().unwrap_or_default();
                if path.is_empty() || path.contains("://") {
                    continue;
                }
                let path = format!("{folder}/{path}");
                if !exists(path.trim_start_matches('/')) {
                    complaints.push(format!("{}:{}: no such file: {target}", file.path, number + 1));
                }
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::{
        File, architecture, ignored, kernel_crate, lengths, links, locks, module_docs, paths, readme, unsafe_code,
    };

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_file_may_be_as_long_as_its_kind_allows() {
        let check = |path: &str, lines: usize| lengths(&[file(path, &"x\n".repeat(lines))]).len();
        assert_eq!(check("agent/src/drain.rs", 400), 0);
        assert_eq!(check("agent/src/drain.rs", 401), 1);
        assert_eq!(check("agent/tests/kernel.rs", 600), 0);
        assert_eq!(check("ui/src/graph.test.ts", 601), 1);
        assert_eq!(check("docs/api.md", 4000), 0);
    }

    #[test]
    fn every_rust_file_says_what_it_does() {
        assert!(module_docs(&[file("a/src/b.rs", "//! Does.\n")]).is_empty());
        assert_eq!(module_docs(&[file("a/src/b.rs", "use x;\n")]).len(), 1);
    }

    #[test]
    fn the_kernel_crate_is_named_in_its_rooms_only() {
        let text = "//! It talks to aya.\nuse aya_ebpf::maps;\n";
        assert!(kernel_crate(&[file("agent/src/source/kernel/load.rs", text)]).is_empty());
        assert_eq!(kernel_crate(&[file("agent/src/drain.rs", text)]).len(), 1);
        assert!(kernel_crate(&[file("agent/src/drain.rs", "//! Knows nothing of aya.\n")]).is_empty());
    }

    #[test]
    fn unsafe_code_is_found_but_not_the_lint_about_it() {
        assert_eq!(unsafe_code(&[file("wire/src/lib.rs", "//! x\nunsafe fn y() {}\n")]).len(), 1);
        assert!(unsafe_code(&[file("wire/src/lib.rs", "//! x\n#![forbid(unsafe_code)]\n")]).is_empty());
        assert!(unsafe_code(&[file("wire/src/lib.rs", "//! unsafe\nconst X: &str = \"unsafe\";\n")]).is_empty());
    }

    #[test]
    fn a_lock_file_names_the_public_registry() {
        let good = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        assert!(locks(&[file("Cargo.lock", good)]).is_empty());
        assert_eq!(locks(&[file("Cargo.lock", "source = \"registry+https://mirror.example/\"\n")]).len(), 1);
        assert_eq!(locks(&[file("ui/package-lock.json", "  \"resolved\": \"http://x/y.tgz\",\n")]).len(), 1);
    }

    #[test]
    fn the_readme_names_both_commands() {
        assert_eq!(readme(&[]).len(), 1);
        assert_eq!(readme(&[file("README.md", "cargo xtask demo")]).len(), 1);
        assert!(readme(&[file("README.md", "cargo xtask demo\ncargo xtask test")]).is_empty());
    }

    #[test]
    fn quoted_paths_must_exist() {
        assert_eq!(paths("agent/src/{drain,flow}.rs"), ["agent/src/drain.rs", "agent/src/flow.rs"]);
        assert!(paths("cargo xtask test").is_empty());
        assert!(paths("GET /api").is_empty());
        let page = file("ARCHITECTURE.md", "See `agent/src/drain.rs` and `wire/gone.rs`.\n");
        let found = architecture(&[page], |path| path == "agent/src/drain.rs");
        assert_eq!(found, ["ARCHITECTURE.md:1: no such path: wire/gone.rs"]);
    }

    #[test]
    fn links_lead_to_files() {
        let page =
            file("docs/a.md", "[b](b.md#c), [root](../README.md), [web](https://x/y), [here](#d), [gone](gone.md)\n");
        let found = links(&[page], |path| ["docs/b.md", "docs/../README.md"].contains(&path));
        assert_eq!(found, ["docs/a.md:1: no such file: gone.md"]);
    }

    #[test]
    fn ignored_tests_come_with_their_reason() {
        let text = "//! x\n#[test]\n#[ignore = \"needs a moon\"]\nfn a() {}\nconst X: &str = \"\\n#[ignore]\";\n";
        assert_eq!(ignored(&[file("a/tests/b.rs", text)]), ["a/tests/b.rs: needs a moon"]);
    }
}
