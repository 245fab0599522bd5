//! Which devices face a pod, which are tunnels and uplinks, and the account of what each carried.

use agent::{
    devices::{Carried, Devices, GONE_FOR_NS, Link, LinkKind, NodeFacts, classify, tunnel_ports},
    home::{Home, TunnelKind},
    points::{Class, Place, Rest},
};
use agent_ebpf::abi::{DirectionTotals, LinkType};
use globset::{Glob, GlobSet};
use wire::v1::{DeviceCounters, Tier};

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.to_owned(),
        link_type: Some(LinkType::Ethernet),
        up: true,
        peer_elsewhere: true,
        ..Link::default()
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
fn a_device_is_a_pods_a_tunnel_or_an_uplink_by_what_it_is() {
    let facts = NodeFacts { default_routes: [2].into(), shared: [2, 3, 8, 9, 10].into(), addresses: [[0; 16]].into() };
    let rule = |link: &Link| classify(link, &facts, None);
    let near = |ifindex, name| Link { peer_elsewhere: false, ..link(ifindex, name) };
    let bridge = |ifindex, name| Link { kind: LinkKind::Bridge, ..near(ifindex, name) };
    assert_eq!(rule(&link(7, "lxc12")), Some(Class::Pod));
    assert_eq!(rule(&link(2, "eth0")), Some(Class::Uplink), "the default route leaves by it");
    assert_eq!(rule(&near(9, "eth1")), Some(Class::Uplink), "it holds an address that it shares with others");
    assert_eq!(rule(&near(4, "veth7")), None, "both ends here");
    assert_eq!(rule(&Link { link_type: None, ..link(4, "ib0") }), None, "frames that are not followed");
    assert_eq!(rule(&bridge(3, "cni0")), None, "a bridge holds the pods' gateway address");
    assert_eq!(rule(&bridge(2, "br0")), Some(Class::Uplink), "but the default route may leave by one");
    assert_eq!((rule(&near(8, "cilium_host")), rule(&near(10, "cilium_net"))), (None, None));
    assert_eq!(rule(&Link { kind: LinkKind::Loopback, ..near(3, "lo") }), None);
    let tunnel = Link { kind: LinkKind::Tunnel(TunnelKind::Vxlan, 8472), ..link(9, "cilium_vxlan") };
    assert_eq!(rule(&tunnel), Some(Class::Tunnel), "whatever address it holds, wherever its peer is");
    assert_eq!(rule(&Link { up: false, ..tunnel }), None, "nobody uses it");
    let globs = GlobSet::builder().add(Glob::new("eth*").expect("a glob")).build().expect("globs");
    assert_eq!(classify(&link(2, "eth0"), &facts, Some(&globs)), Some(Class::Pod), "globs decide who faces a pod");
    assert_eq!(classify(&link(7, "lxc12"), &facts, Some(&globs)), None);
    assert_eq!(classify(&near(9, "wan"), &facts, Some(&globs)), Some(Class::Uplink), "and nothing else");
}

#[test]
fn the_first_uplink_stands_for_the_node_and_index_0_is_the_cgroups() {
    let mut devices = Devices::default();
    devices.add(&link(7, "lxc12"), Class::Pod, 1, None);
    let first = devices.add(&link(2, "eth0"), Class::Uplink, 1, None);
    devices.add(&link(3, "eth1"), Class::Uplink, 1, None);
    assert_eq!(devices.first_uplink(), first);
    assert_eq!(devices.place(2), Place { class: Class::Uplink, device: first });
    assert_eq!(devices.place(0).class, Class::Cgroup);
    assert_eq!(devices.lesser().collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn the_kernel_side_is_told_the_nodes_own_hashed_ports_first() {
    let kind = |kind, port| Link { kind: LinkKind::Tunnel(kind, port), ..link(9, "t") };
    let links = [kind(TunnelKind::Geneve, 6_082), kind(TunnelKind::Wireguard, 0), kind(TunnelKind::Vxlan, 4_789)];
    let tunnel_ports = tunnel_ports(&links);
    assert_eq!(tunnel_ports, [(6_082, TunnelKind::Geneve), (4_789, TunnelKind::Vxlan)]);
    assert_eq!(Home { tunnel_ports, ..Home::default() }.hashed_ports(), [6_082, 4_789, 8_472]);
    assert_eq!(Home::default().hashed_ports(), [8_472, 4_789, 6_081]);
}

#[test]
fn an_uplinks_account_is_told_without_the_kernels_count_which_is_of_another_unit() {
    let mut devices = Devices::default();
    devices.add(&link(2, "eth0"), Class::Uplink, 1, None);
    assert!(!devices.unsettled(2), "nobody waits for its quiet moment");
    assert!(devices.settle(2, seen(5), carried(55), seen(5)));
    devices.set_rest(2, [Rest { elsewhere: 3, transit: 1, translated: 1 }; 2]);
    let told = devices.report().remove(0);
    assert!(told.unsettled);
    let way = told.ingress.expect("both ways are always told");
    assert_eq!((way.seen_skbs, way.carried_skbs, way.attach_gap_skbs), (5, 0, 0));
    assert_eq!((way.elsewhere_skbs, way.transit_skbs, way.translated_skbs), (3, 1, 1));
}

#[test]
fn what_passed_before_we_came_is_read_once_at_a_quiet_moment() {
    let mut devices = Devices::default();
    devices.add(&link(7, "lxc12"), Class::Pod, 1, None);
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
    let first = devices.add(&link(7, "lxc12"), Class::Pod, 1, None);
    devices.saw(7, seen(3));
    devices.remove(7, 10);
    assert!(devices.present(7).is_none());
    assert_eq!(devices.place(7).device, first, "its last flows still find it");
    let second = devices.add(&link(7, "lxc13"), Class::Pod, 2, None);
    assert!(second > first && devices.place(7).device == second);
    let told: Vec<_> = devices.report().into_iter().map(|device| (device.name, device.gone)).collect();
    assert_eq!(told, [("lxc12".to_owned(), true), ("lxc13".to_owned(), false)]);
    devices.forget(10 + GONE_FOR_NS);
    assert_eq!(devices.report().len(), 1);
}

#[test]
fn a_refused_device_is_a_blind_spot_with_a_reason() {
    let mut devices = Devices::default();
    devices.add(&link(7, "lxc12"), Class::Pod, 1, Some("device busy".to_owned()));
    let told = devices.report().remove(0);
    assert_eq!((told.tier, told.blind_spot.as_str()), (i32::from(Tier::Unwatched), "device busy"));
    assert_eq!(devices.watched().count(), 0);
    assert!(!told.unsettled);
}
