//! Names that answers gave to addresses, on their way to the collector: bounded, sent again until acknowledged, and all of
//! them once more to a collector that has just started.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use wire::v1::ResolvedName;

/// Names in one report.
pub const MAX_REPORTED: usize = 1_024;
/// Names held.
pub const MAX_NAMES: usize = 8_192;
/// A name that is answered again is told again after this long: half of the collector's grace.
const TELL_EVERY_NS: u64 = 30_000_000_000;
/// A name is held for this long after its last answer, or for its time to live if that is longer.
const HOLD_NS: u64 = 600_000_000_000;

/// How much of a name leaves the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum NameMode {
    /// The whole name.
    #[default]
    Full,
    /// Its last two labels; three where the third is `svc` or `pod`, as cluster names end in.
    Suffix,
    /// Nothing: counts only.
    Off,
}

impl NameMode {
    /// What is left of a name.
    #[must_use]
    pub fn cut(self, name: &str) -> Option<String> {
        match self {
            Self::Full => Some(name.to_owned()),
            Self::Off => None,
            Self::Suffix => {
                let labels: Vec<_> = name.rsplitn(4, '.').collect();
                let cluster = labels.get(2).is_some_and(|label| matches!(*label, "svc" | "pod"));
                let kept = if cluster { 3 } else { 2 }.min(labels.len());
                Some(labels[..kept].iter().rev().copied().collect::<Vec<_>>().join("."))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    client: IpAddr,
    address: IpAddr,
    name: String,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    ttl_s: u32,
    unix_ns: u64,
    told_unix_ns: u64,
}

/// The names of one agent.
#[derive(Debug, Default)]
pub struct Names {
    held: HashMap<Key, Held>,
    /// Told by no acknowledged report; the oldest first.
    waiting: VecDeque<Key>,
    /// How many of those the report of this number carries.
    told: (u64, usize),
    refused: u64,
}

impl Names {
    /// Notes that a client was told a name's address at `unix_ns`.
    pub fn add(&mut self, client: IpAddr, address: IpAddr, ttl_s: u32, name: &str, unix_ns: u64) {
        let key = Key { client, address, name: name.to_owned() };
        if let Some(held) = self.held.get_mut(&key) {
            (held.ttl_s, held.unix_ns) = (ttl_s, unix_ns);
            if unix_ns.saturating_sub(held.told_unix_ns) >= TELL_EVERY_NS {
                held.told_unix_ns = unix_ns;
                self.waiting.push_back(key);
            }
            return;
        }
        if self.held.len() >= MAX_NAMES {
            self.forget(unix_ns);
        }
        if self.held.len() >= MAX_NAMES {
            self.refused += 1;
            return;
        }
        self.held.insert(key.clone(), Held { ttl_s, unix_ns, told_unix_ns: unix_ns });
        self.waiting.push_back(key);
    }

    /// Forgets names that were acknowledged and whose time is over.
    fn forget(&mut self, unix_ns: u64) {
        let waiting: std::collections::HashSet<_> = self.waiting.iter().collect();
        self.held.retain(|key, held| {
            let hold_ns = HOLD_NS.max(u64::from(held.ttl_s) * 1_000_000_000);
            unix_ns.saturating_sub(held.unix_ns) < hold_ns || waiting.contains(key)
        });
    }

    /// Names that found no room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The names for report `seq`.
    pub fn report(&mut self, seq: u64) -> Vec<ResolvedName> {
        let row = |key: &Key| {
            let held = self.held.get(key)?;
            Some(ResolvedName {
                client: octets(key.client),
                address: octets(key.address),
                name: key.name.clone(),
                ttl_s: held.ttl_s,
                unix_ns: held.unix_ns,
            })
        };
        let rows: Vec<_> = self.waiting.iter().take(MAX_REPORTED).filter_map(row).collect();
        self.told = (seq, self.waiting.len().min(MAX_REPORTED));
        rows
    }

    /// The collector has report `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        if self.told.0 == seq {
            self.waiting.drain(..std::mem::take(&mut self.told.1));
        }
    }

    /// The collector knows nothing: everything is told again.
    pub fn tell_all(&mut self) {
        self.told = (0, 0);
        let mut all: Vec<_> = self.held.iter().collect();
        all.sort_by_key(|(_, held)| held.unix_ns);
        self.waiting = all.into_iter().map(|(key, _)| key.clone()).collect();
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
