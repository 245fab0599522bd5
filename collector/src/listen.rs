//! Binding: TCP addresses and Unix sockets, with hints where that fails.

use std::{
    fs::Permissions,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener};

use crate::config::{Config, ReportAddress};

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// TCP.
    #[error("listen on {address}{hint}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// What to do about it.
        hint: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A Unix socket.
    #[error("listen on {path}; hint: the folder must exist and be ours to write")]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody listens on the socket.
    #[error("socket is in use: {path}; hint: another collector runs, or choose another path")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("not a socket: {path}; hint: choose another path")]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
}

/// A Unix socket whose file goes with it.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where agents report, or Hubble's clients ask, bound.
#[derive(Debug)]
pub enum ReportListener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener, SocketFile),
}

/// All listeners, bound by the caller: tests take port 0.
#[derive(Debug)]
pub struct Listeners {
    /// For browsers.
    pub browser: TcpListener,
    /// For agents.
    pub reports: Vec<ReportListener>,
    /// For Hubble's clients.
    pub hubble: Option<ReportListener>,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// When one cannot be bound.
    pub async fn bind(config: &Config) -> Result<Self, ListenError> {
        let browser = tcp(config.listen, "; hint: choose another port with --listen").await?;
        let mut reports = Vec::new();
        for address in &config.report_listen {
            reports.push(anywhere(address, "; hint: choose another port with --report-listen").await?);
        }
        let hubble = match &config.hubble_listen {
            Some(address) => Some(anywhere(address, "; hint: choose another port with --hubble-listen").await?),
            None => None,
        };
        Ok(Self { browser, reports, hubble })
    }
}

async fn anywhere(address: &ReportAddress, hint: &'static str) -> Result<ReportListener, ListenError> {
    match address {
        ReportAddress::Tcp(address) => tcp(*address, hint).await.map(ReportListener::Tcp),
        ReportAddress::Unix(path) => unix(path),
    }
}

async fn tcp(address: SocketAddr, hint: &'static str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| {
        let hint = if source.kind() == io::ErrorKind::AddrInUse { hint } else { "" };
        ListenError::Tcp { address, hint, source }
    })
}

fn unix(path: &Path) -> Result<ReportListener, ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        // Only a socket that nobody answers on is a dead collector's.
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(ListenError::InUse { path: path.to_owned() });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(ReportListener::Unix(listener, file))
}
