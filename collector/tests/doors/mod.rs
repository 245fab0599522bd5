//! Who comes and asks for nothing, or takes for ever to ask: cut, counted, and nobody else waits for it.

#![expect(clippy::disallowed_methods, reason = "what takes how long is measured here")]

use std::time::{Duration, Instant};

use collector::{
    hubble::{
        client::{Server, Tls},
        proto::observer::ServerStatusRequest,
    },
    serve::{HANDSHAKE, MAX_HEAD_BYTES},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use wire::codec;

use crate::{
    Files, LIMIT, YEAR,
    certs::Authority,
    client::{Collector, report},
    start,
};

/// How long a head may take in these tests.
const HEAD: Duration = Duration::from_millis(600);
/// What is sent of a request that never comes whole.
const PIECES: [&str; 3] = ["", "GET /healthz HTTP/1.1\r\n", "POST /v1/reports HTTP/1.1\r\nHost: localhost\r\nX-Slow: "];

/// Sends a byte now and then until somebody hangs up, and says when that was.
async fn trickle(address: &str, begin: &str) -> Duration {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(begin.as_bytes()).await.expect("write");
    let cut = async {
        let mut answer = [0; 64];
        loop {
            // Who began with nothing says nothing at all.
            if !begin.is_empty() && stream.write_all(b"a").await.is_err() {
                return;
            }
            if let Ok(Ok(0) | Err(_)) = timeout(HEAD / 20, stream.read(&mut answer)).await {
                return;
            }
        }
    };
    timeout(LIMIT, cut).await.expect("it is cut");
    start.elapsed()
}

fn count(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no {name}: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_for_ever_to_ask_is_cut_and_who_asked_is_not() {
    let head = HEAD.as_millis().to_string();
    let collector = Collector::start(&["--head-ms", &head, "--hubble-listen", "127.0.0.1:0"]).await;
    let mut agent = collector.agent().await;
    assert_eq!(agent.post(&codec::encode_report(&report("n1", 1, 0)).expect("encode")).await.status, 200);
    let mut stream = collector.stream("pod", None).await;
    for address in [collector.browser(), collector.reports(), collector.hubble()] {
        for begin in PIECES {
            let took = trickle(address, begin).await;
            // gRPC's port hangs up at once on what is no HTTP/2.
            assert!(
                took >= HEAD || address == collector.hubble() && !begin.is_empty(),
                "{address} {begin:?}: {took:?}"
            );
        }
    }
    let text = collector.get("/metrics").await;
    for (port, expected) in [("ui", 3), ("reports", 3), ("hubble", 1)] {
        let name = format!("orrery_collector_serve_cut_connections_total{{port=\"{port}\",reason=\"silent\"}}");
        assert_eq!(count(&text, &name), expected, "{port}");
    }
    // The agent's kept connection had its say and was idle since; the stream is being answered all the while.
    let idle = "orrery_collector_serve_cut_connections_total{port=\"reports\",reason=\"idle\"}";
    assert_eq!(count(&text, idle), 1);
    let mut agent = collector.agent().await;
    assert_eq!(agent.post(&codec::encode_report(&report("n2", 1, 0)).expect("encode")).await.status, 200);
    stream.until(|event| event.data.to_string().contains("\"n2\"")).await;
    collector.stop().await;
}

#[tokio::test]
async fn a_port_that_is_full_refuses_and_has_room_again() {
    let collector = Collector::start(&["--bound-connections", "3"]).await;
    let body = codec::encode_report(&report("n1", 1, 0)).expect("encode");
    let (mut agent, mut held) = (collector.agent().await, Vec::new());
    assert_eq!(agent.post(&body).await.status, 200);
    for _ in 0..2 {
        let mut stream = TcpStream::connect(collector.reports()).await.expect("connect");
        stream.write_all(b"GET").await.expect("write");
        held.push(stream);
    }
    let refused = async || {
        let mut stream = TcpStream::connect(collector.reports()).await.expect("connect");
        let mut answer = Vec::new();
        // Closed with or without a word of TCP's about bytes that nobody read.
        matches!(timeout(Duration::from_millis(500), stream.read_to_end(&mut answer)).await, Ok(Ok(0) | Err(_)))
    };
    assert!(refused().await, "the fourth");
    // Who is inside is served on, and so is the other port.
    assert_eq!(agent.post(&codec::encode_report(&report("n1", 2, 1)).expect("encode")).await.status, 200);
    let text = collector.get("/metrics").await;
    assert_eq!(count(&text, "orrery_collector_serve_refused_connections_total{port=\"reports\"}"), 1);
    let text = collector.get("/status").await;
    assert!(text.contains("1 connections were closed at once") && text.contains("hint: "), "{text}");
    held.pop();
    let room = async {
        while refused().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, room).await.expect("there is room again");
    collector.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let collector = Collector::start(&[]).await;
    let ask = async |bytes: usize| {
        let mut stream = TcpStream::connect(collector.browser()).await.expect("connect");
        let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: \r\n\r\n";
        let head = head.replace("X-Long: ", &format!("X-Long: {}", "x".repeat(bytes - head.len())));
        stream.write_all(head.as_bytes()).await.expect("write");
        let mut answer = [0; 12];
        timeout(LIMIT, stream.read_exact(&mut answer)).await.expect("in time").expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert_eq!(ask(MAX_HEAD_BYTES).await, "HTTP/1.1 200");
    assert_eq!(ask(MAX_HEAD_BYTES * 2).await, "HTTP/1.1 431");
    collector.stop().await;
}

#[tokio::test]
async fn a_form_that_never_comes_whole_is_refused() {
    let files = Files::new();
    std::fs::write(files.path("token"), "a-token-for-the-page").expect("write");
    let collector = Collector::start(&["--ui-token-file", &files.text("token")]).await;
    let mut stream = TcpStream::connect(collector.browser()).await.expect("connect");
    let head = "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ntoken=";
    stream.write_all(head.as_bytes()).await.expect("write");
    let mut answer = [0; 12];
    timeout(LIMIT, stream.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
    collector.stop().await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut() {
    let files = Files::new();
    files.put(&Authority::new("ours").sign("localhost", YEAR));
    let collector = start(&files, None).await;
    // The first bytes of a ClientHello that promises 512 of them, and then one now and then.
    let both = tokio::join!(trickle(collector.reports(), "\x16\x03\x01\x02\x00"), trickle(collector.browser(), ""));
    for took in [both.0, both.1] {
        assert!(took >= HANDSHAKE && took < HANDSHAKE * 3, "{took:?}");
    }
    collector.stop().await;
}

#[tokio::test]
async fn flows_are_for_who_shows_a_certificate() {
    let files = Files::new();
    let (ours, clients, theirs) = (Authority::new("ours"), Authority::new("clients"), Authority::new("theirs"));
    files.put(&ours.sign("localhost", YEAR));
    std::fs::write(files.path("ca"), &clients.pem).expect("write");
    std::fs::write(files.path("root"), &ours.pem).expect("write");
    let (cert, key, ca) = (files.text("cert"), files.text("key"), files.text("ca"));
    let args = ["--hubble-listen", "127.0.0.1:0", "--hubble-tls-cert", &cert, "--hubble-tls-key", &key];
    let collector = Collector::start(&[&args[..], &["--hubble-client-ca", &ca]].concat()).await;
    let address = collector.hubble().replace("127.0.0.1", "localhost");
    let ask = async |who: Option<&Authority>| {
        let identity = who.map(|authority| {
            let pair = (files.path("own-cert"), files.path("own-key"));
            authority.sign("someone", YEAR).write(&pair.0, &pair.1);
            pair
        });
        let tls = Tls { authorities: vec![files.path("root")], identity, server_name: None };
        let server = Server::parse(&address, Some(tls)).expect("an address");
        let mut client = server.connect().await.map_err(|error| error.to_string())?;
        let answer = client.server_status(ServerStatusRequest {}).await;
        answer.map(|answer| answer.into_inner().version).map_err(|status| status.message().to_owned())
    };
    assert!(!ask(Some(&clients)).await.expect("an answer").is_empty());
    let refused = ask(None).await.expect_err("refused");
    assert!(refused.contains("no certificate; hint: --tls-client-cert-file"), "{refused}");
    ask(Some(&theirs)).await.expect_err("another authority's");
    let text = collector.get("/metrics").await;
    assert_eq!(count(&text, "orrery_collector_auth_refused_requests_total{port=\"hubble\",reason=\"missing\"}"), 1);
    collector.stop().await;
}
