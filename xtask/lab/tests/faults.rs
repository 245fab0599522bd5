//! What is wrong in the shop, as the API tells it: each fault on its edge with its cause, and on no other edge.
//! `ORRERY_TEST_SEED` puts the faults elsewhere.

use std::time::{Duration, Instant};

use lab::shop::{Fault, Faults, Shop};
use lab::{AgentOptions, Collector, CollectorOptions, Offloads, wait_for};
use serde_json::Value;

const SHOWN_WITHIN: Duration = Duration::from_secs(40);
/// How long the other edges are looked at once all is found.
const LOOKED_AT: Duration = Duration::from_secs(6);
/// Names below it are asked for on the way through a pod's search domains.
const SEARCHED: &str = ".cluster.local";

fn rows(collector: &Collector, what: &str) -> Vec<Value> {
    let graph = collector.graph("pod").expect("the graph");
    graph[what].as_array().cloned().unwrap_or_default()
}

/// A number, 0 where there is none.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The ids that the faults' edges have.
struct Ids {
    dropping: String,
    refused: String,
    silent: String,
    nameless: String,
    host: String,
    host_dns: String,
}

impl Ids {
    fn new(shop: &Shop) -> Self {
        let pod = |name: &str| {
            let pods = shop.lab().pods();
            let found = pods.iter().find(|pod| pod.name() == name);
            format!("pod:{}/{name}", found.map_or("monitoring", |pod| pod.namespace()))
        };
        let dns = shop.lab().pods().iter().find(|pod| pod.workload() == "kube-dns").map(|dns| pod(dns.name()));
        let dns = dns.expect("a name server");
        let Fault { client, server, edge, .. } = shop.fault();
        let Faults { refused, silent, nameless, host } = shop.faults();
        Self {
            dropping: format!("{}>{}:{}/udp", pod(&client), pod(&server), edge.port),
            refused: format!("{}>{}:{}/tcp", pod(&refused.client), pod(&refused.to), refused.port),
            silent: format!("{}>external:{}:{}/tcp", pod(&silent.client), silent.to, silent.port),
            nameless: format!("{}>{dns}:53/udp", pod(&nameless.client)),
            host_dns: format!("{}>{dns}:53/udp", pod(&host.client)),
            host: format!("{}>{}:{}/tcp", pod(&host.client), pod(&host.to), host.port),
        }
    }
}

/// What is not yet told of the faults.
fn missing(edges: &[Value], ids: &Ids, shop: &Shop) -> Vec<String> {
    let null = Value::Null;
    let edge = |id: &str| edges.iter().find(|edge| edge["id"] == id).unwrap_or(&null);
    let client = |id: &str| &edge(id)["client_side"];
    let mut missing = Vec::new();
    let mut want = |what: &str, there: bool, id: &str| {
        if !there {
            missing.push(format!("{what}: {id}: {}", edge(id)));
        }
    };
    let id = &ids.dropping;
    let dropped = |drop: &Value| drop["reason"] == "netfilter_drop" && drop["by"] == "stack" && drop["forward"] == true;
    want("drops with their reason", list(&edge(id)["drops"]).any(dropped), id);
    want("loss", number(&edge(id)["loss"]["forward_lost"]) > 0, id);
    let id = &ids.refused;
    let sockets = &client(id)["sockets"];
    want("refused", number(&sockets["refused"]) > 2 && sockets["refused"] == sockets["attempts"], id);
    let id = &ids.silent;
    let sockets = &client(id)["sockets"];
    want("timed out", number(&sockets["timed_out"]) > 1 && number(&sockets["retransmitted"]) > 1, id);
    let id = &ids.nameless;
    let name = &shop.faults().nameless.to;
    for rr_type in ["A", "AAAA"] {
        let asked = |question: &&Value| question["name"] == **name && question["type"] == rr_type;
        let failed = |question: &Value| number(&question["failures"]) > 1 && question["last_rcode"] == "NXDOMAIN";
        want("no such name", list(&edge(id)["dns"]["questions"]).find(asked).is_some_and(failed), id);
    }
    let id = &ids.host;
    let side = client(id);
    want("packets where they leave the node", list(&side["points"]).any(|point| point == "uplink"), id);
    want("round trips", number(&side["sockets"]["rtt"]["count"]) > 0, id);
    want("both sides of a shared address", edge(id)["loss"]["status"] == "measured", id);
    let owner = &side["owners"][0];
    let container = shop.host().cgroup().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let whose = owner["process"] == "orrery-lab"
        && owner["pod"] == format!("monitoring/{}", shop.host().name())
        && owner["container"].as_str().is_some_and(|id| id.len() == 64 && container.contains(id));
    want("process and container", whose && side["owners"][1].is_null(), id);
    // Of UDP no socket tells anything: packets alone tell whose it is.
    let id = &ids.host_dns;
    let (side, dns) = (client(id), &edge(id)["dns"]);
    let whose = side["owners"][0]["pod"] == format!("monitoring/{}", shop.host().name());
    want("whose UDP", whose && edge(id)["loss"]["status"] == "measured", id);
    want("every message from the first on", number(&dns["queries"]) > 0 && dns["queries"] == dns["answers"], id);
    missing
}

