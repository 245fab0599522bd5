//! Any watched object as `kube` hands it over. Fields that nobody reads (annotations, managed fields, whole specs) are
//! skipped while the answer is parsed: they are never stored.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, api::ApiResource, core::DynamicResourceScope};
use serde::Deserialize;

use crate::names::object::Item;

/// An object.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Item")]
pub(super) struct Thing {
    /// What `kube` needs of the metadata, and nothing else.
    meta: ObjectMeta,
    pub(super) item: Item,
}

impl From<Item> for Thing {
    fn from(mut item: Item) -> Self {
        let meta = ObjectMeta { resource_version: item.metadata.resource_version.take(), ..ObjectMeta::default() };
        Self { meta, item }
    }
}

impl Resource for Thing {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&of.kind)
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&of.group)
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&of.version)
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&of.api_version)
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&of.plural)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
