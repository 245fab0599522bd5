//! The agent's own health: counters for `/metrics`, and what `/healthz` answers. A leaf.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use agent_ebpf::abi::EventKind;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// One label: what kind, which cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// A constant name.
    pub kind: &'static str,
}

/// Counters and gauges, shared between the loop and the admin socket.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Reports acknowledged.
    pub reports: Counter,
    /// Reports not acknowledged, by what went wrong.
    pub report_failures: Family<Kind, Counter>,
    /// Bytes of report bodies sent.
    pub report_bytes: Counter,
    /// Ring events read, by kind.
    pub events: Family<Kind, Counter>,
    /// Telemetry lost, by cause.
    pub lost: Family<Kind, Gauge>,
    /// Readings of the flow map.
    pub drains: Counter,
    /// Flows read, over all readings.
    pub flow_readings: Counter,
    /// Seconds spent in reading the flow map.
    pub drain_seconds: Counter<f64, AtomicU64>,
    /// Edges in the table.
    pub edges: Gauge,
    /// Flows in the kernel's map at the last reading.
    pub flows: Gauge,
    /// Devices watched.
    pub devices: Gauge,
    /// Devices found but not watched.
    pub blind_spots: Gauge,
    /// Devices by tier.
    pub tiers: Family<Kind, Gauge>,
    /// How often somebody took our programs off a device.
    pub hooks_taken: Counter,
    /// The current tick.
    pub tick_seconds: Gauge<f64, AtomicU64>,
    acknowledged_seq: Arc<AtomicU64>,
}

impl Ledger {
    /// Puts everything into a registry under `orrery_agent_`.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("orrery_agent");
        registry.register("reports", "Reports acknowledged by the collector", self.reports.clone());
        registry.register("report_failures", "Reports not acknowledged, by kind", self.report_failures.clone());
        registry.register_with_unit("report", "Report bodies sent", Unit::Bytes, self.report_bytes.clone());
        registry.register("events", "Ring events read, by kind", self.events.clone());
        registry.register("lost", "Telemetry lost since the start, by kind", self.lost.clone());
        registry.register("drains", "Readings of the flow map", self.drains.clone());
        registry.register("flow_readings", "Flows read, over all readings", self.flow_readings.clone());
        registry.register_with_unit("drain", "Reading the flow map", Unit::Seconds, self.drain_seconds.clone());
        registry.register("edges", "Edges in the table", self.edges.clone());
        registry.register("flows", "Flows in the kernel's map", self.flows.clone());
        registry.register("devices", "Devices watched", self.devices.clone());
        registry.register("blind_spots", "Devices found but not watched", self.blind_spots.clone());
        registry.register("tiers", "Devices by tier", self.tiers.clone());
        registry.register("hooks_taken", "Times that another took our programs off", self.hooks_taken.clone());
        registry.register_with_unit("tick", "Time between two reports now", Unit::Seconds, self.tick_seconds.clone());
        registry
    }

    /// Counts one ring event.
    pub fn event(&self, kind: EventKind) {
        self.events.get_or_create(&Kind { kind: kind.label() }).inc();
    }

    /// Counts one failed report.
    pub fn report_failed(&self, kind: &'static str) {
        self.report_failures.get_or_create(&Kind { kind }).inc();
    }

    /// Notes an acknowledgement.
    pub fn acknowledged(&self, seq: u64) {
        self.reports.inc();
        self.acknowledged_seq.store(seq, Ordering::Relaxed);
    }

    /// The newest acknowledged sequence number; 0 before the first.
    #[must_use]
    pub fn acknowledged_seq(&self) -> u64 {
        self.acknowledged_seq.load(Ordering::Relaxed)
    }
}
