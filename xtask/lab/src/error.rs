//! What can go wrong while the lab is built or used, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

/// The lab's result.
pub type Result<T> = std::result::Result<T, LabError>;

/// What was being tried when the lab failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces and nft want root.
    #[error(
        "the lab needs root, for network namespaces\nhint: run it with sudo, or play a recording: cargo xtask demo --replay FILE"
    )]
    NotRoot,
    /// A system call or a file operation.
    #[error("{what}")]
    Io {
        /// What was being tried.
        what: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// `ip`, `nft` or `ethtool` refused.
    #[error("{tool} failed: {stderr}\nhint: cargo xtask setup installs what the lab needs")]
    Tool {
        /// Name of the program.
        tool: String,
        /// What it said.
        stderr: String,
    },
    /// One of our own binaries is not where it should be.
    #[error("binary not found: {}\nhint: cargo build -p orrery-agent -p orrery-collector -p lab, or set ORRERY_BIN_DIR", path.display())]
    NoBinary {
        /// Where it was expected.
        path: PathBuf,
    },
    /// A wait met its bound.
    #[error("not within {after:?}: {what}")]
    Timeout {
        /// The bound.
        after: Duration,
        /// What was waited for.
        what: String,
    },
    /// A pod's process answered with an error.
    #[error("pod {pod}: {message}")]
    Pod {
        /// Name of the pod.
        pod: String,
        /// What it said.
        message: String,
    },
    /// Something answered what nobody understands.
    #[error("unexpected answer: {what}")]
    Protocol {
        /// The answer, or what is wrong with it.
        what: String,
    },
    /// A name that the lab does not know.
    #[error("no such {kind}: {name}")]
    Unknown {
        /// Node, pod, …
        kind: &'static str,
        /// The name.
        name: String,
    },
}

/// Names what was being tried when an IO call failed.
pub(crate) trait Context<T> {
    /// The same result with `what` as the error's text.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| LabError::Io { what: what(), source: source.into() })
    }
}
