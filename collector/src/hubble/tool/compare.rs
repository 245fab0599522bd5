//! Follows both for a while, and tells where they differ.

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep_until, timeout},
};

use super::{TlsArgs, observe::for_each};
use crate::{
    ask::Orrery,
    clock,
    hubble::{
        client::{self, Event, QUEUE, Server},
        compare::{Inputs, Report, Window, compare},
        fold::Fold,
        proto::observer::GetFlowsRequest,
    },
    time::Ns,
};

/// What one heard at the very end, the other may hear a little later: both are asked for their state after this.
const AFTER: Duration = Duration::from_millis(2_500);
/// The first connection must come about in this time.
const CONNECT: Duration = Duration::from_secs(15);

/// What `compare` is told.
#[derive(Debug, Args)]
pub struct Compare {
    /// Hubble's flows: HOST:PORT, tls://HOST:PORT, unix:PATH; a file that `hubble observe -o jsonpb` wrote; `-` is standard input.
    #[arg(long, value_name = "SERVER|FILE|-")]
    hubble: String,
    #[command(flatten)]
    orrery: Orrery,
    /// How long both are followed; a file says itself what time it is of.
    #[arg(long = "for", default_value = "60s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    span: Duration,
    /// How the result is printed.
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    output: Form,
    /// Fail (exit code 2) where less agrees, of edges or of connections, beside what a reason explains: 0.99.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_agreement: Option<f64>,
    #[command(flatten)]
    tls: TlsArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A table.
    Text,
    /// One JSON object.
    Json,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "no share; hint: between 0 and 1, such as 0.99".to_owned())
}

impl Compare {
    /// Whether enough agrees.
    pub async fn run(self) -> anyhow::Result<bool> {
        let (orrery, hubble) = (self.orrery.clone(), &self.hubble);
        let file = PathBuf::from(hubble);
        let is_file = hubble == "-" || !hubble.contains("://") && !hubble.starts_with("unix:") && file.exists();
        let (output, min_agreement) = (self.output, self.min_agreement);
        let report = if is_file { of_file(file, &orrery).await? } else { self.live(&orrery).await? };
        let text = match output {
            Form::Text => report.text(),
            Form::Json => format!("{}\n", serde_json::to_string(&report)?),
        };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        let Some(at_least) = min_agreement else { return Ok(true) };
        let enough = report.agrees(at_least);
        if !enough {
            eprintln!("orrery-collector: the two agree less than --min-agreement {at_least}");
        }
        Ok(enough)
    }

    async fn live(self, orrery: &Orrery) -> anyhow::Result<Report> {
        let server = self.tls.server(&self.hubble)?;
        let mut listening = Listening::start(server).await?;
        let before = orrery.graph().await?;
        let start = clock::now();
        listening.until(clock::instant() + self.span).await?;
        let end = clock::now();
        listening.until(clock::instant() + AFTER).await?;
        let after = orrery.graph().await?;
        listening.fold.settle();
        let window = Window { start, end };
        Ok(compare(Inputs { hubble: &listening.fold, before: Some(&before), after: &after, window }))
    }
}

/// A stream being folded.
struct Listening {
    fold: Fold,
    events: mpsc::Receiver<Event>,
    _keep: watch::Sender<bool>,
}

impl Listening {
    async fn start(server: Server) -> anyhow::Result<Self> {
        let (sender, mut events) = mpsc::channel(QUEUE);
        let (keep, stopped) = watch::channel(false);
        let request = GetFlowsRequest { follow: true, ..GetFlowsRequest::default() };
        tokio::spawn(client::follow(server, request, sender, stopped));
        match timeout(CONNECT, events.recv()).await {
            Ok(Some(Event::Connected)) => Ok(Self { fold: Fold::default(), events, _keep: keep }),
            Ok(Some(Event::Broken(error))) => bail!(error),
            _ => bail!("Hubble did not answer within {} s", CONNECT.as_secs()),
        }
    }

    async fn until(&mut self, end: tokio::time::Instant) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = sleep_until(end) => return Ok(()),
                event = self.events.recv() => match event {
                    Some(Event::Response(response, arrived)) => self.fold.add(&response, Some(arrived)),
                    Some(Event::Connected) => {}
                    // A server that never said anything is the wrong one.
                    Some(Event::Broken(error)) if self.fold.nodes().is_empty() => bail!(error),
                    Some(Event::Broken(error)) => {
                        eprintln!("orrery-collector: {error}; connecting again");
                        self.fold.gap();
                    }
                    None => bail!("nothing follows Hubble any more"),
                },
            }
        }
    }
}

async fn of_file(path: PathBuf, orrery: &Orrery) -> anyhow::Result<Report> {
    let read = tokio::task::spawn_blocking(move || {
        let mut fold = Fold::default();
        let read = for_each(&path, |response| {
            fold.add(&response.message, None);
            Ok(())
        });
        fold.settle();
        read.map(|()| fold)
    });
    let fold = read.await.context("read flows")??;
    let times = fold.edges().fold(None, |span: Option<(Ns, Ns)>, edge| {
        Some(span.map_or((edge.first, edge.last), |(first, last)| (first.min(edge.first), last.max(edge.last))))
    });
    let (start, end) = times.context("the file has no flow that makes an edge")?;
    let after = orrery.graph().await?;
    Ok(compare(Inputs { hubble: &fold, before: None, after: &after, window: Window { start, end } }))
}
