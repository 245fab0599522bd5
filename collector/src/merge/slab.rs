//! Edges at dense places: an edge is found by an index and not by a look-up, and what is asked of all of them at every look
//! (what changed, who was spoken of when) lies side by side and apart from them. Pure.

use super::{Change, FlowId, flow::Flow};
use crate::time::Ns;

/// More changes at once than these are a crowd.
const CROWD: usize = 1_024;

/// How many changed edges are looked at. What is new, or belongs elsewhere now, is always among them.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Of a crowd no more than these.
    pub most: usize,
    /// Of a crowd none that was looked at less than this ago.
    pub apart: Ns,
}

impl Pace {
    /// All of them.
    pub const ALL: Self = Self { most: usize::MAX, apart: 0 };
}

/// What is known of a place beside its edge.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    /// How many edges were here before: part of the number of the one that is, so that no number is used twice.
    generation: u32,
    /// What happened to it since the last look.
    change: Option<Change>,
    /// When it was last reported; `None` once that is long ago.
    spoken: Option<Ns>,
    /// When it was looked at.
    seen: Ns,
}

/// All edges by their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Slab {
    places: Vec<Option<Flow>>,
    marks: Vec<Mark>,
    free: Vec<u32>,
    len: usize,
    changed: Vec<FlowId>,
    /// Those of the changed that wait, as there is a crowd.
    held: Vec<FlowId>,
    removed: Vec<FlowId>,
}

/// The place is the lower half, so that it is an index; numbers begin at 1.
fn id(place: usize, generation: u32) -> FlowId {
    (FlowId::from(generation) << 32 | place as FlowId) + 1
}

/// The edge's place, if it is still there.
fn place_of(marks: &[Mark], id: FlowId) -> Option<usize> {
    let id = id.wrapping_sub(1);
    let (place, generation) = ((id & FlowId::from(u32::MAX)) as usize, (id >> 32) as u32);
    (marks.get(place)?.generation == generation).then_some(place)
}

impl Slab {
    pub(super) fn insert(&mut self, flow: Flow) -> FlowId {
        let place = match self.free.pop() {
            Some(place) => place as usize,
            None => {
                self.places.push(None);
                self.marks.push(Mark::default());
                self.places.len() - 1
            }
        };
        self.places[place] = Some(flow);
        self.len += 1;
        id(place, self.marks[place].generation)
    }

