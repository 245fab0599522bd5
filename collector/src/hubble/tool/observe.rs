//! Prints flows, as `hubble observe` does.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use prost_types::Timestamp;
use tokio::sync::{mpsc, watch};

use super::{FlowForm, TlsArgs};
use crate::{
    clock,
    hubble::{
        client::{self, Event, QUEUE, Server},
        json::Response,
        print,
        proto::{
            flow::{FlowFilter, Verdict},
            observer::{GetFlowsRequest, get_flows_response::ResponseTypes},
        },
        server::filter::Filters as Lists,
    },
    time::SECOND,
};

/// The longest line of a file that is read, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Flows shown where nothing else is asked for.
const SHOWN: u64 = 20;
/// Flows that `--last` of a file may keep.
const MAX_LAST: u64 = 1 << 20;

/// What `observe` is told.
#[derive(Debug, Args)]
pub struct Observe {
    /// Who is asked: HOST:PORT, tls://HOST:PORT or unix:PATH.
    #[arg(
        long,
        env = "HUBBLE_SERVER",
        default_value = "localhost:4245",
        value_name = "SERVER",
        conflicts_with = "input_file"
    )]
    server: String,
    /// What `hubble observe -o jsonpb` wrote; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    input_file: Option<PathBuf>,
    /// How flows are printed.
    #[arg(short, long, default_value = "compact", value_name = "FORM")]
    output: FlowForm,
    /// Go on with what comes.
    #[arg(short, long, conflicts_with = "input_file")]
    follow: bool,
    /// The newest N flows. [default: 20, unless --follow, --since, --until or --input-file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_LAST))]
    last: Option<u64>,
    /// Flows from then on: 5m ago, or 2026-11-21T02:13:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Flows until then.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Put the node's name into compact lines.
    #[arg(long)]
    print_node_name: bool,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    tls: TlsArgs,
}

/// Filters. Values of one kind: any of them. Different kinds: all of them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters (`--not` before one reverses it)")]
struct Filters {
    /// An end in the namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// An end that is such a pod: [NAMESPACE/]PREFIX; without one, of the namespace `default`, as `hubble` has it.
    #[arg(long, value_name = "POD")]
    pod: Vec<String>,
    /// From such a pod.
    #[arg(long, value_name = "POD")]
    from_pod: Vec<String>,
    /// To such a pod.
    #[arg(long, value_name = "POD")]
    to_pod: Vec<String>,
    /// An end with the address, or in the network: 10.0.0.0/8.
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<String>,
    /// A port of either end.
    #[arg(long, value_name = "PORT")]
    port: Vec<String>,
    /// tcp, udp, icmp, icmpv4, icmpv6, sctp, dns, http.
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Vec<String>,
    /// FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED.
    #[arg(long, value_name = "VERDICT", value_parser = verdict)]
    verdict: Vec<(bool, Verdict)>,
    /// Told by the node; `*` stands for any text.
    #[arg(long, value_name = "NODE")]
    node_name: Vec<String>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    let at = |time: std::time::SystemTime| Timestamp::from(time);
    if let Ok(ago) = humantime::parse_duration(text) {
        let ns = clock::now().saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX));
        return Ok(Timestamp { seconds: ns.div_euclid(SECOND), nanos: (ns.rem_euclid(SECOND)) as i32 });
    }
    humantime::parse_rfc3339_weak(text).map(at).map_err(|_| "no time; hint: 5m, or 2026-11-21T02:13:00Z".to_owned())
}

fn verdict(text: &str) -> Result<(bool, Verdict), String> {
    let (not, name) = text.strip_prefix('!').map_or((false, text), |name| (true, name));
    let known = Verdict::from_str_name(&name.to_ascii_uppercase());
    known.map(|verdict| (not, verdict)).ok_or_else(|| "no verdict; hint: FORWARDED, DROPPED, TRACED".to_owned())
}

/// One filter for each side that an end may be on.
#[derive(Default)]
struct Sides([FlowFilter; 2]);

impl Sides {
    fn each(&mut self, add: impl Fn(&mut FlowFilter)) {
        self.0.iter_mut().for_each(add);
    }

    fn filters(self) -> Vec<FlowFilter> {
        let [left, right] = self.0;
        match (left == FlowFilter::default(), left == right) {
            (true, true) => Vec::new(),
            (_, true) => vec![left],
            _ => vec![left, right],
        }
    }
}

impl Filters {
    /// What passes, and what does not.
    fn lists(&self) -> [Vec<FlowFilter>; 2] {
        let mut lists = [Sides::default(), Sides::default()];
        let mut add = |values: &[String], add: &dyn Fn(&mut Sides, String)| {
            for value in values {
                match value.strip_prefix('!') {
                    Some(value) => add(&mut lists[1], value.to_owned()),
                    None => add(&mut lists[0], value.clone()),
                }
            }
        };
        let either_pod = |sides: &mut Sides, pod: String| {
            sides.0[0].source_pod.push(pod.clone());
            sides.0[1].destination_pod.push(pod);
        };
        add(&self.namespace, &|sides, namespace| either_pod(sides, format!("{namespace}/")));
        add(&self.pod, &either_pod);
        add(&self.from_pod, &|sides, pod| sides.each(|filter| filter.source_pod.push(pod.clone())));
        add(&self.to_pod, &|sides, pod| sides.each(|filter| filter.destination_pod.push(pod.clone())));
        add(&self.ip, &|sides, ip| {
            sides.0[0].source_ip.push(ip.clone());
            sides.0[1].destination_ip.push(ip);
        });
        add(&self.port, &|sides, port| {
            sides.0[0].source_port.push(port.clone());
            sides.0[1].destination_port.push(port);
        });
        add(&self.protocol, &|sides, protocol| sides.each(|filter| filter.protocol.push(protocol.clone())));
        add(&self.node_name, &|sides, node| sides.each(|filter| filter.node_name.push(node.clone())));
        for (not, verdict) in &self.verdict {
            lists[usize::from(*not)].each(|filter| filter.verdict.push(i32::from(*verdict)));
        }
        lists.map(Sides::filters)
    }
}

