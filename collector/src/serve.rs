//! From bound listeners to requests that know who is at the other end. Handshakes run beside each other, in bounded number
//! and time: one that hangs holds up nobody.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{metrics::Metrics, socket, tls::Tls};

/// Handshakes at once; further connections wait in the kernel's queue.
pub const MAX_HANDSHAKES: usize = 256;
/// A handshake that takes longer is cut.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// A listener that cannot accept tries again after this long: descriptors may be scarce.
const AGAIN: Duration = Duration::from_millis(200);

/// The other end of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address; none on a Unix socket.
    pub address: Option<SocketAddr>,
    /// The connection is encrypted.
    pub encrypted: bool,
    /// It showed a certificate that our authority signed.
    pub certified: bool,
}

/// A TCP listener without TLS.
#[derive(Debug)]
struct Plain {
    listener: TcpListener,
    stalled: Duration,
}

impl Listener for Plain {
    type Io = TcpStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (TcpStream, Peer) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    socket::tune(&stream, self.stalled);
                    return (stream, Peer { address: Some(address), ..Peer::default() });
                }
                Err(error) => wait(error).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: Some(self.listener.local_addr()?), ..Peer::default() })
    }
}

/// What came through its handshake.
#[derive(Debug)]
struct Encrypted {
    local: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, Peer)>,
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (TlsStream<TcpStream>, Peer) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The pump has ended, as everything is about to.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: Some(self.local), encrypted: true, certified: false })
    }
}

/// A Unix socket.
#[derive(Debug)]
struct Local(UnixListener);

impl Listener for Local {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => return (stream, Peer::default()),
                Err(error) => wait(error).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::default())
    }
}

impl Connected<IncomingStream<'_, Plain>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Plain>) -> Self {
        *stream.remote_addr()
    }
}

impl Connected<IncomingStream<'_, Encrypted>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Encrypted>) -> Self {
        *stream.remote_addr()
    }
}

impl Connected<IncomingStream<'_, Local>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Local>) -> Self {
        *stream.remote_addr()
    }
}

async fn wait(error: io::Error) {
    tracing::warn!(%error, "accept failed: trying again");
    tokio::time::sleep(AGAIN).await;
}

/// Serves a TCP port until `stopped` turns true, encrypted where there is something to do it with. A client that takes nothing
/// for `stalled` is cut.
pub async fn tcp(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    stalled: Duration,
    router: Router,
    metrics: Arc<Metrics>,
    stopped: watch::Receiver<bool>,
) {
    let Some(tls) = tls else { return until(Plain { listener, stalled }, router, stopped).await };
    let local = match listener.local_addr() {
        Ok(local) => local,
        Err(error) => return tracing::error!(%error, "listener failed"),
    };
    let (done, ready) = mpsc::channel(1);
    let mut over = stopped.clone();
    let pump = async move {
        let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        // Nobody closes the semaphore.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    wait(error).await;
                    continue;
                }
            };
            socket::tune(&stream, stalled);
            let (acceptor, done, metrics) = (TlsAcceptor::from(tls.current()), done.clone(), Arc::clone(&metrics));
            tokio::spawn(async move {
                let shaken = timeout(HANDSHAKE, acceptor.accept(stream)).await;
                drop(place);
                match shaken {
                    Ok(Ok(stream)) => {
                        let certified = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
                        // When nobody takes it any more, the collector is stopping.
                        let _ = done.send((stream, Peer { address: Some(address), encrypted: true, certified })).await;
                    }
                    Ok(Err(error)) => {
                        metrics.failed_handshakes.inc();
                        tracing::debug!(%address, %error, "handshake failed");
                    }
                    Err(_) => {
                        metrics.failed_handshakes.inc();
                        tracing::debug!(%address, "handshake took too long");
                    }
                }
            });
        }
    };
    let pump = tokio::spawn(async move {
        tokio::select! { _ = over.wait_for(|over| *over) => {}, () = pump => {} }
    });
    until(Encrypted { local, ready }, router, stopped).await;
    pump.abort();
}

/// Serves a Unix socket until `stopped` turns true.
pub async fn unix(listener: UnixListener, router: Router, stopped: watch::Receiver<bool>) {
    until(Local(listener), router, stopped).await;
}

async fn until<L>(listener: L, router: Router, mut stopped: watch::Receiver<bool>)
where
    L: Listener<Addr = Peer>,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let over = async move { drop(stopped.wait_for(|over| *over).await) };
    let service = router.into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(over).await {
        tracing::error!(%error, "listener failed");
    }
}
