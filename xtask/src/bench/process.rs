//! What the kernel tells of a running agent's programs and maps.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

/// `BPF_PROG_TYPE_SCHED_CLS`
const SCHED_CLS: u64 = 3;
/// `BPF_MAP_TYPE_HASH`
const HASH: u64 = 1;

/// Runs of a process's tc programs since they were loaded, under `kernel.bpf_stats_enabled`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) count: u64,
    pub(super) ns: u64,
}

/// A map of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub(super) id: u32,
    pub(super) key_bytes: u64,
    pub(super) value_bytes: u64,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// What `/proc/PID/fdinfo` says about every descriptor: field to value.
fn descriptors(pid: u32) -> anyhow::Result<Vec<BTreeMap<String, u64>>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    Ok(texts.map(|text| fields(&text)).collect())
}

fn fields(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// All runs of the tc programs of a process.
pub(super) fn runs(pid: u32) -> anyhow::Result<Runs> {
    let mut programs = BTreeMap::new();
    for fields in descriptors(pid)? {
        let get = |name: &str| fields.get(name).copied();
        if let (Some(SCHED_CLS), Some(id), Some(ns), Some(count)) =
            (get("prog_type"), get("prog_id"), get("run_time_ns"), get("run_cnt"))
        {
            programs.insert(id, Runs { count, ns });
        }
    }
    if programs.is_empty() {
        bail!("process {pid} holds no tc programs");
    }
    Ok(programs.values().fold(Runs::default(), |sum, one| Runs { count: sum.count + one.count, ns: sum.ns + one.ns }))
}

/// The flow map of a process: its largest hash.
pub(super) fn flow_map(pid: u32) -> anyhow::Result<Map> {
    let maps = descriptors(pid)?.into_iter().filter_map(|fields| {
        let get = |name: &str| fields.get(name).copied();
        (get("map_type")? == HASH).then_some(Map {
            id: u32::try_from(get("map_id")?).ok()?,
            key_bytes: get("key_size")?,
            value_bytes: get("value_size")?,
            entries: get("max_entries")?,
            bytes: get("memlock")?,
        })
    });
    maps.max_by_key(|map| map.bytes).with_context(|| format!("process {pid} holds no hash"))
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn what_the_kernel_tells_is_understood() {
        let found = fields("pos:\t0\nprog_type:\t3\nprog_tag:\tabc\nrun_time_ns:\t1200\n");
        assert_eq!(found.get("run_time_ns"), Some(&1_200));
        assert_eq!(found.get("prog_tag"), None);
    }
}
