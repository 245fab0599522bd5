//! Names against a ledger: addresses handed on within a second, watches that lag, reports that come late and out of order.

use std::{collections::BTreeSet, sync::Arc};

use api_mock::load::{Api, Life, Ns, Plan, live};
use collector::{
    graph::Identity,
    kubernetes::kind::Kind,
    merge::{Bounds, Merge},
    names::{Change, Names, object::Item},
    project::Projection,
    view::{NamesRow, View},
};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use serde_json::Value;

const START: Ns = 1_795_000_000_000_000_000;
const SECOND: Ns = 1_000_000_000;

/// What was made of a life.
struct Told {
    wrong: Vec<String>,
    missing: Vec<String>,
    ambiguous: u64,
}

fn kind(object: &Value) -> Kind {
    let kind = object["kind"].as_str().expect("a kind");
    Kind::ALL.into_iter().find(|known| known.name() == kind).expect("a known kind")
}

fn put(object: &Value) -> Change {
    let item: Item = serde_json::from_value(object.clone()).expect("an object");
    kind(object).put(&item)
}

/// Plays a life to the names and the merge: the API `lag` late, reports when they come; in batches, so that what is projected
/// bit by bit is what is told.
fn play(life: &Life, lag: Ns) -> Told {
    let (mut names, mut merge) = (Names::default(), Merge::new(Bounds::default(), START));
    let row = NamesRow { source: String::new(), state: String::new(), error: None, read_ms: None, ambiguous: 0 };
    let identity = Identity { run: String::new(), cluster: String::new(), since_ms: 0 };
    life.first.iter().for_each(|object| names.apply(put(object), START));
    let mut projection = Projection::new(View::Pod, 0, &merge, &names, &row);
    let mut api = life.api.iter().map(|(at, change)| (at + lag, change)).peekable();
    let mut step = |now: Ns, merge: &mut Merge, names: &mut Names| {
        merge.refresh(now);
        let (changes, touched) = (merge.take_changes(), names.take_touched());
        projection.update(&changes, &touched, merge, names);
        let _ = projection.step(merge, names, &row, &identity, now);
        projection.snapshot(&identity, now)
    };
    let mut now = START;
    for (at, report) in &life.reports {
        while let Some((at, change)) = api.next_if(|(change, _)| change <= at) {
            tell(&mut names, change, at);
        }
        merge.accept(report, *at);
        if *at - now > SECOND {
            now = *at;
            step(now, &mut merge, &mut names);
        }
    }
    for (at, change) in api {
        tell(&mut names, change, at);
        now = now.max(at);
    }
    let snapshot = step(now + SECOND, &mut merge, &mut names);
    let pairs = snapshot.edges.iter().map(|edge| {
        let name = |id: &Arc<str>| id.strip_prefix("pod:").unwrap_or(id).to_owned();
        (name(&edge.client), name(&edge.server))
    });
    let pairs: BTreeSet<_> = pairs.collect();
    let show = |pair: &(String, String)| format!("{} > {}", pair.0, pair.1);
    Told {
        wrong: pairs.difference(&life.ledger).map(show).collect(),
        missing: life.ledger.difference(&pairs).map(show).collect(),
        ambiguous: snapshot.names.ambiguous,
    }
}

fn tell(names: &mut Names, change: &Api, now: Ns) {
    match change {
        Api::Put(object) => names.apply(put(object), now),
        Api::Delete(object) => {
            names.apply(put(object), now);
            let text = |field: &str| object["metadata"][field].as_str().expect("text");
            let key = format!("{}/{}", text("namespace"), text("name"));
            names.apply(Change::PodGone(key.into(), Some(text("uid").into())), now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every pair that talked is an edge of these two, and no other edge is shown.
    #[test]
    fn every_edge_has_the_right_names(seed in 1u64.., lag in 0i64..12, late in 0i64..30, nodes in 1usize..6) {
        let plan = Plan {
            nodes,
            pods: 24,
            edges: 60,
            replaced_per_second: 2,
            seconds: 45,
            tick_ms: 1_000,
            late_ms: late * 1_000,
            start: START,
            seed,
        };
        let life = live(&plan);
        let told = play(&life, lag * SECOND);
        prop_assert_eq!(told.wrong, Vec::<String>::new());
        prop_assert_eq!(told.missing, Vec::<String>::new());
        prop_assert!(told.ambiguous <= life.spanning as u64, "{} of {}", told.ambiguous, life.spanning);
    }
}
