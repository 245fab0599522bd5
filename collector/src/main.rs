//! Arguments, logs, listeners, signals; everything else is in the library.
#![forbid(unsafe_code)]

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand};
use collector::{
    ask::StatusTool,
    config::{Args, Config},
    hubble::tool::{Tool as HubbleTool, negations},
    listen::Listeners,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Bad configuration (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;
/// `compare` found too little agreement.
const EXIT_DIFFERS: u8 = 2;
/// `status` could not ask.
const EXIT_UNASKED: u8 = 2;

/// Serves, unless it is told to be a tool.
#[derive(Debug, Parser)]
#[command(name = "orrery-collector", version, about, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(flatten)]
    serve: Args,
    #[command(subcommand)]
    tool: Option<Tool>,
}

/// Beside serving.
#[derive(Debug, Subcommand)]
enum Tool {
    #[command(flatten)]
    Hubble(Box<HubbleTool>),
    /// Say what is wrong with a running collector and its agents, and what to do about it.
    ///
    /// Ends with 0 where all is well, 1 where something is wrong, and 2 where the collector could not be asked.
    Status(StatusTool),
}

fn main() -> ExitCode {
    let command = match Command::try_parse_from(negations(std::env::args_os())) {
        Ok(command) => command,
        Err(error) => {
            // Help and version are no errors, and go to stdout.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Some(tool) = command.tool {
        return run_tool(tool);
    }
    let config = match Config::try_from(command.serve) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("orrery-collector: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let relog = start_logs(&config.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(start(config, relog))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orrery-collector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_tool(tool: Tool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from);
    let (ended, no, failed) = match tool {
        Tool::Hubble(tool) => (runtime.and_then(|runtime| runtime.block_on(tool.run())), EXIT_DIFFERS, 1),
        Tool::Status(tool) => (runtime.and_then(|runtime| runtime.block_on(tool.run())), 1, EXIT_UNASKED),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(no),
        Err(error) => {
            eprintln!("orrery-collector: {error:#}");
            ExitCode::from(failed)
        }
    }
}

async fn start(config: Config, relog: Relog) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(obey(
        relog,
        config.log_level.clone(),
        signal(SignalKind::user_defined1())?,
        signal(SignalKind::user_defined2())?,
    ));
    let listeners = Listeners::bind(&config).await?;
    let address = listeners.browser.local_addr()?;
    tracing::info!(%address, ?config, "listening");
    config.security.say(config.listen, &config.report_listen, config.hubble_listen.as_ref());
    let shutdown = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    collector::run(listeners, config, shutdown).await
}

/// Sets what is logged.
type Relog = Box<dyn Fn(&str) + Send>;

/// SIGUSR1: everything of ours is told. SIGUSR2: what was asked for at the start.
async fn obey(relog: Relog, configured: String, mut more: Signal, mut less: Signal) {
    loop {
        let filter = tokio::select! {
            Some(()) = more.recv() => "info,collector=debug",
            Some(()) = less.recv() => configured.as_str(),
            else => return,
        };
        relog(filter);
        tracing::warn!(filter, "what is logged was changed by a signal");
    }
}

fn start_logs(filter: &str) -> Relog {
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A filter that was checked, or is our own, is taken; there is nobody to tell otherwise.
    if std::io::stderr().is_terminal() {
        let logs = logs.with_filter_reloading();
        let handle = logs.reload_handle();
        logs.init();
        Box::new(move |filter| drop(handle.reload(filter)))
    } else {
        let logs = logs.json().with_filter_reloading();
        let handle = logs.reload_handle();
        logs.init();
        Box::new(move |filter| drop(handle.reload(filter)))
    }
}
