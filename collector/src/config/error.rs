//! What can be wrong with what was typed.

use std::net::SocketAddr;

/// Why the configuration makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Not an address with a port.
    #[error("--{flag} is no address: {value}; hint: an address and a port, such as {hint}")]
    Address {
        /// Which flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        hint: &'static str,
    },
    /// A file is named, but another source asked for; or the other way round.
    #[error("--names {asked} and {given} do not go together; hint: {hint}")]
    Names {
        /// The source.
        asked: &'static str,
        /// What was given, or not given.
        given: &'static str,
        /// What would do.
        hint: &'static str,
    },
    /// Not a size.
    #[error("--{flag} is no size: {value}; hint: 500KiB, 64MiB, 2GiB")]
    Size {
        /// Which flag.
        flag: &'static str,
        /// What was given.
        value: String,
    },
    /// Not a duration.
    #[error("--retention is no duration: {value}; hint: 90s, 10m, 1h")]
    Duration {
        /// What was given.
        value: String,
    },
    /// An empty path.
    #[error("--{flag} names no socket: {value}; hint: unix:/run/orrery/{flag}.sock")]
    Socket {
        /// Which flag.
        flag: &'static str,
        /// What was given.
        value: String,
    },
    /// An empty cluster name, or a very long one.
    #[error("--cluster is empty or over 253 bytes")]
    Cluster,
    /// No Hubble server.
    #[error("--hubble-server: {0}")]
    Hubble(String),
    /// A port that anybody could ask, without having been told so.
    #[error("--{flag} {address} is open to others, and nothing says who may ask there; hint: {hint}")]
    Open {
        /// Which flag.
        flag: &'static str,
        /// Where.
        address: SocketAddr,
        /// What would do.
        hint: &'static str,
    },
    /// Not what describes a credential.
    #[error("--{flag} not understood: {value}; hint: {hint}")]
    Credential {
        /// Which flag.
        flag: &'static str,
        /// What was given; never a credential itself.
        value: String,
        /// What would do.
        hint: String,
    },
    /// Not a filter.
    #[error("--log-level is no filter: {value}; hint: error, warn, info, debug or trace")]
    LogLevel {
        /// What was given.
        value: String,
    },
}
