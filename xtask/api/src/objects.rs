//! Objects by resource, numbered changes of them, and how far back those are remembered.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use serde_json::{Value, json};

/// Changes that watches may ask for; older ones are 410.
const REMEMBERED: usize = 100_000;

/// Resource, namespace, name.
pub(crate) type Key = (&'static str, String, String);

/// The resource of a kind; `None` for those that are not served.
#[must_use]
pub fn resource_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Pod" => "pods",
        "Service" => "services",
        "Node" => "nodes",
        "Namespace" => "namespaces",
        "ReplicaSet" => "replicasets",
        "Job" => "jobs",
        "EndpointSlice" => "endpointslices",
        _ => return None,
    })
}

/// An object of kubectl's form.
#[must_use]
pub fn namespaced(kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = rest;
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!(name);
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

pub(crate) fn key(object: &Value) -> Option<Key> {
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    Some((resource_of(object["kind"].as_str()?)?, text(&metadata["namespace"]), text(&metadata["name"])))
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) at: Instant,
    pub(crate) resource: &'static str,
    pub(crate) what: &'static str,
    pub(crate) object: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Objects {
    version: u64,
    objects: BTreeMap<Key, Value>,
    log: VecDeque<Change>,
    forgotten: u64,
}

impl Objects {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter()
    }

    pub(crate) fn of(&self, resource: &str) -> Vec<Value> {
        self.objects.iter().filter(|((known, ..), _)| *known == resource).map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn same(&self, object: &Value) -> bool {
        let Some(known) = key(object).and_then(|key| self.objects.get(&key)) else { return false };
        let mut known = known.clone();
        known["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"].clone();
        known == object
    }

    pub(crate) fn put(&mut self, object: Value) {
        let Some(key) = key(&object) else { return };
        let what = if self.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        let object = self.note(key.0, what, object);
        self.objects.insert(key, object);
    }

    pub(crate) fn delete(&mut self, object: &Value) {
        let Some(key) = key(object) else { return };
        if self.objects.remove(&key).is_some() {
            self.note(key.0, "DELETED", object.clone());
        }
    }

    fn note(&mut self, resource: &'static str, what: &'static str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let change = Change { version: self.version, at: Instant::now(), resource, what, object: object.clone() };
        self.log.push_back(change);
        if self.log.len() > REMEMBERED {
            self.forgotten = self.log.pop_front().map_or(self.forgotten, |change| change.version);
        }
        object
    }

    pub(crate) fn compact(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.log.clear();
    }

    /// The first change of a resource after a version.
    pub(crate) fn after(&self, resource: &str, version: u64) -> Option<&Change> {
        let from = self.log.partition_point(|change| change.version <= version);
        self.log.range(from..).find(|change| change.resource == resource)
    }
}
