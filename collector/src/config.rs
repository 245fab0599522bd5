//! What was typed, and what it means.

mod error;
pub mod security;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;

pub use self::error::ConfigError;
use self::security::{Security, SecurityArgs};
use crate::{
    history,
    hubble::{beside::BesideArgs, client::Server},
    kubernetes::connect::Access,
    merge::Bounds,
    serve,
    time::{Ns, SECOND},
};

/// Where a pod finds its service account's token.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Merges the reports of all agents into one live graph and serves it to browsers.
#[derive(Debug, Parser)]
#[command(name = "orrery-collector", version)]
pub struct Args {
    /// Where the page and its API listen; loopback only, unless told otherwise.
    #[arg(long, env = "ORRERY_LISTEN", default_value = "127.0.0.1:7380", value_name = "ADDRESS:PORT")]
    pub listen: String,
    /// Where agents report: ADDRESS:PORT or unix:PATH; may be given more than once. [default: 127.0.0.1:7381]
    #[arg(long, env = "ORRERY_REPORT_LISTEN", value_name = "WHERE", value_delimiter = ',')]
    pub report_listen: Vec<String>,
    /// Where Hubble's Observer API is answered, for `hubble --server`: ADDRESS:PORT (Hubble's relay has 4245) or unix:PATH; off
    /// by default.
    #[arg(long, env = "ORRERY_HUBBLE_LISTEN", value_name = "WHERE", conflicts_with = "replay")]
    pub hubble_listen: Option<String>,
    /// Where names come from. `auto`: the file where --pods is given, else the Kubernetes API where this runs in a pod with a
    /// service account or --kubeconfig is given, else nowhere.
    #[arg(long, env = "ORRERY_NAMES", default_value = "auto", value_name = "SOURCE")]
    pub names: NamesFrom,
    /// Kubeconfig for the API: instead of the pod's service account, or $KUBECONFIG, or ~/.kube/config.
    #[arg(long, env = "ORRERY_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, env = "ORRERY_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// Names: what `kubectl get pods,services,nodes -A -o json` wrote; read again whenever it changes.
    #[arg(long, env = "ORRERY_PODS", value_name = "FILE")]
    pub pods: Option<PathBuf>,
    /// The cluster's name on the page.
    #[arg(long, env = "ORRERY_CLUSTER", default_value = "cluster", value_name = "NAME")]
    pub cluster: String,
    /// Keep every report that is taken in, for --replay.
    #[arg(long, env = "ORRERY_RECORD", value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// How large a recording may grow.
    #[arg(long, env = "ORRERY_RECORD_MAX", default_value = "64MiB", value_name = "SIZE")]
    pub record_max: String,
    /// Play a recording instead of listening for reports.
    #[arg(long, env = "ORRERY_REPLAY", value_name = "FILE", conflicts_with_all = ["record", "report_listen", "pods", "kubeconfig", "context"])]
    pub replay: Option<PathBuf>,
    /// Begin the recording again when it is over.
    #[arg(long, env = "ORRERY_REPLAY_LOOP", requires = "replay")]
    pub replay_loop: bool,
    /// Keep totals and the last hour here over restarts.
    #[arg(long, env = "ORRERY_STATE_DIR", value_name = "DIR", conflicts_with = "replay")]
    pub state_dir: Option<PathBuf>,
    /// How large the kept state may grow.
    #[arg(long, env = "ORRERY_STATE_MAX", default_value = "1GiB", value_name = "SIZE")]
    pub state_max: String,
    /// How long an ended edge stays on the map.
    #[arg(long, env = "ORRERY_RETENTION", default_value = "10m", value_name = "DURATION")]
    pub retention: String,
    /// Hubble, to be compared with.
    #[command(flatten)]
    pub hubble: BesideArgs,
    /// What is logged: error, warn, info, debug or trace, or a filter as in `info,collector::hub=debug`.
    #[arg(long, env = "ORRERY_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,
    /// Encryption and credentials.
    #[command(flatten)]
    pub security: SecurityArgs,
    /// A client that takes nothing for this long is cut (for tests).
    #[arg(long, hide = true, default_value_t = 20_000, value_name = "MILLISECONDS")]
    pub stalled_ms: u64,
    /// A connection without a request is cut after this long (for tests).
    #[arg(long, hide = true, default_value_t = serve::HEAD.as_millis() as u64, value_name = "MILLISECONDS")]
    pub head_ms: u64,
    /// Connections of a port at the most (for tests).
    #[arg(long, hide = true)]
    pub bound_connections: Option<usize>,
    /// Rows held at the most (for tests).
    #[arg(long, hide = true, default_value_t = Bounds::default().rows)]
    pub bound_rows: usize,
    /// Nodes held at the most (for tests).
    #[arg(long, hide = true, default_value_t = Bounds::default().nodes)]
    pub bound_nodes: usize,
    /// Seconds a bucket of the history has (for tests).
    #[arg(long, hide = true, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub history_bucket: u32,
}

