//! What happened to the cluster itself: pods that came, failed and went, workloads scaled, nodes that fell silent. Pure.
//!
//! The first reading of the names is no event: nothing is known to have happened then.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    graph::MAX_EVENTS,
    names::{Pod, Turn},
    time::{Ns, SECOND},
    view::{EventRow, NodeState, Phase, ms},
};

/// A workload's size is told once it stood for this long, …
const SETTLED: Ns = 3 * SECOND / 2;
/// … or after this long, if it keeps changing.
const PATIENCE: Ns = 10 * SECOND;

/// A workload's size, and what was told of it.
#[derive(Debug, Default)]
struct Size {
    count: usize,
    told: usize,
    /// Since when the two differ, and when it last changed.
    changing: Option<(Ns, Ns)>,
}

/// The newest events, and what is needed to see the next.
#[derive(Debug, Default)]
pub struct Events {
    told: VecDeque<EventRow>,
    pending: VecDeque<EventRow>,
    sizes: HashMap<Arc<str>, Size>,
    nodes: HashMap<Arc<str>, Option<NodeState>>,
}

impl Events {
    /// A pod or a node of the API changed. A quiet one is only remembered.
    pub fn turn(&mut self, turn: &Turn, quiet: bool, now: Ns) {
        match turn {
            Turn::Pod { before, after } => {
                let (before, after) = (before.as_deref(), after.as_deref());
                if !quiet && let Some((kind, subject, text)) = pod(before, after) {
                    self.push(now, kind, subject, text);
                }
                self.resize(before, false, quiet, now);
                self.resize(after, true, quiet, now);
            }
            Turn::Node { name, joined: true } => {
                if self.nodes.insert(Arc::clone(name), None).is_none() && !quiet {
                    self.push(now, "node-joined", Arc::clone(name), "joined the cluster".to_owned());
                }
            }
            Turn::Node { name, joined: false } => {
                self.nodes.remove(name);
                self.push(now, "node-left", Arc::clone(name), "left the cluster".to_owned());
            }
        }
    }

    fn resize(&mut self, pod: Option<&Pod>, more: bool, quiet: bool, now: Ns) {
        let Some(pod) = pod.filter(|pod| pod.counts()) else { return };
        let Some(workload) = &pod.workload else { return };
        // Jobs come and go by design.
        if pod.workload_kind.as_deref().is_some_and(|kind| matches!(kind, "Job" | "CronJob")) {
            return;
        }
        let size = self.sizes.entry(format!("{}/{workload}", pod.namespace).into()).or_default();
        size.count = if more { size.count + 1 } else { size.count.saturating_sub(1) };
        if quiet {
            size.told = size.count;
        }
        size.changing = Some((size.changing.map_or(now, |(first, _)| first), now));
    }

    /// Where the agents' nodes stand. A quiet node is only remembered.
    pub fn nodes<'a>(&mut self, states: impl Iterator<Item = (&'a Arc<str>, NodeState)>, quiet: bool, now: Ns) {
        for (name, state) in states {
            let known = self.nodes.insert(Arc::clone(name), Some(state));
            let (kind, text) = match (known, state) {
                (None, _) if quiet => continue,
                (None, _) => ("node-joined", "reported for the first time"),
                (Some(None), _) => continue,
                (Some(Some(before)), _) if before == state => continue,
                (_, NodeState::Late) => ("node-late", "late: reports are overdue"),
                (_, NodeState::Lost) => ("node-lost", "lost: silent for 15 s"),
                (Some(Some(NodeState::Late | NodeState::Lost)), _) => ("node-back", "reports again"),
                _ => continue,
            };
            self.push(now, kind, Arc::clone(name), text.to_owned());
        }
    }

    /// Sizes that stood for a while are told.
    pub fn settle(&mut self, now: Ns) {
        let mut scaled = Vec::new();
        self.sizes.retain(|key, size| {
            let Some((first, last)) = size.changing else { return size.count > 0 };
            if now.saturating_sub(last) >= SETTLED || now.saturating_sub(first) >= PATIENCE {
                if size.told != size.count {
                    scaled.push((Arc::clone(key), format!("{} → {}", size.told, size.count)));
                }
                (size.told, size.changing) = (size.count, None);
            }
            size.count > 0 || size.changing.is_some()
        });
        scaled.sort();
        for (key, text) in scaled {
            self.push(now, "workload-scaled", key, text);
        }
    }

    /// An edge fell ill at `at`, or is well again.
    pub fn edge(&mut self, at: Ns, kind: &str, subject: Arc<str>, text: String) {
        self.push(at, kind, subject, text);
    }

    fn push(&mut self, now: Ns, kind: &str, subject: Arc<str>, text: String) {
        self.pending.push_back(EventRow { time_ms: ms(now), kind: kind.to_owned(), subject, text });
        if self.pending.len() > MAX_EVENTS {
            self.pending.pop_front();
        }
    }

    /// The events since the last call; from here on they are told.
    pub fn take_new(&mut self) -> Vec<EventRow> {
        let new: Vec<EventRow> = self.pending.drain(..).collect();
        self.told.extend(new.iter().cloned());
        let excess = self.told.len().saturating_sub(MAX_EVENTS);
        self.told.drain(..excess);
        new
    }

    /// The newest events that were told.
    pub fn told(&self) -> impl Iterator<Item = &EventRow> {
        self.told.iter()
    }
}

