//! What the kernel knows beside packets: one body per fact, and thin entry programs per form of hook.

mod drop;
mod forms;
mod maps;
mod read;
mod socket;
