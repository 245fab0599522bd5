//! Hubble, both ways: its messages, in our own definitions.

pub mod proto;
