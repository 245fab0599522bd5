//! The sockets' cgroup, which is told as if it were a device.

use agent_ebpf::abi::DirectionTotals;
use wire::v1::{Device as WireDevice, DeviceCounters, Tier};

use crate::points::Class;

/// The cgroup whose sockets are watched: no device, but told as one.
#[derive(Debug, Clone)]
pub struct Cgroup {
    pub(super) covered_since_unix_ns: u64,
    pub(super) blind_spot: String,
    pub(super) seen: [DirectionTotals; 2],
}

impl Cgroup {
    pub(super) fn report(&self) -> WireDevice {
        let counters = |way: usize| DeviceCounters {
            seen_skbs: self.seen[way].skbs,
            seen_bytes: self.seen[way].bytes,
            ..DeviceCounters::default()
        };
        WireDevice {
            name: "cgroup".to_owned(),
            tier: Tier::CgroupSkb.into(),
            point: Class::Cgroup.point().into(),
            blind_spot: self.blind_spot.clone(),
            ingress: Some(counters(0)),
            egress: Some(counters(1)),
            covered_since_unix_ns: self.covered_since_unix_ns,
            // No counter of the kernel's to be held against.
            unsettled: true,
            ..WireDevice::default()
        }
    }
}
