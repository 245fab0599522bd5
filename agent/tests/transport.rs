//! Reports over TLS: whom the agent takes for the collector, what it shows it, and what it says when that fails.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent::{
    config::{Collector, Identity, TlsFiles},
    transport::{Answer, Client},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use wire::v1::Ack;

const LIMIT: Duration = Duration::from_secs(20);

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key, as PEM.
    fn sign(&self, host: &str) -> (String, String) {
        let params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("orrery-transport-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("write");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The system's own cleaning is as good.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// TLS for who shows a certificate of `agents`, if there are any; one of `speaks` is spoken inside.
fn acceptor(own: &(String, String), agents: Option<&Authority>, speaks: &[&str]) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.expect("versions");
    let builder = match agents {
        None => builder.with_no_client_auth(),
        Some(agents) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(agents.pem.as_bytes()).expect("PEM")).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(own.0.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(own.1.as_bytes()).expect("PEM");
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = speaks.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Acknowledges every report that shows this token, over TLS, from who shows a certificate of `agents`.
async fn collector(own: &(String, String), agents: Option<&Authority>, token: &'static str) -> u16 {
    let acceptor = acceptor(own, agents, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(acceptor.clone(), stream, token));
        }
    });
    port
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, token: &'static str) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let mut stream = BufReader::new(stream);
    while let Some(head) = head(&mut stream).await {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if stream.read_exact(&mut body).await.is_err() {
            break;
        }
        let good = token.is_empty() || head.contains(&format!("authorization: bearer {token}\r\n"));
        let (status, body) = if good {
            ("200 OK", wire::codec::encode_ack(&Ack { seq: 1, ..Ack::default() }))
        } else {
            ("401 Unauthorized", b"credentials are not valid".to_vec())
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
            break;
        }
    }
}

async fn head<S: tokio::io::AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head.to_lowercase())
}

fn client(host: &str, port: u16, ca: &Path, identity: Option<Identity>, token: Option<&Path>) -> Client {
    let tls = Some(TlsFiles { ca: ca.to_owned(), identity });
    Client::new(Collector::Tcp { host: host.to_owned(), port, tls }, token.map(Path::to_owned))
}

/// What came of one report, in words.
async fn post(client: &mut Client) -> Result<StatusCode, String> {
    let answer = timeout(LIMIT, client.post(Bytes::from_static(b"a report"))).await.expect("in time");
    match answer.map_err(|error| format!("{:#}", anyhow::Error::from(error)))? {
        Answer::Ack(_) => Ok(StatusCode::OK),
        Answer::Refused { status, .. } => Ok(status),
        Answer::Busy(_) => Err("busy".to_owned()),
    }
}

#[tokio::test]
async fn the_agent_talks_to_who_its_authority_vouches_for() {
    let folder = Folder::new("authority");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let port = collector(&ours.sign("localhost"), None, "").await;
    let ca = folder.put("ca", &ours.pem);
    let mut talk = client("localhost", port, &ca, None, None);
    assert_eq!(post(&mut talk).await, Ok(StatusCode::OK));
    assert!(talk.own().is_some(), "its own traffic is known");
    assert_eq!(post(&mut talk).await, Ok(StatusCode::OK), "over the same connection");
    // Another name than the certificate's, and another authority.
    let other = post(&mut client("127.0.0.1", port, &ca, None, None)).await.expect_err("another name");
    assert!(other.contains("agree on encryption with 127.0.0.1; hint: ") && other.contains("certificate"), "{other}");
    let mut fresh = client("localhost", port, &ca, None, None);
    folder.put("ca", &theirs.pem);
    let error = post(&mut fresh).await.expect_err("another authority");
    assert!(error.contains("UnknownIssuer"), "{error}");
    // Exchanged, it counts with the next connection.
    folder.put("ca", &format!("{}{}", theirs.pem, ours.pem));
    assert_eq!(post(&mut fresh).await, Ok(StatusCode::OK));
    folder.put("ca", "nothing");
    let error = post(&mut client("localhost", port, &ca, None, None)).await.expect_err("no certificate");
    assert!(error.contains("--ca-file") && error.contains("hint: "), "{error}");
}

#[tokio::test]
async fn the_agent_shows_its_certificate_and_its_token() {
    let folder = Folder::new("shows");
    let (ours, agents) = (Authority::new("ours"), Authority::new("agents"));
    let port = collector(&ours.sign("localhost"), Some(&agents), "the-second").await;
    let ca = folder.put("ca", &ours.pem);
    let (cert, key) = agents.sign("n1");
    let identity = Identity { cert: folder.put("cert", &cert), key: folder.put("key", &key) };
    let token = folder.put("token", "the-first\n");
    let mut talk = client("localhost", port, &ca, Some(identity.clone()), Some(&token));
    assert_eq!(post(&mut talk).await, Ok(StatusCode::UNAUTHORIZED));
    folder.put("token", "the-second\n");
    assert_eq!(post(&mut talk).await, Ok(StatusCode::OK), "with the next report, over the same connection");
    let error = post(&mut client("localhost", port, &ca, None, Some(&token))).await.expect_err("no certificate");
    assert!(error.contains("CertificateRequired"), "{error}");
    std::fs::remove_file(&token).expect("remove");
    let error = post(&mut talk).await.expect_err("no token");
    assert!(error.contains("show credentials: --token-file") && error.contains("hint: "), "{error}");
    folder.put("key", "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n");
    folder.put("token", "the-second\n");
    let error = post(&mut client("localhost", port, &ca, Some(identity), Some(&token))).await.expect_err("no key");
    assert!(error.contains("show credentials") && !error.contains("secret"), "{error}");
}

