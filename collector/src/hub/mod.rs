//! One task owns the merged state. Reports and questions come in through bounded queues; a subscriber gets its snapshot and
//! its place in the stream in one step, so that nothing falls between.

mod command;
mod feed;
mod flows;
mod keep;
mod live;
mod names;
mod past;
mod views;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

pub use self::{
    command::{Command, Delivery, HubHandle, Now, Subscription, TooManyViews},
    feed::{Follower, LAG, Next},
    flows::{FlowNode, FlowsCommand},
    keep::Restored,
    names::NamesUpdate,
    views::MAX_VIEWS,
};
use self::{keep::Keeping, views::Views};
use crate::{
    clock,
    events::Events,
    filter::Wish,
    flows::{Desk, Directive},
    graph::Identity,
    history::{self, History},
    merge::{Bounds, Merge, Pace, Verdict},
    metrics::Metrics,
    names::{Names, external},
    project,
    state::Writer,
    time::{MS, Ns, SECOND},
    view::{NamesRow, ms},
};

/// Reports that wait for the hub.
pub const REPORT_QUEUE: usize = 64;
/// Questions that wait for the hub.
const COMMAND_QUEUE: usize = 64;
/// Deltas are at least this far apart.
const TICK: Duration = Duration::from_millis(100);
/// A step is as far behind the last one as that took, times this and halved: a third of the time is the reports'.
const REPORTS_SHARE: u32 = 3;
/// A new edge waits no longer than this for company.
const NEW_EDGE_TICK: Duration = Duration::from_millis(10);
/// While somebody looks, a step tells of no more edges, but for new ones: a hundred thousand that all move take three seconds
/// in turn, and no report waits longer than a step.
const STEP_EDGES: usize = 4_096;
/// Once steps take half a tick, an edge of a crowd is told this often at the most: its nodes tell it at different moments.
const TOLD_APART: Ns = 900 * MS;
/// What time alone changes is looked at this often.
const REFRESH: Duration = Duration::from_millis(500);
/// Every this many refreshes, gone pods that no edge remembers and nodes that left are forgotten: it looks at all edges.
const FORGET_EVERY: u32 = 60;
/// Nodes that report within this time after our start did not join: they were there.
const JOINED_AFTER: Ns = 30 * SECOND;

/// What the hub is made of.
#[derive(Debug)]
pub struct Setup {
    /// This run.
    pub run: u64,
    /// The cluster's name.
    pub cluster: String,
    /// How much may be held.
    pub bounds: Bounds,
    /// How much of the past is remembered.
    pub history: history::Span,
    /// Where names will come from: `file`, `recording`, `none`.
    pub names_source: &'static str,
    /// What agents are to hear of flow events goes in here.
    pub directive: watch::Sender<Directive>,
    /// The clock, read here and nowhere below.
    pub clock: fn() -> Ns,
    /// The collector's own numbers.
    pub metrics: Arc<Metrics>,
    /// What a run before had kept.
    pub restored: Option<Restored>,
    /// Where what outlives this run goes.
    pub writer: Option<Writer>,
}

/// The task's state.
#[derive(Debug)]
pub struct Hub {
    merge: Merge,
    names: Names,
    events: Events,
    history: History,
    keeping: Option<Keeping>,
    names_row: NamesRow,
    identity: Identity,
    views: Views,
    desk: Desk,
    started: Ns,
    clock: fn() -> Ns,
    metrics: Arc<Metrics>,
    last_flush: Instant,
    /// What the last step took.
    took: Duration,
    flush_at: Option<Instant>,
    refreshes: u32,
    reports: mpsc::Receiver<Delivery>,
    commands: mpsc::Receiver<Command>,
}

