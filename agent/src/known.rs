//! What the node's agent knows beside packets: reads the facts' maps from time to time and folds them into the table.

use wire::v1::{Drop, Hook};

use crate::{
    drops::{Dropped, Drops},
    edge::Moment,
    owners::Owners,
    scope::Scope,
    sockets::Sockets,
    source::kernel::{KernelError, facts::Facts},
    summarise::Table,
};

/// Facts, from the kernel's maps to the table.
pub struct Known {
    scope: Option<Scope>,
    owners: Owners,
    sockets: Sockets,
    drops: Drops,
    hooks: Vec<Hook>,
    missed: u64,
}

impl Known {
    /// Nothing known yet.
    ///
    /// # Errors
    /// When the kernel does not take the scope.
    pub fn new(
        scope: Option<Scope>,
        own_netns: u32,
        owners: Owners,
        drops: Drops,
        facts: &mut Facts,
    ) -> Result<Self, KernelError> {
        let mut known =
            Self { scope, owners, sockets: Sockets::new(own_netns), drops, hooks: facts.hooks().to_vec(), missed: 0 };
        known.refresh_scope(facts)?;
        Ok(known)
    }

    /// Which fact comes by which hook.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// How often the kernel passed a hook over.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Drops that belong to no edge.
    #[must_use]
    pub fn unattributed(&self) -> &[Drop] {
        self.drops.unattributed()
    }

    /// Looks which namespaces are ours now.
    ///
    /// # Errors
    /// When the kernel does not take them.
    pub fn refresh_scope(&mut self, facts: &mut Facts) -> Result<(), KernelError> {
        match &self.scope {
            Some(scope) => facts.set_scope(scope.inodes(Facts::scope_limit())),
            None => Ok(()),
        }
    }

    /// Reads the maps into the table; says whether an edge changed, and what was dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn fold(
        &mut self,
        facts: &mut Facts,
        moment: Moment,
        table: &mut Table,
    ) -> Result<(bool, Vec<Dropped>), KernelError> {
        let (sockets, drops) = (facts.sockets()?, facts.drops()?);
        self.missed = facts.missed();
        let owners = &mut self.owners;
        let whose = |key: &_, totals: &_| owners.whose(key, totals, moment.now_ns);
        let of_sockets = self.sockets.fold(&sockets, moment, table, whose);
        // What packets told of a cgroup, and no socket: UDP has none of those facts.
        table.own_cgroups(moment, |cgroup| owners.of_cgroup(cgroup, moment.now_ns));
        let of_drops = self.drops.fold(&drops, moment, table);
        facts.forget(&of_sockets.idle, &of_drops.idle)?;
        Ok((of_sockets.active || of_drops.active, of_drops.dropped))
    }
}
