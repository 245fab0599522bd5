//! Hubble's Observer API, answered from the agents' flow events: what the stock `hubble` client asks of a relay.

pub mod filter;
pub mod flow;
pub mod mask;
mod nodes;
mod peer;
pub mod request;
mod stream;

use std::{path::Path, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request as HttpRequest, State},
    middleware::{Next, from_fn_with_state},
    response::Response as HttpResponse,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_stream::{Stream as Items, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{peer::Peers, request::Wish, stream::Stream};
use crate::{
    auth,
    hub::{Command, FlowsCommand, HubHandle},
    hubble::proto::{
        observer::{
            GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse, GetNodesRequest,
            GetNodesResponse, ServerStatusRequest, ServerStatusResponse,
            observer_server::{Observer, ObserverServer},
        },
        peer::peer_server::PeerServer,
    },
    metrics::Metrics,
    time::Ns,
};

/// What `hubble status` asks for first.
pub const HEALTH: &str = "hubble.server.Observer";
/// The longest request, in bytes.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Answers that wait for one client.
const ANSWER_QUEUE: usize = 256;

/// What the service needs.
#[derive(Debug, Clone)]
pub struct Server {
    /// The way to the hub.
    pub hub: HubHandle,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// When this collector started.
    pub started: Ns,
    /// The clock.
    pub clock: fn() -> Ns,
    /// Turns true when the collector ends.
    pub stopped: watch::Receiver<bool>,
}

impl Server {
    /// The services, for a listener of ours; `unix` is its path where it is a socket. With `certified`, who shows no certificate
    /// of the port's authority is refused and counted there.
    pub async fn router(self, unix: Option<&Path>, certified: Option<Arc<Metrics>>) -> Router {
        let reporter = HealthReporter::new();
        reporter.set_service_status(HEALTH, ServingStatus::Serving).await;
        let health = tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(reporter),
        );
        let places = Arc::new(Semaphore::new(peer::MAX_PEERS));
        let unix = unix.map(|path| format!("unix://{}", path.display()));
        let peers = Peers { name: format!("orrery-{}", self.cluster), unix, places, stopped: self.stopped.clone() };
        let observer = ObserverServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES);
        let services = Router::new()
            .route_service("/observer.Observer/{*method}", observer)
            .route_service("/peer.Peer/{*method}", PeerServer::new(peers).max_decoding_message_size(MAX_REQUEST_BYTES))
            .route_service("/grpc.health.v1.Health/{*method}", health)
            .fallback(async || Status::unimplemented("no such service here").into_http::<Body>());
        match certified {
            Some(metrics) => services.layer(from_fn_with_state(metrics, guard)),
            None => services,
        }
    }

    /// Asks the hub.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> FlowsCommand) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let closing = || Status::unavailable("the collector is stopping");
        self.hub.commands.send(Command::Flows(command(reply))).await.map_err(|_| closing())?;
        answer.await.map_err(|_| closing())
    }
}

async fn guard(State(metrics): State<Arc<Metrics>>, request: HttpRequest, next: Next) -> HttpResponse {
    if auth::peer(request.extensions()).certified {
        return next.run(request).await;
    }
    metrics.refused_requests.get_or_create(&[("port", "hubble"), ("reason", "missing")]).inc();
    let hint = "hint: --tls-client-cert-file and --tls-client-key-file, signed by the authority of --hubble-client-ca";
    Status::unauthenticated(format!("no certificate; {hint}")).into_http::<Body>()
}

#[tonic::async_trait]
impl Observer for Server {
    type GetFlowsStream = Pin<Box<dyn Items<Item = Result<GetFlowsResponse, Status>> + Send>>;

    async fn get_flows(&self, request: Request<GetFlowsRequest>) -> Result<Response<Self::GetFlowsStream>, Status> {
        let wish = Wish::new(request.get_ref(), (self.clock)())?;
        let nodes = self.ask(|reply| FlowsCommand::Nodes { reply }).await?;
        let ask = wish.ask.clone();
        let opened = self.ask(|reply| FlowsCommand::Listen { ask, reply }).await?;
        let listening = opened.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let (answers, stream) = mpsc::channel(ANSWER_QUEUE);
        let (cluster, stopped) = (Arc::clone(&self.cluster), self.stopped.clone());
        tokio::spawn(Stream { wish, listening, answers, cluster, nodes, stopped }.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_nodes(&self, _: Request<GetNodesRequest>) -> Result<Response<GetNodesResponse>, Status> {
        let nodes = self.ask(|reply| FlowsCommand::Nodes { reply }).await?;
        Ok(Response::new(nodes::nodes(&nodes, (self.clock)())))
    }

    async fn get_namespaces(
        &self,
        _: Request<GetNamespacesRequest>,
    ) -> Result<Response<GetNamespacesResponse>, Status> {
        let names = self.ask(|reply| FlowsCommand::Namespaces { reply }).await?;
        Ok(Response::new(nodes::namespaces(&names, &self.cluster)))
    }

    async fn server_status(&self, _: Request<ServerStatusRequest>) -> Result<Response<ServerStatusResponse>, Status> {
        let nodes = self.ask(|reply| FlowsCommand::Nodes { reply }).await?;
        Ok(Response::new(nodes::status(&nodes, self.started, (self.clock)())))
    }
}
