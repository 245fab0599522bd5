//! One node: its agent's epochs, its devices' accounts, its clock, and whether it is heard of.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use wire::v1::{Counters, Device, DeviceCounters, LossCause, Report, Tier};

use crate::{
    time::{self, MINUTE, MS, Ns, SECOND},
    view::{BlindSpot, LossRow, NodeState},
};

/// A node's place in the merge.
pub type NodeId = u32;

/// Silence after which a node is lost.
pub const LOST_AFTER: Ns = 15 * SECOND;
/// The least silence after which a node is late.
pub const LATE_AFTER: Ns = 1_500 * MS;
/// Telemetry lost within this span makes a node lossy.
const LOSSY_SPAN: Ns = MINUTE;
/// Devices that are gone, remembered for one epoch.
const MAX_GONE: usize = 65_536;
/// How long a device that is gone keeps its account.
const GONE_DEVICE_KEPT: Ns = 10 * MINUTE;

/// One run of the agent.
#[derive(Debug, Clone, Default)]
pub struct Epoch {
    /// The highest mark seen.
    pub mark: u64,
    /// The highest sequence number seen.
    pub seq: u64,
    /// The newest instant at which all totals were known, by the collector's clock.
    pub sampled: Ns,
    /// A newer epoch appeared at this time.
    pub ended: Option<Ns>,
    /// Edges with finished rows that the mark has not reached yet.
    pub finished: BTreeSet<super::FlowId>,
    /// Incarnations of devices that are gone: nobody watches their end of an edge any more.
    pub gone: BTreeSet<u64>,
    /// Telemetry lost, by cause.
    pub losses: BTreeMap<i32, u64>,
    /// What the full table could not take.
    pub other: Counters,
}

impl Epoch {
    /// Packets that may be missing from the edges.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        self.losses.values().fold(self.other.segments, |sum, count| sum.saturating_add(*count))
    }
}

/// A device in one incarnation of one epoch.
#[derive(Debug, Clone)]
pub struct DeviceRun {
    /// How it is watched.
    pub tier: i32,
    /// Why it is not.
    pub blind_spot: String,
    /// From the pod, to the pod.
    pub directions: [DeviceCounters; 2],
    /// From when on every packet was seen, by the collector's clock.
    pub covered_since: Ns,
    /// The last word.
    pub gone: bool,
    /// `seen` and `carried` cannot be compared.
    pub unsettled: bool,
    seq: u64,
}

/// A device over all epochs.
#[derive(Debug, Clone, Default)]
pub struct DeviceAccount {
    /// By (epoch, incarnation).
    pub runs: BTreeMap<(u64, u64), DeviceRun>,
    gone_at: Option<Ns>,
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
        for run in self.runs.values() {
            let counters = &run.directions[direction];
            account.seen_skbs = account.seen_skbs.saturating_add(counters.seen_skbs);
            account.seen_bytes = account.seen_bytes.saturating_add(counters.seen_bytes);
            account.link_control_skbs = account.link_control_skbs.saturating_add(counters.link_control_skbs);
            account.malformed_skbs = account.malformed_skbs.saturating_add(counters.malformed_skbs);
            if counters.carried_skbs < carried_before.0 {
                // Another device under the same name and index: its account begins anew.
                account = Account { seen_skbs: counters.seen_skbs, seen_bytes: counters.seen_bytes, ..account };
                (account.unseen_skbs, account.unseen_bytes, carried_before) = (0, 0, (0, 0));
            }
            // What a device carries that nobody watches is unseen, all of it.
            let until = if run.tier == Tier::Unwatched as i32 {
                (counters.carried_skbs, counters.carried_bytes)
            } else {
                (counters.attach_gap_skbs, counters.attach_gap_bytes)
            };
            let gap = (until.0.saturating_sub(carried_before.0), until.1.saturating_sub(carried_before.1));
            account.unseen_skbs = account.unseen_skbs.saturating_add(gap.0);
            account.unseen_bytes = account.unseen_bytes.saturating_add(gap.1);
            carried_before = (counters.carried_skbs, counters.carried_bytes);
            (account.carried_skbs, account.carried_bytes) = carried_before;
        }
        account
    }

    /// The newest run.
    #[must_use]
    pub fn newest(&self) -> Option<(&(u64, u64), &DeviceRun)> {
        self.runs.last_key_value()
    }
}

/// What a node told of itself.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Epochs that are not folded.
    pub epochs: BTreeMap<u64, Epoch>,
    /// Epochs up to this one are folded.
    pub folded_through: u64,
    /// Losses of folded epochs.
    pub folded_losses: BTreeMap<i32, u64>,
    /// `other` of folded epochs.
    pub folded_other: Counters,
    /// Devices by name and index.
    pub devices: BTreeMap<(String, u32), DeviceAccount>,
    /// When the last report came.
    pub last_report: Ns,
    /// When the next is due after it.
    pub tick_ms: u32,
    /// The agent's estimate of its clock: (offset, error).
    pub clock: Option<(Ns, Ns)>,
    /// Its version.
    pub agent_version: String,
    /// Hooks the kernel refused.
    pub refused_hooks: Vec<String>,
    /// When telemetry was lost: (time, cause, how much).
    recent_losses: VecDeque<(Ns, i32, u64)>,
    /// The state that was last told.
    pub told: Option<NodeState>,
}

