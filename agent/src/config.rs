//! The command line: what was typed ([`Args`]) and what it means ([`Config`]).

mod collector;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use globset::{Glob, GlobSet, GlobSetBuilder};
use tracing_subscriber::{EnvFilter, filter::ParseError};

pub use self::collector::{Collector, Identity, TlsFiles};
use crate::{dns::NameMode, facts::Form, scope::Scope};

/// Watches what the pods of this node say to each other and tells the collector.
#[derive(Debug, Clone, Parser)]
#[command(name = "orrery-agent", version)]
pub struct Args {
    /// Something else than to watch.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Name of this node, as the cluster knows it.
    #[arg(long, env = "ORRERY_NODE", value_name = "NAME")]
    pub node: Option<String>,

    /// Where reports go: `https://HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.
    #[arg(long, env = "ORRERY_COLLECTOR", value_name = "URL", default_value = "http://127.0.0.1:7381")]
    pub collector: String,

    /// Who signs the collector's certificate (PEM), for `https`; read again with each connection.
    #[arg(long, env = "ORRERY_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// This agent's certificate (PEM), where the collector wants one; read again with each connection.
    #[arg(long, env = "ORRERY_CERT_FILE", value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,

    /// Its key.
    #[arg(long, env = "ORRERY_KEY_FILE", value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,

    /// A token for the report port, and for nothing else; read again when the file changes.
    #[arg(long, env = "ORRERY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Unix socket for health and metrics.
    #[arg(long, env = "ORRERY_ADMIN_SOCKET", value_name = "PATH", default_value = "/run/orrery/agent.sock")]
    pub admin_socket: PathBuf,

    /// Devices to watch, by glob; without it, every device whose peer is in another network namespace and that is not
    /// an uplink. May be repeated.
    #[arg(long, env = "ORRERY_DEVICES", value_name = "GLOB", value_delimiter = ',')]
    pub devices: Vec<String>,

    /// How devices are watched: by the best that each grants, or by this alone.
    #[arg(long, env = "ORRERY_TIER", value_name = "TIER", default_value = "auto")]
    pub tier: TierChoice,

    /// A directory of the cgroup v2 hierarchy: sockets outside it are not this node's.
    #[arg(long, env = "ORRERY_SCOPE_CGROUP", value_name = "PATH")]
    pub scope_cgroup: Option<PathBuf>,

    /// A folder on a BPF file system that keeps our programs in place from one run to the next, or `off`; without it,
    /// /sys/fs/bpf/orrery where that can be.
    #[arg(long, env = "ORRERY_PIN_PATH", value_name = "DIR", global = true)]
    pub pin_path: Option<PathBuf>,

    /// Edges held at once; what comes after counts into `other`.
    #[arg(long, env = "ORRERY_MAX_EDGES", value_name = "N", default_value_t = 65_536)]
    pub max_edges: usize,

    /// Flows the kernel side holds at once; what comes after goes through the event ring.
    #[arg(long, env = "ORRERY_MAX_FLOWS", value_name = "N", default_value_t = agent_ebpf::abi::MAX_FLOWS)]
    pub max_flows: u32,

    /// An edge without traffic for this long leaves the table.
    #[arg(long, env = "ORRERY_RETIRE_AFTER", value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub retire_after: Duration,

    /// How much of the names in DNS messages leaves the node: whole names, only their last two labels, or none.
    #[arg(long, env = "ORRERY_DNS_NAMES", value_enum, default_value_t)]
    pub dns_names: NameMode,

    /// Network namespaces whose sockets and drops are this agent's, by glob over files such as /run/netns/NAME; without it
    /// all of the machine's. May be repeated.
    #[arg(long, env = "ORRERY_SCOPE_NETNS", value_name = "GLOB")]
    pub scope_netns: Vec<String>,

    /// What is logged: error, warn, info, debug or trace, or a filter such as `info,agent=debug`.
    #[arg(long, env = "ORRERY_LOG_LEVEL", value_name = "FILTER", default_value = "info")]
    pub log_level: String,

    /// Shifts this agent's wall clock, to try what a wrong one does: `500ms` or `-500ms`.
    #[arg(long, hide = true, allow_hyphen_values = true, value_name = "DURATION", default_value = "0s")]
    pub clock_skew: String,

    /// Learns about sockets and drops by hooks of one form only.
    #[arg(long, hide = true, value_name = "FORM")]
    pub hook_form: Option<Form>,

