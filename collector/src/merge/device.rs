//! What a device carried, over all runs of its node's agent: seen, unseen, and the kernel's own count.

use std::collections::BTreeMap;

use wire::v1::{Device, DeviceCounters, Report, Tier};

use super::key::Tunnel;
use crate::time::{self, MINUTE, Ns};

/// How long a device that is gone keeps its account.
const GONE_DEVICE_KEPT: Ns = 10 * MINUTE;

/// A device in one incarnation of one epoch.
#[derive(Debug, Clone)]
pub struct DeviceRun {
    /// How it is watched.
    pub tier: i32,
    /// Why it is not.
    pub blind_spot: String,
    /// What it is for.
    pub point: i32,
    /// A tunnel's kind.
    pub tunnel: Option<Tunnel>,
    /// How often our programs were removed by somebody else and attached again.
    pub reattached: u32,
    /// From the pod, to the pod.
    pub directions: [DeviceCounters; 2],
    /// From when on every packet was seen, by the collector's clock.
    pub covered_since: Ns,
    /// The last word.
    pub gone: bool,
    /// `seen` and `carried` cannot be compared.
    pub unsettled: bool,
    pub(super) seq: u64,
}

/// A device over all epochs.
#[derive(Debug, Clone, Default)]
pub struct DeviceAccount {
    /// By (epoch, incarnation).
    pub runs: BTreeMap<(u64, u64), DeviceRun>,
    pub(super) gone_at: Option<Ns>,
}

/// One direction's account.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[expect(missing_docs, reason = "docs/api.md describes them")]
pub struct Account {
    pub seen_skbs: u64,
    pub seen_bytes: u64,
    pub unseen_skbs: u64,
    pub unseen_bytes: u64,
    pub carried_skbs: u64,
    pub carried_bytes: u64,
    pub link_control_skbs: u64,
    pub malformed_skbs: u64,
}

impl DeviceAccount {
    /// The account of one direction (0: from the pod, 1: to the pod). What passed between two runs is what the kernel
    /// had counted when the later attached, less what it had counted when the earlier last spoke.
    #[must_use]
    pub fn account(&self, direction: usize) -> Account {
        let mut account = Account::default();
        let mut carried_before = (0, 0);
        // A run that found no quiet moment yet has nothing to be held against.
        for run in self.runs.values().filter(|run| !run.unsettled) {
            let counters = &run.directions[direction];
            if counters.carried_skbs < carried_before.0 {
                // Another device under the same name and index: its account begins anew.
                (account, carried_before) = (Account::default(), (0, 0));
            }
            account.seen_skbs = account.seen_skbs.saturating_add(counters.seen_skbs);
            account.seen_bytes = account.seen_bytes.saturating_add(counters.seen_bytes);
            account.link_control_skbs = account.link_control_skbs.saturating_add(counters.link_control_skbs);
            account.malformed_skbs = account.malformed_skbs.saturating_add(counters.malformed_skbs);
            // What a device carries that no program on it watches is unseen there, all of it.
            let until = if matches!(Tier::try_from(run.tier), Ok(Tier::Tcx | Tier::Clsact)) {
                (counters.attach_gap_skbs, counters.attach_gap_bytes)
            } else {
                (counters.carried_skbs, counters.carried_bytes)
            };
            let gap = (until.0.saturating_sub(carried_before.0), until.1.saturating_sub(carried_before.1));
            account.unseen_skbs = account.unseen_skbs.saturating_add(gap.0);
            account.unseen_bytes = account.unseen_bytes.saturating_add(gap.1);
            carried_before = (counters.carried_skbs, counters.carried_bytes);
            (account.carried_skbs, account.carried_bytes) = carried_before;
        }
        account
    }

    /// Joins what a report says of the device.
    pub fn take(&mut self, device: &Device, report: &Report, offset: Ns, now: Ns) {
        let directions = [device.ingress.unwrap_or_default(), device.egress.unwrap_or_default()];
        let fresh = DeviceRun {
            tier: device.tier,
            blind_spot: device.blind_spot.clone(),
            point: device.point,
            tunnel: Tunnel::of(&device.tunnel),
            reattached: device.reattached,
            directions,
            covered_since: time::from_wire(device.covered_since_unix_ns).saturating_add(offset),
            gone: device.gone,
            unsettled: device.unsettled,
            seq: report.seq,
        };
        self.runs
            .entry((report.epoch, device.incarnation))
            .and_modify(|run| {
                let joined = [0, 1].map(|index| join_device(&run.directions[index], &directions[index]));
                let reattached = run.reattached.max(device.reattached);
                if report.seq >= run.seq {
                    *run = DeviceRun { gone: run.gone || device.gone, ..fresh.clone() };
                }
                (run.directions, run.reattached) = (joined, reattached);
            })
            .or_insert(fresh);
        if self.runs.len() > 64 {
            self.runs.pop_first();
        }
        self.gone_at = self.newest().is_some_and(|(_, run)| run.gone).then(|| self.gone_at.unwrap_or(now));
    }

    /// Gone for so long that its account need not be kept.
    #[must_use]
    pub fn forgettable(&self, now: Ns) -> bool {
        self.gone_at.is_some_and(|at| now.saturating_sub(at) >= GONE_DEVICE_KEPT)
    }

    /// Gone.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.gone_at.is_some()
    }

    /// The newest run.
    #[must_use]
    pub fn newest(&self) -> Option<(&(u64, u64), &DeviceRun)> {
        self.runs.last_key_value()
    }
}

fn join_device(a: &DeviceCounters, b: &DeviceCounters) -> DeviceCounters {
    DeviceCounters {
        seen_skbs: a.seen_skbs.max(b.seen_skbs),
        seen_bytes: a.seen_bytes.max(b.seen_bytes),
        attach_gap_skbs: a.attach_gap_skbs.max(b.attach_gap_skbs),
        attach_gap_bytes: a.attach_gap_bytes.max(b.attach_gap_bytes),
        carried_skbs: a.carried_skbs.max(b.carried_skbs),
        carried_bytes: a.carried_bytes.max(b.carried_bytes),
        link_control_skbs: a.link_control_skbs.max(b.link_control_skbs),
        malformed_skbs: a.malformed_skbs.max(b.malformed_skbs),
        elsewhere_skbs: a.elsewhere_skbs.max(b.elsewhere_skbs),
        transit_skbs: a.transit_skbs.max(b.transit_skbs),
        translated_skbs: a.translated_skbs.max(b.translated_skbs),
    }
}
