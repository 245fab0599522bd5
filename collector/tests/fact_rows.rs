//! What is known beside packets as browsers get it: host-network pods, tunnels, drops, DNS, hooks, and why there is no loss.

use collector::{
    graph::Identity,
    merge::{Bounds, Merge},
    names::{Names, file},
    project::{Projection, device_rows, node_rows},
    time::{Ns, SECOND},
    view::{EdgeRow, LossStatus, NamesRow, Snapshot, View},
};
use wire::v1::{
    ClockOffset, Counters, Device, Dns, DnsQuestion, Drop, Edge, Hook, Owner, Point, RcodeCount, Report, Sockets, Tier,
};

const START: Ns = 1_795_000_000 * SECOND;
const LIST: &str = r#"{"items":[
    {"kind":"Node","metadata":{"name":"n1"},"status":{"addresses":[{"address":"10.9.0.1"}]}},
    {"kind":"Node","metadata":{"name":"n2"},"status":{"addresses":[{"address":"10.9.0.2"}]}},
    {"kind":"Pod","metadata":{"name":"proxy","namespace":"sys","uid":"u1"},
     "spec":{"nodeName":"n1","hostNetwork":true},"status":{"podIP":"10.9.0.1"}},
    {"kind":"Pod","metadata":{"name":"probe","namespace":"sys","uid":"u2"},
     "spec":{"nodeName":"n1","hostNetwork":true},"status":{"podIP":"10.9.0.1"}},
    {"kind":"Pod","metadata":{"name":"web","namespace":"shop","uid":"u3"},
     "spec":{"nodeName":"n2"},"status":{"podIP":"10.0.2.1"}}]}"#;

/// Reports of two nodes, and what they make.
struct World {
    merge: Merge,
    names: Names,
    now: Ns,
    seq: u64,
}

impl World {
    fn new() -> Self {
        let mut names = Names::default();
        names.read(file::parse(LIST.as_bytes()).expect("a list"), START);
        Self { merge: Merge::new(Bounds::default(), START), names, now: START, seq: 0 }
    }

    fn report(&mut self, node: &str, edges: Vec<Edge>, change: impl FnOnce(&mut Report)) {
        self.seq += 1;
        self.now += SECOND;
        let mut report = Report {
            version: wire::VERSION,
            node: node.to_owned(),
            epoch: 1,
            seq: self.seq,
            complete: true,
            sent_unix_ns: self.now.unsigned_abs(),
            sampled_unix_ns: self.now.unsigned_abs(),
            clock: Some(ClockOffset { offset_ns: 0, error_ns: 0 }),
            next_tick_ms: 200,
            edges,
            ..Report::default()
        };
        change(&mut report);
        self.merge.accept(&report, self.now);
        self.merge.refresh(self.now);
        self.merge.evaluate_changed(self.now);
    }

    fn snapshot(&self, view: View) -> Snapshot {
        let row = NamesRow { source: "file".into(), state: "fresh".into(), error: None, read_ms: None, ambiguous: 0 };
        let identity = Identity { run: "1".into(), cluster: "test".into(), since_ms: 0 };
        let mut projection = Projection::new(view, 0, &self.merge, &self.names, &row);
        projection.set_nodes(&node_rows(&self.merge, &self.names, self.now));
        projection.step(&self.merge, &self.names, &row, &identity, self.now);
        projection.snapshot(&identity, self.now)
    }

    fn edge(&self, view: View, id: &str) -> EdgeRow {
        let edges = self.snapshot(view).edges;
        let found = edges.iter().find(|edge| &*edge.id == id).cloned();
        let found = found.map(|edge| EdgeRow::clone(&edge));
        found.unwrap_or_else(|| panic!("no {id} in {:?}", edges.iter().map(|edge| &edge.id).collect::<Vec<_>>()))
    }
}

