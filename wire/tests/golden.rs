//! Bytes of each version on disk: they must decode to the same report for ever.

use std::{fs, path::Path};

use prost::Message;
use wire::{
    codec::{decode_report, encode_report},
    v1::{
        ClockOffset, Counters, Device, DeviceCounters, Dns, DnsQuestion, Drop, Edge, FlowDns, FlowEvent, FlowEventKind,
        FlowEvents, FlowRing, Histogram, Hook, Loss, LossCause, Owner, Point, RcodeCount, Report, ResolvedName, Side,
        Sockets, Tier,
    },
};

/// An edge to a name server with all that can be known of one.
fn with_facts(edge: &Edge) -> Edge {
    let drop = Drop { reason: "netfilter_drop".to_owned(), by: "stack".to_owned(), forward: true, segments: 6 };
    Edge {
        server_port: 53,
        protocol: 17,
        point: Point::Cgroup.into(),
        path_changed: true,
        cgroup: 7_123,
        sockets: Some(Sockets {
            attempts: 9,
            established: 4,
            refused: 2,
            timed_out: 1,
            unreachable: 1,
            failed_otherwise: 1,
            retransmitted: 17,
            rtt: Some(Histogram { buckets: vec![0, 0, 1, 4, 2], sum_us: 96 }),
            aborted: 1,
        }),
        owners: vec![Owner {
            process: "coredns".to_owned(),
            cgroup: 7_123,
            container: "9f".repeat(32),
            pod_uid: "0d6c7e0e-6d0f-4c37-9a0b-2f3a1c5d7e11".to_owned(),
        }],
        drops: vec![drop],
        dns: Some(Dns {
            queries: 12,
            answers: 10,
            timeouts: 2,
            rcodes: vec![RcodeCount { rcode: 0, count: 9 }, RcodeCount { rcode: 3, count: 1 }],
            latency: Some(Histogram { buckets: vec![0, 3, 7], sum_us: 41 }),
            questions: vec![DnsQuestion {
                name: "cart.shop.svc.cluster.local".to_owned(),
                r#type: 28,
                queries: 3,
                failures: 1,
                last_rcode: 65_535,
                last_unix_ns: 1_795_233_001_250_000_000,
            }],
            unparsed: 1,
        }),
        ..edge.clone()
    }
}

fn underlay(edge: &Edge) -> Edge {
    Edge { server_port: 8_472, protocol: 17, tunnel: "vxlan".to_owned(), point: Point::Uplink.into(), ..edge.clone() }
}

