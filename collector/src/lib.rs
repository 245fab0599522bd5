//! Orrery's collector: the reports of all nodes merged into one graph, named, and served live to browsers.
//!
//! The rooms, in the order a report walks through them: [`listen`] binds, [`ingest`] limits and decodes, [`hub`] (one task)
//! owns [`merge`] and [`names`], [`project`] makes rows of them for a [`graph`], [`stream`] and [`http`] tell browsers in the
//! form of [`view`], as far as a [`filter`] lets it through. [`history`] remembers the last hour, and [`past`] tells of it.
//! Before both stands [`serve`] with [`tls`], and [`auth`] says who may ask; both read their [`files`] again when they change.
//! Beside the road: [`state`] (what [`keep`] says outlives a run), [`record`] and [`replay`], [`pods`] and
//! [`kubernetes`], [`events`], [`metrics`], [`config`]; [`ask`] is for tools that ask another collector. [`loss`], [`rate`], [`merge`], [`names`], [`project`], [`filter`],
//! [`events`], [`history`] and [`graph`] are pure: no IO, no clock, time is an argument. The clock is
//! read in [`clock`].
#![forbid(unsafe_code)]

pub mod ask;
pub mod auth;
pub mod clock;
pub mod config;
pub mod events;
pub mod files;
pub mod filter;
pub mod flows;
pub mod graph;
pub mod hash;
pub mod history;
pub mod http;
pub mod hub;
pub mod hubble;
pub mod ingest;
pub mod keep;
pub mod kubernetes;
pub mod listen;
pub mod loss;
pub mod merge;
pub mod metrics;
pub mod names;
pub mod past;
pub mod pods;
pub mod project;
pub mod rate;
pub mod record;
pub mod replay;
pub mod serve;
pub mod socket;
pub mod state;
pub mod status;
pub mod stream;
pub mod time;
pub mod tls;
pub mod view;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use self::{
    config::{Config, Source},
    hub::{Hub, Restored, Setup},
    listen::{Listeners, ReportListener},
    metrics::Metrics,
    serve::{Limits, Port, Speaks},
};

