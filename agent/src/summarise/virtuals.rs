//! New flows of pods' devices: whether they lead to who is named, or to a virtual address that the node translates.

use std::collections::{HashMap, HashSet};

use agent_ebpf::abi::{FlowKey, FlowTotals, tcp_state};
use wire::limits::MAX_VIAS;

use super::{Table, Target, pod_end};
use crate::{
    edge::{Moment, edge_id, known_orientation},
    points::{Class, HOLD_NS, Local, Place},
    via::{Client, End, destination, source},
};

type Reading = (FlowKey, FlowTotals);

/// A flow that left a pod's device and may be seen again under another destination.
struct Asked<'a> {
    key: &'a FlowKey,
    totals: &'a FlowTotals,
    /// It was seen further on as it is.
    direct: bool,
}

/// Where a client's packets were seen further on.
#[derive(Clone, Copy)]
struct Onward {
    to: End,
    /// The initial sequence number, where the connection's beginning was seen.
    opening: Option<u32>,
}

fn opening(totals: &FlowTotals) -> Option<u32> {
    (totals.tcp_state & tcp_state::OPENER != 0).then_some(totals.initial_seq)
}

impl Table {
    /// Whether a flow's counts wait until it is known where it leads.
    #[must_use]
    pub fn waits(&self, key: &FlowKey) -> bool {
        self.waiting.contains_key(key)
    }

    /// A pod's flow as it is after translation, and by way of which virtual address.
    pub(super) fn as_counted(&self, key: &FlowKey, at: Place) -> (FlowKey, Option<End>) {
        let translated = self.vias.translate(key, at.class.local_is_source(key));
        translated.map_or((*key, None), |(counts, via)| (counts, Some(via)))
    }

    /// Tells on an edge that clients reach it by a virtual address, or that it may count what another one counts, too.
    pub(super) fn mark(&mut self, key: &FlowKey, target: Target, local: Local, via: Option<End>) {
        let Target::Edge(id) = target else { return };
        let split = Client::of(key, local.is_source).is_some_and(|client| self.vias.is_split(client));
        let Some(edge) = self.edges.get_mut(&id).filter(|_| split || via.is_some()) else { return };
        if let Some(via) = via
            && edge.vias.len() < MAX_VIAS
            && !edge.vias.contains(&via)
        {
            edge.vias.push(via);
            edge.pending = true;
        }
        if split && via.is_none() && !edge.translated {
            edge.translated = true;
            edge.pending = true;
        }
    }

    /// Looks where new flows of pods lead, before any of them is counted; `readings` are those and what lesser classes saw.
    /// Those that were not seen further on yet wait for a moment: the packet is on its way.
    pub(super) fn look_onward(&mut self, readings: &[Reading], moment: Moment, place: &impl Fn(u32) -> Place) {
        self.look_astray(readings, place);
        let waited = std::mem::take(&mut self.waiting);
        self.ask_onward(readings, moment, place);
        for (key, read) in waited {
            match self.waiting.get_mut(&key) {
                Some(known) => *known = read,
                // It is counted now, and as a whole.
                None => {
                    let folded = self.folded.entry((key.ifindex, key.direction)).or_default();
                    *folded = folded.saturating_sub(read);
                }
            }
        }
    }

    /// Finds clients whose packets go on to another backend than the one they are joined with: the node sent them elsewhere
    /// in mid-flow. What they send counts where it did, and both edges say that they count the same.
    fn look_astray(&mut self, readings: &[Reading], place: &impl Fn(u32) -> Place) {
        if self.vias.held() == 0 {
            return;
        }
        let mut astray: HashMap<Client, HashSet<End>> = HashMap::new();
        for (key, _) in readings {
            let at = place(key.ifindex);
            let onward = at.class.local_is_source(key) != (at.class == Class::Pod);
            let Some(client) = Client::of(key, true).filter(|_| onward && !self.flows.contains_key(key)) else {
                continue;
            };
            if self.vias.goes_elsewhere(client, destination(key)) && !self.paths.seen_by_sender(key) {
                astray.entry(client).or_default().insert(destination(key));
            }
        }
        if astray.is_empty() {
            return;
        }
        let mut joined = Vec::new();
        for key in self.flows.iter().map(|(key, _)| key).chain(readings.iter().map(|(key, _)| key)) {
            let at = place(key.ifindex);
            if at.class != Class::Pod || !at.class.local_is_source(key) {
                continue;
            }
            let Some(client) = Client::of(key, true) else { continue };
            let Some(seen) = astray.get_mut(&client) else { continue };
            seen.remove(&destination(key));
            match self.flows.get(key) {
                Some(flow) if self.vias.translate(key, true).is_some() => joined.push((client, flow.target)),
                Some(_) => {}
                // It has just begun to speak to somebody else: that may be where this leads.
                None => seen.clear(),
            }
        }
        for (client, target) in joined {
            if astray.get(&client).is_none_or(HashSet::is_empty) {
                continue;
            }
            self.vias.split(client);
            if let Target::Edge(id) = target
                && let Some(edge) = self.edges.get_mut(&id)
            {
                edge.translated = true;
                edge.pending = true;
            }
        }
    }

