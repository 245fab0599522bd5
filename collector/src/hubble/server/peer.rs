//! `peer.Peer/Notify`: a stock relay asks who its peers are. Every flow of the cluster is told here, so the one peer is the
//! address at which the relay reached us: naming each node would make it tell each flow many times.

use std::{pin::Pin, sync::Arc};

use tokio::sync::{Semaphore, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    auth,
    hubble::proto::peer::{ChangeNotification, ChangeNotificationType, NotifyRequest, Tls, peer_server::Peer},
    serve::Reached,
};

/// Clients that follow the peers at once.
pub(super) const MAX_PEERS: usize = 16;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Peers {
    /// How the one peer is called.
    pub(super) name: String,
    /// Where a client on the same machine reaches us, if we listen on a Unix socket.
    pub(super) unix: Option<String>,
    /// For streams that are open: [`MAX_PEERS`].
    pub(super) places: Arc<Semaphore>,
    /// The collector ends.
    pub(super) stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Peer for Peers {
    type NotifyStream = Pin<Box<dyn Stream<Item = Result<ChangeNotification, Status>> + Send>>;

    async fn notify(&self, request: Request<NotifyRequest>) -> Result<Response<Self::NotifyStream>, Status> {
        let reached = request.extensions().get::<Reached>().cloned().unwrap_or_default();
        let address = reached.local.map(|address| address.to_string()).or_else(|| self.unix.clone());
        let encrypted = auth::peer(request.extensions()).encrypted;
        let server_name = reached.name.map(|name| name.to_string()).unwrap_or_default();
        let full = || Status::resource_exhausted(format!("{MAX_PEERS} clients follow the peers, and no more may"));
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| full())?;
        let (changes, stream) = tokio::sync::mpsc::channel(1);
        let mut stopped = self.stopped.clone();
        let change = ChangeNotification {
            name: self.name.clone(),
            address: address.ok_or_else(|| Status::internal("find out at which address this was asked"))?,
            r#type: ChangeNotificationType::PeerAdded.into(),
            tls: encrypted.then_some(Tls { server_name }),
        };
        tokio::spawn(async move {
            let _place = place;
            if changes.send(Ok(change)).await.is_ok() {
                tokio::select! {
                    () = changes.closed() => {}
                    _ = stopped.wait_for(|over| *over) => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
