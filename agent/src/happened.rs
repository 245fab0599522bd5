//! What the kernel's rings tell: events of flows and DNS messages, for the table and for the ring of flow events.

use std::net::IpAddr;

use agent_ebpf::abi::{Event, EventKind};
use tracing::debug;
use wire::v1::{Ack, FlowEvents, FlowRing};

use crate::{clock, dns, drain::Node, drops::Dropped, edge::Moment, events::Happened, summarise::Told};

/// Events and messages taken from a ring in one go.
const EVENTS_AT_ONCE: usize = 16_384;

impl Node {
    /// Empties the rings; says whether a flow began that belongs to no edge of the table yet.
    pub fn take_events(&mut self) -> bool {
        let mut unmapped: Vec<Event> = Vec::new();
        let mut began = false;
        let (ledger, table, devices) = (&self.ledger, &self.table, &self.devices);
        let (events, dns) = (&mut self.events, &mut self.dns);
        self.kernel.events(EVENTS_AT_ONCE, |event| match EventKind::from_number(event.kind) {
            Some(kind) => {
                ledger.event(kind);
                if let Some(happened) = Happened::of_event(event) {
                    events.note(happened);
                }
                let begins = matches!(kind, EventKind::FlowNew | EventKind::Unmapped);
                began |= begins && !table.knows(event, devices.place(event.key.ifindex));
                if kind == EventKind::Unmapped {
                    unmapped.push(*event);
                }
            }
            None => debug!(kind = event.kind, "event of an unknown kind"),
        });
        self.kernel.dns(EVENTS_AT_ONCE, |head, message| {
            dns.take(head, message, devices.place(head.key.ifindex).class.local_is_source(&head.key));
        });
        let moment = self.moment();
        for event in unmapped {
            let folded = self.table.fold_unmapped(&event, moment, |ifindex| self.devices.place(ifindex));
            self.note(&folded, moment.now_ns);
        }
        began
    }

    /// Gives the DNS messages read until now their edges, whose flows were read just before. What a client was told
    /// is noted at the client's side only.
    pub(crate) fn resolve(&mut self, moment: Moment) {
        for fact in self.dns.facts(moment.now_ns) {
            self.pace.active(moment.now_ns);
            let told = self.table.dns(&fact, moment, |ifindex| self.devices.place(ifindex));
            if let Told::Early = told {
                self.dns.keep(fact);
                continue;
            }
            if let Some(happened) = Happened::of_dns(&fact) {
                self.events.note(happened);
            }
            if let (Told::Edge(edge), dns::What::Answer { question: Some(question), addresses, .. }) =
                (told, &fact.what)
                && !edge.server_side
            {
                let client = IpAddr::from(edge.client).to_canonical();
                let unix_ns = moment.clock.unix_ns(fact.time_ns);
                for answer in addresses {
                    self.names.add(client, answer.address, answer.ttl_s, &question.name, unix_ns);
                }
            }
        }
    }

    /// Gives what happened until now to the hooks that count it; their flows were read just before.
    pub(crate) fn happened(&mut self, dropped: Vec<Dropped>, now_ns: u64) {
        let (table, devices) = (&self.table, &self.devices);
        self.events.settle(now_ns, |key, role| table.sight(key, role, devices.place(key.ifindex)));
        dropped.into_iter().for_each(|dropped| self.events.dropped(dropped));
    }

    /// What a report tells of flow events; the ring itself only where the collector serves them.
    pub(crate) fn flow_events(&mut self, seq: u64, moment: Moment) -> (Option<FlowRing>, Vec<FlowEvents>) {
        let devices = &self.devices;
        let parts = self.events.tell(seq, moment.now_ns, moment.clock, |ifindex| devices.name(ifindex));
        (self.pace.heedful().then(|| self.events.row()), parts)
    }

    /// Hears which flow events the collector wants; says whether some of them are to be told at once.
    pub(crate) fn hear(&mut self, ack: &Ack) -> bool {
        self.events.acknowledged(ack.seq);
        self.pace.heed(ack.flow_events.is_some());
        let now_ns = clock::monotonic_ns();
        // The collector's clock, less its offset, is ours.
        let offset_ns = self.session.clock().map_or(0, |clock| clock.offset_ns) + self.clock.offset_ns;
        let monotonic_ns = |unix_ns: u64| unix_ns.saturating_add_signed(offset_ns.saturating_neg());
        self.events.direct(ack.flow_events.as_ref(), now_ns, monotonic_ns);
        self.events.hungry()
    }
}