impl Observe {
    /// Prints to standard output until all is printed, or nobody reads.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let printed = match &self.input_file {
            Some(path) => self.file(path, &mut out),
            None => self.server(&mut out).await,
        };
        match printed.and_then(|()| out.flush().map_err(Into::into)) {
            // `| head` is a way to end.
            Err(error)
                if error.downcast_ref::<io::Error>().is_some_and(|of| of.kind() == io::ErrorKind::BrokenPipe) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn print(&self, response: &Response, out: &mut impl Write) -> anyhow::Result<()> {
        match self.output {
            FlowForm::Compact => {
                if let Some(line) = print::compact(&response.message, self.print_node_name) {
                    writeln!(out, "{line}")?;
                }
            }
            FlowForm::Jsonpb => match response.to_json() {
                Ok(value) => writeln!(out, "{value}")?,
                Err(error) => eprintln!("orrery-collector: {}", client::chain(&error)),
            },
        }
        Ok(())
    }

    fn wants(&self, response: &Response, lists: &Lists) -> bool {
        let Some(ResponseTypes::Flow(flow)) = &response.message.response_types else { return true };
        let at = |time: &Timestamp| (time.seconds, time.nanos);
        let time = flow.time.as_ref().map(at);
        self.since.as_ref().map(at).is_none_or(|since| time >= Some(since))
            && self.until.as_ref().map(at).is_none_or(|until| time.is_some_and(|time| time <= until))
            && lists.pass(flow)
    }

    fn file(&self, path: &Path, out: &mut impl Write) -> anyhow::Result<()> {
        let [white, black] = self.filters.lists();
        let lists = Lists::of_hubble(&white, &black)?;
        let last = self.last.map(|last| usize::try_from(last).unwrap_or(usize::MAX));
        let mut kept: VecDeque<Response> = VecDeque::new();
        for_each(path, |response| {
            if !self.wants(&response, &lists) {
                return Ok(());
            }
            let Some(last) = last else { return self.print(&response, out) };
            if kept.len() == last {
                kept.pop_front();
            }
            kept.push_back(response);
            Ok(())
        })?;
        kept.iter().try_for_each(|response| self.print(response, out))
    }

    fn request(&self) -> GetFlowsRequest {
        let [whitelist, blacklist] = self.filters.lists();
        let plain = !self.follow && self.since.is_none() && self.until.is_none();
        GetFlowsRequest {
            number: self.last.unwrap_or(if plain { SHOWN } else { 0 }),
            follow: self.follow,
            whitelist,
            blacklist,
            since: self.since,
            until: self.until,
            ..GetFlowsRequest::default()
        }
    }

    async fn server(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let server = self.tls.clone().server(&self.server)?;
        if self.follow {
            return self.follow(server, out).await;
        }
        let mut stream = server.flows(self.request()).await?;
        loop {
            match stream.message().await {
                Ok(Some(response)) => self.print(&response.into(), out)?,
                Ok(None) => return Ok(()),
                Err(status) => return Err(server.refused(&status).into()),
            }
        }
    }

    /// The first connection must come about; what breaks later is made anew.
    async fn follow(&self, server: Server, out: &mut impl Write) -> anyhow::Result<()> {
        let (sender, mut events) = mpsc::channel(QUEUE);
        let (_keep, stopped) = watch::channel(false);
        let follower = tokio::spawn(client::follow(server, self.request(), sender, stopped));
        let mut connected = false;
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected => {}
                Event::Response(response, _) => {
                    connected = true;
                    self.print(&(*response).into(), out)?;
                    if events.is_empty() {
                        out.flush()?;
                    }
                }
                Event::Broken(error) if connected => eprintln!("orrery-collector: {error}; connecting again"),
                Event::Broken(error) => anyhow::bail!(error),
            }
        }
        follower.await.context("follow flows")
    }
}

/// Reads a file's responses one by one; a line that is none is said, and skipped.
pub(super) fn for_each(path: &Path, mut take: impl FnMut(Response) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?))
    };
    let (mut line, mut number, mut read) = (Vec::new(), 0u64, 0u64);
    let mut wrong = None;
    loop {
        line.clear();
        number += 1;
        let length = io::Read::take(&mut input, MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        if line.last() != Some(&b'\n') && length as u64 == MAX_LINE_BYTES {
            anyhow::bail!("line {number} of {} is longer than {MAX_LINE_BYTES} bytes", path.display());
        }
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        match Response::from_json(text.trim()) {
            Ok(response) => {
                read += 1;
                take(response)?;
            }
            Err(error) => {
                eprintln!("orrery-collector: line {number}: {}", client::chain(&error));
                wrong = Some(error);
            }
        }
    }
    // A file of which nothing can be read is the wrong file.
    match wrong {
        Some(error) if read == 0 => Err(error).with_context(|| format!("read flows: {}", path.display())),
        _ => Ok(()),
    }
}
