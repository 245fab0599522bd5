//! Arguments, configuration, logs, run.

use std::{io::IsTerminal as _, process::ExitCode};

use agent::{
    cleanup,
    config::{Args, Command, Config},
    health,
};
use clap::Parser as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// `EX_USAGE` of sysexits.h.
const BAD_USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match args.command {
        Some(Command::Cleanup) => return ended(cleanup::run(&args.pin_path.into(), &mut std::io::stdout())),
        Some(Command::Health) => return ended(health::run(&args.admin_socket, &mut std::io::stdout())),
        None => {}
    }
    let mut config = match Config::try_from(args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("orrery-agent: {:#}", anyhow::Error::from(error));
            return ExitCode::from(BAD_USAGE);
        }
    };
    let configured = config.log_level.to_string();
    let relog = start_logs(std::mem::take(&mut config.log_level));
    ended(start(config, relog, configured))
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orrery-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Sets what is logged.
type Relog = Box<dyn Fn(EnvFilter) + Send>;

fn start_logs(filter: EnvFilter) -> Relog {
    let is_terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    // A filter that was checked, or is our own, is taken; there is nobody to tell otherwise.
    if is_terminal {
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

/// SIGUSR1: everything of ours is told. SIGUSR2: what was asked for at the start.
async fn obey(relog: Relog, configured: String, mut more: Signal, mut less: Signal) {
    loop {
        let filter = tokio::select! {
            Some(()) = more.recv() => "info,agent=debug",
            Some(()) = less.recv() => configured.as_str(),
            else => return,
        };
        relog(EnvFilter::new(filter));
        tracing::warn!(filter, "what is logged was changed by a signal");
    }
}

fn start(config: Config, relog: Relog, configured: String) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (more, less) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
        tokio::spawn(obey(relog, configured, more, less));
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let shutdown = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        agent::run(config, shutdown).await
    })
}
