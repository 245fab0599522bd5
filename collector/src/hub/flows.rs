//! What the hub knows for those who listen to flow events: nodes and namespaces.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use tokio::sync::oneshot;
use wire::v1::{FlowAsk, FlowRing};

use super::Hub;
use crate::{
    flows::{Listening, TooManyListeners},
    time::{self, Ns},
    view::NodeState,
};

/// A question about flow events.
#[derive(Debug)]
pub enum FlowsCommand {
    /// Somebody wants them.
    Listen {
        /// These.
        ask: FlowAsk,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Listening, TooManyListeners>>,
    },
    /// The nodes whose agents tell them.
    Nodes {
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<FlowNode>>,
    },
    /// The namespaces that are known.
    Namespaces {
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<Arc<str>>>,
    },
}

/// A node, as far as its flow events are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowNode {
    /// Its name.
    pub name: Arc<str>,
    /// Its agent answers.
    pub available: bool,
    /// Its agent's version.
    pub agent_version: String,
    /// When its agent started.
    pub started: Ns,
    /// Its first address, if it is listed.
    pub address: Option<IpAddr>,
    /// What its ring holds and has seen.
    pub ring: FlowRing,
}

impl Hub {
    /// Answers; who hung up does not want to know.
    pub(super) fn flows_command(&mut self, command: FlowsCommand) {
        match command {
            FlowsCommand::Listen { ask, reply } => drop(reply.send(self.desk.open(ask))),
            FlowsCommand::Nodes { reply } => drop(reply.send(self.flow_nodes((self.clock)()))),
            FlowsCommand::Namespaces { reply } => drop(reply.send(self.namespaces())),
        }
    }

    fn flow_nodes(&self, now: Ns) -> Vec<FlowNode> {
        let mut nodes: Vec<_> = self
            .merge
            .nodes()
            .filter(|node| !node.left)
            .map(|node| FlowNode {
                name: Arc::clone(&node.name),
                available: node.state(now).0 != NodeState::Lost,
                agent_version: node.agent_version.clone(),
                started: node.epoch().map_or(0, |(epoch, _)| time::from_wire(epoch)),
                address: self.names.node(&node.name).and_then(|node| node.addresses.first().copied()),
                ring: self.desk.ring(&node.name),
            })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes
    }

    /// Those that are listed, and those of pods.
    fn namespaces(&self) -> Vec<Arc<str>> {
        let of_pods = self.names.pods().map(|(_, pod)| &pod.namespace);
        let all: BTreeSet<_> = self.names.namespaces().chain(of_pods).filter(|name| !name.is_empty()).collect();
        all.into_iter().cloned().collect()
    }
}
