//! Puts hooks where they belong and looks after them: the tier of each device, what is said when a hook is refused or
//! taken away, and what becomes of it when a later run of the agent takes over.

use agent_ebpf::abi::{CGROUP_IFINDEX, DeviceTotals, LinkType, TunnelPorts};
use tracing::{info, warn};
use wire::v1::Tier;

use crate::{
    clock,
    devices::Link,
    drain::Node,
    points::Class,
    source::kernel::{KernelError, attach::Held, links::is_there},
    tiers::{self, Retake, Watched},
};

/// The longest reason told for a device that could not be attached to.
const MAX_REASON_BYTES: usize = wire::limits::MAX_TEXT_BYTES / 2;
/// A device's place in the chain is looked at once in so many accounts.
const PLACE_EVERY: u64 = 5;

impl Node {
    /// Puts our programs on a device by the best tier that is granted; `None` of a device that went meanwhile: that grants no
    /// tier, and is no reason for a lesser one.
    pub(crate) fn hook(&mut self, link: &Link, class: Class) -> Option<Watched> {
        let fresh = DeviceTotals {
            link_type: link.link_type.unwrap_or(LinkType::Ethernet) as u8,
            // What a tunnel carries passes pods' devices too, unless Cilium hands it on behind them.
            dns: u8::from(class != Class::Tunnel || self.offer.cilium),
            tunnel_ports: if class == Class::Uplink { self.hashed_ports } else { TunnelPorts::default() },
            ..DeviceTotals::default()
        };
        let mut refused = Vec::new();
        for tier in tiers::order(self.tier, self.offer) {
            let outcome = match tier {
                Tier::Tcx => self.kernel.attach(link.ifindex, fresh),
                Tier::Clsact => self.kernel.attach_clsact(link.ifindex, fresh),
                Tier::CgroupSkb => self.watch_cgroup(),
                _ => Ok(()),
            };
            match outcome {
                Ok(()) => {
                    refused.extend(Some(tiers::blind_spot(*tier).to_owned()).filter(|why| !why.is_empty()));
                    return Some(Watched { tier: *tier, why: reason(&refused) });
                }
                Err(_) if !is_there(link.ifindex) => return None,
                Err(error) => {
                    let why = format!("{}: {:#}", tiers::name(*tier), anyhow::Error::from(error));
                    self.refuse(&format!("{} on {}", why, link.name));
                    refused.push(why);
                }
            }
        }
        Some(Watched { tier: Tier::Unwatched, why: reason(&refused) })
    }

    pub(crate) fn attach(&mut self, link: &Link, class: Class) {
        // A flow that an earlier device of this index left must not count for this one.
        self.table.forget_device(link.ifindex);
        let Some(watched) = self.hook(link, class) else { return };
        let (tier, why) = (watched.tier.as_str_name(), watched.why.as_deref());
        match why {
            None => info!(device = %link.name, ?class, tier, "watching device"),
            Some(why) => warn!(device = %link.name, tier, why, "device not watched, or not wholly"),
        }
        self.add_device(link, class, watched);
    }

    pub(crate) fn add_device(&mut self, link: &Link, class: Class, watched: Watched) {
        let now_unix_ns = self.moment().clock.unix_ns(clock::monotonic_ns());
        self.devices.add(link, class, now_unix_ns, watched.why);
        self.devices.set_tier(link.ifindex, watched.tier, self.removals.times(link.ifindex));
    }

    /// Beside Cilium some packets pass by all devices: the sockets' cgroup is watched as well.
    pub(crate) fn watch_beside(&mut self) {
        if tiers::cgroup_beside(self.tier, self.offer)
            && !self.superseded
            && let Err(error) = self.watch_cgroup()
        {
            self.refuse(&format!("cgroup: {:#}", anyhow::Error::from(error)));
        }
    }

    /// Puts our programs on the cgroup of the pods' sockets, once.
    fn watch_cgroup(&mut self) -> Result<(), KernelError> {
        if self.devices.cgroup().is_some() {
            return Ok(());
        }
        self.kernel.attach_cgroup(self.cgroup.as_deref())?;
        info!("watching the cgroup of the pods' sockets");
        let now_unix_ns = self.moment().clock.unix_ns(clock::monotonic_ns());
        self.devices.add_cgroup(now_unix_ns, tiers::blind_spot(Tier::CgroupSkb));
        Ok(())
    }

    /// Notes a refusal for the screen.
    fn refuse(&mut self, why: &str) {
        let mut why = why.to_owned();
        // The collector refuses longer texts, and the whole report with them.
        why.truncate(why.floor_char_boundary(MAX_REASON_BYTES));
        if self.refused_hooks.len() < wire::limits::MAX_REFUSED_HOOKS && !self.refused_hooks.contains(&why) {
            self.refused_hooks.push(why);
        }
    }

