//! One `GetFlows` stream: first the past, gathered from all agents and sorted, then what comes.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};
use tonic::Status;

use super::{
    flow::{flow, timestamp},
    request::Wish,
};
use crate::{
    clock,
    flows::{Batch, Listening, Seen},
    hub::FlowNode,
    hubble::proto::{
        flow::{LostEvent, LostEventSource},
        observer::{GetFlowsResponse, get_flows_response::ResponseTypes},
        relay::{NodeState, NodeStatusEvent},
    },
    time::Ns,
};

/// Flows of the past held for one request: of more, those further from what was asked for go, counted as lost.
pub(super) const MAX_HELD: usize = 65_536;
/// Agents that have not told their past by then are named, and the rest is told.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Where the answers go.
pub(super) type Answers = mpsc::Sender<Result<GetFlowsResponse, Status>>;

/// A stream under way.
pub(super) struct Stream {
    /// What was asked for.
    pub(super) wish: Wish,
    /// What comes.
    pub(super) listening: Listening,
    /// Where it goes.
    pub(super) answers: Answers,
    /// The cluster's name.
    pub(super) cluster: Arc<str>,
    /// The nodes, as of the beginning.
    pub(super) nodes: Vec<FlowNode>,
    /// The collector ends.
    pub(super) stopped: watch::Receiver<bool>,
}

/// The client is gone.
struct HungUp;

impl Stream {
    /// Runs to its end: the past is told, the client hung up, or the collector stops.
    pub(super) async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        let answers = self.answers.clone();
        tokio::select! {
            // A client that does not read must not keep its place for ever.
            () = answers.closed() => {}
            _ = stopped.wait_for(|over| *over) => {}
            _ = self.tell() => {}
        }
    }

    async fn tell(&mut self) -> Result<(), HungUp> {
        let available: BTreeSet<Arc<str>> = self.named(true);
        self.node_status(NodeState::NodeConnected, &available, "").await?;
        self.node_status(NodeState::NodeUnavailable, &self.named(false), "reports are overdue").await?;
        if self.wish.history {
            self.past(available).await?;
        }
        if !self.wish.follow {
            return Ok(());
        }
        while let Some(mut batch) = self.listening.batches.recv().await {
            self.lost(&batch).await?;
            batch.seen.sort_by_key(|seen| seen.at);
            for seen in batch.seen {
                if self.wish.until.is_some_and(|until| seen.at > until) {
                    return Ok(());
                }
                self.flow(&seen).await?;
            }
        }
        Ok(())
    }

    fn named(&self, available: bool) -> BTreeSet<Arc<str>> {
        let fits = self.nodes.iter().filter(|node| node.available == available);
        fits.map(|node| Arc::clone(&node.name)).collect()
    }

    /// Gathers what the agents' rings hold, and tells it in the order of time.
    async fn past(&mut self, mut awaited: BTreeSet<Arc<str>>) -> Result<(), HungUp> {
        let deadline: Instant = clock::instant() + PATIENCE;
        let (mut held, mut overflow): (Vec<Seen>, u64) = (Vec::new(), 0);
        while !awaited.is_empty() {
            let Ok(Some(batch)) = timeout_at(deadline, self.listening.batches.recv()).await else { break };
            self.lost(&batch).await?;
            if batch.caught_up {
                awaited.remove(&batch.node);
            }
            let wanted = batch.seen.into_iter().filter(|seen| self.wants(seen));
            held.extend(wanted);
            overflow += self.bound(&mut held, 2 * MAX_HELD);
        }
        overflow += self.bound(&mut held, MAX_HELD);
        self.node_status(NodeState::NodeUnavailable, &awaited, "its flows were not told in time").await?;
        if overflow > 0 {
            self.lost_event(LostEventSource::HubbleRingBuffer, overflow, "").await?;
        }
        sort(&mut held);
        let surplus = held.len().saturating_sub(self.wish.limit.unwrap_or(usize::MAX));
        let range = if self.wish.oldest { 0..held.len() - surplus } else { surplus..held.len() };
        for seen in &held[range] {
            self.flow(seen).await?;
        }
        Ok(())
    }

    /// Lets go of what is furthest from what was asked for, once there is more than `most`; says how much.
    fn bound(&self, held: &mut Vec<Seen>, most: usize) -> u64 {
        if held.len() <= most {
            return 0;
        }
        sort(held);
        let surplus = held.len() - MAX_HELD;
        if self.wish.oldest {
            held.truncate(MAX_HELD);
        } else {
            held.drain(..surplus);
        }
        // Beyond what was asked for nothing is missed.
        if self.wish.limit.is_some_and(|limit| limit <= MAX_HELD) { 0 } else { surplus as u64 }
    }

    fn wants(&self, seen: &Seen) -> bool {
        self.wish.spans(seen.at) && self.wish.filters.pass(&flow(seen, &self.cluster))
    }

    async fn flow(&mut self, seen: &Seen) -> Result<(), HungUp> {
        if !self.wish.spans(seen.at) {
            return Ok(());
        }
        let whole = flow(seen, &self.cluster);
        if !self.wish.filters.pass(&whole) {
            return Ok(());
        }
        let flow = self.wish.mask.as_ref().map_or_else(|| whole.clone(), |mask| mask.apply(&whole));
        self.send(ResponseTypes::Flow(Box::new(flow)), seen.node.to_string(), seen.at).await
    }

    async fn lost(&mut self, batch: &Batch) -> Result<(), HungUp> {
        if batch.lost > 0 {
            self.lost_event(LostEventSource::HubbleRingBuffer, batch.lost, &batch.node).await?;
        }
        let missed = self.listening.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            self.lost_event(LostEventSource::ObserverEventsQueue, missed, "").await?;
        }
        Ok(())
    }

    async fn lost_event(&mut self, source: LostEventSource, count: u64, node: &str) -> Result<(), HungUp> {
        let event = LostEvent { source: source.into(), num_events_lost: count, ..LostEvent::default() };
        self.send(ResponseTypes::LostEvents(event), node.to_owned(), clock::now()).await
    }

    async fn node_status(&mut self, state: NodeState, nodes: &BTreeSet<Arc<str>>, message: &str) -> Result<(), HungUp> {
        if nodes.is_empty() {
            return Ok(());
        }
        let node_names = nodes.iter().map(ToString::to_string).collect();
        let event = NodeStatusEvent { state_change: state.into(), node_names, message: message.to_owned() };
        self.send(ResponseTypes::NodeStatus(event), String::new(), clock::now()).await
    }

    async fn send(&mut self, what: ResponseTypes, node_name: String, at: Ns) -> Result<(), HungUp> {
        let answer = GetFlowsResponse { node_name, time: Some(timestamp(at)), response_types: Some(what) };
        self.answers.send(Ok(answer)).await.map_err(|_| HungUp)
    }
}

fn sort(held: &mut [Seen]) {
    held.sort_by(|a, b| (a.at, &a.node, a.event.number).cmp(&(b.at, &b.node, b.event.number)));
}
