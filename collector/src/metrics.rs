//! Counters about the collector itself, for Prometheus. Labels come from fixed lists only.

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::status::Counted;

/// One label, from a fixed list.
pub type Label = [(&'static str, &'static str); 1];

/// Two labels, from fixed lists.
pub type Labels = [(&'static str, &'static str); 2];

/// All of the collector's own numbers.
#[derive(Debug)]
#[expect(missing_docs, reason = "the help texts below and docs/api.md describe them")]
pub struct Metrics {
    registry: Registry,
    pub reports: Counter,
    pub report_bytes: Counter,
    pub refused_reports: Family<Label, Counter>,
    pub refused_rows: Family<Label, Gauge>,
    pub nodes: Gauge,
    pub edges: Gauge,
    pub rows: Gauge,
    pub history_bytes: Gauge,
    pub history_buckets: Gauge,
    pub state_batches: Counter,
    pub state_bytes: Gauge,
    pub state_failures: Counter,
    pub state_set_aside: Counter,
    pub state_waits: Counter,
    pub tombstones: Gauge,
    pub clients: Family<Label, Gauge>,
    pub refused_clients: Counter,
    pub views: Gauge,
    pub refused_views: Counter,
    pub lagged_clients: Counter,
    pub cut_clients: Counter,
    pub deltas: Family<Label, Counter>,
    pub delta_bytes: Family<Label, Counter>,
    pub names_read: Counter,
    pub names_failed: Counter,
    pub names_changes: Counter,
    pub names_ambiguous: Gauge,
    pub api_requests: Family<Labels, Counter>,
    pub api_failures: Family<Label, Counter>,
    pub api_refused_objects: Family<Label, Counter>,
    pub recorded_bytes: Counter,
    pub unrecorded_reports: Counter,
    pub refused_requests: Family<Labels, Counter>,
    pub token_reviews: Family<Label, Counter>,
    pub logins: Counter,
    pub failed_handshakes: Counter,
    pub refused_connections: Family<Label, Counter>,
    pub cut_connections: Family<Labels, Counter>,
    pub failed_files: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("orrery_collector"),
            reports: Counter::default(),
            report_bytes: Counter::default(),
            refused_reports: Family::default(),
            refused_rows: Family::default(),
            nodes: Gauge::default(),
            edges: Gauge::default(),
            rows: Gauge::default(),
            history_bytes: Gauge::default(),
            history_buckets: Gauge::default(),
            state_batches: Counter::default(),
            state_bytes: Gauge::default(),
            state_failures: Counter::default(),
            state_set_aside: Counter::default(),
            state_waits: Counter::default(),
            tombstones: Gauge::default(),
            clients: Family::default(),
            refused_clients: Counter::default(),
            views: Gauge::default(),
            refused_views: Counter::default(),
            lagged_clients: Counter::default(),
            cut_clients: Counter::default(),
            deltas: Family::default(),
            delta_bytes: Family::default(),
            names_read: Counter::default(),
            names_failed: Counter::default(),
            names_changes: Counter::default(),
            names_ambiguous: Gauge::default(),
            api_requests: Family::default(),
            api_failures: Family::default(),
            api_refused_objects: Family::default(),
            recorded_bytes: Counter::default(),
            unrecorded_reports: Counter::default(),
            refused_requests: Family::default(),
            token_reviews: Family::default(),
            logins: Counter::default(),
            failed_handshakes: Counter::default(),
            refused_connections: Family::default(),
            cut_connections: Family::default(),
            failed_files: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("ingest_reports", "Reports taken in", self.reports.clone());
        registry.register("ingest_body_bytes", "Bytes of the reports taken in, compressed", self.report_bytes.clone());
        registry.register("ingest_refused_reports", "Reports refused, by reason", self.refused_reports.clone());
        registry.register("merge_refused", "Rows, nodes and devices that found no room", self.refused_rows.clone());
        registry.register("merge_nodes", "Nodes that have reported", self.nodes.clone());
        registry.register("merge_edges", "Edges by addresses", self.edges.clone());
        registry.register("merge_rows", "Rows: edge side, device, incarnation", self.rows.clone());
        registry.register("history_bytes", "Bytes of all buckets of the history", self.history_bytes.clone());
        registry.register("history_buckets", "Buckets of the history", self.history_buckets.clone());
        registry.register("state_batches", "Batches written to the state directory", self.state_batches.clone());
        registry.register("state_bytes", "Size of the state's file", self.state_bytes.clone());
        registry.register("state_failures", "Batches that could not be written", self.state_failures.clone());
        registry.register("state_set_aside", "Files that could not be read", self.state_set_aside.clone());
        registry.register("state_waits", "Times the disk did not keep up", self.state_waits.clone());
        registry.register("merge_tombstones", "Rows that found no room: totals alone", self.tombstones.clone());
        registry.register("stream_clients", "Open streams, by view", self.clients.clone());
        registry.register("stream_views", "Different views looked at", self.views.clone());
        registry.register("stream_refused_views", "Views refused: too many", self.refused_views.clone());
        registry.register("stream_refused_clients", "Streams refused: too many", self.refused_clients.clone());
        registry.register(
            "stream_lagged_clients",
            "Clients that were given a fresh snapshot",
            self.lagged_clients.clone(),
        );
        registry.register("stream_cut_clients", "Clients cut: they took nothing", self.cut_clients.clone());
        registry.register("stream_deltas", "Deltas made, by view", self.deltas.clone());
        registry.register("stream_delta_bytes", "Bytes of the deltas made, by view", self.delta_bytes.clone());
        registry.register("names_read", "Readings of the pod list that succeeded", self.names_read.clone());
        registry.register("names_failed", "Readings of the pod list that failed", self.names_failed.clone());
        registry.register("names_changes", "Changes of objects that watches told", self.names_changes.clone());
        registry.register(
            "names_ambiguous",
            "Ends of edges of which nothing could tell who held the address",
            self.names_ambiguous.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the Kubernetes API, by verb and resource",
            self.api_requests.clone(),
        );
        registry.register(
            "api_failures",
            "Answers of the Kubernetes API that were errors, or did not come",
            self.api_failures.clone(),
        );
        registry.register("api_refused_objects", "Objects that found no room", self.api_refused_objects.clone());
        registry.register("record_bytes", "Bytes recorded", self.recorded_bytes.clone());
        registry.register(
            "record_skipped_reports",
            "Reports not recorded: full or slow",
            self.unrecorded_reports.clone(),
        );
        registry.register(
            "auth_refused_requests",
            "Requests not let in, by port and reason",
            self.refused_requests.clone(),
        );
        registry.register(
            "auth_token_reviews",
            "Service account tokens that the Kubernetes API was asked about, by outcome",
            self.token_reviews.clone(),
        );
        registry.register("auth_logins", "Logins by the form", self.logins.clone());
        registry.register("tls_failed_handshakes", "TLS handshakes that failed", self.failed_handshakes.clone());
        registry.register(
            "serve_refused_connections",
            "Connections closed at once, by port: it had as many as it may",
            self.refused_connections.clone(),
        );
        registry.register(
            "serve_cut_connections",
            "Connections cut for want of a request, by port and by whether there ever was one",
            self.cut_connections.clone(),
        );
        registry.register(
            "files_failed_readings",
            "Certificates and tokens that changed and could not be used",
            self.failed_files.clone(),
        );
    }

    /// Counts a refused report.
    pub fn refuse(&self, reason: &'static str) {
        self.refused_reports.get_or_create(&[("reason", reason)]).inc();
    }

    /// What `status` tells of.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let wrong = [("port", "reports"), ("reason", "wrong")];
        let strangers = self.refused_requests.get(&wrong).map_or(0, |counter| counter.get());
        let refused = |port| self.refused_connections.get(&[("port", port)]).map_or(0, |counter| counter.get());
        Counted {
            failed_files: self.failed_files.get(),
            strangers,
            refused_connections: ["ui", "reports", "hubble"].map(refused).iter().sum(),
            unwritten: self.state_failures.get(),
        }
    }

    /// The text Prometheus reads.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
