//! The end-to-end tier: the demo as a user starts it, and Debian's Chromium looking at its page.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::setup;
use crate::test::{Counts, watch};

/// How long the demo may take from its start to its URL: namespaces, agents and collector on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// The demo ends by itself after this time, should this process die before it ends it.
const LONGEST: &str = "15m";
/// How long the demo may take to take everything down again.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Starts the demo, runs the page's end-to-end tests against it, and stops it.
pub(crate) fn run() -> anyhow::Result<Counts> {
    let mut demo = Demo::start()?;
    let url = demo.url()?;
    println!("e2e: the demo is at {url}");
    let result = watch("e2e", setup::npm().args(["run", "e2e"]).env("ORRERY_URL", &url));
    demo.stop()?;
    let counts = result?;
    if counts.total() == 0 {
        bail!("no test ran");
    }
    Ok(counts)
}

/// A running `cargo xtask demo`, interrupted when it goes out of scope.
struct Demo {
    child: Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(program)
            .args(["demo", "--for", LONGEST])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the demo")?;
        let out = child.stdout.take().context("read the demo's output")?;
        // The demo prints a screenful; the queue is longer, so that the reader never has to wait for us.
        let (sender, lines) = sync_channel(1000);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                println!("{line}");
                // Once the URL is known nobody listens any more, and the line is on the screen.
                let _ = sender.try_send(line);
            }
        });
        Ok(Self { child, lines })
    }

    /// Waits for the line that names the page's address.
    fn url(&mut self) -> anyhow::Result<String> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).context("the demo printed no URL")?;
            if let Some(url) = find_url(&line) {
                return Ok(url);
            }
        }
    }

    /// Asks the demo to end as Ctrl-C does, and waits.
    fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait().context("look at the demo")? {
            bail!("the demo ended by itself: {status}");
        }
        self.interrupt()?;
        match self.ended()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the demo ended with {status}"),
            None => bail!("the demo did not end within {} s of Ctrl-C", GONE_WITHIN.as_secs()),
        }
    }

    /// How the demo ended, if it does so in time.
    fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + GONE_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().context("look at the demo")? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(None)
    }

    fn interrupt(&self) -> anyhow::Result<()> {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().context("run kill")?;
        if !status.success() {
            bail!("kill ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nothing is left to do with an error: the demo ends by itself after its time.
            let _ = self.interrupt();
            let _ = self.ended();
        }
    }
}

/// The address of the page in a line of the demo's.
fn find_url(line: &str) -> Option<String> {
    let (_, port) = line.split_once("http://127.0.0.1:")?;
    let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then(|| format!("http://127.0.0.1:{digits}"))
}

#[cfg(test)]
mod tests {
    use super::find_url;

    #[test]
    fn the_url_is_found_in_a_line() {
        assert_eq!(find_url("  open  http://127.0.0.1:7380/  now").as_deref(), Some("http://127.0.0.1:7380"));
        assert_eq!(find_url("http://127.0.0.1:7381").as_deref(), Some("http://127.0.0.1:7381"));
        assert_eq!(find_url("ssh -L 7380:127.0.0.1:7380 host"), None);
    }
}
