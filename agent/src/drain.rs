//! Reads the kernel side out, tick by tick, into the table, and makes reports of it.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use agent_ebpf::abi::{CGROUP_IFINDEX, Loss, TunnelPorts};
use tracing::warn;
use wire::v1;

use crate::{
    clock,
    config::{Config, TierChoice},
    devices::{Devices, classify, tunnel_ports},
    dns,
    drops::Drops,
    edge::{Moment, WallClock},
    events::Events,
    home::Home,
    known::Known,
    ledger::{Kind, Ledger},
    owners::{self, Owners},
    pace::Pace,
    scope,
    session::Session,
    source::kernel::{KernelError, attach, facts::Types, links::Links, load::Kernel, memory},
    summarise::{Folded, Limits, Table},
    tiers::{self, Offer, Removals},
};

/// Between two reads of the devices' own counters while things change.
const ACCOUNT_EVERY: Duration = Duration::from_secs(1);
/// A device must be still for this long around a read of its counters.
const STILL_FOR: Duration = Duration::from_millis(2);
/// Devices are attached to for so long in one go.
const ATTACH_FOR: Duration = Duration::from_millis(250);

/// One node's agent: kernel side, devices, table, and the talk with the collector.
pub struct Node {
    pub(crate) name: String,
    pub(crate) epoch: u64,
    /// Fixed at the start: a step of the wall clock in mid-life moves no sample.
    pub(crate) clock: WallClock,
    devices_by_glob: Option<globset::GlobSet>,
    pub(crate) kernel: Kernel,
    links: Links,
    pub(crate) tier: TierChoice,
    pub(crate) offer: Offer,
    pub(crate) cgroup: Option<PathBuf>,
    /// Tunnels' ports that the kernel side is told of at an uplink.
    pub(crate) hashed_ports: TunnelPorts,
    pub(crate) removals: Removals,
    /// A later run of the agent is there: nothing more is attached.
    pub(crate) superseded: bool,
    /// How often the hooks were looked at.
    pub(crate) looks: u64,
    pub(crate) devices: Devices,
    pub(crate) table: Table,
    pub(crate) known: Known,
    pub(crate) session: Session,
    pub(crate) ledger: Ledger,
    pub(crate) dns: dns::Watch,
    pub(crate) names: dns::Names,
    pub(crate) events: Events,
    pub(crate) losses: [u64; Loss::COUNT as usize],
    pub(crate) refused_hooks: Vec<String>,
    pub(crate) refused_readings: u64,
    pub(crate) sampled_ns: u64,
    pub(crate) pace: Pace,
    accounted_ns: u64,
    /// Parts of a report that was too large for one.
    pub(crate) parts: Vec<Vec<v1::Edge>>,
    /// When the totals of the report under way were read: its later parts tell of that moment too.
    pub(crate) told_ns: u64,
    /// The report under way is one of several parts.
    pub(crate) split: bool,
}

impl Node {
    /// Loads the kernel side and attaches to every device that is there.
    ///
    /// # Errors
    /// When the kernel refuses the programs, or a device asked for by name is not there.
    pub async fn start(config: &Config, ledger: Ledger) -> anyhow::Result<Self> {
        memory::give_back_large();
        let links = Links::open()?;
        let present: HashSet<_> = links.dump().await?.into_iter().map(|link| link.name).collect();
        if let Some(missing) = config.named_devices.iter().find(|name| !present.contains(*name)) {
            anyhow::bail!("find device: {missing}; hint: `ip link` lists the devices of this network namespace");
        }
        let own_netns = scope::own_netns();
        let types = Types::read(own_netns, config.scope_netns.is_some());
        let mut kernel = Kernel::load(config.max_flows, config.ebpf_object.as_deref(), &types, config.hook_form)?;
        let owners = Owners::new(config.scope_cgroup.as_deref());
        let known =
            Known::new(config.scope_netns.clone(), own_netns, owners, Drops::new(types.reasons), kernel.facts())?;
        let now_ns = clock::monotonic_ns();
        // The start's time: a later run of the agent has a greater epoch.
        let epoch = clock::wall(0).unix_ns(now_ns);
        let pins = attach::own_pins(&config.pin_path, &config.node, epoch)?;
        // Until we are in its place, our predecessor must not let go.
        let guard = pins.as_ref().and_then(|pins| pins.lock().ok());
        if let Some(pins) = pins {
            kernel.hooks().set_pins(pins);
        }
        let retire_after_ns = u64::try_from(config.retire_after.as_nanos()).unwrap_or(u64::MAX);
        let limits = Limits { max_edges: config.max_edges, retire_after_ns };
        let mut node = Self {
            name: config.node.clone(),
            epoch,
            clock: clock::wall(config.clock_skew_ns),
            devices_by_glob: config.devices.clone(),
            kernel,
            links,
            tier: config.tier,
            offer: Offer { tcx: attach::has_tcx(), cilium: false },
            cgroup: config.scope_cgroup.clone().or_else(owners::hierarchy),
            hashed_ports: TunnelPorts::default(),
            removals: Removals::default(),
            superseded: false,
            looks: 0,
            devices: Devices::default(),
            table: Table::new(limits),
            known,
            session: Session::default(),
            ledger,
            dns: dns::Watch::new(config.dns_names),
            names: dns::Names::default(),
            events: Events::default(),
            losses: [0; Loss::COUNT as usize],
            refused_hooks: Vec::new(),
            refused_readings: 0,
            sampled_ns: now_ns,
            pace: Pace::new(now_ns),
            accounted_ns: 0,
            parts: Vec::new(),
            told_ns: now_ns,
            split: false,
        };
        while node.reconcile().await? {
            node.drain().await?;
        }
        node.kernel.hooks().sweep();
        drop(guard);
        Ok(node)
    }

