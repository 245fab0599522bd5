//! The kinds of objects that are watched, and what each change of one means for the names.

use std::sync::Arc;

use kube::api::ApiResource;

use crate::names::{Change, object, object::Item, owners::Chain};

/// A watched kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Kind {
    Node,
    Namespace,
    ReplicaSet,
    Job,
    Pod,
    Service,
    EndpointSlice,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Node, Self::Namespace, Self::ReplicaSet, Self::Job, Self::Pod, Self::Service, Self::EndpointSlice];

    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::ReplicaSet => "ReplicaSet",
            Self::Job => "Job",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
        }
    }

    /// Its API group; empty for the core.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::ReplicaSet => "apps",
            Self::Job => "batch",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Node | Self::Namespace | Self::Pod | Self::Service => "",
        }
    }

    /// Its plural in paths and in roles.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::Namespace => "namespaces",
            Self::ReplicaSet => "replicasets",
            Self::Job => "jobs",
            Self::Pod => "pods",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
        }
    }

    /// Only names and owners are of interest: the server sends nothing else.
    #[must_use]
    pub const fn metadata_only(self) -> bool {
        matches!(self, Self::Namespace | Self::ReplicaSet | Self::Job)
    }

    /// How `kube` finds it.
    pub(super) fn api_resource(self) -> ApiResource {
        let group = self.group().to_owned();
        ApiResource {
            api_version: if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") },
            group,
            version: "v1".to_owned(),
            kind: self.name().to_owned(),
            plural: self.resource().to_owned(),
        }
    }

    /// The kind a request's path asks for.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let last = path.trim_end_matches('/').rsplit('/').next()?;
        Self::ALL.into_iter().find(|kind| kind.resource() == last)
    }

    /// What an object that is there says.
    #[must_use]
    pub fn put(self, item: &Item) -> Change {
        match self {
            Self::Node => Change::Node(object::node(item)),
            Self::Namespace => Change::Namespace(item.metadata.name.as_str().into()),
            Self::ReplicaSet | Self::Job => {
                let (key, above) = object::owner(item, self.name());
                Change::Owner(key, above)
            }
            Self::Pod => Change::Pod(Box::new(object::pod(item, &Chain::new()))),
            Self::Service => Change::Service(object::service(item)),
            Self::EndpointSlice => Change::Slice(object::slice(item)),
        }
    }

    /// What it means that an object is gone.
    pub(super) fn gone(self, key: &Key, uid: Option<Arc<str>>) -> Change {
        let (namespace, name) = key;
        let path = || Arc::from(format!("{namespace}/{name}"));
        match self {
            Self::Node => Change::NodeGone(Arc::clone(name)),
            Self::Namespace => Change::NamespaceGone(Arc::clone(name)),
            Self::ReplicaSet | Self::Job => {
                Change::OwnerGone((self.name().into(), Arc::clone(namespace), Arc::clone(name)))
            }
            Self::Pod => Change::PodGone(path(), uid),
            Self::Service => Change::ServiceGone(path()),
            Self::EndpointSlice => Change::SliceGone(path()),
        }
    }
}

/// An object's namespace (empty for those without) and name.
pub(super) type Key = (Arc<str>, Arc<str>);

/// What a role must grant, and no more: these verbs on every resource of [`Kind::ALL`].
pub const VERBS: [&str; 2] = ["list", "watch"];