/// Where names come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NamesFrom {
    /// What the other arguments and the surroundings say.
    Auto,
    /// The Kubernetes API.
    Kubernetes,
    /// A file.
    File,
    /// Nowhere: everything goes by its address.
    None,
}

/// Where names come from, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The Kubernetes API.
    Kubernetes(Access),
    /// A file.
    File(PathBuf),
    /// Nowhere.
    None,
}

/// Where reports come in, or Hubble's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What is meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the page and its API listen.
    pub listen: SocketAddr,
    /// Where agents report.
    pub report_listen: Vec<ReportAddress>,
    /// Where Hubble's API is answered, if anywhere.
    pub hubble_listen: Option<ReportAddress>,
    /// Where names come from.
    pub names: Source,
    /// The cluster's name.
    pub cluster: String,
    /// Where to record, and how much.
    pub record: Option<(PathBuf, u64)>,
    /// What to replay, and whether again and again.
    pub replay: Option<(PathBuf, bool)>,
    /// Where state is kept, and how much.
    pub state: Option<(PathBuf, u64)>,
    /// The Hubble server that is followed, and whether its words are laid over our edges.
    pub hubble: Option<(Server, bool)>,
    /// What is held.
    pub bounds: Bounds,
    /// What is remembered.
    pub history: history::Span,
    /// A client that takes nothing for this long is cut.
    pub stalled: Duration,
    /// A connection without a request is cut after this long.
    pub head: Duration,
    /// Connections of each port at the most, where it is not the ordinary bound.
    pub connections: Option<usize>,
    /// What is logged.
    pub log_level: String,
    /// Which ports are encrypted, and who may ask on them.
    pub security: Security,
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let address = |flag, value: &str, hint| {
            value.parse::<SocketAddr>().map_err(|_| ConfigError::Address { flag, value: value.to_owned(), hint })
        };
        let names = source(&args)?;
        let mut report_listen = Vec::new();
        let anywhere = |flag, value: &str, hint| match value.strip_prefix("unix:") {
            Some("") => Err(ConfigError::Socket { flag, value: value.to_owned() }),
            Some(path) => Ok(ReportAddress::Unix(Path::new(path).to_owned())),
            None => address(flag, value, hint).map(ReportAddress::Tcp),
        };
        for value in &args.report_listen {
            report_listen.push(anywhere("report-listen", value, "127.0.0.1:7381 or unix:PATH")?);
        }
        let hubble_listen = args.hubble_listen.as_ref();
        let hubble_listen =
            hubble_listen.map(|value| anywhere("hubble-listen", value, "127.0.0.1:4245 or unix:PATH")).transpose()?;
        if report_listen.is_empty() && args.replay.is_none() {
            report_listen.push(ReportAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 7381))));
        }
        let retention = humantime::parse_duration(&args.retention)
            .ok()
            .and_then(|duration| Ns::try_from(duration.as_nanos()).ok())
            .ok_or_else(|| ConfigError::Duration { value: args.retention.clone() })?;
        let bytes = |flag, value: &str| size(value).ok_or_else(|| ConfigError::Size { flag, value: value.to_owned() });
        let record_max = bytes("record-max", &args.record_max)?;
        let state_max = bytes("state-max", &args.state_max)?;
        if args.cluster.is_empty() || args.cluster.len() > 253 {
            return Err(ConfigError::Cluster);
        }
        if tracing_subscriber::EnvFilter::try_new(&args.log_level).is_err() {
            return Err(ConfigError::LogLevel { value: args.log_level });
        }
        let hubble = args.hubble.server().map_err(|error| ConfigError::Hubble(error.to_string()))?;
        let listen = address("listen", &args.listen, "127.0.0.1:7380")?;
        let access = Access { kubeconfig: args.kubeconfig, context: args.context };
        let security = security::read(args.security, access, listen, &report_listen, hubble_listen.as_ref())?;
        Ok(Self {
            listen,
            security,
            report_listen,
            hubble_listen,
            names,
            cluster: args.cluster,
            record: args.record.map(|path| (path, record_max)),
            state: args.state_dir.map(|dir| (dir, state_max)),
            replay: args.replay.map(|path| (path, args.replay_loop)),
            hubble,
            bounds: Bounds { rows: args.bound_rows, nodes: args.bound_nodes, retention, ..Bounds::default() },
            history: history::Span { bucket: Ns::from(args.history_bucket) * SECOND, ..history::Span::default() },
            stalled: Duration::from_millis(args.stalled_ms),
            head: Duration::from_millis(args.head_ms),
            connections: args.bound_connections,
            log_level: args.log_level,
        })
    }
}

