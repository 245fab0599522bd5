//! Reading a whole hash map in a few system calls. `aya` has no batch API; a call per element is six times dearer.

use std::{io, os::fd::BorrowedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::sys::{bpf, raw};
use crate::clock;

// Command numbers of bpf(2), include/uapi/linux/bpf.h: enum bpf_cmd.
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// Bytes of keys and values asked for in one call: enough that the calls cost nothing beside the copying.
const CHUNK_BYTES: usize = 128 << 10;

/// What the kernel says of a map that has no such operation (include/linux/errno.h); not among the errors of user space.
const ENOTSUPP: i32 = 524;

/// `union bpf_attr`, the `batch` member.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr`, the member for single elements.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Buffers for reading a map, used again from call to call: fresh pages would cost a fifth of the reading.
pub struct Batch<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V> Default for Batch<K, V> {
    fn default() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }
}

impl<K: FromBytes + Copy, V: FromBytes + Copy> Batch<K, V> {
    /// Reads every entry of `map`.
    pub fn read<'a>(&'a mut self, map: BorrowedFd<'a>) -> Reading<'a, K, V> {
        if self.keys.is_empty() {
            self.resize(CHUNK_BYTES / (size_of::<K>() + size_of::<V>()));
        }
        let read = Read { entries: 0, took_ns: 0 };
        Reading { batch: self, map, position: None, filled: 0, next: 0, over: Ok(false), read }
    }

    fn resize(&mut self, length: usize) {
        self.keys.resize(length, K::new_zeroed());
        self.values.resize(length, V::new_zeroed());
    }
}

/// What a reading was.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Entries read.
    pub entries: u64,
    /// Nanoseconds that the kernel took for them.
    pub took_ns: u64,
}

/// A map that is being read: the kernel writes some entries at a time, and each is given from where it lies.
pub struct Reading<'a, K, V> {
    batch: &'a mut Batch<K, V>,
    map: BorrowedFd<'a>,
    /// For a hash, the kernel keeps the next bucket's number in these four bytes.
    position: Option<u32>,
    filled: usize,
    next: usize,
    /// Whether the kernel has no more, or why it gives no more.
    over: io::Result<bool>,
    read: Read,
}

impl<K: FromBytes + Copy, V: FromBytes + Copy> Reading<'_, K, V> {
    /// How the reading went, when it has come to its end.
    ///
    /// # Errors
    /// What the kernel answered, when it refused: nothing more was read from there on.
    pub fn end(self) -> io::Result<Read> {
        self.over.map(|_| self.read)
    }

    /// Asks for the next entries; says whether they were the last.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            let mut next = 0_u32;
            let mut attr = BatchAttr {
                in_batch: self.position.as_ref().map_or(0, |position| &raw const *position as u64),
                out_batch: &raw mut next as u64,
                keys: self.batch.keys.as_mut_ptr() as u64,
                values: self.batch.values.as_mut_ptr() as u64,
                count: u32::try_from(self.batch.keys.len()).unwrap_or(u32::MAX),
                map_fd: raw(self.map),
                ..BatchAttr::default()
            };
            // SAFETY: all pointers in the attribute live until the call returns, and the buffers hold `count` elements
            // of the map's key and value sizes, which both sides take from the same definition.
            let outcome = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) }.map(drop);
            let last = match outcome {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // A bucket holds more than the buffers: grow and ask again.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    self.batch.resize(self.batch.keys.len() * 2);
                    continue;
                }
                Err(error) => return Err(error),
            };
            (self.filled, self.next) = ((attr.count as usize).min(self.batch.keys.len()), 0);
            self.read.entries += self.filled as u64;
            self.position = Some(next);
            return Ok(last);
        }
    }
}

impl<K: FromBytes + Copy, V: FromBytes + Copy> Iterator for Reading<'_, K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        while self.next == self.filled {
            if !matches!(self.over, Ok(false)) {
                return None;
            }
            let started_ns = clock::monotonic_ns();
            (self.filled, self.next) = (0, 0);
            self.over = self.fill();
            self.read.took_ns += clock::monotonic_ns().saturating_sub(started_ns);
        }
        let entry = (self.batch.keys[self.next], self.batch.values[self.next]);
        self.next += 1;
        Some(entry)
    }
}

/// Removes an entry and gives its last value; `None` if it was not there. Before Linux 5.14 a hash cannot do both in one step:
/// what a program adds between the two is then missing, which the account of its device shows.
///
/// # Errors
/// What the kernel answered, when it refused.
pub fn take<K: IntoBytes + Immutable, V: FromBytes + IntoBytes>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut totals = V::new_zeroed();
    let value = totals.as_mut_bytes().as_mut_ptr() as u64;
    let element =
        |value| ElementAttr { map_fd: raw(map), key: key.as_bytes().as_ptr() as u64, value, ..ElementAttr::default() };
    // SAFETY: key and value live until the call returns and have the map's sizes; removing takes no value.
    let ask = |command, value| unsafe { bpf(command, &mut element(value)) };
    let both = ask(BPF_MAP_LOOKUP_AND_DELETE_ELEM, value);
    let taken = match both {
        Err(error) if error.raw_os_error() == Some(ENOTSUPP) => {
            ask(BPF_MAP_LOOKUP_ELEM, value).and_then(|_| ask(BPF_MAP_DELETE_ELEM, 0))
        }
        outcome => outcome,
    };
    match taken {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        outcome => outcome.map(|_| Some(totals)),
    }
}
