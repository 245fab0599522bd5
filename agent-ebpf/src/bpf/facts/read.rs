//! Reading the kernel's structs by offsets from its BTF. A read of a wrong address fails; it harms nothing.

use agent_ebpf::{abi::mapped, facts::ABSENT};
use aya_ebpf::helpers::bpf_probe_read_kernel;

use super::maps::{SCOPE, setting};

/// `AF_INET` and `AF_INET6`, include/linux/socket.h.
const INET: u16 = 2;
const INET6: u16 = 10;

/// A value at `base + offset` in the kernel's memory.
#[inline(always)]
pub(super) fn read<T: Copy>(base: u64, offset: u16) -> Option<T> {
    if offset == ABSENT {
        return None;
    }
    // SAFETY: the helper checks the address itself, and every T here takes any bytes.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T).ok() }
}

/// The `index`-th word of a program's context, as a number: no pointer that the verifier would follow.
#[inline(always)]
pub(super) fn argument(context: *const u64, index: usize) -> u64 {
    // SAFETY: as for `read`; the context has as many words as the hook has arguments.
    unsafe { bpf_probe_read_kernel(context.wrapping_add(index)).unwrap_or(0) }
}

/// Inode of the namespace behind a `possible_net_t`.
#[inline(always)]
pub(super) fn netns_at(base: u64, offset: u16) -> u32 {
    match read::<u64>(base, offset) {
        Some(net) if net != 0 => read::<u32>(net, setting!(net_inum)).unwrap_or(0),
        _ => 0,
    }
}

/// Whether a namespace is this agent's business.
#[inline(always)]
pub(super) fn in_scope(netns: u32) -> bool {
    // SAFETY: the value is not read.
    setting!(scoped) == 0 || unsafe { SCOPE.get(&netns) }.is_some()
}

/// Both addresses of a socket: its own, its peer's.
#[inline(always)]
pub(super) fn addresses(sk: u64) -> Option<([u8; 16], [u8; 16])> {
    match read::<u16>(sk, setting!(sock_family))? {
        INET => Some((mapped(read(sk, setting!(sock_rcv_saddr))?), mapped(read(sk, setting!(sock_daddr))?))),
        INET6 => Some((read(sk, setting!(sock_v6_rcv_saddr))?, read(sk, setting!(sock_v6_daddr))?)),
        _ => None,
    }
}

/// Id of a socket's cgroup in the v2 hierarchy; 0 where it cannot be known.
#[inline(always)]
pub(super) fn cgroup(sk: u64) -> u64 {
    let Some(cgroup) = read::<u64>(sk, setting!(sock_cgroup)) else { return 0 };
    // Before 5.15 the low bits mean that the word holds net_cls's data instead (struct sock_cgroup_data).
    if cgroup & 3 != 0 || cgroup == 0 {
        return 0;
    }
    match read::<u64>(cgroup, setting!(cgroup_kn)) {
        Some(kn) if kn != 0 => read::<u64>(kn, setting!(kernfs_id)).unwrap_or(0),
        _ => 0,
    }
}
