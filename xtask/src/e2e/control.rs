//! How the page's tests change the lab while they look at it: a few GETs on a loopback port, answered one at a time.
//!
//! - `/rate/FLOW/PPS`: another rate for a flow of `ORRERY_SPACING`, by its place in the list; 0 silences it;
//! - `/sent/FLOW`: `{ "datagrams": N, "time_ms": T }` by the generator's own ledger;
//! - `/heal`: the link that drops drops no more;
//! - `/drop/SEED`: heals the link that drops and lets the one drop that the seed names: `{ "client", "server", "port" }`, the
//!   ends as `{ "pod", "workload" }`;
//! - `/scale/PODS`: another size for the deployment that is scaled;
//! - `/kill/NODE`: ends the node's agent as a crash would;
//! - `/start/NODE`: starts an agent there again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lab::shop::Shop;
use lab::{Agent, AgentOptions};
use serde_json::{Value, json};

use super::Rated;

/// A client that says nothing for so long is hung up on.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the listener looks whether the tests are over.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Longest request line.
const MOST_LINE_BYTES: u64 = 1024;

/// Answers while `work` runs, which is told the address.
pub(super) fn serve<T: Send>(
    shop: &Shop,
    rated: &[Rated],
    agents: Vec<Agent>,
    work: impl FnOnce(&str) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen for the page's tests")?;
    listener.set_nonblocking(true).context("listen without blocking")?;
    let address = format!("http://{}", listener.local_addr().context("find the port")?);
    let over = AtomicBool::new(false);
    let mut nodes: Vec<_> = shop.lab().nodes().into_iter().zip(agents.into_iter().map(Some)).collect();
    std::thread::scope(|scope| {
        let tests = scope.spawn(|| {
            let result = work(&address);
            over.store(true, Ordering::Relaxed);
            result
        });
        while !over.load(Ordering::Relaxed) && !tests.is_finished() {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = exchange(&stream, |path| answer(path, shop, rated, &mut nodes)) {
                        println!("e2e: a request to the lab failed: {error:#}");
                    }
                }
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
        tests.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Reads one request, and writes what `answer` says to its path.
fn exchange(mut stream: &TcpStream, answer: impl FnOnce(&str) -> anyhow::Result<Value>) -> anyhow::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(std::io::Read::take(stream, 16 * MOST_LINE_BYTES));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).context("read the request line")?.to_owned();
    // The rest of the head is read, so that closing does not reset the connection.
    while reader.read_line(&mut line)? > 0 && !line.ends_with("\n\r\n") {}
    let (status, body) = match answer(&path) {
        Ok(body) => ("200 OK", body),
        Err(error) => ("400 Bad Request", json!({ "error": format!("{error:#}") })),
    };
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\naccess-control-allow-origin: *\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    Ok(())
}

fn answer(path: &str, shop: &Shop, rated: &[Rated], nodes: &mut [(String, Option<Agent>)]) -> anyhow::Result<Value> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let flow = |index: &str| rated.get(index.parse::<usize>().ok()?);
    match *parts {
        ["rate", index, pps] => {
            let pps: f64 = pps.parse().context("read the rate")?;
            flow(index).context("no such flow")?.flow.set_rate(pps)?;
            Ok(json!({}))
        }
        ["sent", index] => {
            let datagrams = flow(index).context("no such flow")?.sent()?;
            let since = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
            Ok(json!({ "datagrams": datagrams, "time_ms": u64::try_from(since.as_millis())? }))
        }
        ["heal"] => {
            shop.heal()?;
            Ok(json!({}))
        }
        ["drop", seed] => {
            let fault = shop.drop_elsewhere(seed.parse().context("read the seed")?)?;
            let end = |pod: &str| anyhow::Ok(json!({ "pod": pod, "workload": shop.lab().pod(pod)?.workload() }));
            Ok(json!({ "client": end(&fault.client)?, "server": end(&fault.server)?, "port": fault.edge.port }))
        }
        ["scale", pods] => {
            shop.scale(pods.parse().context("read the number of pods")?)?;
            Ok(json!({}))
        }
        ["kill", node] => {
            let (_, agent) = nodes.iter_mut().find(|(name, _)| name == node).context("no such node")?;
            agent.take().context("no agent runs there")?.kill();
            Ok(json!({}))
        }
        ["start", node] => {
            let (_, agent) = nodes.iter_mut().find(|(name, _)| name == node).context("no such node")?;
            *agent = Some(shop.lab().start_agent(node, &AgentOptions::default())?);
            Ok(json!({}))
        }
        _ => anyhow::bail!("not understood: {path}"),
    }
}
