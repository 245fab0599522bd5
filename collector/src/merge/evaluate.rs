//! What an edge's samples say at a time: its rate, and the loss between its sides. Pure.

use wire::v1::Point;

use super::{
    FlowId, Merge,
    flow::{Flow, Side, Totals},
    node::{LOST_AFTER, Node, NodeId},
    slab::Pace,
    track::SideTrack,
};
use crate::{
    loss::{Loss, TRANSIT},
    rate::{Rate, rate},
    time::{MINUTE, MS, Ns, SECOND},
};

/// An edge that began this shortly after its device was first covered may have had a packet before.
const COVER_MARGIN: Ns = 50 * MS;
/// Agents retire idle edges after ten minutes: what began less than this before the collector is there in full.
const RETIRES_AFTER: Ns = 9 * MINUTE;
/// Without a new estimate for this long while the edge moves, the loss settles again.
const FRESH: Ns = 10 * SECOND;
/// Samples from before a change of path are of no use: nothing is compared until they are gone.
const PATH_SETTLES: Ns = 10 * SECOND;

/// Why there is no loss to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmeasured {
    /// This side was never reported.
    NotReported(Side),
    /// The node that reports this side is silent.
    NodeLost(NodeId),
    /// The device of this side's pod is gone: what the other side still sends reaches no hook.
    DeviceGone(Side, NodeId),
    /// This side's node sees what the pod sends and nothing of what reaches it: a CNI that hands packets straight into the
    /// pod's namespace (`bpf_redirect_peer`) passes the hook by.
    Unobserved(Side, NodeId),
    /// No hook of this node counts the edge's packets: its sockets told of it.
    NoPackets(Side, NodeId),
    /// The packets took another way past this node's hooks a moment ago.
    PathChanged(NodeId),
    /// A node does not know its clock's offset yet.
    NoClock(NodeId),
    /// Too few samples of both.
    Settling,
}

/// Rates and loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Client to server.
    pub forward: Rate,
    /// Server to client.
    pub reverse: Rate,
    /// The same of each cgroup of a node's own address: forward and reverse as that side's sockets had them.
    pub cgroups: Vec<(Side, u64, [Rate; 2])>,
    /// Loss client to server, and server to client; or why not.
    pub loss: Result<(Loss, Loss), Unmeasured>,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            forward: Rate::default(),
            reverse: Rate::default(),
            cgroups: Vec::new(),
            loss: Err(Unmeasured::Settling),
        }
    }
}

impl Merge {
    /// Evaluates every edge that changed. What only grew older has changed if its evaluation has.
    pub fn evaluate_changed(&mut self, now: Ns) {
        self.evaluate_some(now, Pace::ALL);
    }

    /// Evaluates edges that changed; of a crowd of them some wait.
    pub fn evaluate_some(&mut self, now: Ns, pace: Pace) {
        let (nodes, started) = (&self.nodes, self.started);
        self.flows.review(now, pace, |flow| evaluate(flow, nodes, started, now));
    }

    /// Evaluates an edge at `now`.
    pub fn evaluate(&mut self, id: FlowId, now: Ns) {
        if let Some(flow) = self.flows.get_mut(id) {
            evaluate(flow, &self.nodes, self.started, now);
        }
    }
}

/// Evaluates an edge. True when that says something else than before.
fn evaluate(flow: &mut Flow, nodes: &[Node], started: Ns, now: Ns) -> bool {
    let side_rate = |forward: bool, sender: Option<&SideTrack>, other: Option<&SideTrack>| {
        let Some(track) = sender.filter(|track| !flow.is_blind(track)).or(other) else { return Rate::default() };
        rate(track.readings(forward), track.first_seen, sampled(nodes, track), now)
    };
    let forward = side_rate(true, flow.client.as_ref(), flow.server.as_ref());
    let reverse = side_rate(false, flow.server.as_ref(), flow.client.as_ref());
    let of_cgroup = |(side, cgroup, track): &(Side, u64, SideTrack)| {
        (*side, *cgroup, [true, false].map(|way| side_rate(way, Some(track), None)))
    };
    let cgroups = flow.cgroups.iter().map(of_cgroup).collect();
    let loss = measure(flow, nodes, started, now);
    let evaluation = Evaluation { forward, reverse, cgroups, loss };
    let differs = flow.evaluation != evaluation;
    flow.evaluation = evaluation;
    differs
}

/// The newest instant at which all of the track's totals were known.
fn sampled(nodes: &[Node], track: &SideTrack) -> Ns {
    let complete = nodes[track.source.node as usize].epochs.get(&track.source.epoch).map_or(0, |epoch| epoch.sampled);
    complete.max(track.samples.back().map_or(0, |sample| sample.at))
}