/// From the first node's address to the pod on the second.
fn edge(side: i32, change: impl FnOnce(&mut Edge)) -> Edge {
    let mut edge = Edge {
        client: vec![10, 9, 0, 1],
        server: vec![10, 0, 2, 1],
        server_port: 53,
        protocol: 17,
        side,
        device: 1,
        incarnation: 1,
        point: Point::Pod.into(),
        forward: Some(Counters { skbs: 4, segments: 4, l3_bytes: 240, payload_bytes: 0 }),
        first_seen_unix_ns: START.unsigned_abs(),
        forward_last_unix_ns: START.unsigned_abs(),
        ..Edge::default()
    };
    change(&mut edge);
    edge
}

fn owned(cgroup: u64, process: &str, pod_uid: &str) -> Edge {
    edge(1, |edge| {
        edge.cgroup = cgroup;
        let (container, pod_uid) = (format!("c{cgroup}"), pod_uid.to_owned());
        edge.owners = vec![Owner { process: process.to_owned(), cgroup, container, pod_uid }];
        edge.sockets = Some(Sockets { attempts: cgroup, refused: 1, ..Sockets::default() });
    })
}

#[test]
fn a_host_network_pods_edges_are_its_own_and_its_server_knows_it_where_it_is_alone() {
    let mut world = World::new();
    world.report("n1", vec![owned(7, "kube-proxy", "u1")], |_| {});
    world.report("n2", vec![edge(2, |_| {})], |_| {});
    let proxy = world.edge(View::Pod, "pod:sys/proxy>pod:shop/web:53/udp");
    assert!(proxy.server_side.is_some(), "nobody else has this edge");
    let client = proxy.client_side.expect("the client's side");
    assert_eq!(client.owners[0].pod.as_deref(), Some("sys/proxy"));
    assert_eq!((&*client.owners[0].process, &*client.owners[0].container), ("kube-proxy", "c7"));
    assert_eq!(client.sockets.map(|sockets| (sockets.attempts, sockets.refused)), Some((7, 1)));
    assert_eq!(world.snapshot(View::Pod).edges.len(), 1);
}

#[test]
fn two_pods_of_one_address_are_told_apart_where_that_can_be_known() {
    let mut world = World::new();
    world.report("n1", vec![owned(7, "kube-proxy", "u1"), owned(9, "probe", "u2")], |_| {});
    world.report("n2", vec![edge(2, |_| {})], |_| {});
    for (pod, attempts) in [("proxy", 7), ("probe", 9)] {
        let own = world.edge(View::Pod, &format!("pod:sys/{pod}>pod:shop/web:53/udp"));
        assert_eq!(own.client_side.and_then(|side| side.sockets).map(|sockets| sockets.attempts), Some(attempts));
        assert!(own.server_side.is_none());
        assert_eq!(own.loss.status, LossStatus::OneSided);
        assert_eq!(own.loss.why.as_deref(), Some("the other side cannot tell the node's pods apart"));
    }
    let far = world.edge(View::Pod, "node:n1>pod:shop/web:53/udp");
    assert!(far.client_side.is_none() && far.server_side.is_some(), "the server's node sees an address");
    let nodes = world.edge(View::Node, "node:n1>node:n2:53/udp");
    let sockets = nodes.client_side.and_then(|side| side.sockets).expect("sockets");
    assert_eq!(sockets.attempts, 16, "of one node they are one, added up");
    assert_eq!(world.snapshot(View::Node).edges.len(), 1);
}

#[test]
fn an_owner_that_becomes_known_later_moves_its_edge() {
    let mut world = World::new();
    world.report("n1", vec![owned(7, "kube-proxy", "")], |_| {});
    world.edge(View::Pod, "node:n1>pod:shop/web:53/udp");
    world.report("n1", vec![owned(7, "kube-proxy", "u1")], |_| {});
    let client = world.edge(View::Pod, "pod:sys/proxy>pod:shop/web:53/udp").client_side.expect("the client's side");
    assert_eq!(client.owners.len(), 1, "the same owner, better known");
}

