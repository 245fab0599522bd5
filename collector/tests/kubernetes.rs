//! The watches, through `kube`'s real client, against an API that fails on demand.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use api_mock::{MockApi, namespaced};
use collector::{
    clock,
    hub::{Command, HubHandle, NamesUpdate},
    kubernetes::{
        Kubernetes,
        connect::Access,
        kind::{Kind, VERBS},
        tally::Tally,
    },
    metrics::Metrics,
    names::{Names, Owner},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// Stands in the kubeconfig, and nowhere else.
const TOKEN: &str = "s3cr3t-t0ken";
/// A condition that takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The watches, and the hub's side of them.
struct Watched {
    commands: mpsc::Receiver<Command>,
    names: Names,
    fresh: bool,
    trouble: Option<String>,
    removed: u64,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

async fn watched(api: &MockApi) -> Watched {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, api.kubeconfig(TOKEN)).expect("write");
    let (reports, _) = mpsc::channel(1);
    let (commands, receiver) = mpsc::channel(16);
    let (stop, stopped) = watch::channel(false);
    let metrics = Arc::new(Metrics::default());
    let source = Kubernetes {
        access: Access { kubeconfig: Some(path), context: None },
        hub: HubHandle { reports, commands },
        ready: Arc::new(AtomicBool::new(false)),
        metrics: Arc::clone(&metrics),
    };
    tokio::spawn(source.run(stopped));
    Watched {
        commands: receiver,
        names: Names::default(),
        fresh: false,
        trouble: None,
        removed: 0,
        metrics,
        stop,
        _folder: folder,
    }
}

impl Watched {
    /// Takes in what comes until a condition holds.
    async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !condition(self) {
                let Some(Command::Names(update)) = self.commands.recv().await else { panic!("the watches ended") };
                match update {
                    NamesUpdate::Changes { changes } => {
                        for change in changes {
                            self.removed += u64::from(format!("{change:?}").contains("Gone("));
                            self.names.apply(change, clock::now());
                        }
                    }
                    NamesUpdate::Watched { fresh, trouble } => {
                        assert!(!trouble.as_deref().is_some_and(|words| words.contains(TOKEN)), "{trouble:?}");
                        (self.fresh, self.trouble) = (fresh, trouble);
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        assert!(waited.await.is_ok(), "{what}: {} pods, fresh {}, {:?}", self.pods(), self.fresh, self.trouble);
    }

    fn pods(&self) -> usize {
        self.names.pods().count()
    }
}

fn pod(index: usize) -> Value {
    let address = format!("10.{}.{}.{}", 1 + index / 62_500, index / 250 % 250, 1 + index % 250);
    namespaced(
        "Pod",
        "shop",
        &format!("cart-5d9c-{index}"),
        json!({
            "metadata": {
                "uid": format!("uid-{index}"), "creationTimestamp": "2026-11-21T10:00:00Z",
                "labels": { "pod-template-hash": "5d9c", "odd/label": "x" },
                "managedFields": [{ "manager": "kubelet", "fieldsV1": { "f:status": {} } }],
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-5d9c", "controller": true }],
            },
            "spec": { "nodeName": "n1", "containers": [{ "name": "c", "futureField": { "deep": [1, 2] } }] },
            "status": {
                "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
                "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": null }],
            },
            "futureKindOfThing": { "a": null },
        }),
    )
}

fn cluster(pods: usize) -> Vec<Value> {
    let mut objects: Vec<Value> = (0..pods).map(pod).collect();
    objects.push(namespaced(
        "Node",
        "",
        "n1",
        json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "10.9.0.1" }] } }),
    ));
    objects.push(namespaced("Namespace", "", "shop", json!({ "metadata": {} })));
    let owner = json!({ "metadata": { "ownerReferences": [{ "kind": "Deployment", "name": "shopping-cart", "controller": true }] } });
    objects.push(namespaced("ReplicaSet", "shop", "cart-5d9c", owner));
    objects.push(namespaced(
        "Service",
        "shop",
        "cart",
        json!({ "spec": { "clusterIP": "10.96.0.7", "ports": [{ "port": 80, "nodePort": 30_080 }] } }),
    ));
    let endpoints = json!({ "metadata": { "labels": { "kubernetes.io/service-name": "legacy" } }, "endpoints": [{ "addresses": ["192.0.2.77"] }] });
    objects.push(namespaced("EndpointSlice", "shop", "legacy-x1", endpoints));
    objects
}

