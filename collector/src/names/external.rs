//! Names that DNS gave to addresses outside the cluster. Pure. One address may have many names, and a client knows it by
//! the one it asked for: its own answers come first, then those of its node, then anybody's; of several the newest. What
//! is shown for everybody is ordered by when a name first came up: an answer that is repeated renames nothing.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use wire::v1::Report;

use crate::time::{Ns, SECOND};

/// Names held, of all addresses together.
pub const MAX_NAMES: usize = 65_536;
/// Names held of one address, a client's each.
pub const MAX_NAMES_PER_ADDRESS: usize = 256;
/// Names of an address that are shown.
pub const MAX_SHOWN: usize = 8;
/// A name holds for so long beyond its time to live: clients use an address for longer than they may.
pub const GRACE: Ns = 60 * SECOND;

/// An answer, as a node's agent saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who asked.
    pub client: IpAddr,
    /// What the name stands for.
    pub address: IpAddr,
    /// The name asked for.
    pub name: Arc<str>,
    /// The node that told.
    pub node: Arc<str>,
    /// When, by our clock.
    pub at: Ns,
    /// For how long the answer was good.
    pub ttl: Ns,
}

/// An answer that is held.
#[derive(Debug, Clone)]
struct Held {
    answer: Answer,
    /// When the same was answered first.
    since: Ns,
}

/// The answers that a report tells of, by our clock: they are as old as the report's own clock says.
pub fn answers(report: &Report, arrived: Ns) -> impl Iterator<Item = Answer> {
    let node: Arc<str> = report.node.as_str().into();
    report.names.iter().filter_map(move |told| {
        let age = report.sent_unix_ns.saturating_sub(told.unix_ns);
        Some(Answer {
            client: address(&told.client)?,
            address: address(&told.address)?,
            name: Some(told.name.as_str()).filter(|name| !name.is_empty())?.into(),
            node: Arc::clone(&node),
            at: arrived.saturating_sub(Ns::try_from(age).ok()?),
            ttl: Ns::from(told.ttl_s) * SECOND,
        })
    })
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(|address| address.to_canonical())
}

/// The names of the world.
#[derive(Debug, Clone, Default)]
pub struct External {
    by_address: HashMap<IpAddr, Vec<Held>>,
    held: usize,
    evicted: u64,
    revision: u64,
}

impl External {
    /// Grows whenever what [`External::shown`] gives for some address has changed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Answers held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Answers that had to go for others.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Takes in an answer. One that came before changes nothing.
    pub fn learn(&mut self, answer: Answer) {
        let answers = self.by_address.entry(answer.address).or_default();
        let before = shown(answers);
        let same = |old: &Answer| old.client == answer.client && old.name == answer.name && old.node == answer.node;
        let (address, since) = (answer.address, answer.at);
        match answers.iter_mut().find(|held| same(&held.answer)) {
            Some(held) => {
                held.since = held.since.min(since);
                if held.answer.at < answer.at {
                    held.answer = answer;
                }
            }
            None => {
                if answers.len() >= MAX_NAMES_PER_ADDRESS {
                    let oldest = (0..answers.len()).min_by_key(|index| answers[*index].answer.at).unwrap_or_default();
                    answers.swap_remove(oldest);
                    self.held -= 1;
                    self.evicted += 1;
                }
                answers.push(Held { answer, since });
                self.held += 1;
            }
        }
        if shown(answers) != before {
            self.revision += 1;
        }
        if self.held > MAX_NAMES {
            self.evict(address);
        }
    }

    /// Makes room: the oldest sixteenth goes at once, so that a flood of names pays for it once in a while only.
    fn evict(&mut self, newcomer: IpAddr) {
        let mut times: Vec<Ns> = self.by_address.values().flatten().map(|held| held.answer.at).collect();
        let (_, &mut mark, _) = times.select_nth_unstable(MAX_NAMES / 16);
        let before = self.held;
        self.retain(|answer| answer.at > mark || answer.address == newcomer);
        self.evicted += (before - self.held) as u64;
    }

    /// Lets go of names whose time is over, but for those of addresses that an edge leads to still.
    pub fn forget(&mut self, now: Ns, used: &HashSet<IpAddr>) {
        self.retain(|answer| {
            used.contains(&answer.address) || now <= answer.at.saturating_add(answer.ttl).saturating_add(GRACE)
        });
    }

    fn retain(&mut self, keep: impl Fn(&Answer) -> bool) {
        let (mut held, mut changed) = (0, 0);
        self.by_address.retain(|_, answers| {
            let (count, before) = (answers.len(), shown(answers));
            answers.retain(|held| keep(&held.answer));
            held += answers.len();
            changed += u64::from(answers.len() != count && shown(answers) != before);
            !answers.is_empty()
        });
        self.held = held;
        self.revision += changed;
    }

    /// What a client on a node knows an address by.
    #[must_use]
    pub fn resolve(&self, address: IpAddr, client: IpAddr, node: Option<&str>) -> Option<Arc<str>> {
        let answers = self.by_address.get(&address)?;
        let rank =
            |answer: &Answer| (answer.client == client, node.is_some_and(|node| *answer.node == *node), answer.at);
        // Names decide between answers of one instant, so that the order of arrival does not.
        let answers = answers.iter().map(|held| &held.answer);
        let best = answers.max_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name)))?;
        Some(Arc::clone(&best.name))
    }

    /// The names that an address goes by, the one that came up last first, at most [`MAX_SHOWN`].
    #[must_use]
    pub fn shown(&self, address: IpAddr) -> Vec<Arc<str>> {
        self.by_address.get(&address).map(|answers| shown(answers)).unwrap_or_default()
    }
}

fn shown(answers: &[Held]) -> Vec<Arc<str>> {
    let mut first: HashMap<&Arc<str>, Ns> = HashMap::new();
    for held in answers {
        let since = first.entry(&held.answer.name).or_insert(held.since);
        *since = held.since.min(*since);
    }
    let mut names: Vec<_> = first.into_iter().collect();
    names.sort_by(|(a, a_since), (b, b_since)| b_since.cmp(a_since).then_with(|| b.cmp(a)));
    names.into_iter().take(MAX_SHOWN).map(|(name, _)| Arc::clone(name)).collect()
}

#[cfg(test)]
mod tests;