/// A collector that is gone without a word, as when its node lost its power: nobody closes the connection. The agent waits for
/// one answer, not for TCP, and asks a new connection next; nothing of the old one is left to answer late.
#[tokio::test]
async fn a_collector_that_vanishes_without_a_word_is_left_within_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let collector = Collector::Tcp { host: "127.0.0.1".to_owned(), port, tls: None };
    let mut talk = Client::new(collector, None);
    let answer = || {
        let ack = wire::codec::encode_ack(&Ack { seq: 1, ..Ack::default() });
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", ack.len()).as_bytes(), &ack].concat()
    };
    let take = async |stream: &mut BufReader<TcpStream>| {
        let head = head(stream).await.expect("a request");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        stream.read_exact(&mut body).await.expect("a body");
    };
    let serve = async {
        let mut first = BufReader::new(listener.accept().await.expect("a connection").0);
        take(&mut first).await;
        first.write_all(&answer()).await.expect("an answer");
        take(&mut first).await;
        // Silent from here on, and open to the end.
        let mut second = BufReader::new(listener.accept().await.expect("another connection").0);
        take(&mut second).await;
        second.write_all(&answer()).await.expect("an answer");
        first
    };
    let ask = async {
        assert_eq!(post(&mut talk).await, Ok(StatusCode::OK));
        let error = post(&mut talk).await.expect_err("nobody answers");
        assert!(error.contains("no answer within 5 s"), "{error}");
        assert!(talk.own().is_none(), "the connection is given up");
        assert_eq!(post(&mut talk).await, Ok(StatusCode::OK), "over another connection");
    };
    timeout(LIMIT, async { tokio::join!(serve, ask) }).await.expect("in time");
}

/// What a report over HTTP/2 must bring; and an answer.
async fn acknowledge(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    assert_eq!((parts.version, parts.method.as_str(), parts.uri.path()), (Version::HTTP_2, "POST", wire::REPORT_PATH));
    assert_eq!(parts.uri.host(), Some("localhost"));
    assert_eq!(parts.headers[header::CONTENT_TYPE], wire::CONTENT_TYPE);
    assert_eq!(body.collect().await?.to_bytes(), "a report");
    Ok(Response::new(Full::from(wire::codec::encode_ack(&Ack { seq: 1, ..Ack::default() }))))
}

/// HTTP/2 is spoken where the handshake agrees on it. A collector that vanishes then is left as soon as with HTTP/1.1.
#[tokio::test]
async fn http2_is_spoken_where_both_ends_agree() {
    let folder = Folder::new("http2");
    let ours = Authority::new("ours");
    let acceptor = acceptor(&ours.sign("localhost"), None, &["h2", "http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let (silence, mut silent) = tokio::sync::watch::channel(false);
    let serve = async {
        let stream = acceptor.accept(listener.accept().await.expect("a connection").0).await.expect("a handshake");
        let first = http2::Builder::new(TokioExecutor::new());
        let mut first = Box::pin(first.serve_connection(TokioIo::new(stream), service_fn(acknowledge)));
        tokio::select! {
            ended = first.as_mut() => panic!("the connection ended: {ended:?}"),
            _ = silent.changed() => {}
        }
        // Open, but nobody reads any more.
        let stream =
            acceptor.accept(listener.accept().await.expect("another connection").0).await.expect("a handshake");
        let second = http2::Builder::new(TokioExecutor::new());
        let ended = second.serve_connection(TokioIo::new(stream), service_fn(acknowledge)).await;
        drop((first, ended));
    };
    let ask = async {
        let mut talk = client("localhost", port, &folder.put("ca", &ours.pem), None, None);
        assert_eq!(post(&mut talk).await, Ok(StatusCode::OK));
        assert!(talk.own().is_some(), "its own traffic is known");
        assert_eq!(post(&mut talk).await, Ok(StatusCode::OK), "over the same connection");
        silence.send_replace(true);
        let error = post(&mut talk).await.expect_err("nobody answers");
        assert!(error.contains("no answer within 5 s") && talk.own().is_none(), "{error}");
        assert_eq!(post(&mut talk).await, Ok(StatusCode::OK), "over another connection");
    };
    timeout(LIMIT, async { tokio::join!(serve, ask) }).await.expect("in time");
}
