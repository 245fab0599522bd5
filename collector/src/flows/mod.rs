//! Who listens to flow events: the wishes that travel to the agents, and the events that come back for each. Pure but for
//! the bounded channels it is handed.
//!
//! Nothing is kept here: the agents' rings are the memory, and while nobody listens no event travels.

mod seen;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{mpsc, watch};
use wire::{
    limits::MAX_ASKS,
    v1::{FlowAsk, FlowDirective, FlowEvents, FlowRing, Report},
};

pub use self::seen::{End, Seen};
use crate::{
    names::Names,
    time::{self, MS, Ns},
};

/// Parts of reports that wait for one listener. What finds no room is counted and told as lost.
pub const BATCH_QUEUE: usize = 32;

/// A clock's offset is kept while the estimate stays within this: a flow that is told twice has one time.
const STEADY: Ns = 5 * MS;

/// What the agents hear: `None` where nobody serves flow events, so that nobody can have a wish.
pub type Directive = Option<Arc<FlowDirective>>;

/// What one report brought a listener.
#[derive(Debug)]
pub struct Batch {
    /// The node.
    pub node: Arc<str>,
    /// Events that are new to the listener.
    pub seen: Vec<Seen>,
    /// All of the node's history was told.
    pub caught_up: bool,
    /// Events that the node overwrote before it could tell them, newly known.
    pub lost: u64,
}

/// A listener's end.
#[derive(Debug)]
pub struct Listening {
    /// What comes. Dropping it ends the wish.
    pub batches: mpsc::Receiver<Batch>,
    /// Events that found the queue full, since last taken.
    pub missed: Arc<AtomicU64>,
}

/// As many listen as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_ASKS} requests for flows are open, and no more may be; hint: come again when one has ended")]
pub struct TooManyListeners;

/// How far one run of a node's agent has told a listener.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    epoch: u64,
    number: u64,
    lost: u64,
}

#[derive(Debug)]
struct Open {
    ask: FlowAsk,
    to: mpsc::Sender<Batch>,
    missed: Arc<AtomicU64>,
    told: HashMap<Arc<str>, Told>,
}

/// All listeners.
#[derive(Debug)]
pub struct Desk {
    open: Vec<Open>,
    next: u64,
    directive: watch::Sender<Directive>,
    nodes: HashMap<Arc<str>, Known>,
}

/// What is kept of a node.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    ring: FlowRing,
    /// Our clock less the agent's, once it has told that.
    offset: Option<Ns>,
}

impl Desk {
    /// Nobody listens yet. What the agents are to hear goes into `directive`.
    #[must_use]
    pub fn new(directive: watch::Sender<Directive>) -> Self {
        Self { open: Vec::new(), next: 1, directive, nodes: HashMap::new() }
    }

    /// Somebody listens.
    ///
    /// # Errors
    /// When there are [`MAX_ASKS`] of them.
    pub fn open(&mut self, ask: FlowAsk) -> Result<Listening, TooManyListeners> {
        self.forget();
        if self.open.len() >= MAX_ASKS {
            return Err(TooManyListeners);
        }
        let (to, batches) = mpsc::channel(BATCH_QUEUE);
        let missed = Arc::new(AtomicU64::new(0));
        let ask = FlowAsk { id: self.next, ..ask };
        self.next += 1;
        self.open.push(Open { ask, to, missed: Arc::clone(&missed), told: HashMap::new() });
        self.publish();
        Ok(Listening { batches, missed })
    }

    /// Who hung up is forgotten, and the agents hear of it.
    pub fn forget(&mut self) {
        let before = self.open.len();
        self.open.retain(|open| !open.to.is_closed());
        if self.open.len() != before {
            self.publish();
        }
    }

    fn publish(&self) {
        let asks = self.open.iter().map(|open| open.ask.clone()).collect();
        self.directive.send_replace(Some(Arc::new(FlowDirective { asks })));
    }

    /// Takes what a report that came at `arrived` says of flow events.
    pub fn take(&mut self, report: &mut Report, arrived: Ns, names: &Names) {
        let events = std::mem::take(&mut report.flow_events);
        if report.flow_ring.is_none() && events.is_empty() {
            return;
        }
        let known = self.nodes.get_key_value(report.node.as_str());
        let node = known.map_or_else(|| report.node.as_str().into(), |(node, _)| Arc::clone(node));
        let known = self.nodes.entry(Arc::clone(&node)).or_default();
        known.ring = report.flow_ring.unwrap_or(known.ring);
        if let Some(clock) = report.clock {
            let steady = |offset: &Ns| offset.abs_diff(clock.offset_ns) <= STEADY.unsigned_abs();
            known.offset = Some(known.offset.filter(steady).unwrap_or(clock.offset_ns));
        }
        let sent = time::from_wire(report.sent_unix_ns);
        let offset = known.offset.unwrap_or_else(|| arrived.saturating_sub(sent));
        for part in events {
            if let Some(open) = self.open.iter_mut().find(|open| open.ask.id == part.ask) {
                open.take(part, &node, report.epoch, offset, names);
            }
        }
    }

    /// What a node's ring holds and has seen.
    #[must_use]
    pub fn ring(&self, node: &str) -> FlowRing {
        self.nodes.get(node).map_or_else(FlowRing::default, |known| known.ring)
    }

    /// Forgets nodes that are no more.
    pub fn keep(&mut self, there: impl Fn(&str) -> bool) {
        self.nodes.retain(|node, _| there(node));
    }
}

impl Open {
    fn take(&mut self, part: FlowEvents, node: &Arc<str>, epoch: u64, offset: Ns, names: &Names) {
        let told = self.told.entry(Arc::clone(node)).or_default();
        if told.epoch != epoch {
            // A later run begins anew; what an earlier one still says is past.
            if told.epoch > epoch {
                return;
            }
            *told = Told { epoch, ..Told::default() };
        }
        // A part is told again until its acknowledgement arrives.
        let fresh = part.events.into_iter().filter(|event| event.number > told.number);
        let mut newest = told.number;
        let seen: Vec<Seen> = fresh
            .filter_map(|event| {
                newest = newest.max(event.number);
                let at = time::from_wire(event.unix_ns).saturating_add(offset);
                Seen::new(event, node, at, names)
            })
            .collect();
        told.number = newest;
        let lost = part.lost.saturating_sub(told.lost);
        told.lost = told.lost.max(part.lost);
        if seen.is_empty() && lost == 0 && !part.caught_up {
            return;
        }
        let count = seen.len() as u64 + lost;
        let batch = Batch { node: Arc::clone(node), seen, caught_up: part.caught_up, lost };
        if self.to.try_send(batch).is_err() {
            self.missed.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
