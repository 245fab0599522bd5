//! Plays a recording as if it came now: in real time, all its times moved, no root, no agents.

use std::path::{Path, PathBuf};

use tokio::sync::{oneshot, watch};
use wire::{codec, v1::Report};

use crate::{
    hub::{Command, Delivery, HubHandle, NamesUpdate},
    names::{Inventory, file},
    record::{Kind, RecordError, Recording, due_in},
    time::{Ns, SECOND},
};

/// Between the end of a recording and its next start.
const PAUSE: Ns = SECOND;

/// What is played.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The recording.
    pub path: PathBuf,
    /// From the start again, until shutdown.
    pub again: bool,
    /// The clock.
    pub clock: fn() -> Ns,
}

impl Replay {
    /// Plays until the end, or until `shutdown` turns true.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub async fn run(self, hub: HubHandle, mut shutdown: watch::Receiver<bool>) -> Result<(), RecordError> {
        loop {
            let over = tokio::select! {
                _ = shutdown.wait_for(|over| *over) => return Ok(()),
                played = play(&self.path, &hub, self.clock) => played?,
            };
            if over || !self.again {
                tracing::info!("the recording is over");
                return Ok(());
            }
            tokio::time::sleep(due_in(PAUSE, 0, 0)).await;
        }
    }
}

/// Plays once. True when the hub is gone.
async fn play(path: &Path, hub: &HubHandle, clock: fn() -> Ns) -> Result<bool, RecordError> {
    let mut recording = Recording::open(path).await?;
    let mut shift = None;
    while let Some(frame) = recording.next().await? {
        let shift = *shift.get_or_insert_with(|| clock().saturating_sub(frame.arrived));
        tokio::time::sleep(due_in(frame.arrived, shift, clock())).await;
        let sent = match frame.kind {
            Kind::Report => deliver(&frame.payload, frame.arrived, shift, hub).await,
            Kind::PodList => names(&frame.payload, shift, hub).await,
        };
        if sent.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn deliver(body: &[u8], arrived: Ns, shift: Ns, hub: &HubHandle) -> Option<()> {
    match codec::decode_report(body) {
        Ok(mut report) => {
            move_times(&mut report, shift);
            let (reply, verdict) = oneshot::channel();
            let arrived = arrived.saturating_add(shift);
            hub.reports.send(Delivery { report: Box::new(report), arrived, reply, held: None }).await.ok()?;
            verdict.await.ok()?;
        }
        Err(error) => tracing::warn!(%error, "a recorded report cannot be read"),
    }
    Some(())
}

async fn names(json: &[u8], shift: Ns, hub: &HubHandle) -> Option<()> {
    let update = match file::parse(json) {
        Ok(inventory) => NamesUpdate::Read { inventory: moved(inventory, shift), source: "recording" },
        Err(error) => NamesUpdate::Failed { error: error.to_string() },
    };
    hub.commands.send(Command::Names(update)).await.ok()
}

fn moved(mut inventory: Inventory, shift: Ns) -> Inventory {
    let pods = inventory.pods.iter_mut();
    let created = pods
        .flat_map(|pod| [&mut pod.created, &mut pod.started, &mut pod.networked, &mut pod.deleted, &mut pod.stopped]);
    let created = created.chain(inventory.services.iter_mut().map(|service| &mut service.created));
    for time in created.chain(inventory.nodes.iter_mut().map(|node| &mut node.created)).flatten() {
        *time = time.saturating_add(shift);
    }
    inventory
}

/// Moves every time in a report; the epoch too, so that the next round is a later run of the same agent.
fn move_times(report: &mut Report, shift: Ns) {
    let by = |time: &mut u64| {
        if *time != 0 {
            *time = time.saturating_add_signed(shift);
        }
    };
    by(&mut report.epoch);
    by(&mut report.sent_unix_ns);
    by(&mut report.sampled_unix_ns);
    for edge in &mut report.edges {
        by(&mut edge.first_seen_unix_ns);
        by(&mut edge.forward_last_unix_ns);
        by(&mut edge.reverse_last_unix_ns);
        let questions = edge.dns.iter_mut().flat_map(|dns| &mut dns.questions);
        questions.for_each(|question| by(&mut question.last_unix_ns));
    }
    report.names.iter_mut().for_each(|name| by(&mut name.unix_ns));
    for device in &mut report.devices {
        by(&mut device.covered_since_unix_ns);
    }
}
