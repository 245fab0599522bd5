//! A cluster that is not there: every edge told by both of its nodes, as much as a cluster can say.

use wire::v1::{ClockOffset, Counters, Edge, Point, Report};

const SECOND: u64 = 1_000_000_000;
/// Agents tell times of packets by this.
const TICK: u64 = 1_000_000;
/// When it begins, in nanoseconds since 1970.
pub(crate) const START: u64 = 1_795_000_000 * SECOND;
/// Agents' times are a few ticks' old.
const AGE: u64 = 30 * SECOND;

struct Link {
    client: u32,
    server: u32,
    port: u32,
    rate: u64,
    bytes: u64,
    born: u64,
}

/// Who talks to whom.
pub(crate) struct Cluster {
    links: Vec<Link>,
    /// Of each node: link and side.
    told: Vec<Vec<(usize, i32)>>,
}

/// xorshift64*: the same cluster everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound.max(1)
    }
}

fn by_tick(time: u64) -> u64 {
    time - time % TICK
}

fn place(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Cluster {
    pub(crate) fn new(nodes: usize, pods: u64, edges: usize) -> Self {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut told = vec![Vec::new(); nodes];
        let links: Vec<Link> = (0..edges)
            .map(|_| {
                let client = random.below(pods);
                let server = (client + 1 + random.below(pods - 1)) % pods;
                Link {
                    client: low(client),
                    server: low(server),
                    port: [8080, 5432, 6379, 443, 9090][place(random.below(5))],
                    rate: 1 + random.below(500),
                    bytes: 80 + random.below(900),
                    born: by_tick(START - AGE - random.below(SECOND)),
                }
            })
            .collect();
        for (index, link) in links.iter().enumerate() {
            told[link.client as usize % nodes].push((index, 1));
            told[link.server as usize % nodes].push((index, 2));
        }
        Self { links, told }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.told.len()
    }

    /// What a node says at `now`, its report number `seq`.
    pub(crate) fn report(&self, node: usize, seq: u64, now: u64) -> Report {
        Report {
            version: wire::VERSION,
            node: format!("n-{node:03}"),
            epoch: START - AGE,
            seq,
            acked_seq: seq - 1,
            sent_unix_ns: now,
            sampled_unix_ns: now,
            complete: true,
            next_tick_ms: 1_000,
            clock: Some(ClockOffset { offset_ns: 0, error_ns: 100_000 }),
            edges: self.told[node].iter().map(|(link, side)| row(&self.links[*link], *side, now)).collect(),
            ..Report::default()
        }
    }
}

fn row(link: &Link, side: i32, now: u64) -> Edge {
    let elapsed = now.saturating_sub(link.born);
    let sent = elapsed / (SECOND / link.rate);
    let answered = sent * 9 / 10;
    let count = |skbs: u64, bytes: u64| Counters {
        skbs,
        segments: skbs,
        l3_bytes: skbs * (bytes + 40),
        payload_bytes: skbs * bytes,
    };
    let address = |pod: u32| (0x0A40_0001 + pod).to_be_bytes().to_vec();
    Edge {
        client: address(link.client),
        server: address(link.server),
        server_port: link.port,
        protocol: 6,
        side,
        device: u64::from(if side == 1 { link.client } else { link.server }) + 1,
        incarnation: 1,
        forward: Some(count(sent, link.bytes)),
        reverse: Some(count(answered, link.bytes * 3)),
        opened: 1 + sent / 9,
        established: 1 + sent / 9,
        closed: sent / 9,
        first_seen_unix_ns: link.born,
        forward_last_unix_ns: by_tick(link.born + sent * (SECOND / link.rate)),
        reverse_last_unix_ns: by_tick(link.born + answered * (SECOND / link.rate)),
        point: Point::Pod.into(),
        ..Edge::default()
    }
}