    /// Loads the eBPF programs from a file instead of those built in.
    #[arg(long, hide = true, value_name = "FILE")]
    pub ebpf_object: Option<PathBuf>,
}

/// What the agent does beside watching.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Removes the pins and filters that an agent left which did not end by itself. Nothing else is touched.
    Cleanup,
    /// Asks the agent behind the admin socket how it is; exits with 1 where nobody answers.
    Health,
}

/// How devices are to be watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TierChoice {
    /// By the best that each grants.
    #[default]
    Auto,
    /// At the head of the device's TCX chains (Linux 6.6 and newer).
    Tcx,
    /// By filters on the device's clsact qdisc.
    Clsact,
    /// On the cgroup of the pods' sockets.
    CgroupSkb,
    /// By the sockets alone.
    Sockets,
}

/// Where links are pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PinPath {
    /// At the usual place, if it can be.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// In this folder.
    At(PathBuf),
}

impl From<Option<PathBuf>> for PinPath {
    fn from(given: Option<PathBuf>) -> Self {
        match given {
            None => Self::Auto,
            Some(path) if path.as_os_str() == "off" => Self::Off,
            Some(path) => Self::At(path),
        }
    }
}

/// What the command line means.
#[derive(Debug)]
pub struct Config {
    /// Name of this node.
    pub node: String,
    /// Where reports go.
    pub collector: Collector,
    /// What opens the report port, if anything must.
    pub token_file: Option<PathBuf>,
    /// Socket for health and metrics.
    pub admin_socket: PathBuf,
    /// Devices to watch; `None` for the rule.
    pub devices: Option<GlobSet>,
    /// Devices asked for by their very name: they must be there at the start.
    pub named_devices: Vec<String>,
    /// How devices are watched.
    pub tier: TierChoice,
    /// Sockets outside this cgroup are not this node's.
    pub scope_cgroup: Option<PathBuf>,
    /// Where links are pinned.
    pub pin_path: PinPath,
    /// Edges held at once.
    pub max_edges: usize,
    /// Flows the kernel side holds at once.
    pub max_flows: u32,
    /// When a silent edge retires.
    pub retire_after: Duration,
    /// How much of a DNS name leaves the node.
    pub dns_names: NameMode,
    /// Namespaces that are this agent's; `None` for all.
    pub scope_netns: Option<Scope>,
    /// The one form of hook that may be used for facts.
    pub hook_form: Option<Form>,
    /// Log filter.
    pub log_level: EnvFilter,
    /// Nanoseconds added to the wall clock.
    pub clock_skew_ns: i64,
    /// Programs from a file.
    pub ebpf_object: Option<PathBuf>,
}

