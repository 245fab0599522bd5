//! Reports to the collector over one kept-alive connection. No queue: a report that was not acknowledged is not kept,
//! the next one carries newer totals (law 4).

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use wire::v1::Ack;

use crate::config::Collector;

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
    sender: Option<SendRequest<Full<Bytes>>>,
    own: Option<(SocketAddr, SocketAddr)>,
}

impl Client {
    /// Connects nowhere yet.
    #[must_use]
    pub fn new(collector: Collector) -> Self {
        Self { collector, sender: None, own: None }
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
        let request = Request::post(wire::REPORT_PATH)
            .header(header::HOST, "collector")
            .header(header::CONTENT_TYPE, wire::CONTENT_TYPE)
            .header(header::CONTENT_ENCODING, "zstd")
            .body(Full::new(body))
            .map_err(|error| http(Box::new(error)))?;
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
            Collector::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                let own = stream.local_addr().ok().zip(stream.peer_addr().ok());
                (handshake(stream).await?, own)
            }
            Collector::Unix(path) => (handshake(UnixStream::connect(path).await.map_err(failed)?).await?, None),
        };
        self.own = own;
        Ok(sender)
    }
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