/// What is told where all is well.
fn astray(edges: &[Value], ids: &Ids, shop: &Shop) -> Vec<String> {
    let mut astray = Vec::new();
    for edge in edges.iter().filter(|edge| edge["tunnel"].is_null()) {
        let id = edge["id"].as_str().unwrap_or_default();
        let mut never = |what: &str, there: bool, fault: &str| {
            if there && id != fault {
                astray.push(format!("{what}: {edge}"));
            }
        };
        for side in ["client_side", "server_side"] {
            let sockets = &edge[side]["sockets"];
            never("refused", number(&sockets["refused"]) > 0, &ids.refused);
            never("timed out", number(&sockets["timed_out"]) > 0, &ids.silent);
            never("unreachable", number(&sockets["unreachable"]) > 0, "");
            never("failed otherwise", number(&sockets["failed_otherwise"]) > 0, "");
            let host = format!("monitoring/{}", shop.host().name());
            let client = format!("pod:{host}>");
            let owned = list(&edge[side]["owners"]).any(|owner| owner["pod"] == host);
            never("the host-network client", owned && !id.starts_with(&client), "");
        }
        let lost = number(&edge["loss"]["forward_lost"]) + number(&edge["loss"]["reverse_lost"]);
        never("loss", lost > 0, &ids.dropping);
        for drop in list(&edge["drops"]) {
            // The kernel drops the SYN that it answers with a reset.
            let fault = if drop["reason"] == "no_socket" { &ids.refused } else { &ids.dropping };
            never("drops", true, fault);
        }
        for question in list(&edge["dns"]["questions"]) {
            let searched = question["name"].as_str().is_some_and(|name| name.ends_with(SEARCHED));
            never("a name that is not there", number(&question["failures"]) > 0 && !searched, &ids.nameless);
        }
    }
    astray
}

/// What every sound edge of its kind has.
fn assert_sound(edges: &[Value]) {
    let mut timed = 0;
    for edge in edges.iter().filter(|edge| !edge["dns"].is_null()) {
        let (dns, id) = (&edge["dns"], &edge["id"]);
        // Answers that are too long for a datagram are asked for again by TCP.
        assert!(id.as_str().is_some_and(|id| id.contains("pod:kube-system/kube-dns-")), "DNS elsewhere: {edge}");
        assert_eq!((&dns["timeouts"], &dns["unparsed"]), (&Value::from(0), &Value::from(0)), "{id}: {dns}");
        assert!(number(&dns["queries"]) >= number(&dns["answers"]) && number(&dns["answers"]) > 0, "{id}: {dns}");
        assert!(dns["latency"]["p50_us"].as_f64().is_some_and(|us| us > 0.0 && us < 1e6), "{id}: {dns}");
    }
    for edge in edges {
        let sockets = &edge["client_side"]["sockets"];
        if number(&sockets["established"]) > 0 {
            let rtt = &sockets["rtt"];
            assert!(rtt["p50_us"].as_f64().is_some_and(|us| us > 0.0 && us < 1e6), "{}: {sockets}", edge["id"]);
            timed += 1;
        }
    }
    assert!(timed > 15, "round trips on {timed} edges");
}

#[test]
fn each_fault_is_on_its_edge_and_nowhere_else() {
    if !lab::testing::may_run() {
        return;
    }
    let seed = std::env::var("ORRERY_TEST_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let shop = Shop::build(Offloads::On, seed).expect("the shop is built");
    let collector = shop.lab().start_collector(&CollectorOptions::default()).expect("a collector");
    let _agents = shop.lab().start_agents(&AgentOptions::default()).expect("agents");
    let start = Instant::now();
    shop.start_traffic().expect("the shop opens");
    let ids = Ids::new(&shop);
    if shop.host().cgroup().is_none() {
        println!("skipped: this machine has no cgroup v2 hierarchy");
        return;
    }

    let edges = || rows(&collector, "edges");
    let found = || {
        let edges = edges();
        assert_eq!(astray(&edges, &ids, &shop), Vec::<String>::new(), "after {:?}", start.elapsed());
        missing(&edges, &ids, &shop).is_empty().then_some(())
    };
    wait_for("every fault is found", SHOWN_WITHIN, found)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", missing(&edges(), &ids, &shop)));
    println!("all is found after {:?}", start.elapsed());
    let external = shop.lab().external().expect("the external host");
    let named = || {
        let id = format!("external:{}", external.v4());
        let vertex = rows(&collector, "vertices").into_iter().find(|vertex| vertex["id"] == *id)?;
        let mut names: Vec<&str> = list(&vertex["dns_names"]).filter_map(Value::as_str).collect();
        let newest = names.first().is_some_and(|name| vertex["name"] == **name);
        names.sort_unstable();
        // The alias that was asked for, not the name that it stands for.
        (newest && names == ["pay.cards.example", "smtp.mail.example"]).then_some(())
    };
    wait_for("the world has its names", SHOWN_WITHIN, named).expect("it does");
    let found = Instant::now();
    while found.elapsed() < LOOKED_AT {
        let edges = edges();
        assert_eq!(astray(&edges, &ids, &shop), Vec::<String>::new(), "after {:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(500));
    }
    let edges = edges();
    assert_eq!(missing(&edges, &ids, &shop), Vec::<String>::new());
    assert_sound(&edges);
}
