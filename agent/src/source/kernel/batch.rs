//! Reading a whole hash map in a few system calls. `aya` has no batch API; a call per element is six times dearer.

use std::{io, os::fd::BorrowedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::sys::{bpf, raw};

// Command numbers of bpf(2), include/uapi/linux/bpf.h: enum bpf_cmd.
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// Entries asked for in one call at the least: enough that the calls cost nothing beside the copying.
const ROOM: usize = 4_096;

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

/// What a map held: keys and values side by side, where the kernel wrote them.
pub struct Batch<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: FromBytes, V: FromBytes> Batch<K, V> {
    /// Reads every entry of `map`. Not kept, what was read goes back to the kernel: between two readings it would be the
    /// largest thing in memory that nobody looks at.
    ///
    /// # Errors
    /// What the kernel answered, when it refused.
    pub fn read(map: BorrowedFd<'_>) -> io::Result<Self> {
        let (mut keys, mut values) = (Vec::<K>::new(), Vec::<V>::new());
        let mut room = ROOM;
        // For a hash, the kernel keeps the next bucket's number in these four bytes.
        let mut position = None::<u32>;
        loop {
            keys.reserve(room);
            values.reserve(room);
            let (free_keys, free_values) = (keys.spare_capacity_mut(), values.spare_capacity_mut());
            let free = free_keys.len().min(free_values.len());
            let mut next = 0_u32;
            let mut attr = BatchAttr {
                in_batch: position.as_ref().map_or(0, |position| &raw const *position as u64),
                out_batch: &raw mut next as u64,
                keys: free_keys.as_mut_ptr() as u64,
                values: free_values.as_mut_ptr() as u64,
                count: u32::try_from(free).unwrap_or(u32::MAX),
                map_fd: raw(map),
                ..BatchAttr::default()
            };
            // SAFETY: all pointers in the attribute live until the call returns, and the buffers have room for `count`
            // elements of the map's key and value sizes, which both sides take from the same definition.
            let outcome = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) }.map(drop);
            let end = match outcome {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // A bucket holds more than there is room for: make more and ask again.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    room = free * 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let read = (attr.count as usize).min(free);
            // SAFETY: the kernel wrote so many behind what was there, and any bytes are a key and a value.
            unsafe {
                keys.set_len(keys.len() + read);
                values.set_len(values.len() + read);
            }
            if end {
                return Ok(Self { keys, values });
            }
            position = Some(next);
        }
    }

    /// Entries that were read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// None were.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What was read.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        self.keys.iter().zip(&self.values)
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
