//! The last deltas of one view, kept once for all who follow it. A client takes the next one when its connection has room:
//! nothing is queued for a client, and one that stands still holds back nobody and costs no memory but what it is writing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

/// Deltas kept for clients that come back.
const RECENT: usize = 256;
/// Deltas a client may be behind before it is given a fresh snapshot: the latest state instead of its history.
pub const LAG: u64 = 32;

#[derive(Debug, Default)]
struct Recent {
    /// The revision that the newest delta led to.
    revision: u64,
    deltas: VecDeque<Bytes>,
    bytes: usize,
}

impl Recent {
    /// The delta that leads from `revision` to the next.
    fn after(&self, revision: u64) -> Option<Bytes> {
        let behind = usize::try_from(self.revision.checked_sub(revision)?).ok()?;
        self.deltas.get(self.deltas.len().checked_sub(behind)?).cloned()
    }
}

/// Where a view's deltas go.
#[derive(Debug)]
pub(super) struct Feed {
    recent: Arc<Mutex<Recent>>,
    newest: watch::Sender<u64>,
}

/// A client's place in a view's deltas.
#[derive(Debug)]
pub struct Follower {
    recent: Arc<Mutex<Recent>>,
    newest: watch::Receiver<u64>,
    /// The revision the client has.
    revision: u64,
}

/// What comes next for a client.
#[derive(Debug)]
pub enum Next {
    /// The next delta.
    Delta(Bytes),
    /// It is too far behind: only a snapshot helps.
    Behind,
    /// The view was put away.
    Over,
}

fn lock(recent: &Mutex<Recent>) -> MutexGuard<'_, Recent> {
    // Nothing that holds the lock can panic half-way through a change.
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    pub(super) fn new(revision: u64) -> Self {
        let recent = Recent { revision, ..Recent::default() };
        Self { recent: Arc::new(Mutex::new(recent)), newest: watch::Sender::new(revision) }
    }

    pub(super) fn clients(&self) -> usize {
        self.newest.receiver_count()
    }

    /// Adds the delta to `revision` and wakes everybody. The oldest go beyond `most` bytes, but for the newest of all.
    pub(super) fn push(&self, revision: u64, delta: Bytes, most: usize) {
        let mut recent = lock(&self.recent);
        recent.revision = revision;
        recent.bytes += delta.len();
        recent.deltas.push_back(delta);
        while recent.deltas.len() > RECENT || (recent.bytes > most && recent.deltas.len() > 1) {
            match recent.deltas.pop_front() {
                Some(old) => recent.bytes -= old.len(),
                None => break,
            }
        }
        drop(recent);
        self.newest.send_replace(revision);
    }

    /// Bytes held.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        lock(&self.recent).bytes
    }

    /// The deltas after `revision`, if all of them are here.
    pub(super) fn since(&self, revision: u64) -> Option<Vec<Bytes>> {
        let recent = lock(&self.recent);
        let behind = usize::try_from(recent.revision.checked_sub(revision)?).ok()?;
        let from = recent.deltas.len().checked_sub(behind)?;
        Some(recent.deltas.range(from..).cloned().collect())
    }

    /// Follows from `revision` on.
    pub(super) fn follow(&self, revision: u64) -> Follower {
        let mut newest = self.newest.subscribe();
        newest.mark_unchanged();
        Follower { recent: Arc::clone(&self.recent), newest, revision }
    }
}

impl Follower {
    /// Waits for what comes next. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Next {
        loop {
            {
                let recent = lock(&self.recent);
                if recent.revision > self.revision {
                    let behind = recent.revision - self.revision;
                    return match recent.after(self.revision) {
                        Some(delta) if behind <= LAG => {
                            self.revision += 1;
                            Next::Delta(delta)
                        }
                        _ => Next::Behind,
                    };
                }
            }
            if self.newest.changed().await.is_err() {
                return Next::Over;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Feed, LAG, Next};

    fn delta(revision: u64) -> Bytes {
        Bytes::from(vec![u8::try_from(revision % 256).expect("a byte"); 100])
    }

    #[tokio::test]
    async fn every_follower_gets_every_delta_in_order() {
        let feed = Feed::new(7);
        let (mut one, mut late) = (feed.follow(7), feed.follow(7));
        assert_eq!(feed.clients(), 2);
        for revision in 8..=20 {
            feed.push(revision, delta(revision), 1 << 20);
            assert!(matches!(one.next().await, Next::Delta(bytes) if bytes == delta(revision)));
        }
        for revision in 8..=20 {
            assert!(matches!(late.next().await, Next::Delta(bytes) if bytes == delta(revision)));
        }
        assert_eq!(feed.since(18), Some(vec![delta(19), delta(20)]));
        assert_eq!((feed.since(20), feed.since(21)), (Some(vec![]), None));
        drop(feed);
        assert!(matches!(one.next().await, Next::Over));
    }

    #[tokio::test]
    async fn who_is_too_far_behind_is_told_so_and_memory_is_bounded() {
        let feed = Feed::new(0);
        let (mut stalled, mut slow) = (feed.follow(0), feed.follow(0));
        for revision in 1..=LAG {
            feed.push(revision, delta(revision), 1 << 20);
        }
        assert!(matches!(slow.next().await, Next::Delta(_)), "at the bound it still follows");
        feed.push(LAG + 1, delta(LAG + 1), 1 << 20);
        assert!(matches!(stalled.next().await, Next::Behind), "beyond it, the latest state is better");
        feed.push(LAG + 2, delta(LAG + 2), 1_000);
        assert!(feed.bytes() <= 1_000 && matches!(slow.next().await, Next::Behind), "its delta had to go");
        feed.push(LAG + 3, Bytes::from(vec![0; 5_000]), 1_000);
        assert_eq!((feed.bytes(), feed.since(LAG + 2).map(|missed| missed.len())), (5_000, Some(1)));
    }
}
