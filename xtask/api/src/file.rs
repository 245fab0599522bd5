//! A file of kubectl's form, served as the API would serve it, and followed while it is served.

use std::{
    io::{Error, Result},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::MockApi;

/// The file is looked at this often.
const LOOK: Duration = Duration::from_millis(20);

/// A mock of the API for those who have no runtime of their own; it ends when this is dropped.
#[derive(Debug)]
pub struct FileApi {
    api: MockApi,
    _runtime: Runtime,
}

impl FileApi {
    /// Serves what `kubectl get … -o json` wrote to `path`, and whatever is written there later.
    ///
    /// # Errors
    /// When no port can be bound, or the file is not there or is no list.
    pub fn serve(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let mut known = std::fs::read(&path)?;
        let list = items(&known)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let api = runtime.block_on(MockApi::start())?;
        let shared = api.shared.clone();
        shared.set(list);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                // The file is replaced in one step: what cannot be read is not there any more, and nobody follows it.
                let Ok(text) = std::fs::read(&path) else { return };
                if text != known
                    && let Ok(list) = items(&text)
                {
                    shared.set(list);
                    known = text;
                }
            }
        });
        Ok(Self { api, _runtime: runtime })
    }

    /// The server itself.
    #[must_use]
    pub fn api(&self) -> &MockApi {
        &self.api
    }
}

fn items(text: &[u8]) -> Result<Vec<Value>> {
    match serde_json::from_slice::<Value>(text)?.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(Error::other("not a list of kubectl's form")),
    }
}
