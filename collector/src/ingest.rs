//! `POST /v1/reports`: limit, decode, queue, verdict, acknowledgement.
//!
//! A body that was read to its end keeps its connection, whatever the answer. What does not fit into the queue is told to
//! come again; nothing is ever held back without bound.

mod admission;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot, watch},
    time::timeout,
};
use wire::{
    codec::{self, DecodeError, MAX_BODY_BYTES},
    v1::{Ack, Report},
};

pub use self::admission::Admission;
use self::admission::TURN;
use crate::{
    auth::reports::Reporter,
    flows::Directive,
    hub::{Delivery, HubHandle},
    merge::Verdict,
    metrics::Metrics,
    record::Recorder,
    time::Ns,
};

/// An oversized body is read (and thrown away) up to here, so that the connection can be kept.
const DISCARD_BYTES: usize = 4 * MAX_BODY_BYTES;
/// Bodies larger than this are unpacked off the event loop.
const INLINE_BYTES: usize = 64 << 10;

/// What the handler needs.
#[derive(Debug, Clone)]
pub struct Ingest {
    /// The way to the hub.
    pub hub: HubHandle,
    /// The collector's own numbers.
    pub metrics: Arc<Metrics>,
    /// How much is let in at once.
    pub admission: Arc<Admission>,
    /// Keeps what was taken in, if asked to.
    pub recorder: Option<Recorder>,
    /// What agents hear of flow events.
    pub directive: watch::Receiver<Directive>,
    /// This run.
    pub run: u64,
    /// The clock.
    pub clock: fn() -> Ns,
}

/// Why a report was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("read body")]
    Body(#[source] axum::Error),
    #[error("sequence number is behind the mark: {mark}")]
    Behind { mark: u64 },
    #[error("the epoch has ended and is folded; hint: a running agent has a later one")]
    Folded,
    #[error("too many nodes; hint: node names must be stable")]
    TooManyNodes,
    #[error("queue is full; hint: send again in a second")]
    QueueFull,
    #[error("too many reports are being unpacked; hint: send again in a second")]
    Busy,
    #[error("the credential is another node's: {owner}; hint: --node must be the node's name in the cluster")]
    NotYours { owner: Arc<str> },
    #[error("too many bytes of reports are under way; hint: send again in a second")]
    Bytes,
    #[error("a report of this node waits already; hint: one at a time, and a name for each node")]
    NodeWaits,
    #[error("the body took too long")]
    Slow,
    #[error("shutting down")]
    Closing,
}

