//! One kind's watch: a list (streamed where the server can), then changes, for ever. Whatever goes wrong is waited out; what
//! is known stays until a whole list says otherwise.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use kube::{
    Api, Client,
    runtime::watcher::{self, Config, Error, Event, InitialListStrategy},
};
use tokio::sync::mpsc;

use super::{
    connect::{brief, shorten},
    kind::{Key, Kind},
    tally::Tally,
    thing::Thing,
};
use crate::{
    hub::{Command, HubHandle, NamesUpdate},
    metrics::Metrics,
    names::Change,
};

/// Objects of one kind that are kept track of.
pub const MAX_OBJECTS: usize = 131_072;
/// Changes handed to the hub in one piece.
const BATCH: usize = 256;
/// Objects a page of a list has.
const PAGE: u32 = 500;
/// The server ends a watch after this long; one that is silent for longer is dead.
const WATCH_SECONDS: u32 = 120;
/// A streamed list that is silent for this long is not one: the server does not know them.
const STREAMED_LIST: Duration = Duration::from_secs(20);
/// After the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// After many.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After trouble, whether the server answers again is looked at so often.
const LOOK: Duration = Duration::from_secs(1);
/// What may not be read is asked for again after this long: a role may have been corrected.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(60);

/// How a kind is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Not listed yet.
    Waiting,
    /// Listed, and watched.
    Fresh,
    /// May not be read.
    Forbidden(String),
    /// Something is wrong; what is known may be old.
    Trouble(String),
}

/// One kind's watch.
pub(super) struct Watch {
    pub(super) kind: Kind,
    pub(super) client: Client,
    pub(super) hub: HubHandle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tally: Tally,
    pub(super) states: mpsc::Sender<(Kind, State)>,
}

/// What is known of a kind: enough to see what a new list lacks.
#[derive(Default)]
struct Known {
    /// By key: the UID, and whether the list at hand has it.
    objects: HashMap<Key, Arc<str>>,
    listed: HashSet<Key>,
    /// A whole list was read, and is being kept up to date.
    whole: bool,
    /// Something was wrong when so many requests had been answered.
    trouble: Option<u64>,
}

impl Watch {
    /// Watches until the hub is gone.
    pub(super) async fn run(self) {
        let mut known = Known::default();
        let mut strategy = InitialListStrategy::StreamingList;
        let mut pause = FIRST_PAUSE;
        loop {
            let end = self.follow(&mut known, &strategy, &mut pause).await;
            match end {
                End::HubGone => return,
                End::NoStreamedLists => strategy = InitialListStrategy::ListWatch,
            }
        }
    }

    fn stream(&self, strategy: &InitialListStrategy) -> impl Stream<Item = watcher::Result<Event<Thing>>> + use<> {
        let api: Api<Thing> = Api::all_with(self.client.clone(), &self.kind.api_resource());
        let config = Config {
            timeout: Some(WATCH_SECONDS),
            page_size: Some(PAGE),
            initial_list_strategy: strategy.clone(),
            ..Config::default()
        };
        watcher::watcher(api, config)
    }

    async fn follow(&self, known: &mut Known, strategy: &InitialListStrategy, pause: &mut Duration) -> End {
        let mut events = pin!(self.stream(strategy));
        let mut listing = *strategy == InitialListStrategy::StreamingList;
        let mut changes = Vec::new();
        loop {
            let next = match events.next().now_or_never() {
                Some(next) => next,
                None => {
                    // Nothing more at once: what there is goes on its way.
                    if self.send(&mut changes).await.is_none() {
                        return End::HubGone;
                    }
                    let patience = if listing { STREAMED_LIST } else { LOOK };
                    match tokio::time::timeout(patience, events.next()).await {
                        Ok(next) => next,
                        Err(_) if listing => return End::NoStreamedLists,
                        Err(_) => {
                            // A watch that is open again says nothing as long as nothing changes.
                            let open = |before| self.tally.answered(self.kind) > before;
                            if known.whole && known.trouble.is_some_and(open) {
                                (known.trouble, *pause) = (None, FIRST_PAUSE);
                                self.tell(State::Fresh).await;
                            }
                            continue;
                        }
                    }
                }
            };
            match next {
                Some(Ok(event)) => {
                    let news = matches!(event, Event::Apply(_) | Event::Delete(_)) && known.trouble.is_some();
                    let done = matches!(event, Event::InitDone) || news;
                    if matches!(event, Event::Apply(_) | Event::Delete(_) | Event::InitDone) {
                        (*pause, listing) = (FIRST_PAUSE, false);
                    }
                    self.take(event, known, &mut changes);
                    if done {
                        known.trouble = None;
                        if self.send(&mut changes).await.is_none() {
                            return End::HubGone;
                        }
                        self.tell(State::Fresh).await;
                    }
                }
                Some(Err(error)) => {
                    if self.send(&mut changes).await.is_none() {
                        return End::HubGone;
                    }
                    if listing && streams_no_lists(&error) {
                        return End::NoStreamedLists;
                    }
                    self.metrics.api_failures.get_or_create(&[("resource", self.kind.resource())]).inc();
                    let state = state_of(self.kind, &error);
                    let wait = if matches!(state, State::Forbidden(_)) { FORBIDDEN_PAUSE } else { *pause };
                    known.trouble = Some(self.tally.answered(self.kind));
                    self.tell(state).await;
                    tokio::time::sleep(wait).await;
                    *pause = (*pause * 2).min(LONGEST_PAUSE);
                }
                None => return End::HubGone,
            }
            if changes.len() >= BATCH && self.send(&mut changes).await.is_none() {
                return End::HubGone;
            }
        }
    }

