//! The pod list, in the very form of `kubectl get pods,services,nodes -A -o json`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Context, Result};
use crate::spec::{Owner, Phase, ServiceSpec, mix, node_addresses, seed, template_hash};

/// What the list says about one pod.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) owner: Owner,
    pub(crate) node: String,
    pub(crate) host_ip: Ipv4Addr,
    pub(crate) addresses: Vec<IpAddr>,
    /// In the node's own namespace, under the node's addresses.
    pub(crate) host_network: bool,
    pub(crate) phase: Phase,
    pub(crate) created: String,
}

/// A uid that stays the same for the same text.
pub(crate) fn uid(text: &str) -> String {
    let (high, low) = (seed(text), mix(seed(text)));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

/// Seconds since 1970 as Kubernetes writes them.
pub(crate) fn timestamp(unix_seconds: u64) -> String {
    let (days, rest) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Civil date from a day count (Howard Hinnant's algorithm): years start in March, so the leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

fn pod(pod: &Listed) -> Value {
    let workload = pod.owner.name();
    let mut labels = json!({ "app": workload, "app.kubernetes.io/name": workload });
    let (kind, owner) = match &pod.owner {
        Owner::Deployment(name) => {
            labels["pod-template-hash"] = template_hash(name).into();
            ("ReplicaSet", format!("{name}-{}", template_hash(name)))
        }
        Owner::StatefulSet(name) => {
            labels["statefulset.kubernetes.io/pod-name"] = pod.name.clone().into();
            ("StatefulSet", name.clone())
        }
        Owner::DaemonSet(name) => ("DaemonSet", name.clone()),
    };
    let ready = pod.phase == Phase::Running;
    let truth = |value: bool| if value { "True" } else { "False" };
    let condition =
        |kind: &str, value: bool| json!({ "type": kind, "status": truth(value), "lastTransitionTime": pod.created });
    let state = match pod.phase {
        Phase::Pending => json!({ "waiting": { "reason": "ContainerCreating" } }),
        Phase::Running => json!({ "running": { "startedAt": pod.created } }),
        Phase::CrashLoop => {
            json!({ "waiting": { "reason": "CrashLoopBackOff", "message": format!("back-off 5m0s restarting failed container={workload}") } })
        }
    };
    let mut status = json!({
        "phase": if pod.phase == Phase::Pending { "Pending" } else { "Running" },
        "hostIP": pod.host_ip,
        "startTime": pod.created,
        "qosClass": "Burstable",
        "conditions": [condition("PodScheduled", true), condition("Initialized", true), condition("ContainersReady", ready), condition("Ready", ready)],
        "containerStatuses": [{
            "name": workload, "image": format!("registry.example/{workload}:1.0"), "ready": ready, "started": ready,
            "restartCount": if pod.phase == Phase::CrashLoop { 7 } else { 0 }, "state": state
        }]
    });
    if pod.phase != Phase::Pending {
        status["podIP"] = json!(pod.addresses.first());
        status["podIPs"] = pod.addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod.name, "namespace": pod.namespace, "uid": pod.uid, "creationTimestamp": pod.created, "labels": labels,
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": uid(&format!("{kind}/{}/{owner}", pod.namespace)), "controller": true, "blockOwnerDeletion": true }]
        },
        "spec": { "nodeName": pod.node, "hostNetwork": pod.host_network, "containers": [{ "name": workload, "image": format!("registry.example/{workload}:1.0") }] },
        "status": status
    })
}

fn service(service: &ServiceSpec, created: &str) -> Value {
    let ip = service.cluster_ip.map_or_else(|| "None".to_owned(), |ip| ip.to_string());
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": service.name, "namespace": service.namespace, "uid": uid(&format!("service/{}/{}", service.namespace, service.name)), "creationTimestamp": created },
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "selector": { "app": service.workload },
            "ports": [{ "port": service.port, "targetPort": service.port, "protocol": "TCP" }]
        },
        "status": { "loadBalancer": {} }
    })
}

fn node(node: usize, created: &str) -> Value {
    let name = format!("n{node}");
    let (v4, v6) = node_addresses(node);
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "uid": uid(&format!("node/{name}")), "creationTimestamp": created, "labels": { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" } },
        "spec": { "podCIDR": format!("10.{node}.0.0/24"), "podCIDRs": [format!("10.{node}.0.0/24"), format!("fd00:{node}::/64")] },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": v4 }, { "type": "InternalIP", "address": v6 }, { "type": "Hostname", "address": name }
            ],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": created }]
        }
    })
}

/// Writes the list so that a reader sees the old one or the new one, never a part.
pub(crate) fn write(path: &Path, pods: &[Listed], services: &[ServiceSpec], nodes: usize, created: &str) -> Result<()> {
    let items: Vec<Value> = pods
        .iter()
        .map(pod)
        .chain(services.iter().map(|item| service(item, created)))
        .chain((1..=nodes).map(|item| node(item, created)))
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": items });
    let text = serde_json::to_vec_pretty(&list).context(|| "write the pod list".to_owned())?;
    replace(path, &text)
}

/// Replaces a file in one step.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, content).context(|| format!("write {}", new.display()))?;
    std::fs::rename(&new, path).context(|| format!("replace {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{timestamp, uid};

    #[test]
    fn times_and_uids_have_their_form() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_795_233_127), "2026-11-21T03:52:07Z");
        assert_eq!(uid("a").split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(uid("a"), uid("b"));
    }
}
