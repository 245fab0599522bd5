//! What each step of the road costs in instructions: they repeat whatever else the machine does, so that a step that became
//! dearer is found by a test. Counted in an unoptimised build, which every test run has.

use std::process::Command;

/// Steps over the input of `road count`, in millions of instructions. Whoever makes a step dearer or cheaper on purpose writes
/// down what the test says.
const STORED: [(&str, f64); 7] = [
    ("Agent::fold", 31.06),
    ("encode", 160.31),
    ("decode", 35.63),
    ("Collector::join", 29.30),
    ("Collector::evaluate", 43.11),
    ("Collector::project", 64.08),
    ("write", 166.77),
];
/// More or less than this is another cost. Hash tables are seeded anew in each run.
const TOLERANCE: f64 = 0.05;

fn run(command: &mut Command) -> String {
    let out = command.output().expect("start valgrind");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn no_step_became_dearer() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("not counted: no valgrind; hint: cargo xtask setup");
        return;
    }
    if !cfg!(debug_assertions) || !cfg!(target_arch = "x86_64") {
        println!("not counted: the stored figures are of an unoptimised build for x86-64");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("callgrind");
    run(Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .args([env!("CARGO_BIN_EXE_road"), "count"]));
    let text = run(Command::new("callgrind_annotate").args(["--inclusive=yes", "--threshold=100"]).arg(&file));
    // "1,234,567 (12.3%)  file:road::steps::decode [object]"
    let counted = STORED.map(|(step, stored)| {
        let name = format!("road::steps::{step} ");
        let line = text.lines().find(|line| line.contains(&name) || line.ends_with(name.trim_end()));
        let count = line.and_then(|line| line.split_whitespace().next()?.replace(',', "").parse::<f64>().ok());
        (step, stored, count.unwrap_or_else(|| panic!("{step} is not in the profile")) / 1e6)
    });
    let text: Vec<String> =
        counted.iter().map(|(step, stored, now)| format!("{step}: {now:.2} M, stored {stored:.2} M")).collect();
    println!("{}", text.join("\n"));
    let same = counted.iter().all(|(_, stored, now)| (now / stored - 1.0).abs() <= TOLERANCE);
    assert!(same, "another cost than stored:\n{}", text.join("\n"));
}