fn measure(flow: &mut Flow, nodes: &[Node], started: Ns, now: Ns) -> Result<(Loss, Loss), Unmeasured> {
    let (client, server) = match (&flow.client, &flow.server) {
        (Some(client), Some(server)) => (client, server),
        (None, _) => return Err(Unmeasured::NotReported(Side::Client)),
        (_, None) => return Err(Unmeasured::NotReported(Side::Server)),
    };
    let mut error = 0;
    for (side, track) in [(Side::Client, client), (Side::Server, server)] {
        let id = track.source.node;
        let node = &nodes[id as usize];
        let epoch = node.epochs.get(&track.source.epoch);
        if epoch.is_some_and(|epoch| epoch.gone.contains(&track.source.device)) {
            return Err(Unmeasured::DeviceGone(side, id));
        }
        if now.saturating_sub(node.last_report) > LOST_AFTER {
            return Err(Unmeasured::NodeLost(id));
        }
        if flow.is_blind(track) {
            return Err(Unmeasured::NoPackets(side, id));
        }
        let known = node.clock.and(epoch).map(|epoch| epoch.clock_error.most);
        error = known.ok_or(Unmeasured::NoClock(id))?.saturating_add(error);
    }
    if let Some((_, node)) = flow.turned.filter(|(at, _)| now.saturating_sub(*at) < PATH_SETTLES) {
        return Err(Unmeasured::PathChanged(node));
    }
    // Two sides of one node share a clock: nothing to be wrong about.
    if client.source.node == server.source.node {
        error = 0;
    }
    // Decided once: looking the devices up is dear, and the answer does not change while the sources stay.
    let from_first = flow.from_first.or_else(|| covered_from_first(client, server, nodes, started, error));
    let delta = error.saturating_add(TRANSIT);
    let until = [client, server].map(|track| sampled(nodes, track));
    for (side, receiver, until) in [(Side::Client, client, until[0]), (Side::Server, server, until[1])] {
        let bypassed =
            nodes[receiver.source.node as usize].epochs.get(&receiver.source.epoch).is_some_and(|epoch| epoch.bypassed);
        if arrivals_unobserved(side, receiver, [client, server], until.saturating_sub(delta))
            || arrivals_uncertain(flow, side, [client, server], bypassed)
        {
            return Err(Unmeasured::Unobserved(side, receiver.source.node));
        }
    }
    let unseen = [client, server].map(|track| {
        nodes[track.source.node as usize].epochs.get(&track.source.epoch).map_or(0, super::node::Epoch::unseen)
    });
    let sent = client.track(true, false, until[0], 0);
    let got = server.track(true, true, until[1], unseen[1]);
    flow.forward.observe(&sent, &got, delta, from_first == Some(true));
    let sent = server.track(false, false, until[1], 0);
    let got = client.track(false, true, until[0], unseen[0]);
    flow.reverse.observe(&sent, &got, delta, from_first == Some(true));
    flow.from_first = from_first;
    let fresh = |measured_to: Option<Ns>, track: &SideTrack| {
        let moved = track.samples.back().map_or(0, |sample| sample.at);
        measured_to.is_some_and(|to| moved.saturating_sub(to) < FRESH)
    };
    if !fresh(flow.forward.measured_to(), client) || !fresh(flow.reverse.measured_to(), server) {
        return Err(Unmeasured::Settling);
    }
    match (flow.forward.loss(now), flow.reverse.loss(now)) {
        (Some(forward), Some(reverse)) => Ok((forward, reverse)),
        _ => Err(Unmeasured::Settling),
    }
}

/// One side counted nothing of what the other sent up to `due`, yet answers: it must have got it.
///
/// A client that never got on with what it opened, and that nobody reset, may really have got nothing: that is loss.
fn arrivals_unobserved(side: Side, receiver: &SideTrack, both: [&SideTrack; 2], due: Ns) -> bool {
    let counts = |totals: &Totals| match side {
        Side::Client => (totals.reverse.segments, totals.forward.segments),
        Side::Server => (totals.forward.segments, totals.reverse.segments),
    };
    let Some((0, 1..)) = receiver.samples.back().map(|sample| counts(&sample.totals)) else { return false };
    let [client, server] = both.map(|track| track.samples.back().map(|sample| sample.totals).unwrap_or_default());
    let unanswered = client.opened > 0 && client.established == 0 && client.resets == 0 && server.resets == 0;
    if side == Side::Client && unanswered {
        return false;
    }
    let sender = both[usize::from(side == Side::Client)];
    sender.samples.iter().any(|sample| sample.at <= due && counts(&sample.totals).0 > 0)
}

/// The other side sent something, and where this one counts what arrives not all of it comes: at a pod's device that
/// packets pass by, or at sockets, which are not given every packet and count fragments as one.
fn arrivals_uncertain(flow: &Flow, side: Side, both: [&SideTrack; 2], bypassed: bool) -> bool {
    let (receiver, sender) = if side == Side::Client { (both[0], both[1]) } else { (both[1], both[0]) };
    let points = flow.points(receiver);
    if points.has(Point::Tunnel) || points.has(Point::Uplink) {
        return false;
    }
    let sockets = points.has(Point::Cgroup) && !flow.points(sender).has(Point::Cgroup);
    let sent = sender.samples.back().map_or(0, |sample| match side {
        Side::Client => sample.totals.reverse.segments,
        Side::Server => sample.totals.forward.segments,
    });
    sent > 0 && (bypassed || sockets)
}

/// Both sides watched before the first packet that either counted, and nothing of the edge was retired unseen by us.
/// `None` while a device is not known.
fn covered_from_first(client: &SideTrack, server: &SideTrack, nodes: &[Node], started: Ns, error: Ns) -> Option<bool> {
    let first = client.first_seen.min(server.first_seen);
    let covered = |track: &SideTrack| {
        let since = nodes[track.source.node as usize].covered_since(track.source.epoch, track.source.device)?;
        // What was lost before the first sample is no credit, so the edge must not have been there.
        let since = if track.base > 0 { since.max(track.base_at) } else { since };
        Some(first >= since.saturating_add(error).saturating_add(COVER_MARGIN))
    };
    Some(covered(client)? && covered(server)? && first >= started.saturating_sub(RETIRES_AFTER))
}
