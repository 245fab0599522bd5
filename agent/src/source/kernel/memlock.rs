//! Locked memory: up to 5.10 the kernel takes maps and rings for it, and the usual limit is less than one ring.

/// Lifts the limit, where we may. Where not, what does not fit is refused and the error says so; newer kernels (5.11)
/// charge the memory's cgroup in its place and do not ask.
pub fn lift() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call reads one structure, which outlives it.
    let refused = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) } != 0;
    if refused {
        tracing::debug!(error = %std::io::Error::last_os_error(), "limit of locked memory stays as it is");
    }
}
