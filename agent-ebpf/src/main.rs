//! BPF programs.

fn main() {}
