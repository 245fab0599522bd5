//! One node: its agent's epochs, its devices' accounts, its clock, and whether it is heard of.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use wire::{
    limits::MAX_NODE_DROPS,
    v1::{Counters, Device, Hook, LossCause, Report, Tier},
};

use super::{
    cause,
    device::{DeviceAccount, DeviceRun},
    facts::Drops,
};
use crate::{
    time::{self, MINUTE, MS, Ns, SECOND},
    view::{BlindSpot, LossRow, NodeState, TierRow},
};

/// A node's place in the merge.
pub type NodeId = u32;

/// Silence after which a node is lost.
pub const LOST_AFTER: Ns = 15 * SECOND;
/// The least silence after which a node is late.
pub const LATE_AFTER: Ns = 1_500 * MS;
/// Telemetry lost within this span makes a node lossy.
const LOSSY_SPAN: Ns = MINUTE;
/// For so long a run that is being replaced may still report.
const TAKEOVER: Ns = 20 * SECOND;
/// Beside the agents' own causes: what found no room in the collector.
pub(super) const COLLECTOR_FULL: i32 = -1;
/// Samples are compared for so long: an estimate of the clock that was worse is not forgotten before.
const CLOCK_SPAN: Ns = 10 * SECOND;
/// Devices that are gone, remembered for one epoch.
const MAX_GONE: usize = 65_536;

/// By how much a clock was off, and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClockError {
    /// At the most.
    pub most: Ns,
    /// When it was so.
    pub at: Ns,
}

impl ClockError {
    /// The worst holds for as long as samples that stand on it are compared.
    fn take(&mut self, error: Ns, now: Ns) {
        if error >= self.most || now.saturating_sub(self.at) > CLOCK_SPAN {
            *self = Self { most: error, at: now };
        }
    }
}

/// One run of the agent.
#[derive(Debug, Clone, Default)]
pub struct Epoch {
    /// The highest mark seen.
    pub mark: u64,
    /// The highest sequence number seen.
    pub seq: u64,
    /// The newest instant at which all totals were known, by the collector's clock.
    pub sampled: Ns,
    /// The most that its clock was off by, at the samples that may still be compared.
    pub clock_error: ClockError,
    /// A newer epoch appeared at this time.
    pub ended: Option<Ns>,
    /// Its last report came then.
    pub heard: Ns,
    /// Edges with finished rows that the mark has not reached yet.
    pub finished: BTreeSet<super::FlowId>,
    /// Incarnations of devices that are gone: nobody watches their end of an edge any more.
    pub gone: BTreeSet<u64>,
    /// Packets reach its pods past their devices.
    pub bypassed: bool,
    /// Telemetry lost, by cause.
    pub losses: BTreeMap<i32, u64>,
    /// What the full table could not take.
    pub other: Counters,
    /// What the kernel dropped that belongs to no edge.
    pub drops: Drops,
    /// [`Epoch::unseen`] as of `sampled`.
    pub unseen_sampled: u64,
}

impl Epoch {
    /// Packets that may be missing from the edges.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        missing(self.losses.iter().map(|(cause, count)| (*cause, *count)), &self.other)
    }
}