#[test]
fn underlay_is_a_layer_of_its_own() {
    let mut world = World::new();
    let tunnel = |side| edge(side, |edge| (edge.tunnel, edge.point) = ("vxlan".into(), Point::Uplink.into()));
    world.report("n1", vec![tunnel(1), edge(1, |_| {})], |_| {});
    world.report("n2", vec![tunnel(2)], |_| {});
    let underlay = world.edge(View::Node, "node:n1>node:n2:53/udp/vxlan");
    assert_eq!(underlay.tunnel.as_deref(), Some("vxlan"));
    assert!(underlay.server_side.is_some());
    assert_eq!(underlay.client_side.map(|side| side.points), Some(vec!["uplink".to_owned()]));
    let plain = world.edge(View::Node, "node:n1>node:n2:53/udp");
    assert_eq!((plain.tunnel, plain.server_side), (None, None));
    assert_eq!(plain.client_side.map(|side| side.forward.skbs), Some(4), "never added to what it carries");
}

#[test]
fn drops_of_all_rows_add_up_and_dns_of_both_sides_does_not() {
    let mut world = World::new();
    let told = |side| {
        edge(side, |edge| {
            let drop = |reason: &str, by: &str, segments| Drop {
                reason: reason.to_owned(),
                by: by.to_owned(),
                forward: true,
                segments,
            };
            edge.drops = vec![drop("netfilter_drop", "stack", 6), drop("tc_ingress", "tc", 2)];
            let question = DnsQuestion {
                name: "web.shop".to_owned(),
                r#type: 28,
                queries: 3,
                failures: 1,
                last_rcode: 65_535,
                last_unix_ns: START.unsigned_abs(),
            };
            let rcodes = vec![RcodeCount { rcode: 3, count: 2 }];
            edge.dns = Some(Dns { queries: 3, timeouts: 1, rcodes, questions: vec![question], ..Dns::default() });
        })
    };
    world.report("n1", vec![told(1), told(2)], |_| {});
    world.report("n2", vec![told(2)], |_| {});
    let both = world.edge(View::Pod, "node:n1>pod:shop/web:53/udp");
    let drops: Vec<_> = both.drops.iter().map(|drop| (&*drop.reason, drop.segments, drop.nodes.len())).collect();
    assert_eq!(drops, [("netfilter_drop", 18, 2), ("tc_ingress", 6, 2)], "each was told once");
    let dns = both.dns.expect("DNS");
    assert_eq!((dns.queries, dns.timeouts), (3, 1));
    assert_eq!((&*dns.rcodes[0].rcode, dns.rcodes[0].count), ("NXDOMAIN", 2));
    assert_eq!((&*dns.questions[0].r#type, &*dns.questions[0].last_rcode), ("AAAA", "none"));
    assert_eq!(dns.latency.p50_us, None, "not known is not 0");
}

#[test]
fn loss_is_not_claimed_where_packets_are_not_seen_or_took_another_way() {
    let mut world = World::new();
    let socket = || edge(1, |edge| edge.point = Point::Socket.into());
    let play = |world: &mut World, client: &dyn Fn() -> Edge| {
        for _ in 0..3 {
            world.report("n1", vec![client()], |_| {});
            world.report("n2", vec![edge(2, |_| {})], |_| {});
        }
        world.edge(View::Pod, "node:n1>pod:shop/web:53/udp").loss
    };
    let loss = play(&mut world, &socket);
    assert_eq!((loss.status, loss.forward_lost), (LossStatus::OneSided, None));
    let why = "no packets are seen there: the client's node n1 knows this edge from sockets only";
    assert_eq!(loss.why.as_deref(), Some(why));
    // Packets are seen from now on: the way changed, and for a while nothing can be compared.
    let loss = play(&mut world, &|| edge(1, |_| {}));
    assert_eq!(loss.status, LossStatus::Settling);
    assert_eq!(loss.why.as_deref(), Some("the packets took another way past node n1 a moment ago"));
    let row = world.edge(View::Pod, "node:n1>pod:shop/web:53/udp").client_side.expect("the client's side");
    assert_eq!(row.points, ["pod", "socket"]);
    for _ in 0..10 {
        play(&mut world, &|| edge(1, |edge| edge.forward = Some(Counters { segments: 9, ..Counters::default() })));
    }
    let loss = world.edge(View::Pod, "node:n1>pod:shop/web:53/udp").loss;
    assert_ne!(loss.why.as_deref(), Some("the packets took another way past node n1 a moment ago"), "it settles");
}

#[test]
fn a_missing_side_names_its_nodes_tier_or_blind_spot() {
    let device = |name: &str, tier: Tier, blind_spot: &str| Device {
        name: name.to_owned(),
        incarnation: 1,
        tier: tier.into(),
        blind_spot: blind_spot.to_owned(),
        ..Device::default()
    };
    let mut world = World::new();
    let loss = |world: &mut World, devices: Vec<Device>| {
        world.report("n2", vec![], |report| report.devices = devices);
        world.report("n1", vec![edge(1, |_| {})], |_| {});
        world.edge(View::Pod, "node:n1>pod:shop/web:53/udp").loss.why
    };
    let why = loss(&mut world, vec![device("lxc1", Tier::Tcx, "")]);
    assert_eq!(why.as_deref(), Some("server side not reported yet by node n2 (watched by tcx)"));
    let why = loss(&mut world, vec![device("lxc1", Tier::Tcx, ""), device("eth0", Tier::Unwatched, "EBUSY")]);
    assert_eq!(why.as_deref(), Some("server side not reported yet by node n2 (blind spot: eth0: EBUSY)"));
}

#[test]
fn a_node_tells_tiers_hooks_and_drops_without_an_edge() {
    let mut world = World::new();
    let device = |name: &str, tier: Tier, reattached| Device {
        name: name.to_owned(),
        incarnation: 1,
        tier: tier.into(),
        point: Point::Tunnel.into(),
        tunnel: "geneve".to_owned(),
        reattached,
        ..Device::default()
    };
    let node =
        |world: &World| world.snapshot(View::Pod).nodes.into_iter().find(|node| &*node.name == "n1").expect("n1");
    world.report("n1", vec![], |report| {
        report.devices = vec![device("lxc1", Tier::Clsact, 1), device("lxc2", Tier::Tcx, 2)];
        let refused = "tp_btf: EPERM".to_owned();
        report.hooks = vec![
            Hook { fact: "connect".into(), form: "tp_btf".into(), refused: String::new() },
            Hook { fact: "rtt".into(), form: "none".into(), refused },
        ];
        report.drops = vec![Drop { reason: "no_socket".into(), by: "stack".into(), forward: false, segments: 7 }];
    });
    let row = node(&world);
    assert_eq!((&*row.tier, row.devices, row.reattached), ("mixed", 2, 3));
    let tiers: Vec<_> = row.tiers.iter().map(|tier| (&*tier.tier, tier.devices)).collect();
    assert_eq!(tiers, [("clsact", 1), ("tcx", 1)]);
    let refused: Vec<_> = row.hooks.iter().map(|hook| hook.refused.as_deref()).collect();
    assert_eq!(refused, [None, Some("tp_btf: EPERM")]);
    assert_eq!((&*row.drops[0].reason, row.drops[0].segments), ("no_socket", 7));
    let devices = device_rows(&world.merge);
    assert_eq!((devices[0].point.as_deref(), devices[0].tunnel.as_deref()), (Some("tunnel"), Some("geneve")));
    assert_eq!(devices[0].tier, "clsact");
    world.report("n1", vec![], |report| report.devices = vec![device("lxc2", Tier::Unwatched, 2)]);
    assert_eq!(node(&world).tier, "partial");
    world.report("n1", vec![], |report| {
        let less = Device { blind_spot: "no ICMP".to_owned(), ..device("cgroup", Tier::CgroupSkb, 0) };
        report.devices = vec![less, device("lxc2", Tier::Unwatched, 2)];
    });
    let spots: Vec<_> = node(&world).blind_spots.clone().into_iter().map(|spot| (spot.device, spot.reason)).collect();
    let spots: Vec<_> = spots.iter().map(|(device, reason)| (&**device, &**reason)).collect();
    assert_eq!(spots, [("lxc2", ""), ("cgroup", "no ICMP")], "what is not seen at all comes first");
}
