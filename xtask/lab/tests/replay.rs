//! The recording in the tree, played by the collector alone: no root, no agents, no cluster.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::http1::Client;
use lab::wait_for;
use serde_json::Value;

/// The recording is about a quarter of a minute long; a loaded machine may be late.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sample/shop.orrery");

/// A collector that ends with the test.
struct Player {
    child: Child,
    address: SocketAddr,
}

impl Player {
    fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("its number");
        drop(free);
        let mut command = Command::new(lab::binary("orrery-collector").expect("the collector"));
        command.args(["--listen", &address.to_string(), "--log-level", "warn", "--replay", SAMPLE]);
        let child = command.stdin(Stdio::null()).spawn().expect("it starts");
        Self { child, address }
    }

    /// The graph by workloads, once it answers.
    fn graph(&mut self) -> Option<Value> {
        assert_eq!(self.child.try_wait().expect("it can be asked"), None, "the collector ended");
        let mut client = Client::tcp(self.address, Duration::from_secs(10)).ok()?;
        let answer = client.request("orrery", "/api/v1/graph?view=workload", &[]).ok()?;
        (answer.status == 200).then(|| answer.json().expect("JSON"))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_sample_shows_the_faulty_link_by_name() {
    const FAULTY: &str = "workload:shop/Deployment/payments>workload:shop/StatefulSet/ledger:8443/udp";
    let mut player = Player::start();
    let start = Instant::now();
    let lost = || {
        let graph = player.graph()?;
        let edges = graph["edges"].as_array()?;
        let faulty = edges.iter().find(|edge| edge["id"] == FAULTY)?;
        let lost = faulty["loss"]["forward_lost"].as_u64().filter(|lost| *lost > 0)?;
        for edge in edges.iter().filter(|edge| edge["id"] != FAULTY) {
            let none = |way: &str| edge["loss"][way].as_u64().unwrap_or(0) == 0;
            assert!(none("forward_lost") && none("reverse_lost"), "loss on a sound link: {edge}");
        }
        Some((lost, edges.len()))
    };
    let (lost, edges) = wait_for("payments to ledger shows loss", SEEN_WITHIN, lost).expect("it does");
    println!("{lost} lost on one of {edges} edges after {:?}", start.elapsed());
}
