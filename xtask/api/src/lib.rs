//! A Kubernetes API that lists and watches and does nothing else, with faults on demand. It keeps objects as they are given
//! to it, numbers every change, and remembers who asked for what.
#![forbid(unsafe_code)]

mod file;
pub mod load;
mod objects;
mod serve;
pub mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use self::objects::{Key, Objects};
pub use self::{
    file::FileApi,
    objects::{namespaced, resource_of},
};

/// What goes wrong on purpose.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Every answer is this status.
    pub status: Option<u16>,
    /// Any other bearer's token is refused as expired.
    pub bearer: Option<String>,
    /// These resources may not be read.
    pub forbidden: BTreeSet<&'static str>,
    /// The next so many lists break off in the middle of a page.
    pub half_pages: u32,
    /// Every list takes this long.
    pub slow_lists: Duration,
    /// Streamed lists are refused, as by a server that does not know them.
    pub no_streamed_lists: bool,
    /// Watches tell of a change this much later.
    pub lag: Duration,
}

/// One kind of request: verb, API group, resource.
pub type Call = (&'static str, String, String);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) objects: Objects,
    pub(crate) faults: Faults,
    pub(crate) calls: BTreeMap<Call, u64>,
    pub(crate) metadata_only: BTreeSet<String>,
    pub(crate) tokens: BTreeMap<String, tokens::User>,
    /// Grows whenever all watches are to end.
    pub(crate) cut: u64,
}

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    state: Arc<Mutex<State>>,
    /// Grows with every change.
    news: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn tell(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    /// Makes the objects those of a list, by adding, replacing and removing what differs.
    pub(crate) fn set(&self, list: Vec<Value>) {
        let mut state = self.state();
        let keys: BTreeSet<Key> = list.iter().filter_map(objects::key).collect();
        let gone = state.objects.all().filter(|(key, _)| !keys.contains(*key)).map(|(_, object)| object.clone());
        for object in gone.collect::<Vec<_>>() {
            state.objects.delete(&object);
        }
        for object in list {
            if !state.objects.same(&object) {
                state.objects.put(object);
            }
        }
        drop(state);
        self.tell();
    }
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct MockApi {
    shared: Shared,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for MockApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MockApi {
    /// Serves on a free port of the loopback.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> std::io::Result<Self> {
        Self::serve(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?)
    }

    /// Serves on a bound listener.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn serve(listener: TcpListener) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Shared { state: Arc::default(), news: watch::Sender::new(0) };
        let router = serve::router(shared.clone());
        let task = tokio::spawn(async move {
            // It only ends by being dropped.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { shared, address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig that leads here, with this token.
    #[must_use]
    pub fn kubeconfig(&self, token: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: mock\nclusters:\n- name: mock\n  cluster:\n    server: \
             http://{}\ncontexts:\n- name: mock\n  context:\n    cluster: mock\n    user: mock\nusers:\n- name: mock\n  \
             user:\n    token: {token}\n",
            self.address
        )
    }

    /// Adds or replaces an object of kubectl's form; its kind says where it belongs. Unknown kinds are ignored.
    pub fn put(&self, object: Value) {
        self.put_all(vec![object]);
    }

    /// Adds or replaces objects, as one change each.
    pub fn put_all(&self, objects: Vec<Value>) {
        let mut state = self.shared.state();
        objects.into_iter().for_each(|object| state.objects.put(object));
        drop(state);
        self.shared.tell();
    }

    /// Removes an object; its last words may differ from what was known.
    pub fn delete(&self, object: &Value) {
        self.shared.state().objects.delete(object);
        self.shared.tell();
    }

    /// Changes what goes wrong.
    pub fn fail(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.state().faults);
        self.shared.tell();
    }

    /// Knows a service account's token from here on.
    pub fn know(&self, token: &str, user: tokens::User) {
        self.shared.state().tokens.insert(token.to_owned(), user);
    }

    /// Knows a token no longer.
    pub fn forget(&self, token: &str) {
        self.shared.state().tokens.remove(token);
    }

    /// Ends all watches.
    pub fn cut(&self) {
        self.shared.state().cut += 1;
        self.shared.tell();
    }

    /// Forgets all past changes: watches that go on from an old version are told 410. Ends all watches.
    pub fn compact(&self) {
        let mut state = self.shared.state();
        state.objects.compact();
        state.cut += 1;
        drop(state);
        self.shared.tell();
    }

    /// What was asked for, and how often.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<Call, u64> {
        self.shared.state().calls.clone()
    }

    /// Resources of which only metadata was asked for.
    #[must_use]
    pub fn metadata_only(&self) -> BTreeSet<String> {
        self.shared.state().metadata_only.clone()
    }
}
