//! A client that sends what the stock `hubble` command sends, and what its answers say.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use collector::hubble::proto::flow::{Flow, FlowFilter, Verdict, layer4::Protocol as L4, layer7::Record};
use collector::hubble::proto::observer::{
    GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNodesRequest, Node, ServerStatusRequest,
    ServerStatusResponse, get_flows_response::ResponseTypes, observer_client::ObserverClient,
};
use collector::hubble::proto::peer::{ChangeNotification, NotifyRequest, peer_client::PeerClient};
use prost::Message as _;
use prost_types::{Struct, value::Kind};
use tokio::runtime::Runtime;
use tonic::{Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Longer than the server waits for its slowest agent.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// The client.
pub(crate) struct Client {
    runtime: Runtime,
    channel: Channel,
}

impl Client {
    /// Connects.
    pub(crate) fn new(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = runtime.block_on(endpoint.connect()).expect("a connection");
        Self { runtime, channel }
    }

    fn observer(&self) -> ObserverClient<Channel> {
        ObserverClient::new(self.channel.clone())
    }

    /// `hubble status`: the health of the service it names, then its status.
    pub(crate) fn status(&self) -> ServerStatusResponse {
        let mut health = HealthClient::new(self.channel.clone());
        let service = "hubble.server.Observer".to_owned();
        let check = self.runtime.block_on(health.check(HealthCheckRequest { service })).expect("health");
        assert_eq!(check.into_inner().status, 1, "SERVING");
        self.runtime.block_on(self.observer().server_status(ServerStatusRequest {})).expect("a status").into_inner()
    }

    /// `hubble list nodes`.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.runtime.block_on(self.observer().get_nodes(GetNodesRequest {})).expect("nodes").into_inner().nodes
    }

    /// `hubble list namespaces`.
    pub(crate) fn namespaces(&self) -> Vec<(String, String)> {
        let answer = self.runtime.block_on(self.observer().get_namespaces(GetNamespacesRequest {}));
        let namespaces = answer.expect("namespaces").into_inner().namespaces;
        namespaces.into_iter().map(|one| (one.cluster, one.namespace)).collect()
    }

    /// What a relay asks: its peers. The stream, and the address of the first.
    pub(crate) fn peers(&self) -> Result<(Streaming<ChangeNotification>, String), tonic::Status> {
        let mut peers = PeerClient::new(self.channel.clone());
        let mut stream = self.runtime.block_on(peers.notify(NotifyRequest {}))?.into_inner();
        let first = self.runtime.block_on(stream.message())?.expect("a peer");
        Ok((stream, first.address))
    }

    /// A stream.
    pub(crate) fn open(&self, request: GetFlowsRequest) -> Result<Streaming<GetFlowsResponse>, tonic::Status> {
        self.runtime.block_on(self.observer().get_flows(request)).map(tonic::Response::into_inner)
    }

    /// The next answer; `None` at the end, or when nothing came in time.
    pub(crate) fn next(&self, stream: &mut Streaming<GetFlowsResponse>, within: Duration) -> Option<GetFlowsResponse> {
        let next = async { tokio::time::timeout(within, stream.message()).await };
        self.runtime.block_on(next).ok()?.expect("the stream is sound")
    }

    /// Everything that a request without `follow` is answered with.
    pub(crate) fn all(&self, request: GetFlowsRequest) -> Answers {
        let masked = request.field_mask.is_some();
        let mut stream = self.open(request).expect("a stream");
        let mut answers = Answers::default();
        while let Some(answer) = self.next(&mut stream, ANSWERED_WITHIN) {
            match answer.response_types.expect("something") {
                ResponseTypes::Flow(flow) => {
                    // A mask cuts the flow, not what stands beside it.
                    assert!(masked || answer.node_name == flow.node_name, "{} of {flow:?}", answer.node_name);
                    answers.flows.push(*flow);
                }
                ResponseTypes::LostEvents(lost) => answers.lost += lost.num_events_lost,
                ResponseTypes::NodeStatus(status) => {
                    answers.states.entry(status.state_change).or_default().extend(status.node_names);
                }
            }
        }
        answers
    }
}

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) flows: Vec<Flow>,
    pub(crate) lost: u64,
    /// Nodes by the state that was told of them.
    pub(crate) states: BTreeMap<i32, Vec<String>>,
}

/// `hubble observe`, as its arguments become a request: without any the last 20.
pub(crate) fn observe(number: u64, whitelist: Vec<FlowFilter>) -> GetFlowsRequest {
    GetFlowsRequest { number, whitelist, ..GetFlowsRequest::default() }
}

/// `--all`.
pub(crate) const ALL: u64 = u64::MAX;

/// `--since`.
pub(crate) fn since(ago: Duration) -> GetFlowsRequest {
    let time = SystemTime::now() - ago;
    GetFlowsRequest { since: Some(time.into()), ..GetFlowsRequest::default() }
}

/// A flag that means either end makes two filters of it: `--namespace`, `--pod`, `--port`.
pub(crate) fn either(source: impl Fn(&mut FlowFilter), destination: impl Fn(&mut FlowFilter)) -> Vec<FlowFilter> {
    let (mut left, mut right) = (FlowFilter::default(), FlowFilter::default());
    source(&mut left);
    destination(&mut right);
    vec![left, right]
}

/// One filter.
pub(crate) fn only(change: impl Fn(&mut FlowFilter)) -> Vec<FlowFilter> {
    let mut filter = FlowFilter::default();
    change(&mut filter);
    vec![filter]
}

/// Source and destination port; 0 for none.
pub(crate) fn ports(flow: &Flow) -> (u32, u32) {
    match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
        Some(L4::Tcp(tcp)) => (tcp.source_port, tcp.destination_port),
        Some(L4::Udp(udp)) => (udp.source_port, udp.destination_port),
        _ => (0, 0),
    }
}

/// What of a connection a flow tells: "syn", "syn-ack", "ack", "fin", "rst", "udp", "icmp", "query", "answer" or "drop".
pub(crate) fn kind(flow: &Flow) -> &'static str {
    if flow.verdict() == Verdict::Dropped {
        return "drop";
    }
    if let Some(Record::Dns(_)) = flow.l7.as_ref().and_then(|l7| l7.record.as_ref()) {
        return if flow.is_reply == Some(true) { "answer" } else { "query" };
    }
    match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
        Some(L4::Tcp(tcp)) => {
            let flags = tcp.flags.unwrap_or_default();
            match (flags.syn, flags.ack, flags.fin, flags.rst) {
                (true, false, ..) => "syn",
                (true, true, ..) => "syn-ack",
                (_, _, true, _) => "fin",
                (.., true) => "rst",
                _ => "ack",
            }
        }
        Some(L4::Udp(_)) => "udp",
        Some(L4::IcmPv4(_) | L4::IcmPv6(_)) => "icmp",
        _ => "other",
    }
}

/// A number among a flow's extensions.
pub(crate) fn extension(flow: &Flow, key: &str) -> Option<u64> {
    let extensions = Struct::decode(flow.extensions.as_ref()?.value.as_slice()).expect("a struct");
    match extensions.fields.get(key)?.kind.as_ref()? {
        Kind::NumberValue(number) => Some(*number as u64),
        _ => None,
    }
}