impl Node {
    /// A node that was never heard of.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            epochs: BTreeMap::new(),
            folded_through: 0,
            folded_losses: BTreeMap::new(),
            folded_other: Counters::default(),
            devices: BTreeMap::new(),
            last_report: 0,
            tick_ms: 0,
            clock: None,
            agent_version: String::new(),
            refused_hooks: Vec::new(),
            recent_losses: VecDeque::new(),
            told: None,
        }
    }

    /// The newest epoch.
    #[must_use]
    pub fn epoch(&self) -> Option<(u64, &Epoch)> {
        self.epochs.last_key_value().map(|(epoch, state)| (*epoch, state))
    }

    /// Takes in all of a report but its edges. Returns how many devices found no room.
    pub fn take(&mut self, report: &Report, now: Ns, offset: Ns, max_devices: usize) -> u64 {
        let newest = self.epoch().is_none_or(|(epoch, _)| report.epoch >= epoch);
        let epoch = self.epochs.entry(report.epoch).or_default();
        let latest = report.seq >= epoch.seq;
        epoch.seq = epoch.seq.max(report.seq);
        if report.complete {
            let sampled = time::from_wire(report.sampled_unix_ns).saturating_add(offset);
            epoch.sampled = epoch.sampled.max(sampled.min(now.saturating_add(super::MAX_AHEAD)));
        }
        if let Some(other) = &report.other {
            epoch.other = epoch.other.join(other);
        }
        for loss in &report.losses {
            let known = epoch.losses.entry(loss.cause).or_default();
            if loss.count > *known {
                if loss.cause != LossCause::Fragment as i32 {
                    self.recent_losses.push_back((now, loss.cause, loss.count - *known));
                }
                *known = loss.count;
            }
        }
        // One entry a cause a report: the span bounds their number, this bounds a liar's.
        while self.recent_losses.len() > 4_096 {
            self.recent_losses.pop_front();
        }
        self.last_report = self.last_report.max(now);
        if newest && latest {
            self.tick_ms = report.next_tick_ms;
            self.clock = report.clock.map(|clock| (clock.offset_ns, time::from_wire(clock.error_ns))).or(self.clock);
            self.agent_version.clone_from(&report.agent_version);
            self.refused_hooks.clone_from(&report.refused_hooks);
        }
        let gone = report.devices.iter().filter(|device| device.gone).map(|device| device.incarnation);
        if let Some(epoch) = self.epochs.get_mut(&report.epoch) {
            epoch.gone.extend(gone);
            // Incarnations grow: the oldest are of pods that no edge speaks of any more.
            while epoch.gone.len() > MAX_GONE {
                epoch.gone.pop_first();
            }
        }
        let mut refused = 0;
        for device in &report.devices {
            refused += u64::from(!self.take_device(device, report, offset, now, max_devices));
        }
        refused
    }

    fn take_device(&mut self, device: &Device, report: &Report, offset: Ns, now: Ns, max_devices: usize) -> bool {
        let key = (device.name.clone(), device.ifindex);
        if !self.devices.contains_key(&key) && self.devices.len() >= max_devices {
            let gone = self.devices.iter().find(|(_, account)| account.gone_at.is_some()).map(|(key, _)| key.clone());
            match gone {
                Some(gone) => self.devices.remove(&gone),
                None => return false,
            };
        }
        let account = self.devices.entry(key).or_default();
        let directions = [device.ingress.unwrap_or_default(), device.egress.unwrap_or_default()];
        let fresh = DeviceRun {
            tier: device.tier,
            blind_spot: device.blind_spot.clone(),
            directions,
            covered_since: time::from_wire(device.covered_since_unix_ns).saturating_add(offset),
            gone: device.gone,
            unsettled: device.unsettled,
            seq: report.seq,
        };
        account
            .runs
            .entry((report.epoch, device.incarnation))
            .and_modify(|run| {
                let joined = [0, 1].map(|index| join_device(&run.directions[index], &directions[index]));
                if report.seq >= run.seq {
                    *run = DeviceRun { gone: run.gone || device.gone, ..fresh.clone() };
                }
                run.directions = joined;
            })
            .or_insert(fresh);
        if account.runs.len() > 64 {
            account.runs.pop_first();
        }
        account.gone_at = account.newest().is_some_and(|(_, run)| run.gone).then(|| account.gone_at.unwrap_or(now));
        true
    }

    /// Lets go of devices that have been gone for long.
    pub fn forget_devices(&mut self, now: Ns) {
        self.devices.retain(|_, account| account.gone_at.is_none_or(|at| now.saturating_sub(at) < GONE_DEVICE_KEPT));
    }

    /// Since when a device saw everything, and the clock's error: what a loss between two sides stands on.
    #[must_use]
    pub fn covered_since(&self, epoch: u64, incarnation: u64) -> Option<Ns> {
        self.devices.values().find_map(|account| account.runs.get(&(epoch, incarnation))).map(|run| run.covered_since)
    }

    /// The devices of the newest epoch that are there.
    pub fn current_devices(&self) -> impl Iterator<Item = (&str, &DeviceRun)> {
        let newest = self.epoch().map_or(0, |(epoch, _)| epoch);
        self.devices.iter().filter_map(move |((name, _), account)| {
            let ((epoch, _), run) = account.newest()?;
            (*epoch == newest && !run.gone).then_some((name.as_str(), run))
        })
    }

    /// Whether it is heard of, and why not.
    #[must_use]
    pub fn state(&self, now: Ns) -> (NodeState, Option<String>) {
        let silent = now.saturating_sub(self.last_report);
        let patience = (Ns::from(self.tick_ms) * 3 * MS).max(LATE_AFTER);
        let since = || Some(format!("no report since {}", clock_text(self.last_report)));
        if silent > LOST_AFTER {
            return (NodeState::Lost, since());
        }
        if silent > patience {
            return (NodeState::Late, since());
        }
        let mut recent: BTreeMap<i32, u64> = BTreeMap::new();
        for (at, cause, count) in &self.recent_losses {
            if now.saturating_sub(*at) < LOSSY_SPAN {
                *recent.entry(*cause).or_default() += count;
            }
        }
        if recent.is_empty() {
            return (NodeState::Live, None);
        }
        let words =
            recent.iter().map(|(cause, count)| format!("{}: {count} lost in the last minute", cause_words(*cause)));
        (NodeState::Lossy, Some(words.collect::<Vec<_>>().join("; ")))
    }

    /// All losses by cause, over all epochs.
    #[must_use]
    pub fn losses(&self) -> Vec<LossRow> {
        let mut sum = self.folded_losses.clone();
        for (cause, count) in self.epochs.values().flat_map(|epoch| &epoch.losses) {
            let total = sum.entry(*cause).or_default();
            *total = total.saturating_add(*count);
        }
        let named = sum.into_iter().filter(|(_, count)| *count > 0);
        named.map(|(cause, count)| LossRow { cause: cause_label(cause).to_owned(), count }).collect()
    }

    /// What full tables could not take, over all epochs.
    #[must_use]
    pub fn other(&self) -> Counters {
        self.epochs.values().fold(self.folded_other, |sum, epoch| sum.plus(&epoch.other))
    }

    /// `tcx`, `partial` or `none`, and the blind spots.
    #[must_use]
    pub fn coverage(&self) -> (&'static str, u32, Vec<BlindSpot>) {
        let mut blind = Vec::new();
        let (mut watched, mut all) = (0, 0);
        for (name, run) in self.current_devices() {
            all += 1;
            if run.tier == Tier::Unwatched as i32 {
                blind.push(BlindSpot { device: name.to_owned(), reason: run.blind_spot.clone() });
            } else {
                watched += 1;
            }
        }
        let tier = match (watched, blind.is_empty()) {
            (0, _) => "none",
            (_, true) => "tcx",
            (_, false) => "partial",
        };
        (tier, all, blind)
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
    }
}