    /// Reads a flow that waits: its device's account must not miss what it carried.
    pub(super) fn hold(&mut self, key: &FlowKey, totals: &FlowTotals) {
        let packets = totals.skbs + u64::from(totals.icmp_errors);
        if let Some(read) = self.waiting.get_mut(key) {
            *self.folded.entry((key.ifindex, key.direction)).or_default() += packets.saturating_sub(*read);
            *read = packets;
        }
    }

    fn ask_onward(&mut self, readings: &[Reading], moment: Moment, place: &impl Fn(u32) -> Place) {
        // Without a hook at an uplink nothing can be seen further on.
        if self.home.device == 0 {
            return;
        }
        let mut asked: HashMap<Client, Vec<Asked<'_>>> = HashMap::new();
        let mut answers = Vec::new();
        for (key, totals) in readings {
            let at = place(key.ifindex);
            if at.class != Class::Pod || self.flows.contains_key(key) {
                continue;
            }
            let is_source = at.class.local_is_source(key);
            let Some(client) = Client::of(key, is_source) else { continue };
            if !is_source {
                answers.push((key, totals));
            } else if self.may_be_virtual(key, totals, at) {
                asked.entry(client).or_default().push(Asked { key, totals, direct: false });
            }
        }
        if !asked.is_empty() {
            let onward = self.onward(&mut asked, readings, place);
            for (client, asked) in &asked {
                self.pair(*client, asked, onward.get(client).map_or(&[], Vec::as_slice), moment);
            }
        }
        for (key, totals) in answers {
            let from = source(key);
            let told = self.vias.translate(key, false).is_some();
            let waits = !told && self.vias.is_virtual(from, key.protocol) && is_young(totals, moment);
            if waits || self.waiting.contains_key(&key.reversed()) {
                self.waiting.insert(*key, 0);
            }
        }
    }

    /// Whether what a pod sent may lead elsewhere than it says.
    fn may_be_virtual(&self, key: &FlowKey, totals: &FlowTotals, at: Place) -> bool {
        let local = pod_end(key, at);
        let orientation =
            known_orientation(key, totals.tcp_state).unwrap_or_else(|| self.orientation_of_new(key, local));
        let known = self.home.addresses.contains(&key.destination) || self.pods.device(&key.destination).is_some();
        let plain = || {
            !self.vias.is_virtual(destination(key), key.protocol)
                && self.edges.contains_key(&edge_id(key, orientation, local))
        };
        orientation.forward && !known && self.vias.translate(key, true).is_none() && !plain()
    }

    /// Where the clients' packets were seen after their own devices; marks those that were seen as they are.
    fn onward(
        &self,
        asked: &mut HashMap<Client, Vec<Asked<'_>>>,
        readings: &[Reading],
        place: &impl Fn(u32) -> Place,
    ) -> HashMap<Client, Vec<Onward>> {
        let mut onward: HashMap<Client, Vec<Onward>> = HashMap::new();
        let mut masqueraded: HashSet<(End, u8)> = HashSet::new();
        // What was known before was read already.
        let known = self.flows.iter().map(|(key, flow)| (key, &flow.counted));
        for (key, totals) in readings.iter().map(|(key, totals)| (key, totals)).chain(known) {
            let at = place(key.ifindex);
            let leaves = at.class.local_is_source(key) != (at.class == Class::Pod);
            if !leaves {
                continue;
            }
            if self.home.addresses.contains(&key.source) {
                masqueraded.insert((destination(key), key.protocol));
                continue;
            }
            let Some(client) = Client::of(key, true) else { continue };
            let Some(asked) = asked.get_mut(&client) else { continue };
            let to = destination(key);
            asked.iter_mut().filter(|asked| destination(asked.key) == to).for_each(|asked| asked.direct = true);
            // What its own device saw as it is was not translated; nor is what was joined already.
            let plain = self.paths.seen_by_sender(key) || asked.iter().any(|asked| destination(asked.key) == to);
            let seen = onward.entry(client).or_default();
            if !plain && seen.iter().all(|known| known.to != to) {
                seen.push(Onward { to, opening: opening(totals) });
            }
        }
        for asked in asked.values_mut().flatten() {
            asked.direct |= masqueraded.contains(&(destination(asked.key), asked.key.protocol));
        }
        onward
    }

    /// Joins what a client sent with where it was seen, if only one reading is possible.
    fn pair(&mut self, client: Client, asked: &[Asked<'_>], onward: &[Onward], moment: Moment) {
        let open: Vec<_> = asked.iter().filter(|asked| !asked.direct).collect();
        for asked in &open {
            // A connection is known by its initial sequence number, which translation leaves as it is.
            let number = opening(asked.totals);
            let fits = |onward: &&Onward| number.is_none() || onward.opening.is_none() || onward.opening == number;
            let fitting: Vec<_> = onward.iter().filter(fits).collect();
            let sure = number.is_some() || open.len() == 1;
            match fitting[..] {
                [only] if sure => {
                    if !self.vias.join(client, destination(asked.key), only.to) {
                        self.vias.split(client);
                    }
                }
                [] => {
                    if is_young(asked.totals, moment) {
                        self.waiting.insert(*asked.key, 0);
                    }
                }
                _ => self.vias.split(client),
            }
        }
    }
}

fn is_young(totals: &FlowTotals, moment: Moment) -> bool {
    moment.now_ns.saturating_sub(totals.first_ns) < HOLD_NS
}
