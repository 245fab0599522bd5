//! Imports run along the arrows that ARCHITECTURE.md lists, and along no others.
//!
//! The list is a fenced block marked `arrows`, one room a line: `agent: drain -> source flow ledger`. A room is a module
//! directly below a crate's `src`. Every room has a line; `lib.rs`, `main.rs` and the binaries wire the rooms and are free.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, source};

/// Crates whose arrows are checked.
const CRATES: &[&str] = &["agent", "collector"];
/// Files that wire the rooms, so may name them all.
const WIRING: &[&str] = &["lib.rs", "main.rs"];

/// (crate, room) → the rooms it may import.
type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

pub(super) fn check(files: &[File]) -> Vec<String> {
    let Some(document) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else {
        return vec!["ARCHITECTURE.md is missing".to_owned()];
    };
    let (arrows, mut complaints) = parse(&document.text);
    let mut seen = BTreeSet::new();
    for file in files {
        let Some((krate, room)) = room(&file.path) else {
            continue;
        };
        let key = (krate.to_owned(), room.to_owned());
        let Some(allowed) = arrows.get(&key) else {
            // Once a room, not once a file of it.
            if seen.insert(key) {
                complaints.push(format!("ARCHITECTURE.md has no line `{krate}: {room} -> …`"));
            }
            continue;
        };
        for (line, target) in imports(&file.text, is_door(&file.path)) {
            if target != room && !allowed.contains(&target) {
                complaints.push(format!("{}:{line}: no arrow {krate}: {room} -> {target}", file.path));
            }
        }
        seen.insert(key);
    }
    for (krate, room) in arrows.keys().filter(|key| !seen.contains(key)) {
        complaints.push(format!("ARCHITECTURE.md lists a room that is not there: {krate}: {room}"));
    }
    complaints
}

/// Reads the fenced block.
fn parse(document: &str) -> (Arrows, Vec<String>) {
    let mut arrows = Arrows::new();
    let mut complaints = Vec::new();
    let mut inside = false;
    for (number, line) in document.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside && line.trim() == "```arrows";
            continue;
        }
        if !inside || line.trim().is_empty() {
            continue;
        }
        let read = || {
            let (krate, rest) = line.split_once(':')?;
            let (room, targets) = rest.split_once("->")?;
            // Names with `::` are other crates' rooms: Cargo.toml guards those.
            let targets = targets.split_whitespace().filter(|target| !target.contains("::"));
            Some(((krate.trim().to_owned(), room.trim().to_owned()), targets.map(str::to_owned).collect()))
        };
        match read() {
            Some((key, targets)) => {
                arrows.insert(key, targets);
            }
            None => complaints.push(format!("ARCHITECTURE.md:{}: not `crate: room -> room …`", number + 1)),
        }
    }
    if arrows.is_empty() {
        complaints.push("ARCHITECTURE.md has no block fenced as ```arrows".to_owned());
    }
    (arrows, complaints)
}

/// The crate and the room that a file belongs to; `None` for files that are no room's.
fn room(path: &str) -> Option<(&str, &str)> {
    let (krate, inside) = path.split_once("/src/")?;
    if !CRATES.contains(&krate) || WIRING.contains(&inside) || inside.starts_with("bin/") {
        return None;
    }
    let first = inside.split('/').next()?;
    // A folder is a room, and so is a Rust file.
    (inside.ends_with(".rs")).then(|| (krate, first.trim_end_matches(".rs")))
}

/// Whether a file is its room's outermost one, from where `super` is the crate itself.
fn is_door(path: &str) -> bool {
    let inside = path.split_once("/src/").map_or("", |(_, inside)| inside);
    match inside.split_once('/') {
        None => true,
        Some((_, rest)) => rest == "mod.rs",
    }
}

