//! Limits and bad input: whatever the bytes, a clear error and no panic.

use proptest::prelude::{any, prop, proptest};
use prost::Message as _;
use wire::{
    codec::{DecodeError, MAX_BODY_BYTES, MAX_DECODED_BYTES, decode_ack, decode_report, encode_ack, encode_report},
    limits::MAX_DEVICES,
    v1::{Ack, Device, Edge, Loss, Report, Side},
};

fn valid() -> Report {
    let edge = Edge {
        client: vec![10, 0, 0, 1],
        server: vec![10, 0, 0, 2],
        server_port: 80,
        protocol: 6,
        side: Side::Client.into(),
        incarnation: 1,
        ..Edge::default()
    };
    Report { version: wire::VERSION, node: "n".into(), epoch: 1, seq: 1, edges: vec![edge], ..Report::default() }
}

fn label_of(change: impl FnOnce(&mut Report)) -> &'static str {
    let mut report = valid();
    change(&mut report);
    decode_report(&encode_report(&report).expect("encode")).map_or_else(|error| error.label(), |_| "ok")
}

#[test]
fn each_field_that_must_hold_is_checked() {
    assert_eq!(label_of(|_| {}), "ok");
    assert_eq!(label_of(|report| report.version = 3), "version");
    assert_eq!(label_of(|report| report.version = 1), "invalid", "columns came with version 2");
    assert_eq!(label_of(|report| report.version = 0), "version");
    assert_eq!(label_of(|report| report.node.clear()), "invalid");
    assert_eq!(label_of(|report| report.node = "x".repeat(254)), "invalid");
    assert_eq!(label_of(|report| report.seq = 0), "invalid");
    assert_eq!(label_of(|report| report.acked_seq = 1), "invalid");
    assert_eq!(label_of(|report| report.edges[0].client = vec![1, 2, 3]), "invalid");
    assert_eq!(label_of(|report| report.edges[0].server = vec![0; 16]), "invalid");
    assert_eq!(label_of(|report| report.edges[0].server_port = 65_536), "invalid");
    assert_eq!(label_of(|report| report.edges[0].protocol = 256), "invalid");
    assert_eq!(label_of(|report| report.edges[0].side = 3), "invalid");
    assert_eq!(label_of(|report| report.edges[0].incarnation = 2), "invalid");
    assert_eq!(label_of(|report| report.edges = vec![report.edges[0].clone(); 65_537]), "invalid");
}

#[test]
fn each_part_is_bounded() {
    let losses = |count: i32| (0..count).map(|cause| Loss { cause, count: 1 }).collect();
    assert_eq!(label_of(|report| report.losses = losses(64)), "ok", "causes of a later version");
    assert_eq!(label_of(|report| report.losses = losses(65)), "invalid");
    assert_eq!(label_of(|report| report.devices = vec![Device::default(); MAX_DEVICES]), "ok");
    assert_eq!(label_of(|report| report.devices = vec![Device::default(); MAX_DEVICES + 1]), "invalid");
    assert_eq!(label_of(|report| report.refused_hooks = vec![String::new(); 64]), "ok");
    assert_eq!(label_of(|report| report.refused_hooks = vec![String::new(); 65]), "invalid");
    let (longest, longer) = ("x".repeat(1_024), "x".repeat(1_025));
    assert_eq!(label_of(|report| report.agent_version.clone_from(&longest)), "ok");
    assert_eq!(label_of(|report| report.agent_version.clone_from(&longer)), "invalid");
    assert_eq!(label_of(|report| report.refused_hooks.push(longer.clone())), "invalid");
    let device = |name: &str, why: &str| Device { name: name.into(), blind_spot: why.into(), ..Device::default() };
    assert_eq!(label_of(|report| report.devices.push(device(&longest, &longest))), "ok");
    assert_eq!(label_of(|report| report.devices.push(device(&longer, ""))), "invalid");
    assert_eq!(label_of(|report| report.devices.push(device("", &longer))), "invalid");
}

/// Sixteen million empty edges in 32 MiB would be gigabytes once made: they are counted first.
#[test]
fn small_parts_in_large_numbers_are_refused_unmade() {
    let empty_edges = [13 << 3 | 2, 0].repeat(MAX_DECODED_BYTES / 2);
    let body = zstd::bulk::compress(&empty_edges, 3).expect("compress");
    let error = decode_report(&body).expect_err("refused");
    assert_eq!(error.to_string(), "report invalid: more than 65,536 edges");
}

#[test]
fn a_frame_that_wants_a_large_window_is_refused() {
    use std::io::Write as _;
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("encoder");
    encoder.window_log(26).expect("window");
    encoder.write_all(&valid().encode_to_vec()).expect("write");
    let body = encoder.finish().expect("finish");
    assert!(matches!(decode_report(&body), Err(DecodeError::Zstd(_))));
}

#[test]
fn a_body_over_the_limit_is_refused_unread_and_a_bomb_unpacked_only_to_the_limit() {
    let large = vec![0; MAX_BODY_BYTES + 1];
    assert!(matches!(decode_report(&large), Err(DecodeError::BodyTooLarge { .. })));
    let bomb = zstd::bulk::compress(&vec![0; MAX_DECODED_BYTES * 8], 3).expect("compress");
    assert!(bomb.len() < 64 * 1024);
    assert!(matches!(decode_report(&bomb), Err(DecodeError::DecodedTooLarge)));
}

#[test]
fn cut_short_anywhere_is_an_error() {
    let bytes = encode_report(&valid()).expect("encode");
    for length in 0..bytes.len() {
        assert!(decode_report(&bytes[..length]).is_err(), "{length} bytes");
    }
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = decode_report(&bytes);
        let _ = decode_ack(&bytes);
        let packed = zstd::bulk::compress(&bytes, 1).expect("compress");
        let _ = decode_report(&packed);
    }

    #[test]
    fn bent_reports_never_panic(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = valid().encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = decode_report(&zstd::bulk::compress(&bytes, 1).expect("compress"));
    }

    #[test]
    fn acknowledgements_survive_the_trip(run in any::<u64>(), seq in any::<u64>(), resync in any::<bool>()) {
        let ack = Ack { collector_run: run, seq, resync, server_unix_ns: 5, flow_events: None };
        assert_eq!(decode_ack(&encode_ack(&ack)).expect("decode"), ack);
    }
}
