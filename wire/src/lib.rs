//! What agents and the collector say to each other: messages, their limits, their encoding.
//!
//! No IO, no async, no clock: bytes in, values out. The messages themselves are written down in
//! `proto/orrery/v1/`; this crate adds what protobuf cannot say.
#![forbid(unsafe_code)]

pub mod codec;
mod columns;
mod edge;
pub mod limits;
pub mod split;

/// The messages, generated from `proto/orrery/v1/`.
#[expect(missing_docs, reason = "the comments of the .proto file become the docs")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/orrery.v1.rs"));
}

/// The report format this build writes, and the newest it reads.
pub const VERSION: u32 = 2;

/// Path that takes reports on the collector.
pub const REPORT_PATH: &str = "/v1/reports";

/// `Content-Type` of reports and acknowledgements.
pub const CONTENT_TYPE: &str = "application/x-protobuf";
