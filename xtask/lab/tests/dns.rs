//! DNS in the shop, as the API shows it: names of the world, latency on sound edges, a failing name on its edge alone.

use std::time::Duration;

use lab::shop::Shop;
use lab::{AgentOptions, Call, Collector, CollectorOptions, Family, Load, Offloads, wait_for};
use serde_json::Value;

const SHOWN_WITHIN: Duration = Duration::from_secs(30);
const MISSING: &str = "missing.shop.example";

fn rows(collector: &Collector, what: &str) -> Vec<Value> {
    let graph = collector.graph("workload").expect("the graph");
    graph[what].as_array().cloned().unwrap_or_default()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The edges on which a name was asked for, with the question.
fn asked(collector: &Collector, name: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for edge in rows(collector, "edges") {
        for question in edge["dns"]["questions"].as_array().into_iter().flatten() {
            if question["name"] == name {
                found.push((edge["id"].as_str().unwrap_or_default().to_owned(), question.clone()));
            }
        }
    }
    found
}

#[test]
fn names_of_the_world_and_a_failing_name_are_seen_where_they_are() {
    if !lab::testing::may_run() {
        return;
    }
    let shop = Shop::build(Offloads::On, 0).expect("the shop is built");
    let collector = shop.lab().start_collector(&CollectorOptions::default()).expect("a collector");
    let _agents = shop.lab().start_agents(&AgentOptions::default()).expect("agents");
    shop.start_traffic().expect("the shop opens");
    // One client asks for a name that nobody has.
    let pods = shop.lab().pods();
    let client = pods.iter().find(|pod| pod.workload() == "blackbox").expect("blackbox");
    let (to, call) = (format!("{MISSING}."), Call::Udp { payload: 1 });
    client.load(Load { to, port: 9, call, per_second: 2.0, swing: 0.0, family: Family::V4 }).expect("it asks");

    let external = shop.lab().external().expect("the external host");
    let named = || {
        let id = format!("external:{}", external.v4());
        let vertex = rows(&collector, "vertices").into_iter().find(|vertex| vertex["id"] == *id)?;
        let mut names = texts(&vertex["dns_names"]);
        let newest = names.first().is_some_and(|name| vertex["name"] == **name);
        names.sort_unstable();
        // The alias that was asked for, not the name that it stands for.
        (newest && names == ["pay.cards.example", "smtp.mail.example"]).then_some(())
    };
    wait_for("the world has its names", SHOWN_WITHIN, named).expect("it does");

    let edge = "workload:monitoring/Deployment/blackbox>workload:kube-system/Deployment/kube-dns:53/udp";
    let failing = || {
        let found = asked(&collector, MISSING);
        let types: Vec<_> = found.iter().filter_map(|(_, question)| question["type"].as_str()).collect();
        let failing = |(id, question): &(String, Value)| {
            id == edge && question["failures"].as_u64() > Some(1) && question["last_rcode"] == "NXDOMAIN"
        };
        // Both families are asked for, on this edge and no other.
        (found.iter().all(failing) && types.contains(&"A") && types.contains(&"AAAA")).then_some(())
    };
    wait_for("the failing name is found", SHOWN_WITHIN, failing)
        .unwrap_or_else(|error| panic!("{error}: {:?}", asked(&collector, MISSING)));

    let sound = rows(&collector, "edges").into_iter().filter(|edge| !edge["dns"].is_null());
    for edge in sound {
        let (dns, id) = (&edge["dns"], &edge["id"]);
        // Answers that are too long for a datagram are asked for again by TCP.
        assert!(id.as_str().is_some_and(|id| id.contains("kube-dns:53/")), "DNS elsewhere: {edge}");
        assert_eq!((&dns["timeouts"], &dns["unparsed"]), (&Value::from(0), &Value::from(0)), "{id}: {dns}");
        assert!(dns["queries"].as_u64() >= dns["answers"].as_u64() && dns["answers"].as_u64() > Some(0), "{id}: {dns}");
        assert!(dns["latency"]["p50_us"].as_f64().is_some_and(|us| us > 0.0 && us < 1e6), "{id}: {dns}");
    }
}
