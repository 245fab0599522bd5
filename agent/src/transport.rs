//! Reports to the collector over one kept-alive connection: HTTP/2 where the TLS handshake agrees on it, else HTTP/1.1, which
//! every proxy takes. No queue: a report that was not acknowledged is not kept, the next one carries newer totals (law 4).

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wire::v1::Ack;

use crate::{
    config::{Collector, TlsFiles},
    credentials::{self, CredentialError, Token},
};

/// How long a report may take from first byte to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer read, in bytes: an `Ack`, or an error in words.
const MAX_ANSWER_BYTES: usize = 16_384;
/// HTTP/2: between two reports the collector is asked this often whether it is still there, so that a connection that died is
/// found before a report is lost on it.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// HTTP/2: bytes of answers that are taken before they are read.
const WINDOW_BYTES: u32 = 65_535;

/// Why a report did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection.
    #[error("connect to collector: {collector:?}")]
    Connect {
        /// Where.
        collector: Collector,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of certificates or tokens will not do.
    #[error("show credentials")]
    Credentials(#[from] CredentialError),
    /// The other end is not the collector, or will not talk to us.
    #[error("agree on encryption with {host}; hint: {hint}")]
    Handshake {
        /// Whom we asked.
        host: String,
        /// What to do.
        hint: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("send report")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("send report: no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The collector answered something that is no acknowledgement.
    #[error("read acknowledgement")]
    Ack(#[source] wire::codec::DecodeError),
}

/// What the collector said.
#[derive(Debug)]
pub enum Answer {
    /// It has the report.
    Ack(Ack),
    /// It is busy: try again after this long.
    Busy(Duration),
    /// It will not take this report.
    Refused {
        /// Its status code.
        status: StatusCode,
        /// Its reason.
        reason: String,
    },
}

/// The connection to the collector, made when first needed and again when it broke.
pub struct Client {
    collector: Collector,
    token_file: Option<PathBuf>,
    token: Token,
    sender: Option<Sender>,
    own: Option<(SocketAddr, SocketAddr)>,
}

impl Client {
    /// Connects nowhere yet.
    #[must_use]
    pub fn new(collector: Collector, token_file: Option<PathBuf>) -> Self {
        Self { collector, token_file, token: Token::default(), sender: None, own: None }
    }

    /// Both ends of the TCP connection in use: the agent's own traffic, to be told from the pods'.
    #[must_use]
    pub fn own(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.own
    }

    /// Sends one report and reads the answer.
    ///
    /// # Errors
    /// See [`TransportError`]; the connection is then made anew by the next call.
    pub async fn post(&mut self, body: Bytes) -> Result<Answer, TransportError> {
        let outcome = timeout(TIMEOUT, self.exchange(body)).await.unwrap_or(Err(TransportError::Timeout));
        if outcome.is_err() {
            self.sender = None;
            self.own = None;
        }
        outcome
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Answer, TransportError> {
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::CONTENT_TYPE));
        request.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        if let Some(path) = &self.token_file {
            request.headers_mut().insert(header::AUTHORIZATION, self.token.header(path)?);
        }
        let (parts, body) = sender.send(request, &self.collector.authority()).await?.into_parts();
        let answer = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(TransportError::Http)?.to_bytes();
        self.sender = Some(sender);
        match parts.status {
            StatusCode::OK => Ok(Answer::Ack(wire::codec::decode_ack(&answer).map_err(TransportError::Ack)?)),
            StatusCode::SERVICE_UNAVAILABLE => {
                let seconds =
                    parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                Ok(Answer::Busy(Duration::from_secs(seconds.unwrap_or(1).min(60))))
            }
            status => Ok(Answer::Refused { status, reason: String::from_utf8_lossy(&answer).trim().to_owned() }),
        }
    }

    async fn connect(&mut self) -> Result<Sender, TransportError> {
        let failed = |source| TransportError::Connect { collector: self.collector.clone(), source };
        let (sender, own) = match &self.collector {
            Collector::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                let own = stream.local_addr().ok().zip(stream.peer_addr().ok());
                let sender = match tls {
                    None => Sender::http1(stream).await,
                    Some(files) => {
                        let stream = encrypted(stream, host, files).await?;
                        match stream.get_ref().1.alpn_protocol() {
                            Some(b"h2") => Sender::http2(stream).await,
                            _ => Sender::http1(stream).await,
                        }
                    }
                };
                (sender, own)
            }
            Collector::Unix(path) => (Sender::http1(UnixStream::connect(path).await.map_err(failed)?).await, None),
        };
        self.own = own;
        sender
    }
}

/// A connection, by the version both ends agreed on. Its task ends when the sender is dropped or the peer hangs up; the next
/// report then says why.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, TransportError> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, TransportError> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        Ok(Self::Http2(sender))
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Where the request goes is told by a header, or by its whole address (RFC 9113 section 8.3.1).
    async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
        authority: &str,
    ) -> Result<Response<Incoming>, TransportError> {
        let uri = Uri::builder().path_and_query(wire::REPORT_PATH);
        match self {
            Self::Http1(sender) => {
                *request.uri_mut() = uri.build()?;
                let host = HeaderValue::from_str(authority).map_err(http::Error::from)?;
                request.headers_mut().insert(header::HOST, host);
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Self::Http2(sender) => {
                *request.uri_mut() = uri.scheme(Scheme::HTTPS).authority(authority).build()?;
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

impl From<hyper::Error> for TransportError {
    fn from(error: hyper::Error) -> Self {
        Self::Http(Box::new(error))
    }
}

impl From<http::Error> for TransportError {
    fn from(error: http::Error) -> Self {
        Self::Http(Box::new(error))
    }
}

async fn encrypted(stream: TcpStream, host: &str, files: &TlsFiles) -> Result<TlsStream<TcpStream>, TransportError> {
    let failed = |hint| move |source| TransportError::Handshake { host: host.to_owned(), hint, source };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| failed("a DNS name or an address")(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let connector = TlsConnector::from(Arc::new(credentials::client(files)?));
    let hint = "the collector's port must speak TLS, under this name, with a certificate of --ca-file's authority";
    connector.connect(name, stream).await.map_err(failed(hint))
}