/// Packets in no edge: what was lost, and `other`. An event that the ring had no room for is in the flow map all the same,
/// and what the full table refused is in `other` already.
fn missing(losses: impl Iterator<Item = (i32, u64)>, other: &Counters) -> u64 {
    let counts = |cause: i32| {
        use LossCause::{Drain, Fragment, HeaderDepth, MapFull, UnknownDevice};
        matches!(LossCause::try_from(cause), Ok(MapFull | Drain | Fragment | UnknownDevice | HeaderDepth))
    };
    losses.filter(|(cause, _)| counts(*cause)).fold(other.segments, |sum, (_, count)| sum.saturating_add(count))
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
    /// Drops of folded epochs.
    pub folded_drops: Drops,
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
    /// What it wants to know of the kernel, and by which hook it learns it.
    pub hooks: Vec<Hook>,
    /// When telemetry was lost: (time, cause, how much).
    recent_losses: VecDeque<(Ns, i32, u64)>,
    /// Segments that it counted and that are on no edge, as the collector has no room.
    shed: u64,
    /// The state that was last told.
    pub told: Option<NodeState>,
    /// It was silent for so long that its edges were ended.
    pub left: bool,
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
            folded_drops: Drops::default(),
            devices: BTreeMap::new(),
            last_report: 0,
            tick_ms: 0,
            clock: None,
            agent_version: String::new(),
            refused_hooks: Vec::new(),
            hooks: Vec::new(),
            recent_losses: VecDeque::new(),
            shed: 0,
            told: None,
            left: false,
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
        epoch.heard = epoch.heard.max(now);
        if latest && !report.devices.is_empty() {
            epoch.bypassed = report.devices.iter().any(|device| device.bypassed);
        }
        let clock = report.clock.map(|clock| (clock.offset_ns, time::from_wire(clock.error_ns)));
        if let Some((_, error)) = clock {
            epoch.clock_error.take(error, now);
        }
        if report.complete && clock.is_some() {
            let sampled = time::from_wire(report.sampled_unix_ns).saturating_add(offset);
            let sampled = sampled.min(now.saturating_add(super::MAX_AHEAD));
            if sampled > epoch.sampled {
                epoch.sampled = sampled;
                let losses = report.losses.iter().map(|loss| (loss.cause, loss.count));
                epoch.unseen_sampled = missing(losses, &report.other.unwrap_or_default());
            }
        }
        if let Some(other) = &report.other {
            epoch.other = epoch.other.join(other);
        }
        epoch.drops.join(&Drops::of(&report.drops), MAX_NODE_DROPS);
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
        self.left = false;
        if newest && latest {
            self.tick_ms = report.next_tick_ms;
            self.clock = clock;
            self.agent_version.clone_from(&report.agent_version);
            self.refused_hooks.clone_from(&report.refused_hooks);
            self.hooks.clone_from(&report.hooks);
        }
        let gone = report.devices.iter().filter(|device| device.gone).map(|device| device.incarnation);
        if let Some(epoch) = self.epochs.get_mut(&report.epoch) {
            epoch.gone.extend(gone);
            // Incarnations grow: the oldest are of pods that no edge speaks of any more.
            while epoch.gone.len() > MAX_GONE {
                epoch.gone.pop_first();
            }
        }
        let mut refused = |device| u64::from(!self.take_device(device, report, offset, now, max_devices));
        report.devices.iter().map(&mut refused).sum()
    }

    /// Something that it counted finds no room.
    pub fn shed(&mut self, grown: u64, now: Ns) {
        self.shed = self.shed.saturating_add(grown);
        match self.recent_losses.back_mut() {
            Some((at, COLLECTOR_FULL, count)) if *at == now => *count = count.saturating_add(grown),
            _ if grown > 0 => self.recent_losses.push_back((now, COLLECTOR_FULL, grown)),
            _ => {}
        }
    }

    /// Something that had found no room has found it.
    pub fn unshed(&mut self, back: u64) {
        self.shed = self.shed.saturating_sub(back);
    }

    fn take_device(&mut self, device: &Device, report: &Report, offset: Ns, now: Ns, max_devices: usize) -> bool {
        let key = (device.name.clone(), device.ifindex);
        if !self.devices.contains_key(&key) && self.devices.len() >= max_devices {
            let gone = self.devices.iter().find(|(_, account)| account.gone()).map(|(key, _)| key.clone());
            match gone {
                Some(gone) => self.devices.remove(&gone),
                None => return false,
            };
        }
        self.devices.entry(key).or_default().take(device, report, offset, now);
        true
    }

    /// Lets go of devices that have been gone for long.
    pub fn forget_devices(&mut self, now: Ns) {
        self.devices.retain(|_, account| !account.forgettable(now));
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
        let state = if recent.is_empty() { NodeState::Live } else { NodeState::Lossy };
        let lost = recent.iter().map(|(cause, count)| {
            let cause = cause::words(*cause);
            format!("{cause}: {count} lost in the last minute")
        });
        let shared = self.is_shared(now).then(|| "two agents report under this name".to_owned());
        let words = lost.chain(shared).collect::<Vec<_>>();
        (state, (!words.is_empty()).then(|| words.join("; ")))
    }

    /// An older run goes on reporting long after a newer one began: it is no restart, but two agents of one name.
    fn is_shared(&self, now: Ns) -> bool {
        let goes_on = |epoch: &Epoch| {
            let since = epoch.ended.unwrap_or(Ns::MAX);
            epoch.heard > since.saturating_add(TAKEOVER) && now.saturating_sub(epoch.heard) < LOST_AFTER
        };
        self.epochs.values().any(goes_on)
    }

    /// All losses by cause, over all epochs.
    #[must_use]
    pub fn losses(&self) -> Vec<LossRow> {
        let mut sum = self.folded_losses.clone();
        for (cause, count) in self.epochs.values().flat_map(|epoch| &epoch.losses) {
            let total = sum.entry(*cause).or_default();
            *total = total.saturating_add(*count);
        }
        sum.insert(COLLECTOR_FULL, self.shed);
        let named = sum.into_iter().filter(|(_, count)| *count > 0);
        named.map(|(cause, count)| LossRow { cause: cause::label(cause).to_owned(), count }).collect()
    }

    /// What full tables could not take, over all epochs.
    #[must_use]
    pub fn other(&self) -> Counters {
        self.epochs.values().fold(self.folded_other, |sum, epoch| sum.plus(&epoch.other))
    }

    /// What the kernel dropped that belongs to no edge, over all epochs.
    #[must_use]
    pub fn drops(&self) -> Drops {
        let mut sum = self.folded_drops.clone();
        self.epochs.values().for_each(|epoch| sum.add(&epoch.drops));
        sum
    }

    /// How often somebody removed the newest epoch's programs and they were attached again.
    #[must_use]
    pub fn reattached(&self) -> u64 {
        let newest = self.epoch().map_or(0, |(epoch, _)| epoch);
        let runs = self.devices.values().flat_map(|account| &account.runs);
        runs.filter(|((epoch, _), _)| *epoch == newest).map(|(_, run)| u64::from(run.reattached)).sum()
    }

    /// What is not seen at all, and then what a lesser tier does not see.
    #[must_use]
    pub fn blind_spots(&self) -> Vec<BlindSpot> {
        let unwatched = |run: &DeviceRun| run.tier == Tier::Unwatched as i32;
        let mut blind: Vec<_> =
            self.current_devices().filter(|(_, run)| unwatched(run) || !run.blind_spot.is_empty()).collect();
        blind.sort_by_key(|(_, run)| !unwatched(run));
        let spot =
            |(name, run): (&str, &DeviceRun)| BlindSpot { device: name.to_owned(), reason: run.blind_spot.clone() };
        blind.into_iter().map(spot).collect()
    }

    /// How many devices are watched in which way.
    #[must_use]
    pub fn tiers(&self) -> Vec<TierRow> {
        let mut counts: BTreeMap<&'static str, u32> = BTreeMap::new();
        for (_, run) in self.current_devices() {
            *counts.entry(tier_label(run.tier)).or_default() += 1;
        }
        counts.into_iter().map(|(tier, devices)| TierRow { tier: tier.to_owned(), devices }).collect()
    }
}

/// A tier's name.
#[must_use]
pub fn tier_label(tier: i32) -> &'static str {
    match Tier::try_from(tier) {
        Ok(Tier::Tcx) => "tcx",
        Ok(Tier::Clsact) => "clsact",
        Ok(Tier::CgroupSkb) => "cgroup_skb",
        Ok(Tier::Sockets) => "sockets",
        Ok(Tier::Unwatched) => "unwatched",
        Ok(Tier::Unspecified) | Err(_) => "unknown",
    }
}

/// Time of day, UTC.
fn clock_text(at: Ns) -> String {
    let seconds = at.div_euclid(SECOND).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
