//! Flows that a lesser class of hook saw (tunnels, uplinks, cgroups): they count only where no better class does.

use agent_ebpf::abi::{EVENT_LOCAL_SOCKET, Event, FLOW_LOCAL_SOCKET, FlowKey, FlowTotals};

use super::{Flow, Folded, Table, Target};
use crate::{
    edge::{EdgeId, Moment, Orientation, carrier_id, edge_id, grew, known_orientation, single},
    home::{TunnelKind, UNKNOWN_NS},
    points::{Class, HOLD_NS, Local, PathKey, Place, Rest, Verdict},
};

/// Packets without a flow that wait for a better class to speak.
pub const MAX_UNMAPPED: usize = 16_384;

/// Growth that is not decided yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// The flow as it was when everything of it was decided.
    base: FlowTotals,
    since_ns: u64,
}

/// Whose a flow is.
enum Fate {
    Local(Local),
    Carrier(Local, TunnelKind, u16),
    Translated,
    Unknown,
}

impl Table {
    /// What of a device's packets is in no edge by its doing, by direction.
    #[must_use]
    pub fn rest(&self, ifindex: u32) -> [Rest; 2] {
        [0, 1].map(|direction| self.rest.get(&(ifindex, direction)).copied().unwrap_or_default())
    }

    /// Packets without a flow that found no place to wait: they are in no edge.
    #[must_use]
    pub fn unheld(&self) -> u64 {
        self.unheld
    }

    /// Takes notice of a lesser class's flow, before any of them is judged.
    pub(super) fn meet(&mut self, key: &FlowKey, totals: &FlowTotals, place: Place) {
        let path = PathKey::of(key, place.class);
        if !self.flows.contains_key(key) {
            self.paths.enter(path);
            let waits = Waits { base: FlowTotals::default(), since_ns: totals.first_ns };
            let flow = Flow { waits: Some(Box::new(waits)), ..Flow::new(place, Target::Nowhere) };
            self.flows.insert(*key, flow);
        }
        if totals.flags & FLOW_LOCAL_SOCKET != 0 {
            self.paths.from_socket(path, totals.cgroup);
        }
    }

    /// Reads a lesser class's flow: what it grew by waits, counts, or is known to be counted elsewhere. `last` says that
    /// nothing more will come: then it waits no longer.
    pub(super) fn read_lesser(
        &mut self,
        key: &FlowKey,
        totals: &FlowTotals,
        place: Place,
        moment: Moment,
        last: bool,
        folded: &mut Folded,
    ) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let delta = totals.since(&flow.counted);
        let before = std::mem::replace(&mut flow.counted, *totals);
        *self.folded.entry((key.ifindex, key.direction)).or_default() += packets(&delta);
        let waits = flow.waits.take().map_or(Waits { base: before, since_ns: moment.now_ns }, |waits| *waits);
        let mut due = totals.since(&waits.base);
        if !grew(&due) {
            return;
        }
        let waited_ns = if last { u64::MAX } else { moment.now_ns.saturating_sub(waits.since_ns) };
        let hook = (place.class, key.ifindex);
        let path = PathKey::of(key, place.class);
        let settled = matches!(flow.target, Target::Transit);
        let late = waits.base.skbs > 0 && !matches!(flow.target, Target::Edge(_) | Target::Other);
        let fate = self.fate(key, place);
        // A device that does not know whose a packet is owns nothing of it, lest the cgroup that knows stand back.
        if matches!(fate, Fate::Unknown) && !self.paths.covered(path, hook) {
            let elsewhere = self.paths.others(path, hook);
            let over = elsewhere || last || settled || waited_ns >= UNKNOWN_NS;
            return if over { self.give_up(key, &due, elsewhere) } else { self.wait(key, waits) };
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        // The better hook's flow may have ended a moment before this one: what it covered so far it covered to the end.
        let verdict = if last && flow.covered_ns > 0 && matches!(flow.target, Target::Nowhere) {
            Verdict::Covered
        } else {
            self.paths.judge(path, hook, totals.last_ns, waited_ns, &mut flow.covered_ns)
        };
        let mut changed = matches!(verdict, Verdict::Took | Verdict::Moved);
        match verdict {
            Verdict::Wait if !last => return self.wait(key, waits),
            Verdict::Wait | Verdict::Covered => {
                let arrives = matches!(fate, Fate::Local(local) if !local.is_source);
                if arrives && self.paths.is_pods(path) {
                    self.bypass.refuted();
                }
                return self.give_up(key, &due, true);
            }
            Verdict::Took => {
                self.rest_of(key).elsewhere += packets(&due).saturating_sub(packets(&delta));
                due = delta;
            }
            Verdict::Own | Verdict::Moved => {}
        }
        match fate {
            Fate::Unknown => self.give_up(key, &due, false),
            Fate::Translated => {
                self.rest_of(key).translated += packets(&due);
                let left = self.flows.get_mut(key).map(|flow| std::mem::replace(&mut flow.target, Target::Nowhere));
                self.leave(left.unwrap_or(Target::Nowhere));
            }
            Fate::Local(local) => {
                if !local.is_source && self.pods.device(&key.destination).is_some() {
                    self.bypass.met(packets(&due), moment.now_ns);
                }
                let known = known_orientation(key, totals.tcp_state);
                let orientation = match self.flows.get(key) {
                    Some(flow) if known.is_none() && matches!(flow.target, Target::Edge(_)) => flow.orientation,
                    _ => known.unwrap_or_else(|| self.orientation_of_new(key, local)),
                };
                changed |= late;
                if late {
                    due.first_ns = moment.now_ns;
                }
                let id = edge_id(key, orientation, local);
                self.count(key, id, orientation, local, &due, changed, place, moment, folded);
            }
            Fate::Carrier(local, kind, port) => {
                let (id, orientation) = carrier_id(key, kind, port, local);
                self.count(key, id, orientation, local, &due, changed, place, moment, folded);
            }
        }
    }

