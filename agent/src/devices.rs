//! Devices: which face a pod, which are tunnels and which leave the node, and the account of what each carried. Pure: what
//! the kernel said comes in as values.

mod cgroup;
mod class;

use std::collections::BTreeMap;

use agent_ebpf::abi::DirectionTotals;
use wire::v1::{Device as WireDevice, DeviceCounters, Tier};

pub use self::cgroup::Cgroup;
pub use self::class::{Carried, Link, LinkKind, NodeFacts, classify, tunnel_ports};
use crate::points::{Class, Place, Rest};

/// A device we watch, or would.
#[derive(Debug, Clone)]
pub struct Device {
    /// Name when it was found.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// Unique in the epoch; grows.
    pub incarnation: u64,
    /// The class of hook it makes.
    pub class: Class,
    /// What it is.
    pub kind: LinkKind,
    /// How it is watched.
    pub tier: Tier,
    /// What is not seen of it, and why; `None` where all is.
    pub blind_spot: Option<String>,
    /// How often somebody took our programs off and they were put back.
    pub reattached: u32,
    /// When the programs were attached, Unix nanoseconds.
    pub covered_since_unix_ns: u64,
    /// The kernel took it away; this is when, in monotonic nanoseconds.
    pub gone_ns: Option<u64>,
    /// What it had carried when the programs were attached; `None` until that could be read at a quiet moment.
    gap: Option<[Carried; 2]>,
    /// Seen and carried at the last quiet moment.
    sample: Option<[(DirectionTotals, Carried); 2]>,
    /// What our programs saw when last asked; kept for a device that is gone.
    latest: [DirectionTotals; 2],
    /// Packets that no flow's entry gave back, at the worst quiet moment.
    drain_lost: u64,
    /// Somebody took our programs off and they are not back yet.
    taken: bool,
    /// What of it is in no edge by its doing.
    rest: [Rest; 2],
}

/// How long a gone device is remembered, so that its last flows find its name: longer than a flow may idle.
pub const GONE_FOR_NS: u64 = 60_000_000_000;

/// All devices of this epoch that are not forgotten yet, by interface index.
#[derive(Debug, Default)]
pub struct Devices {
    by_ifindex: BTreeMap<u32, Device>,
    /// Gone ones whose index may have been given away.
    gone: Vec<Device>,
    last_incarnation: u64,
    cgroup: Option<Cgroup>,
    bypassed: bool,
    /// Drain losses of devices that are forgotten.
    forgotten_drain_lost: u64,
}

impl Devices {
    /// Enters a device, attached or refused; a namesake on the same index is gone then.
    pub fn add(&mut self, link: &Link, class: Class, covered_since_unix_ns: u64, blind_spot: Option<String>) -> u64 {
        self.last_incarnation += 1;
        let device = Device {
            name: link.name.clone(),
            ifindex: link.ifindex,
            incarnation: self.last_incarnation,
            class,
            kind: link.kind,
            tier: if blind_spot.is_none() { Tier::Tcx } else { Tier::Unwatched },
            blind_spot,
            reattached: 0,
            covered_since_unix_ns,
            gone_ns: None,
            gap: None,
            sample: None,
            latest: [DirectionTotals::default(); 2],
            drain_lost: 0,
            taken: false,
            rest: [Rest::default(); 2],
        };
        if let Some(old) = self.by_ifindex.insert(link.ifindex, device) {
            self.gone.push(old);
        }
        self.last_incarnation
    }

    /// Notes how a device is watched, and how often it had to be put back.
    pub fn set_tier(&mut self, ifindex: u32, tier: Tier, reattached: u32) {
        if let Some(device) = self.by_ifindex.get_mut(&ifindex) {
            (device.tier, device.reattached) = (tier, reattached);
        }
    }

    /// Notes what is not seen of a device, apart from how it is watched.
    pub fn set_place(&mut self, ifindex: u32, why: Option<String>) {
        if let Some(device) = self.by_ifindex.get_mut(&ifindex) {
            device.blind_spot = why;
        }
    }

    /// Notes that somebody took our programs off.
    pub fn set_taken(&mut self, ifindex: u32) {
        if let Some(device) = self.by_ifindex.get_mut(&ifindex) {
            device.taken = true;
        }
    }

    /// Indexes of the devices from which somebody took our programs.
    pub fn taken(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_present().filter(|device| device.taken).map(|device| device.ifindex)
    }

    /// Ends a device's account at what our programs saw last: what it carried since the last quiet moment until they
    /// were gone is what they saw of it.
    pub fn close(&mut self, ifindex: u32) {
        if let Some(device) = self.by_ifindex.get_mut(&ifindex)
            && let Some(sample) = &mut device.sample
        {
            for ((seen, carried), latest) in sample.iter_mut().zip(device.latest) {
                carried.skbs += latest.skbs.saturating_sub(seen.skbs);
                carried.bytes += latest.bytes.saturating_sub(seen.bytes);
                *seen = latest;
            }
        }
    }

