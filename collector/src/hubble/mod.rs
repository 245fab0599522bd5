//! Hubble, both ways: its messages, in our own definitions.

pub mod beside;
pub mod client;
pub mod compare;
pub mod fold;
pub mod json;
pub mod print;
pub mod proto;
pub mod server;
pub mod text;
pub mod tool;
