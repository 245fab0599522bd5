//! Following Hubble servers, good ones and others: what comes is bounded, and what is wrong is said with a hint.

#![expect(clippy::disallowed_methods, reason = "what takes how long is measured here")]

mod replay;

use std::{path::Path, time::Duration};

use clap::Parser as _;
use collector::{
    config::{Args, Config},
    hubble::{
        client::{Event, MAX_MESSAGE_BYTES, QUEUE, Server, Tls, chain, follow},
        fold::Fold,
        json::Response,
        proto::{
            flow::Flow,
            observer::{GetFlowsRequest, GetFlowsResponse, get_flows_response::ResponseTypes},
        },
    },
    listen::Listeners,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use replay::Replay;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// Whatever is waited for comes sooner, or never.
const LONG: Duration = Duration::from_secs(30);

fn recorded() -> Vec<GetFlowsResponse> {
    let lines = include_str!("hubble/observe-2node.jsonpb").lines();
    lines.map(|line| Response::from_json(line).expect("a response").message).collect()
}

fn request() -> GetFlowsRequest {
    GetFlowsRequest { follow: true, ..GetFlowsRequest::default() }
}

/// Follows, and says when it is enough.
struct Following {
    events: mpsc::Receiver<Event>,
    _keep: watch::Sender<bool>,
}

impl Following {
    fn start(server: Server) -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        let (keep, stopped) = watch::channel(false);
        tokio::spawn(follow(server, request(), sender, stopped));
        Self { events, _keep: keep }
    }

    async fn next(&mut self) -> Event {
        timeout(LONG, self.events.recv()).await.expect("in time").expect("an event")
    }

    async fn responses(&mut self, count: usize) -> Vec<GetFlowsResponse> {
        let mut all = Vec::new();
        while all.len() < count {
            if let Event::Response(response, _) = self.next().await {
                all.push(*response);
            }
        }
        all
    }

    /// The first thing that goes wrong.
    async fn broken(&mut self) -> String {
        loop {
            if let Event::Broken(error) = self.next().await {
                return error;
            }
        }
    }
}

/// An authority, and certificates for `localhost`: a server's and a client's.
struct Keys {
    folder: tempfile::TempDir,
    server: Identity,
    authority: Certificate,
}

