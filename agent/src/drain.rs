//! Reads the kernel side out, tick by tick, into the table, and makes reports of it.

use std::{
    collections::HashSet,
    net::SocketAddr,
    time::Duration,
};

use agent_ebpf::abi::{Event, EventKind, FlowKey, FlowTotals, Loss, LinkType};
use bytes::Bytes;
use tracing::{debug, info, warn};
use wire::v1::{self, Ack, LossCause, Report};

use crate::{
    clock,
    config::Config,
    devices::{Devices, Link, pod_facing},
    ledger::{Kind, Ledger},
    session::Session,
    source::kernel::{KernelError, links::Links, load::Kernel},
    summarise::{Folded, Limits, Moment, Table},
};

/// Between two reports while things change.
pub const FAST_TICK: Duration = Duration::from_millis(200);
/// Between two reports while nothing does.
pub const SLOW_TICK: Duration = Duration::from_secs(2);
/// How long nothing must have changed before the tick slows down.
const QUIET_AFTER: Duration = Duration::from_secs(2);
/// Reports made at once for a new edge, a second.
const FLUSHES_PER_SECOND: f64 = 20.0;
/// Between two reads of the devices' own counters while things change.
const ACCOUNT_EVERY: Duration = Duration::from_secs(1);
/// A device must be still for this long around a read of its counters.
const STILL_FOR: Duration = Duration::from_millis(2);
/// Events taken from the ring in one go.
const EVENTS_AT_ONCE: usize = 16_384;
/// Edges in one report; a larger table is told in parts, each within the body limit.
const EDGES_PER_REPORT: usize = 16_384;

/// One node's agent: kernel side, devices, table, and the talk with the collector.
pub struct Node {
    name: String,
    epoch: u64,
    skew_ns: i64,
    devices_by_glob: Option<globset::GlobSet>,
    kernel: Kernel,
    links: Links,
    devices: Devices,
    table: Table,
    session: Session,
    ledger: Ledger,
    readings: Vec<(FlowKey, FlowTotals)>,
    losses: [u64; Loss::COUNT as usize],
    drain_loss: u64,
    refused_hooks: Vec<String>,
    sampled_ns: u64,
    active_ns: u64,
    reported_ns: u64,
    accounted_ns: u64,
    flush_tokens: f64,
    flush_ns: u64,
    peeked: u64,
    /// Parts of a report that was too large for one.
    parts: Vec<Vec<v1::Edge>>,
    /// The report under way is one of several parts.
    split: bool,
}

impl Node {
    /// Loads the kernel side and attaches to every device that is there.
    ///
    /// # Errors
    /// When the kernel refuses the programs, or a device asked for by name is not there.
    pub async fn start(config: &Config, ledger: Ledger) -> anyhow::Result<Self> {
        let links = Links::open()?;
        let present: HashSet<_> = links.dump().await?.into_iter().map(|link| link.name).collect();
        if let Some(missing) = config.named_devices.iter().find(|name| !present.contains(*name)) {
            anyhow::bail!("find device: {missing}; hint: `ip link` lists the devices of this network namespace");
        }
        let kernel = Kernel::load(config.max_flows, config.ebpf_object.as_deref())?;
        let now_ns = clock::monotonic_ns();
        let limits = Limits {
            max_edges: config.max_edges,
            retire_after_ns: u64::try_from(config.retire_after.as_nanos()).unwrap_or(u64::MAX),
        };
        let mut node = Self {
            name: config.node.clone(),
            // The start's time: a later run of the agent has a greater epoch.
            epoch: clock::wall(0).unix_ns(now_ns),
            skew_ns: config.clock_skew_ns,
            devices_by_glob: config.devices.clone(),
            kernel,
            links,
            devices: Devices::default(),
            table: Table::new(limits),
            session: Session::default(),
            ledger,
            readings: Vec::new(),
            losses: [0; Loss::COUNT as usize],
            drain_loss: 0,
            refused_hooks: Vec::new(),
            sampled_ns: now_ns,
            active_ns: now_ns,
            reported_ns: 0,
            accounted_ns: 0,
            flush_tokens: FLUSHES_PER_SECOND,
            flush_ns: now_ns,
            peeked: 0,
            parts: Vec::new(),
            split: false,
        };
        node.reconcile().await?;
        Ok(node)
    }