/// What the chart's default rendering lets the collector do to objects; asking whose a token is changes none.
fn granted() -> BTreeSet<(&'static str, String, String)> {
    let text = include_str!("../../deploy/kubernetes/orrery.yaml");
    let manifests: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    let role = manifests.iter().find(|manifest| manifest["kind"] == "ClusterRole").expect("a role");
    let texts = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).expect("a list of texts") };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        assert_eq!(rule.as_object().map(serde_json::Map::len), Some(3), "groups, resources and verbs alone: {rule}");
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]).into_iter().filter(|resource| resource != "tokenreviews") {
                for verb in texts(&rule["verbs"]) {
                    let verb = VERBS.into_iter().find(|known| *known == verb).expect("a verb that is used");
                    all.insert((verb, group.clone(), resource.clone()));
                }
            }
        }
    }
    all
}

/// A namespace of 63 characters, names of 253, dots and digits in front: all that the API takes.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_every_legal_character_are_kept_as_they_are() {
    let namespace = format!("0{}b9", "a-".repeat(30));
    let long = format!("0.{}z-99", "x1-y.".repeat(49)) + "zz";
    assert_eq!((namespace.len(), long.len()), (63, 253));
    let api = MockApi::start().await.expect("serve");
    let pod = json!({
        "metadata": { "uid": "u", "ownerReferences": [{ "kind": "Widget.v2", "name": long, "controller": true }],
                      "labels": { "app.kubernetes.io/na_me.x": "A_b.C-1", "": "" } },
        "spec": { "nodeName": "ip-10-0-0-1.eu-west-1.compute.internal" },
        "status": { "phase": "Running", "podIP": "fd00::1:2", "podIPs": [{ "ip": "fd00::1:2" }, { "ip": "not an address" }] },
    });
    api.put(namespaced("Pod", &namespace, &long, pod));
    api.put(namespaced(
        "Service",
        &namespace,
        "a",
        json!({ "spec": { "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd96::1"] } }),
    ));
    let mut watched = watched(&api).await;
    watched.until("fresh", |watched| watched.fresh && watched.pods() == 1).await;
    let owner = |text: &str| watched.names.resolve(text.parse().expect("address"), clock::now());
    assert_eq!(owner("fd00::1:2"), Owner::Pod(format!("{namespace}/{long}").into()));
    assert_eq!(owner("fd96::1"), Owner::Service(format!("{namespace}/a").into()));
    let known = watched.names.pod(&format!("{namespace}/{long}")).expect("a pod");
    assert_eq!(known.workload.as_deref(), Some(long.as_str()));
    assert_eq!(known.node.as_deref(), Some("ip-10-0-0-1.eu-west-1.compute.internal"));
}

