//! Vertices of a view: whose they are, and their rows.

use std::{net::IpAddr, sync::Arc};

use crate::{
    names::{Names, Owner, Pod},
    view::{Phase, VertexRow, View, ms},
};

/// What a vertex stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum VertexKey {
    Pod(Arc<str>),
    Service(Arc<str>),
    Workload {
        namespace: Arc<str>,
        kind: Arc<str>,
        name: Arc<str>,
    },
    Namespace(Arc<str>),
    Node(Arc<str>),
    External(IpAddr),
    /// Addresses that find no place of their own.
    Further,
}

impl VertexKey {
    /// The vertex that `owner` is part of in `view`.
    pub(crate) fn of(view: View, owner: &Owner, names: &Names) -> Self {
        match owner {
            Owner::Pod(key) => match names.pod(key) {
                Some(pod) => Self::of_pod(view, key, pod),
                None => Self::Pod(Arc::clone(key)),
            },
            Owner::Service(key) => match (view, names.service(key)) {
                (View::Namespace, Some(service)) => Self::Namespace(Arc::clone(&service.namespace)),
                _ => Self::Service(Arc::clone(key)),
            },
            Owner::Node(name) => Self::Node(Arc::clone(name)),
            Owner::External(address) => Self::External(*address),
        }
    }

    pub(crate) fn of_pod(view: View, key: &Arc<str>, pod: &Pod) -> Self {
        match view {
            View::Pod => Self::Pod(Arc::clone(key)),
            View::Workload => {
                let (kind, name) = match (&pod.workload_kind, &pod.workload) {
                    (Some(kind), Some(name)) => (Arc::clone(kind), Arc::clone(name)),
                    _ => ("Pod".into(), Arc::clone(&pod.name)),
                };
                Self::Workload { namespace: Arc::clone(&pod.namespace), kind, name }
            }
            View::Namespace => Self::Namespace(Arc::clone(&pod.namespace)),
            View::Node => Self::Node(pod.node.clone().unwrap_or_else(|| "unscheduled".into())),
        }
    }

    /// Whether an end that resolved to `other` is here.
    pub(super) fn takes(&self, other: &Self) -> bool {
        self == other || (*self == Self::Further && matches!(other, Self::External(_)))
    }

    /// The vertex's id: stable, and unique in its view.
    pub(crate) fn id(&self) -> Arc<str> {
        match self {
            Self::Pod(key) => format!("pod:{key}").into(),
            Self::Service(key) => format!("service:{key}").into(),
            Self::Workload { namespace, kind, name } => format!("workload:{namespace}/{kind}/{name}").into(),
            Self::Namespace(name) => format!("namespace:{name}").into(),
            Self::Node(name) => format!("node:{name}").into(),
            Self::External(address) => format!("external:{address}").into(),
            Self::Further => "external:further".into(),
        }
    }
}

/// The row of a vertex with these living pods.
pub(crate) fn row(key: &VertexKey, id: Arc<str>, members: &[&Pod], names: &Names) -> VertexRow {
    let blank = VertexRow {
        id,
        kind: String::new(),
        name: String::new(),
        namespace: None,
        workload: None,
        workload_kind: None,
        node: None,
        addresses: Vec::new(),
        dns_names: Vec::new(),
        phase: Phase::Unknown,
        ready: true,
        host_network: false,
        created_ms: None,
    };
    let text = |value: &Arc<str>| value.to_string();
    // Of many pods: the worst phase, and ready only if all are.
    let of_members = |row: VertexRow| VertexRow {
        phase: members.iter().map(|pod| pod.phase).max().unwrap_or(Phase::Unknown),
        ready: members.iter().all(|pod| pod.ready),
        created_ms: members.iter().filter_map(|pod| pod.created).min().map(ms),
        ..row
    };
    match key {
        VertexKey::Pod(pod_key) => match names.pod(pod_key) {
            Some(pod) => VertexRow {
                kind: "pod".to_owned(),
                name: text(&pod.name),
                namespace: Some(text(&pod.namespace)),
                workload: pod.workload.as_ref().map(text),
                workload_kind: pod.workload_kind.as_ref().map(text),
                node: pod.node.as_ref().map(text),
                addresses: pod.addresses.iter().map(IpAddr::to_string).collect(),
                phase: pod.phase,
                ready: pod.ready,
                host_network: pod.host_network,
                created_ms: pod.created.map(ms),
                ..blank
            },
            None => VertexRow { kind: "pod".to_owned(), name: text(pod_key), phase: Phase::Gone, ..blank },
        },
        VertexKey::Service(service_key) => {
            let service = names.service(service_key);
            VertexRow {
                kind: "service".to_owned(),
                name: service.map_or_else(|| text(service_key), |service| text(&service.name)),
                namespace: service.map(|service| text(&service.namespace)),
                addresses: service
                    .map_or_else(Vec::new, |service| service.addresses.iter().map(IpAddr::to_string).collect()),
                created_ms: service.and_then(|service| service.created).map(ms),
                ..blank
            }
        }
        VertexKey::Workload { namespace, kind, name } => of_members(VertexRow {
            kind: "workload".to_owned(),
            name: text(name),
            namespace: Some(text(namespace)),
            workload: Some(text(name)),
            workload_kind: Some(text(kind)),
            ..blank
        }),
        VertexKey::Namespace(name) => of_members(VertexRow {
            kind: "namespace".to_owned(),
            name: text(name),
            namespace: Some(text(name)),
            ..blank
        }),
        VertexKey::Node(name) => {
            let node = names.node(name);
            VertexRow {
                kind: "node".to_owned(),
                name: text(name),
                node: Some(text(name)),
                addresses: node.map_or_else(Vec::new, |node| node.addresses.iter().map(IpAddr::to_string).collect()),
                ready: node.is_none_or(|node| node.ready),
                created_ms: node.and_then(|node| node.created).map(ms),
                ..blank
            }
        }
        VertexKey::Further => VertexRow { kind: "external".to_owned(), name: "further addresses".to_owned(), ..blank },
        VertexKey::External(address) => {
            let dns_names: Vec<String> = names.external().shown(*address).iter().map(text).collect();
            VertexRow {
                kind: "external".to_owned(),
                name: dns_names.first().cloned().unwrap_or_else(|| address.to_string()),
                addresses: vec![address.to_string()],
                dns_names,
                ..blank
            }
        }
    }
}
