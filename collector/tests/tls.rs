//! All ports encrypted: certificates that are right, wrong, over, and exchanged under load; who comes and says nothing; and
//! `orrery-collector status`, which asks over them.

mod asked;
mod certs;
mod client;
mod doors;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{Request, StatusCode, Version},
};
use certs::{Authority, Signed, ask, connect, connect_for};
use client::{Collector, report};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use wire::codec;

const YEAR: i32 = 2090;
const LIMIT: Duration = Duration::from_secs(20);

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    fn put(&self, signed: &Signed) {
        signed.write(&self.path("cert"), &self.path("key"));
    }
}

/// A collector whose ports both show the folder's certificate, and whose agents show one of `agents`.
async fn start(files: &Files, agents: Option<&Authority>) -> Collector {
    let (cert, key, ca) = (files.text("cert"), files.text("key"), files.text("ca"));
    let mut args =
        vec!["--report-tls-cert", &cert, "--report-tls-key", &key, "--ui-tls-cert", &cert, "--ui-tls-key", &key];
    if let Some(agents) = agents {
        std::fs::write(files.path("ca"), &agents.pem).expect("write");
        args.extend(["--report-client-ca", &ca]);
    }
    Collector::start(&args).await
}

fn body() -> Vec<u8> {
    codec::encode_report(&report("n1", 1, 0)).expect("encode")
}

