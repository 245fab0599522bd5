//! The fuzzer: one target, named by `ORRERY_FUZZ`, behind libFuzzer's own command line.
#![no_main]
#![expect(missing_docs, reason = "the macro makes the entry point")]

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn choose() {
    let name = std::env::var("ORRERY_FUZZ").unwrap_or_default();
    let target = fuzz::TARGETS.iter().find(|target| target.name == name);
    let Some(target) = target else {
        eprintln!("no such target: {name}; hint: cargo xtask fuzz");
        std::process::exit(64);
    };
    TARGET.get_or_init(|| target.run);
}

libfuzzer_sys::fuzz_target!(
    init: choose(),
    |data: &[u8]| if let Some(run) = TARGET.get() { run(data) }
);
