//! The loaded object: programs, maps, the ring, and the links that hold our programs on devices.

use std::{fs, os::fd::AsFd as _, path::Path};

use agent_ebpf::{
    abi::{CGROUP_IFINDEX, DeviceTotals, DirectionTotals, DnsHead, Event, FlowKey, FlowTotals, Loss, maps, programs},
    entry::FlowEntry,
    facts::SETTINGS,
};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapData, PerCpuArray, RingBuf},
    programs::{CgroupSkb, Program as Loaded, ProgramError, ProgramFd, SchedClassifier},
};
use tokio::io::unix::AsyncFd;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{
    KernelError,
    attach::{Hooks, Pair},
    batch::{self, Batch, Reading},
    facts::{Facts, Types},
    hook::Program,
    memlock,
    slots::Slots,
};
use crate::facts::Form;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/agent-ebpf-programs"));

/// The kernel side, loaded.
pub struct Kernel {
    ebpf: Ebpf,
    flows: MapData,
    devices: Slots,
    losses: PerCpuArray<MapData, u64>,
    ring: AsyncFd<RingBuf<MapData>>,
    dns: AsyncFd<RingBuf<MapData>>,
    batch: Batch<FlowKey, FlowEntry>,
    facts: Facts,
    hooks: Hooks,
}

impl Kernel {
    /// Loads the programs and makes the maps; attaches nothing yet.
    ///
    /// # Errors
    /// When the kernel refuses, most often for want of capabilities.
    pub fn load(max_flows: u32, object: Option<&Path>, types: &Types, form: Option<Form>) -> Result<Self, KernelError> {
        let from_file = object
            .map(|path| {
                fs::read(path).map_err(|source| KernelError::ReadObject { path: path.display().to_string(), source })
            })
            .transpose()?;
        let bytes = from_file.as_deref().unwrap_or(OBJECT);
        if bytes.is_empty() {
            return Err(KernelError::EmptyObject);
        }
        memlock::lift();
        let mut ebpf = EbpfLoader::new()
            // rustc emits no relocations against the kernel's types: nothing here wants them, and they are large.
            .btf(None)
            .map_max_entries(maps::FLOWS, max_flows)
            .override_global(SETTINGS, types.offsets.settings.as_bytes(), true)
            .load(bytes)
            .map_err(|error| KernelError::Load(Box::new(error)))?;
        let tc = pair(&mut ebpf, [programs::INGRESS, programs::EGRESS])?;
        let mut take = |name| ebpf.take_map(name).ok_or(KernelError::Missing { name });
        let (flows, devices, losses) = (take(maps::FLOWS)?, take(maps::DEVICES)?, take(maps::LOSSES)?);
        let (ring, dns) = (ring(maps::EVENTS, take(maps::EVENTS)?)?, ring(maps::DNS, take(maps::DNS)?)?);
        // Read in batches of our own, so only its descriptor is wanted.
        let Map::HashMap(flows) = flows else { return Err(KernelError::Missing { name: maps::FLOWS }) };
        let wrong = |name| move |source| KernelError::Map { name, source: Box::new(source) };
        let facts = Facts::start(&mut ebpf, types, form)?;
        Ok(Self {
            flows,
            devices: Slots::new(devices)?,
            losses: PerCpuArray::try_from(losses).map_err(wrong(maps::LOSSES))?,
            ring,
            dns,
            batch: Batch::default(),
            facts,
            hooks: Hooks::new(tc),
            ebpf,
        })
    }

    /// What our programs are on.
    pub fn hooks(&mut self) -> &mut Hooks {
        &mut self.hooks
    }

    /// Puts both programs at the head of a device's TCX chains, or none. UDP to `tunnel_ports` is known there without its
    /// source port.
    ///
    /// # Errors
    /// What the kernel answered; the device is then as it was.
    pub fn attach(&mut self, ifindex: u32, fresh: DeviceTotals) -> Result<(), KernelError> {
        self.devices.insert(ifindex, fresh)?;
        self.hooks.attach_tcx(ifindex).inspect_err(|_| self.devices.remove(ifindex))?;
        Ok(())
    }

    /// Puts both programs on a device's clsact qdisc, or none.
    ///
    /// # Errors
    /// What the kernel answered, or that there is no place in front of others.
    pub fn attach_clsact(&mut self, ifindex: u32, fresh: DeviceTotals) -> Result<(), KernelError> {
        self.devices.insert(ifindex, fresh)?;
        self.hooks.attach_clsact(ifindex).inspect_err(|_| self.devices.remove(ifindex))?;
        Ok(())
    }

