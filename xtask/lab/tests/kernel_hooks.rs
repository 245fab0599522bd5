//! The forms of hook that this kernel grants, one line each for the table of `cargo xtask vm`.

use lab::{hooks, testing::may_run};

/// What no kernel that the agent supports refuses to root.
const ALWAYS: [&str; 8] =
    ["clsact", "cgroup_skb", "sock_ops", "tp_btf", "raw_tp", "tracepoint", "ring buffer", "batch look-up"];

#[test]
fn each_form_is_granted_or_refused_with_a_reason() {
    if !may_run() {
        return;
    }
    let found = hooks::try_all();
    // The test runner has begun a line of its own.
    println!();
    for (form, outcome) in &found {
        let word = outcome.as_ref().map_or_else(hooks::errno, |()| "passed".to_owned());
        println!("hook\t{form}\t{word}");
    }
    for form in ALWAYS {
        let (_, outcome) = found.iter().find(|(name, _)| *name == form).expect("every form is tried");
        assert!(outcome.is_ok(), "{form}: {outcome:?}");
    }
}