    /// Growth waits for the next reading.
    fn wait(&mut self, key: &FlowKey, waits: Waits) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.waits = Some(Box::new(waits));
        }
    }

    /// What a lesser hook saw of an address that nobody is known to have is another hook's, or *transit*.
    fn give_up(&mut self, key: &FlowKey, due: &FlowTotals, elsewhere: bool) {
        let target = if elsewhere { Target::Nowhere } else { Target::Transit };
        let left = self.flows.get_mut(key).map(|flow| std::mem::replace(&mut flow.target, target));
        self.leave(left.unwrap_or(Target::Nowhere));
        let rest = self.rest_of(key);
        let counter = if elsewhere { &mut rest.elsewhere } else { &mut rest.transit };
        *counter += packets(due);
    }

    /// Adds what a lesser class's flow grew by to its edge.
    #[expect(clippy::too_many_arguments, reason = "one step of the reading above, used twice")]
    fn count(
        &mut self,
        key: &FlowKey,
        id: EdgeId,
        orientation: Orientation,
        local: Local,
        delta: &FlowTotals,
        changed: bool,
        place: Place,
        moment: Moment,
        folded: &mut Folded,
    ) {
        let Some(flow) = self.flows.get(key) else { return };
        let stays = matches!(flow.target, Target::Edge(_) | Target::Other)
            && (flow.orientation.forward, flow.local) == (orientation.forward, local);
        let mut target = flow.target;
        if !stays {
            self.leave(target);
            target = self.target(key, id, orientation, moment.now_ns, moment, folded);
            self.join(target, orientation);
            self.mark(key, target, local, None);
            if let Some(flow) = self.flows.get_mut(key) {
                (flow.target, flow.orientation, flow.local) = (target, orientation, local);
            }
        }
        self.grow(target, orientation, delta, place, changed, moment, folded);
    }

    /// Whose a lesser class's flow is.
    fn fate(&self, key: &FlowKey, place: Place) -> Fate {
        let is_source = place.class.local_is_source(key);
        let address = if is_source { &key.source } else { &key.destination };
        if !self.home.addresses.contains(address) {
            return match (self.pods.device(address), place.class) {
                (Some(device), _) => Fate::Local(Local { is_source, device, cgroup: 0 }),
                // A socket is local whatever its address.
                (None, Class::Cgroup) => Fate::Local(Local { is_source, device: 0, cgroup: 0 }),
                (None, _) => Fate::Unknown,
            };
        }
        let local = |cgroup| Local { is_source, device: self.home.device, cgroup };
        // At a tunnel's device they are another tunnel's; before Linux 5.14 a GRE device also shows what arrives as it came.
        if matches!(place.class, Class::Tunnel | Class::Uplink)
            && let Some((kind, port)) = self.home.carrier(key)
        {
            return Fate::Carrier(local(0), kind, port);
        }
        let path = PathKey::of(key, place.class);
        let socket = if is_source {
            self.paths.socket(path)
        } else {
            // What comes in shows no socket: what went out the other way does. Nothing did: it is the node's own.
            self.paths.answers_socket(path).unwrap_or(Some(0))
        };
        match socket {
            Some(cgroup) => Fate::Local(local(cgroup)),
            None if place.class == Class::Cgroup => Fate::Local(local(0)),
            None => Fate::Translated,
        }
    }

    /// A packet without a flow at a lesser hook waits for the better ones.
    pub(super) fn hold_unmapped(&mut self, event: &Event) {
        if self.unmapped.len() < MAX_UNMAPPED {
            self.unmapped.push_back(*event);
        } else {
            self.unheld += 1;
        }
    }

    /// Packets without a flow that have waited long enough.
    pub(super) fn release_unmapped(&mut self, moment: Moment, place: &impl Fn(u32) -> Place, folded: &mut Folded) {
        let due = |event: &mut Event| moment.now_ns.saturating_sub(event.time_ns) >= HOLD_NS;
        while let Some(event) = self.unmapped.pop_front_if(due) {
            let (key, at) = (&event.key, place(event.key.ifindex));
            let path = PathKey::of(key, at.class);
            if self.paths.covered(path, (at.class, key.ifindex)) {
                self.rest_of(key).elsewhere += 1;
                continue;
            }
            let fate = match self.fate(key, at) {
                // This packet alone tells of its socket.
                Fate::Translated if event.flags & EVENT_LOCAL_SOCKET != 0 => {
                    Fate::Local(Local { is_source: at.class.local_is_source(key), device: self.home.device, cgroup: 0 })
                }
                fate => fate,
            };
            let (id, orientation) = match fate {
                Fate::Unknown => {
                    self.rest_of(key).transit += 1;
                    continue;
                }
                Fate::Translated => {
                    self.rest_of(key).translated += 1;
                    continue;
                }
                Fate::Local(local) => {
                    let orientation = self.orientation_of_event(&event, local);
                    (edge_id(key, orientation, local), orientation)
                }
                Fate::Carrier(local, kind, port) => carrier_id(key, kind, port, local),
            };
            let target = self.target(key, id, orientation, event.time_ns, moment, folded);
            self.add(target, orientation.forward, &single(&event), at, moment, folded);
        }
    }

    fn rest_of(&mut self, key: &FlowKey) -> &mut Rest {
        self.rest.entry((key.ifindex, key.direction)).or_default()
    }
}

/// Packets of a growth, as the device's program counted them.
fn packets(delta: &FlowTotals) -> u64 {
    delta.skbs + u64::from(delta.icmp_errors)
}
