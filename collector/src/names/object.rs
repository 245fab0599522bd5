//! The few fields that are read of Kubernetes' objects, and what they mean. Lenient: unknown fields are skipped without being
//! kept, missing ones are unknown. One shape for a list in a file and for what the API sends. Pure.

use std::{net::IpAddr, sync::Arc, time::UNIX_EPOCH};

use serde::{Deserialize, Deserializer};

use super::{
    Node, Pod, Service, Slice,
    owners::{Above, Chain, OwnerKey, workload},
};
use crate::{
    time::{Ns, SECOND},
    view::Phase,
};

/// Any object: the fields of all kinds, side by side.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Item {
    #[serde(deserialize_with = "nullable")]
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    spec: Spec,
    #[serde(deserialize_with = "nullable")]
    status: Status,
    #[serde(deserialize_with = "nullable")]
    endpoints: Vec<Endpoint>,
}

/// An object's metadata, without the parts that grow: most annotations and all managed fields.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Metadata {
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
    #[serde(deserialize_with = "nullable")]
    pub uid: String,
    pub resource_version: Option<String>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    deletion_grace_period_seconds: Option<i64>,
    #[serde(deserialize_with = "nullable")]
    labels: Labels,
    #[serde(deserialize_with = "nullable")]
    owner_references: Vec<OwnerReference>,
    #[serde(deserialize_with = "nullable")]
    annotations: Annotations,
}

/// The one annotation that means something here: others may be megabytes, and are skipped.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct Annotations {
    /// A static pod's own UID.
    #[serde(rename = "kubernetes.io/config.hash")]
    static_uid: Option<String>,
}

/// The labels that mean something here.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct Labels {
    #[serde(rename = "pod-template-hash")]
    template_hash: Option<String>,
    #[serde(rename = "kubernetes.io/service-name")]
    service: Option<String>,
    #[serde(rename = "topology.kubernetes.io/zone")]
    zone: Option<String>,
}

