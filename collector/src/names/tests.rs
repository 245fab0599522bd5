//! The timeline: late lists, reused addresses, gone pods.

use std::{net::IpAddr, sync::Arc};

use super::{Inventory, Names, Node, Owner, Pod, Service};
use crate::{
    time::{Ns, SECOND},
    view::Phase,
};

fn pod(name: &str, address: &str, created: Ns) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}-{created}").into(),
        static_uid: None,
        workload: None,
        workload_kind: None,
        controller: None,
        template_hash: None,
        node: Some("n1".into()),
        addresses: vec![address.parse().expect("address")],
        host_network: false,
        phase: Phase::Running,
        ready: true,
        over: false,
        restarts: 0,
        created: Some(created),
        started: None,
        networked: None,
        deleted: None,
        stopped: None,
    }
}

fn read(names: &mut Names, pods: Vec<Pod>, now: Ns) {
    names.read(Inventory { pods, ..Inventory::default() }, now);
}

fn owner(names: &Names, at: Ns) -> Owner {
    names.resolve("10.0.0.1".parse().expect("address"), at)
}

fn is_pod(name: &str) -> Owner {
    Owner::Pod(Arc::from(format!("shop/{name}")))
}

#[test]
fn a_reused_address_keeps_its_past() {
    let mut names = Names::default();
    read(&mut names, vec![pod("a", "10.0.0.1", 100 * SECOND)], 101 * SECOND);
    read(&mut names, vec![pod("b", "10.0.0.1", 200 * SECOND)], 203 * SECOND);
    assert_eq!(owner(&names, 150 * SECOND), is_pod("a"));
    assert_eq!(owner(&names, 201 * SECOND), is_pod("b"), "the list came late");
    assert_eq!(owner(&names, 300 * SECOND), is_pod("b"));
    assert_eq!(names.pod("shop/a").map(|pod| pod.phase), Some(Phase::Gone));
}

#[test]
fn a_gone_pod_holds_its_address_until_somebody_else_does() {
    let mut names = Names::default();
    read(&mut names, vec![pod("a", "10.0.0.1", 100 * SECOND)], 101 * SECOND);
    read(&mut names, vec![], 150 * SECOND);
    assert_eq!(owner(&names, 152 * SECOND), is_pod("a"), "late packets to a pod that is gone");
    read(&mut names, vec![pod("b", "10.0.0.1", 160 * SECOND)], 161 * SECOND);
    assert_eq!(owner(&names, 156 * SECOND), is_pod("a"), "b was not created yet");
    assert_eq!(owner(&names, 160 * SECOND), is_pod("b"));
    assert_eq!(owner(&names, 152 * SECOND), is_pod("a"));
}

#[test]
fn a_stateful_pod_comes_back_under_its_name() {
    let mut names = Names::default();
    read(&mut names, vec![pod("a", "10.0.0.1", 100 * SECOND)], 101 * SECOND);
    read(&mut names, vec![pod("a", "10.0.0.2", 200 * SECOND)], 201 * SECOND);
    assert_eq!(owner(&names, 150 * SECOND), is_pod("a"));
    assert_eq!(names.resolve("10.0.0.2".parse().expect("address"), 202 * SECOND), is_pod("a"));
}

#[test]
fn nodes_services_and_the_world() {
    let mut names = Names::default();
    let mut host = pod("host", "10.0.0.9", 0);
    host.host_network = true;
    names.read(
        Inventory {
            pods: vec![host],
            services: vec![Service {
                namespace: "shop".into(),
                name: "cart".into(),
                addresses: vec!["10.96.0.1".parse().expect("address")],
                node_ports: vec![(30_080, 6)],
                external_name: None,
                created: None,
            }],
            nodes: vec![Node {
                name: "n1".into(),
                addresses: vec!["10.0.0.9".parse().expect("address")],
                ready: true,
                zone: None,
                created: None,
            }],
            ..Inventory::default()
        },
        SECOND,
    );
    let resolve = |text: &str| names.resolve(text.parse::<IpAddr>().expect("address"), 2 * SECOND);
    assert_eq!(resolve("10.0.0.9"), Owner::Node("n1".into()));
    assert_eq!(resolve("10.96.0.1"), Owner::Service("shop/cart".into()));
    assert_eq!(resolve("::ffff:10.96.0.1"), Owner::Service("shop/cart".into()));
    assert_eq!(resolve("192.0.2.1"), Owner::External("192.0.2.1".parse().expect("address")));
}

#[test]
fn pods_are_found_by_their_uid_while_they_are_remembered() {
    let mut names = Names::default();
    let mut mirror = pod("etcd-n1", "10.9.0.1", 100 * SECOND);
    mirror.static_uid = Some("5f3759df".into());
    read(&mut names, vec![mirror, pod("a", "10.0.0.1", 100 * SECOND)], 101 * SECOND);
    let key = |names: &Names, uid: &str| names.pod_of_uid(uid).map(ToString::to_string);
    assert_eq!(key(&names, "5f3759df").as_deref(), Some("shop/etcd-n1"), "as the kubelet calls a static pod");
    let uid = format!("uid-a-{}", 100 * SECOND);
    assert_eq!(key(&names, &uid).as_deref(), Some("shop/a"));
    read(&mut names, vec![], 150 * SECOND);
    assert_eq!(key(&names, &uid).as_deref(), Some("shop/a"), "gone, but remembered");
    names.retain_gone(&std::collections::HashSet::new(), 1_000 * SECOND);
    assert_eq!(key(&names, &uid), None);
    assert_eq!(key(&names, ""), None);
}

#[test]
fn an_equal_reading_changes_nothing() {
    let mut names = Names::default();
    read(&mut names, vec![pod("a", "10.0.0.1", 0)], SECOND);
    names.take_touched();
    names.take_turns();
    read(&mut names, vec![pod("a", "10.0.0.1", 0)], 2 * SECOND);
    let touched = names.take_touched();
    assert!(touched.addresses.is_empty() && touched.pods.is_empty() && names.take_turns().is_empty());
}

#[test]
fn gone_pods_are_bounded() {
    let mut names = Names::default();
    let many = |from: usize| {
        (from..from + 10_000)
            .map(|index| {
                let mut pod = pod(&format!("p{index}"), "10.0.0.1", 0);
                pod.addresses = vec![IpAddr::from([10, (index >> 16) as u8, (index >> 8) as u8, index as u8])];
                pod
            })
            .collect::<Vec<_>>()
    };
    for round in 0..4 {
        read(&mut names, many(round * 10_000), round as Ns * SECOND);
    }
    assert_eq!(names.past.len(), super::MAX_GONE);
    assert!(names.held.len() <= super::MAX_GONE + 10_000);
}
