//! `cargo xtask bench overload`: a collector that is given too little time by stopping it for most of each tick. What it took
//! it shows, or counts as lost; of what it did not take, agents keep the totals.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load::{Load, Size, Tally};

/// The collector runs for a share of this, and is stopped for the rest.
const TURN: Duration = Duration::from_millis(100);
/// Less than this share of the time is no share.
const LEAST: f64 = 0.002;
/// How long each share is tried.
const TRIED: Duration = Duration::from_secs(6);

/// Options of `cargo xtask bench overload`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    size: Size,
    /// Seconds under overload
    #[arg(long = "for", default_value_t = 20, value_name = "SECONDS")]
    seconds: u64,
    /// Port of the collector on 127.0.0.1
    #[arg(long, default_value_t = 7398)]
    port: u16,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let load = Load::start(&args.size, args.port)?;
    println!("{}", super::machine());
    let whole = rate(&load, None, TRIED)?;
    let mut share = 0.2;
    // A bit more than twice what it can take is asked of it.
    let taken = loop {
        let taken = rate(&load, Some(share), TRIED)?;
        println!("{:.1} % of the time: {taken:.0} reports a second are taken, of {whole:.0}", share * 100.0);
        if taken <= whole / 2.0 {
            break rate(&load, Some(share), Duration::from_secs(args.seconds))?;
        }
        share /= 2.0;
        if share < LEAST {
            bail!("it takes everything in {:.1} % of the time; hint: more --nodes and --edges", share * 200.0);
        }
    };
    println!("P11 {whole:.0} reports a second offered, {taken:.0} taken: {:.1} times saturation", whole / taken);
    load.check()?;
    load.verify()
}

/// Reports a second that are taken while the collector runs for this share of the time.
fn rate(load: &Load, share: Option<f64>, time: Duration) -> anyhow::Result<f64> {
    let Tally { reports, .. } = load.tally();
    let begun = Instant::now();
    let id = Pid::from_raw(i32::try_from(load.id()?).context("a process id")?);
    std::thread::scope(|scope| {
        let stopper = share.map(|share| scope.spawn(move || hold_back(id, share, time)));
        std::thread::sleep(time);
        stopper.map_or(Ok(()), |stopper| stopper.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })?;
    Ok((load.tally().reports - reports) as f64 / begun.elapsed().as_secs_f64())
}

/// Stops the process for the rest of each turn; it runs when this returns.
fn hold_back(id: Pid, share: f64, time: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        kill(id, Signal::SIGSTOP).context("stop the collector")?;
        std::thread::sleep(TURN.mul_f64(1.0 - share));
        kill(id, Signal::SIGCONT).context("let the collector go on")?;
        std::thread::sleep(TURN.mul_f64(share));
    }
    Ok(())
}