#[tokio::test]
async fn the_page_comes_encrypted_to_who_trusts_the_authority() {
    let files = Files::new();
    let ours = Authority::new("ours");
    files.put(&ours.sign("localhost", YEAR));
    let collector = start(&files, None).await;
    let address = collector.browser();
    let mut stream = connect(address, &ours.pem, None).await.expect("a connection");
    let text = ask(&mut stream, "GET /api/v1/graph", &[]).await.expect("an answer");
    assert!(text.contains("200 OK") && text.contains("\"edges\":[]"), "{text}");
    let error = connect(address, &Authority::new("theirs").pem, None).await.expect_err("not trusted");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    // Plain HTTP gets no HTTP answer, and soon an end.
    let mut plain = TcpStream::connect(address).await.expect("connect");
    plain.write_all(b"GET /api/v1/graph HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
    let mut answer = Vec::new();
    timeout(LIMIT, plain.read_to_end(&mut answer)).await.expect("in time").ok();
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "{answer:?}");
    // Who connects and says nothing holds up nobody.
    let _silent = TcpStream::connect(address).await.expect("connect");
    let mut stream = connect(address, &ours.pem, None).await.expect("a connection");
    let text = ask(&mut stream, "GET /metrics", &[]).await.expect("an answer");
    let failed = text.lines().find_map(|line| line.strip_prefix("orrery_collector_tls_failed_handshakes_total "));
    assert!(failed.is_some_and(|count| count.parse::<u64>().is_ok_and(|count| count >= 2)), "{text}");
    collector.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_either_end() {
    let files = Files::new();
    let ours = Authority::new("ours");
    files.put(&ours.sign("localhost", YEAR));
    let collector = start(&files, Some(&ours)).await;
    let address = collector.reports();
    let over = ours.sign("n1", 2021);
    let refused = match connect(address, &ours.pem, Some(&over)).await {
        // A TLS 1.3 client has finished before the server looked at its certificate.
        Ok(mut stream) => ask(&mut stream, "POST /v1/reports", &body()).await.map_or(true, |text| text.is_empty()),
        Err(_) => true,
    };
    assert!(refused);
    files.put(&ours.sign("localhost", 2021));
    let error = connect(address, &ours.pem, None).await.expect_err("expired");
    assert!(error.to_string().contains("xpired"), "{error}");
    collector.stop().await;
}

#[tokio::test]
async fn agents_show_a_certificate_of_the_authority() {
    let files = Files::new();
    let (ours, agents, theirs) = (Authority::new("ours"), Authority::new("agents"), Authority::new("theirs"));
    files.put(&ours.sign("localhost", YEAR));
    let collector = start(&files, Some(&agents)).await;
    let address = collector.reports();
    let report = |own: Option<Signed>| {
        let root = ours.pem.clone();
        async move {
            let mut stream = connect(address, &root, own.as_ref()).await?;
            ask(&mut stream, "POST /v1/reports", &body()).await
        }
    };
    let text = report(Some(agents.sign("n1", YEAR))).await.expect("an answer");
    assert!(text.contains("200 OK"), "{text}");
    let text = report(None).await.expect("an answer");
    assert!(text.contains("401 Unauthorized") && text.contains("hint: "), "{text}");
    let text = report(Some(theirs.sign("n1", YEAR))).await.unwrap_or_default();
    assert!(text.is_empty(), "{text}");
    // A kubelet has no certificate, and learns no more than health.
    let mut stream = connect(address, &ours.pem, None).await.expect("a connection");
    assert!(ask(&mut stream, "GET /healthz", &[]).await.expect("an answer").contains("200 OK"));
    collector.stop().await;
}

/// Agents that offer HTTP/2 get it, with the same verdicts; browsers do not.
#[tokio::test]
async fn reports_come_over_http2_where_both_ends_agree() {
    let files = Files::new();
    let (ours, agents) = (Authority::new("ours"), Authority::new("agents"));
    files.put(&ours.sign("localhost", YEAR));
    let collector = start(&files, Some(&agents)).await;
    for (own, verdict) in [(Some(agents.sign("n1", YEAR)), StatusCode::OK), (None, StatusCode::UNAUTHORIZED)] {
        let stream = connect_for(&["h2", "http/1.1"], collector.reports(), &ours.pem, own.as_ref()).await;
        let stream = stream.expect("a connection");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("both speak it");
        tokio::spawn(connection);
        for _ in 0..2 {
            let request =
                Request::post("https://localhost/v1/reports").body(Full::<Bytes>::from(body())).expect("a request");
            let answer = timeout(LIMIT, sender.send_request(request)).await.expect("in time").expect("an answer");
            assert_eq!((answer.status(), answer.version()), (verdict, Version::HTTP_2));
        }
    }
    let old = connect_for(&["http/1.1"], collector.reports(), &ours.pem, None).await.expect("a connection");
    assert_eq!(old.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    // Streams to browsers are bounded by connection.
    let error = connect_for(&["h2"], collector.browser(), &ours.pem, None).await.expect_err("nothing in common");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    collector.stop().await;
}

/// Certificates of two authorities take turns while clients connect without a pause: every connection shows one or the
/// other, none fails, and a broken file changes nothing.
#[tokio::test]
async fn certificates_are_exchanged_under_load() {
    let files = Files::new();
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    files.put(&first.sign("localhost", YEAR));
    let collector = start(&files, None).await;
    let address = collector.browser().to_owned();
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let both = [first.pem.clone(), second.pem.clone()];
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (over, done, address, both) = (Arc::clone(&over), Arc::clone(&done), address.clone(), both.clone());
        clients.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let mut stream = match connect(&address, &both[0], None).await {
                    Ok(stream) => stream,
                    Err(_) => match connect(&address, &both[1], None).await {
                        Ok(stream) => stream,
                        // Exchanged between the two tries.
                        Err(error) => connect(&address, &both[0], None).await.unwrap_or_else(|_| panic!("{error}")),
                    },
                };
                let text = ask(&mut stream, "GET /healthz", &[]).await.expect("an answer");
                assert!(text.contains("200 OK"), "{text}");
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    // A connection that is open keeps what it has.
    let mut kept = connect(&address, &first.pem, None).await.expect("a connection");
    for turn in 0..6 {
        let (signer, other) = if turn % 2 == 0 { (&second, &first) } else { (&first, &second) };
        let before = done.load(Ordering::Relaxed);
        files.put(&signer.sign("localhost", YEAR));
        connect(&address, &signer.pem, None).await.expect("the new one is shown at once");
        connect(&address, &other.pem, None).await.map(drop).expect_err("the old one is not");
        let enough = async {
            while done.load(Ordering::Relaxed) < before + 8 {
                tokio::task::yield_now().await
            }
        };
        timeout(LIMIT, enough).await.expect("clients go on");
    }
    std::fs::write(files.path("key"), "broken").expect("write");
    connect(&address, &first.pem, None).await.expect("the last good one stays");
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no connection failed");
    }
    let text = ask(&mut kept, "GET /metrics", &[]).await.expect("an answer");
    assert!(
        text.contains("orrery_collector_files_failed_readings_total") && !text.contains("readings_total 0"),
        "{text}"
    );
    collector.stop().await;
}

#[test]
fn certificates_that_cannot_be_used_end_the_start_with_a_hint() {
    let files = Files::new();
    let ours = Authority::new("ours");
    let (one, other) = (ours.sign("localhost", YEAR), ours.sign("localhost", YEAR));
    for (cert, key, words) in [
        (one.cert.as_str(), other.key.as_str(), "the key must belong"),
        ("nothing", one.key.as_str(), "cert: no certificate in it; hint: PEM"),
        (one.cert.as_str(), one.cert.as_str(), "key: no private key in it; hint: PEM"),
    ] {
        files.put(&Signed { cert: cert.to_owned(), key: key.to_owned() });
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_orrery-collector"))
            .args(["--listen", "127.0.0.1:0", "--report-listen", "127.0.0.1:0"])
            .args(["--ui-tls-cert", &files.text("cert"), "--ui-tls-key", &files.text("key")])
            .output()
            .expect("run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && !said.contains("PRIVATE KEY"), "{said}");
    }
}
