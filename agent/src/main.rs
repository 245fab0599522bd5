//! Arguments, configuration, logs, run.

use std::{io::IsTerminal as _, process::ExitCode};

use agent::{
    cleanup,
    config::{Args, Command, Config},
    health,
};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

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
    let logs = tracing_subscriber::fmt()
        .with_env_filter(std::mem::take(&mut config.log_level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if std::io::stderr().is_terminal() {
        logs.init()
    } else {
        logs.json().init()
    }

    ended(start(config))
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

fn start(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
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
