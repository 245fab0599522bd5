//! promtool's opinion of a part's metrics.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Fails where a name, a unit or a help text is not as Prometheus' own people would have it.
pub(crate) fn lint(open_metrics: &[u8]) {
    let text = older(std::str::from_utf8(open_metrics).expect("text"));
    let tool = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/xtask/prometheus/usr/bin/promtool");
    assert!(tool.is_file(), "missing: {}; hint: cargo xtask setup", tool.display());
    let mut command = Command::new(tool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("run promtool");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("write");
    let said = child.wait_with_output().expect("wait for promtool");
    let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success() && words.trim().is_empty(), "{words}\n{text}");
}

/// OpenMetrics as the older text form, the only one that promtool reads: there a counter's family has its suffix.
fn older(text: &str) -> String {
    let counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    assert!(counters.len() > 5, "no metrics: {text}");
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let mut words: Vec<String> = line.splitn(4, ' ').map(str::to_owned).collect();
        if words.len() == 4 && words[0] == "#" && counters.contains(&words[2].as_str()) {
            words[2].push_str("_total");
        }
        lines.push(words.join(" "));
    }
    lines.join("\n") + "\n"
}
