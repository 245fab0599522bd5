//! Trouble on purpose: a link that drops, clocks that are wrong, agents and collectors that are killed. What Orrery then
//! says is held against nft's counters, `stats64` and the ledger.

mod equal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use equal::assert_equal;
use lab::testing::lab_or_skip;
use lab::{
    AgentOptions, Collector, CollectorOptions, DroppingLink, Edge, Lab, LabSpec, Offloads, Pod, Protocol, Reply,
    TcpSend, UdpSend,
};
use serde_json::Value;

/// How long anything that has no promise of its own may take.
const SETTLE: Duration = Duration::from_secs(15);
/// How long a fresh loss may take to show.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// All edges but what carries them between nodes.
fn edges(collector: &Collector) -> Vec<Value> {
    let graph = collector.graph("pod").expect("the graph");
    let edges = graph["edges"].as_array().cloned().unwrap_or_default();
    edges.into_iter().filter(|edge| edge["tunnel"].is_null()).collect()
}

fn between<'a>(edges: &'a [Value], client: &Pod, server: &Pod) -> Option<&'a Value> {
    let is = |value: &Value, pod: &Pod| value.as_str().is_some_and(|id| id.ends_with(&format!("/{}", pod.name())));
    edges.iter().find(|edge| is(&edge["client"], client) && is(&edge["server"], server))
}

fn udp_edge(client: &Pod, server: &Pod, port: u16) -> Edge {
    Edge { client: client.v4(), server: server.v4(), port, protocol: Protocol::Udp }
}

fn skewed(skew: &str) -> AgentOptions {
    AgentOptions { arguments: vec!["--clock-skew".to_owned(), skew.to_owned()], ..AgentOptions::default() }
}

#[test]
fn loss_shows_where_it_is_and_nowhere_else() {
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::On)).expect("the lab comes up") else { return };
    let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector");
    let skews = [("n1", "500ms"), ("n2", "-500ms"), ("n3", "0s")];
    let _agents = skews.map(|(node, skew)| lab.start_agent(node, &skewed(skew)).expect("an agent"));
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let (client, lossy, sound, near) = (pod("p1-0"), pod("p2-0"), pod("p2-1"), pod("p1-1"));
    for server in [&lossy, &sound, &near] {
        server.serve_udp(7000, Reply::Sink).expect("udp");
    }
    let to = |server: &Pod| (server.v4(), 7000).into();
    let flows = [(&lossy, 500.0), (&sound, 10_000.0), (&near, 1_000.0)];
    let flows = flows.map(|(server, pps)| client.start_udp(to(server), 200, pps).expect("a flow"));
    let both_sides = || {
        let edges = edges(&collector);
        let seen =
            |server: &Pod| between(&edges, &client, server).is_some_and(|edge| edge["loss"]["status"] == "measured");
        (seen(&lossy) && seen(&sound) && seen(&near)).then_some(())
    };
    lab::wait_for("both sides of all edges report", SETTLE, both_sides).expect("they do");
    let link = DroppingLink::install(&lab, udp_edge(&client, &lossy, 7000), 12).expect("a dropping link");
    let start = Instant::now();
    let lost = |edges: &[Value], server: &Pod| {
        let edge = between(edges, &client, server).expect("the edge");
        assert_eq!(edge["loss"]["status"], "measured", "{edge}");
        edge["loss"]["forward_lost"].as_u64().expect("a number")
    };
    let mut shown = None;
    while start.elapsed() < SHOWN_WITHIN {
        let edges = edges(&collector);
        for server in [&sound, &near] {
            assert_eq!(lost(&edges, server), 0, "no loss on {}: {:?}", server.name(), between(&edges, &client, server));
        }
        if shown.is_none() && lost(&edges, &lossy) > 0 {
            shown = Some(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("loss shown after {shown:?}");
    assert!(
        shown.is_some(),
        "no loss shown within {SHOWN_WITHIN:?}: {:?}",
        between(&edges(&collector), &client, &lossy)
    );
    for flow in flows {
        flow.stop().expect("it stops");
    }
    let dropped = link.dropped().expect("a counter").packets;
    let equal = || {
        let edges = edges(&collector);
        (lost(&edges, &lossy) == dropped && lost(&edges, &sound) == 0 && lost(&edges, &near) == 0).then_some(())
    };
    lab::wait_for("the lost packets are the dropped ones", SETTLE, equal).unwrap_or_else(|error| {
        panic!("{error}: nft dropped {dropped}: {:?}", between(&edges(&collector), &client, &lossy))
    });
}

/// What the collector says a device carried, per (device, direction): seen and unseen.
fn accounts(collector: &Collector, node: &str) -> BTreeMap<(String, String), Value> {
    let devices = collector.get("/api/v1/devices").expect("the devices").json().expect("JSON");
    let rows = devices.as_array().cloned().unwrap_or_default();
    let key = |row: &Value| {
        (
            row["device"].as_str().unwrap_or_default().to_owned(),
            row["direction"].as_str().unwrap_or_default().to_owned(),
        )
    };
    rows.into_iter().filter(|row| row["node"] == node).map(|row| (key(&row), row)).collect()
}

/// Every pod device of a node is accounted for to the packet and the byte.
fn assert_accounted(lab: &Lab, collector: &Collector, node: &str) {
    let pods: Vec<Arc<Pod>> = lab.pods().into_iter().filter(|pod| pod.node() == node).collect();
    let wrong = || {
        let stats = lab.device_stats(node).expect("statistics");
        let accounts = accounts(collector, node);
        let mut wrong = Vec::new();
        for pod in &pods {
            let stats = stats[pod.device()];
            for (direction, packets, bytes) in
                [("ingress", stats.rx_packets, stats.rx_bytes), ("egress", stats.tx_packets, stats.tx_bytes)]
            {
                let Some(row) = accounts.get(&(pod.device().to_owned(), direction.to_owned())) else {
                    wrong.push(format!("{} {direction}: not reported", pod.device()));
                    continue;
                };
                let sum = |unit: &str| {
                    row[format!("seen_{unit}")].as_u64().unwrap_or(0)
                        + row[format!("unseen_{unit}")].as_u64().unwrap_or(0)
                };
                if (sum("skbs"), sum("bytes")) != (packets, bytes) || row["unaccounted_skbs"] != 0 {
                    wrong.push(format!("{} {direction}: stats64 {packets} packets {bytes} bytes: {row}", pod.device()));
                }
            }
        }
        wrong
    };
    let settled = lab::wait_for("every device is accounted for", SETTLE, || wrong().is_empty().then_some(()));
    settled.unwrap_or_else(|error| panic!("{error}: {:#?}", wrong()));
}

#[test]
fn a_killed_agent_harms_nothing_and_is_accounted_for() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector");
    let mut agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p3-0").expect("a server"));
    server.serve_udp(7000, Reply::Echo).expect("udp");
    let edge = udp_edge(&client, &server, 7000);
    let arrived = lab::EdgeCounters::install(&lab, server.v4(), &[edge]).expect("counters");
    let flow = client.start_udp((server.v4(), 7000).into(), 300, 3_000.0).expect("a flow");
    let seen = || {
        let edges = edges(&collector);
        let seen = between(&edges, &client, &server)?["client_side"]["forward"]["skbs"].as_u64()?;
        (seen > 2_000).then_some(())
    };
    lab::wait_for("the flow is seen", SETTLE, seen).expect("it is");
    agents.remove(0).kill();
    let marked = || {
        let edges = edges(&collector);
        let side = &between(&edges, &client, &server)?["client_side"];
        (side["stale"] == true).then_some(())
    };
    lab::wait_for("the killed agent's side is stale", Duration::from_secs(25), marked).expect("it is");
    let _again = lab.start_agent("n1", &AgentOptions::default()).expect("an agent again");
    let before = arrived.read().expect("counters")[&edge].0.packets;
    let going_on = || (arrived.read().ok()?.get(&edge)?.0.packets > before + 3_000).then_some(());
    lab::wait_for("traffic goes on", SETTLE, going_on).expect("it does");
    flow.stop().expect("it stops");
    let sent = lab.ledger().expect("a ledger").get(&edge).expect("in it").forward.packets;
    assert_eq!(arrived.read().expect("counters")[&edge].0.packets, sent, "traffic was not harmed");
    for node in ["n1", "n3"] {
        assert_accounted(&lab, &collector, node);
    }
}

/// Calls a server until told to stop, over connections that a tick does not see whole; not for ever when the test fails.
fn keep_calling(client: &Pod, server: &Pod, port: u16, stop: &AtomicBool) {
    let to = (server.v4(), port).into();
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) && start.elapsed() < 5 * SETTLE {
        client.tcp(TcpSend { to, connections: 5, send: 300, receive: 2_000 }).expect("transfers");
    }
}

