//! The shop (placeholder while the library comes up).
