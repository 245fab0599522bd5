//! Watches the Kubernetes API and tells the hub what changed: pods, their owners, services, nodes, namespaces. It only lists
//! and watches, each kind once; no agent ever talks to the API.

pub mod connect;
pub mod kind;
pub mod tally;
mod thing;
pub mod watch;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::Client;
use tokio::{
    sync::{mpsc, watch as signal},
    task::JoinSet,
};

use self::{
    connect::Access,
    kind::Kind,
    tally::Tally,
    watch::{State, Watch},
};
use crate::{
    hub::{Command, HubHandle, NamesUpdate},
    metrics::Metrics,
};

/// A client that could not be made is tried again after this long: a file may have been corrected.
const RETRY: Duration = Duration::from_secs(5);
/// While all is well this is said so often, so that the page can show how fresh the names are.
const STILL_FRESH: Duration = Duration::from_secs(30);

/// The source of names.
#[derive(Debug)]
pub struct Kubernetes {
    /// Where the API is.
    pub access: Access,
    /// The way to the hub.
    pub hub: HubHandle,
    /// Set once all that may be read was read.
    pub ready: Arc<AtomicBool>,
    /// The collector's own numbers.
    pub metrics: Arc<Metrics>,
}

impl Kubernetes {
    /// Watches until `shutdown` turns true.
    pub async fn run(self, mut shutdown: signal::Receiver<bool>) {
        tokio::select! {
            _ = shutdown.wait_for(|over| *over) => {}
            () = self.watch() => {}
        }
    }

    async fn watch(&self) {
        let tally = Tally::new(Arc::clone(&self.metrics));
        let Some(client) = self.connect(&tally).await else { return };
        let (states, mut news) = mpsc::channel(Kind::ALL.len());
        let mut watches = JoinSet::new();
        for kind in Kind::ALL {
            let (client, hub, states) = (client.clone(), self.hub.clone(), states.clone());
            let watch = Watch { kind, client, hub, metrics: Arc::clone(&self.metrics), tally: tally.clone(), states };
            watches.spawn(watch.run());
        }
        drop(states);
        let mut known: BTreeMap<Kind, State> = Kind::ALL.into_iter().map(|kind| (kind, State::Waiting)).collect();
        loop {
            match tokio::time::timeout(STILL_FRESH, news.recv()).await {
                Ok(Some((kind, state))) => self.note(&mut known, kind, state),
                Ok(None) => return,
                Err(_) if !is_fresh(&known) => continue,
                Err(_) => {}
            }
            if self.tell(&known).await.is_none() {
                return;
            }
        }
    }

    async fn connect(&self, tally: &Tally) -> Option<Client> {
        let mut said = String::new();
        loop {
            match self.access.client(tally).await {
                Ok(client) => return Some(client),
                Err(error) => {
                    let error = error.to_string();
                    if error != said {
                        tracing::warn!(%error, "no Kubernetes API to get names from: trying again");
                        said.clone_from(&error);
                    }
                    let update = NamesUpdate::Watched { fresh: false, trouble: Some(error) };
                    self.hub.commands.send(Command::Names(update)).await.ok()?;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Trouble is logged when it starts and when it ends.
    fn note(&self, known: &mut BTreeMap<Kind, State>, kind: Kind, state: State) {
        let resource = kind.resource();
        let before = known.insert(kind, state.clone());
        let was_well = matches!(before, Some(State::Waiting | State::Fresh) | None);
        match state {
            State::Fresh if !was_well => tracing::info!(resource, "is watched again"),
            State::Forbidden(what) | State::Trouble(what) if was_well => {
                tracing::warn!(resource, what, "is not watched: trying again");
            }
            _ => {}
        }
    }

    async fn tell(&self, known: &BTreeMap<Kind, State>) -> Option<()> {
        let fresh = is_fresh(known);
        let words = known.values().filter_map(|state| match state {
            State::Forbidden(what) | State::Trouble(what) => Some(what.as_str()),
            State::Waiting | State::Fresh => None,
        });
        let words: Vec<&str> = words.collect();
        let trouble = (!words.is_empty()).then(|| words.join("; "));
        if fresh {
            self.metrics.names_read.inc();
        } else if trouble.is_some() {
            self.metrics.names_failed.inc();
        }
        self.hub.commands.send(Command::Names(NamesUpdate::Watched { fresh, trouble })).await.ok()?;
        if fresh {
            self.ready.store(true, Ordering::Release);
        }
        Some(())
    }
}

/// All that may be read was read and is watched.
fn is_fresh(known: &BTreeMap<Kind, State>) -> bool {
    known.values().all(|state| matches!(state, State::Fresh | State::Forbidden(_)))
        && known.values().any(|state| *state == State::Fresh)
}