/// What is wrong with the command line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No name, or one that cannot be a node's.
    #[error("node name missing or not 1 to 253 bytes; hint: --node NAME, as `kubectl get nodes` shows it")]
    Node,
    /// Neither form of address.
    #[error("collector address not understood: {given}; hint: https://HOST:PORT, http://HOST:PORT or unix:PATH")]
    Collector {
        /// What was typed.
        given: String,
    },
    /// Certificates and the address do not go together.
    #[error("{given} does not go with --collector {collector}; hint: {hint}")]
    Certificates {
        /// What is there, or not there.
        given: &'static str,
        /// The collector's address.
        collector: String,
        /// What would do.
        hint: &'static str,
    },
    /// A glob that is none.
    #[error("device glob not understood: {given}")]
    Glob {
        /// What was typed.
        given: String,
        /// Why.
        #[source]
        source: globset::Error,
    },
    /// Globs of namespaces that cannot be looked for.
    #[error("--scope-netns not understood: {given}; hint: /run/netns/NAME with wildcards in NAME only")]
    ScopeNetns {
        /// What was typed.
        given: String,
    },
    /// A log filter that is none.
    #[error("--log-level is no filter: {given}; hint: error, warn, info, debug or trace")]
    LogLevel {
        /// What was typed.
        given: String,
        /// Why.
        #[source]
        source: ParseError,
    },
    /// A number out of range.
    #[error("{option} out of range: {given}; hint: {hint}")]
    Range {
        /// The option.
        option: &'static str,
        /// What was typed.
        given: String,
        /// What goes.
        hint: &'static str,
    },
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let node = args.node.filter(|node| (1..=wire::codec::MAX_NODE_NAME_BYTES).contains(&node.len()));
        let (devices, named_devices) = device_globs(&args.devices)?;
        if !(1..=wire::limits::MAX_EDGES).contains(&args.max_edges) {
            return Err(ConfigError::Range {
                option: "--max-edges",
                given: args.max_edges.to_string(),
                hint: "1 to 65536",
            });
        }
        if args.retire_after < Duration::from_secs(10) {
            return Err(ConfigError::Range {
                option: "--retire-after",
                given: humantime::format_duration(args.retire_after).to_string(),
                hint: "10s or more",
            });
        }
        if !(64..=4_194_304).contains(&args.max_flows) {
            return Err(ConfigError::Range {
                option: "--max-flows",
                given: args.max_flows.to_string(),
                hint: "64 to 4194304",
            });
        }
        let identity = args.cert_file.zip(args.key_file).map(|(cert, key)| Identity { cert, key });
        let scope = Scope::new(&args.scope_netns);
        let scope = scope.ok_or_else(|| ConfigError::ScopeNetns { given: args.scope_netns.join(" ") })?;
        Ok(Self {
            scope_netns: (!args.scope_netns.is_empty()).then_some(scope),
            hook_form: args.hook_form,
            node: node.ok_or(ConfigError::Node)?,
            collector: collector::read(&args.collector, args.ca_file, identity)?,
            token_file: args.token_file,
            admin_socket: args.admin_socket,
            devices,
            named_devices,
            tier: args.tier,
            scope_cgroup: args.scope_cgroup,
            pin_path: args.pin_path.into(),
            max_edges: args.max_edges,
            max_flows: args.max_flows,
            retire_after: args.retire_after,
            dns_names: args.dns_names,
            log_level: args
                .log_level
                .parse()
                .map_err(|source| ConfigError::LogLevel { given: args.log_level.clone(), source })?,
            clock_skew_ns: skew(&args.clock_skew)?,
            ebpf_object: args.ebpf_object,
        })
    }
}

fn device_globs(given: &[String]) -> Result<(Option<GlobSet>, Vec<String>), ConfigError> {
    if given.is_empty() {
        return Ok((None, Vec::new()));
    }
    let wrong = |given: &str| {
        let given = given.to_owned();
        move |source| ConfigError::Glob { given, source }
    };
    let mut set = GlobSetBuilder::new();
    for pattern in given {
        set.add(Glob::new(pattern).map_err(wrong(pattern))?);
    }
    let named = given.iter().filter(|pattern| !pattern.contains(['*', '?', '[', '{'])).cloned().collect();
    Ok((Some(set.build().map_err(wrong(&given.join(",")))?), named))
}

fn skew(given: &str) -> Result<i64, ConfigError> {
    let wrong = || ConfigError::Range {
        option: "--clock-skew",
        given: given.to_owned(),
        hint: "a duration such as 500ms or -500ms",
    };
    let (sign, length) = given.strip_prefix('-').map_or((1, given), |length| (-1, length));
    let nanos = humantime::parse_duration(length).map_err(|_| wrong())?.as_nanos();
    Ok(sign * i64::try_from(nanos).map_err(|_| wrong())?)
}

#[cfg(test)]
mod tests {
    use super::{Args, Config};
    use clap::Parser as _;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let args = Args::try_parse_from([&["orrery-agent"], arguments].concat()).map_err(|error| error.to_string())?;
        Config::try_from(args).map_err(|error| error.to_string())
    }

    #[test]
    fn names_ranges_and_skew() {
        assert!(parse(&[]).is_err_and(|error| error.contains("--node NAME")));
        assert!(parse(&["--node", "n", "--max-edges", "0"]).is_err());
        assert!(parse(&["--node", "n", "--devices", "a["]).is_err());
        assert!(parse(&["--node", "n", "--scope-netns", "x"]).is_err_and(|error| error.contains("hint: ")));
        assert!(parse(&["--node", "n"]).is_ok_and(|config| config.scope_netns.is_none()));
        assert!(parse(&["--node", "n", "--retire-after", "1s"]).is_err());
        assert!(parse(&["--node", "n", "--log-level", "lo=ud=er"]).is_err_and(|error| error.contains("hint: ")));
        let config = parse(&["--node", "n", "--clock-skew", "-500ms", "--devices", "lxc*,eth7"]).expect("valid");
        assert_eq!(config.clock_skew_ns, -500_000_000);
        assert_eq!(config.named_devices, ["eth7"]);
        assert!(config.devices.is_some_and(|globs| globs.is_match("lxc12") && !globs.is_match("eth0")));
    }
}
