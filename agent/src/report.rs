//! Makes reports of what the node's agent knows, and takes the collector's answers.

use std::{net::SocketAddr, time::Duration};

use agent_ebpf::abi::Loss;
use bytes::Bytes;
use tracing::{info, warn};
use wire::v1::{self, Ack, LossCause, Report};

use crate::{clock, drain::Node, ledger::Kind};

impl Node {
    /// The next report's body, unless the collector is to be left alone for now.
    pub fn report(&mut self) -> Option<Bytes> {
        let moment = self.moment();
        if !self.session.may_send(moment.now_ns) {
            return None;
        }
        let seq = self.session.seq + 1;
        if self.parts.is_empty() {
            self.parts = wire::split::split(self.table.report(seq, self.session.acked_seq, self.session.full));
            self.parts.reverse();
            self.split = self.parts.len() > 1;
            self.told_ns = self.sampled_ns;
        }
        let full = self.session.full;
        let edges = self.parts.pop().unwrap_or_default();
        let tick = self.pace.tick(moment.now_ns);
        self.ledger.tick_seconds.set(tick.as_secs_f64());
        let (flow_ring, flow_events) = self.flow_events(seq, moment);
        let report = Report {
            version: wire::VERSION,
            node: self.name.clone(),
            epoch: self.epoch,
            seq,
            acked_seq: self.session.acked_seq,
            collector_run: self.session.collector_run,
            full,
            sent_unix_ns: moment.clock.unix_ns(moment.now_ns),
            sampled_unix_ns: moment.clock.unix_ns(self.told_ns),
            complete: self.parts.is_empty(),
            next_tick_ms: u32::try_from(tick.as_millis()).unwrap_or(u32::MAX),
            clock: self.session.clock(),
            edges,
            devices: self.devices.report(),
            losses: self.loss_rows(),
            other: Some(self.table.other()),
            refused_hooks: self.refused_hooks.clone(),
            names: self.names.report(seq),
            hooks: self.known.hooks().to_vec(),
            drops: self.known.unattributed().to_vec(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            flow_ring,
            flow_events,
            edge_columns: None,
        };
        match wire::codec::encode_report(&report) {
            Ok(body) => {
                self.session.seq = seq;
                self.pace.reported(moment.now_ns);
                self.ledger.report_bytes.inc_by(body.len() as u64);
                Some(Bytes::from(body))
            }
            Err(error) => {
                warn!(%error, "report not encoded");
                None
            }
        }
    }

    fn loss_rows(&self) -> Vec<v1::Loss> {
        let kernel = Loss::ALL.into_iter().map(|loss| {
            let cause = match loss {
                Loss::RingFull => LossCause::RingFull,
                Loss::MapFull => LossCause::MapFull,
                Loss::Fragment => LossCause::Fragment,
                Loss::UnknownDevice => LossCause::UnknownDevice,
                Loss::HeaderDepth => LossCause::HeaderDepth,
                Loss::DnsRingFull => LossCause::DnsRingFull,
                Loss::SocketsFull => LossCause::SocketsFull,
                Loss::DropsFull => LossCause::DropsFull,
            };
            let held = if loss == Loss::MapFull { self.table.unheld() } else { 0 };
            (cause, self.losses[loss as usize] + held)
        });
        let own = [
            (LossCause::Drain, self.devices.drain_lost()),
            (LossCause::TableFull, self.table.refused()),
            (LossCause::HookMissed, self.known.missed()),
            (LossCause::KernelRefused, self.refused_readings),
            (LossCause::DnsTableFull, self.dns.refused() + self.names.refused()),
        ];
        let rows = kernel.chain(own).filter(|(_, count)| *count > 0);
        rows.map(|(cause, count)| {
            self.ledger.lost.get_or_create(&Kind { kind: cause.as_str_name() }).set(count.cast_signed());
            v1::Loss { cause: cause.into(), count }
        })
        .collect()
    }

    /// Takes an acknowledgement; says whether there is more to send at once.
    pub fn acknowledged(&mut self, ack: &Ack, sent_unix_ns: u64, received_unix_ns: u64) -> bool {
        if self.session.failures() > 0 {
            info!(collector_run = ack.collector_run, "reports arrive again");
        }
        let partly = !self.parts.is_empty();
        let was_full = self.session.full;
        self.session.acknowledged(ack, sent_unix_ns, received_unix_ns);
        self.ledger.acknowledged(ack.seq);
        self.names.acknowledge(ack.seq);
        let hungry = self.hear(ack);
        if ack.resync {
            info!(collector_run = ack.collector_run, "the collector asks for everything");
            self.parts.clear();
            self.names.tell_all();
            return true;
        }
        if partly {
            self.session.full = was_full;
            return true;
        }
        self.table.acknowledge(ack.seq);
        hungry
    }

    /// A split report of which a part did not arrive is told anew as a whole: the mark says nothing of its other parts.
    fn give_up_parts(&mut self) {
        self.session.full |= std::mem::take(&mut self.split);
        self.parts.clear();
    }

    /// Notes a report that did not arrive.
    pub fn failed(&mut self, kind: &'static str, why: &str) {
        self.give_up_parts();
        self.ledger.report_failed(kind);
        let now_ns = clock::monotonic_ns();
        let first = self.session.failures() == 0;
        let wait = self.session.failed(now_ns, now_ns);
        if first {
            warn!(error = why, retry_in = ?wait, "report not delivered");
        }
    }

    /// The collector wants to be left alone for a while.
    pub fn busy(&mut self, wait: Duration) {
        self.give_up_parts();
        self.ledger.report_failed("busy");
        self.session.wait(clock::monotonic_ns(), wait);
    }

    /// Names the agent's own connection.
    pub fn set_own(&mut self, own: Option<(SocketAddr, SocketAddr)>) {
        self.table.set_own(own);
    }
}
