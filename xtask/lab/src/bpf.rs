//! The system call `bpf`, as little of it as the lab needs: programs and maps made, links, chains looked at. No help from
//! any library, so that the answers are the kernel's alone.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

// Commands, include/uapi/linux/bpf.h.
pub(crate) const MAP_GET_FD_BY_ID: libc::c_long = 14;
pub(crate) const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
pub(crate) const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_DETACH: libc::c_long = 34;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// `BPF_MAP_TYPE_HASH`
pub(crate) const HASH: u32 = 1;
/// `BPF_MAP_TYPE_ARRAY`
pub(crate) const ARRAY: u32 = 2;
/// `BPF_PROG_TYPE_SCHED_CLS`
pub(crate) const SCHED_CLS: u32 = 3;
/// `BPF_TCX_INGRESS`
pub(crate) const TCX_INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`
pub(crate) const TCX_EGRESS: u32 = 47;
/// `BPF_F_BEFORE`: at the head of a chain where no other link is named.
pub(crate) const BEFORE: u32 = 1 << 3;
/// More programs than one chain takes: `BPF_MPROG_MAX` of include/linux/bpf_mprog.h.
pub(crate) const MOST: usize = 65;
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
    log_level: u32,
    log_size: u32,
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

/// A program to be loaded.
pub(crate) struct Load<'a> {
    /// Its program type.
    pub(crate) kind: u32,
    /// The attach type that it is checked for.
    pub(crate) expected: u32,
    /// The kernel's type that it is put on.
    pub(crate) btf_id: u32,
    /// Its instructions.
    pub(crate) code: &'a [u64],
    /// Its name, as others see it.
    pub(crate) name: &'a str,
}

impl<'a> Load<'a> {
    /// A program that does nothing.
    pub(crate) fn new(kind: u32) -> Self {
        Self { kind, expected: 0, btf_id: 0, code: &NOTHING, name: "" }
    }

    /// A tc program.
    pub(crate) fn tc(code: &'a [u64]) -> Self {
        Self { code, ..Self::new(SCHED_CLS) }
    }

    /// Has it checked and loaded; a refusal carries what the verifier said last.
    pub(crate) fn load(&self) -> io::Result<OwnedFd> {
        let mut prog_name = [0; 16];
        prog_name.iter_mut().zip(self.name.bytes().take(15)).for_each(|(place, byte)| *place = byte);
        let mut attr = ProgLoad {
            prog_type: self.kind,
            insn_cnt: self.code.len() as u32,
            insns: self.code.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            prog_name,
            expected_attach_type: self.expected,
            attach_btf_id: self.btf_id,
            ..ProgLoad::default()
        };
        // SAFETY: the attribute is BPF_PROG_LOAD's, and its pointers live until the call returns.
        unsafe { make(PROG_LOAD, &mut attr) }
    }
}

/// What a program is put on.
pub(crate) struct Attach {
    /// A device's index or a cgroup's descriptor.
    pub(crate) target: u32,
    /// The attach type.
    pub(crate) kind: u32,
    /// Where in the chain.
    pub(crate) flags: u32,
}

/// Puts a program there for as long as the descriptor lives.
pub(crate) fn link(program: &OwnedFd, to: &Attach) -> io::Result<OwnedFd> {
    let mut attr: [u32; 8] = [program.as_raw_fd().cast_unsigned(), to.target, to.kind, to.flags, 0, 0, 0, 0];
    // SAFETY: the attribute is BPF_LINK_CREATE's, and it has no pointers.
    unsafe { make(LINK_CREATE, &mut attr) }
}

/// Puts another program in a link's place, in one step.
pub(crate) fn replace(link: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    let mut attr: [u32; 4] = [link.as_raw_fd().cast_unsigned(), program.as_raw_fd().cast_unsigned(), 0, 0];
    // SAFETY: the attribute is BPF_LINK_UPDATE's, and it has no pointers.
    unsafe { call(LINK_UPDATE, &mut attr) }.map(drop)
}

/// Takes a link off what it is on, whoever made it.
pub(crate) fn detach(id: u32) -> io::Result<()> {
    let mut by_id = [id, 0, 0, 0];
    // SAFETY: the attribute is BPF_LINK_GET_FD_BY_ID's and has no pointers.
    let link = unsafe { make(LINK_GET_FD_BY_ID, &mut by_id) }?;
    let mut attr = link.as_raw_fd().cast_unsigned();
    // SAFETY: the attribute is BPF_LINK_DETACH's: one descriptor.
    unsafe { call(LINK_DETACH, &mut attr) }.map(drop)
}

/// A link's number, as chains have it.
pub(crate) fn link_id(link: &OwnedFd) -> io::Result<u32> {
    let mut info = [0_u32; 32];
    let sizes = (size_of_val(&info) as u64) << 32 | link.as_raw_fd() as u64;
    let mut attr: [u64; 2] = [sizes, info.as_mut_ptr() as u64];
    // SAFETY: the attribute is BPF_OBJ_GET_INFO_BY_FD's, and the buffer is as long as it says.
    unsafe { call(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    // `struct bpf_link_info`: the type, then the number.
    Ok(info[1])
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// The ids of the links on one of a device's chains, in their order.
pub(crate) fn links(ifindex: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let (mut programs, mut links) = ([0_u32; MOST], [0_u32; MOST]);
    let mut attr = Query {
        target: ifindex,
        attach_type,
        programs: programs.as_mut_ptr() as u64,
        count: MOST as u32,
        links: links.as_mut_ptr() as u64,
        ..Query::default()
    };
    // SAFETY: the attribute is BPF_PROG_QUERY's, and both buffers hold the number that is told.
    unsafe { call(PROG_QUERY, &mut attr) }?;
    Ok(links[..attr.count as usize].to_vec())
}

/// Makes a map.
pub(crate) fn make_map(kind: u32, key: u32, value: u32, entries: u32) -> io::Result<OwnedFd> {
    let mut attr: [u32; 5] = [kind, key, value, entries, 0];
    // SAFETY: the attribute is BPF_MAP_CREATE's, and it has no pointers.
    unsafe { make(MAP_CREATE, &mut attr) }
}

/// Enters a value into a map whose keys and values have these sizes.
pub(crate) fn insert<const K: usize, const V: usize>(map: &OwnedFd, key: &[u8; K], value: &[u8; V]) -> io::Result<()> {
    let mut attr: [u64; 4] = [map.as_raw_fd() as u64, key.as_ptr() as u64, value.as_ptr() as u64, 0];
    // SAFETY: the attribute is BPF_MAP_UPDATE_ELEM's; key and value are as long as the map's, by its maker's word.
    unsafe { call(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// One counter of an array of 8-byte values.
pub(crate) fn counter(map: &OwnedFd, index: u32) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut attr: [u64; 4] = [map.as_raw_fd() as u64, &raw const index as u64, &raw mut value as u64, 0];
    // SAFETY: the attribute is BPF_MAP_LOOKUP_ELEM's; the map has 4-byte keys and 8-byte values.
    unsafe { call(MAP_LOOKUP_ELEM, &mut attr) }?;
    Ok(value)
}

/// `struct bpf_insn` in a number: opcode, registers (source in the high four bits), offset, immediate.
pub(crate) const fn instruction(code: u8, registers: u8, offset: i16, immediate: u32) -> u64 {
    code as u64 | (registers as u64) << 8 | (offset.cast_unsigned() as u64) << 16 | (immediate as u64) << 32
}

/// # Safety
/// `attr` is the attribute that `command` takes, its pointers are valid, and the command answers with a new descriptor.
pub(crate) unsafe fn make<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { call(command, attr) }?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// # Safety
/// `attr` is the attribute that `command` takes, and the pointers in it are valid for it.
pub(crate) unsafe fn call<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}
