//! What the process asks of its allocator. Loading parses all of the kernel's types, tens of megabytes that are needed once:
//! by its own rules glibc would keep them for ever, since a large block that was freed makes it put the next ones on the heap.

/// Blocks from this size on have pages of their own, which go back to the kernel when they are freed and grow without
/// a copy. Set, it stays: unset, glibc raises it with each such block that is freed.
#[cfg(target_env = "gnu")]
const OWN_PAGES: libc::c_int = 128 << 10;

/// Large blocks go back to the kernel when they are freed, from now on.
pub fn give_back_large() {
    // SAFETY: sets a number of the allocator's own.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES);
    }
}

/// Gives back what only the start needed: free memory, and the pages of this program, of which
/// those that are still run come back from its file.
pub fn give_back_start() {
    // SAFETY: asks the allocator to release pages that nobody holds.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    for (from, to) in unwritten(&maps, &program.to_string_lossy()) {
        // SAFETY: a private mapping of a file that never could be written to since it was made: each page is as it is in the
        // file, and is read from there when it is touched.
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(from), to - from, libc::MADV_DONTNEED);
        }
    }
}

/// Where a file's code, and the constants before it, are mapped (proc(5)). What stands behind the code was written to by the
/// loader, whatever may be done to it now.
fn unwritten(maps: &str, file: &str) -> Vec<(usize, usize)> {
    let mappings = maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, allowed, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let (from, to) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let ours = line.ends_with(file) && fields.nth(2) == Some(file);
        let code = allowed == "r-xp" || (allowed == "r--p" && number(offset)? == 0);
        (ours && code).then_some((number(from)?, number(to)?))
    });
    mappings.collect()
}

#[cfg(test)]
mod tests {
    use super::{give_back_start, unwritten};

    #[test]
    fn code_and_first_constants_are_taken_and_nothing_that_was_written() {
        let maps = "\
55ad00000000-55ad00004000 r--p 00000000 fe:00 1018 /bin/agent
55ad00004000-55ad00009000 r-xp 00004000 fe:00 1018 /bin/agent
55ad00009000-55ad0000a000 r--p 00009000 fe:00 1018 /bin/agent
55ad0000a000-55ad0000b000 rw-p 0000a000 fe:00 1018 /bin/agent
55ad0000b000-55ad0000c000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000004000 r-xp 00004000 fe:00 1019 /lib/libc.so.6
";
        let wanted = [(0x55ad_0000_0000, 0x55ad_0000_4000), (0x55ad_0000_4000, 0x55ad_0000_9000)];
        assert_eq!(unwritten(maps, "/bin/agent"), wanted);
        assert_eq!(unwritten(maps, ""), []);
    }

    /// It goes on, from the same code.
    #[test]
    fn a_program_runs_on_without_its_pages() {
        let kept = vec![7_u8; 1 << 20];
        give_back_start();
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
