//! Follows a relay's or a node's flows over TCP, TLS or a Unix socket, and comes again when that breaks.

use std::{io, path::PathBuf, time::Duration};

use prost_types::Timestamp;
use tokio::sync::{mpsc, watch};
use tonic::{
    Code, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::proto::observer::{
    GetFlowsRequest, GetFlowsResponse, get_flows_response::ResponseTypes, observer_client::ObserverClient,
};
use crate::{clock, time::Ns};

/// The longest message that is taken, in bytes; a flow has a few hundred.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Responses that wait for their reader; then the server's stream waits, and the server counts what it loses.
pub const QUEUE: usize = 4_096;
/// A connection that is not there by then will not be.
const CONNECT: Duration = Duration::from_secs(10);
/// A silent connection is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The first wait after a break; each further one is twice as long.
const BACK_OFF: Duration = Duration::from_millis(500);
/// The longest wait.
const MAX_BACK_OFF: Duration = Duration::from_secs(30);

/// Where flows come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// `HOST:PORT`, or `unix:PATH`.
    pub address: String,
    /// How it is spoken to.
    pub tls: Option<Tls>,
}

/// TLS: whom to believe, and who we are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Certificates that the server's is signed by.
    pub authorities: Vec<PathBuf>,
    /// Our certificate and its key, for servers that ask.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the server's certificate, where it is not the address.
    pub server_name: Option<String>,
}

/// Why no flows come.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error(
        "the address of a Hubble server is HOST:PORT, tls://HOST:PORT or unix:PATH: {address}; hint: hubble-relay.kube-system:80"
    )]
    Address {
        /// What was given.
        address: String,
    },
    /// A key or a certificate that cannot be read.
    #[error("read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Keys that do not go together, or are none.
    #[error("set up TLS for {address}; hint: --tls-ca-cert-files names the server's authority, in PEM")]
    Tls {
        /// For whom.
        address: String,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
    /// Nobody there, or nobody who speaks HTTP/2.
    #[error("connect to Hubble: {address}; hint: {hint}")]
    Connect {
        /// Where.
        address: String,
        /// What to look at.
        hint: &'static str,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
    /// The server said no.
    #[error("ask Hubble for flows: {address}: {code:?}: {message}; hint: {hint}")]
    Refused {
        /// Where.
        address: String,
        /// Its status.
        code: Code,
        /// In its words.
        message: String,
        /// What to look at.
        hint: &'static str,
    },
}

impl Server {
    /// What an address means; `tls://` asks for TLS as `tls` does.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str, tls: Option<Tls>) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address { address: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            if path.is_empty() {
                return Err(wrong());
            }
            return Ok(Self { address: format!("unix:{path}"), tls: None });
        }
        let (address, asked) = ["tls://", "https://"]
            .iter()
            .find_map(|scheme| Some((text.strip_prefix(scheme)?, true)))
            .or_else(|| ["tcp://", "http://"].iter().find_map(|scheme| Some((text.strip_prefix(scheme)?, false))))
            .unwrap_or((text, false));
        let address = address.trim_end_matches('/');
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) || address.contains(['/', '@', '?', '#']) {
            return Err(wrong());
        }
        Ok(Self { address: address.to_owned(), tls: tls.or_else(|| asked.then(Tls::default)) })
    }

    fn endpoint(&self) -> Result<Endpoint, ClientError> {
        let uri = match (&self.tls, self.address.starts_with("unix:")) {
            (_, true) => self.address.clone(),
            (Some(_), false) => format!("https://{}", self.address),
            (None, false) => format!("http://{}", self.address),
        };
        let endpoint =
            Endpoint::from_shared(uri).map_err(|_| ClientError::Address { address: self.address.clone() })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(CONNECT)
            .keep_alive_while_idle(true);
        let Some(tls) = &self.tls else { return Ok(endpoint) };
        let failed = |source| ClientError::Tls { address: self.address.clone(), source };
        endpoint.tls_config(tls.config()?).map_err(failed)
    }

    /// Connects.
    ///
    /// # Errors
    /// When nobody is there, or somebody else.
    pub async fn connect(&self) -> Result<ObserverClient<Channel>, ClientError> {
        let failed = |source| ClientError::Connect {
            address: self.address.clone(),
            hint: match (&self.tls, self.address.starts_with("unix:")) {
                (_, true) => "a node's socket is /var/run/cilium/hubble.sock, and root's",
                (Some(_), false) => "the port must speak TLS, with a certificate for that name by a known authority",
                (None, false) => "a relay is at 4245 or, by its service, 80; where it wants TLS: --tls",
            },
            source,
        };
        let channel = self.endpoint()?.connect().await.map_err(failed)?;
        Ok(ObserverClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Asks for flows.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn flows(&self, request: GetFlowsRequest) -> Result<Streaming<GetFlowsResponse>, ClientError> {
        let mut client = self.connect().await?;
        // No time-out: a server may send its first word with its first flow.
        match client.get_flows(request).await {
            Ok(stream) => Ok(stream.into_inner()),
            Err(status) => Err(self.refused(&status)),
        }
    }

    /// What the server said, with a hint.
    #[must_use]
    pub fn refused(&self, status: &Status) -> ClientError {
        let hint = match status.code() {
            Code::Unimplemented => "the server speaks gRPC, but is no Hubble: it has no observer.Observer",
            Code::Unauthenticated | Code::PermissionDenied => {
                "it wants a client's certificate: --tls-client-cert-file and --tls-client-key-file"
            }
            Code::OutOfRange | Code::ResourceExhausted => "a message is larger than 1 MiB: is it a Hubble server?",
            Code::InvalidArgument => "an older server may not know the filter",
            _ => "is it Hubble's port, and does it want TLS?",
        };
        ClientError::Refused {
            address: self.address.clone(),
            code: status.code(),
            message: status.message().to_owned(),
            hint,
        }
    }
}

impl Tls {
    fn config(&self) -> Result<ClientTlsConfig, ClientError> {
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|source| ClientError::File { path: path.clone(), source });
        let mut config = ClientTlsConfig::new();
        for path in &self.authorities {
            config = config.ca_certificate(Certificate::from_pem(read(path)?));
        }
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        Ok(config)
    }
}

