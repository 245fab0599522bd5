//! Health and metrics on a Unix socket: the only thing the agent listens on.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::UnixListener;

use crate::ledger::Ledger;

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("listen on admin socket: {path}; hint: --admin-socket PATH, in a folder that exists and is writable")]
pub struct AdminError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The socket's file, removed when dropped.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.0);
    }
}

struct Shared {
    ledger: Ledger,
    registry: Registry,
}

/// Binds the socket, over what a killed predecessor left of its own, and serves it as a task.
///
/// # Errors
/// When the path cannot be bound, or another agent answers on it.
pub fn serve(path: &Path, ledger: &Ledger) -> Result<SocketFile, AdminError> {
    let failed = |source| AdminError { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(failed(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers there")));
        }
        // Only ever a socket: a mistyped path must not cost somebody a file.
        if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there")));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let shared = Arc::new(Shared { registry: ledger.registry(), ledger: ledger.clone() });
    let router = Router::new().route("/healthz", get(healthz)).route("/metrics", get(metrics)).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(file)
}

async fn healthz(State(shared): State<Arc<Shared>>) -> String {
    format!("ok\nacknowledged report: {}\n", shared.ledger.acknowledged_seq())
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &shared.registry);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
