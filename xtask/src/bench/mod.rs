//! `cargo xtask bench`: speeds that are promised, measured from outside through the lab.

mod kernel;
mod latency;
mod names;
mod overload;
mod process;
mod road;
mod sender;
mod stream;
mod ui;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// From the first packet of a new edge to the first bytes on the stream that name it
    Latency {
        /// New edges to make
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=i64::from(latency::MOST_EDGES)))]
        edges: u16,
    },
    /// What the kernel side costs a packet, and the agent a flow
    Kernel(kernel::Args),
    /// Names of 12,000 edges against a ledger: 5,000 pods that hand on their addresses, everything told late
    Names(names::Args),
    /// Records a second of one core, from a report's body to a delta, beside upserts into a hash table
    Merge,
    /// Bytes of a record on the wire, and of a summary for each flow in it
    Wire,
    /// The collector's time for each delta to each of a thousand clients, beside a bare loop of sends
    Stream(stream::Args),
    /// A collector that gets too little time: what it does not take, it counts
    Overload(overload::Args),
    /// The page in a browser without a GPU, fed by a cluster of any size
    Ui {
        #[command(flatten)]
        size: crate::load::Size,
        /// Port of the collector on 127.0.0.1
        #[arg(long, default_value_t = 7396)]
        port: u16,
        /// Watch the heap for so many seconds while pods come and go: 1800 is the long form, 0 leaves it out
        #[arg(long, default_value_t = 180, value_name = "SECONDS")]
        churn_for: u32,
    },
}

impl Args {
    /// Whether it is measured in the lab.
    pub(crate) fn in_lab(&self) -> bool {
        matches!(self.bench, Bench::Latency { .. } | Bench::Kernel(_))
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.bench {
        Bench::Latency { edges } => latency::run(*edges),
        Bench::Kernel(args) => kernel::run(args),
        Bench::Names(args) => names::run(args),
        Bench::Merge => road::run("merge"),
        Bench::Wire => road::run("wire"),
        Bench::Stream(args) => stream::run(args),
        Bench::Overload(args) => overload::run(args),
        Bench::Ui { size, port, churn_for } => ui::run(size, *port, *churn_for),
    }
}

/// What every result is told with: the kernel and how busy the machine is.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("kernel {}  {cpus} cores  load {}", read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"))
}
