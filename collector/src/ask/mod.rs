//! Asks a running collector over its page's port, as the tools do that stand beside it.

mod status;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

pub use self::status::StatusTool;
use crate::{status::Status, view::Snapshot};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest graph that is read, in bytes: some 250,000 edges.
const MAX_BYTES: usize = 512 << 20;

/// Which collector, and what it is shown.
#[derive(Debug, Clone, Args)]
pub struct Orrery {
    /// The collector: http://HOST:PORT or https://HOST:PORT.
    #[arg(long = "orrery", default_value = "http://127.0.0.1:7380", value_name = "URL")]
    url: String,
    /// A file whose first line is a token for the collector.
    #[arg(long = "orrery-token-file", env = "ORRERY_TOKEN_FILE", value_name = "FILE")]
    token: Option<PathBuf>,
    /// The authority of the collector's certificate, in PEM.
    #[arg(long = "orrery-ca", value_name = "FILE")]
    authority: Option<PathBuf>,
}

impl Orrery {
    /// Its graph by pod.
    ///
    /// # Errors
    /// When it does not answer, or not with a graph.
    pub async fn graph(&self) -> anyhow::Result<Snapshot> {
        self.read("graph", "/api/v1/graph?view=pod").await
    }

    /// How it stands.
    ///
    /// # Errors
    /// When it does not answer, or not with its status.
    pub async fn status(&self) -> anyhow::Result<Status> {
        self.read("status", "/api/v1/status").await
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, what: &str, path: &str) -> anyhow::Result<T> {
        let asked = timeout(TIMEOUT, self.ask(path)).await;
        let body = asked.unwrap_or_else(|_| bail!("no answer within {} s", TIMEOUT.as_secs()));
        let body = body.with_context(|| format!("ask Orrery for its {what}: {}", self.url))?;
        serde_json::from_slice(&body).with_context(|| {
            format!("read Orrery's {what}: {}; hint: this program and the collector must be of one version", self.url)
        })
    }

    async fn ask(&self, path: &str) -> anyhow::Result<Bytes> {
        const HINT: &str = "hint: --orrery http://127.0.0.1:7380, or https://";
        let (tls, rest) = match (self.url.strip_prefix("https://"), self.url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => bail!("no address of a collector; {HINT}"),
        };
        let authority = rest.trim_end_matches('/');
        let (host, port) = match authority.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(port))) => (host, port),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || host.contains('/') {
            bail!("no address of a collector; {HINT}");
        }
        let mut request = Request::get(path).header(header::HOST, authority);
        if let Some(path) = &self.token {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            let token = text.lines().next().unwrap_or_default().trim();
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new())?;
        let stream = TcpStream::connect((host, port)).await.context("hint: is the collector there?")?;
        if tls {
            let name = ServerName::try_from(host.to_owned())?;
            let connector = TlsConnector::from(Arc::new(self.tls()?));
            exchange(connector.connect(name, stream).await.context("TLS; hint: --orrery-ca")?, request).await
        } else {
            exchange(stream, request).await
        }
    }

    fn tls(&self) -> anyhow::Result<ClientConfig> {
        let path = self.authority.as_ref().context("https needs an authority; hint: --orrery-ca FILE")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).with_context(|| format!("read {}", path.display()))? {
            roots.add(certificate.with_context(|| format!("read {}", path.display()))?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> anyhow::Result<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender.
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_BYTES).collect().await.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    match parts.status {
        StatusCode::OK => Ok(body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => bail!("{}; hint: --orrery-token-file", parts.status),
        status => bail!("{status}: {}", String::from_utf8_lossy(&body).chars().take(200).collect::<String>().trim()),
    }
}