fn source(args: &Args) -> Result<Source, ConfigError> {
    let access = Access { kubeconfig: args.kubeconfig.clone(), context: args.context.clone() };
    let wants_api = access != Access::default();
    let wrong = |asked, given, hint| Err(ConfigError::Names { asked, given, hint });
    match (args.names, &args.pods) {
        (NamesFrom::Auto | NamesFrom::File, Some(_)) if wants_api => {
            wrong("file", "--kubeconfig or --context", "--pods FILE alone, or --names kubernetes")
        }
        (NamesFrom::Auto | NamesFrom::File, Some(path)) => Ok(Source::File(path.clone())),
        (NamesFrom::File, None) => wrong("file", "no --pods", "--pods FILE"),
        (NamesFrom::Kubernetes, Some(_)) => wrong("kubernetes", "--pods", "one source of names"),
        (NamesFrom::None, Some(_)) => wrong("none", "--pods", "one source of names"),
        (NamesFrom::None, None) if wants_api => wrong("none", "--kubeconfig or --context", "--names kubernetes"),
        (NamesFrom::None, None) => Ok(Source::None),
        (NamesFrom::Kubernetes, None) => Ok(Source::Kubernetes(access)),
        // A service account without a token is none: the API is then asked only when told to.
        (NamesFrom::Auto, None) if args.replay.is_none() && (wants_api || Path::new(SERVICE_ACCOUNT).exists()) => {
            Ok(Source::Kubernetes(access))
        }
        (NamesFrom::Auto, None) => Ok(Source::None),
    }
}

/// A number of bytes with a binary unit.
fn size(text: &str) -> Option<u64> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Args, Config, ConfigError, ReportAddress};

    fn check(args: &[&str]) -> Result<Config, ConfigError> {
        let words = std::iter::once("orrery-collector").chain(args.iter().copied());
        Config::try_from(Args::try_parse_from(words).expect("clap takes it"))
    }

    #[test]
    fn defaults_are_loopback() {
        let config = check(&[]).expect("valid");
        assert!(config.listen.ip().is_loopback());
        assert_eq!(config.report_listen, [ReportAddress::Tcp("127.0.0.1:7381".parse().expect("address"))]);
        assert_eq!(config.hubble_listen, None, "whoever reaches it sees all flows");
    }

    #[test]
    fn a_replay_needs_no_report_listener() {
        assert!(check(&["--replay", "x"]).expect("valid").report_listen.is_empty());
    }

    #[test]
    fn sizes_and_sockets() {
        let config = check(&[
            "--record",
            "r",
            "--record-max",
            "2MiB",
            "--report-listen",
            "unix:/a",
            "--report-listen",
            "127.0.0.1:0",
        ]);
        let config = config.expect("valid");
        assert_eq!(config.record.expect("recording").1, 2 << 20);
        assert_eq!(config.report_listen.len(), 2);
    }

    #[test]
    fn names_come_from_one_place() {
        use super::Source;
        use crate::kubernetes::connect::Access;
        assert_eq!(check(&[]).expect("valid").names, Source::None);
        assert_eq!(check(&["--pods", "p"]).expect("valid").names, Source::File("p".into()));
        assert_eq!(check(&["--names", "none"]).expect("valid").names, Source::None);
        let api = |args| match check(args).expect("valid").names {
            Source::Kubernetes(access) => access,
            other => panic!("{other:?}"),
        };
        assert_eq!(api(&["--names", "kubernetes"]), Access::default());
        let named = Access { kubeconfig: Some("k".into()), context: Some("c".to_owned()) };
        assert_eq!(api(&["--kubeconfig", "k", "--context", "c"]), named);
        for args in [
            &["--names", "file"][..],
            &["--names", "kubernetes", "--pods", "p"],
            &["--names", "none", "--pods", "p"],
            &["--names", "none", "--kubeconfig", "k"],
            &["--pods", "p", "--kubeconfig", "k"],
        ] {
            assert!(check(args).expect_err("refused").to_string().contains("hint"));
        }
    }

    #[test]
    fn nonsense_is_said() {
        for args in [
            &["--listen", "7380"][..],
            &["--report-listen", "unix:"],
            &["--hubble-listen", "unix:"],
            &["--hubble-listen", "4245"],
            &["--report-listen", "somewhere"],
            &["--record-max", "big"],
            &["--retention", "soon"],
            &["--cluster", ""],
            &["--hubble-server", "nowhere"],
            &["--log-level", "lo=ud=er"],
        ] {
            let error = check(args).expect_err("refused");
            assert!(!error.to_string().is_empty());
        }
    }
}
