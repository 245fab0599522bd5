//! Which tiers a device may have, and when a hook that somebody took from us is taken back. Pure; `now` is an argument.

use std::collections::HashMap;

use wire::v1::Tier;

use crate::config::TierChoice;

/// A device's hooks are taken back this often at the most.
const RETRY_NS: u64 = 5_000_000_000;
/// After so many times in a row the place is left to whoever wants it.
const ATTEMPTS: u32 = 6;
/// A removal so long ago is not held against anybody.
const FORGIVEN_NS: u64 = 600_000_000_000;

/// What the machine offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offer {
    /// The kernel has TCX.
    pub tcx: bool,
    /// Cilium is there.
    pub cilium: bool,
}

/// The tiers to try for a device, best first. Beside Cilium no filter is put on a device: it deletes all of them, or
/// stands in front and lets nothing through.
#[must_use]
pub fn order(choice: TierChoice, offer: Offer) -> &'static [Tier] {
    match choice {
        TierChoice::Tcx => &[Tier::Tcx],
        TierChoice::Clsact => &[Tier::Clsact],
        TierChoice::CgroupSkb => &[Tier::CgroupSkb],
        TierChoice::Sockets => &[Tier::Sockets],
        TierChoice::Auto if offer.tcx => &[Tier::Tcx, Tier::CgroupSkb],
        TierChoice::Auto if offer.cilium => &[Tier::CgroupSkb],
        TierChoice::Auto => &[Tier::Clsact, Tier::CgroupSkb],
    }
}

/// Whether the cgroup is watched beside the devices: what Cilium delivers on its own node with `bpf_redirect_peer` is seen
/// at no device.
#[must_use]
pub fn cgroup_beside(choice: TierChoice, offer: Offer) -> bool {
    offer.cilium && matches!(choice, TierChoice::Auto)
}

/// Every tier, best first.
pub const ALL: [Tier; 5] = [Tier::Tcx, Tier::Clsact, Tier::CgroupSkb, Tier::Sockets, Tier::Unwatched];

/// A tier as `--tier` spells it.
#[must_use]
pub fn name(tier: Tier) -> &'static str {
    match tier {
        Tier::Tcx => "tcx",
        Tier::Clsact => "clsact",
        Tier::CgroupSkb => "cgroup-skb",
        Tier::Sockets => "sockets",
        Tier::Unspecified | Tier::Unwatched => "unwatched",
    }
}

/// What a tier does not see of a device, in words; empty where it sees all.
#[must_use]
pub fn blind_spot(tier: Tier) -> &'static str {
    match tier {
        Tier::CgroupSkb => {
            "TCP and UDP of sockets in the cgroup only: no ICMP, nothing that is only forwarded, nothing before a socket \
             takes it; fragments count as the datagram they make"
        }
        Tier::Sockets => "connections only, no packets",
        _ => "",
    }
}

/// How a device is watched, and what is not seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// By which tier.
    pub tier: Tier,
    /// What is not seen, and why; `None` where everything is.
    pub why: Option<String>,
}

/// What is to be done about a hook that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retake {
    /// Put it back.
    Now,
    /// Not yet: it was put back a moment ago.
    Later,
    /// Leave it: it was taken too often.
    Never,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    times: u32,
    in_a_row: u32,
    last_ns: u64,
}

/// How often hooks were taken from us, by device.
#[derive(Debug, Default)]
pub struct Removals {
    by_ifindex: HashMap<u32, Taken>,
}

impl Removals {
    /// What to do now about a device whose hook is gone.
    #[must_use]
    pub fn retake(&self, ifindex: u32, now_ns: u64) -> Retake {
        let Some(taken) = self.by_ifindex.get(&ifindex) else { return Retake::Now };
        let since = now_ns.saturating_sub(taken.last_ns);
        match taken.in_a_row {
            _ if since >= FORGIVEN_NS => Retake::Now,
            ATTEMPTS.. => Retake::Never,
            _ if since < RETRY_NS => Retake::Later,
            _ => Retake::Now,
        }
    }

    /// Notes that it was put back.
    pub fn retaken(&mut self, ifindex: u32, now_ns: u64) {
        let taken = self.by_ifindex.entry(ifindex).or_default();
        if taken.times > 0 && now_ns.saturating_sub(taken.last_ns) >= FORGIVEN_NS {
            taken.in_a_row = 0;
        }
        *taken = Taken { times: taken.times + 1, in_a_row: taken.in_a_row + 1, last_ns: now_ns };
    }

    /// How often a device's hooks were put back.
    #[must_use]
    pub fn times(&self, ifindex: u32) -> u32 {
        self.by_ifindex.get(&ifindex).map_or(0, |taken| taken.times)
    }

    /// Forgets a device that is gone.
    pub fn forget(&mut self, ifindex: u32) {
        self.by_ifindex.remove(&ifindex);
    }
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS, FORGIVEN_NS, Offer, RETRY_NS, Removals, Retake, Tier, TierChoice, cgroup_beside, order};

    #[test]
    fn filters_are_for_old_kernels_without_cilium() {
        let auto = |tcx, cilium| order(TierChoice::Auto, Offer { tcx, cilium });
        assert_eq!(auto(true, false), [Tier::Tcx, Tier::CgroupSkb]);
        assert_eq!(auto(true, true), [Tier::Tcx, Tier::CgroupSkb]);
        assert_eq!(auto(false, false), [Tier::Clsact, Tier::CgroupSkb]);
        assert_eq!(auto(false, true), [Tier::CgroupSkb]);
        let beside = |choice, cilium| cgroup_beside(choice, Offer { tcx: true, cilium });
        assert!(beside(TierChoice::Auto, true) && !beside(TierChoice::Auto, false) && !beside(TierChoice::Tcx, true));
        assert_eq!(order(TierChoice::Clsact, Offer { tcx: true, cilium: true }), [Tier::Clsact], "forced is forced");
    }

    #[test]
    fn a_hook_is_taken_back_at_a_bounded_rate_and_not_for_ever() {
        let mut removals = Removals::default();
        let mut now_ns = 1;
        for times in 0..ATTEMPTS {
            assert_eq!(removals.retake(7, now_ns), Retake::Now, "{times}");
            removals.retaken(7, now_ns);
            if times + 1 < ATTEMPTS {
                assert_eq!(removals.retake(7, now_ns + RETRY_NS - 1), Retake::Later);
            }
            now_ns += RETRY_NS;
        }
        assert_eq!((removals.retake(7, now_ns), removals.times(7)), (Retake::Never, ATTEMPTS));
        assert_eq!(removals.retake(8, now_ns), Retake::Now, "each device for itself");
        now_ns += FORGIVEN_NS;
        assert_eq!(removals.retake(7, now_ns), Retake::Now);
        removals.retaken(7, now_ns);
        assert_eq!((removals.retake(7, now_ns + RETRY_NS), removals.times(7)), (Retake::Now, ATTEMPTS + 1));
        removals.forget(7);
        assert_eq!(removals.times(7), 0);
    }
}