    /// Attaches to devices that came, forgets those that went. Says whether there are more to attach to: each takes the kernel
    /// a grace period, and what is watched already must be read meanwhile.
    ///
    /// # Errors
    /// When rtnetlink refuses.
    pub async fn reconcile(&mut self) -> Result<bool, KernelError> {
        self.known.refresh_scope(self.kernel.facts())?;
        let facts = self.links.node_facts().await?;
        let links = self.links.dump().await?;
        let now_ns = clock::monotonic_ns();
        let globs = self.devices_by_glob.as_ref();
        let there: HashSet<_> =
            links.iter().map(|link| (link.ifindex, link.name.as_str(), classify(link, &facts, globs))).collect();
        // A device that became another class's is another device: its flows have another end.
        let gone: Vec<_> = self
            .devices
            .iter_present()
            .filter(|device| !there.contains(&(device.ifindex, device.name.as_str(), Some(device.class))))
            .map(|device| device.ifindex)
            .collect();
        let mut home = Home { addresses: facts.addresses.clone(), device: 0, tunnel_ports: tunnel_ports(&links) };
        self.hashed_ports = home.hashed_ports();
        for ifindex in gone {
            if let Some(seen) = self.kernel.device(ifindex) {
                self.devices.saw(ifindex, seen);
            }
            self.kernel.detach(ifindex);
            self.devices.remove(ifindex, now_ns);
            self.removals.forget(ifindex);
            self.table.free_addresses(ifindex);
            self.pace.active(now_ns);
        }
        self.offer.cilium = links.iter().any(|link| link.name.starts_with("cilium_"));
        self.look_for_successor();
        self.watch_beside();
        let wanted = |link| Some((link, classify(link, &facts, self.devices_by_glob.as_ref())?));
        let mut came: Vec<_> = links.iter().filter_map(wanted).collect();
        came.retain(|(link, _)| self.devices.present(link.ifindex).is_none() && !self.superseded);
        let (there, mut attached) = (came.len(), 0);
        for (link, class) in came {
            let late = clock::monotonic_ns().saturating_sub(now_ns) > ATTACH_FOR.as_nanos() as u64;
            if self.superseded || (attached > 0 && late) {
                break;
            }
            self.attach(link, class);
            attached += 1;
        }
        home.device = self.devices.first_uplink();
        self.table.set_home(home);
        for ifindex in self.devices.forget(now_ns) {
            self.table.forget_device(ifindex);
        }
        self.ledger.devices.set(i64::try_from(self.devices.watched().count()).unwrap_or(i64::MAX));
        let blind = self.devices.iter_present().filter(|device| !device.is_watched()).count();
        self.ledger.blind_spots.set(i64::try_from(blind).unwrap_or(i64::MAX));
        let tiers = self.devices.tiers();
        for tier in tiers::ALL {
            self.ledger.tiers.get_or_create(&Kind { kind: tiers::name(tier) }).set(*tiers.get(&tier).unwrap_or(&0));
        }
        if attached > 0 {
            self.pace.active(now_ns);
            self.account().await?;
        }
        Ok(attached < there)
    }

    /// Waits for the event ring.
    ///
    /// # Errors
    /// When it cannot be polled.
    pub async fn event_ready(&mut self) -> Result<(), KernelError> {
        self.kernel.event_ready().await
    }

    /// Whether a new flow may be told at once: a bounded number a second, and not while the collector is away.
    pub fn may_flush(&mut self) -> bool {
        let now_ns = clock::monotonic_ns();
        self.session.may_send(now_ns) && self.pace.may_flush(now_ns)
    }

    /// Whether it is time to read the maps.
    pub fn look_due(&mut self) -> bool {
        let (kernel, devices) = (&self.kernel, &self.devices);
        self.pace.look_due(clock::monotonic_ns(), || peek(kernel, devices))
    }

    /// Whether what was read is worth a report.
    #[must_use]
    pub fn report_due(&self) -> bool {
        self.pace.report_due(clock::monotonic_ns())
    }

