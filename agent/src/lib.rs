//! One node's user side: what the kernel counted becomes reports to the collector.
//!
//! `run` is the only place that spawns tasks and makes channels; everything below it is called.

pub mod admin;
pub mod btf;
pub mod cgroup;
pub mod cleanup;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod devices;
pub mod dns;
pub mod drain;
pub mod drops;
pub mod edge;
pub mod events;
pub mod facts;
mod happened;
pub mod health;
pub mod home;
pub mod hooks;
pub mod known;
pub mod ledger;
pub mod offsets;
pub mod owners;
pub mod pace;
pub mod packed;
pub mod points;
pub mod ports;
pub mod report;
pub mod scope;
pub mod session;
pub mod sockets;
pub mod source;
pub mod summarise;
pub mod tiers;
pub mod transport;
pub mod via;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{info, warn};

use crate::{
    config::{Collector, Config},
    drain::Node,
    ledger::Ledger,
    pace::FAST_TICK,
    source::kernel::{KernelError, memory, trigger::Trigger},
    transport::{Answer, Client, TransportError},
};

/// Device changes are looked at this often at the most: a storm of them costs one look each time.
const DEVICES_GAP: Duration = Duration::from_millis(20);
/// How long a last report may take when the agent is told to stop.
const LAST_REPORT: Duration = Duration::from_secs(2);

/// What happened to one posted report.
struct Posted {
    outcome: Result<Answer, TransportError>,
    sent_unix_ns: u64,
    received_unix_ns: u64,
    own: Option<(std::net::SocketAddr, std::net::SocketAddr)>,
}

/// Watches until `shutdown` resolves, then tells the collector the last totals and takes everything off the devices.
///
/// # Errors
/// When it cannot start: no capability, no such device, no socket; or when the collector has closed this run for good.
/// Other trouble is counted and told, not returned.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let ledger = Ledger::default();
    let mut trigger = Trigger::open()?;
    let mut node = Node::start(&config, ledger.clone()).await?;
    let _admin = admin::serve(&config.admin_socket, &ledger)?;
    info!(node = %config.node, collector = ?config.collector, devices = ledger.devices.get(), "watching");

    if config.token_file.is_some()
        && matches!(&config.collector, Collector::Tcp { tls: None, host, .. } if host != "127.0.0.1")
    {
        warn!("the token travels in clear text; hint: a collector with TLS, --collector https://… and --ca-file");
    }

    // One report at a time: the next one carries newer totals anyway.
    let (to_post, mut bodies) = mpsc::channel::<Bytes>(1);
    let (posted, mut outcomes) = mpsc::channel::<Posted>(1);
    let mut client = Client::new(config.collector.clone(), config.token_file.clone());
    let wall = node.clock;
    tokio::spawn(async move {
        while let Some(body) = bodies.recv().await {
            let unix_ns = || wall.unix_ns(clock::monotonic_ns());
            let sent_unix_ns = unix_ns();
            let outcome = client.post(body).await;
            let answer = Posted { outcome, sent_unix_ns, received_unix_ns: unix_ns(), own: client.own() };
            if posted.send(answer).await.is_err() {
                break;
            }
        }
    });

    tokio::pin!(shutdown);
    let mut in_flight = false;
    let mut started = false;
    // Something is to be told that no report has: because one was under way, or the collector asked for it.
    let mut wanted = false;
    let mut look_at = clock::timer(Duration::ZERO);
    let mut devices_at: Option<Instant> = None;
    loop {
        let mut look = false;
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(answer) = outcomes.recv() => {
                in_flight = false;
                // By now whatever runs for long has run once.
                if !std::mem::replace(&mut started, true) {
                    memory::give_back_start();
                }
                wanted |= settle(&mut node, answer)?;
                look = wanted;
            }
            // Before the ring, which a storm of new flows may keep ready for ever.
            () = sleep_until(look_at) => {
                look_at = clock::timer(FAST_TICK);
                look = node.look_due();
            }
            () = trigger.changed(), if devices_at.is_none() => devices_at = Some(clock::timer(DEVICES_GAP)),
            () = sleep_until(devices_at.unwrap_or(look_at)), if devices_at.is_some() => {
                let more = node.reconcile().await;
                devices_at = matches!(more, Ok(true)).then(|| clock::timer(Duration::ZERO));
                look = devices_at.is_some();
                survive(more.map(drop));
            }
            ready = node.event_ready() => match ready {
                Ok(()) => look = node.take_events() && node.may_flush(),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "event ring unreadable");
                    sleep(FAST_TICK).await;
                }
            },
        }
        if !look {
            continue;
        }
        // Also while a report is under way: a collector that hangs must not let the flow map fill.
        survive(node.drain().await);
        // Counted from the end: a slow reading must leave time for devices and the ring.
        look_at = clock::timer(FAST_TICK);
        wanted |= node.report_due();
        if wanted
            && !in_flight
            && let Some(body) = node.report()
        {
            in_flight = to_post.try_send(body).is_ok();
            wanted = false;
        }
    }

    info!("stopping");
    let last = async {
        if in_flight && let Some(answer) = outcomes.recv().await {
            settle(&mut node, answer)?;
        }
        survive(node.drain().await);
        while let Some(body) = node.report() {
            if to_post.send(body).await.is_err() {
                break;
            }
            let Some(answer) = outcomes.recv().await else { break };
            if !settle(&mut node, answer)? {
                break;
            }
        }
        anyhow::Ok(())
    };
    let ended = timeout(LAST_REPORT, last).await;
    node.detach();
    ended.unwrap_or_else(|_| {
        warn!("the last report was not acknowledged in time");
        Ok(())
    })
}

/// Takes the collector's answer; says whether there is more to send at once.
///
/// # Errors
/// When the collector has closed this run's epoch for good: another run of this node's agent seems newer to it. That is
/// so when two agents share a name, or when the clock was behind at our start; only a new start helps.
fn settle(node: &mut Node, answer: Posted) -> anyhow::Result<bool> {
    node.set_own(answer.own);
    match answer.outcome {
        Ok(Answer::Ack(ack)) => return Ok(node.acknowledged(&ack, answer.sent_unix_ns, answer.received_unix_ns)),
        Ok(Answer::Busy(wait)) => node.busy(wait),
        Ok(Answer::Refused { status: StatusCode::CONFLICT, reason }) => anyhow::bail!(
            "send report: the collector takes no more of this run: {reason}; hint: start again with the right time, and \
             with a node name that no other agent has"
        ),
        Ok(Answer::Refused { status, reason }) => {
            warn!(status = status.as_u16(), reason, "the collector refused a report");
            node.failed("refused", &reason);
        }
        Err(error) => node.failed("transport", &format!("{:#}", anyhow::Error::from(error))),
    }
    Ok(false)
}

/// Trouble with the kernel in mid-life is said and survived: the next tick tries again.
fn survive(outcome: Result<(), KernelError>) {
    if let Err(error) = outcome {
        warn!(error = format!("{:#}", anyhow::Error::from(error)), "the kernel refused");
    }
}