    /// Attaches to devices that came, forgets those that went.
    ///
    /// # Errors
    /// When rtnetlink refuses.
    pub async fn reconcile(&mut self) -> Result<(), KernelError> {
        let facts = self.links.node_facts().await?;
        let links = self.links.dump().await?;
        let now_ns = clock::monotonic_ns();
        let there: HashSet<_> = links.iter().map(|link| (link.ifindex, link.name.as_str())).collect();
        let gone: Vec<_> = self
            .devices
            .iter_present()
            .filter(|device| !there.contains(&(device.ifindex, device.name.as_str())))
            .map(|device| device.ifindex)
            .collect();
        for ifindex in gone {
            if let Some(seen) = self.kernel.device(ifindex) {
                self.devices.saw(ifindex, seen);
            }
            self.kernel.detach(ifindex);
            self.devices.remove(ifindex, now_ns);
            self.active_ns = now_ns;
        }
        let mut fresh = Vec::new();
        for link in &links {
            if self.devices.present(link.ifindex).is_none() && pod_facing(link, &facts, self.devices_by_glob.as_ref()) {
                self.attach(link);
                fresh.push(link.ifindex);
            }
        }
        self.devices.forget(now_ns);
        self.ledger.devices.set(i64::try_from(self.devices.watched().count()).unwrap_or(i64::MAX));
        let blind = self.devices.iter_present().filter(|device| device.blind_spot.is_some()).count();
        self.ledger.blind_spots.set(i64::try_from(blind).unwrap_or(i64::MAX));
        if !fresh.is_empty() {
            self.active_ns = now_ns;
            self.account().await?;
        }
        Ok(())
    }