fn cause_label(cause: i32) -> &'static str {
    match LossCause::try_from(cause) {
        Ok(LossCause::RingFull) => "ring_full",
        Ok(LossCause::MapFull) => "map_full",
        Ok(LossCause::Drain) => "drain",
        Ok(LossCause::Fragment) => "fragment",
        Ok(LossCause::UnknownDevice) => "unknown_device",
        Ok(LossCause::TableFull) => "table_full",
        Ok(LossCause::HeaderDepth) => "header_depth",
        Ok(LossCause::Unspecified) | Err(_) => "unknown",
    }
}

fn cause_words(cause: i32) -> &'static str {
    match LossCause::try_from(cause) {
        Ok(LossCause::RingFull) => "event ring full",
        Ok(LossCause::MapFull) => "flow map full",
        Ok(LossCause::Drain) => "flows read while they changed",
        Ok(LossCause::Fragment) => "fragments without their first",
        Ok(LossCause::UnknownDevice) => "packets on a forgotten device",
        Ok(LossCause::TableFull) => "edge table full",
        Ok(LossCause::HeaderDepth) => "headers too deep",
        Ok(LossCause::Unspecified) | Err(_) => "telemetry",
    }
}

/// Time of day, UTC.
fn clock_text(at: Ns) -> String {
    let seconds = at.div_euclid(SECOND).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