#[derive(Deserialize, Default, Debug, Clone)]
#[serde(default, rename_all = "camelCase")]
struct OwnerReference {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    #[serde(rename = "type")]
    service_type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs", deserialize_with = "nullable")]
    external_ips: Vec<String>,
    external_name: Option<String>,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<Port>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Port {
    node_port: Option<u16>,
    protocol: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    start_time: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pod_ips: Vec<Address>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<Address>,
    #[serde(deserialize_with = "nullable")]
    load_balancer: LoadBalancer,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "nullable")]
    ingress: Vec<Address>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    ready: bool,
    restart_count: u64,
    #[serde(deserialize_with = "nullable")]
    state: ContainerState,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
    running: Option<Times>,
    terminated: Option<Times>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct Waiting {
    #[serde(deserialize_with = "nullable")]
    reason: String,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Times {
    started_at: Option<String>,
    finished_at: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct Address {
    #[serde(deserialize_with = "nullable")]
    ip: String,
    #[serde(deserialize_with = "nullable")]
    address: String,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Endpoint {
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<String>,
    target_ref: Option<serde::de::IgnoredAny>,
}

/// `null` is as good as nothing.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(of: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(of)?.unwrap_or_default())
}

/// A replica set or job as a link of the owner chain.
#[must_use]
pub fn owner(item: &Item, kind: &str) -> (OwnerKey, Above) {
    let metadata = &item.metadata;
    ((kind.into(), metadata.namespace.as_str().into(), metadata.name.as_str().into()), controller(metadata))
}

/// A pod; its workload as far as `chain` and its own words tell.
#[must_use]
pub fn pod(item: &Item, chain: &Chain) -> Pod {
    let (metadata, status) = (&item.metadata, &item.status);
    let namespace: Arc<str> = metadata.namespace.as_str().into();
    let controller = controller(metadata);
    let hash = metadata.labels.template_hash.as_deref();
    let owner = controller.as_ref().map(|owner| workload(owner, &namespace, hash, chain));
    let texts = status.pod_ips.iter().map(|pod_ip| pod_ip.ip.as_str()).chain(status.pod_ip.as_deref());
    let ready = condition(status, "Ready").is_some_and(|condition| condition.status == "True")
        || (status.conditions.is_empty()
            && status.phase.as_deref() == Some("Running")
            && status.container_statuses.iter().all(|container| container.ready));
    let grace = metadata.deletion_grace_period_seconds.unwrap_or(0).max(0).saturating_mul(SECOND);
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    Pod {
        namespace,
        name: metadata.name.as_str().into(),
        uid: metadata.uid.as_str().into(),
        static_uid: metadata.annotations.static_uid.as_deref().map(Arc::from),
        workload: owner.as_ref().map(|(_, name)| Arc::clone(name)),
        workload_kind: owner.map(|(kind, _)| kind),
        controller,
        template_hash: hash.map(Arc::from),
        node: item.spec.node_name.as_deref().map(Arc::from),
        addresses: addresses(texts),
        host_network: item.spec.host_network == Some(true),
        phase: phase(item, ready),
        ready,
        over,
        restarts: status.container_statuses.iter().map(|container| container.restart_count).sum(),
        created: time(metadata.creation_timestamp.as_deref()),
        started: time(status.start_time.as_deref()),
        networked: networked(status),
        // What is told is when it must be gone: asked for before the grace period.
        deleted: time(metadata.deletion_timestamp.as_deref()).map(|at| at.saturating_sub(grace)),
        stopped: stopped(status),
    }
}

/// A time by which the pod had its address: times are whole seconds, cut off.
fn networked(status: &Status) -> Option<Ns> {
    let condition = condition(status, "PodReadyToStartContainers")
        .filter(|condition| condition.status == "True")
        .and_then(|condition| time(condition.last_transition_time.as_deref()));
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    let started = containers.filter_map(|container| {
        let (running, terminated) = (&container.state.running, &container.state.terminated);
        let running = running.as_ref().and_then(|running| time(running.started_at.as_deref()));
        running.or_else(|| time(terminated.as_ref()?.started_at.as_deref()))
    });
    condition.into_iter().chain(started).min().map(|at| at.saturating_add(SECOND))
}

/// When the last container ended, if all have.
fn stopped(status: &Status) -> Option<Ns> {
    let ends = status.container_statuses.iter().map(|container| {
        let terminated = container.state.terminated.as_ref()?;
        time(terminated.finished_at.as_deref())
    });
    ends.collect::<Option<Vec<Ns>>>()?.into_iter().max()
}

/// A service.
#[must_use]
pub fn service(item: &Item) -> Service {
    let spec = &item.spec;
    let texts = spec.cluster_ips.iter().chain(&spec.cluster_ip).chain(&spec.external_ips);
    let ingress = item.status.load_balancer.ingress.iter().map(|ingress| ingress.ip.as_str());
    Service {
        namespace: item.metadata.namespace.as_str().into(),
        name: item.metadata.name.as_str().into(),
        // Headless services say "None", which is no address.
        addresses: addresses(texts.map(String::as_str).chain(ingress)),
        node_ports: spec
            .ports
            .iter()
            .filter_map(|port| {
                Some((port.node_port.filter(|number| *number != 0)?, protocol(port.protocol.as_deref())))
            })
            .collect(),
        external_name: match spec.service_type.as_deref() {
            Some("ExternalName") => spec.external_name.as_deref().map(|name| name.trim_end_matches('.').into()),
            _ => None,
        },
        created: time(item.metadata.creation_timestamp.as_deref()),
    }
}

fn protocol(name: Option<&str>) -> u8 {
    match name {
        Some("UDP") => 17,
        Some("SCTP") => 132,
        _ => 6,
    }
}

/// The endpoints of a service that are no pods.
#[must_use]
pub fn slice(item: &Item) -> Slice {
    let bare = item.endpoints.iter().filter(|endpoint| endpoint.target_ref.is_none());
    Slice {
        namespace: item.metadata.namespace.as_str().into(),
        name: item.metadata.name.as_str().into(),
        service: item.metadata.labels.service.as_deref().map(Arc::from),
        addresses: addresses(bare.flat_map(|endpoint| &endpoint.addresses).map(String::as_str)),
    }
}

/// A node.
#[must_use]
pub fn node(item: &Item) -> Node {
    Node {
        name: item.metadata.name.as_str().into(),
        addresses: addresses(item.status.addresses.iter().map(|address| address.address.as_str())),
        ready: condition(&item.status, "Ready").is_some_and(|condition| condition.status == "True"),
        zone: item.metadata.labels.zone.as_deref().map(Arc::from),
        created: time(item.metadata.creation_timestamp.as_deref()),
    }
}

fn condition<'a>(status: &'a Status, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
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

fn time(text: Option<&str>) -> Option<Ns> {
    let time = humantime::parse_rfc3339_weak(text?).ok()?;
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

fn controller(metadata: &Metadata) -> Above {
    let owners = &metadata.owner_references;
    let owner = owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first())?;
    Some((owner.kind.as_str().into(), owner.name.as_str().into()))
}
