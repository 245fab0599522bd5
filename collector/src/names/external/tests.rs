//! Laws of the names of the world.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, proptest};

use super::{Answer, External, GRACE, MAX_NAMES, MAX_NAMES_PER_ADDRESS, MAX_SHOWN};
use crate::time::{Ns, SECOND};

fn address(last: u8) -> IpAddr {
    [203, 0, 113, last].into()
}

fn client(last: u8) -> IpAddr {
    [10, 1, 0, last].into()
}

fn answer(who: u8, name: &str, node: &str, at: Ns) -> Answer {
    Answer { client: client(who), address: address(1), name: name.into(), node: node.into(), at, ttl: 30 * SECOND }
}

fn external(answers: &[Answer]) -> External {
    let mut external = External::default();
    answers.iter().cloned().for_each(|answer| external.learn(answer));
    external
}

#[test]
fn a_client_knows_an_address_by_its_own_name_then_by_its_nodes_then_by_the_newest() {
    let known = external(&[
        answer(1, "shop.example", "n1", 10),
        answer(2, "news.example", "n1", 20),
        answer(3, "mail.example", "n2", 30),
    ]);
    let name = |who, node| known.resolve(address(1), client(who), node);
    assert_eq!(name(1, Some("n1")).as_deref(), Some("shop.example"), "its own, though others are newer");
    assert_eq!(name(9, Some("n1")).as_deref(), Some("news.example"), "its node's");
    assert_eq!(name(9, Some("n7")).as_deref(), Some("mail.example"), "anybody's newest");
    assert_eq!(name(9, None).as_deref(), Some("mail.example"));
    assert_eq!(known.resolve(address(2), client(1), None), None);
    assert_eq!(known.shown(address(1)), ["mail.example", "news.example", "shop.example"].map(Arc::from));
}

#[test]
fn a_name_holds_for_its_time_and_a_grace_or_while_an_edge_leads_there() {
    let mut known = external(&[answer(1, "shop.example", "n1", 0)]);
    let over = 30 * SECOND + GRACE;
    known.forget(over, &HashSet::new());
    assert_eq!(known.held(), 1);
    known.forget(over + 1, &HashSet::from([address(1)]));
    assert_eq!(known.held(), 1, "its edge lives");
    let revision = known.revision();
    known.forget(over + 1, &HashSet::new());
    assert_eq!((known.held(), known.shown(address(1)).len()), (0, 0));
    assert!(known.revision() > revision);
}

#[test]
fn only_what_is_shown_moves_the_revision() {
    let mut known = external(&[answer(1, "shop.example", "n1", 10)]);
    let revision = known.revision();
    known.learn(answer(1, "shop.example", "n1", 20));
    known.learn(answer(2, "shop.example", "n2", 30));
    assert_eq!(known.revision(), revision);
    known.learn(answer(2, "news.example", "n2", 35));
    known.learn(answer(1, "shop.example", "n1", 37));
    assert_eq!(known.shown(address(1)).first().map(|name| &**name), Some("news.example"), "repetition renames nothing");
    let revision = known.revision();
    known.learn(answer(2, "mail.example", "n2", 40));
    assert_eq!(known.revision(), revision + 1);
}

#[test]
fn the_bounds_hold_and_what_goes_is_counted() {
    let mut known = External::default();
    for index in 0..MAX_NAMES_PER_ADDRESS as Ns + 10 {
        known.learn(answer(1, &format!("{index}.example"), "n1", index));
    }
    assert_eq!((known.held(), known.evicted()), (MAX_NAMES_PER_ADDRESS, 10));
    assert_eq!(known.shown(address(1)).len(), MAX_SHOWN);
    let mut known = External::default();
    for index in 0..MAX_NAMES as u32 + 5_000 {
        let address = IpAddr::from(std::net::Ipv4Addr::from_bits(index));
        known.learn(Answer { address, ..answer(1, "many.example", "n1", Ns::from(index)) });
        assert!(known.held() <= MAX_NAMES);
    }
    assert_eq!(known.held() + usize::try_from(known.evicted()).unwrap_or(0), MAX_NAMES + 5_000);
    assert_eq!(known.shown(IpAddr::from(std::net::Ipv4Addr::from_bits(0))).len(), 0, "the oldest went");
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let one = (0_u8..4, 0_usize..4, 0_usize..3, 0_i64..50).prop_map(|(who, name, node, at)| {
        answer(who, ["a.example", "b.example", "c.example", "d.example"][name], ["n1", "n2", "n3"][node], at)
    });
    proptest::collection::vec(one, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// In whatever order answers arrive, and however often, every client knows an address by the same name.
    #[test]
    fn law_order_and_repetition_change_nothing(
        (given, shuffled) in answers().prop_flat_map(|given| (Just(given.clone()), Just(given).prop_shuffle())),
        who in 0_u8..5,
        node in proptest::option::of(0_usize..4),
        again in any::<bool>(),
    ) {
        let node = node.map(|node| ["n1", "n2", "n3", "n4"][node]);
        let mut other = external(&shuffled);
        if again {
            given.iter().cloned().for_each(|answer| other.learn(answer));
        }
        let one = external(&given);
        let best = one.resolve(address(1), client(who), node);
        prop_assert_eq!(&best, &other.resolve(address(1), client(who), node));
        prop_assert_eq!(one.shown(address(1)), other.shown(address(1)));
        // And it is the client's own newest where it has any, else its node's, else anybody's.
        let newest = |of: &dyn Fn(&&Answer) -> bool| {
            given.iter().filter(of).max_by_key(|answer| (answer.at, Arc::clone(&answer.name)))
                .map(|answer| Arc::clone(&answer.name))
        };
        let own = given.iter().any(|answer| answer.client == client(who));
        let nodes = given.iter().any(|answer| node.is_some_and(|node| *answer.node == *node));
        if !own {
            let wanted = if nodes { newest(&|answer| node.is_some_and(|node| *answer.node == *node)) } else { newest(&|_| true) };
            prop_assert_eq!(best, wanted);
        } else if let Some(best) = best {
            assert!(given.iter().any(|answer| answer.client == client(who) && answer.name == best));
        }
    }
}
