//! Reports to bytes and back: protobuf inside zstd, with limits on both and a check of the version.

use std::io::Read as _;

use prost::Message as _;

use crate::{
    VERSION, columns, limits,
    v1::{Ack, Report},
};

/// The largest report body on the wire, compressed, in bytes.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// The largest report once decompressed, in bytes. A body that unpacks to more is refused before it is unpacked.
pub const MAX_DECODED_BYTES: usize = 32 << 20;

/// The longest node name, in bytes (RFC 1123 subdomain, as Kubernetes has it).
pub const MAX_NODE_NAME_BYTES: usize = 253;

/// What columns leave to zstd are texts, of which reports have few.
const LEVEL: i32 = 3;

/// The largest window a frame may ask the decoder to keep, as a power of two: that of [`MAX_DECODED_BYTES`].
const MAX_WINDOW_LOG: u32 = 25;

/// Why a body is not a report.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The compressed body is over [`MAX_BODY_BYTES`].
    #[error("report body too large: {bytes} bytes; hint: the limit is {MAX_BODY_BYTES}")]
    BodyTooLarge {
        /// The body's length.
        bytes: usize,
    },
    /// The body unpacks to more than [`MAX_DECODED_BYTES`].
    #[error("report unpacks to more than {MAX_DECODED_BYTES} bytes")]
    DecodedTooLarge,
    /// Not a zstd frame, or a broken one.
    #[error("unpack report")]
    Zstd(#[source] std::io::Error),
    /// Not the protobuf message it should be, or cut short.
    #[error("decode report")]
    Protobuf(#[from] prost::DecodeError),
    /// A version this build does not read.
    #[error(
        "report version unknown: {found}; hint: this build reads versions 1 to {VERSION}: upgrade the collector first"
    )]
    Version {
        /// The version in the report.
        found: u32,
    },
    /// A field that must be there is not, or holds what it may not.
    #[error("report invalid: {reason}")]
    Invalid {
        /// What is wrong, in words.
        reason: &'static str,
    },
}

impl DecodeError {
    /// A short constant name, for metric labels.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::DecodedTooLarge => "decoded_too_large",
            Self::Zstd(_) => "zstd",
            Self::Protobuf(_) => "protobuf",
            Self::Version { .. } => "version",
            Self::Invalid { .. } => "invalid",
        }
    }
}

/// Encodes a report: its edges in columns, then protobuf, then zstd. The order of the edges is lost.
///
/// # Errors
/// When zstd fails, which it does only out of memory.
pub fn encode_report(report: &Report) -> std::io::Result<Vec<u8>> {
    let (edge_columns, edges) = columns::fold(&report.edges, report.sampled_unix_ns);
    // All but the edges, which are most of it.
    let packed = Report {
        version: report.version,
        node: report.node.clone(),
        epoch: report.epoch,
        seq: report.seq,
        acked_seq: report.acked_seq,
        collector_run: report.collector_run,
        full: report.full,
        sent_unix_ns: report.sent_unix_ns,
        sampled_unix_ns: report.sampled_unix_ns,
        complete: report.complete,
        next_tick_ms: report.next_tick_ms,
        clock: report.clock,
        edges,
        devices: report.devices.clone(),
        losses: report.losses.clone(),
        other: report.other,
        refused_hooks: report.refused_hooks.clone(),
        agent_version: report.agent_version.clone(),
        hooks: report.hooks.clone(),
        drops: report.drops.clone(),
        names: report.names.clone(),
        flow_ring: report.flow_ring,
        flow_events: report.flow_events.clone(),
        edge_columns,
    };
    zstd::bulk::compress(&packed.encode_to_vec(), LEVEL)
}

/// Decodes and checks a report.
///
/// # Errors
/// See [`DecodeError`]; whatever the bytes, this never panics and never allocates more than [`MAX_DECODED_BYTES`] and a
/// small multiple of it for the message.
pub fn decode_report(body: &[u8]) -> Result<Report, DecodeError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(DecodeError::BodyTooLarge { bytes: body.len() });
    }
    let mut decoded = Vec::new();
    let mut decoder = zstd::stream::Decoder::with_buffer(body).map_err(DecodeError::Zstd)?;
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(DecodeError::Zstd)?;
    decoder.take(MAX_DECODED_BYTES as u64 + 1).read_to_end(&mut decoded).map_err(DecodeError::Zstd)?;
    if decoded.len() > MAX_DECODED_BYTES {
        return Err(DecodeError::DecodedTooLarge);
    }
    limits::check_lengths(&decoded)?;
    let mut report = Report::decode(decoded.as_slice())?;
    if let Some(columns) = report.edge_columns.take() {
        if report.version == 1 {
            return Err(DecodeError::Invalid { reason: "columns in a report of version 1" });
        }
        drop(decoded);
        columns::unfold(columns, report.sampled_unix_ns, &mut report.edges)?;
        limits::check_buckets(&report.edges)?;
    }
    check(&report)?;
    Ok(report)
}

/// Encodes an acknowledgement; it is small and travels uncompressed.
#[must_use]
pub fn encode_ack(ack: &Ack) -> Vec<u8> {
    ack.encode_to_vec()
}

/// Decodes an acknowledgement.
///
/// # Errors
/// When the bytes are not an `Ack`.
pub fn decode_ack(body: &[u8]) -> Result<Ack, DecodeError> {
    Ok(Ack::decode(body)?)
}

fn check(report: &Report) -> Result<(), DecodeError> {
    let invalid = |reason| Err(DecodeError::Invalid { reason });
    if report.version == 0 || report.version > VERSION {
        return Err(DecodeError::Version { found: report.version });
    }
    if report.node.is_empty() || report.node.len() > MAX_NODE_NAME_BYTES {
        return invalid("node name empty or over 253 bytes");
    }
    if report.epoch == 0 || report.seq == 0 {
        return invalid("epoch or sequence number is 0");
    }
    if report.acked_seq >= report.seq {
        return invalid("mark is not below the sequence number");
    }
    limits::check_texts(report)?;
    limits::check_events(report)?;
    for edge in &report.edges {
        if !matches!(edge.client.len(), 4 | 16) || edge.client.len() != edge.server.len() {
            return invalid("address is not 4 or 16 bytes, or the two ends differ in family");
        }
        if edge.server_port > u32::from(u16::MAX) || edge.protocol > u32::from(u8::MAX) {
            return invalid("port or protocol out of range");
        }
        if !matches!(edge.side, 1 | 2) {
            return invalid("side is neither client nor server");
        }
        if edge.incarnation == 0 || edge.incarnation > report.seq {
            return invalid("incarnation is 0 or ahead of the sequence number");
        }
        limits::check_facts(edge)?;
    }
    Ok(())
}