impl Hub {
    /// A hub and the way to it.
    #[must_use]
    pub fn new(setup: Setup) -> (Self, HubHandle) {
        let (report_sender, reports) = mpsc::channel(REPORT_QUEUE);
        let (command_sender, commands) = mpsc::channel(COMMAND_QUEUE);
        let now = (setup.clock)();
        let restored = setup.restored.unwrap_or_else(|| Restored {
            merge: Merge::new(setup.bounds, now),
            history: History::new(setup.history, now),
            since_ms: ms(now),
        });
        let hub = Self {
            merge: restored.merge,
            names: Names::default(),
            events: Events::default(),
            history: restored.history,
            keeping: setup.writer.map(Keeping::new),
            names_row: NamesRow {
                source: setup.names_source.to_owned(),
                state: "none".to_owned(),
                error: None,
                read_ms: None,
                ambiguous: 0,
            },
            identity: Identity {
                run: format!("{:016x}", setup.run),
                cluster: setup.cluster,
                since_ms: restored.since_ms,
            },
            views: Views::default(),
            desk: Desk::new(setup.directive),
            started: now,
            clock: setup.clock,
            metrics: setup.metrics,
            last_flush: clock::instant(),
            took: Duration::ZERO,
            flush_at: None,
            refreshes: 0,
            reports,
            commands,
        };
        (hub, HubHandle { reports: report_sender, commands: command_sender })
    }

