//! Owner chains: from a pod's controller to what a person deployed. Pure.

use std::{collections::HashMap, sync::Arc};

/// What owns something: kind, namespace, name.
pub type OwnerKey = (Arc<str>, Arc<str>, Arc<str>);

/// Owners of owners, where they are known: a set's or job's controller as (kind, name).
pub type Chain = HashMap<OwnerKey, Above>;

/// A controller's (kind, name), if there is one.
pub type Above = Option<(Arc<str>, Arc<str>)>;

/// What a person deployed: the end of the owner chain, as (kind, name).
#[must_use]
pub fn workload(
    (kind, name): &(Arc<str>, Arc<str>),
    namespace: &Arc<str>,
    template_hash: Option<&str>,
    chain: &Chain,
) -> (Arc<str>, Arc<str>) {
    let itself = (Arc::clone(kind), Arc::clone(name));
    if let Some(above) = chain.get(&(Arc::clone(kind), Arc::clone(namespace), Arc::clone(name))) {
        return above.clone().unwrap_or(itself);
    }
    match &**kind {
        "ReplicaSet" => {
            let deployment = template_hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
            match deployment {
                Some(name) if !name.is_empty() => ("Deployment".into(), name.into()),
                _ => itself,
            }
        }
        "Job" => match name.rsplit_once('-') {
            // A CronJob's jobs end in the scheduled minute: eight digits today, ten in seconds.
            Some((name, digits)) if digits.len() >= 8 && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                ("CronJob".into(), name.into())
            }
            _ => itself,
        },
        _ => itself,
    }
}
