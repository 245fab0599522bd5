//! Reads a kernel's BTF (Documentation/bpf/btf.rst): at which offset a struct has a member, which numbers an enum gives its
//! names. Pure. rustc emits no relocations against a kernel's types, so the agent looks offsets up at its start.

use std::collections::HashMap;

// Kinds, include/uapi/linux/btf.h.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;
/// `struct btf_type` without what follows it.
const TYPE_BYTES: usize = 12;
const MAGIC: u16 = 0xeb9f;
/// Structs without names inside structs, at the most so many levels down.
const MAX_DEPTH: u32 = 8;

/// What is wrong with a kernel's BTF.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// It does not begin as BTF does.
    #[error("read BTF: no BTF of this machine's byte order")]
    Magic,
    /// It ends within something.
    #[error("read BTF: cut short at byte {at}")]
    Short {
        /// Where.
        at: usize,
    },
}

/// A parsed kernel.
#[derive(Debug)]
pub struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Where each type begins, by its id.
    starts: Vec<u32>,
    /// Structs and unions that have members, and enums, by kind and name.
    named: HashMap<(bool, Vec<u8>), u32>,
}

impl Btf {
    /// Parses the bytes of `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// When they are not what the format says.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        if bytes.get(..2) != Some(&MAGIC.to_le_bytes()) {
            return Err(BtfError::Magic);
        }
        let field = |at: usize| word(bytes, at).map(|value| value as usize).ok_or(BtfError::Short { at });
        let section = |offset: usize, length: usize| {
            let start = field(4)?.saturating_add(field(offset)?);
            let end = start.saturating_add(field(length)?);
            bytes.get(start..end).map(<[u8]>::to_vec).ok_or(BtfError::Short { at: bytes.len() })
        };
        let mut btf =
            Self { types: section(8, 12)?, strings: section(16, 20)?, starts: vec![0], named: HashMap::new() };
        let mut at = 0;
        while at < btf.types.len() {
            let (kind, count) = btf.kind(at).ok_or(BtfError::Short { at })?;
            let id = btf.starts.len() as u32;
            let enumeration = kind == ENUM;
            if (enumeration || kind == STRUCT || kind == UNION) && count > 0 {
                let name = btf.text(btf.types_word(at).unwrap_or(0)).to_vec();
                if !name.is_empty() {
                    btf.named.entry((enumeration, name)).or_insert(id);
                }
            }
            btf.starts.push(at as u32);
            at += TYPE_BYTES + trailing(kind, count);
        }
        if at == btf.types.len() { Ok(btf) } else { Err(BtfError::Short { at }) }
    }

    /// Byte offset of a member, also of one that stands in a struct or union without a name; `a.b` goes down by name.
    #[must_use]
    pub fn offset(&self, structure: &str, path: &str) -> Option<u16> {
        let mut id = *self.named.get(&(false, structure.as_bytes().to_vec()))?;
        let mut sum = 0;
        for (index, member) in path.split('.').enumerate() {
            if index > 0 {
                id = self.resolve(id)?;
            }
            let (offset, of) = self.member(id, member.as_bytes(), MAX_DEPTH)?;
            sum += offset;
            id = of;
        }
        u16::try_from(sum).ok().filter(|offset| *offset != agent_ebpf::facts::ABSENT)
    }

    /// Names and numbers of an enum.
    #[must_use]
    pub fn enumerators(&self, name: &str) -> Vec<(String, u32)> {
        let Some(start) = self.named.get(&(true, name.as_bytes().to_vec())).and_then(|id| self.start(*id)) else {
            return Vec::new();
        };
        let count = self.kind(start).map_or(0, |(_, count)| count);
        let entry = |index: usize| {
            let at = start + TYPE_BYTES + index * 8;
            Some((String::from_utf8_lossy(self.text(self.types_word(at)?)).into_owned(), self.types_word(at + 4)?))
        };
        (0..count).map_while(entry).collect()
    }

    /// Offset and type of a member.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let start = self.start(id)?;
        let (kind, count) = self.kind(start)?;
        if (kind != STRUCT && kind != UNION) || depth == 0 {
            return None;
        }
        // With the flag set, the upper byte is a bit field's width.
        let bits = if self.types_word(start + 4)? >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        (0..count).find_map(|index| {
            let at = start + TYPE_BYTES + index * 12;
            let (text, of, offset) =
                (self.text(self.types_word(at)?), self.types_word(at + 4)?, (self.types_word(at + 8)? & bits) / 8);
            if text == name {
                return Some((offset, of));
            }
            if !text.is_empty() {
                return None;
            }
            self.member(of, name, depth - 1).map(|(inner, of)| (offset + inner, of))
        })
    }

    /// The struct behind type definitions and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let start = self.start(id)?;
            match self.kind(start)?.0 {
                STRUCT | UNION => return Some(id),
                // typedef, volatile, const, restrict, type tag
                8..=11 | 18 => id = self.types_word(start + 8)?,
                _ => return None,
            }
        }
        None
    }

    fn start(&self, id: u32) -> Option<usize> {
        if id == 0 { None } else { self.starts.get(id as usize).map(|start| *start as usize) }
    }

    /// Kind of the type that begins here, and how many things follow it.
    fn kind(&self, start: usize) -> Option<(u32, usize)> {
        let info = self.types_word(start + 4)?;
        Some(((info >> 24) & 0x1f, (info & 0xffff) as usize))
    }

    fn types_word(&self, at: usize) -> Option<u32> {
        word(&self.types, at)
    }

    fn text(&self, at: u32) -> &[u8] {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes)
}

