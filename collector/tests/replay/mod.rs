//! A Hubble server for tests: it tells what it is told to tell.

use std::{io, path::Path, pin::Pin};

use axum::Router;
use collector::hubble::proto::observer::{
    GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse, GetNodesRequest, GetNodesResponse,
    ServerStatusRequest, ServerStatusResponse,
    observer_server::{Observer, ObserverServer},
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{
    Request, Response, Status,
    transport::{Server, ServerTlsConfig},
};

/// What goes to those who follow; first what was there before they came.
#[derive(Clone)]
pub(crate) struct Replay {
    first: Vec<GetFlowsResponse>,
    later: broadcast::Sender<GetFlowsResponse>,
}

impl Replay {
    /// Tells `first` to everybody, and then what [`Replay::tell`] brings.
    pub(crate) fn new(first: Vec<GetFlowsResponse>) -> Self {
        Self { first, later: broadcast::channel(1 << 16).0 }
    }

    /// Tells those who follow now.
    pub(crate) fn tell(&self, response: GetFlowsResponse) {
        // Nobody may follow yet.
        let _ = self.later.send(response);
    }

    /// How many follow.
    pub(crate) fn followers(&self) -> usize {
        self.later.receiver_count()
    }

    /// Serves on loopback; the address.
    pub(crate) async fn tcp(&self, tls: Option<ServerTlsConfig>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).expect("TLS");
        }
        let incoming = stream::unfold(listener, |listener| async {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        self.serve(server, incoming);
        address
    }

    /// Serves on a Unix socket; the address.
    pub(crate) fn unix(&self, path: &Path) -> String {
        let listener = tokio::net::UnixListener::bind(path).expect("a socket");
        let incoming = stream::unfold(listener, |listener| async {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        self.serve(Server::builder(), incoming);
        format!("unix:{}", path.display())
    }

    fn serve<S>(&self, server: Server, incoming: impl Stream<Item = Result<S, io::Error>> + Send + 'static)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + tonic::transport::server::Connected + Unpin + Send + 'static,
    {
        let service = ObserverServer::new(self.clone());
        let routes = Router::new().route_service("/observer.Observer/{*method}", service);
        tokio::spawn(server.serve_with_incoming(routes, incoming));
    }
}

#[tonic::async_trait]
impl Observer for Replay {
    type GetFlowsStream = Pin<Box<dyn Stream<Item = Result<GetFlowsResponse, Status>> + Send>>;

    async fn get_flows(&self, request: Request<GetFlowsRequest>) -> Result<Response<Self::GetFlowsStream>, Status> {
        let first = stream::iter(self.first.clone().into_iter().map(Ok));
        if !request.get_ref().follow {
            return Ok(Response::new(Box::pin(first)));
        }
        let later = BroadcastStream::new(self.later.subscribe());
        let later = later.map(|told| told.map_err(|error| Status::data_loss(error.to_string())));
        Ok(Response::new(Box::pin(first.chain(later))))
    }

    async fn get_nodes(&self, _: Request<GetNodesRequest>) -> Result<Response<GetNodesResponse>, Status> {
        Ok(Response::new(GetNodesResponse::default()))
    }

    async fn get_namespaces(
        &self,
        _: Request<GetNamespacesRequest>,
    ) -> Result<Response<GetNamespacesResponse>, Status> {
        Ok(Response::new(GetNamespacesResponse::default()))
    }

    async fn server_status(&self, _: Request<ServerStatusRequest>) -> Result<Response<ServerStatusResponse>, Status> {
        Ok(Response::new(ServerStatusResponse::default()))
    }
}
