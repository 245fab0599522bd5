//! `cargo xtask bench stream`: what a delta costs the collector for each client that gets it, beside a bare loop of sends of as
//! many bytes to as many sockets, in the same run.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::time::{ClockId, clock_gettime};

use crate::load::{Load, Size};

/// Nodes report in turn, once a second each: so many deltas a second.
const NODES: u16 = 10;
/// Edges of a cluster whose deltas are small, and of one whose deltas are some 8 kB.
const EDGES: [u32; 2] = [10, 45];
/// How long the clients take to be there.
const SETTLES: Duration = Duration::from_secs(3);
/// The most and the best ratio.
const GOALS: [f64; 2] = [1.5, 1.2];

/// Options of `cargo xtask bench stream`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Clients
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(2..=2_000))]
    clients: u16,
    /// Seconds that each is watched
    #[arg(long = "for", default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,
    /// Port of the collector on 127.0.0.1
    #[arg(long, default_value_t = 7397)]
    port: u16,
}

/// Of a second.
struct Cost {
    cpu: f64,
    deltas: f64,
    bytes: f64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let time = Duration::from_secs(args.seconds);
    println!("{}", super::machine());
    let mut missed = 0;
    for edges in EDGES {
        let size = Size { nodes: NODES, pods: 4 * edges.max(10), edges, seed: 7, churn: 0 };
        let load = Load::start(&size, args.port)?;
        let one = watch(&load, 1, time)?;
        let all = watch(&load, args.clients, time)?;
        load.check()?;
        drop(load);
        let each = (all.cpu - one.cpu) / (all.deltas * f64::from(args.clients - 1));
        let bytes = (all.bytes / all.deltas) as usize;
        let bare = bare(args.clients, bytes, all.deltas, time)?;
        let ratio = each / bare;
        let good = ratio <= GOALS[0];
        missed += usize::from(!good);
        println!(
            "{} P9 {bytes} B to {} clients, {:.1} times a second: {:.1} µs a delivery, a bare send {:.1} µs: {ratio:.2} ×  \
             ship ≤ {}, lead ≤ {}",
            if good { "ok  " } else { "MISS" },
            args.clients,
            all.deltas,
            each * 1e6,
            bare * 1e6,
            GOALS[0],
            GOALS[1]
        );
    }
    if missed > 0 { bail!("{missed} figures are missed") } else { Ok(()) }
}

/// What the collector costs while so many follow one view.
fn watch(load: &Load, clients: u16, time: Duration) -> anyhow::Result<Cost> {
    let followers = load.follow_views(1, clients)?;
    std::thread::sleep(SETTLES);
    let (cpu, deltas, bytes) = (load.cpu_seconds()?, load.deltas()?, load.delta_bytes()?);
    let begun = Instant::now();
    std::thread::sleep(time);
    let seconds = begun.elapsed().as_secs_f64();
    let cost = Cost {
        cpu: (load.cpu_seconds()? - cpu) / seconds,
        deltas: (load.deltas()? - deltas) / seconds,
        bytes: (load.delta_bytes()? - bytes) / seconds,
    };
    drop(followers);
    Ok(cost)
}

/// Seconds of processor time for one send of so many bytes, to all of so many sockets in turn.
fn bare(clients: u16, bytes: usize, rate: f64, time: Duration) -> anyhow::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let address = listener.local_addr().context("listen")?;
    let mut sockets = Vec::new();
    for _ in 0..clients {
        let mut reader = TcpStream::connect(address).context("connect a reader")?;
        sockets.push(listener.accept().context("accept a reader")?.0);
        std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || {
                let mut buffer = vec![0; 32 << 10];
                while reader.read(&mut buffer).is_ok_and(|read| read > 0) {}
            })
            .context("start a reader")?;
    }
    let (text, gap) = (vec![b'x'; bytes], Duration::from_secs_f64(1.0 / rate));
    let (begun, spent) = (Instant::now(), own_time()?);
    let mut rounds: u32 = 0;
    while begun.elapsed() < time {
        for socket in &mut sockets {
            socket.write_all(&text).context("send")?;
        }
        rounds += 1;
        std::thread::sleep((gap * rounds).saturating_sub(begun.elapsed()));
    }
    Ok((own_time()? - spent) / f64::from(rounds) / f64::from(clients))
}

/// This thread's processor time.
fn own_time() -> anyhow::Result<f64> {
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read this thread's clock")?;
    Ok(Duration::from(spent).as_secs_f64())
}
