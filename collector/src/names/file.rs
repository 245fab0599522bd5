//! kubectl's JSON (`kubectl get pods,services,nodes -A -o json`) as an inventory. Lenient: what is not understood is
//! skipped, what is missing is unknown; only what is not such a list at all is an error. Pure.

use serde::Deserialize;

use super::{
    Inventory,
    object::{self, Item},
    owners::Chain,
};

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

/// Reads a list.
///
/// # Errors
/// When the bytes are not a list; whatever is odd inside it is skipped.
pub fn parse(bytes: &[u8]) -> Result<Inventory, ParseError> {
    let list: List = serde_json::from_slice(bytes).map_err(ParseError::Json)?;
    let items = list.items.ok_or(ParseError::NoItems)?;
    let mut chain = Chain::new();
    for item in items.iter().filter(|item| matches!(item.kind.as_str(), "ReplicaSet" | "Job")) {
        let (key, above) = object::owner(item, &item.kind);
        chain.insert(key, above);
    }
    let mut inventory = Inventory::default();
    for item in items.iter().filter(|item| !item.metadata.name.is_empty()) {
        match item.kind.as_str() {
            "Pod" => inventory.pods.push(object::pod(item, &chain)),
            "Service" => inventory.services.push(object::service(item)),
            "Node" => inventory.nodes.push(object::node(item)),
            "EndpointSlice" => inventory.slices.push(object::slice(item)),
            "Namespace" => inventory.namespaces.push(item.metadata.name.as_str().into()),
            _ => {}
        }
    }
    Ok(inventory)
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
