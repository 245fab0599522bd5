//! From bound listeners to requests that know who is at the other end. Nobody holds a place without asking for something:
//! connections are bounded in number, handshakes and heads of requests in time, and what is over a bound is cut and counted.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response},
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{metrics::Metrics, socket, tls::Tls};

/// Handshakes at once; further connections wait in the kernel's queue.
pub const MAX_HANDSHAKES: usize = 256;
/// A handshake that takes longer is cut.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection on which no request has come whole for this long, while none is answered, is cut.
pub const HEAD: Duration = Duration::from_secs(15);
/// The longest head of a request, in bytes: 431 to more.
pub const MAX_HEAD_BYTES: usize = 32 << 10;
/// A listener that cannot accept tries again after this long: descriptors may be scarce.
const AGAIN: Duration = Duration::from_millis(200);
/// A silent HTTP/2 connection is asked this often whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Requests of one HTTP/2 connection at once.
const MAX_REQUESTS: u32 = 32;
/// What a client of HTTP/2 may send before it is read, in bytes: of one connection, as much as of one that speaks HTTP/1.1.
const WINDOW_BYTES: u32 = 256 << 10;

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

/// How a connection found us, in a request's extensions.
#[derive(Debug, Clone, Default)]
pub struct Reached {
    /// At which address.
    pub local: Option<SocketAddr>,
    /// Under which name, where it was encrypted and said so.
    pub name: Option<Arc<str>>,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1, or HTTP/2 where the handshake agreed on it.
    Http,
    /// gRPC, which is HTTP/2.
    Grpc,
}

/// What connections of a port may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// So many at once; further ones are closed.
    pub connections: usize,
    /// As [`HEAD`].
    pub head: Duration,
    /// A client that takes nothing for this long is cut.
    pub stalled: Duration,
}

/// How a port is served.
#[derive(Debug)]
pub struct Port {
    /// In metrics.
    pub name: &'static str,
    /// Its language.
    pub speaks: Speaks,
    /// What it is encrypted with, if it is.
    pub tls: Option<Arc<Tls>>,
    /// What is allowed.
    pub limits: Limits,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who answers.
    pub router: Router,
}

enum Inlet {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Inlet {
    async fn accept(&self) -> Accepted {
        loop {
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().await.map(|(stream, address)| Accepted::Tcp(stream, address)),
                Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) => wait(error).await,
            }
        }
    }
}

/// Comes when the collector ends.
async fn end(over: &mut watch::Receiver<bool>) {
    drop(over.wait_for(|over| *over).await);
}

async fn wait(error: io::Error) {
    tracing::warn!(%error, "accept failed: trying again");
    sleep(AGAIN).await;
}

impl Port {
    /// Serves a TCP port until `stopped` turns true.
    pub async fn tcp(self, listener: TcpListener, stopped: watch::Receiver<bool>) {
        self.until(Inlet::Tcp(listener), stopped).await;
    }

    /// Serves a Unix socket until `stopped` turns true; it is never encrypted.
    pub async fn unix(mut self, listener: UnixListener, stopped: watch::Receiver<bool>) {
        self.tls = None;
        self.until(Inlet::Unix(listener), stopped).await;
    }

    async fn until(self, inlet: Inlet, mut stopped: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let (port, mut open) = (Arc::new(self), JoinSet::new());
        let over = stopped.clone();
        loop {
            // Room for a handshake comes first: who finds none waits in the kernel's queue, not here.
            let next = async {
                let shaking =
                    if port.tls.is_some() { Arc::clone(&handshakes).acquire_owned().await.ok() } else { None };
                (inlet.accept().await, shaking)
            };
            let (accepted, shaking) = tokio::select! {
                () = end(&mut stopped) => break,
                Some(_) = open.join_next() => continue,
                accepted = next => accepted,
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                port.metrics.refused_connections.get_or_create(&[("port", port.name)]).inc();
                continue;
            };
            let (port, over) = (Arc::clone(&port), over.clone());
            open.spawn(async move {
                port.connection(accepted, shaking, over).await;
                drop(place);
            });
        }
        while open.join_next().await.is_some() {}
    }

    async fn connection(&self, accepted: Accepted, shaking: Option<OwnedSemaphorePermit>, over: watch::Receiver<bool>) {
        let (stream, address) = match accepted {
            Accepted::Unix(stream) => {
                return self.speak(stream, Peer::default(), Reached::default(), false, over).await;
            }
            Accepted::Tcp(stream, address) => (stream, address),
        };
        socket::tune(&stream, self.limits.stalled);
        let peer = Peer { address: Some(address), ..Peer::default() };
        let local = stream.local_addr().ok();
        let Some(tls) = &self.tls else {
            return self.speak(stream, peer, Reached { local, name: None }, false, over).await;
        };
        let Some(stream) = self.shake(tls, stream, address).await else { return };
        drop(shaking);
        let certified = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
        let name = stream.get_ref().1.server_name().map(Arc::from);
        let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.speak(stream, Peer { encrypted: true, certified, ..peer }, Reached { local, name }, agreed, over).await;
    }

    async fn shake(&self, tls: &Tls, stream: TcpStream, address: SocketAddr) -> Option<TlsStream<TcpStream>> {
        match timeout(HANDSHAKE, TlsAcceptor::from(tls.current()).accept(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%address, %error, "handshake failed"),
            Err(_) => tracing::debug!(%address, "handshake took too long"),
        }
        self.metrics.failed_handshakes.inc();
        None
    }

    async fn speak<S>(&self, stream: S, peer: Peer, reached: Reached, agreed_on_2: bool, over: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (asked, head) = (Arc::new(AtomicBool::new(false)), self.limits.head);
        let service = answer(self.router.clone(), peer, reached, Arc::clone(&asked));
        let stream = TokioIo::new(stream);
        let cut = if agreed_on_2 || self.speaks == Speaks::Grpc {
            speak_2(stream, service, head, over, &asked).await
        } else {
            speak_1(stream, service, head, over).await
        };
        if cut {
            // A kept connection that nobody used any more is no trouble.
            let reason = if asked.load(Ordering::Relaxed) { "idle" } else { "silent" };
            self.metrics.cut_connections.get_or_create(&[("port", self.name), ("reason", reason)]).inc();
        }
    }
}

/// Hands requests on with who asks, and notes that there was one.
fn answer(
    router: Router,
    peer: Peer,
    reached: Reached,
    asked: Arc<AtomicBool>,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Send {
    service_fn(move |mut request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(reached.clone());
        // A router is always ready.
        tower::Service::call(&mut router.clone(), request)
    })
}

/// Whether the connection was cut for want of a request.
async fn speak_1<S>(
    stream: TokioIo<S>,
    service: impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Send,
    head: Duration,
    mut over: watch::Receiver<bool>,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head).max_header_size(MAX_HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end(&mut over) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.is_err_and(|error| error.is_timeout())
}

/// As [`speak_1`]. Its client may be silent for long once it has asked for something.
async fn speak_2<S>(
    stream: TokioIo<S>,
    service: impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static> + Send,
    head: Duration,
    mut over: watch::Receiver<bool>,
    asked: &AtomicBool,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_streams(MAX_REQUESTS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let silent = async {
        sleep(head).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    // How a connection ends that had its say is its own business.
    tokio::select! {
        _ = connection.as_mut() => false,
        () = silent => true,
        () = end(&mut over) => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
            false
        }
    }
}