impl Refusal {
    fn label(&self) -> &'static str {
        match self {
            Self::Decode(error) => error.label(),
            Self::Body(_) => "truncated",
            Self::Behind { .. } => "behind_mark",
            Self::Folded => "folded_epoch",
            Self::TooManyNodes => "too_many_nodes",
            Self::QueueFull => "queue_full",
            Self::Busy => "busy",
            Self::NotYours { .. } => "not_yours",
            Self::Bytes => "bytes",
            Self::NodeWaits => "node_waits",
            Self::Slow => "slow",
            Self::Closing => "closing",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Decode(DecodeError::BodyTooLarge { .. } | DecodeError::DecodedTooLarge) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Decode(_) | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Behind { .. } | Self::Folded => StatusCode::CONFLICT,
            Self::NotYours { .. } => StatusCode::FORBIDDEN,
            Self::TooManyNodes => StatusCode::INSUFFICIENT_STORAGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::QueueFull | Self::Busy | Self::Bytes | Self::NodeWaits | Self::Closing => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

/// Takes one report.
pub async fn report(State(ingest): State<Ingest>, request: Request) -> Response {
    // The gate has put it there.
    let reporter = request.extensions().get::<Reporter>().cloned().unwrap_or_default();
    match take(&ingest, &reporter, request.into_body()).await {
        Ok(ack) => {
            let body = codec::encode_ack(&ack);
            ([(header::CONTENT_TYPE, HeaderValue::from_static(wire::CONTENT_TYPE))], body).into_response()
        }
        Err(refusal) => {
            ingest.metrics.refuse(refusal.label());
            tracing::debug!(reason = refusal.label(), "report refused");
            let mut response = (refusal.status(), words(&refusal)).into_response();
            if refusal.status() == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            response
        }
    }
}

/// The error and its causes in one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.push('\n');
    text
}

async fn take(ingest: &Ingest, reporter: &Reporter, body: Body) -> Result<Ack, Refusal> {
    let admission = &ingest.admission;
    let (body, _read) = timeout(admission.patience, read(admission, body)).await.map_err(|_| Refusal::Slow)??;
    let arrived = (ingest.clock)();
    // Only what was read takes a turn: a slow connection holds up nobody.
    let turn = timeout(TURN, Arc::clone(&admission.turns).acquire_owned()).await.map_err(|_| Refusal::Busy)?;
    let turn = turn.map_err(|_| Refusal::Closing)?;
    let report = decode(body.clone(), turn).await?;
    if let Some(owner) = reporter.node.as_ref().filter(|owner| ***owner != *report.node) {
        return Err(Refusal::NotYours { owner: Arc::clone(owner) });
    }
    let (seq, run) = (report.seq, report.collector_run);
    // One place a node, and who came first goes first: no node keeps others out, however much it sends.
    let _node = admission.node(&report.node)?;
    let held = Some(admission.queued(report.encoded_len())?);
    // The place in the queue comes first: a report that finds none leaves nothing behind.
    let place = timeout(TURN, ingest.hub.reports.reserve()).await.map_err(|_| Refusal::QueueFull)?;
    let place = place.map_err(|_| Refusal::Closing)?;
    let (reply, verdict) = oneshot::channel();
    place.send(Delivery { report, arrived, reply, held });
    match verdict.await.map_err(|_| Refusal::Closing)? {
        Verdict::Accepted { .. } => {}
        Verdict::Behind { mark } => return Err(Refusal::Behind { mark }),
        Verdict::Folded => return Err(Refusal::Folded),
        Verdict::TooManyNodes => return Err(Refusal::TooManyNodes),
    }
    ingest.metrics.reports.inc();
    ingest.metrics.report_bytes.inc_by(body.len() as u64);
    if let Some(recorder) = &ingest.recorder {
        recorder.report(arrived, body);
    }
    let server_unix_ns = u64::try_from((ingest.clock)()).unwrap_or(0);
    let flow_events = ingest.directive.borrow().as_deref().cloned();
    Ok(Ack { collector_run: ingest.run, seq, resync: run != ingest.run, server_unix_ns, flow_events })
}

/// The body, and what it takes of the bytes that may be under way.
async fn read(admission: &Admission, mut body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
    let mut kept = BytesMut::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    let mut bytes = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Refusal::Body)?;
        let Some(data) = frame.data_ref() else { continue };
        bytes += data.len();
        if bytes <= MAX_BODY_BYTES {
            let more = admission.reading(data.len())?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            kept.extend_from_slice(data);
        } else if bytes > DISCARD_BYTES {
            break;
        } else {
            (kept, held) = (BytesMut::new(), None);
        }
    }
    if bytes > MAX_BODY_BYTES {
        return Err(DecodeError::BodyTooLarge { bytes }.into());
    }
    Ok((kept.freeze(), held))
}

/// The turn goes with the work, which a client that hangs up does not stop.
async fn decode(body: Bytes, turn: OwnedSemaphorePermit) -> Result<Box<Report>, Refusal> {
    if body.len() <= INLINE_BYTES {
        return Ok(Box::new(codec::decode_report(&body)?));
    }
    let decoded = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        codec::decode_report(&body)
    });
    let decoded = decoded.await;
    Ok(Box::new(decoded.map_err(|_| Refusal::Closing)??))
}