    /// Runs until `shutdown` turns true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut refresh_at = clock::instant() + REFRESH;
        loop {
            let wake_at = self.flush_at.map_or(refresh_at, |flush_at| flush_at.min(refresh_at));
            tokio::select! {
                _ = shutdown.wait_for(|over| *over) => break,
                Some(delivery) = self.reports.recv() => self.deliver(delivery),
                Some(command) = self.commands.recv() => self.command(command),
                () = sleep_until(wake_at) => {
                    let now = clock::instant();
                    if now >= refresh_at {
                        self.refresh();
                        refresh_at = now + REFRESH;
                    }
                    if self.flush_at.is_some_and(|at| now >= at) {
                        self.flush();
                    }
                }
            }
        }
        self.keep_last().await;
    }

    fn deliver(&mut self, mut delivery: Delivery) {
        let verdict = self.merge.accept(&delivery.report, delivery.arrived);
        // A client that hung up does not want its answer; its report counts all the same.
        let _ = delivery.reply.send(verdict);
        if let Verdict::Accepted { new_edge } = verdict {
            for answer in external::answers(&delivery.report, delivery.arrived) {
                self.names.learn(answer);
            }
            self.desk.take(&mut delivery.report, delivery.arrived, &self.names);
            self.flush_within(if new_edge { NEW_EDGE_TICK } else { TICK });
        }
    }

    /// Asks for a flush that keeps `spacing` from the last one, but is not later than one already asked for. While nobody looks
    /// there is one at each refresh, and no other.
    fn flush_within(&mut self, spacing: Duration) {
        if self.views.is_empty() {
            return;
        }
        let now = clock::instant();
        let spacing = spacing.max(self.took * REPORTS_SHARE / 2);
        let at = (self.last_flush + spacing).max(if spacing < TICK { now + spacing } else { now });
        self.flush_at = Some(self.flush_at.map_or(at, |known| known.min(at)));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Names(update) => self.take_names(update),
            Command::Subscribe { wish, last, reply } => {
                let opened = self.open(&wish);
                let _ = reply.send(opened.and_then(|()| self.views.subscribe(&wish, last, &self.identity)));
            }
            Command::Snapshot { wish, reply } => {
                let opened = self.open(&wish);
                let _ = reply.send(opened.and_then(|()| self.views.snapshot(&wish, &self.identity)));
            }
            Command::Still { at, reply } => {
                let _ = reply.send(self.still(at));
            }
            Command::Tracks { reply } => {
                let _ = reply.send(self.history.tracks());
            }
            Command::Events { reply } => {
                let _ = reply.send(self.history.events().cloned().collect());
            }
            Command::Devices { reply } => {
                let rows = project::device_rows(&self.merge);
                let _ = reply.send(serde_json::to_vec(&rows).unwrap_or_default().into());
            }
            Command::Flows(command) => self.flows_command(command),
        }
    }

    /// Makes a view live, as of the last flush; a projection that is first asked for is made now. Asking often flushes nothing.
    fn open(&mut self, wish: &Wish) -> Result<(), TooManyViews> {
        let now = (self.clock)();
        if !self.views.projects(wish.view) {
            // It shows all that was reported, changes that wait for the flush among it.
            self.merge.evaluate_changed(now);
            let rows = project::node_rows(&self.merge, &self.names, now);
            let told = self.events.told();
            self.views.project(wish.view, &self.merge, &self.names, &self.names_row, &rows, told, &self.identity, now);
        }
        let opened = self.views.open(wish, &self.identity, now);
        if opened.is_err() {
            self.metrics.refused_views.inc();
        }
        opened
    }

    /// What time alone changes.
    fn refresh(&mut self) {
        let now = (self.clock)();
        self.merge.refresh(now);
        let quiet = now.saturating_sub(self.started) < JOINED_AFTER;
        let states = self.merge.nodes().filter_map(|node| Some((&node.name, node.told?)));
        self.events.nodes(states, quiet, now);
        self.events.settle(now);
        self.refreshes = self.refreshes.wrapping_add(1);
        if self.refreshes.is_multiple_of(FORGET_EVERY) {
            self.forget_gone_pods(now);
            self.forget_answers(now);
            self.merge.forget_spans(now);
            self.forget_nodes(now);
            self.desk.keep(|node| self.merge.node_named(node).is_some());
        }
        self.desk.forget();
        self.views.forget_unused(now, &self.metrics);
        if !self.views.is_empty() {
            self.views.set_nodes(&project::node_rows(&self.merge, &self.names, now));
            self.flush_within(TICK);
        } else {
            self.flush();
        }
        self.count();
        self.keep();
    }

    fn count(&self) {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.nodes.set(gauge(self.merge.nodes().count()));
        self.metrics.edges.set(gauge(self.merge.flow_count()));
        self.metrics.rows.set(gauge(self.merge.row_count()));
        let (refusals, evicted) = (self.merge.refusals(), self.history.evicted());
        let (bytes, buckets) = self.history.size();
        self.metrics.history_bytes.set(gauge(bytes));
        self.metrics.history_buckets.set(gauge(buckets));
        self.metrics.tombstones.set(gauge(self.merge.tombstones()));
        for (what, count) in [
            ("rows", refusals.rows),
            ("nodes", refusals.nodes),
            ("devices", refusals.devices),
            ("tombstoned_rows", refusals.tombstoned_rows),
            ("ended_early", refusals.ended_early),
            ("untold_rows", refusals.untold),
            ("external_names", self.names.external().evicted()),
            ("history_buckets", evicted.buckets),
            ("history_edges", evicted.edges),
            ("history_spans", evicted.spans),
            ("history_events", evicted.events),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics.refused_rows.get_or_create(&[("what", what)]).set(count);
        }
    }

    fn pace(&self) -> Pace {
        let apart = if self.took * 2 > TICK { TOLD_APART } else { 0 };
        if self.views.is_empty() { Pace::ALL } else { Pace { most: STEP_EDGES, apart } }
    }

    /// Tells every live view what changed.
    fn flush(&mut self) {
        self.flush_at = None;
        self.last_flush = clock::instant();
        let now = (self.clock)();
        self.merge.evaluate_some(now, self.pace());
        let (changes, touched) = (self.merge.take_changes(), self.names.take_touched());
        self.history.note(&changes);
        if let Some(keeping) = &mut self.keeping {
            keeping.note(&changes);
        }
        self.views.update(&changes, &touched, &self.merge, &self.names);
        self.remember(now);
        let new = self.events.take_new();
        self.history.add_events(&new);
        self.views.add_events(&new);
        self.views.step(&self.merge, &self.names, &self.names_row, &self.identity, now, &self.metrics);
        self.took = clock::instant().duration_since(self.last_flush);
    }
}
