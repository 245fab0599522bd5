//! Where flows come from: the kernel, behind one door.

pub mod kernel;