    /// Puts our programs on a cgroup of the v2 hierarchy: what sockets in it and below send and get.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn attach_cgroup(&mut self, path: Option<&Path>) -> Result<(), KernelError> {
        // What sockets send counts as what a pod sends.
        let pair = pair(&mut self.ebpf, [programs::CGROUP_EGRESS, programs::CGROUP_INGRESS])?;
        self.devices.insert(CGROUP_IFINDEX, DeviceTotals::default())?;
        self.hooks.attach_cgroup(pair, path).inspect_err(|_| self.devices.remove(CGROUP_IFINDEX))?;
        Ok(())
    }

    /// Takes our programs off a device, and its totals out of the map. A device that is gone took them with it.
    pub fn detach(&mut self, ifindex: u32) {
        self.hooks.detach(ifindex);
        self.devices.remove(ifindex);
    }

    /// A device's totals since it was attached, by direction; all CPUs added up.
    #[must_use]
    pub fn device(&self, ifindex: u32) -> Option<[DirectionTotals; 2]> {
        let mut values = self.devices.get(ifindex).peekable();
        values.peek()?;
        let mut sums = [DirectionTotals::default(); 2];
        for value in values {
            for (sum, one) in sums.iter_mut().zip(value.directions) {
                sum.skbs += one.skbs;
                sum.bytes += one.bytes;
                sum.link_control += one.link_control;
                sum.malformed += one.malformed;
                sum.lost += one.lost;
            }
        }
        Some(sums)
    }

    /// What the kernel knows beside packets.
    pub fn facts(&mut self) -> &mut Facts {
        &mut self.facts
    }

    /// Reads every live flow's entry.
    pub fn flows(&mut self) -> Reading<'_, FlowKey, FlowEntry> {
        self.batch.read(self.flows.fd().as_fd())
    }

    /// Removes a flow that has ended and gives its final totals.
    ///
    /// # Errors
    /// What the kernel answered, when it refused.
    pub fn take_flow(&self, key: &FlowKey, now_ns: u64) -> Result<Option<FlowTotals>, KernelError> {
        let entry: Option<FlowEntry> = batch::take(self.flows.fd().as_fd(), key).map_err(KernelError::Batch)?;
        Ok(entry.map(|entry| entry.whole(now_ns)))
    }

    /// Lost telemetry since the object was loaded, by cause; all CPUs added up.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn losses(&self) -> Result<[u64; Loss::COUNT as usize], KernelError> {
        let mut sums = [0; Loss::COUNT as usize];
        for (cause, sum) in (0..Loss::COUNT).zip(sums.iter_mut()) {
            let values = self
                .losses
                .get(&cause, 0)
                .map_err(|source| KernelError::Map { name: maps::LOSSES, source: Box::new(source) })?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }

    /// Waits until one of the rings has something.
    ///
    /// # Errors
    /// When a descriptor can no longer be polled.
    pub async fn event_ready(&mut self) -> Result<(), KernelError> {
        let ready = tokio::select! {
            ready = self.ring.readable_mut() => ready,
            ready = self.dns.readable_mut() => ready,
        };
        ready.map_err(KernelError::Ring)?.clear_ready();
        Ok(())
    }

    /// Empties the ring, at most `limit` events at a time.
    pub fn events(&mut self, limit: usize, mut event: impl FnMut(&Event)) -> usize {
        let ring = self.ring.get_mut();
        let mut count = 0;
        while count < limit
            && let Some(item) = ring.next()
        {
            if let Ok((record, _)) = Event::read_from_prefix(&item) {
                event(&record);
            }
            count += 1;
        }
        count
    }

    /// Empties the ring of DNS messages, at most `limit` at a time.
    pub fn dns(&mut self, limit: usize, mut message: impl FnMut(&DnsHead, &[u8])) {
        let ring = self.dns.get_mut();
        for _ in 0..limit {
            let Some(item) = ring.next() else { break };
            if let Ok((head, taken)) = DnsHead::read_from_prefix(&item) {
                message(&head, &taken[..usize::from(head.taken).min(taken.len())]);
            }
        }
    }
}

fn ring(name: &'static str, map: Map) -> Result<AsyncFd<RingBuf<MapData>>, KernelError> {
    let ring = RingBuf::try_from(map).map_err(|source| KernelError::Map { name, source: Box::new(source) })?;
    // SAFETY: the ring owns its descriptor and gives the same one for as long as it lives.
    unsafe { AsyncFd::register(ring) }.map_err(|error| KernelError::Ring(error.into()))
}

/// Loads two programs, one for each way.
fn pair(ebpf: &mut Ebpf, names: [&'static str; 2]) -> Result<Pair, KernelError> {
    let [from, to] = names;
    Ok(Pair::new([program(ebpf, from)?, program(ebpf, to)?], names))
}

/// Loads a program, unless it is loaded.
fn program(ebpf: &mut Ebpf, name: &'static str) -> Result<Program, KernelError> {
    let refused = |source| KernelError::Program { program: name, source: Box::new(source) };
    let copy = |fd: &ProgramFd| fd.as_fd().try_clone_to_owned().map_err(ProgramError::IOError);
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing { name })?;
    if program.fd().is_err() {
        match program {
            Loaded::SchedClassifier(program) => SchedClassifier::load(program),
            Loaded::CgroupSkb(program) => CgroupSkb::load(program),
            _ => return Err(KernelError::Missing { name }),
        }
        .map_err(refused)?;
    }
    let fd = program.fd().and_then(copy).map_err(refused)?;
    let id = program.info().map_err(refused)?.id();
    Ok(Program { fd, id })
}