    /// Notes whether packets reach pods past their devices.
    pub fn set_bypassed(&mut self, bypassed: bool) {
        self.bypassed = bypassed;
    }

    /// Enters the cgroup whose sockets are watched.
    pub fn add_cgroup(&mut self, covered_since_unix_ns: u64, blind_spot: &str) {
        let seen = [DirectionTotals::default(); 2];
        self.cgroup = Some(Cgroup { covered_since_unix_ns, blind_spot: blind_spot.to_owned(), seen });
    }

    /// The cgroup is watched no more.
    pub fn remove_cgroup(&mut self) {
        self.cgroup = None;
    }

    /// The cgroup that is watched, if one is.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Notes what the cgroup's programs saw.
    pub fn cgroup_saw(&mut self, seen: [DirectionTotals; 2]) {
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.seen = seen;
        }
    }

    /// Marks a device gone.
    pub fn remove(&mut self, ifindex: u32, now_ns: u64) {
        if let Some(device) = self.by_ifindex.get_mut(&ifindex) {
            device.gone_ns.get_or_insert(now_ns);
        }
    }

    /// Forgets devices that have been gone long enough for all to have been told; gives the indexes that are free now.
    pub fn forget(&mut self, now_ns: u64) -> Vec<u32> {
        let lost = &mut self.forgotten_drain_lost;
        let mut keep = |device: &Device| {
            let keep = device.gone_ns.is_none_or(|gone| now_ns.saturating_sub(gone) < GONE_FOR_NS);
            *lost += if keep { 0 } else { device.drain_lost };
            keep
        };
        let mut free = Vec::new();
        self.by_ifindex.retain(|ifindex, device| {
            let kept = keep(device);
            if !kept {
                free.push(*ifindex);
            }
            kept
        });
        self.gone.retain(keep);
        free
    }

    /// Notes how many packets of a device no flow's entry gave back, at a quiet moment. It only grows.
    pub fn drain_mismatch(&mut self, ifindex: u32, packets: u64) {
        if let Some(device) = self.by_ifindex.get_mut(&ifindex) {
            device.drain_lost = device.drain_lost.max(packets);
        }
    }

    /// Packets that no flow's entry gave back, on all devices of this epoch.
    #[must_use]
    pub fn drain_lost(&self) -> u64 {
        let known = self.gone.iter().chain(self.by_ifindex.values()).map(|device| device.drain_lost);
        self.forgotten_drain_lost + known.sum::<u64>()
    }

    /// The device at this index, if it is there.
    #[must_use]
    pub fn present(&self, ifindex: u32) -> Option<&Device> {
        self.by_ifindex.get(&ifindex).filter(|device| device.gone_ns.is_none())
    }

    /// A device's name, also of one that is gone.
    #[must_use]
    pub fn name(&self, ifindex: u32) -> Option<String> {
        self.by_ifindex.get(&ifindex).map(|device| device.name.clone())
    }

    /// How many devices each tier has.
    #[must_use]
    pub fn tiers(&self) -> BTreeMap<Tier, i64> {
        let mut tiers = BTreeMap::new();
        for device in self.iter_present() {
            *tiers.entry(device.tier).or_default() += 1;
        }
        tiers
    }

    /// Indexes of the devices our programs are on.
    pub fn watched(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_present().filter(|device| device.is_watched()).map(|device| device.ifindex)
    }

    /// Indexes of the devices that are there and face no pod.
    pub fn lesser(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_present().filter(|device| device.class != Class::Pod).map(|device| device.ifindex)
    }

    /// Devices that are there.
    pub fn iter_present(&self) -> impl Iterator<Item = &Device> {
        self.by_ifindex.values().filter(|device| device.gone_ns.is_none())
    }

    /// Where flows of this index were seen. Index 0 is no device's: such flows are the cgroups'.
    #[must_use]
    pub fn place(&self, ifindex: u32) -> Place {
        if ifindex == 0 {
            return Place { class: Class::Cgroup, device: 0 };
        }
        let place = |device: &Device| Place { class: device.class, device: device.incarnation };
        self.by_ifindex.get(&ifindex).map_or(Place::default(), place)
    }

    /// Incarnation of the uplink that stands for the node: the one that was there first; 0 without one.
    #[must_use]
    pub fn first_uplink(&self) -> u64 {
        let uplinks = self.iter_present().filter(|device| device.class == Class::Uplink);
        uplinks.map(|device| device.incarnation).min().unwrap_or(0)
    }

    /// Notes what of a device's packets is in no edge by its doing.
    pub fn set_rest(&mut self, ifindex: u32, rest: [Rest; 2]) {
        if let Some(device) = self.by_ifindex.get_mut(&ifindex) {
            device.rest = rest;
        }
    }

    /// Notes what our programs saw.
    pub fn saw(&mut self, ifindex: u32, seen: [DirectionTotals; 2]) {
        if let Some(device) = self.by_ifindex.get_mut(&ifindex) {
            device.latest = seen;
        }
    }

    /// Notes a quiet moment: `before` and `after` are what our programs saw on either side of reading `carried`. Says
    /// whether it was quiet. The first quiet moment also tells what had passed before we came.
    pub fn settle(
        &mut self,
        ifindex: u32,
        before: [DirectionTotals; 2],
        carried: [Carried; 2],
        after: [DirectionTotals; 2],
    ) -> bool {
        let Some(device) = self.by_ifindex.get_mut(&ifindex) else {
            return false;
        };
        device.latest = after;
        if before != after {
            return false;
        }
        let pairs = [(after[0], carried[0]), (after[1], carried[1])];
        device.gap.get_or_insert_with(|| {
            pairs.map(|(seen, carried)| Carried {
                skbs: carried.skbs.saturating_sub(seen.skbs),
                bytes: carried.bytes.saturating_sub(seen.bytes),
            })
        });
        device.sample = Some(pairs);
        true
    }

    /// Notes what a device carried that nobody watches: all of it is unseen.
    pub fn carried_unwatched(&mut self, ifindex: u32, carried: [Carried; 2]) {
        if let Some(device) = self.by_ifindex.get_mut(&ifindex).filter(|device| device.tier == Tier::Unwatched) {
            device.sample = Some(carried.map(|carried| (DirectionTotals::default(), carried)));
        }
    }

    /// Whether this device's account has never been read at a quiet moment. Only pods' devices wait for one.
    #[must_use]
    pub fn unsettled(&self, ifindex: u32) -> bool {
        let waits = |device: &Device| device.comparable() && device.sample.is_none() && device.is_watched();
        self.by_ifindex.get(&ifindex).is_some_and(waits)
    }

    /// All devices, for a report.
    #[must_use]
    pub fn report(&self) -> Vec<WireDevice> {
        let devices = self.gone.iter().chain(self.by_ifindex.values());
        let devices = devices.map(|device| device.report(self.bypassed && device.class == Class::Pod));
        devices.chain(self.cgroup.as_ref().map(Cgroup::report)).collect()
    }
}

