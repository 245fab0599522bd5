//! The shop is open: names resolve, everybody talks, the deployment scales, one link drops.

mod listeners;
mod promtool;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use lab::shop::{SCALED, Shop};
use lab::{AgentOptions, Collector, CollectorOptions, Offloads, Protocol, wait_for};
use serde_json::Value;

#[test]
fn the_shop_talks_scales_and_drops() {
    if !lab::testing::may_run() {
        return;
    }
    let start = std::time::Instant::now();
    let shop = Shop::open(Offloads::On, 0).expect("the shop opens");
    println!("shop of {} pods open in {:?}", shop.lab().pods().len(), start.elapsed());
    let sent = |protocol| {
        let ledger = shop.lab().ledger().expect("a ledger");
        ledger.iter().filter(|(edge, _)| edge.protocol == protocol).count()
    };
    // pricing to 2 catalogs, payments to ledger, web and cart and orders to statsd; transfers to postgres, redis and outside.
    wait_for("all protocols are spoken", Duration::from_secs(20), || {
        (sent(Protocol::Udp) >= 9 && sent(Protocol::Tcp) >= 7 && sent(Protocol::Icmp) >= 3).then_some(())
    })
    .expect("they are");
    let carts =
        || shop.lab().pods().iter().filter(|pod| pod.workload() == SCALED).map(|pod| pod.v4()).collect::<Vec<_>>();
    for wanted in [8, 3] {
        shop.scale(wanted).expect("it scales");
        assert_eq!(carts().len(), wanted);
    }
    shop.scale(4).expect("it scales");
    let newest =
        shop.lab().pods().into_iter().filter(|pod| pod.workload() == SCALED).map(|pod| pod.device().to_owned());
    let devices: Vec<String> = newest.collect();
    let stats = || {
        let nodes = shop.lab().nodes();
        let all = nodes.iter().flat_map(|node| shop.lab().device_stats(node).expect("statistics"));
        all.filter(|(name, _)| devices.contains(name)).map(|(_, stats)| stats.rx_packets.min(stats.tx_packets)).min()
    };
    wait_for("every cart gets traffic", Duration::from_secs(20), || stats().filter(|packets| *packets > 50))
        .expect("they do");
    assert!(shop.dropped().expect("a counter").packets > 10);
}

fn edges(collector: &Collector, view: &str) -> Vec<Value> {
    let graph = collector.graph(view).expect("the graph");
    graph["edges"].as_array().cloned().unwrap_or_default()
}

/// The edges on which something was lost.
fn lossy(edges: &[Value]) -> Vec<String> {
    let lost = |edge: &&Value| {
        ["forward_lost", "reverse_lost"].iter().any(|way| edge["loss"][way].as_u64().is_some_and(|lost| lost > 0))
    };
    edges.iter().filter(lost).filter_map(|edge| edge["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn the_demo_names_everybody_and_the_faulty_link_alone_shows_loss() {
    const SHOWN_WITHIN: Duration = Duration::from_secs(30);
    /// How long the other links are looked at once the faulty one is found.
    const LOOKED_AT: Duration = Duration::from_secs(10);
    /// Who has to be seen talking to whom, beside the faulty link.
    const TALKS: [(&str, &str); 6] = [
        ("shop/Deployment/web", "shop/Deployment/catalog:8080/tcp"),
        ("shop/Deployment/web", "shop/Deployment/cart:8080/tcp"),
        ("shop/Deployment/cart", "shop/StatefulSet/redis:6379/tcp"),
        ("shop/Deployment/web", "kube-system/Deployment/kube-dns:53/udp"),
        ("shop/Deployment/pricing", "shop/Deployment/catalog:5000/udp"),
        ("monitoring/StatefulSet/prometheus", "shop/Deployment/web:9090/tcp"),
    ];
    if !lab::testing::may_run() {
        return;
    }
    // The order of `cargo xtask demo`: who watches is there before anybody talks.
    let shop = Shop::build(Offloads::On, 0).expect("the shop is built");
    let collector = shop.lab().start_collector(&CollectorOptions::default()).expect("a collector");
    let agents = shop.lab().start_agents(&AgentOptions::default()).expect("agents");
    let start = Instant::now();
    shop.start_traffic().expect("the shop opens");
    let fault = shop.fault();
    let faulty = format!("pod:shop/{}>pod:shop/{}:{}/udp", fault.client, fault.server, fault.edge.port);
    let shown = || {
        let lossy = lossy(&edges(&collector, "pod"));
        assert!(lossy.iter().all(|id| *id == faulty), "loss on sound links: {lossy:?}");
        (!lossy.is_empty()).then_some(())
    };
    let left = SHOWN_WITHIN.saturating_sub(start.elapsed());
    wait_for("the faulty link shows loss", left, shown).expect("it does");
    println!("loss on {faulty} is shown after {:?}", start.elapsed());
    let wanted: Vec<String> =
        TALKS.iter().map(|(client, server)| format!("workload:{client}>workload:{server}")).collect();
    let missing = || {
        let seen = edges(&collector, "workload");
        wanted.iter().filter(|id| !seen.iter().any(|edge| edge["id"] == **id)).cloned().collect::<Vec<_>>()
    };
    let left = SHOWN_WITHIN.saturating_sub(start.elapsed());
    wait_for("workloads have their names", left, || missing().is_empty().then_some(()))
        .unwrap_or_else(|error| panic!("{error}: missing {:?}", missing()));
    // Nothing listens beyond the loopback: not the page, and the agents nowhere at all.
    assert_eq!(listeners::of(collector.pid()), [collector.address()]);
    assert!(collector.address().ip().is_loopback());
    for agent in &agents {
        assert_eq!(listeners::of(agent.pid()), []);
    }
    let others = listeners::others();
    println!("refused at {others:?}");
    for address in others {
        let tried = (address, collector.address().port()).into();
        let error = TcpStream::connect_timeout(&tried, Duration::from_secs(2)).expect_err("nobody listens there");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{tried}");
    }
    promtool::lint(&collector.get("/metrics").expect("metrics").body);
    for agent in &agents {
        promtool::lint(&agent.get("/metrics").expect("metrics").body);
    }
    // As in the demo, pods come while one looks.
    shop.scale(4).expect("it scales");
    let found = Instant::now();
    while found.elapsed() < LOOKED_AT {
        assert_eq!(lossy(&edges(&collector, "pod")), [faulty.as_str()], "after {:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    let external = shop.lab().external().expect("the external host");
    let silent = &shop.faults().silent.to;
    let outside = [&external.v4().to_string(), &external.v6().to_string(), silent].map(|at| format!("external:{at}"));
    for edge in edges(&collector, "workload") {
        for end in ["client", "server"] {
            let id = edge[end].as_str().expect("an id");
            // What carries the shop's packets runs between nodes.
            let carrier = edge["tunnel"] == "vxlan" && id.starts_with("node:");
            assert!(
                carrier || id.starts_with("workload:") || outside.iter().any(|known| known == id),
                "nobody knows {id}: {edge}"
            );
        }
    }
}
