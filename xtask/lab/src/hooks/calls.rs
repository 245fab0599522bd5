//! The system calls behind the hooks: `bpf` and `perf_event_open`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

// Commands of bpf(2), include/uapi/linux/bpf.h.
const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const LINK_CREATE: libc::c_long = 28;
const MAP_HASH: u32 = 1;

/// `PERF_TYPE_TRACEPOINT`, include/uapi/linux/perf_event.h.
pub(super) const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;

/// `r0 = 0; exit`
const NOTHING: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

/// `union bpf_attr`, the member for loading programs.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u32; 2],
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// A program that does nothing, to be loaded.
pub(super) struct Load {
    /// Its program type.
    pub(super) kind: u32,
    /// The attach type that it is checked for.
    pub(super) expected: u32,
    /// The kernel's type that it is put on.
    pub(super) btf_id: u32,
}

impl Load {
    pub(super) fn new(kind: u32) -> Self {
        Self { kind, expected: 0, btf_id: 0 }
    }

    pub(super) fn load(&self) -> io::Result<OwnedFd> {
        let mut attr = ProgLoad {
            prog_type: self.kind,
            insn_cnt: NOTHING.len() as u32,
            insns: NOTHING.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            expected_attach_type: self.expected,
            attach_btf_id: self.btf_id,
            ..ProgLoad::default()
        };
        // SAFETY: the attribute is BPF_PROG_LOAD's, and its pointers are to constants.
        unsafe { bpf(PROG_LOAD, &mut attr) }.map(owned)
    }
}

/// What a program is put on.
pub(super) struct Attach {
    /// A device's index or a cgroup's descriptor.
    pub(super) target: u32,
    /// The attach type.
    pub(super) kind: u32,
}

/// Puts a program there for as long as the descriptor lives.
pub(super) fn link(program: &OwnedFd, to: Attach) -> io::Result<OwnedFd> {
    let mut attr: [u32; 8] = [program.as_raw_fd().cast_unsigned(), to.target, to.kind, 0, 0, 0, 0, 0];
    // SAFETY: the attribute is BPF_LINK_CREATE's, and it has no pointers.
    unsafe { bpf(LINK_CREATE, &mut attr) }.map(owned)
}

/// Puts a program on a raw tracepoint, or on what its type information names.
pub(super) fn open_raw_tracepoint(program: &OwnedFd, name: Option<&CStr>) -> io::Result<OwnedFd> {
    let mut attr: [u64; 2] = [name.map_or(0, |name| name.as_ptr() as u64), program.as_raw_fd() as u64];
    // SAFETY: the attribute is BPF_RAW_TRACEPOINT_OPEN's; the name lives until the call returns.
    unsafe { bpf(RAW_TRACEPOINT_OPEN, &mut attr) }.map(owned)
}

/// Takes away the limit of locked memory, where we may.
pub(super) fn unlimit_locked_memory() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call reads one structure, which outlives it.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

/// Makes a map.
pub(super) fn make_map(kind: u32, key: u32, value: u32, entries: u32) -> io::Result<OwnedFd> {
    let mut attr: [u32; 5] = [kind, key, value, entries, 0];
    // SAFETY: the attribute is BPF_MAP_CREATE's, and it has no pointers.
    unsafe { bpf(MAP_CREATE, &mut attr) }.map(owned)
}

/// Reads an empty hash in one go: its end is what a kernel answers that can.
pub(super) fn batch_look_up() -> io::Result<()> {
    let map = make_map(MAP_HASH, 4, 4, 4)?;
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
    match unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) } {
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

/// # Safety
/// `attr` is the attribute that `command` takes, and the pointers in it are valid for it.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) })
}
