//! A node's way to the collector, which can be cut, throttled, or swallow what is sent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Context as _;

/// How often a pump looks at the road's condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a throttled road lets through in that time: some 5 KB/s.
const TRICKLE_BYTES: usize = 256;
/// Who takes nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a road does with what is sent over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Condition {
    /// It passes.
    Open,
    /// It passes slowly.
    Throttled,
    /// Connections stand, and nothing passes.
    Stalled,
    /// Connections end, and new ones end at once.
    Cut,
}

/// A socket that stands for the collector's.
#[derive(Debug)]
pub(super) struct Road {
    path: PathBuf,
    condition: Arc<AtomicU8>,
}

impl Road {
    /// Listens on `path` until the process ends, and passes on to `to`.
    pub(super) fn open(path: PathBuf, to: &Path) -> anyhow::Result<Self> {
        let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
        let condition = Arc::new(AtomicU8::new(Condition::Open as u8));
        let (shared, to) = (Arc::clone(&condition), to.to_owned());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // A closed connection says that nobody is there: no more is to be said.
                let _ = pass(&near, &to, &shared);
            }
        });
        Ok(Self { path, condition })
    }

    /// What agents take for the collector's address.
    pub(super) fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// From now on it does this.
    pub(super) fn set(&self, condition: Condition) {
        self.condition.store(condition as u8, Ordering::Relaxed);
    }
}

/// Connects the other end and pumps both ways, in threads of their own.
fn pass(near: &UnixStream, to: &Path, condition: &Arc<AtomicU8>) -> std::io::Result<()> {
    if condition.load(Ordering::Relaxed) == Condition::Cut as u8 {
        return Ok(());
    }
    let far = UnixStream::connect(to)?;
    for (from, into) in [(near, &far), (&far, near)] {
        let (from, into, condition) = (from.try_clone()?, into.try_clone()?, Arc::clone(condition));
        from.set_read_timeout(Some(LOOK_EVERY))?;
        into.set_write_timeout(Some(PATIENCE))?;
        std::thread::spawn(move || {
            // Whatever ended it: both ends see it end.
            let _ = pump(&from, &into, &condition);
            let _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
        });
    }
    Ok(())
}

fn pump(mut from: &UnixStream, mut into: &UnixStream, condition: &AtomicU8) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let now = condition.load(Ordering::Relaxed);
        let room = match now {
            now if now == Condition::Cut as u8 => return Ok(()),
            now if now == Condition::Stalled as u8 => {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            now if now == Condition::Throttled as u8 => TRICKLE_BYTES,
            _ => buffer.len(),
        };
        match from.read(&mut buffer[..room]) {
            Ok(0) => return Ok(()),
            Ok(read) => into.write_all(&buffer[..read])?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if room == TRICKLE_BYTES {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::{Duration, Instant};

    use super::{Condition, Road};

    #[test]
    fn a_road_passes_stalls_trickles_and_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        let to = dir.path().join("to.sock");
        let listener = UnixListener::bind(&to).expect("it listens");
        let road = Road::open(dir.path().join("road.sock"), &to).expect("a road");
        let mut near = UnixStream::connect(&road.path).expect("it connects");
        let (mut far, _) = listener.accept().expect("it arrives");
        far.set_read_timeout(Some(Duration::from_millis(300))).expect("a time limit");
        let mut buffer = [0; 8_192];
        near.write_all(b"hello").expect("sent");
        assert_eq!(far.read(&mut buffer).expect("it passes"), 5);

        road.set(Condition::Stalled);
        // The pump may be in its read already: what it had let in passes.
        std::thread::sleep(Duration::from_millis(200));
        near.write_all(b"hello").expect("sent");
        assert!(far.read(&mut buffer).is_err(), "nothing passes");
        road.set(Condition::Throttled);
        far.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
        near.write_all(&[1; 2_048]).expect("sent");
        let start = Instant::now();
        far.read_exact(&mut buffer[..2_053]).expect("it passes in the end");
        assert!(start.elapsed() > Duration::from_millis(200), "slowly: {:?}", start.elapsed());

        road.set(Condition::Cut);
        assert_eq!(near.read(&mut buffer).expect("an end"), 0);
        let mut again = UnixStream::connect(&road.path).expect("it connects");
        assert_eq!(again.read(&mut buffer).unwrap_or(0), 0, "and ends at once");
    }
}
