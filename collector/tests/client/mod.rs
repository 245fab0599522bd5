//! A collector on free ports, and plain HTTP/1.1 spoken to it.
#![expect(dead_code, reason = "each test uses a part")]

use std::time::Duration;

use clap::Parser as _;
use collector::{
    config::{Args, Config},
    listen::{Listeners, ReportListener},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use wire::v1::{ClockOffset, Counters, Edge, Report};

const LIMIT: Duration = Duration::from_secs(20);

/// The body of an answer, where somebody answers.
pub(crate) async fn fetch(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    timeout(LIMIT, stream.read_to_string(&mut text)).await.ok()?.ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// A running collector.
pub(crate) struct Collector {
    pub(crate) browser: String,
    reports: Option<String>,
    hubble: Option<String>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Collector {
    pub(crate) async fn start(extra: &[&str]) -> Self {
        let mut words = vec!["orrery-collector", "--listen", "127.0.0.1:0"];
        if !extra.contains(&"--replay") {
            words.extend(["--report-listen", "127.0.0.1:0"]);
        }
        words.extend(extra);
        let config = Config::try_from(Args::parse_from(words)).expect("config");
        let listeners = Listeners::bind(&config).await.expect("bind");
        let browser = listeners.browser.local_addr().expect("address").to_string();
        let address = |listener: &ReportListener| match listener {
            ReportListener::Tcp(listener) => listener.local_addr().ok().map(|address| address.to_string()),
            ReportListener::Unix(..) => None,
        };
        let reports = listeners.reports.iter().find_map(address);
        let hubble = listeners.hubble.as_ref().and_then(address);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(collector::run(listeners, config, async move { drop(stopped.await) }));
        Self { browser, reports, hubble, stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).expect("still running");
        timeout(LIMIT, self.task).await.expect("stops in time").expect("no panic").expect("no error");
    }

    /// Where the page is.
    pub(crate) fn browser(&self) -> &str {
        &self.browser
    }

    /// Where agents report.
    pub(crate) fn reports(&self) -> &str {
        self.reports.as_ref().expect("a TCP report listener")
    }

    /// Where Hubble's clients ask.
    pub(crate) fn hubble(&self) -> &str {
        self.hubble.as_ref().expect("a TCP listener for Hubble's clients")
    }

    pub(crate) async fn agent(&self) -> Agent {
        Agent::connect(self.reports()).await
    }

    /// Status line, headers and body as one text.
    pub(crate) async fn get(&self, path: &str) -> String {
        get(&self.browser, path).await
    }

    /// The same, with a bearer token.
    pub(crate) async fn get_with(&self, path: &str, token: &str) -> String {
        ask(&self.browser, path, &format!("Authorization: Bearer {token}\r\n")).await
    }

    pub(crate) async fn until(&self, path: &str, wanted: &str, within: Duration) -> String {
        let wait = async {
            loop {
                let text = self.get(path).await;
                if text.contains(wanted) {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(within, wait).await.unwrap_or_else(|_| panic!("{path} never said {wanted}"))
    }

    pub(crate) async fn graph(&self, view: &str) -> Value {
        let text = self.get(&format!("/api/v1/graph?view={view}")).await;
        serde_json::from_str(text.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON")
    }

    pub(crate) async fn stream(&self, view: &str, last: Option<&str>) -> Stream {
        let mut stream = TcpStream::connect(&self.browser).await.expect("connect");
        let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET /api/v1/stream?view={view} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        let mut stream = Stream { stream: BufReader::new(stream), pending: Vec::new() };
        let head = head(&mut stream.stream).await;
        assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
        stream
    }
}

/// Status line, headers and body as one text.
pub(crate) async fn get(address: &str, path: &str) -> String {
    ask(address, path, "").await
}

async fn ask(address: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut text = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut text)).await.expect("in time").expect("read");
    String::from_utf8_lossy(&text).into_owned()
}

async fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        let read = timeout(LIMIT, stream.read_line(&mut line)).await.expect("in time").expect("read");
        if read == 0 || line == "\r\n" {
            return head;
        }
        head.push_str(&line.to_lowercase().replace("200 ok", "200 OK"));
    }
}

/// One kept connection that posts reports.
pub(crate) struct Agent {
    stream: BufReader<TcpStream>,
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Agent {
    pub(crate) async fn connect(address: &str) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).await.expect("connect")) }
    }

    pub(crate) async fn post(&mut self, body: &[u8]) -> Reply {
        self.send(body).await;
        self.reply().await
    }

    /// The same, with a bearer token.
    pub(crate) async fn post_with(&mut self, body: &[u8], token: &str) -> Reply {
        self.send_with(body, &format!("Authorization: Bearer {token}\r\n")).await;
        self.reply().await
    }

    pub(crate) async fn send(&mut self, body: &[u8]) {
        self.send_with(body, "").await;
    }

    async fn send_with(&mut self, body: &[u8], headers: &str) {
        let length = body.len();
        let request =
            format!("POST /v1/reports HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.expect("write");
        self.stream.write_all(body).await.expect("write");
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        let head = head(&mut self.stream).await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        timeout(LIMIT, self.stream.read_exact(&mut body)).await.expect("in time").expect("read");
        Reply { status, head, body }
    }
}

/// A stream of events.
pub(crate) struct Stream {
    stream: BufReader<TcpStream>,
    pending: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Stream {
    /// The next event; comments and `retry` are skipped.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            let block = timeout(LIMIT, self.block()).await.expect("in time").expect("not the end");
            let field = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
            };
            if let (Some(name), Some(id), Some(data)) = (field("event"), field("id"), field("data")) {
                return Event { name, id, data: serde_json::from_str(&data).expect("JSON") };
            }
        }
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let wait = async {
            loop {
                let event = self.event().await;
                if wanted(&event) {
                    return event;
                }
            }
        };
        timeout(LIMIT, wait).await.expect("the event comes")
    }

    /// Reads to the end of the stream.
    pub(crate) async fn end(mut self) {
        timeout(LIMIT, async { while self.block().await.is_some() {} }).await.expect("the stream ends");
    }

    /// Text up to an empty line, out of the chunks.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.pending.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.pending.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&block).into_owned());
            }
            let mut line = String::new();
            self.stream.read_line(&mut line).await.ok()?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            if length == 0 {
                return None;
            }
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).await.ok()?;
            self.pending.extend_from_slice(&chunk[..length]);
        }
    }
}

/// A report of one edge, as its client's node saw it.
pub(crate) fn report(node: &str, seq: u64, acked_seq: u64) -> Report {
    let now = u64::try_from(collector::clock::now()).expect("after 1970");
    let counters = Counters { skbs: 10, segments: 10, l3_bytes: 600, payload_bytes: 200 };
    Report {
        version: wire::VERSION,
        node: node.to_owned(),
        epoch: 7,
        seq,
        acked_seq,
        sent_unix_ns: now,
        sampled_unix_ns: now,
        complete: true,
        next_tick_ms: 200,
        clock: Some(ClockOffset { offset_ns: 0, error_ns: 0 }),
        edges: vec![Edge {
            client: vec![10, 0, 0, 1],
            server: vec![10, 0, 1, 1],
            server_port: 80,
            protocol: 6,
            side: 1,
            device: 1,
            incarnation: 1,
            forward: Some(counters),
            first_seen_unix_ns: now,
            forward_last_unix_ns: now,
            ..Edge::default()
        }],
        ..Report::default()
    }
}
