//! The views somebody looks at: one projection a grouping, and on it one live view for every distinct wish.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{Subscription, TooManyViews, live::LiveView};
use crate::{
    filter::Wish,
    graph::Identity,
    merge::{Change, FlowId, Merge},
    metrics::Metrics,
    names::{Names, Touched},
    project::Projection,
    time::{Ns, SECOND},
    view::{EventRow, NamesRow, NodeRow, View},
};

/// Different views looked at: grouping, filter and noise make one.
pub const MAX_VIEWS: usize = 64;
/// Past deltas kept for clients that come back, in bytes over all views: each view has its share of them.
const RECENT_BYTES: usize = 64 << 20;
/// A view without streams is kept for this long after it was last asked for.
const KEPT: Ns = 10 * SECOND;

#[derive(Debug, Default)]
pub(super) struct Views {
    bases: BTreeMap<View, Projection>,
    live: HashMap<Wish, LiveView>,
    /// The highest revision of a view that was put away. What is made later goes on above it, so that no two share one.
    floor: u64,
}

impl Views {
    pub(super) fn is_empty(&self) -> bool {
        self.bases.is_empty()
    }

    pub(super) fn projects(&self, view: View) -> bool {
        self.bases.contains_key(&view)
    }

    /// Begins to project by `view`.
    #[expect(clippy::too_many_arguments, reason = "they are the hub's own, each borrowed by itself")]
    pub(super) fn project<'a>(
        &mut self,
        view: View,
        merge: &Merge,
        names: &Names,
        names_row: &NamesRow,
        nodes: &[NodeRow],
        events: impl Iterator<Item = &'a EventRow>,
        identity: &Identity,
        now: Ns,
    ) {
        let mut base = Projection::new(view, self.floor + 1, merge, names, names_row);
        base.set_nodes(nodes);
        base.begin_with_events(events);
        // Nobody looks yet: the first step is everybody's snapshot.
        let _ = base.step(merge, names, names_row, identity, now);
        self.bases.insert(view, base);
    }

    /// Makes a view live on the projection that is there. A view that nobody looks at makes room.
    pub(super) fn open(&mut self, wish: &Wish, identity: &Identity, now: Ns) -> Result<(), TooManyViews> {
        if let Some(live) = self.live.get_mut(wish) {
            live.touch(now);
            return Ok(());
        }
        if self.live.len() >= MAX_VIEWS {
            let unused = self.live.iter().filter(|(_, live)| live.clients() == 0).min_by_key(|(_, live)| live.used());
            let unused = unused.map(|(wish, _)| wish.clone()).ok_or(TooManyViews)?;
            self.put_away(&unused);
        }
        let base = self.bases.get(&wish.view).ok_or(TooManyViews)?;
        let live = LiveView::new(wish, self.floor + 1, base, identity, now);
        self.live.insert(wish.clone(), live);
        Ok(())
    }

    fn put_away(&mut self, wish: &Wish) {
        if let Some(live) = self.live.remove(wish) {
            self.floor = self.floor.max(live.revision());
        }
    }

    pub(super) fn subscribe(
        &mut self,
        wish: &Wish,
        last: Option<(String, u64)>,
        identity: &Identity,
    ) -> Result<Subscription, TooManyViews> {
        let base = self.bases.get(&wish.view).ok_or(TooManyViews)?;
        self.live.get_mut(wish).map(|live| live.subscribe(last, base, identity)).ok_or(TooManyViews)
    }

    pub(super) fn snapshot(&mut self, wish: &Wish, identity: &Identity) -> Result<Bytes, TooManyViews> {
        let base = self.bases.get(&wish.view).ok_or(TooManyViews)?;
        self.live.get_mut(wish).map(|live| live.snapshot_json(base, identity)).ok_or(TooManyViews)
    }

    /// Views that nobody has looked at for a while go, and projections that no view needs.
    pub(super) fn forget_unused(&mut self, now: Ns, metrics: &Metrics) {
        for view in View::ALL {
            let of_view = self.live.iter().filter(|(wish, _)| wish.view == view);
            let clients: usize = of_view.map(|(_, live)| live.clients()).sum();
            let clients = i64::try_from(clients).unwrap_or(i64::MAX);
            metrics.clients.get_or_create(&[("view", view.label())]).set(clients);
        }
        let unused = |live: &LiveView| live.clients() == 0 && now.saturating_sub(live.used()) >= KEPT;
        let gone: Vec<Wish> = self.live.iter().filter(|(_, live)| unused(live)).map(|(wish, _)| wish.clone()).collect();
        gone.iter().for_each(|wish| self.put_away(wish));
        metrics.views.set(i64::try_from(self.live.len()).unwrap_or(i64::MAX));
        let (live, floor) = (&self.live, &mut self.floor);
        self.bases.retain(|view, base| {
            let needed = live.keys().any(|wish| wish.view == *view);
            if !needed {
                *floor = (*floor).max(base.revision());
            }
            needed
        });
    }

    pub(super) fn set_nodes(&mut self, rows: &[NodeRow]) {
        self.bases.values_mut().for_each(|base| base.set_nodes(rows));
    }

    pub(super) fn update(&mut self, changes: &[(FlowId, Change)], touched: &Touched, merge: &Merge, names: &Names) {
        self.bases.values_mut().for_each(|base| base.update(changes, touched, merge, names));
    }

    pub(super) fn add_events(&mut self, events: &[EventRow]) {
        self.bases.values_mut().for_each(|base| base.add_events(events));
    }

    /// Tells every live view what changed.
    pub(super) fn step(
        &mut self,
        merge: &Merge,
        names: &Names,
        names_row: &NamesRow,
        identity: &Identity,
        now: Ns,
        metrics: &Metrics,
    ) {
        let most = RECENT_BYTES / self.live.len().max(1);
        for (view, base) in &mut self.bases {
            metrics.names_ambiguous.set(i64::try_from(base.ambiguous()).unwrap_or(i64::MAX));
            let Some(step) = base.step(merge, names, names_row, identity, now) else { continue };
            for (_, live) in self.live.iter_mut().filter(|(wish, _)| wish.view == *view) {
                live.take(&step, base, now, most, metrics);
            }
        }
    }
}