    /// Now, by both clocks.
    pub(crate) fn moment(&self) -> Moment {
        Moment { now_ns: clock::monotonic_ns(), clock: self.clock, next_seq: self.session.seq + 1 }
    }

    pub(crate) fn note(&mut self, folded: &Folded, now_ns: u64) {
        if folded.active || folded.edges_new > 0 {
            self.pace.active(now_ns);
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
        let outcome = if stale || unsettled { self.account().await } else { self.read_flows() };
        self.refused_readings += u64::from(outcome.is_err());
        outcome
    }

    fn read_flows(&mut self) -> Result<(), KernelError> {
        let moment = self.moment();
        let device = |ifindex| self.devices.place(ifindex);
        let mut reading = self.kernel.flows();
        // Each entry is made whole as it is folded: 20,000 of them side by side would be two megabytes to write and to read.
        let flows = reading.by_ref().map(|(key, entry)| (key, entry.whole(moment.now_ns)));
        let mut folded = self.table.fold(flows, moment, device);
        let read = reading.end().map_err(KernelError::Batch)?;
        self.ledger.drain_seconds.inc_by(Duration::from_nanos(read.took_ns).as_secs_f64());
        self.ledger.flow_readings.inc_by(read.entries);
        for key in std::mem::take(&mut folded.ended) {
            let last = self.kernel.take_flow(&key, moment.now_ns)?;
            let end = self.table.finish(&key, last.as_ref(), moment, device);
            folded.active |= end.active;
        }
        let lesser: Vec<_> = self.devices.lesser().collect();
        for ifindex in lesser {
            self.devices.set_rest(ifindex, self.table.rest(ifindex));
        }
        self.resolve(moment);
        // After the flows: a socket's edge is most often one of theirs.
        let (active, dropped) = self.known.fold(self.kernel.facts(), moment, &mut self.table)?;
        folded.active |= active;
        self.happened(dropped, moment.now_ns);
        self.sampled_ns = moment.now_ns;
        self.note(&folded, moment.now_ns);
        self.table.retire(moment.now_ns, moment.next_seq);
        self.losses = self.kernel.losses()?;
        self.ledger.drains.inc();
        self.ledger.flows.set(i64::try_from(read.entries).unwrap_or(i64::MAX));
        self.ledger.edges.set(i64::try_from(self.table.held()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Reads flows and devices' counters so that the two can be held against each other: a device that did not move
    /// from before to after was read at a quiet moment.
    async fn account(&mut self) -> Result<(), KernelError> {
        self.known.refresh_scope(self.kernel.facts())?;
        let watched: Vec<_> = self.devices.watched().collect();
        let before: Vec<_> = watched.iter().map(|ifindex| self.kernel.device(*ifindex)).collect();
        // What was counted before is in the ring or in a flow's entry by the end of this.
        tokio::time::sleep(STILL_FOR).await;
        self.take_events();
        self.read_flows()?;
        let links = self.links.dump().await?;
        self.accounted_ns = clock::monotonic_ns();
        let known_lost = self.devices.drain_lost();
        let after: Vec<_> = watched.iter().map(|ifindex| self.kernel.device(*ifindex)).collect();
        if let Some(seen) = self.devices.cgroup().and_then(|_| self.kernel.device(CGROUP_IFINDEX)) {
            self.devices.cgroup_saw(seen);
        }
        for link in &links {
            self.devices.carried_unwatched(link.ifindex, link.carried);
        }
        // Looked at last: programs that are there now were there while everything above was read.
        let held: HashSet<_> = self.look_after(&links).into_iter().collect();
        for ((ifindex, before), after) in watched.into_iter().zip(before).zip(after) {
            let link = links.iter().find(|link| link.ifindex == ifindex && held.contains(&ifindex));
            let (Some(link), Some(before), Some(after)) = (link, before, after) else { continue };
            if !self.devices.settle(ifindex, before, link.carried, after) {
                continue;
            }
            let mismatch = after.iter().zip(self.table.folded(ifindex)).map(|(way, folded)| {
                way.skbs.saturating_sub(way.link_control + way.malformed + way.lost).saturating_sub(folded)
            });
            self.devices.drain_mismatch(ifindex, mismatch.sum());
        }
        let lost = self.devices.drain_lost();
        if lost > known_lost {
            warn!(packets = lost - known_lost, "counts lost while draining");
        }
        Ok(())
    }
}

/// All buffers that belong to flows, on all devices: cheap to read.
fn peek(kernel: &Kernel, devices: &Devices) -> u64 {
    let all = devices.watched().chain(devices.cgroup().map(|_| CGROUP_IFINDEX));
    let totals = all.filter_map(|ifindex| kernel.device(ifindex));
    totals.flatten().map(|way| way.skbs.saturating_sub(way.link_control)).sum()
}
