//! Hubble's messages and services, made from `collector/proto/hubble/` at build time.

#![expect(missing_docs, reason = "generated from the definitions, which have the words")]
#![expect(clippy::allow_attributes, reason = "generated")]

/// Package `flow`.
pub mod flow {
    tonic::include_proto!("flow");
}

/// Package `observer`: the service that `hubble observe` asks.
pub mod observer {
    tonic::include_proto!("observer");
}

/// Package `relay`: what a relay adds to the stream.
pub mod relay {
    tonic::include_proto!("relay");
}

/// Package `peer`: who the nodes are.
pub mod peer {
    tonic::include_proto!("peer");
}

/// The encoded descriptors of all of it, for reflection and for the JSON form.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("hubble");