/// Connections of the page's port at once: streams, and what browsers ask for beside them.
pub const MAX_UI_CONNECTIONS: usize = 4_096;
/// Connections of a report port at once: agents, and those that come anew before their old connection is known to be gone.
pub const MAX_REPORT_CONNECTIONS: usize = 8_192;
/// Connections of Hubble's clients at once.
pub const MAX_HUBBLE_CONNECTIONS: usize = 256;
/// Descriptors that no port may take: files, names, state, Hubble.
const KEPT_DESCRIPTORS: usize = 256;
/// Connections that do not end by themselves are cut this long after the signal.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the collector on bound listeners until `shutdown` completes.
///
/// # Errors
/// When a recording cannot be made or opened.
pub async fn run(
    listeners: Listeners,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let metrics = Arc::new(Metrics::default());
    let mut tasks = JoinSet::new();
    let recorder = match &config.record {
        Some((path, max_bytes)) => {
            let made = record::Recorder::create(path, *max_bytes, Arc::clone(&metrics), stopped.clone()).await;
            let (recorder, task) = made.context("start recording")?;
            tasks.spawn(task);
            Some(recorder)
        }
        None => None,
    };
    if let Some((path, _)) = &config.replay {
        record::Recording::open(path).await.context("start replay")?;
    }
    let run = u64::try_from(clock::now()).unwrap_or(1);
    let names_source = match (&config.names, &config.replay) {
        (Source::File(_), _) => "file",
        (Source::Kubernetes(_), _) => "kubernetes",
        (Source::None, Some(_)) => "recording",
        (Source::None, None) => "none",
    };
    let now = clock::now();
    let (state, restored) = match &config.state {
        Some((dir, max_bytes)) => {
            let (state, restored) = restore(dir, *max_bytes, &config, now, &metrics).context("open the kept state")?;
            (Some(state), restored)
        }
        None => (None, None),
    };
    let writer = state.map(|state| {
        let (writer, work) = state.writer();
        tasks.spawn_blocking(work);
        writer
    });
    let (directive, heard) = watch::channel(listeners.hubble.is_some().then(Arc::default));
    let (hub, handle) = Hub::new(Setup {
        run,
        cluster: config.cluster.clone(),
        bounds: config.bounds,
        history: config.history,
        names_source,
        directive,
        clock: clock::now,
        metrics: Arc::clone(&metrics),
        restored,
        writer,
    });
    tasks.spawn(hub.run(stopped.clone()));
    let ready = Arc::new(AtomicBool::new(config.names == Source::None));
    match config.names {
        Source::File(path) => {
            let watcher = pods::PodFile {
                path,
                hub: handle.clone(),
                recorder: recorder.clone(),
                ready: Arc::clone(&ready),
                metrics: Arc::clone(&metrics),
                clock: clock::now,
            };
            tasks.spawn(watcher.run(stopped.clone()));
        }
        Source::Kubernetes(access) => {
            let (hub, ready, metrics) = (handle.clone(), Arc::clone(&ready), Arc::clone(&metrics));
            tasks.spawn(kubernetes::Kubernetes { access, hub, ready, metrics }.run(stopped.clone()));
        }
        Source::None => {}
    }
    if let Some((path, again)) = config.replay {
        let replay = replay::Replay { path, again, clock: clock::now };
        let (hub, stopped) = (handle.clone(), stopped.clone());
        tasks.spawn(async move {
            if let Err(error) = replay.run(hub, stopped).await {
                tracing::error!(%error, "replay failed");
            }
        });
    }
    let hubble = config.hubble.map(|(server, overlay)| hubble::beside::Beside::new(server, overlay));
    if let Some(hubble) = &hubble {
        tasks.spawn(Arc::clone(hubble).run(stopped.clone()));
    }
    let security = config.security;
    let browsers = auth::browsers::Gate::new(security.browsers, Arc::clone(&metrics), clock::now);
    let browsers = Arc::new(browsers.context("read --ui-token-file")?);
    let agents = auth::reports::Gate::new(security.reports, Arc::clone(&metrics), clock::now);
    let agents = Arc::new(agents.context("read --report-token-file")?);
    let encrypt = |files: Option<tls::TlsFiles>| {
        files.map(|files| tls::Tls::new(files, metrics.failed_files.clone()).map(Arc::new)).transpose()
    };
    let ui_tls = encrypt(security.ui_tls).context("read --ui-tls-cert and --ui-tls-key")?;
    let report_tls = encrypt(security.report_tls).context("read --report-tls-cert and --report-tls-key")?;
    let (descriptors, head, stalled) = (socket::descriptors(), config.head, config.stalled);
    let limits = |wanted| {
        let all = MAX_UI_CONNECTIONS + MAX_REPORT_CONNECTIONS + MAX_HUBBLE_CONNECTIONS;
        let fit = descriptors.map_or(wanted, |descriptors| socket::share(wanted, all, KEPT_DESCRIPTORS, descriptors));
        Limits { connections: config.connections.unwrap_or(fit), head, stalled }
    };
    let port = |name, speaks, tls, most, router| {
        let metrics = Arc::clone(&metrics);
        Port { name, speaks, tls, limits: limits(most), metrics, router }
    };
    if let Some(listener) = listeners.hubble {
        let (cluster, hub) = (config.cluster.as_str().into(), handle.clone());
        let server =
            hubble::server::Server { hub, cluster, started: clock::now(), clock: clock::now, stopped: stopped.clone() };
        let certified = security.hubble_tls.as_ref().is_some_and(|files| files.client_ca.is_some());
        let tls = encrypt(security.hubble_tls).context("read --hubble-tls-cert and --hubble-tls-key")?;
        let router = match &listener {
            ReportListener::Tcp(_) => server.router(None, certified.then(|| Arc::clone(&metrics))).await,
            ReportListener::Unix(listener, _) => {
                let path = listener.local_addr().ok();
                server.router(path.as_ref().and_then(|path| path.as_pathname()), None).await
            }
        };
        tasks.spawn(serve(
            port("hubble", Speaks::Grpc, tls, MAX_HUBBLE_CONNECTIONS, router),
            listener,
            stopped.clone(),
        ));
    }
    let streams = stream::Streams {
        hub: handle.clone(),
        places: Arc::new(Semaphore::new(stream::MAX_CLIENTS)),
        shutdown: stopped.clone(),
        stalled: config.stalled,
        metrics: Arc::clone(&metrics),
    };
    let parts = http::Parts {
        hub: handle.clone(),
        streams,
        metrics: Arc::clone(&metrics),
        ready: http::Ready(Arc::clone(&ready)),
        hubble,
    };
    let browser = http::browser_router(parts, browsers);
    let ingest = ingest::Ingest {
        hub: handle,
        metrics: Arc::clone(&metrics),
        admission: Arc::default(),
        recorder,
        directive: heard,
        run,
        clock: clock::now,
    };
    let reports = http::report_router(http::Inlet { ingest, ready: http::Ready(ready) }, agents);
    let port_of_page = port("ui", Speaks::Http, ui_tls, MAX_UI_CONNECTIONS, browser);
    tasks.spawn(port_of_page.tcp(listeners.browser, stopped.clone()));
    for listener in listeners.reports {
        let port = port("reports", Speaks::Http, report_tls.clone(), MAX_REPORT_CONNECTIONS, reports.clone());
        tasks.spawn(serve(port, listener, stopped.clone()));
    }
    shutdown.await;
    tracing::info!("stopping");
    stop.send_replace(true);
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("connections were cut: they did not end in time");
    }
    Ok(())
}

/// Serves a port until `stopped` turns true; a Unix socket's file goes with it.
async fn serve(port: Port, listener: ReportListener, stopped: watch::Receiver<bool>) {
    match listener {
        ReportListener::Tcp(listener) => port.tcp(listener, stopped).await,
        ReportListener::Unix(listener, file) => {
            port.unix(listener, stopped).await;
            drop(file);
        }
    }
}

/// Opens the state directory; what it holds that makes no sense is set aside.
fn restore(
    dir: &Path,
    max_bytes: u64,
    config: &Config,
    now: time::Ns,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(state::State, Option<Restored>)> {
    let (mut state, kept) = state::State::open(dir, max_bytes, Arc::clone(metrics))?;
    match Restored::of(&kept, config.bounds, config.history, now) {
        Ok(restored) => Ok((state, restored)),
        Err(damaged) => {
            state.set_aside(&damaged.to_string()).context("set the kept state aside")?;
            Ok((state, None))
        }
    }
}