/// The rooms that a file names, with the line: after `crate::`, alone or in braces.
fn imports(text: &str, door: bool) -> Vec<(usize, String)> {
    let code = source::code(text);
    let mut found = Vec::new();
    let mut take = |prefix: &str| {
        for (start, _) in code.match_indices(prefix) {
            let before = code[..start].chars().next_back();
            // `$crate::` is a macro's, `my_crate::` another name; a door's `super::` counts at a line's start only,
            // for deeper in it stands in a `mod tests`.
            let fits = match prefix {
                "crate::" => !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$'),
                _ => before.is_none_or(|c| c == '\n'),
            };
            if fits {
                let line = code[..start].matches('\n').count() + 1;
                let names = targets(&code[start + prefix.len()..]);
                found.extend(names.into_iter().map(|name| (line, name)));
            }
        }
    };
    take("crate::");
    if door {
        take("use super::");
    }
    found
}

/// The first name of each path that follows `crate::`.
fn targets(rest: &str) -> Vec<String> {
    let first = |path: &str| source::words(path).next().map(str::to_owned);
    if !rest.starts_with('{') {
        return first(rest).into_iter().collect();
    }
    // `{a::{b, c}, d}`: a name counts at the outermost level, right after `{` or a comma.
    let mut names = Vec::new();
    let (mut depth, mut start) = (0_u32, 1);
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => {
                names.extend(first(&rest[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 1 => {
                names.extend(first(&rest[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{File, check, imports};

    fn tree(block: &str, sources: &[(&str, &str)]) -> Vec<File> {
        let document = ("ARCHITECTURE.md", &*format!("# Map\n```arrows\n{block}\n```\n"));
        [document]
            .iter()
            .chain(sources)
            .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect()
    }

    #[test]
    fn an_import_along_an_arrow_is_fine_and_any_other_is_not() {
        let block = "agent: drain -> flow\nagent: flow ->";
        let good = ("agent/src/flow.rs", "//! x\n");
        let drain = "//! x\nuse crate::flow::Flow;\nfn f() { crate::drain::g() }\n";
        assert!(check(&tree(block, &[good, ("agent/src/drain.rs", drain)])).is_empty());
        let bad = "//! x\nuse crate::drain::Drain;\n";
        let found = check(&tree(block, &[("agent/src/flow.rs", bad), ("agent/src/drain.rs", drain)]));
        assert_eq!(found, ["agent/src/flow.rs:2: no arrow agent: flow -> drain"]);
    }

    #[test]
    fn every_room_has_a_line_and_every_line_a_room() {
        let found = check(&tree("agent: gone ->", &[("agent/src/flow.rs", "//! x\n")]));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn wiring_and_other_crates_are_free() {
        let files = [
            ("agent/src/lib.rs", "use crate::a;"),
            ("wire/src/codec.rs", "use crate::b;"),
            ("agent/tests/x.rs", "use crate::c;"),
            ("agent/src/flow.rs", ""),
        ];
        assert!(check(&tree("agent: flow ->", &files)).is_empty());
    }

    #[test]
    fn a_missing_block_is_a_complaint() {
        let file = File { path: "ARCHITECTURE.md".to_owned(), text: "```text\nagent: a -> b\n```\n".to_owned() };
        assert_eq!(check(&[file]).len(), 1);
    }

    #[test]
    fn all_forms_of_import_are_read() {
        let names = |text: &str, door| -> Vec<String> { imports(text, door).into_iter().map(|(_, n)| n).collect() };
        assert_eq!(names("use crate::{a::{b, c}, d, e::f};", false), ["a", "d", "e"]);
        assert_eq!(names("// use crate::a;\nlet x = \"crate::b\";", false), Vec::<String>::new());
        assert_eq!(names("use super::a;", true), ["a"]);
        assert_eq!(names("use super::a;", false), Vec::<String>::new());
        assert_eq!(names("mod tests {\n    use super::a;\n}", true), Vec::<String>::new());
        assert_eq!(names("$crate::a; other_crate::b", false), Vec::<String>::new());
    }
}
