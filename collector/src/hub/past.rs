//! The past's part of the hub: buckets are sealed, and what questions about them need is handed out.

use super::{Hub, Now};
use crate::{
    history::{Remembered, Still},
    time::Ns,
};

impl Hub {
    /// Seals the bucket that is over; edges that fell ill in it are events.
    pub(super) fn remember(&mut self, now: Ns) {
        let Some(onsets) = self.history.advance(&self.merge, &self.names, now) else { return };
        if let Some(keeping) = &mut self.keeping {
            keeping.seal();
        }
        for onset in onsets {
            let subject = onset.edge.map_or_else(|| "links".into(), |known| known.key.id(&self.names));
            self.events.edge(onset.at, onset.kind, subject, onset.text);
        }
    }

    pub(super) fn still(&self, at: Ns) -> Result<(Still, Now), Remembered> {
        let still = self.history.still(at)?;
        Ok((still, Now { names: self.names_row.clone(), identity: self.identity.clone() }))
    }
}