/// What a pod's change means, if anything: kind, subject, words.
fn pod(before: Option<&Pod>, after: Option<&Pod>) -> Option<(&'static str, Arc<str>, String)> {
    let Some(after) = after else {
        return Some(("pod-removed", before?.key(), "removed".to_owned()));
    };
    let Some(before) = before else {
        let text = after.node.as_ref().map_or_else(|| "added".to_owned(), |node| format!("added on {node}"));
        return Some(("pod-added", after.key(), text));
    };
    if after.phase == Phase::Failing && before.phase != Phase::Failing {
        let text = match after.restarts {
            0 => "failed".to_owned(),
            1 => "fails, 1 restart".to_owned(),
            many => format!("fails, {many} restarts"),
        };
        return Some(("pod-failed", after.key(), text));
    }
    (after.ready && !before.ready).then(|| ("pod-ready", after.key(), "ready".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Events;
    use crate::{
        graph::MAX_EVENTS,
        names::{Names, file},
        time::{Ns, SECOND},
        view::NodeState,
    };

    struct World {
        names: Names,
        events: Events,
        now: Ns,
    }

    impl World {
        fn read(&mut self, pods: &[(usize, &str, bool)], quiet: bool) {
            self.now += SECOND / 10;
            let items: Vec<String> = pods
                .iter()
                .map(|(index, phase, ready)| {
                    format!(
                        r#"{{"kind":"Pod","metadata":{{"name":"cart-{index}","namespace":"shop","uid":"{index}",
                        "ownerReferences":[{{"kind":"StatefulSet","name":"cart"}}]}},"spec":{{"nodeName":"n1"}},
                        "status":{{"phase":"{phase}","conditions":[{{"type":"Ready","status":"{}"}}]}}}}"#,
                        if *ready { "True" } else { "False" }
                    )
                })
                .collect();
            let list = file::parse(format!(r#"{{"items":[{}]}}"#, items.join(",")).as_bytes()).expect("a list");
            self.names.read(list, self.now);
            for turn in self.names.take_turns() {
                self.events.turn(&turn, quiet, self.now);
            }
        }

        fn told(&mut self) -> Vec<(String, String)> {
            self.events.settle(self.now);
            let new = self.events.take_new();
            new.into_iter().map(|event| (format!("{} {}", event.kind, event.subject), event.text)).collect()
        }
    }

    fn world() -> World {
        World { names: Names::default(), events: Events::default(), now: SECOND }
    }

    fn check(told: &[(String, String)], expect: &[(&str, &str)]) {
        let told: Vec<(&str, &str)> = told.iter().map(|(head, text)| (head.as_str(), text.as_str())).collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn a_pod_comes_is_ready_fails_and_goes() {
        let mut world = world();
        world.read(&[(0, "Running", true)], true);
        check(&world.told(), &[]);
        world.read(&[(0, "Running", true), (1, "Pending", false)], false);
        check(&world.told(), &[("pod-added shop/cart-1", "added on n1")]);
        world.read(&[(0, "Running", true), (1, "Running", true)], false);
        check(&world.told(), &[("pod-ready shop/cart-1", "ready")]);
        world.read(&[(0, "Running", true), (1, "Failed", false)], false);
        check(&world.told(), &[("pod-failed shop/cart-1", "failed")]);
        world.read(&[(0, "Running", true)], false);
        check(&world.told(), &[("pod-removed shop/cart-1", "removed")]);
    }

    #[test]
    fn a_scaling_is_told_once_and_a_rolling_update_is_none() {
        let mut world = world();
        let two = [(0, "Running", true), (1, "Running", true)];
        world.read(&two, true);
        for size in 3..=8 {
            let pods: Vec<_> = (0..size).map(|index| (index, "Running", true)).collect();
            world.read(&pods, false);
            assert!(world.told().iter().all(|(head, _)| head.starts_with("pod-added")));
        }
        world.now += 2 * SECOND;
        check(&world.told(), &[("workload-scaled shop/cart", "2 → 8")]);
        world.now += 20 * SECOND;
        check(&world.told(), &[]);
        let mut pods: Vec<_> = (0..8).map(|index| (index, "Running", true)).collect();
        pods.push((8, "Running", true));
        world.read(&pods, false);
        pods.remove(0);
        world.read(&pods, false);
        world.now += 2 * SECOND;
        assert!(world.told().iter().all(|(head, _)| !head.starts_with("workload")));
    }

    #[test]
    fn nodes_join_fall_silent_and_come_back() {
        let mut events = Events::default();
        let (old, new): (Arc<str>, Arc<str>) = ("n1".into(), "n2".into());
        let mut step = |states: &[(&Arc<str>, NodeState)], quiet| {
            events.nodes(states.iter().copied(), quiet, SECOND);
            events.take_new().into_iter().map(|event| event.kind).collect::<Vec<_>>()
        };
        assert!(step(&[(&old, NodeState::Live)], true).is_empty());
        assert_eq!(step(&[(&old, NodeState::Live), (&new, NodeState::Live)], false), ["node-joined"]);
        assert_eq!(step(&[(&old, NodeState::Late)], false), ["node-late"]);
        assert_eq!(step(&[(&old, NodeState::Lost)], false), ["node-lost"]);
        assert!(step(&[(&old, NodeState::Lost)], false).is_empty());
        assert_eq!(step(&[(&old, NodeState::Live)], false), ["node-back"]);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let mut world = world();
        world.read(&[], true);
        let many: Vec<_> = (0..MAX_EVENTS + 50).map(|index| (index, "Running", true)).collect();
        world.read(&many, false);
        assert_eq!(world.told().len(), MAX_EVENTS);
        assert_eq!(world.events.told().count(), MAX_EVENTS);
    }
}
