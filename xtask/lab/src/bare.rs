//! A bare batch read of another process's hash: the least that reading a flow map costs, to hold an agent's against.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use crate::bpf::{self, MAP_GET_FD_BY_ID, MAP_LOOKUP_BATCH};

/// Entries asked for in one call.
const CHUNK: usize = 4_096;
/// Reads of the whole map.
const TIMES: u32 = 20;

/// Reads the hash with this id many times; nanoseconds an entry of the median read, and how many entries there are.
pub fn drain(id: u32, key_bytes: u64, value_bytes: u64) -> io::Result<(f64, u64)> {
    let mut attr: [u32; 3] = [id, 0, 0];
    // SAFETY: the attribute is BPF_MAP_GET_FD_BY_ID's, and it has no pointers.
    let map = unsafe { bpf::make(MAP_GET_FD_BY_ID, &mut attr) }?;
    // As long as the kernel's own steps from one entry to the next.
    let bytes = |size: u64| usize::try_from(size).map_or(0, |size| size * CHUNK);
    let (mut keys, mut values) = (vec![0_u8; bytes(key_bytes)], vec![0_u8; bytes(value_bytes)]);
    let mut reads = Vec::new();
    for _ in 0..TIMES {
        let started = Instant::now();
        let entries = read(&map, &mut keys, &mut values)?;
        reads.push((started.elapsed().as_nanos() as f64 / entries.max(1) as f64, entries));
    }
    reads.sort_by(|one, other| one.0.total_cmp(&other.0));
    Ok(reads[reads.len() / 2])
}

/// One read from end to end; how many entries there were.
fn read(map: &OwnedFd, keys: &mut [u8], values: &mut [u8]) -> io::Result<u64> {
    let (mut position, mut next, mut total) = (0_u32, 0_u32, 0);
    let mut first = true;
    loop {
        let mut attr: [u64; 7] = [
            if first { 0 } else { &raw mut position as u64 },
            &raw mut next as u64,
            keys.as_mut_ptr() as u64,
            values.as_mut_ptr() as u64,
            CHUNK as u64 | (map.as_raw_fd() as u64) << 32,
            0,
            0,
        ];
        // SAFETY: the attribute is BPF_MAP_LOOKUP_BATCH's, and the buffers hold CHUNK entries of the map's sizes.
        let outcome = unsafe { bpf::call(MAP_LOOKUP_BATCH, &mut attr) };
        total += attr[4] & 0xffff_ffff;
        match outcome {
            Ok(_) => (position, first) = (next, false),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(total),
            Err(error) => return Err(error),
        }
    }
}