    pub(super) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let (place, _) = self.find(id)?;
        let flow = self.places[place].take()?;
        self.marks[place] = Mark { generation: self.marks[place].generation.wrapping_add(1), ..Mark::default() };
        self.free.push(u32::try_from(place).ok()?);
        self.len -= 1;
        self.removed.push(id);
        Some(flow)
    }

    fn find(&self, id: FlowId) -> Option<(usize, &Flow)> {
        let place = place_of(&self.marks, id)?;
        Some((place, self.places[place].as_ref()?))
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&Flow> {
        self.find(id).map(|(_, flow)| flow)
    }

    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.places[place_of(&self.marks, id)?].as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FlowId, &Flow)> {
        let all = self.places.iter().zip(&self.marks).enumerate();
        all.filter_map(|(place, (flow, mark))| Some((id(place, mark.generation), flow.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (FlowId, &mut Flow)> {
        let all = self.places.iter_mut().zip(&self.marks).enumerate();
        all.filter_map(|(place, (flow, mark))| Some((id(place, mark.generation), flow.as_mut()?)))
    }

    /// Something happened to an edge.
    pub(super) fn change(&mut self, id: FlowId, change: Change) {
        let Some(place) = place_of(&self.marks, id) else { return };
        let mark = &mut self.marks[place];
        if mark.change.is_none() {
            self.changed.push(id);
        }
        mark.change = mark.change.max(Some(change));
    }

    /// An edge was reported.
    pub(super) fn speak(&mut self, id: FlowId, now: Ns) {
        if let Some(place) = place_of(&self.marks, id) {
            self.marks[place].spoken = Some(now);
        }
    }

    /// Marks as aged what `due` says so of, by its place and by how long ago it was reported; after `most` nobody asks any more.
    pub(super) fn age(&mut self, now: Ns, most: Ns, due: impl Fn(usize, Ns) -> bool) {
        for (place, mark) in self.marks.iter_mut().enumerate() {
            let Some(age) = mark.spoken.map(|spoken| now.saturating_sub(spoken)) else { continue };
            if age >= most {
                mark.spoken = None;
            } else if mark.change.is_none() && due(place, age) {
                mark.change = Some(Change::Aged);
                self.changed.push(id(place, mark.generation));
            }
        }
    }

    /// Goes over the edges that changed. Of one that only grew older `see` says whether that shows; else it did not change.
    /// Of a crowd some wait, as `pace` says; who waited longest comes first the next time.
    pub(super) fn review(&mut self, now: Ns, pace: Pace, mut see: impl FnMut(&mut Flow) -> bool) {
        let (places, marks, held) = (&mut self.places, &mut self.marks, &mut self.held);
        let crowd = self.changed.len() > CROWD;
        let mut looked = 0;
        self.changed.retain(|id| {
            let Some(place) = place_of(marks, *id) else { return false };
            let (mark, Some(flow)) = (&mut marks[place], places[place].as_mut()) else { return false };
            let waits = looked >= pace.most || now.saturating_sub(mark.seen) < pace.apart;
            if crowd && waits && mark.change < Some(Change::Reshaped) {
                held.push(*id);
                return false;
            }
            mark.seen = now;
            looked += 1;
            let shows = see(flow);
            if mark.change == Some(Change::Aged) {
                mark.change = shows.then_some(Change::Touched);
            }
            mark.change.is_some()
        });
    }

    pub(super) fn take_changes(&mut self) -> Vec<(FlowId, Change)> {
        let marks = &mut self.marks;
        let changed = self.changed.drain(..).filter_map(|id| {
            let place = place_of(marks, id)?;
            Some((id, marks[place].change.take()?))
        });
        let mut changes: Vec<_> = changed.collect();
        changes.extend(self.removed.drain(..).map(|id| (id, Change::Removed)));
        std::mem::swap(&mut self.changed, &mut self.held);
        changes
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty() || !self.held.is_empty() || !self.removed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{CROWD, Change, Flow, Pace, Slab};
    use crate::{merge::key::FlowKey, time::SECOND};

    fn flow(port: u16) -> Flow {
        let end = IpAddr::from([10, 0, 0, 1]);
        Flow::new(FlowKey { client: end, server: end, port, protocol: 6, tunnel: None })
    }

    #[test]
    fn a_place_is_used_again_and_a_number_never() {
        let mut slab = Slab::default();
        let (one, two) = (slab.insert(flow(1)), slab.insert(flow(2)));
        slab.change(one, Change::Touched);
        slab.change(two, Change::Touched);
        assert_eq!(slab.remove(one).map(|flow| flow.key.port), Some(1));
        let three = slab.insert(flow(3));
        assert!(three != one && slab.len() == 2 && slab.places.len() == 2);
        assert!(slab.get(one).is_none() && slab.get_mut(one).is_none() && slab.remove(one).is_none());
        // What is told of an edge that went is not told of the one in its place.
        slab.change(one, Change::Reshaped);
        assert_eq!(slab.take_changes(), [(two, Change::Touched), (one, Change::Removed)]);
        slab.change(three, Change::Reshaped);
        slab.change(three, Change::Touched);
        assert_eq!(slab.take_changes(), [(three, Change::Reshaped)]);
        assert!(!slab.has_changes() && slab.take_changes().is_empty());
        assert_eq!(slab.iter().map(|(id, flow)| (id, flow.key.port)).collect::<Vec<_>>(), [(three, 3), (two, 2)]);
    }

    #[test]
    fn what_only_grew_older_changed_if_it_shows() {
        let mut slab = Slab::default();
        let ids = [1, 2, 3].map(|port| slab.insert(flow(port)));
        ids.iter().for_each(|id| slab.speak(*id, 0));
        slab.change(ids[2], Change::Touched);
        let mut looked = 0;
        slab.age(SECOND, 2 * SECOND, |_, age| age >= SECOND);
        slab.review(SECOND, Pace::ALL, |flow| {
            looked += 1;
            flow.key.port == 1
        });
        assert_eq!(looked, 3);
        let mut changes = slab.take_changes();
        changes.sort_unstable();
        assert_eq!(changes, [(ids[0], Change::Touched), (ids[2], Change::Touched)]);
        slab.age(2 * SECOND, 2 * SECOND, |_, _| true);
        slab.age(SECOND, 2 * SECOND, |_, _| true);
        assert!(!slab.has_changes(), "nobody asks any more");
    }

    #[test]
    fn in_a_crowd_who_was_seen_a_moment_ago_waits_and_is_not_forgotten() {
        let mut slab = Slab::default();
        let ids: Vec<_> = (0..=CROWD).map(|_| slab.insert(flow(1))).collect();
        let mut told = |now, most, changed: &[(usize, Change)]| {
            changed.iter().for_each(|(index, change)| slab.change(ids[*index], *change));
            slab.review(now, Pace { most, apart: SECOND / 2 }, |_| true);
            slab.take_changes().len()
        };
        let all = |change| (0..=CROWD).map(|index| (index, change)).collect::<Vec<_>>();
        assert_eq!(told(SECOND, 7, &all(Change::Reshaped)), CROWD + 1);
        assert_eq!(told(SECOND + 1, usize::MAX, &all(Change::Touched)), 0, "seen a moment ago");
        assert_eq!(told(SECOND + 2, 7, &[(0, Change::Reshaped)]), 1, "it belongs elsewhere now");
        assert_eq!(told(SECOND + 3, usize::MAX, &[]), CROWD, "fewer than a crowd do not wait, and none was forgotten");
        assert_eq!(told(2 * SECOND, 7, &all(Change::Touched)), 7, "no more at once");
        assert_eq!(told(3 * SECOND, 7, &[]), CROWD - 6);
    }
}
