//! What TCP sockets know: who opened, how it ended, round-trip times, what was sent again, and whose they are.

use core::arch::asm;

use agent_ebpf::{
    abi::Loss,
    facts::{RTT_BUCKETS, RTT_EVERY_NS, SocketKey, SocketState, SocketTotals, role},
    parse::protocol,
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};

use super::{
    super::{
        flow::{add_32, add_64},
        loss,
    },
    maps::{OPEN_SOCKETS, SOCKETS, setting},
    read::{addresses, cgroup, in_scope, netns_at, read},
};

// include/net/tcp_states.h
const ESTABLISHED: u32 = 1;
const SYN_SENT: u32 = 2;
const SYN_RECV: u32 = 3;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const LISTEN: u32 = 10;

// include/uapi/asm-generic/errno.h
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;
const EHOSTDOWN: i32 = 112;
const EHOSTUNREACH: i32 = 113;

/// What a new entry starts from.
static EMPTY: SocketTotals = SocketTotals::EMPTY;

/// Whether a change of state tells anything: the one question asked for every change on the machine.
#[inline(always)]
pub(super) fn telling(old: u32, new: u32) -> bool {
    match new {
        SYN_SENT => true,
        ESTABLISHED => old == SYN_SENT || old == SYN_RECV,
        CLOSE => old != CLOSE && old != LISTEN && old != SYN_RECV,
        _ => false,
    }
}

/// A TCP socket goes from one state to another.
#[inline(never)]
pub(super) fn state_changed(sk: u64, old: u32, new: u32) -> u32 {
    if read::<u16>(sk, setting!(sock_protocol)).is_none_or(|found| found as u8 != protocol::TCP) {
        return 0;
    }
    let found = match new {
        SYN_SENT => role::CLIENT,
        ESTABLISHED if old == SYN_RECV => role::SERVER,
        _ => role_of(sk),
    };
    let Some(key) = key(sk, found) else { return 0 };
    let Some(totals) = totals(&key) else { return 0 };
    // SAFETY: entries of a preallocated hash stay mapped while the program runs; counters are added to atomically.
    unsafe {
        match new {
            SYN_SENT => {
                add_32(&raw mut (*totals).attempts, 1);
                remember(sk, found);
                // connect(2) comes this way, so the caller is the owner.
                own(totals);
            }
            ESTABLISHED => {
                if old == SYN_RECV {
                    add_32(&raw mut (*totals).attempts, 1);
                    remember(sk, found);
                }
                add_32(&raw mut (*totals).established, 1);
                sample(sk, totals);
            }
            _ => {
                closed(sk, old, totals);
                let _ = OPEN_SOCKETS.remove(&sk);
            }
        }
    }
    0
}

#[inline(always)]
unsafe fn closed(sk: u64, old: u32, totals: *mut SocketTotals) {
    let error = read::<i32>(sk, setting!(sock_err)).unwrap_or(0);
    let cause = match error {
        0 => read::<i32>(sk, setting!(sock_err_soft)).unwrap_or(0),
        _ => error,
    };
    // A caller that loses patience closes the socket, which is no error of the socket's.
    let retried = cause == 0 && read::<u8>(sk, setting!(icsk_retransmits)).unwrap_or(0) > 0;
    // SAFETY: as in `state_changed`.
    unsafe {
        if old != SYN_SENT {
            sample(sk, totals);
            // An orderly end passes the FIN states; there, only an error tells of a reset.
            if old == ESTABLISHED || old == CLOSE_WAIT || error != 0 {
                add_32(&raw mut (*totals).aborted, 1);
            }
            return;
        }
        let counter = match cause {
            ECONNREFUSED => &raw mut (*totals).refused,
            ETIMEDOUT => &raw mut (*totals).timed_out,
            EHOSTUNREACH | ENETUNREACH | EHOSTDOWN | ENETDOWN => &raw mut (*totals).unreachable,
            _ if retried => &raw mut (*totals).timed_out,
            _ => &raw mut (*totals).failed_otherwise,
        };
        add_32(counter, 1);
    }
}

/// A process took data from a socket: the moment to look at its round-trip time, a few times a second at the most.
#[inline(never)]
pub(super) fn received(sk: u64) -> u32 {
    // SAFETY: no arguments, no memory.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let found = match OPEN_SOCKETS.get_ptr_mut(&sk) {
        // SAFETY: as in `state_changed`; of two that come at once, both may sample.
        Some(state) => unsafe {
            if now_ns.wrapping_sub((*state).sampled_ns) < RTT_EVERY_NS {
                return 0;
            }
            (*state).sampled_ns = now_ns;
            (*state).role
        },
        None => {
            // What is read after the end belongs to a socket that is forgotten already.
            if read::<u8>(sk, setting!(sock_state)).is_none_or(|state| u32::from(state) == CLOSE) {
                return 0;
            }
            let found = guess(sk);
            remember(sk, found);
            found
        }
    };
    let Some(key) = key(sk, found) else { return 0 };
    let Some(totals) = totals(&key) else { return 0 };
    // SAFETY: as in `state_changed`.
    unsafe {
        sample(sk, totals);
        own(totals);
    }
    0
}

