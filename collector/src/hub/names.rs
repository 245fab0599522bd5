//! The names' part of the hub: news of them comes in, what nobody remembers goes.

use super::{Hub, TICK};
use crate::{
    names::{Change, Inventory, Owner},
    project,
    time::Ns,
    view::{NamesRow, ms},
};

/// News of the names.
#[derive(Debug)]
pub enum NamesUpdate {
    /// A reading that succeeded.
    Read {
        /// What was read.
        inventory: Inventory,
        /// `file` or `recording`.
        source: &'static str,
    },
    /// Changes that a watch told.
    Changes {
        /// What is different, in order.
        changes: Vec<Change>,
    },
    /// Where a source that is watched stands.
    Watched {
        /// All that may be read was read, and is kept up to date.
        fresh: bool,
        /// What is wrong, in words.
        trouble: Option<String>,
    },
    /// A reading that failed: the last good one stays.
    Failed {
        /// Why, in words.
        error: String,
    },
}

impl Hub {
    pub(super) fn take_names(&mut self, update: NamesUpdate) {
        match update {
            NamesUpdate::Read { inventory, source } => {
                let now = (self.clock)();
                self.names.read(inventory, now);
                self.see_turns(now);
                self.names_row = NamesRow {
                    source: source.to_owned(),
                    state: "fresh".to_owned(),
                    error: None,
                    read_ms: Some(ms(now)),
                    ambiguous: 0,
                };
            }
            NamesUpdate::Changes { changes } => {
                let now = (self.clock)();
                for change in changes {
                    self.names.apply(change, now);
                }
                self.see_turns(now);
            }
            NamesUpdate::Watched { fresh, trouble } => {
                let row = &mut self.names_row;
                if fresh {
                    row.read_ms = Some(ms((self.clock)()));
                }
                let state = match (fresh, &trouble, row.read_ms) {
                    (true, None, _) => "fresh",
                    (true, Some(_), _) => "partial",
                    (false, _, Some(_)) => "stale",
                    (false, _, None) => "none",
                };
                (row.state, row.error) = (state.to_owned(), trouble);
            }
            NamesUpdate::Failed { error } => {
                if self.names_row.read_ms.is_some() {
                    "stale".clone_into(&mut self.names_row.state);
                }
                self.names_row.error = Some(error);
            }
        }
        self.flush_within(TICK);
    }

    /// What is told before all was read once did not happen just now.
    fn see_turns(&mut self, now: Ns) {
        let quiet = self.names_row.read_ms.is_none();
        for turn in self.names.take_turns() {
            self.events.turn(&turn, quiet, now);
        }
    }

    /// A gone pod is remembered as long as an edge of one of its addresses or cgroups is.
    pub(super) fn forget_gone_pods(&mut self, now: Ns) {
        if !self.names.any_gone() {
            return;
        }
        let mut used = std::collections::HashSet::new();
        for (_, flow) in self.merge.flows() {
            for row in &flow.rows {
                used.extend(row.pod_uids().filter_map(|uid| self.names.pod_of_uid(uid)).cloned());
                let ends = project::ends::of_row(flow, row, &self.merge, &self.names);
                for owner in [ends.client, ends.server] {
                    if let Owner::Pod(key) = owner {
                        used.insert(key);
                    }
                }
            }
        }
        self.names.retain_gone(&used, now);
    }

    /// A name of the world is remembered as long as an edge leads to its address.
    pub(super) fn forget_answers(&mut self, now: Ns) {
        let flows = self.merge.flows();
        let used = flows.flat_map(|(_, flow)| [flow.key.client, flow.key.server].map(|end| end.to_canonical()));
        let used = used.collect();
        self.names.forget_external(now, &used);
    }

    /// Until the names were read, every node may be listed.
    pub(super) fn forget_nodes(&mut self, now: Ns) {
        let unread = self.names_row.source != "none" && self.names_row.read_ms.is_none();
        let names = &self.names;
        let hosts = |name: &str| names.pods().any(|(_, pod)| pod.node.as_deref() == Some(name));
        self.merge.forget_nodes(now, |name| unread || names.node(name).is_some() || hosts(name));
    }
}