fn sample(version: u32) -> Report {
    let counters = |n| Some(Counters { skbs: n, segments: n + 1, l3_bytes: n * 100, payload_bytes: n * 72 });
    let way = |n| {
        Some(DeviceCounters {
            seen_skbs: n,
            seen_bytes: n * 114,
            attach_gap_skbs: 2,
            attach_gap_bytes: 180,
            carried_skbs: n + 2,
            carried_bytes: n * 114 + 180,
            link_control_skbs: 3,
            malformed_skbs: 1,
            ..DeviceCounters::default()
        })
    };
    let edge = Edge {
        client: vec![10, 1, 0, 2],
        server: vec![10, 2, 0, 3],
        server_port: 8443,
        protocol: 6,
        side: Side::Client.into(),
        device: 4,
        incarnation: 6,
        r#final: true,
        guessed: false,
        own: false,
        forward: counters(40),
        reverse: counters(38),
        opened: 3,
        established: 2,
        closed: 2,
        resets: 1,
        icmp_errors: 1,
        first_seen_unix_ns: 1_795_233_000_000_000_000,
        forward_last_unix_ns: 1_795_233_001_000_000_000,
        reverse_last_unix_ns: 1_795_233_001_500_000_000,
        ..Edge::default()
    };
    let v6 = Edge {
        client: [0xfd; 16].to_vec(),
        server: [0xfe; 16].to_vec(),
        side: Side::Server.into(),
        guessed: true,
        protocol: 17,
        r#final: false,
        ..edge.clone()
    };
    Report {
        version,
        node: "n1".to_owned(),
        epoch: 1_795_233_000_000_000_000,
        seq: 9,
        acked_seq: 7,
        collector_run: 0x0123_4567_89ab_cdef,
        full: true,
        sent_unix_ns: 1_795_233_002_000_000_000,
        sampled_unix_ns: 1_795_233_001_990_000_000,
        complete: true,
        next_tick_ms: 200,
        clock: Some(ClockOffset { offset_ns: -3_500_000, error_ns: 400_000 }),
        edges: vec![underlay(&edge), with_facts(&edge), edge, v6],
        devices: vec![Device {
            name: "veth1".to_owned(),
            ifindex: 12,
            incarnation: 4,
            tier: Tier::Tcx.into(),
            blind_spot: String::new(),
            ingress: way(40),
            egress: way(38),
            covered_since_unix_ns: 1_795_233_000_100_000_000,
            gone: false,
            unsettled: false,
            point: Point::Tunnel.into(),
            tunnel: "vxlan".to_owned(),
            reattached: 2,
            bypassed: true,
        }],
        losses: vec![Loss { cause: LossCause::RingFull.into(), count: 17 }],
        other: counters(5),
        refused_hooks: vec!["tcx on veth9: EBUSY".to_owned()],
        agent_version: "0.1.0".to_owned(),
        hooks: vec![Hook {
            fact: "retransmit".to_owned(),
            form: "tracepoint".to_owned(),
            refused: "tp_btf: EPERM".to_owned(),
        }],
        drops: vec![Drop { reason: "no_socket".to_owned(), by: "tc".to_owned(), forward: false, segments: 3 }],
        names: vec![ResolvedName {
            client: vec![10, 1, 0, 2],
            address: vec![192, 0, 2, 10],
            name: "api.example.com".to_owned(),
            ttl_s: 300,
            unix_ns: 1_795_233_001_250_000_000,
        }],
        flow_ring: Some(FlowRing { held: 4_095, seen: 70_000 }),
        flow_events: vec![events()],
        edge_columns: None,
    }
}

/// An answer and a drop, with all that an event can have.
fn events() -> FlowEvents {
    let answer = FlowEvent {
        number: 69_998,
        unix_ns: 1_795_233_001_250_000_000,
        kind: FlowEventKind::DnsAnswer.into(),
        source: vec![10, 2, 0, 3],
        destination: vec![10, 1, 0, 2],
        source_port: 53,
        destination_port: 40_000,
        protocol: 17,
        reply: true,
        guessed: true,
        side: Side::Client.into(),
        point: Point::Pod.into(),
        ifindex: 12,
        device: "veth1".to_owned(),
        dns: Some(FlowDns {
            name: "api.example.com".to_owned(),
            r#type: 1,
            rcode: 3,
            latency_us: 812,
            addresses: vec![vec![192, 0, 2, 10]],
            ttl_s: 300,
        }),
        ..FlowEvent::default()
    };
    let drop = FlowEvent {
        number: 69_999,
        kind: FlowEventKind::Drop.into(),
        protocol: 6,
        tcp_flags: 0x12,
        segments: 3,
        l3_bytes: 180,
        flow_segments: 40,
        flow_bytes: 4_000,
        reason: "netfilter_drop".to_owned(),
        by: "stack".to_owned(),
        dns: None,
        rtt_us: 120,
        retransmitted: 2,
        ..answer.clone()
    };
    FlowEvents { ask: 7, events: vec![answer, drop], caught_up: true, lost: 11 }
}

/// Edges stand in no order that means anything.
fn sorted(mut report: Report) -> Report {
    report.edges.sort_by_key(Message::encode_to_vec);
    report
}

fn decodes_for_ever(name: &str, version: u32, encode: impl FnOnce(&Report) -> Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, encode(&sample(version))).expect("write the golden file");
    }
    let bytes = fs::read(&path).expect("read the golden file; UPDATE_GOLDEN=1 writes it");
    assert_eq!(sorted(decode_report(&bytes).expect("decode the golden file")), sorted(sample(version)));
}

/// Edges one behind the other, as the first agents wrote them.
#[test]
fn version_1_decodes_for_ever() {
    let encode = |report: &Report| zstd::bulk::compress(&report.encode_to_vec(), 1).expect("compress");
    decodes_for_ever("report-v1.bin", 1, encode);
}

#[test]
fn version_2_decodes_for_ever() {
    decodes_for_ever("report-v2.bin", 2, |report| encode_report(report).expect("encode"));
}