impl Device {
    /// Our programs are on the device itself.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        matches!(self.tier, Tier::Tcx | Tier::Clsact)
    }

    /// Whether `stats64` counts what our programs see. A pod's device does; an uplink's counts packets on the wire, before
    /// they are merged and after they are cut, a tunnel's counts without the link header.
    fn comparable(&self) -> bool {
        self.class == Class::Pod
    }

    fn report(&self, bypassed: bool) -> WireDevice {
        let sample = self.sample.filter(|_| self.comparable());
        let gap = self.gap.filter(|_| self.comparable());
        let unsettled = gap.is_none() && self.tier != Tier::Unwatched;
        let gap = gap.unwrap_or_default();
        let counters = |way: usize| {
            // Where no quiet moment was found, what was seen is told without a `carried` to hold it against.
            let (seen, carried) = sample.map_or((self.latest[way], Carried::default()), |sample| sample[way]);
            DeviceCounters {
                seen_skbs: seen.skbs,
                seen_bytes: seen.bytes,
                attach_gap_skbs: gap[way].skbs,
                attach_gap_bytes: gap[way].bytes,
                carried_skbs: carried.skbs,
                carried_bytes: carried.bytes,
                link_control_skbs: self.latest[way].link_control,
                malformed_skbs: self.latest[way].malformed,
                elsewhere_skbs: self.rest[way].elsewhere,
                transit_skbs: self.rest[way].transit,
                translated_skbs: self.rest[way].translated,
            }
        };
        WireDevice {
            name: self.name.clone(),
            ifindex: self.ifindex,
            incarnation: self.incarnation,
            tier: self.tier.into(),
            blind_spot: self.blind_spot.clone().unwrap_or_default(),
            ingress: Some(counters(0)),
            egress: Some(counters(1)),
            covered_since_unix_ns: self.covered_since_unix_ns,
            gone: self.gone_ns.is_some(),
            unsettled,
            point: self.class.point().into(),
            tunnel: match self.kind {
                LinkKind::Tunnel(kind, _) => kind.label().to_owned(),
                _ => String::new(),
            },
            reattached: self.reattached,
            bypassed,
        }
    }
}
