//! Background loads: what makes the shop's pods talk. Names are resolved by the system's resolver, as any program does.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::icmp::Ping;
use super::pace::Pace;
use super::{Pod, tcp, udp};
use crate::control::{Call, Family, Load, TcpSend};
use crate::error::{Context, LabError, Result};
use crate::http1;

/// How long an answer of the resolver is used: short, so that a scaled deployment gets its share soon.
const RESOLVE_EVERY: Duration = Duration::from_secs(2);
/// Requests on one HTTP connection before a new one is opened.
const KEEP_ALIVE: u32 = 200;
/// One breath of the rate.
const BREATH_SECONDS: f64 = 23.0;

/// Runs until the process ends. A call that fails is tried again after a moment, against fresh addresses.
pub(super) fn start(pod: Arc<Pod>, load: Load) {
    std::thread::spawn(move || {
        let mut line = Line::default();
        let start = Instant::now();
        // Loads of equal rate do not breathe together.
        let phase = load.to.bytes().map(f64::from).sum::<f64>() + f64::from(load.port);
        let mut pace = Pace::new(load.per_second, start);
        let mut rate = load.per_second;
        loop {
            let now = Instant::now();
            let wanted = load.per_second
                * (1.0
                    + load.swing
                        * (start.elapsed().as_secs_f64() * std::f64::consts::TAU / BREATH_SECONDS + phase).sin());
            // Steps of 5 %: a rate that changes at every beat would forget what is due.
            if (wanted - rate).abs() > rate * 0.05 {
                rate = wanted;
                pace.set(rate, now);
            }
            for _ in 0..pace.due(now) {
                if let Err(error) = line.call(&pod, &load) {
                    eprintln!("load to {}: {}", load.to, super::with_sources(&error));
                    line = Line::default();
                    std::thread::sleep(Duration::from_millis(500));
                    break;
                }
            }
            std::thread::sleep(pace.rest(Instant::now()));
        }
    });
}

/// What a load keeps open.
#[derive(Default)]
struct Line {
    addresses: Vec<IpAddr>,
    resolved: Option<Instant>,
    turn: usize,
    /// One kept-alive connection per address, and the requests it has left.
    http: BTreeMap<SocketAddr, (http1::Client, u32)>,
    udp: BTreeMap<SocketAddr, udp::Sender>,
    ping: BTreeMap<IpAddr, Ping>,
}

impl Line {
    fn call(&mut self, pod: &Pod, load: &Load) -> Result<()> {
        let to = SocketAddr::new(self.next_address(load)?, load.port);
        match &load.call {
            Call::Http { path, body } => self.http(to, load, path, *body),
            Call::Udp { payload } => {
                let sender = match self.udp.entry(to) {
                    Entry::Occupied(open) => open.into_mut(),
                    Entry::Vacant(none) => none.insert(udp::Sender::open(to)?),
                };
                sender.one(pod, *payload)
            }
            Call::Tcp { send, receive } => {
                tcp::send(pod, &TcpSend { to, connections: 1, send: *send, receive: *receive })
            }
            Call::Connect { patience_ms } => TcpStream::connect_timeout(&to, Duration::from_millis(*patience_ms))
                .map(drop)
                .context(|| format!("connect to {to}")),
            Call::Ping { payload } => {
                let ping = match self.ping.entry(to.ip()) {
                    Entry::Occupied(open) => open.into_mut(),
                    Entry::Vacant(none) => none.insert(Ping::open(to.ip(), *payload as usize)?),
                };
                ping.drain(pod);
                ping.send(pod)
            }
        }
    }

    fn http(&mut self, to: SocketAddr, load: &Load, path: &str, body: u32) -> Result<()> {
        let what = || format!("http {} {to}", load.to);
        let (client, left) = match self.http.entry(to) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(none) => {
                none.insert((http1::Client::tcp(to, Duration::from_secs(5)).context(what)?, KEEP_ALIVE))
            }
        };
        let response = client.request(&load.to, path, &vec![b'x'; body as usize]).context(what)?;
        *left -= 1;
        if *left == 0 {
            self.http.remove(&to);
        }
        if response.status == 200 {
            Ok(())
        } else {
            Err(LabError::Protocol { what: format!("{}: status {}", what(), response.status) })
        }
    }

    /// The name's addresses in turn, resolved afresh every few seconds.
    fn next_address(&mut self, load: &Load) -> Result<IpAddr> {
        if let Ok(address) = load.to.parse() {
            return Ok(address);
        }
        if self.resolved.is_none_or(|at| at.elapsed() > RESOLVE_EVERY) {
            let found = (load.to.as_str(), load.port).to_socket_addrs().context(|| format!("resolve {}", load.to))?;
            let fits = |address: &IpAddr| address.is_ipv6() == (load.family == Family::V6);
            self.addresses = found.map(|found| found.ip()).filter(fits).collect();
            self.addresses.sort();
            self.addresses.dedup();
            // Nobody is behind an address that the name no longer has.
            self.http.retain(|to, _| self.addresses.contains(&to.ip()));
            self.udp.retain(|to, _| self.addresses.contains(&to.ip()));
            self.ping.retain(|to, _| self.addresses.contains(to));
            self.resolved = Some(Instant::now());
        }
        self.turn = self.turn.wrapping_add(1);
        let address = self.addresses.get(self.turn % self.addresses.len().max(1)).copied();
        address.ok_or_else(|| LabError::Unknown { kind: "name", name: load.to.clone() })
    }
}
