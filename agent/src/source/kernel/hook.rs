//! BPF links: what holds a program on a device's TCX chain or on a cgroup. `aya` can neither tell whether a link was
//! detached by somebody else, nor query a chain without the right to open everybody's programs.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use agent_ebpf::abi::Direction;

use super::sys::{bpf, raw};

// include/uapi/linux/bpf.h: enum bpf_cmd, enum bpf_attach_type, enum bpf_link_type, flags.
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_CGROUP_INET_INGRESS: u32 = 0;
const BPF_CGROUP_INET_EGRESS: u32 = 1;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_LINK_TYPE_CGROUP: u32 = 3;
const BPF_LINK_TYPE_TCX: u32 = 11;
const BPF_F_BEFORE: u32 = 1 << 3;
/// A chain's length at the most: `BPF_MPROG_MAX`, include/linux/bpf_mprog.h.
const CHAIN: usize = 64;
/// The loopback device, there in every network namespace.
const LOOPBACK_IFINDEX: u32 = 1;

#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u64,
    expected_revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct UpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
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

#[repr(C)]
#[derive(Default)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `struct bpf_link_info`, as far as the kinds used here fill it.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    target: u64,
    rest: [u64; 8],
}

/// How often a tracing program was due while it ran on the same CPU already, and was passed over (`recursion_misses` of
/// `struct bpf_prog_info`, from 5.12 on; 0 before).
///
/// # Errors
/// What the kernel answered.
pub fn missed(program: BorrowedFd<'_>) -> io::Result<u64> {
    const MISSES: usize = 208 / size_of::<u64>();
    let mut info = [0_u64; MISSES + 1];
    let mut attr = InfoAttr {
        fd: raw(program),
        length: u32::try_from(size_of_val(&info)).unwrap_or(0),
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the attribute is BPF_OBJ_GET_INFO_BY_FD's; the buffer lives and has the length that is told. As it asks for no
    // arrays, the kernel writes nothing else.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info[MISSES])
}

/// A loaded program: what is attached.
#[derive(Debug)]
pub struct Program {
    /// Its descriptor.
    pub fd: OwnedFd,
    /// Its number in the kernel.
    pub id: u32,
}

/// What a link is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A device's TCX chain, by interface index.
    Device(u32),
    /// A cgroup, by its id.
    Cgroup(u64),
    /// Nothing any more: somebody detached it, or its device is gone.
    Nowhere,
}

/// One program on one hook. Closing the last reference takes the program off, unless the link is pinned.
#[derive(Debug)]
pub struct Hook {
    link: OwnedFd,
}

impl Hook {
    /// Puts a program at the head of a device's TCX chain: nothing of another's is in front of it then.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn device(program: &Program, ifindex: u32, way: Direction) -> io::Result<Self> {
        Self::create(CreateAttr {
            program: raw(program.fd.as_fd()),
            target: ifindex,
            attach_type: tcx(way),
            flags: BPF_F_BEFORE,
            ..CreateAttr::default()
        })
    }

    /// Puts a program on a cgroup, beside whatever is there: such links are always several, and take no flag.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn cgroup(program: &Program, cgroup: BorrowedFd<'_>, way: Direction) -> io::Result<Self> {
        let attach_type = match way {
            // What the pod sends leaves its sockets.
            Direction::Ingress => BPF_CGROUP_INET_EGRESS,
            Direction::Egress => BPF_CGROUP_INET_INGRESS,
        };
        Self::create(CreateAttr {
            program: raw(program.fd.as_fd()),
            target: raw(cgroup),
            attach_type,
            ..CreateAttr::default()
        })
    }

    fn create(mut attr: CreateAttr) -> io::Result<Self> {
        // SAFETY: the attribute is BPF_LINK_CREATE's and has no pointers.
        let link = unsafe { bpf(BPF_LINK_CREATE, &mut attr) }?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Self { link: unsafe { OwnedFd::from_raw_fd(link) } })
    }

    /// Replaces the program in one step: every packet meets the old one or the new one.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn update(&self, program: &Program) -> io::Result<()> {
        let mut attr =
            UpdateAttr { link: raw(self.link.as_fd()), program: raw(program.fd.as_fd()), ..UpdateAttr::default() };
        // SAFETY: the attribute is BPF_LINK_UPDATE's and has no pointers.
        unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(drop)
    }

    /// Where it is, and the number of the program on it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn info(&self) -> io::Result<(Target, u32)> {
        let mut info = LinkInfo::default();
        let mut attr = InfoAttr {
            fd: raw(self.link.as_fd()),
            length: u32::try_from(size_of::<LinkInfo>()).unwrap_or(0),
            info: &raw mut info as u64,
        };
        // SAFETY: the attribute is BPF_OBJ_GET_INFO_BY_FD's; the buffer lives and has the length that is told.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
        // A TCX link's target is the index and the attach type, a cgroup's the whole of it.
        let target = match info.kind {
            BPF_LINK_TYPE_TCX if info.target as u32 != 0 => Target::Device(info.target as u32),
            BPF_LINK_TYPE_CGROUP if info.target != 0 => Target::Cgroup(info.target),
            _ => Target::Nowhere,
        };
        Ok((target, info.program))
    }

    /// Makes the link outlive this process, under a name in a BPF file system.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attr = ObjectAttr { path: path.as_ptr() as u64, fd: raw(self.link.as_fd()), flags: 0 };
        // SAFETY: the attribute is BPF_OBJ_PIN's, and the path is a string that lives.
        unsafe { bpf(BPF_OBJ_PIN, &mut attr) }.map(drop)
    }

    /// Opens a pinned link.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attr = ObjectAttr { path: path.as_ptr() as u64, ..ObjectAttr::default() };
        // SAFETY: the attribute is BPF_OBJ_GET's, and the path is a string that lives.
        let link = unsafe { bpf(BPF_OBJ_GET, &mut attr) }?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Self { link: unsafe { OwnedFd::from_raw_fd(link) } })
    }
}

/// The numbers of the programs on a device's TCX chain, in the order in which they run.
///
/// # Errors
/// What the kernel answered.
pub fn chain(ifindex: u32, way: Direction) -> io::Result<Vec<u32>> {
    let mut programs = vec![0_u32; CHAIN];
    let mut attr = QueryAttr {
        target: ifindex,
        attach_type: tcx(way),
        programs: programs.as_mut_ptr() as u64,
        count: u32::try_from(CHAIN).unwrap_or(0),
        ..QueryAttr::default()
    };
    // SAFETY: the attribute is BPF_PROG_QUERY's, and the buffer holds the number that is told.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    programs.truncate(attr.count as usize);
    Ok(programs)
}

/// Whether this kernel knows TCX (6.6 and newer).
#[must_use]
pub fn has_tcx() -> bool {
    // Where it does not, the attach type is out of range; a chain that is not there is another answer.
    !matches!(chain(LOOPBACK_IFINDEX, Direction::Ingress), Err(error) if error.raw_os_error() == Some(libc::EINVAL))
}

fn tcx(way: Direction) -> u32 {
    match way {
        Direction::Ingress => BPF_TCX_INGRESS,
        Direction::Egress => BPF_TCX_EGRESS,
    }
}
