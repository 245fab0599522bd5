//! Which devices face a pod, and the account of what each carried.

use agent::devices::{Carried, Devices, GONE_FOR_NS, Link, NodeFacts, pod_facing};
use agent_ebpf::abi::{DirectionTotals, LinkType};
use globset::{Glob, GlobSet};
use wire::v1::{DeviceCounters, Tier};

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.to_owned(),
        link_type: Some(LinkType::Ethernet),
        peer_elsewhere: true,
        carried: [Carried::default(); 2],
    }
}

fn seen(skbs: u64) -> [DirectionTotals; 2] {
    [DirectionTotals { skbs, bytes: skbs * 100, ..DirectionTotals::default() }; 2]
}

fn carried(skbs: u64) -> [Carried; 2] {
    [Carried { skbs, bytes: skbs * 100 }; 2]
}

fn ingress(devices: &Devices) -> DeviceCounters {
    devices.report()[0].ingress.expect("both ways are always told")
}

#[test]
fn a_peer_in_another_namespace_faces_a_pod_unless_it_is_an_uplink() {
    let facts = NodeFacts { uplinks: [2].into() };
    let rule = |link: &Link| pod_facing(link, &facts, None);
    assert!(rule(&link(7, "lxc12")));
    assert!(!rule(&link(2, "eth0")), "the default route leaves by it");
    assert!(!rule(&Link { peer_elsewhere: false, ..link(3, "br0") }));
    assert!(!rule(&Link { link_type: None, ..link(4, "ib0") }), "frames that are not followed");
    let globs = GlobSet::builder().add(Glob::new("eth*").expect("a glob")).build().expect("globs");
    assert!(pod_facing(&link(2, "eth0"), &facts, Some(&globs)), "globs decide alone");
    assert!(!pod_facing(&link(7, "lxc12"), &facts, Some(&globs)));
}

#[test]
fn what_passed_before_we_came_is_read_once_at_a_quiet_moment() {
    let mut devices = Devices::default();
    devices.add(&link(7, "lxc12"), 1, None);
    assert!(devices.unsettled(7) && devices.report()[0].unsettled);
    assert!(!devices.settle(7, seen(1), carried(51), seen(2)), "it moved meanwhile");
    assert!(devices.unsettled(7));
    assert!(devices.settle(7, seen(5), carried(55), seen(5)));
    let first = ingress(&devices);
    assert_eq!((first.attach_gap_skbs, first.seen_skbs, first.carried_skbs), (50, 5, 55));
    // Two packets that nobody saw must not pass for a gap: they stay unaccounted.
    assert!(devices.settle(7, seen(9), carried(61), seen(9)));
    let later = ingress(&devices);
    assert_eq!((later.attach_gap_skbs, later.seen_skbs, later.carried_skbs), (50, 9, 61));
    assert_eq!(later.attach_gap_bytes, 5_000);
}

#[test]
fn a_device_that_went_is_told_for_a_minute_and_its_index_may_be_given_away() {
    let mut devices = Devices::default();
    let first = devices.add(&link(7, "lxc12"), 1, None);
    devices.saw(7, seen(3));
    devices.remove(7, 10);
    assert!(devices.present(7).is_none());
    assert_eq!(devices.incarnation(7), first, "its last flows still find it");
    let second = devices.add(&link(7, "lxc13"), 2, None);
    assert!(second > first && devices.incarnation(7) == second);
    let told: Vec<_> = devices.report().into_iter().map(|device| (device.name, device.gone)).collect();
    assert_eq!(told, [("lxc12".to_owned(), true), ("lxc13".to_owned(), false)]);
    devices.forget(10 + GONE_FOR_NS);
    assert_eq!(devices.report().len(), 1);
}

#[test]
fn a_refused_device_is_a_blind_spot_with_a_reason() {
    let mut devices = Devices::default();
    devices.add(&link(7, "lxc12"), 1, Some("device busy".to_owned()));
    let told = devices.report().remove(0);
    assert_eq!((told.tier, told.blind_spot.as_str()), (i32::from(Tier::Unwatched), "device busy"));
    assert_eq!(devices.watched().count(), 0);
    assert!(!told.unsettled);
}