    fn take(&self, event: Event<Thing>, known: &mut Known, changes: &mut Vec<Change>) {
        match event {
            Event::Init => {
                known.listed.clear();
                known.whole = false;
            }
            Event::InitApply(thing) => {
                let key = key(&thing);
                if self.room(known, &key, &thing) {
                    changes.push(self.kind.put(&thing.item));
                }
                known.listed.insert(key);
            }
            Event::InitDone => {
                // Only a whole list can say that something is not there any more.
                let listed = std::mem::take(&mut known.listed);
                let gone: Vec<Key> = known.objects.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                for key in gone {
                    let uid = known.objects.remove(&key);
                    changes.push(self.kind.gone(&key, uid));
                }
                known.objects.shrink_to_fit();
                known.whole = true;
            }
            Event::Apply(thing) => {
                if self.room(known, &key(&thing), &thing) {
                    changes.push(self.kind.put(&thing.item));
                }
            }
            Event::Delete(thing) => {
                let key = key(&thing);
                // Its last words say when it ended.
                if self.kind == Kind::Pod && known.objects.contains_key(&key) {
                    changes.push(self.kind.put(&thing.item));
                }
                known.objects.remove(&key);
                changes.push(self.kind.gone(&key, Some(thing.item.metadata.uid.as_str().into())));
            }
        }
    }

    /// Whether an object is kept track of; what finds no room is counted.
    fn room(&self, known: &mut Known, key: &Key, thing: &Thing) -> bool {
        let kept = known.put(key, &thing.item.metadata.uid);
        if !kept {
            self.metrics.api_refused_objects.get_or_create(&[("resource", self.kind.resource())]).inc();
        }
        kept
    }

    async fn send(&self, changes: &mut Vec<Change>) -> Option<()> {
        if changes.is_empty() {
            return Some(());
        }
        self.metrics.names_changes.inc_by(changes.len() as u64);
        let update = NamesUpdate::Changes { changes: std::mem::take(changes) };
        self.hub.commands.send(Command::Names(update)).await.ok()
    }

    async fn tell(&self, state: State) {
        // The other end is gone only when everything ends.
        let _ = self.states.send((self.kind, state)).await;
    }
}

enum End {
    HubGone,
    NoStreamedLists,
}

impl Known {
    /// False at the bound.
    fn put(&mut self, key: &Key, uid: &str) -> bool {
        if self.objects.len() >= MAX_OBJECTS && !self.objects.contains_key(key) {
            return false;
        }
        if self.objects.get(key).is_none_or(|known| **known != *uid) {
            self.objects.insert(key.clone(), uid.into());
        }
        true
    }
}

fn key(thing: &Thing) -> Key {
    let metadata = &thing.item.metadata;
    (metadata.namespace.as_str().into(), metadata.name.as_str().into())
}

/// An old server refuses the parameters of a streamed list.
fn streams_no_lists(error: &Error) -> bool {
    matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 405 | 422))
}

/// What to say of an error. The server's words are shown, shortened; headers and tokens are in none of them.
fn state_of(kind: Kind, error: &Error) -> State {
    let resource = kind.resource();
    let status = match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => status,
        Error::InitialListFailed(source) | Error::WatchStartFailed(source) | Error::WatchFailed(source) => {
            return State::Trouble(match source {
                kube::Error::SerdeError(_) => format!("{resource}: the answer could not be read"),
                kube::Error::Auth(_) => {
                    format!(
                        "{resource}: no credentials; hint: the kubeconfig's user or exec plugin, or the token's file"
                    )
                }
                other => format!("{resource}: the API server does not answer: {}", brief(other)),
            });
        }
        Error::NoResourceVersion => return State::Trouble(format!("{resource}: an answer without a version")),
    };
    match status.code {
        401 => {
            State::Trouble(format!("{resource}: 401, the credentials are not accepted; hint: the token has expired"))
        }
        403 => {
            State::Forbidden(format!("{resource}: 403, may not be read; hint: the role needs list and watch on them"))
        }
        410 => State::Trouble(format!("{resource}: 410, too far behind: listing anew")),
        code => State::Trouble(format!("{resource}: {code} {}", shorten(&status.message))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Known, MAX_OBJECTS};

    #[test]
    fn of_a_kind_so_many_objects_are_kept_track_of_and_those_change_at_the_bound_too() {
        let namespace: Arc<str> = "shop".into();
        let key = |index: usize| (Arc::clone(&namespace), Arc::from(index.to_string()));
        let mut known = Known::default();
        assert!((0..MAX_OBJECTS).all(|index| known.put(&key(index), "first")));
        assert!(!known.put(&key(MAX_OBJECTS), "one too many"));
        assert!(known.put(&key(7), "its successor") && &*known.objects[&key(7)] == "its successor");
        known.objects.remove(&key(8));
        assert!(known.put(&key(MAX_OBJECTS), "now there is room"));
    }
}
