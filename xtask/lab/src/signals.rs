//! Ctrl-C and SIGTERM as a value that can be waited for, so that a lab ends by being dropped.

use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use crate::error::{Context, Result};

/// Says when it is time to stop.
#[derive(Debug)]
pub struct Stop {
    signals: mpsc::Receiver<Signal>,
}

impl Stop {
    /// Takes the two signals over. To be called before other threads start: they inherit what is blocked.
    pub fn on_signals() -> Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGHUP);
        set.thread_block().context(|| "block signals".to_owned())?;
        let (sender, signals) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            while let Ok(signal) = set.wait() {
                if sender.send(signal).is_err() {
                    break;
                }
            }
        });
        Ok(Self { signals })
    }

    /// Waits so long; true when a signal came.
    pub fn within(&self, time: Duration) -> bool {
        self.signals.recv_timeout(time).is_ok()
    }
}
