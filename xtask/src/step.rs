//! One long step with its progress: a spinner with the command's newest line on a terminal, plain lines elsewhere.
//! The whole output goes to a log file; a step that fails shows the log's end.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// No step of a set-up takes this long; one that does hangs, and is ended.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// How often a step without a terminal says that it is still at work.
const STILL_EVERY: Duration = Duration::from_secs(20);
/// How much of a failed step's log is shown.
const TAIL_LINES: usize = 60;

/// Says what was found or done, in one line.
pub(crate) fn say(topic: &str, what: &str) {
    eprintln!("setup  {topic}: {what}");
}

/// Runs `command` to its end, showing `label` and the progress. Fails when the command does.
pub(crate) fn run(topic: &str, label: &str, command: &mut Command) -> anyhow::Result<()> {
    let folder = crate::sys::work_dir().join("logs");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join(format!("{}.log", slug(label)));
    let log = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    command
        .stdin(std::process::Stdio::null())
        .stderr(log.try_clone().context("share the log between stdout and stderr")?)
        .stdout(log);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("start {program} ({label})"))?;

    let bar = Bar::new(topic, label);
    let started = Instant::now();
    let mut said = started;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("wait for {program}"))? {
            bar.finish(started.elapsed());
            if status.success() {
                return Ok(());
            }
            eprintln!("{}", tail(&path, TAIL_LINES).join("\n"));
            bail!("{label} failed ({status})\nhint: its whole output is in {}", path.display());
        }
        if started.elapsed() > LIMIT {
            child.kill().with_context(|| format!("end {program}"))?;
            child.wait().with_context(|| format!("wait for {program}"))?;
            bail!("{label} took more than {} minutes and was ended", LIMIT.as_secs() / 60);
        }
        let newest = tail(&path, 1).pop().unwrap_or_default();
        bar.tick(&newest);
        if !bar.is_drawn() && said.elapsed() > STILL_EVERY {
            said = Instant::now();
            eprintln!("       … {} s  {newest}", started.elapsed().as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A spinner where somebody can see it spin.
struct Bar {
    drawn: Option<ProgressBar>,
    head: String,
}

impl Bar {
    fn new(topic: &str, label: &str) -> Self {
        let head = format!("setup  {topic}: {label}");
        let drawn = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{prefix} {spinner} {elapsed} {wide_msg}")
                .expect("the template above is valid");
            bar.set_style(style);
            bar.set_prefix(head.clone());
            bar
        });
        if drawn.is_none() {
            eprintln!("{head} …");
        }
        Self { drawn, head }
    }

    fn is_drawn(&self) -> bool {
        self.drawn.is_some()
    }

    fn tick(&self, newest: &str) {
        if let Some(bar) = &self.drawn {
            bar.set_message(newest.to_owned());
            bar.tick();
        }
    }

    fn finish(&self, took: Duration) {
        if let Some(bar) = &self.drawn {
            bar.finish_and_clear();
        }
        eprintln!("{}: {:.0} s", self.head, took.as_secs_f64());
    }
}

/// The last lines of a file that is still being written; empty ones left out.
fn tail(path: &Path, lines: usize) -> Vec<String> {
    /// Long enough for `TAIL_LINES` lines of any tool we start.
    const WINDOW: u64 = 16 * 1024;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // Progress meters redraw a line with a carriage return: what stands after the last one is the newest state.
    let mut newest: Vec<String> = text
        .split('\n')
        .filter_map(|line| line.trim_end().rsplit('\r').next())
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect();
    newest.drain(..newest.len().saturating_sub(lines));
    newest
}

/// A label as a file name.
fn slug(label: &str) -> String {
    let dashed: String =
        label.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    dashed.trim_matches('-').chars().take(48).collect()
}

#[cfg(test)]
mod tests {
    use super::{slug, tail};

    #[test]
    fn a_tail_is_the_newest_lines_without_redrawn_ones() {
        let file = std::env::temp_dir().join(format!("xtask-tail-{}", std::process::id()));
        std::fs::write(&file, "one\n\ntwo\n10 %\r20 %\r30 %\n").unwrap();
        assert_eq!(tail(&file, 2), ["two", "30 %"]);
        std::fs::remove_file(&file).unwrap();
        assert!(tail(&file, 2).is_empty());
    }

    #[test]
    fn a_slug_is_a_plain_file_name() {
        assert_eq!(slug("npm ci (ui/)"), "npm-ci--ui");
    }
}
