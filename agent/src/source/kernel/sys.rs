//! The bpf(2) call, for what `aya` does not offer.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// A descriptor as attributes want it.
pub(super) fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// The call itself; gives what it returned: a new descriptor, or nothing of interest.
///
/// # Safety
/// `attr` is the attribute that `command` takes, and the pointers in it are valid for it.
pub(super) unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's promise; the size is the attribute's own, and the kernel takes the rest as zero.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    // bpf(2) returns an int.
    i32::try_from(outcome).ok().filter(|value| *value >= 0).ok_or_else(io::Error::last_os_error)
}
