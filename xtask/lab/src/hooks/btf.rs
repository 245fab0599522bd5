//! A look into the kernel's own type information: the number of a type by its name
//! (the kernel's Documentation/bpf/btf.rst).

use std::io;

/// The kinds asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `BTF_KIND_TYPEDEF`
    Typedef = 8,
    /// `BTF_KIND_FUNC`
    Function = 12,
}

/// The number of the type `name` in the running kernel.
pub(super) fn id_of(kind: Kind, name: &str) -> io::Result<u32> {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux")?;
    find(&bytes, kind, name).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

fn find(bytes: &[u8], kind: Kind, name: &str) -> Option<u32> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let header = word(4)? as usize;
    let (types, types_len) = (header + word(8)? as usize, word(12)? as usize);
    let strings = header + word(16)? as usize;
    let mut at = types;
    let mut id = 1;
    while at < types + types_len {
        let (name_at, info) = (strings + word(at)? as usize, word(at + 4)?);
        let (this, members) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        let text = bytes.get(name_at..)?;
        if this == kind as u32 && text.starts_with(name.as_bytes()) && text.get(name.len()) == Some(&0) {
            return Some(id);
        }
        at += 12 + behind(this, members)?;
        id += 1;
    }
    None
}

/// Bytes behind a type's three words, by its kind.
fn behind(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * members,
        6 | 13 => 8 * members,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Kind, find};

    #[test]
    fn a_type_is_found_behind_those_of_other_sizes() {
        // An int, a struct of one member, a typedef called `b`.
        let types: [u32; 13] = [1, 1 << 24, 4, 0, 1, 4 << 24 | 1, 4, 1, 1, 0, 3, 8 << 24, 1];
        let mut bytes = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        for word in [0, 52, 52, 5] {
            bytes.extend_from_slice(&u32::to_le_bytes(word));
        }
        bytes.extend(types.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend_from_slice(b"\0a\0b\0");
        assert_eq!(find(&bytes, Kind::Typedef, "b"), Some(3));
        assert_eq!(find(&bytes, Kind::Function, "b"), None);
        assert_eq!(find(&bytes, Kind::Typedef, "a"), None);
    }
}