/// Who answers behind each kind of service, as the wire shows it.
#[tokio::test(flavor = "multi_thread")]
async fn services_of_every_kind_are_named() {
    let api = MockApi::start().await.expect("serve");
    let service = |name: &str, spec: Value, status: Value| {
        namespaced("Service", "shop", name, json!({ "spec": spec, "status": status }))
    };
    let port = |number: u16, node: u16| json!([{ "port": number, "nodePort": node, "protocol": "TCP" }]);
    let ingress = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.9" }, { "hostname": "lb.example" }] } });
    api.put_all(cluster(2));
    api.put_all(vec![
        service("plain", json!({ "type": "ClusterIP", "clusterIPs": ["10.96.0.20", "fd96::20"] }), json!({})),
        service("headless", json!({ "type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"] }), json!({})),
        service("outside", json!({ "type": "NodePort", "clusterIP": "10.96.0.21", "ports": port(80, 30_100) }), json!({})),
        service("balanced", json!({ "type": "LoadBalancer", "clusterIP": "10.96.0.22", "externalIPs": ["192.0.2.50"], "ports": port(443, 30_101) }), ingress),
        service("elsewhere", json!({ "type": "ExternalName", "externalName": "db.example." }), json!({})),
        namespaced("EndpointSlice", "shop", "headless-1", json!({
            "metadata": { "labels": { "kubernetes.io/service-name": "headless" } },
            "endpoints": [{ "addresses": ["10.1.0.1"], "targetRef": { "kind": "Pod", "name": "cart-5d9c-0" } }, { "addresses": ["192.0.2.80"] }],
        })),
    ]);
    let mut watched = watched(&api).await;
    watched.until("fresh", |watched| watched.fresh && watched.names.service("shop/elsewhere").is_some()).await;
    let now = clock::now();
    let serving = |address: &str, port: u16| {
        let at = collector::names::Sighting::at(now);
        watched.names.serving(address.parse().expect("address"), port, 6, at).owner
    };
    let named = |name: &str| Owner::Service(format!("shop/{name}").into());
    assert_eq!((serving("10.96.0.20", 80), serving("fd96::20", 80)), (named("plain"), named("plain")));
    assert_eq!(serving("10.1.0.1", 80), Owner::Pod("shop/cart-5d9c-0".into()), "behind a headless service is the pod");
    assert_eq!(serving("192.0.2.80", 80), named("headless"), "an endpoint that is no pod");
    assert_eq!(serving("10.9.0.1", 30_100), named("outside"), "on any node's address");
    assert_eq!(serving("10.9.0.1", 22), Owner::Node("n1".into()), "any other port is the node's own");
    assert_eq!(serving("10.96.0.21", 80), named("outside"));
    for address in ["203.0.113.9", "192.0.2.50", "10.96.0.22"] {
        assert_eq!(serving(address, 443), named("balanced"), "{address}");
    }
    assert_eq!(serving("10.9.0.1", 30_101), named("balanced"), "a balancer has node ports, too");
    // Nothing on the wire is an external name's: the address goes by what DNS said.
    let elsewhere = watched.names.service("shop/elsewhere").expect("a service");
    assert_eq!((elsewhere.external_name.as_deref(), elsewhere.addresses.len()), (Some("db.example"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_read_with_lists_and_watches_alone() {
    for streamed in [true, false] {
        let api = MockApi::start().await.expect("serve");
        api.fail(|faults| faults.no_streamed_lists = !streamed);
        let mut objects = cluster(1_200);
        // Legal, and large: it must cost nothing that stays.
        objects[7]["metadata"]["annotations"] = json!({ "blob": "x".repeat(10 << 20) });
        api.put_all(objects);
        let mut watched = watched(&api).await;
        watched.until("fresh", |watched| watched.fresh).await;
        assert_eq!(watched.pods(), 1_200);
        assert_eq!(watched.trouble, None);
        let cart = watched.names.pod("shop/cart-5d9c-7").expect("a pod");
        assert_eq!(cart.workload_kind.as_deref(), Some("Deployment"));
        assert_eq!(cart.workload.as_deref(), Some("shopping-cart"), "the set's own owner, not a guess by its name");
        let owner = |text: &str| watched.names.resolve(text.parse().expect("address"), clock::now());
        assert_eq!(owner("10.96.0.7"), Owner::Service("shop/cart".into()));
        assert_eq!(owner("192.0.2.77"), Owner::Service("shop/legacy".into()), "an endpoint that is no pod");
        assert_eq!(owner("10.9.0.1"), Owner::Node("n1".into()));
        // What a role must grant is what was asked for, and nothing else.
        let allowed: BTreeSet<(&str, String, String)> = Kind::ALL
            .into_iter()
            .flat_map(|kind| VERBS.map(|verb| (verb, kind.group().to_owned(), kind.resource().to_owned())))
            .collect();
        let asked: BTreeSet<_> = api.calls().into_keys().collect();
        assert!(asked.is_subset(&allowed), "{asked:?}");
        if !streamed {
            assert_eq!(asked, allowed);
            assert_eq!(asked, granted(), "the chart's role grants what is asked for, and nothing else");
        }
        let expect: BTreeSet<String> =
            Kind::ALL.into_iter().filter(|kind| kind.metadata_only()).map(|kind| kind.resource().to_owned()).collect();
        assert_eq!(api.metadata_only(), expect);
        let text = watched.metrics.text();
        assert!(text.contains(r#"api_requests_total{verb="watch",resource="pods"}"#), "{text}");
        let _ = watched.stop.send(true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_cut_goes_on_and_one_too_old_lists_anew() {
    let api = MockApi::start().await.expect("serve");
    api.put_all(cluster(300));
    let mut watched = watched(&api).await;
    watched.until("fresh", |watched| watched.fresh).await;
    api.put(pod(300));
    watched.until("one more", |watched| watched.pods() == 301).await;
    api.cut();
    api.delete(&pod(300));
    watched.until("one less", |watched| watched.pods() == 300).await;
    assert_eq!(watched.removed, 1, "nothing else was taken for gone");
    api.delete(&pod(0));
    api.compact();
    watched.until("listed anew", |watched| watched.pods() == 299 && watched.fresh).await;
    assert!(watched.names.live_pod("shop/cart-5d9c-0").is_none());
    assert_eq!(watched.removed, 2, "no reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_may_not_be_read_is_said_and_the_rest_goes_on() {
    let api = MockApi::start().await.expect("serve");
    api.put_all(cluster(20));
    api.fail(|faults| faults.forbidden.extend(["endpointslices"]));
    let mut watched = watched(&api).await;
    watched.until("fresh but for one", |watched| watched.fresh).await;
    let trouble = watched.trouble.as_deref().expect("said");
    assert!(trouble.contains("endpointslices") && trouble.contains("403") && trouble.contains("hint"), "{trouble}");
    assert_eq!(watched.pods(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_waited_for() {
    let api = MockApi::start().await.expect("serve");
    api.put_all(cluster(20));
    api.fail(|faults| faults.slow_lists = Duration::from_millis(300));
    let mut watched = watched(&api).await;
    watched.until("fresh", |watched| watched.fresh).await;
    for (code, word) in [(503, "503"), (401, "token has expired")] {
        api.fail(|faults| faults.status = Some(code));
        api.cut();
        watched.until("stale", |watched| !watched.fresh).await;
        watched.until("said", |watched| watched.trouble.as_deref().is_some_and(|text| text.contains(word))).await;
        assert_eq!(watched.pods(), 20, "the last known stays");
        api.fail(|faults| faults.status = None);
        watched.until("fresh again", |watched| watched.fresh && watched.trouble.is_none()).await;
    }
    assert_eq!(watched.removed, 0, "recovered without a reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_page_takes_nothing_away() {
    let api = MockApi::start().await.expect("serve");
    api.put_all(cluster(1_200));
    api.fail(|faults| faults.no_streamed_lists = true);
    let mut watched = watched(&api).await;
    watched.until("fresh", |watched| watched.fresh).await;
    api.fail(|faults| faults.half_pages = 6);
    api.delete(&pod(3));
    api.compact();
    watched.until("listed anew", |watched| watched.pods() == 1_199 && watched.fresh).await;
    assert_eq!(watched.removed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_pods_that_come_and_go_end_as_the_server_has_them() {
    let api = MockApi::start().await.expect("serve");
    api.put_all(cluster(5_000));
    let mut watched = watched(&api).await;
    watched.until("fresh", |watched| watched.fresh).await;
    for round in 0..40 {
        for step in 0..50 {
            let index = (round * 50 + step) * 7 % 5_000;
            api.delete(&pod(index));
            api.put(pod(5_000 + round * 50 + step));
        }
        match round % 13 {
            5 => api.cut(),
            9 => api.compact(),
            _ => {}
        }
        tokio::task::yield_now().await;
    }
    let last = namespaced("Namespace", "", "the-end", json!({ "metadata": {} }));
    api.put(last);
    let newest = "shop/cart-5d9c-6999";
    watched.until("all told", |watched| watched.pods() == 5_000 && watched.names.live_pod(newest).is_some()).await;
    let known: BTreeSet<String> = watched.names.pods().map(|(key, _)| key.to_string()).collect();
    let there: BTreeSet<String> = (0..5_000)
        .filter(|index| !(0..2_000).any(|step| step * 7 % 5_000 == *index))
        .chain(5_000..7_000)
        .map(|index| format!("shop/cart-5d9c-{index}"))
        .collect();
    assert_eq!(known, there);
}

#[tokio::test]
async fn a_wrong_kubeconfig_is_said_without_what_stands_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    let tally = Tally::new(Arc::new(Metrics::default()));
    let check = async |context: Option<&str>, path: &Path| {
        let access = Access { kubeconfig: Some(path.to_owned()), context: context.map(str::to_owned) };
        let Err(error) = access.client(&tally).await else { panic!("taken") };
        let text = error.to_string();
        assert!(text.contains("hint: ") && !text.contains(TOKEN), "{text}");
        text
    };
    assert!(check(None, &folder.path().join("none")).await.contains("No such file"));
    std::fs::write(&path, format!("users: {TOKEN}\n  - [")).expect("write");
    check(None, &path).await;
    std::fs::write(&path, format!("users: {TOKEN}")).expect("write");
    check(None, &path).await;
    let good = MockApi::start().await.expect("serve").kubeconfig(TOKEN);
    std::fs::write(&path, &good).expect("write");
    assert!(check(Some("elsewhere"), &path).await.contains("no context elsewhere"));
    std::fs::write(&path, good.replace("current-context: mock\n", "")).expect("write");
    assert!(check(None, &path).await.contains("no current context"));
    std::fs::write(&path, good.replace("cluster: mock\n    user", "cluster: lost\n    user")).expect("write");
    assert!(check(None, &path).await.contains("no cluster lost"));
}