/// What following brings.
#[derive(Debug)]
pub enum Event {
    /// The server answers.
    Connected,
    /// A response, and when it came.
    Response(Box<GetFlowsResponse>, Ns),
    /// It broke; it is tried again.
    Broken(String),
}

/// Follows until `stopped` or until nobody reads. After a break it asks from the last flow on, so that what the server still
/// has comes again.
pub async fn follow(
    server: Server,
    mut request: GetFlowsRequest,
    events: mpsc::Sender<Event>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut wait = BACK_OFF;
    loop {
        let once = once(&server, &mut request, &events, &mut wait);
        let broken = tokio::select! {
            _ = stopped.wait_for(|over| *over) => return,
            broken = once => broken,
        };
        let Some(error) = broken else { return };
        if events.send(Event::Broken(error)).await.is_err() {
            return;
        }
        tokio::select! {
            _ = stopped.wait_for(|over| *over) => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(MAX_BACK_OFF);
    }
}

/// One connection; why it ended, or nothing if nobody reads any more.
async fn once(
    server: &Server,
    request: &mut GetFlowsRequest,
    events: &mpsc::Sender<Event>,
    wait: &mut Duration,
) -> Option<String> {
    let mut client = match server.connect().await {
        Ok(client) => client,
        Err(error) => return Some(chain(&error)),
    };
    events.send(Event::Connected).await.ok()?;
    let mut stream = match client.get_flows(request.clone()).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return Some(chain(&server.refused(&status))),
    };
    loop {
        match stream.message().await {
            Ok(Some(response)) => {
                *wait = BACK_OFF;
                request.number = 0;
                request.since = last_time(&response).or(request.since);
                events.send(Event::Response(Box::new(response), clock::now())).await.ok()?;
            }
            Ok(None) => return Some(format!("Hubble ended the stream: {}", server.address)),
            Err(status) => return Some(chain(&server.refused(&status))),
        }
    }
}

fn last_time(response: &GetFlowsResponse) -> Option<Timestamp> {
    match &response.response_types {
        Some(ResponseTypes::Flow(flow)) => flow.time,
        _ => None,
    }
}

/// An error and all that it came from, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Server, Tls};

    fn check(text: &str, expected: Option<(&str, bool)>) {
        let server = Server::parse(text, None);
        let read = server.as_ref().ok().map(|server| (server.address.as_str(), server.tls.is_some()));
        assert_eq!(read, expected, "{text}: {server:?}");
    }

    #[test]
    fn addresses_are_read() {
        check("localhost:4245", Some(("localhost:4245", false)));
        check("tcp://10.0.0.1:80", Some(("10.0.0.1:80", false)));
        check("tls://relay.kube-system:443/", Some(("relay.kube-system:443", true)));
        check("[::1]:4245", Some(("[::1]:4245", false)));
        check("unix:///var/run/cilium/hubble.sock", Some(("unix:/var/run/cilium/hubble.sock", false)));
        for wrong in ["", "localhost", ":4245", "unix:", "host:0", "host:port", "http://host/path:80", "a@b:80"] {
            check(wrong, None);
        }
        let tls = Server::parse("host:1", Some(Tls::default())).expect("an address");
        assert!(tls.tls.is_some());
    }
}
