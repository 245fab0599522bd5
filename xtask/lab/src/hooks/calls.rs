//! The system calls behind the hooks: `bpf` and `perf_event_open`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::bpf::{self, HASH, MAP_LOOKUP_BATCH, RAW_TRACEPOINT_OPEN};

/// `PERF_TYPE_TRACEPOINT`, include/uapi/linux/perf_event.h.
pub(super) const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;

/// Puts a program on a raw tracepoint, or on what its type information names.
pub(super) fn open_raw_tracepoint(program: &OwnedFd, name: Option<&CStr>) -> io::Result<OwnedFd> {
    let mut attr: [u64; 2] = [name.map_or(0, |name| name.as_ptr() as u64), program.as_raw_fd() as u64];
    // SAFETY: the attribute is BPF_RAW_TRACEPOINT_OPEN's; the name lives until the call returns.
    unsafe { bpf::make(RAW_TRACEPOINT_OPEN, &mut attr) }
}

/// Takes away the limit of locked memory, where we may.
pub(super) fn unlimit_locked_memory() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call reads one structure, which outlives it.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

/// Reads an empty hash in one go: its end is what a kernel answers that can.
pub(super) fn batch_look_up() -> io::Result<()> {
    let map = bpf::make_map(HASH, 4, 4, 4)?;
    let (mut next, mut keys, mut values) = (0_u32, [0_u32; 4], [0_u32; 4]);
    let mut attr: [u64; 7] = [
        0,
        &raw mut next as u64,
        keys.as_mut_ptr() as u64,
        values.as_mut_ptr() as u64,
        4 | (map.as_raw_fd() as u64) << 32,
        0,
        0,
    ];
    // SAFETY: the attribute is BPF_MAP_LOOKUP_BATCH's, and the buffers hold the four entries it asks for.
    match unsafe { bpf::call(MAP_LOOKUP_BATCH, &mut attr) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// An event that a program is put on.
pub(super) struct PerfEvent<'a> {
    /// The unit that makes it.
    pub(super) kind: u32,
    /// The unit's own number for it.
    pub(super) config: u64,
    /// A function's name, for probes.
    pub(super) function: Option<&'a CStr>,
}

/// `struct perf_event_attr` up to what probes need.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    rest: [u64; 6],
}

/// Puts a program on an event, and takes it off again.
pub(super) fn on_perf_event(program: &OwnedFd, event: PerfEvent<'_>) -> io::Result<()> {
    let mut attr = PerfEventAttr {
        kind: event.kind,
        size: size_of::<PerfEventAttr>() as u32,
        config: event.config,
        sample_period: 1,
        wakeup_events: 1,
        config1: event.function.map_or(0, |name| name.as_ptr() as u64),
        ..PerfEventAttr::default()
    };
    // SAFETY: the attribute is as long as it says, and the name in it lives until the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw mut attr, -1, 0, -1, 0x8) };
    let event = owned(check(fd)?);
    // SAFETY: both descriptors are open; the argument of this request is a program's.
    check(unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()) }.into())?;
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) }.into()).map(drop)
}

fn check(outcome: libc::c_long) -> io::Result<libc::c_long> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