    /// Looks whether our programs are still where they were put, and puts back what somebody took. Gives the devices
    /// whose programs were there all along: only their accounts can be held against the kernel's.
    pub(crate) fn look_after(&mut self, links: &[Link]) -> Vec<u32> {
        self.looks += 1;
        self.devices.set_bypassed(self.table.bypassed(clock::monotonic_ns()));
        let watched: Vec<u32> = self.devices.watched().collect();
        let mut held = Vec::new();
        for ifindex in watched {
            match self.kernel.hooks().held(ifindex) {
                Held::Ours => held.push(ifindex),
                // A device that went since took its hooks along; that is told elsewhere.
                Held::Removed => {
                    if let Some(link) = links.iter().find(|link| link.ifindex == ifindex && is_there(ifindex)) {
                        self.lose(link);
                    }
                }
                Held::TakenOver => self.hand_over(ifindex),
            }
        }
        if self.devices.cgroup().is_some() {
            match self.kernel.hooks().held(CGROUP_IFINDEX) {
                Held::Ours => {}
                Held::TakenOver => self.superseded = true,
                Held::Removed => {
                    warn!("our programs were taken off the cgroup");
                    self.kernel.detach(CGROUP_IFINDEX);
                    self.devices.remove_cgroup();
                    if let Err(error) = self.watch_cgroup() {
                        self.refuse(&format!("cgroup: {:#}", anyhow::Error::from(error)));
                    }
                }
            }
        }
        let off: Vec<u32> = self.devices.taken().collect();
        for ifindex in off {
            if let Some(link) = links.iter().find(|link| link.ifindex == ifindex) {
                self.retake(link);
            }
        }
        if self.looks.is_multiple_of(PLACE_EVERY) {
            for ifindex in &held {
                let others = self.kernel.hooks().behind(*ifindex);
                let why = match others {
                    0 => None,
                    _ => Some(format!("behind {others} of another's programs: what they take or redirect is not seen")),
                };
                self.devices.set_place(*ifindex, why);
            }
        }
        held
    }

    /// Somebody took our programs off a device.
    fn lose(&mut self, link: &Link) {
        let now_ns = clock::monotonic_ns();
        warn!(device = %link.name, "our programs were taken off the device");
        self.close_account(link.ifindex, now_ns);
        self.kernel.detach(link.ifindex);
        self.pace.active(now_ns);
        self.ledger.hooks_taken.inc();
        let class = self.devices.place(link.ifindex).class;
        let why = Some("our programs were taken off".to_owned());
        self.add_device(link, class, Watched { tier: Tier::Unwatched, why });
        self.devices.set_taken(link.ifindex);
        self.retake(link);
    }

    /// Puts our programs back on a device from which somebody took them, if it is time.
    fn retake(&mut self, link: &Link) {
        let now_ns = clock::monotonic_ns();
        match self.removals.retake(link.ifindex, now_ns) {
            Retake::Now if !self.superseded => {
                self.removals.retaken(link.ifindex, now_ns);
                let class = self.devices.place(link.ifindex).class;
                self.devices.remove(link.ifindex, now_ns);
                self.attach(link, class);
            }
            Retake::Never => {
                let why = "our programs were taken off again and again: the place is left to whoever wants it";
                self.devices.set_place(link.ifindex, Some(why.to_owned()));
            }
            _ => {}
        }
    }

    /// A later run of the agent has put its programs in our place: what ours counted is final.
    fn hand_over(&mut self, ifindex: u32) {
        if !self.superseded {
            info!("a later run of the agent takes over");
        }
        self.superseded = true;
        let now_ns = clock::monotonic_ns();
        self.close_account(ifindex, now_ns);
        self.pace.active(now_ns);
    }

    /// Ends a device's account where its programs ended: all that it carried until then, they saw.
    fn close_account(&mut self, ifindex: u32, now_ns: u64) {
        if let Some(seen) = self.kernel.device(ifindex) {
            self.devices.saw(ifindex, seen);
        }
        self.devices.close(ifindex);
        self.devices.remove(ifindex, now_ns);
    }

    /// A later run of the agent says so where the pins are, even if there is no device to take over.
    pub(crate) fn look_for_successor(&mut self) {
        let epoch = self.epoch;
        self.superseded |= self.kernel.hooks().pins().is_some_and(|pins| !pins.owned_by(epoch));
    }

    /// Takes our programs off everything that a later run has not taken over.
    pub fn detach(&mut self) {
        let _guard = self.kernel.hooks().pins().and_then(|pins| pins.lock().ok());
        let watched: Vec<_> = self.devices.watched().collect();
        for ifindex in watched.into_iter().chain([CGROUP_IFINDEX]) {
            self.kernel.detach(ifindex);
        }
        let epoch = self.epoch;
        if let Some(pins) = self.kernel.hooks().pins().filter(|pins| pins.owned_by(epoch)) {
            pins.close();
        }
    }
}

fn reason(parts: &[String]) -> Option<String> {
    let mut why = parts.join("; ");
    why.truncate(why.floor_char_boundary(MAX_REASON_BYTES));
    Some(why).filter(|why| !why.is_empty())
}
