//! Reports to the collector over one kept-alive connection. No queue: a report that was not acknowledged is not kept,
//! the next one carries newer totals (law 4).

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
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
    sender: Option<SendRequest<Full<Bytes>>>,
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
        let http = |error: Box<dyn std::error::Error + Send + Sync>| TransportError::Http(error);
        sender.ready().await.map_err(|error| http(Box::new(error)))?;
        let mut request = Request::post(wire::REPORT_PATH)
            .header(header::HOST, self.collector.authority())
            .header(header::CONTENT_TYPE, wire::CONTENT_TYPE)
            .header(header::CONTENT_ENCODING, "zstd")
            .body(Full::new(body))
            .map_err(|error| http(Box::new(error)))?;
        if let Some(path) = &self.token_file {
            request.headers_mut().insert(header::AUTHORIZATION, self.token.header(path)?);
        }
        let response = sender.send_request(request).await.map_err(|error| http(Box::new(error)))?;
        let (parts, body) = response.into_parts();
        let answer = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(http)?.to_bytes();
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

    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        let failed = |source| TransportError::Connect { collector: self.collector.clone(), source };
        let (sender, own) = match &self.collector {
            Collector::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                let own = stream.local_addr().ok().zip(stream.peer_addr().ok());
                match tls {
                    None => (handshake(stream).await?, own),
                    Some(files) => (handshake(encrypted(stream, host, files).await?).await?, own),
                }
            }
            Collector::Unix(path) => (handshake(UnixStream::connect(path).await.map_err(failed)?).await?, None),
        };
        self.own = own;
        Ok(sender)
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

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, TransportError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| TransportError::Http(Box::new(error)))?;
    // Ends when the sender is dropped or the peer hangs up; the next send then says why.
    tokio::spawn(connection);
    Ok(sender)
}
