//! The loss of a group of edges, or in words why there is none to show. Pure.

use super::{Member, row::round};
use crate::{
    loss::Loss,
    merge::{
        Merge,
        evaluate::Unmeasured,
        flow::{Flow, Side},
        node::{Node, NodeId},
    },
    names::{Names, Owner},
    time::Ns,
    view::{LossBetweenRow, LossStatus, NodeState},
};

#[derive(Default)]
pub(super) struct LossSum {
    measured: usize,
    /// Members that are not measured, and the first one's reason.
    unmeasured: usize,
    first_why: Option<String>,
    settling: Option<String>,
    one_sided: Option<String>,
    forward: Option<Loss>,
    reverse: Option<Loss>,
}

impl LossSum {
    pub(super) fn unmeasured(&mut self, status: LossStatus, why: impl FnOnce() -> String) {
        self.unmeasured += 1;
        let slot = if status == LossStatus::Settling { &mut self.settling } else { &mut self.one_sided };
        if slot.is_none() {
            let why = why();
            self.first_why.get_or_insert_with(|| why.clone());
            *slot = Some(why);
        }
    }
}

pub(super) fn add_loss(sum: &mut LossSum, flow: &Flow, member: Member, merge: &Merge, names: &Names, now: Ns) {
    use LossStatus::{OneSided, Settling};
    let name = |node: &NodeId| &merge.node(*node).name;
    match &flow.evaluation.loss {
        Ok((forward, reverse)) => {
            let (forward, reverse) = if member.swapped { (reverse, forward) } else { (forward, reverse) };
            sum.measured += 1;
            sum.forward = Some(plus(sum.forward, forward));
            sum.reverse = Some(plus(sum.reverse, reverse));
        }
        Err(Unmeasured::NotReported(side)) => {
            sum.unmeasured(OneSided, || not_reported(flow, *side, member, merge, names, now));
        }
        Err(Unmeasured::NodeLost(node)) => sum.unmeasured(OneSided, || format!("node {} is lost", name(node))),
        Err(Unmeasured::DeviceGone(side, node)) => {
            sum.unmeasured(OneSided, || format!("the {}'s device on {} is gone", role(*side, member), name(node)));
        }
        Err(Unmeasured::Unobserved(side, node)) => sum.unmeasured(OneSided, || {
            let (role, watched) = (role(*side, member), watched(merge.node(*node)));
            format!("arrivals at the {role} are not observed on node {} ({watched})", name(node))
        }),
        Err(Unmeasured::NoPackets(side, node)) => sum.unmeasured(OneSided, || {
            let (role, node) = (role(*side, member), name(node));
            format!("no packets are seen there: the {role}'s node {node} knows this edge from sockets only")
        }),
        Err(Unmeasured::PathChanged(node)) => {
            sum.unmeasured(Settling, || format!("the packets took another way past node {} a moment ago", name(node)))
        }
        Err(Unmeasured::NoClock(node)) => {
            sum.unmeasured(Settling, || format!("the clock offset of node {} is not known yet", name(node)));
        }
        Err(Unmeasured::Settling) => sum.unmeasured(Settling, || "both sides must report for a moment".to_owned()),
    }
}

fn plus(sum: Option<Loss>, loss: &Loss) -> Loss {
    let sum = sum.unwrap_or(Loss { lost: 0, recent_lost: 0.0, recent_sent: 0.0 });
    Loss {
        lost: sum.lost.saturating_add(loss.lost),
        recent_lost: sum.recent_lost + loss.recent_lost,
        recent_sent: sum.recent_sent + loss.recent_sent,
    }
}

/// What the group calls a side of its member.
fn role(side: Side, member: Member) -> &'static str {
    if (side == Side::Client) == member.swapped { "server" } else { "client" }
}

/// How a node watches, and what it cannot see, in words.
fn watched(node: &Node) -> String {
    let blind = node.blind_spots();
    if let Some(spot) = blind.first() {
        let more = if blind.len() > 1 { format!(" and {} more", blind.len() - 1) } else { String::new() };
        return format!("blind spot: {}{more}: {}", spot.device, spot.reason);
    }
    let tiers: Vec<String> = node.tiers().into_iter().map(|tier| tier.tier).collect();
    if tiers.is_empty() { "no device is watched".to_owned() } else { format!("watched by {}", tiers.join(" and ")) }
}

/// Why the other side is missing, in words.
fn not_reported(flow: &Flow, side: Side, member: Member, merge: &Merge, names: &Names, now: Ns) -> String {
    let address = match side {
        Side::Client => flow.key.client,
        Side::Server => flow.key.server,
    };
    match names.resolve(address, now) {
        Owner::External(address) => format!("no agent sees {address}"),
        Owner::Node(name) => format!("host addresses are not watched: {name}"),
        Owner::Service(key) => format!("no device holds the address of service {key}"),
        Owner::Pod(key) => {
            let node = names.pod(&key).and_then(|pod| pod.node.as_ref());
            match node.map(|name| (name, merge.node_named(name))) {
                Some((name, None)) => format!("no agent reports from node {name}"),
                Some((name, Some(node))) if node.told == Some(NodeState::Lost) => format!("node {name} is lost"),
                Some((name, Some(node))) => {
                    format!("{} side not reported yet by node {name} ({})", role(side, member), watched(node))
                }
                None => format!("{} side not reported yet", role(side, member)),
            }
        }
    }
}

pub(super) fn loss_row(sum: LossSum) -> LossBetweenRow {
    let ratio = |loss: Option<Loss>| loss.map(|loss| round(loss.ratio(), 1e4));
    if sum.measured > 0 {
        let (rest, all) = (sum.unmeasured, sum.measured + sum.unmeasured);
        let verb = if rest == 1 { "is" } else { "are" };
        return LossBetweenRow {
            status: LossStatus::Measured,
            why: sum.first_why.map(|why| format!("{rest} of {all} links {verb} not measured: {why}")),
            forward_lost: sum.forward.map(|loss| loss.lost),
            reverse_lost: sum.reverse.map(|loss| loss.lost),
            forward_ratio: ratio(sum.forward),
            reverse_ratio: ratio(sum.reverse),
        };
    }
    let (status, why) = match sum.settling {
        Some(why) => (LossStatus::Settling, Some(why)),
        None => (LossStatus::OneSided, sum.one_sided),
    };
    LossBetweenRow { status, why, forward_lost: None, reverse_lost: None, forward_ratio: None, reverse_ratio: None }
}