impl Keys {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("an authority");
        let issuer = Issuer::new(params, key);
        let make = || {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
            (params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
        };
        let ((server, server_key), (client, client_key)) = (make(), make());
        for (name, text) in [("ca", authority.pem()), ("client", client), ("key", client_key)] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Self {
            folder,
            server: Identity::from_pem(server, server_key),
            authority: Certificate::from_pem(authority.pem()),
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The client's side, with or without a certificate of its own.
    fn tls(&self, identity: bool) -> Tls {
        Tls {
            authorities: vec![self.path("ca")],
            identity: identity.then(|| (self.path("client"), self.path("key"))),
            server_name: Some("localhost".to_owned()),
        }
    }
}

fn server(address: &str, tls: Option<Tls>) -> Server {
    Server::parse(address, tls).expect("an address")
}

#[tokio::test]
async fn flows_come_over_tcp_and_unix_sockets() {
    let replay = Replay::new(recorded());
    let folder = tempfile::tempdir().expect("a folder");
    for address in [replay.tcp(None).await, replay.unix(&folder.path().join("hubble.sock"))] {
        let mut following = Following::start(server(&address, None));
        assert_eq!(following.responses(94).await, recorded());
        // And what happens later.
        while replay.followers() == 0 {
            tokio::task::yield_now().await;
        }
        replay.tell(recorded().swap_remove(7));
        assert_eq!(following.responses(1).await, [recorded().swap_remove(7)]);
    }
}

#[tokio::test]
async fn flows_come_over_tls_and_the_wrong_keys_are_said() {
    let keys = Keys::new();
    let replay = Replay::new(recorded());
    let plain = replay.tcp(None).await;
    let tls = replay.tcp(Some(ServerTlsConfig::new().identity(keys.server.clone()))).await;
    let config = ServerTlsConfig::new().identity(keys.server.clone()).client_ca_root(keys.authority.clone());
    let mutual = replay.tcp(Some(config)).await;
    for (address, identity) in [(&tls, false), (&mutual, true)] {
        let mut following = Following::start(server(address, Some(keys.tls(identity))));
        assert_eq!(following.responses(94).await, recorded());
    }
    let strange = Tls { authorities: Vec::new(), ..keys.tls(false) };
    let misnamed = Tls { server_name: Some("elsewhere".to_owned()), ..keys.tls(false) };
    for (what, address, tls) in [
        ("TLS to a plain port", &plain, Some(keys.tls(false))),
        ("no TLS to a TLS port", &tls, None),
        ("an authority that nobody named", &tls, Some(strange)),
        ("another name", &tls, Some(misnamed)),
        ("no certificate where one is wanted", &mutual, Some(keys.tls(false))),
    ] {
        let error = Following::start(server(address, tls)).broken().await;
        assert!(error.contains("hint: ") && error.contains(address), "{what}: {error}");
        println!("{what}: {error}");
    }
    let missing = Tls { authorities: vec!["/nowhere/ca".into()], ..Tls::default() };
    let error = Following::start(server(&tls, Some(missing))).broken().await;
    assert!(error.starts_with("read /nowhere/ca"), "{error}");
}

/// Answers every connection with these bytes.
async fn raw(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 64];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

#[tokio::test]
async fn what_is_no_hubble_is_said() {
    let web = raw(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let mute = raw(b"").await;
    let folder = tempfile::tempdir().expect("a folder");
    let nobody = format!("unix:{}", folder.path().join("nobody.sock").display());
    for address in [web, mute, nobody, "127.0.0.1:1".to_owned()] {
        let error = Following::start(server(&address, None)).broken().await;
        assert!(error.contains("hint: "), "{address}: {error}");
        println!("{error}");
    }
    // gRPC, but another service.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let health = tonic_health::server::HealthService::from_health_reporter(tonic_health::server::HealthReporter::new());
    let health = tonic_health::pb::health_server::HealthServer::new(health);
    let services = axum::Router::new()
        .route_service("/grpc.health.v1.Health/{*method}", health)
        .fallback(async || tonic::Status::unimplemented("no such service").into_http::<axum::body::Body>());
    let incoming = futures_util::stream::unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    tokio::spawn(tonic::transport::Server::builder().serve_with_incoming(services, incoming));
    let error = server(&address, None).flows(request()).await.expect_err("refused");
    assert!(chain(&error).contains("is no Hubble"), "{error}");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let summary = "x".repeat(MAX_MESSAGE_BYTES + 1);
    let flow = ResponseTypes::Flow(Box::new(Flow { summary, ..Flow::default() }));
    let replay = Replay::new(vec![GetFlowsResponse { response_types: Some(flow), ..GetFlowsResponse::default() }]);
    let error = Following::start(server(&replay.tcp(None).await, None)).broken().await;
    assert!(error.contains("1 MiB"), "{error}");
}

/// Hands the first connection `bytes` of what the server says and cuts it; lets all later ones through.
async fn cutter(upstream: String, bytes: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let mut limit = bytes;
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&upstream).await.expect("the server");
            let allowed = std::mem::replace(&mut limit, u64::MAX);
            tokio::spawn(async move {
                let ((mut from_client, mut to_client), (from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let mut from_server = from_server.take(allowed);
                tokio::select! {
                    _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_stream_cut_in_the_middle_of_a_message_is_taken_up_again() {
    let replay = Replay::new(recorded());
    let address = cutter(replay.tcp(None).await, 20_000).await;
    let mut following = Following::start(server(&address, None));
    let (mut before, mut fold) = (0, Fold::default());
    let error = loop {
        match following.next().await {
            Event::Response(response, at) => {
                before += 1;
                fold.add(&response, Some(at));
            }
            Event::Broken(error) => break error,
            Event::Connected => {}
        }
    };
    assert!((1..94).contains(&before), "{before} flows in 20,000 bytes");
    assert!(error.contains("hint: "), "{error}");
    // This server tells everything again: flows that came twice change nothing.
    for response in following.responses(94).await {
        fold.add(&response, None);
    }
    fold.settle();
    assert_eq!(fold.edges().count(), 8);
}

#[tokio::test]
async fn a_flood_waits_at_the_server_and_not_in_memory() {
    const FLOWS: usize = 40_000;
    let mut recorded = recorded().into_iter().cycle();
    let replay = Replay::new((0..FLOWS).map(|_| recorded.next().expect("a flow")).collect());
    let mut following = Following::start(server(&replay.tcp(None).await, None));
    // Nobody reads for a while: the queue fills up, and no further.
    let full = async {
        while following.events.len() < QUEUE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, full).await.expect("the queue fills");
    assert_eq!(following.events.len(), QUEUE);
    let start = std::time::Instant::now();
    let mut fold = Fold::default();
    let mut count = 0;
    while count < FLOWS {
        if let Event::Response(response, at) = following.next().await {
            fold.add(&response, Some(at));
            count += 1;
        }
    }
    println!("{FLOWS} flows folded in {:?}", start.elapsed());
    fold.settle();
    assert_eq!((fold.edges().count(), fold.hidden().flows), (8, FLOWS as u64));
}

/// A GET; the body as JSON.
async fn get(address: &str, path: &str) -> serde_json::Value {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut text = String::new();
    timeout(LONG, stream.read_to_string(&mut text)).await.expect("in time").expect("read");
    serde_json::from_str(text.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

#[tokio::test]
async fn a_collector_follows_hubble_and_compares() {
    let replay = Replay::new(recorded());
    let hubble = replay.tcp(None).await;
    let start = async |arguments: &[&str]| {
        let words = ["orrery-collector", "--listen", "127.0.0.1:0", "--report-listen", "127.0.0.1:0"];
        let args = Args::try_parse_from(words.iter().chain(arguments)).expect("arguments");
        let config = Config::try_from(args).expect("a configuration");
        let listeners = Listeners::bind(&config).await.expect("listeners");
        let address = listeners.browser.local_addr().expect("an address").to_string();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(collector::run(listeners, config, async move { drop(stopped.await) }));
        (address, stop, task)
    };
    let (address, stop, task) = start(&["--hubble-server", &hubble, "--overlay-hubble"]).await;
    let seen = async {
        loop {
            let answer = get(&address, "/api/v1/compare?rows=3").await;
            if answer["report"]["summary"]["hidden"]["flows"] == 94 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let answer = timeout(LONG, seen).await.expect("it follows");
    assert_eq!(
        (&answer["connected"], &answer["overlay"], &answer["server"]),
        (&true.into(), &true.into(), &hubble.as_str().into())
    );
    assert_eq!(answer["report"]["summary"]["edges"]["only_hubble"], 8, "{answer}");
    assert_eq!(answer["report"]["rows"].as_array().map(Vec::len), Some(3));
    stop.send(()).expect("it runs");
    timeout(LONG, task).await.expect("it stops in time").expect("no panic").expect("no error");
    let (address, stop, _task) = start(&[]).await;
    let answer = get(&address, "/api/v1/compare").await;
    assert!(answer["server"].is_null() && answer["hint"].as_str().is_some_and(|hint| hint.contains("--hubble-server")));
    drop(stop);
}

#[test]
fn observe_prints_a_file_as_hubble_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hubble");
    let observe = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orrery-collector"));
        let output = command.arg("observe").args(args).current_dir(&folder).output().expect("it runs");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("text"),
            String::from_utf8(output.stderr).expect("text"),
        )
    };
    for name in ["observe-2node", "l7dns"] {
        let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).expect("a file");
        assert_eq!(observe(&["--input-file", &format!("{name}.jsonpb")]), (Some(0), text, String::new()));
    }
    let count = |args: &[&str]| {
        let all = [&["--input-file", "observe-2node.jsonpb"], args].concat();
        let (code, out, error) = observe(&all);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{args:?}");
        out.lines().count()
    };
    for (args, expected) in [
        (&["--last", "3"][..], 3),
        (&["--verdict", "DROPPED"], 19),
        (&["--verdict", "dropped", "--not", "--protocol", "icmpv6"], 8),
        (&["--namespace", "other"], 6),
        (&["--from-pod", "other/intr"], 6),
        (&["--to-pod", "other/"], 0),
        (&["--pod", "shop/remote", "--protocol", "tcp", "--node-name", "node2"], 17),
        (&["--port", "9999"], 2),
        (&["--ip", "172.30.0.0/24", "--port", "4244"], 2),
        (&["--since", "2026-11-21T02:13:19Z"], 2),
        (&["--until", "2026-11-21T02:12:45Z"], 2),
    ] {
        assert_eq!(count(args), expected, "{args:?}");
    }
    let (code, out, error) = observe(&["--input-file", "observe-2node.txt"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("line 1: the line is no JSON"), "{error}");
    for wrong in [&["--server", "nonsense"][..], &["--verdict", "MAYBE"], &["--since", "soon"], &["--not"]] {
        let (code, _, error) = observe(wrong);
        assert!(code != Some(0) && !error.is_empty(), "{wrong:?}: {error}");
    }
}
