//! The kernel side's shared half.