    fn attach(&mut self, link: &Link) {
        // A flow that an earlier device of this index left must not count for this one.
        self.table.forget_device(link.ifindex);
        let link_type = link.link_type.unwrap_or(LinkType::Ethernet);
        let outcome = self.kernel.attach(link.ifindex, &link.name, link_type);
        let now_unix_ns = self.moment().clock.unix_ns(clock::monotonic_ns());
        match outcome {
            Ok(()) => {
                info!(device = %link.name, "watching device");
                self.devices.add(link, now_unix_ns, None);
            }
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::from(error));
                warn!(device = %link.name, error = why, "device not watched");
                self.refused_hooks.push(format!("tcx on {}: {why}", link.name));
                self.refused_hooks.truncate(64);
                self.devices.add(link, now_unix_ns, Some(why));
            }
        }
    }

    /// Waits for the event ring.
    ///
    /// # Errors
    /// When it cannot be polled.
    pub async fn event_ready(&mut self) -> Result<(), KernelError> {
        self.kernel.event_ready().await
    }

    /// Empties the ring; says whether a flow began.
    pub fn take_events(&mut self) -> bool {
        let mut unmapped: Vec<Event> = Vec::new();
        let mut began = false;
        let ledger = &self.ledger;
        self.kernel.events(EVENTS_AT_ONCE, |event| match EventKind::from_number(event.kind) {
            Some(kind) => {
                ledger.event(kind);
                began |= matches!(kind, EventKind::FlowNew | EventKind::Unmapped);
                if kind == EventKind::Unmapped {
                    unmapped.push(*event);
                }
            }
            None => debug!(kind = event.kind, "event of an unknown kind"),
        });
        let moment = self.moment();
        for event in unmapped {
            let devices = &self.devices;
            let folded = self.table.fold_unmapped(&event, moment, |ifindex| devices.incarnation(ifindex));
            self.note(&folded, moment.now_ns);
        }
        began
    }

    /// Whether a new flow may be told at once: a bounded number a second, and not while the collector is away.
    pub fn may_flush(&mut self) -> bool {
        let now_ns = clock::monotonic_ns();
        let seconds = now_ns.saturating_sub(self.flush_ns) as f64 / 1e9;
        self.flush_ns = now_ns;
        self.flush_tokens = (self.flush_tokens + seconds * FLUSHES_PER_SECOND).min(FLUSHES_PER_SECOND);
        let may = self.flush_tokens >= 1.0 && self.session.may_send(now_ns);
        if may {
            self.flush_tokens -= 1.0;
        }
        may
    }

    /// Whether it is time to read the maps: always while things change; else when the slow tick is over, or a look at
    /// the devices' totals shows that something moved.
    pub fn tick_due(&mut self) -> bool {
        let now_ns = clock::monotonic_ns();
        if !self.quiet(now_ns) || now_ns.saturating_sub(self.reported_ns) >= SLOW_TICK.as_nanos() as u64 {
            return true;
        }
        let moved = self.peek();
        std::mem::replace(&mut self.peeked, moved) != moved
    }

    fn quiet(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.active_ns) >= QUIET_AFTER.as_nanos() as u64
    }

    /// All buffers that belong to flows, on all devices: cheap to read.
    fn peek(&self) -> u64 {
        let totals = self.devices.watched().filter_map(|ifindex| self.kernel.device(ifindex));
        totals.flatten().map(|way| way.skbs - way.link_control).sum()
    }

    fn moment(&self) -> Moment {
        Moment {
            now_ns: clock::monotonic_ns(),
            clock: clock::wall(self.skew_ns),
            next_seq: self.session.seq + 1,
        }
    }

    fn note(&mut self, folded: &Folded, now_ns: u64) {
        if folded.active || folded.edges_new > 0 {
            self.active_ns = now_ns;
        }
    }

    /// Reads the flow map into the table, and the devices' own counters from time to time.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn drain(&mut self) -> Result<(), KernelError> {
        self.take_events();
        let now_ns = clock::monotonic_ns();
        let stale = now_ns.saturating_sub(self.accounted_ns) >= ACCOUNT_EVERY.as_nanos() as u64;
        let unsettled = self.devices.watched().any(|ifindex| self.devices.unsettled(ifindex));
        if stale || unsettled { self.account().await } else { self.read_flows() }
    }

    fn read_flows(&mut self) -> Result<(), KernelError> {
        let moment = self.moment();
        let readings = &mut self.readings;
        readings.clear();
        self.kernel.flows(|key, totals| readings.push((*key, *totals)))?;
        let devices = &self.devices;
        let device = |ifindex| devices.incarnation(ifindex);
        let mut folded = self.table.fold(&self.readings, moment, device);
        for key in std::mem::take(&mut folded.ended) {
            let last = self.kernel.take_flow(&key)?;
            let end = self.table.finish(&key, last.as_ref(), moment, device);
            folded.active |= end.active;
        }
        self.sampled_ns = moment.now_ns;
        self.note(&folded, moment.now_ns);
        self.table.retire(moment.now_ns);
        self.losses = self.kernel.losses()?;
        self.ledger.drains.inc();
        self.ledger.flows.set(i64::try_from(self.readings.len()).unwrap_or(i64::MAX));
        self.ledger.edges.set(i64::try_from(self.table.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Reads flows and devices' counters so that the two can be held against each other: a device that did not move
    /// from before to after was read at a quiet moment.
    async fn account(&mut self) -> Result<(), KernelError> {
        let watched: Vec<_> = self.devices.watched().collect();
        let before: Vec<_> = watched.iter().map(|ifindex| self.kernel.device(*ifindex)).collect();
        self.read_flows()?;
        tokio::time::sleep(STILL_FOR).await;
        let links = self.links.dump().await?;
        self.accounted_ns = clock::monotonic_ns();
        let mut drain_loss = 0;
        for (ifindex, before) in watched.into_iter().zip(before) {
            let link = links.iter().find(|link| link.ifindex == ifindex);
            let (Some(link), Some(before), Some(after)) = (link, before, self.kernel.device(ifindex)) else { continue };
            if !self.devices.settle(ifindex, before, link.carried, after) {
                continue;
            }
            for (way, folded) in after.iter().zip(self.table.folded(ifindex)) {
                let in_flows = way.skbs - way.link_control - way.malformed - way.lost;
                drain_loss += in_flows.saturating_sub(folded);
            }
        }
        if drain_loss > self.drain_loss {
            warn!(packets = drain_loss - self.drain_loss, "counts lost while draining");
            self.drain_loss = drain_loss;
        }
        Ok(())
    }

    /// The next report's body, unless the collector is to be left alone for now.
    pub fn report(&mut self) -> Option<Bytes> {
        let moment = self.moment();
        if !self.session.may_send(moment.now_ns) {
            return None;
        }
        let seq = self.session.seq + 1;
        if self.parts.is_empty() {
            let mut edges = self.table.report(seq, self.session.acked_seq, self.session.full);
            while edges.len() > EDGES_PER_REPORT {
                self.parts.push(edges.split_off(edges.len() - EDGES_PER_REPORT));
            }
            self.split = !self.parts.is_empty();
            self.parts.push(edges);
        }
        let full = self.session.full;
        let edges = self.parts.pop().unwrap_or_default();
        let tick = if self.quiet(moment.now_ns) { SLOW_TICK } else { FAST_TICK };
        self.ledger.tick_milliseconds.set(i64::try_from(tick.as_millis()).unwrap_or(i64::MAX));
        let report = Report {
            version: wire::VERSION,
            node: self.name.clone(),
            epoch: self.epoch,
            seq,
            acked_seq: self.session.acked_seq,
            collector_run: self.session.collector_run,
            full,
            sent_unix_ns: moment.clock.unix_ns(moment.now_ns),
            sampled_unix_ns: moment.clock.unix_ns(self.sampled_ns),
            complete: self.parts.is_empty(),
            next_tick_ms: u32::try_from(tick.as_millis()).unwrap_or(u32::MAX),
            clock: self.session.clock(),
            edges,
            devices: self.devices.report(),
            losses: self.loss_rows(),
            other: Some(self.table.other()),
            refused_hooks: self.refused_hooks.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        match wire::codec::encode_report(&report) {
            Ok(body) => {
                self.session.seq = seq;
                self.reported_ns = moment.now_ns;
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
            };
            (cause, self.losses[loss as usize])
        });
        let own = [(LossCause::Drain, self.drain_loss), (LossCause::TableFull, self.table.refused())];
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
        if ack.resync {
            info!(collector_run = ack.collector_run, "the collector asks for everything");
            self.parts.clear();
            return true;
        }
        if partly {
            self.session.full = was_full;
            return true;
        }
        self.table.acknowledge(ack.seq);
        false
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

    /// Takes our programs off every device.
    pub fn detach(&mut self) {
        let watched: Vec<_> = self.devices.watched().collect();
        for ifindex in watched {
            self.kernel.detach(ifindex);
        }
    }
}