#[test]
fn a_collector_restarted_under_load_learns_everything_again() {
    const PPS: f64 = 2_000.0;
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector");
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let (client, server, far) =
        (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"), lab.pod("p3-0").expect("a server"));
    for port in [7000, 7001] {
        server.serve_udp(port, Reply::Sink).expect("udp");
    }
    for pod in [&server, &far] {
        pod.serve_tcp(7010).expect("tcp");
    }
    // One edge is over before the restart; the others go on before, during and after it.
    client.udp(UdpSend::new((server.v4(), 7001).into(), 500, 100, PPS)).expect("datagrams");
    let flow = client.start_udp((server.v4(), 7000).into(), 300, PPS).expect("a flow");
    let through = udp_edge(&client, &server, 7000);
    let sent = || lab.ledger().expect("a ledger").get(&through).map_or(0, |totals| totals.forward.packets);
    let one_more_second = |what: &str| {
        let before = sent();
        lab::wait_for(what, SETTLE, || (sent() >= before + PPS as u64).then_some(())).expect("it does");
    };
    let stop = AtomicBool::new(false);
    let collector = std::thread::scope(|scope| {
        let calls = [&server, &far].map(|pod| scope.spawn(|| keep_calling(&client, pod, 7010, &stop)));
        let all_there = |collector: &Collector| {
            let all = || (edges(collector).len() == 4).then_some(());
            lab::wait_for("all edges are there", SETTLE, all).expect("they are");
        };
        all_there(&collector);
        collector.kill();
        one_more_second("traffic goes on without a collector");
        let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector again");
        all_there(&collector);
        one_more_second("traffic goes on after the restart");
        stop.store(true, Ordering::Relaxed);
        for call in calls {
            call.join().expect("the calls end");
        }
        collector
    });
    flow.stop().expect("it stops");
    assert_equal(&lab, &collector);
}
