//! A receiver of reports, for tests that want to see what agents say without a collector's merge between.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::IpAddr,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use wire::{
    codec::{decode_report, encode_ack},
    v1::{Ack, Edge, Report, ResolvedName, Side},
};

/// Newest totals of an edge by node, epoch and identity.
type Rows = HashMap<(String, u64, Vec<u8>, Vec<u8>, u32, u32, i32, u64, u64, u64), Edge>;

/// What a test compares with: one edge on one side, all incarnations added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) skbs: (u64, u64),
    pub(crate) payload_bytes: (u64, u64),
    pub(crate) established: u64,
    pub(crate) icmp_errors: u64,
}

/// Everything heard so far.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) latest: BTreeMap<String, Report>,
    /// The newest report of each run of a node's agent.
    pub(crate) runs: BTreeMap<(String, u64), Report>,
    pub(crate) reports: u64,
    /// Answer 409 from now on.
    pub(crate) closed: bool,
    /// Every name told, with the node that told it.
    pub(crate) names: Vec<(String, ResolvedName)>,
    rows: Rows,
}

/// Listens on a socket until the process ends.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    heard: Arc<Mutex<Heard>>,
}

impl Receiver {
    pub(crate) fn listen(path: &Path) -> Self {
        let receiver = Self::default();
        let listener = UnixListener::bind(path).expect("bind the report socket");
        let heard = receiver.heard.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = heard.clone();
                thread::spawn(move || serve(stream, &heard));
            }
        });
        receiver
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock().expect("no panic while it was held"))
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.heard.lock().expect("no panic while it was held").closed = true;
    }

    /// The newest report of a node.
    pub(crate) fn latest(&self, node: &str) -> Option<Report> {
        self.with(|heard| heard.latest.get(node).cloned())
    }

    /// Packets of all edges, on both sides and both ways, but for what carries them between nodes.
    pub(crate) fn skbs(&self) -> u64 {
        let both = |row: &Edge| row.forward.unwrap_or_default().skbs + row.reverse.unwrap_or_default().skbs;
        self.with(|heard| heard.rows.values().filter(|row| row.tunnel.is_empty()).map(both).sum())
    }

    /// Every row that is held, with its node.
    pub(crate) fn rows(&self) -> Vec<(String, Edge)> {
        self.with(|heard| heard.rows.iter().map(|((node, ..), row)| (node.clone(), row.clone())).collect())
    }

    /// One edge as one side saw it, at the device of that side's pod, or at its node's cgroup, and nowhere else.
    pub(crate) fn edge(&self, edge: &lab::Edge, side: Side, pod: &lab::Pod) -> Totals {
        let (client, server) = (octets(edge.client), octets(edge.server));
        self.with(|heard| {
            let mut sum = Totals::default();
            for ((node, epoch, ..), row) in &heard.rows {
                let device = heard
                    .runs
                    .get(&(node.clone(), *epoch))
                    .and_then(|report| report.devices.iter().find(|device| device.incarnation == row.device));
                if node != pod.node()
                    || device.is_none_or(|device| device.name != pod.device() && device.name != "cgroup")
                    || row.client != client
                    || row.server != server
                    || row.server_port != u32::from(edge.port)
                    || row.protocol != u32::from(edge.protocol.number())
                    || row.side != i32::from(side)
                {
                    continue;
                }
                let (forward, reverse) = (row.forward.unwrap_or_default(), row.reverse.unwrap_or_default());
                sum.skbs = (sum.skbs.0 + forward.skbs, sum.skbs.1 + reverse.skbs);
                sum.payload_bytes.0 += forward.payload_bytes;
                sum.payload_bytes.1 += reverse.payload_bytes;
                sum.established += row.established;
                sum.icmp_errors += row.icmp_errors;
            }
            sum
        })
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Serves one kept-alive connection: `POST`, a length, a body; an `Ack` back.
fn serve(stream: UnixStream, heard: &Mutex<Heard>) {
    let mut reader = BufReader::new(stream.try_clone().expect("clone the stream"));
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let report = decode_report(&body).expect("agents send valid reports");
        let ack = Ack { collector_run: 1, seq: report.seq, server_unix_ns: report.sent_unix_ns, ..Ack::default() };
        let closed = heard.lock().expect("no panic while it was held").closed;
        let (status, answer) = if closed {
            ("409 Conflict", b"epoch folded".to_vec())
        } else {
            note(&mut heard.lock().expect("no panic while it was held"), report);
            ("200 OK", encode_ack(&ack))
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", answer.len());
        if writer.write_all(&[head.as_bytes(), &answer].concat()).is_err() {
            return;
        }
    }
}

fn note(heard: &mut Heard, report: Report) {
    heard.reports += 1;
    for edge in &report.edges {
        let key = (
            report.node.clone(),
            report.epoch,
            edge.client.clone(),
            edge.server.clone(),
            edge.server_port,
            edge.protocol,
            edge.side,
            edge.device,
            edge.cgroup,
            edge.incarnation,
        );
        heard.rows.insert(key, edge.clone());
    }
    heard.runs.insert((report.node.clone(), report.epoch), report.clone());
    heard.names.extend(report.names.iter().map(|name| (report.node.clone(), name.clone())));
    heard.latest.insert(report.node.clone(), report);
}