/// Bytes behind the type itself.
fn trailing(kind: u32, count: usize) -> usize {
    match kind {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => count * 12,
        ENUM | FUNC_PROTO => count * 8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Btf, BtfError, MAGIC};

    /// Builds the sections of a small BTF.
    #[derive(Default)]
    struct Build {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Build {
        fn name(&mut self, name: &str) -> u32 {
            let at = self.strings.len() as u32;
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
            at
        }

        fn words(&mut self, words: &[u32]) {
            self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }

        fn bytes(&self) -> Vec<u8> {
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            let header = [u32::from(MAGIC) | 1 << 16, 24, 0, types, types, strings];
            let header = header.iter().flat_map(|word| word.to_le_bytes());
            header.chain(self.types.iter().copied()).chain(self.strings.iter().copied()).collect()
        }
    }

    /// `struct inner { int a; }`, `struct outer { int x; union { struct inner in; int flag:3; }; inner_t named; }`, an enum.
    fn sample() -> Build {
        let mut build = Build::default();
        build.name("");
        let names = ["int", "inner", "a", "outer", "x", "in", "flag", "named", "why", "WHY_NOT", "WHY", "inner_t"];
        let [int, inner, a, outer, x, nested, flag, named, why, why_not, because, inner_t] =
            names.map(|name| build.name(name));
        build.words(&[int, 1 << 24, 4, 32]); // 1
        build.words(&[inner, 4 << 24 | 1, 4, a, 1, 0]); // 2
        build.words(&[0, 1 << 31 | 5 << 24 | 2, 4, nested, 2, 0, flag, 1, 3 << 24 | 8]); // 3
        build.words(&[outer, 4 << 24 | 3, 16, x, 1, 0, 0, 3, 64, named, 5, 96]); // 4
        build.words(&[inner_t, 8 << 24, 2]); // 5
        build.words(&[why, 6 << 24 | 2, 4, why_not, 0, because, 7]); // 6
        build
    }

    #[test]
    fn members_are_found_at_any_depth() {
        let btf = Btf::parse(&sample().bytes()).expect("valid");
        let offset = |path| btf.offset("outer", path);
        assert_eq!(offset("x"), Some(0));
        assert_eq!(offset("in"), Some(8), "in a union without a name");
        assert_eq!(offset("flag"), Some(9), "a bit field's byte");
        assert_eq!(offset("in.a"), Some(8));
        assert_eq!(offset("named.a"), Some(12), "behind a type definition");
        assert_eq!(offset("a"), None, "a named struct's members are not its holder's");
        assert_eq!(offset("x.a"), None);
        assert_eq!(btf.offset("nobody", "x"), None);
        assert_eq!(btf.enumerators("why"), [("WHY_NOT".to_owned(), 0), ("WHY".to_owned(), 7)]);
        assert_eq!(btf.enumerators("outer"), []);
    }

    #[test]
    fn what_is_no_btf_is_refused_wherever_it_ends() {
        let bytes = sample().bytes();
        assert_eq!(Btf::parse(b"ELF").err(), Some(BtfError::Magic));
        for length in 2..bytes.len() {
            assert!(Btf::parse(&bytes[..length]).is_err(), "{length} bytes");
        }
        let mut long = sample();
        long.words(&[0, 4 << 24 | 9, 4]);
        assert!(matches!(Btf::parse(&long.bytes()), Err(BtfError::Short { .. })));
    }

    /// Skipped where the kernel has none, with the reason.
    #[test]
    fn this_machines_kernel_is_read() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            println!("skipped: no /sys/kernel/btf/vmlinux");
            return;
        };
        let btf = Btf::parse(&bytes).expect("the kernel's own");
        assert_eq!(btf.offset("sock_common", "skc_dport").map(|offset| offset % 2), Some(0));
        assert!(btf.offset("sock", "sk_err").is_some_and(|offset| offset > 100));
        assert!(btf.offset("net", "ns.inum").is_some());
        assert!(btf.offset("sk_buff", "network_header").is_some(), "behind nested groups");
    }
}
