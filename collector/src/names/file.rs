//! kubectl's JSON (`kubectl get pods,services,nodes -A -o json`) as an inventory. Lenient: what is not understood is
//! skipped, what is missing is unknown; only what is not such a list at all is an error. Pure.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::UNIX_EPOCH};

use serde::Deserialize;

use super::{Inventory, Node, Pod, Service};
use crate::{time::Ns, view::Phase};

/// Why bytes are not a pod list.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or not of a list's shape.
    #[error("parse pod list: {0}; hint: kubectl get pods,services,nodes -A -o json")]
    Json(serde_json::Error),
    /// A JSON object, but no list.
    #[error("parse pod list: no items; hint: kubectl get pods,services,nodes -A -o json")]
    NoItems,
}

#[derive(Deserialize)]
struct List {
    items: Option<Vec<Item>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Item {
    kind: String,
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    labels: HashMap<String, String>,
    annotations: HashMap<String, String>,
    owner_references: Vec<OwnerReference>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default, rename_all = "camelCase")]
struct OwnerReference {
    kind: String,
    name: String,
    controller: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    host_network: bool,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    addresses: Vec<Address>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodIp {
    ip: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    ready: bool,
    restart_count: u64,
    state: ContainerState,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Waiting {
    reason: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Address {
    address: String,
}

/// The annotation that names a static pod's own UID.
const STATIC_UID: &str = "kubernetes.io/config.hash";

/// Owners of owners, where the list has them: (kind, namespace, name) → the controller's (kind, name).
type Chain = HashMap<(String, String, String), Option<(String, String)>>;

/// Reads a list.
///
/// # Errors
/// When the bytes are not a list; whatever is odd inside it is skipped.
pub fn parse(bytes: &[u8]) -> Result<Inventory, ParseError> {
    let list: List = serde_json::from_slice(bytes).map_err(ParseError::Json)?;
    let items = list.items.ok_or(ParseError::NoItems)?;
    let mut chain = Chain::new();
    for item in items.iter().filter(|item| matches!(item.kind.as_str(), "ReplicaSet" | "Job")) {
        let key = (item.kind.clone(), item.metadata.namespace.clone(), item.metadata.name.clone());
        chain.insert(key, controller(&item.metadata).map(|owner| (owner.kind, owner.name)));
    }
    let mut inventory = Inventory::default();
    for item in items.iter().filter(|item| !item.metadata.name.is_empty()) {
        match item.kind.as_str() {
            "Pod" => inventory.pods.push(pod(item, &chain)),
            "Service" => inventory.services.push(service(item)),
            "Node" => inventory.nodes.push(node(item)),
            _ => {}
        }
    }
    Ok(inventory)
}

fn pod(item: &Item, chain: &Chain) -> Pod {
    let owner = workload(&item.metadata, chain);
    let status = &item.status;
    let texts = status.pod_ips.iter().map(|pod_ip| pod_ip.ip.as_str()).chain(status.pod_ip.as_deref());
    let ready = item.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
        || (status.conditions.is_empty()
            && status.phase.as_deref() == Some("Running")
            && status.container_statuses.iter().all(|container| container.ready));
    Pod {
        namespace: item.metadata.namespace.as_str().into(),
        name: item.metadata.name.as_str().into(),
        uid: item.metadata.uid.as_str().into(),
        static_uid: item.metadata.annotations.get(STATIC_UID).map(|uid| uid.as_str().into()),
        workload: owner.as_ref().map(|(_, name)| Arc::from(name.as_str())),
        workload_kind: owner.as_ref().map(|(kind, _)| Arc::from(kind.as_str())),
        node: item.spec.node_name.as_deref().map(Arc::from),
        addresses: addresses(texts),
        host_network: item.spec.host_network,
        phase: phase(item, ready),
        ready,
        created: created(&item.metadata),
    }
}

fn service(item: &Item) -> Service {
    Service {
        namespace: item.metadata.namespace.as_str().into(),
        name: item.metadata.name.as_str().into(),
        // Headless services say "None", which is no address.
        addresses: addresses(item.spec.cluster_ips.iter().map(String::as_str).chain(item.spec.cluster_ip.as_deref())),
        created: created(&item.metadata),
    }
}

fn node(item: &Item) -> Node {
    Node {
        name: item.metadata.name.as_str().into(),
        addresses: addresses(item.status.addresses.iter().map(|address| address.address.as_str())),
        ready: item.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True"),
        created: created(&item.metadata),
    }
}

fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<IpAddr> {
    let mut out: Vec<IpAddr> = Vec::new();
    for address in texts.filter_map(|text| text.parse::<IpAddr>().ok()) {
        let address = address.to_canonical();
        if !out.contains(&address) {
            out.push(address);
        }
    }
    out
}

fn created(metadata: &Metadata) -> Option<Ns> {
    let time = humantime::parse_rfc3339_weak(metadata.creation_timestamp.as_deref()?).ok()?;
    Ns::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()
}

fn phase(item: &Item, ready: bool) -> Phase {
    let status = &item.status;
    let containers = || status.container_statuses.iter().chain(&status.init_container_statuses);
    let crashing = containers().any(|container| {
        container.state.waiting.as_ref().is_some_and(|waiting| {
            [
                "CrashLoopBackOff",
                "ImagePullBackOff",
                "ErrImagePull",
                "CreateContainerConfigError",
                "CreateContainerError",
            ]
            .contains(&waiting.reason.as_str())
        })
    });
    let restarting = !ready && containers().any(|container| container.restart_count > 0 && !container.ready);
    match status.phase.as_deref() {
        Some("Failed") => Phase::Failing,
        Some("Succeeded") => Phase::Gone,
        _ if crashing => Phase::Failing,
        Some("Running") if restarting && item.metadata.deletion_timestamp.is_none() => Phase::Failing,
        Some("Running") => Phase::Running,
        Some("Pending") => Phase::Pending,
        _ => Phase::Unknown,
    }
}

fn controller(metadata: &Metadata) -> Option<OwnerReference> {
    let owners = &metadata.owner_references;
    owners.iter().find(|owner| owner.controller).or(owners.first()).cloned()
}

/// What a person deployed: the end of the owner chain.
fn workload(metadata: &Metadata, chain: &Chain) -> Option<(String, String)> {
    let owner = controller(metadata)?;
    let key = (owner.kind.clone(), metadata.namespace.clone(), owner.name.clone());
    if let Some(above) = chain.get(&key) {
        return Some(above.clone().unwrap_or((owner.kind, owner.name)));
    }
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = metadata.labels.get("pod-template-hash");
            let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            Some(match deployment {
                Some(name) if !name.is_empty() => ("Deployment".to_owned(), name.to_owned()),
                _ => (owner.kind, owner.name),
            })
        }
        "Job" => Some(match owner.name.rsplit_once('-') {
            // A CronJob's jobs end in the scheduled minute: eight digits today, ten in seconds.
            Some((name, digits)) if digits.len() >= 8 && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                ("CronJob".to_owned(), name.to_owned())
            }
            _ => (owner.kind, owner.name),
        }),
        _ => Some((owner.kind, owner.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::view::Phase;

    fn check(json: &str, kind: Option<&str>, name: Option<&str>, phase: Phase) {
        let inventory = parse(format!(r#"{{"kind":"List","items":[{json}]}}"#).as_bytes()).expect("a list");
        let pod = inventory.pods.first().expect("a pod");
        assert_eq!((pod.workload_kind.as_deref(), pod.workload.as_deref(), pod.phase), (kind, name, phase));
    }

    #[test]
    fn owners_are_followed() {
        let pod = |labels: &str, kind: &str, owner: &str| {
            format!(
                r#"{{"kind":"Pod","metadata":{{"name":"p","namespace":"shop","labels":{{{labels}}},
                "ownerReferences":[{{"kind":"{kind}","name":"{owner}","controller":true}}]}},"status":{{"phase":"Running"}}}}"#
            )
        };
        let hash = r#""pod-template-hash":"6c4b9""#;
        check(&pod(hash, "ReplicaSet", "cart-6c4b9"), Some("Deployment"), Some("cart"), Phase::Running);
        check(&pod("", "ReplicaSet", "cart-6c4b9"), Some("ReplicaSet"), Some("cart-6c4b9"), Phase::Running);
        check(&pod("", "Job", "backup-29387001"), Some("CronJob"), Some("backup"), Phase::Running);
        check(&pod("", "Job", "once"), Some("Job"), Some("once"), Phase::Running);
        let with_set = format!(
            r#"{},{{"kind":"ReplicaSet","metadata":{{"name":"odd","namespace":"shop",
            "ownerReferences":[{{"kind":"Rollout","name":"cart","controller":true}}]}}}}"#,
            pod("", "ReplicaSet", "odd")
        );
        check(&with_set, Some("Rollout"), Some("cart"), Phase::Running);
    }

    #[test]
    fn phases() {
        let pod = |status: &str| format!(r#"{{"kind":"Pod","metadata":{{"name":"p"}},"status":{{{status}}}}}"#);
        check(&pod(r#""phase":"Pending""#), None, None, Phase::Pending);
        check(&pod(r#""phase":"Failed""#), None, None, Phase::Failing);
        let crash = r#""phase":"Running","containerStatuses":[{"ready":false,"restartCount":4,
            "state":{"waiting":{"reason":"CrashLoopBackOff"}}}]"#;
        check(&pod(crash), None, None, Phase::Failing);
        check(&pod(""), None, None, Phase::Unknown);
    }

    #[test]
    fn services_nodes_and_addresses() {
        let list = r#"{"items":[
            {"kind":"Service","metadata":{"name":"s","namespace":"x"},"spec":{"clusterIP":"None"}},
            {"kind":"Service","metadata":{"name":"t","namespace":"x"},"spec":{"clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00::1"]}},
            {"kind":"Node","metadata":{"name":"n1"},"status":{"addresses":[{"type":"Hostname","address":"n1"},{"type":"InternalIP","address":"10.9.0.1"}]}},
            {"kind":"Pod","metadata":{"name":"p","creationTimestamp":"2026-01-02T03:04:05Z"},"status":{"podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::2"}]}},
            {"kind":"Secret"}, {}]}"#;
        let inventory = parse(list.as_bytes()).expect("a list");
        assert_eq!(inventory.services.iter().map(|service| service.addresses.len()).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(inventory.nodes[0].addresses.len(), 1);
        assert_eq!(inventory.pods[0].addresses.len(), 2);
        assert_eq!(inventory.pods[0].created, Some(1_767_323_045_000_000_000));
    }

    #[test]
    fn what_is_not_a_list_is_said() {
        for bytes in [&b"{ half"[..], b"[]", b"{}", b"null", b"\xff"] {
            assert!(parse(bytes).is_err());
        }
    }
}
