//! What outlives a run: tables of keys and values, as the rooms that own the state write and read them. Pure.

use std::collections::BTreeMap;

/// The form of what is kept. Another one is not read.
pub const VERSION: u32 = 1;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named after what is in them")]
pub enum Table {
    Head,
    Flows,
    Nodes,
    Buckets,
    Edges,
    Pods,
    Services,
    Hosts,
    Agents,
    Names,
    Events,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 11] = [
        Self::Head,
        Self::Flows,
        Self::Nodes,
        Self::Buckets,
        Self::Edges,
        Self::Pods,
        Self::Services,
        Self::Hosts,
        Self::Agents,
        Self::Names,
        Self::Events,
    ];

    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Flows => "flows",
            Self::Nodes => "nodes",
            Self::Buckets => "buckets",
            Self::Edges => "edges",
            Self::Pods => "pods",
            Self::Services => "services",
            Self::Hosts => "hosts",
            Self::Agents => "agents",
            Self::Names => "names",
            Self::Events => "events",
        }
    }
}

/// What is to be written in one step, or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Everything that was there goes first.
    pub anew: bool,
    /// None comes after it: it is tried whatever went wrong a moment ago.
    pub last: bool,
    /// Keys and their new values.
    pub puts: Vec<(Table, Vec<u8>, Vec<u8>)>,
    /// Keys that go.
    pub deletes: Vec<(Table, Vec<u8>)>,
}

impl Batch {
    /// Sets a value.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.puts.push((table, key.into(), value));
    }

    /// Takes a value out.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.deletes.push((table, key.into()));
    }

    /// Nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.anew && self.puts.is_empty() && self.deletes.is_empty()
    }
}

/// Everything that was kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept(pub BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>);

impl Kept {
    /// The rows of a table, in the order of their keys.
    pub fn rows(&self, table: Table) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.0.get(&table).into_iter().flatten()
    }

    /// One value.
    #[must_use]
    pub fn get(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        self.0.get(&table)?.get(key).map(Vec::as_slice)
    }
}

/// What was kept makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read")]
pub struct Damaged {
    /// What of it.
    pub what: String,
}

impl Damaged {
    /// A row of a table.
    #[must_use]
    pub fn row(table: Table) -> Self {
        Self { what: format!("a row of the table {}", table.name()) }
    }
}
