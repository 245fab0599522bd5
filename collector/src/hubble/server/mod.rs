//! Hubble's Observer API, answered from the agents' flow events: what the stock `hubble` client asks of a relay.

pub mod filter;
pub mod flow;
pub mod mask;
mod nodes;
mod peer;
pub mod request;
mod stream;

use std::{io, pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use futures_util::stream::unfold;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Semaphore, mpsc, oneshot, watch},
};
use tokio_stream::{Stream as Items, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, transport::Server as Grpc};
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{peer::Peers, request::Wish, stream::Stream};
use crate::{
    hub::{Command, FlowsCommand, HubHandle},
    hubble::proto::{
        observer::{
            GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse, GetNodesRequest,
            GetNodesResponse, ServerStatusRequest, ServerStatusResponse,
            observer_server::{Observer, ObserverServer},
        },
        peer::peer_server::PeerServer,
    },
    time::Ns,
};

/// What `hubble status` asks for first.
pub const HEALTH: &str = "hubble.server.Observer";
/// The longest request, in bytes.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Answers that wait for one client.
const ANSWER_QUEUE: usize = 256;
/// A silent connection is asked this often whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Requests of one connection at once.
const MAX_REQUESTS: usize = 32;

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
    /// Serves on TCP until the collector ends.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve_tcp(self, listener: TcpListener) -> Result<(), tonic::transport::Error> {
        let incoming = unfold(listener, |listener| async {
            let accepted = listener.accept().await.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(stream)
            });
            Some((accepted, listener))
        });
        self.serve(incoming, None).await
    }

    /// Serves on a Unix socket until the collector ends.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve_unix(self, listener: UnixListener) -> Result<(), tonic::transport::Error> {
        let path = listener.local_addr().ok().and_then(|address| Some(address.as_pathname()?.display().to_string()));
        let incoming =
            unfold(listener, |listener| async { Some((listener.accept().await.map(|(stream, _)| stream), listener)) });
        self.serve(incoming, path.map(|path| format!("unix://{path}"))).await
    }

    async fn serve<S>(
        self,
        incoming: impl Items<Item = Result<S, io::Error>>,
        unix: Option<String>,
    ) -> Result<(), tonic::transport::Error>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + tonic::transport::server::Connected + Unpin + Send + 'static,
    {
        let reporter = HealthReporter::new();
        reporter.set_service_status(HEALTH, ServingStatus::Serving).await;
        let health = tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(reporter),
        );
        let places = Arc::new(Semaphore::new(peer::MAX_PEERS));
        let peers = Peers { name: format!("orrery-{}", self.cluster), unix, places, stopped: self.stopped.clone() };
        let mut stopped = self.stopped.clone();
        let over = async move { drop(stopped.wait_for(|over| *over).await) };
        let observer = ObserverServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES);
        let services = Router::new()
            .route_service("/observer.Observer/{*method}", observer)
            .route_service("/peer.Peer/{*method}", PeerServer::new(peers).max_decoding_message_size(MAX_REQUEST_BYTES))
            .route_service("/grpc.health.v1.Health/{*method}", health)
            .fallback(async || Status::unimplemented("no such service here").into_http::<axum::body::Body>());
        Grpc::builder()
            .concurrency_limit_per_connection(MAX_REQUESTS)
            // A client that is gone without a word must not keep its place.
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .max_concurrent_streams(u32::try_from(MAX_REQUESTS).ok())
            .serve_with_incoming_shutdown(services, incoming, over)
            .await
    }

    /// Asks the hub.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> FlowsCommand) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let closing = || Status::unavailable("the collector is stopping");
        self.hub.commands.send(Command::Flows(command(reply))).await.map_err(|_| closing())?;
        answer.await.map_err(|_| closing())
    }
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
