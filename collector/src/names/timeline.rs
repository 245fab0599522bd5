//! Who held one address, and between which instants. Pure.
//!
//! The API tells times in whole seconds, and late; so each end of a hold is a span: not before, and not after. An address
//! has one holder at a time, and that narrows the spans of neighbours. Where two holders remain possible, the caller is told.

use std::sync::Arc;

use crate::time::{MS, Ns, SECOND};

/// Clocks of nodes, of the API server and ours may differ by this much before a holder is ruled out.
const SKEW: Ns = 500 * MS;
/// An address' first holder may be named for packets this much older than itself.
const GRACE: Ns = 5 * SECOND;
/// Holders one address had, kept.
pub(super) const MAX_HOLDERS: usize = 16;

/// What is known of one pod's hold on an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) pod: Arc<str>,
    pub(super) uid: Arc<str>,
    pub(super) node: Option<Arc<str>>,
    /// It did not begin before.
    pub(super) since: Ns,
    /// It had begun by then.
    pub(super) by: Ns,
    /// It lasted at least until then; [`Ns::MAX`] while the pod is there.
    pub(super) alive: Ns,
    /// It was over by then.
    pub(super) end: Option<Ns>,
}

/// When something with an address was seen.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// First.
    pub from: Ns,
    /// Last; all between was the same holder.
    pub to: Ns,
    /// Where the address was local.
    pub node: Option<&'a str>,
}

impl Sighting<'_> {
    /// Seen at one instant, somewhere.
    #[must_use]
    pub const fn at(at: Ns) -> Self {
        Self { from: at, to: at, node: None }
    }
}

/// Who it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim<'a> {
    pub(super) pod: &'a Arc<str>,
    /// Another one is as possible; this is the newer.
    pub(super) ambiguous: bool,
    /// A sighting of more than this one instant might tell more.
    pub(super) close: bool,
}

/// The holders of one address, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Timeline {
    holders: Vec<Held>,
}

impl Timeline {
    /// A pod is said to have the address. True when that says anything new.
    pub(super) fn hold(&mut self, held: Held) -> bool {
        let last = self.holders.len().saturating_sub(1);
        let Some(index) = self.holders.iter().position(|known| known.uid == held.uid && known.pod == held.pod) else {
            let place = self
                .holders
                .iter()
                .position(|known| known.end.is_none() && known.since > held.since)
                .unwrap_or(self.holders.len());
            self.holders.insert(place, held);
            if self.holders.len() > MAX_HOLDERS {
                self.holders.remove(0);
            }
            return true;
        };
        let known = &mut self.holders[index];
        let before = known.clone();
        known.since = known.since.max(held.since);
        known.by = known.by.min(held.by).max(known.since);
        known.node = held.node.or(known.node.take());
        if index == last && known.end.is_some() {
            (known.end, known.alive) = (None, held.alive);
        }
        if known.alive == Ns::MAX || held.alive != Ns::MAX {
            known.alive = held.alive;
        }
        *known != before
    }

    /// A pod has it no longer; `alive` is the last instant at which it surely had.
    pub(super) fn release(&mut self, uid: &str, alive: Ns, now: Ns) -> bool {
        let mut changed = false;
        for held in self.holders.iter_mut().filter(|held| *held.uid == *uid && held.end.is_none()) {
            held.end = Some(now);
            held.alive = held.alive.min(alive);
            changed = true;
        }
        changed
    }

    /// Lets go of a pod's past. True when nothing is left.
    pub(super) fn forget(&mut self, pod: &str) -> bool {
        self.holders.retain(|held| *held.pod != *pod || held.end.is_none());
        self.holders.is_empty()
    }

    /// The span in which the holder at `index` may have held it, as its neighbours leave it.
    fn window(&self, index: usize) -> (Ns, Ns) {
        let held = &self.holders[index];
        let before = self.holders[..index].iter().map(|one| one.alive).filter(|alive| *alive != Ns::MAX);
        let after = self.holders[index + 1..].iter().map(|one| one.by);
        let since = before.fold(held.since, Ns::max);
        let end = after.fold(held.end.unwrap_or(Ns::MAX), Ns::min);
        (since.saturating_sub(SKEW), end.saturating_add(SKEW))
    }

    /// Who was seen.
    pub(super) fn claim(&self, seen: Sighting<'_>) -> Option<Claim<'_>> {
        let local = |held: &Held| held.node.is_none() || held.node.as_deref() == seen.node;
        // The newest possible one, and the newest possible one that was there; how many of each, and how many by time alone.
        let (mut any, mut there) = ((None, 0_usize), (None, 0_usize));
        let mut close = 0_usize;
        for (index, held) in self.holders.iter().enumerate() {
            let (since, end) = self.window(index);
            close += usize::from(since <= seen.from && seen.from < end);
            if since <= seen.from && seen.to < end {
                any = (Some(held), any.1 + 1);
                if seen.node.is_some() && local(held) {
                    there = (Some(held), there.1 + 1);
                }
            }
        }
        let (possible, count) = if there.1 > 0 { there } else { any };
        if let Some(held) = possible {
            return Some(Claim { pod: &held.pod, ambiguous: count > 1, close: close > 1 });
        }
        // Nobody held it then: what the last one left behind, or packets of the first one before its own time.
        let before = self.holders.iter().rfind(|held| held.since <= seen.from);
        let first = self.holders.first().filter(|held| held.since <= seen.from.saturating_add(GRACE));
        before.or(first).map(|held| Claim { pod: &held.pod, ambiguous: false, close: close > 1 })
    }

    /// Whether another pod certainly had it later, by `to`.
    pub(super) fn passed_on(&self, pod: &str, to: Ns) -> bool {
        let Some(index) = self.holders.iter().position(|held| *held.pod == *pod) else { return false };
        self.holders[index + 1..].iter().any(|later| *later.pod != *pod && later.by.saturating_add(SKEW) <= to)
    }
}
