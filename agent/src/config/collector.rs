//! Where reports go, and by which certificates.

use std::{net::IpAddr, path::PathBuf};

use super::ConfigError;

/// Certificates of a connection to the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who signs the collector's.
    pub ca: PathBuf,
    /// The agent's own.
    pub identity: Option<Identity>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Where reports go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collector {
    /// A host name or address, and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// How the connection is encrypted; not at all without.
        tls: Option<TlsFiles>,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Collector {
    /// What it is asked as: a proxy before it may tell collectors apart by this alone.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self::Tcp { host, port, tls } = self else { return "collector".to_owned() };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let usual = if tls.is_some() { 443 } else { 80 };
        if *port == usual { host } else { format!("{host}:{port}") }
    }
}

pub(super) fn read(given: &str, ca: Option<PathBuf>, identity: Option<Identity>) -> Result<Collector, ConfigError> {
    let wrong = || ConfigError::Collector { given: given.to_owned() };
    let unfit = |what, hint| ConfigError::Certificates { given: what, collector: given.to_owned(), hint };
    let tls = match (given.starts_with("https://"), ca) {
        (true, Some(ca)) => Some(TlsFiles { ca, identity }),
        (true, None) => return Err(unfit("no --ca-file", "the certificate of who signed the collector's")),
        (false, Some(_)) => return Err(unfit("--ca-file", "https://HOST:PORT")),
        (false, None) if identity.is_some() => return Err(unfit("--cert-file", "https://HOST:PORT, with --ca-file")),
        (false, None) => None,
    };
    if let Some(path) = given.strip_prefix("unix:") {
        return if path.is_empty() { Err(wrong()) } else { Ok(Collector::Unix(PathBuf::from(path))) };
    }
    let authority = given.strip_prefix("http://").or_else(|| given.strip_prefix("https://"));
    let authority = authority.ok_or_else(wrong)?.trim_end_matches('/');
    let authority: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(7381);
    if host.is_empty() || (host.contains(':') && host.parse::<IpAddr>().is_err()) {
        return Err(wrong());
    }
    Ok(Collector::Tcp { host, port, tls })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Collector, Identity, TlsFiles};
    use crate::config::{Args, Config};

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let args = Args::try_parse_from([&["orrery-agent"], arguments].concat()).map_err(|error| error.to_string())?;
        Config::try_from(args).map_err(|error| error.to_string())
    }

    #[test]
    fn collectors() {
        let collector = |given| parse(&["--node", "n", "--collector", given]).map(|config| config.collector);
        assert_eq!(collector("unix:/run/x"), Ok(Collector::Unix("/run/x".into())));
        assert_eq!(collector("http://c:1"), Ok(Collector::Tcp { host: "c".into(), port: 1, tls: None }));
        assert_eq!(collector("http://c"), Ok(Collector::Tcp { host: "c".into(), port: 7381, tls: None }));
        assert_eq!(collector("http://[::1]:9"), Ok(Collector::Tcp { host: "::1".into(), port: 9, tls: None }));
        for (given, asked) in [
            ("http://c.example", "c.example:7381"),
            ("http://c:80", "c"),
            ("http://[::1]:9", "[::1]:9"),
            ("unix:/run/x", "collector"),
        ] {
            assert_eq!(collector(given).map(|collector| collector.authority()), Ok(asked.to_owned()));
        }
        for wrong in ["", "c:1", "https://c", "ftp://c", "unix:", "http://", "http://a b"] {
            assert!(collector(wrong).is_err_and(|error| error.contains("hint: ")), "{wrong}");
        }
    }

    #[test]
    fn certificates_go_with_https_alone() {
        let check = |args: &[&str]| parse(&[&["--node", "n"], args].concat());
        let both = ["--cert-file", "c", "--key-file", "k"];
        let config = check(&[&["--collector", "https://c", "--ca-file", "a"], &both[..]].concat()).expect("valid");
        let identity = Some(Identity { cert: "c".into(), key: "k".into() });
        let tls = Some(TlsFiles { ca: "a".into(), identity });
        assert_eq!(config.collector, Collector::Tcp { host: "c".into(), port: 7381, tls });
        for wrong in [
            &["--collector", "https://c"][..],
            &["--collector", "http://c", "--ca-file", "a"],
            &["--collector", "unix:/c", "--ca-file", "a"],
            &["--collector", "unix:/c", "--cert-file", "c", "--key-file", "k"],
        ] {
            assert!(check(wrong).is_err_and(|error| error.contains("hint: ")), "{wrong:?}");
        }
        assert!(check(&["--cert-file", "c"]).is_err());
    }
}