/// A socket sent something again.
#[inline(never)]
pub(super) fn retransmitted(sk: u64, skb: u64) -> u32 {
    let Some(key) = key(sk, role_of(sk)) else { return 0 };
    let Some(totals) = totals(&key) else { return 0 };
    let control = u64::from(setting!(skb_cb));
    let segments = read::<u16>(skb + control, setting!(cb_gso_segs)).unwrap_or(1).max(1);
    // SAFETY: as in `state_changed`.
    unsafe { add_32(&raw mut (*totals).retransmitted, u32::from(segments)) }
    0
}

#[inline(always)]
fn role_of(sk: u64) -> u8 {
    // SAFETY: the value is replaced as a whole, and the role never changes.
    match unsafe { OPEN_SOCKETS.get(&sk) } {
        Some(state) => state.role,
        None => guess(sk),
    }
}

/// The rule for a connection whose start nobody saw: the lower port serves.
#[inline(always)]
fn guess(sk: u64) -> u8 {
    let port = |offset| u16::from_be(read::<u16>(sk, offset).unwrap_or(0));
    let end = if port(setting!(inet_sport)) <= port(setting!(sock_dport)) { role::SERVER } else { role::CLIENT };
    end | role::GUESSED
}

#[inline(always)]
fn remember(sk: u64, found: u8) {
    // The first read tells the process that took the connection.
    let state = SocketState { sampled_ns: 0, role: found, reserved: [0; 7] };
    if OPEN_SOCKETS.insert(&sk, &state, 0).is_err() {
        loss::count(Loss::SocketsFull);
    }
}

/// The key of a socket that is in scope.
#[inline(always)]
fn key(sk: u64, found: u8) -> Option<SocketKey> {
    let netns = netns_at(sk, setting!(sock_net));
    if !in_scope(netns) {
        return None;
    }
    let (local, remote) = addresses(sk)?;
    let served = if found & role::SERVER != 0 { setting!(inet_sport) } else { setting!(sock_dport) };
    let server_port = u16::from_be(read(sk, served)?);
    Some(SocketKey { local, remote, cgroup: cgroup(sk), netns, server_port, role: found, reserved: 0 })
}

#[inline(always)]
fn totals(key: &SocketKey) -> Option<*mut SocketTotals> {
    // SAFETY: no arguments, no memory.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let entry = match SOCKETS.get_ptr_mut(key) {
        Some(entry) => Some(entry),
        None => {
            // Another CPU may have made the entry meanwhile: then this fails, and its entry is found below.
            let made = SOCKETS.insert(key, &EMPTY, u64::from(BPF_NOEXIST)).is_ok();
            let entry = SOCKETS.get_ptr_mut(key);
            if let (true, Some(entry)) = (made, entry) {
                // SAFETY: as in `state_changed`.
                unsafe { (*entry).first_ns = now_ns }
            }
            entry
        }
    };
    match entry {
        // SAFETY: as in `state_changed`.
        Some(entry) => unsafe { (*entry).last_ns = now_ns },
        None => loss::count(Loss::SocketsFull),
    }
    entry
}

/// Adds the smoothed round-trip time, which the kernel keeps in eighths of a microsecond; 0 before the first sample.
#[inline(always)]
unsafe fn sample(sk: u64, totals: *mut SocketTotals) {
    let us = read::<u32>(sk, setting!(tcp_srtt)).unwrap_or(0) >> 3;
    if us == 0 {
        return;
    }
    let mut bucket = u64::from(us.ilog2());
    // The verifier does not follow a logarithm; the mask, which the compiler would leave out, tells it the bound.
    // SAFETY: plain arithmetic on one register.
    unsafe { asm!("{bucket} &= 0x1f", bucket = inout(reg) bucket, options(pure, nomem, nostack)) }
    const { assert!(RTT_BUCKETS == 32) };
    // SAFETY: as in `state_changed`; the bucket is below 32.
    unsafe {
        add_32((&raw mut (*totals).rtt).cast::<u32>().add(bucket as usize), 1);
        add_64(&raw mut (*totals).rtt_sum_us, u64::from(us));
    }
}

/// The calling process is the owner; of several, the last one seen.
#[inline(always)]
unsafe fn own(totals: *mut SocketTotals) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // Nobody: an interrupt found the CPU idle.
    if pid == 0 {
        return;
    }
    if let Ok(process) = bpf_get_current_comm() {
        // SAFETY: as in `state_changed`; of two writers at once the last wins, byte by byte, which user space may see.
        unsafe {
            (*totals).pid = pid;
            (*totals).process = process;
        }
    }
}
