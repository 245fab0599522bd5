//! What the hub is asked, and the way to it.

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use wire::v1::Report;

use super::{FlowsCommand, Follower, MAX_VIEWS, NamesUpdate};
use crate::{
    filter::Wish,
    graph::Identity,
    history::{Remembered, Still, Tracks},
    merge::Verdict,
    time::Ns,
    view::{EventRow, NamesRow},
};

/// A decoded report on its way in.
#[derive(Debug)]
pub struct Delivery {
    /// The report.
    pub report: Box<Report>,
    /// When it came.
    pub arrived: Ns,
    /// Where the verdict goes.
    pub reply: oneshot::Sender<Verdict>,
    /// What it takes of the bytes that may wait.
    pub held: Option<OwnedSemaphorePermit>,
}

/// A question, or news.
#[derive(Debug)]
pub enum Command {
    /// The names changed, or could not be read.
    Names(NamesUpdate),
    /// A stream begins.
    Subscribe {
        /// Of this.
        wish: Wish,
        /// The last event the client has: run and revision.
        last: Option<(String, u64)>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Subscription, TooManyViews>>,
    },
    /// The graph, once.
    Snapshot {
        /// Of this.
        wish: Wish,
        /// Where the JSON goes.
        reply: oneshot::Sender<Result<Bytes, TooManyViews>>,
    },
    /// The graph as it was.
    Still {
        /// When.
        at: Ns,
        /// Where what is needed to show it goes; or the span that is remembered.
        reply: oneshot::Sender<Result<(Still, Now), Remembered>>,
    },
    /// The course of the last hour.
    Tracks {
        /// Where what is needed to tell it goes.
        reply: oneshot::Sender<Tracks>,
    },
    /// The events of the last hour.
    Events {
        /// Where they go, oldest first.
        reply: oneshot::Sender<Vec<EventRow>>,
    },
    /// The devices' accounts.
    Devices {
        /// Where the JSON goes.
        reply: oneshot::Sender<Bytes>,
    },
    /// About flow events.
    Flows(FlowsCommand),
}

/// What a picture of the past has of the present.
#[derive(Debug, Clone)]
pub struct Now {
    /// Where the names stand.
    pub names: NamesRow,
    /// Which collector.
    pub identity: Identity,
}

/// As many different views are looked at as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MAX_VIEWS} different views are open, and no more may be; hint: a view, a filter and whether noise is hidden make one: \
     ask for one that is open, or come again when another was closed"
)]
pub struct TooManyViews;

/// A stream's beginning: events to send first, then the live ones.
#[derive(Debug)]
pub struct Subscription {
    /// A snapshot, or the deltas since the client's last event.
    pub first: Vec<Bytes>,
    /// Every event from here on.
    pub live: Follower,
}

/// The way to the hub.
#[derive(Debug, Clone)]
pub struct HubHandle {
    /// For reports: full means 503.
    pub reports: mpsc::Sender<Delivery>,
    /// For all else.
    pub commands: mpsc::Sender<Command>,
}

impl HubHandle {
    /// Asks, and waits for the answer; `None` when the hub is gone.
    pub async fn ask<A>(&self, command: impl FnOnce(oneshot::Sender<A>) -> Command) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
