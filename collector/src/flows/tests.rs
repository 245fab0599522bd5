//! The desk: what is told twice is heard once, and each bound at its bound.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::watch;
use wire::{
    limits::MAX_ASKS,
    v1::{ClockOffset, FlowAsk, FlowEvent, FlowEvents, Report},
};

use super::{BATCH_QUEUE, Desk, Directive, Listening};
use crate::{names::Names, time::MS};

fn desk() -> (Desk, watch::Receiver<Directive>) {
    let (sender, directive) = watch::channel(Some(Arc::default()));
    (Desk::new(sender), directive)
}

fn event(number: u64) -> FlowEvent {
    FlowEvent { number, source: vec![10, 0, 0, 1], destination: vec![10, 0, 0, 2], ..FlowEvent::default() }
}

fn told(desk: &mut Desk, epoch: u64, ask: u64, numbers: &[u64], lost: u64, caught_up: bool) {
    let events = numbers.iter().map(|number| event(*number)).collect();
    let part = FlowEvents { ask, events, caught_up, lost };
    let mut report = Report { node: "n".to_owned(), epoch, flow_events: vec![part], ..Report::default() };
    desk.take(&mut report, 0, &Names::default());
}

fn heard(listening: &mut Listening) -> Option<(Vec<u64>, u64, bool)> {
    let batch = listening.batches.try_recv().ok()?;
    Some((batch.seen.iter().map(|seen| seen.event.number).collect(), batch.lost, batch.caught_up))
}

#[test]
fn what_is_told_again_is_heard_once() {
    let (mut desk, _directive) = desk();
    let mut listening = desk.open(FlowAsk::default()).expect("room");
    told(&mut desk, 5, 1, &[1, 2, 3], 0, false);
    told(&mut desk, 5, 1, &[2, 3, 4], 7, true);
    told(&mut desk, 5, 1, &[4], 7, false);
    told(&mut desk, 5, 2, &[5], 0, true);
    assert_eq!(heard(&mut listening), Some((vec![1, 2, 3], 0, false)));
    assert_eq!(heard(&mut listening), Some((vec![4], 7, true)));
    assert_eq!(heard(&mut listening), None, "nothing new, and another's");
    // Another run of the agent counts from the beginning; the old one has no say any more.
    told(&mut desk, 6, 1, &[1], 1, true);
    told(&mut desk, 5, 1, &[9], 9, true);
    assert_eq!(heard(&mut listening), Some((vec![1], 1, true)));
    assert_eq!(heard(&mut listening), None);
}

#[test]
fn agents_hear_who_listens_and_who_left() {
    let (mut desk, directive) = desk();
    let ids = || directive.borrow().as_ref().map(|heard| heard.asks.iter().map(|ask| ask.id).collect::<Vec<_>>());
    assert_eq!(ids(), Some(vec![]), "there may be wishes, so agents speak once a second");
    let first = desk.open(FlowAsk { limit: 3, ..FlowAsk::default() }).expect("room");
    let second = desk.open(FlowAsk::default()).expect("room");
    assert_eq!(ids(), Some(vec![1, 2]));
    drop(first);
    desk.forget();
    assert_eq!(ids(), Some(vec![2]));
    drop(second);
}

#[test]
fn sixteen_may_listen() {
    let (mut desk, _directive) = desk();
    let mut listening: Vec<_> = (0..MAX_ASKS).map(|_| desk.open(FlowAsk::default()).expect("room")).collect();
    assert!(desk.open(FlowAsk::default()).is_err());
    listening.pop();
    assert!(desk.open(FlowAsk::default()).is_ok());
}

#[test]
fn a_slow_listener_is_told_how_much_it_missed() {
    let (mut desk, _directive) = desk();
    let mut listening = desk.open(FlowAsk::default()).expect("room");
    for number in 0..BATCH_QUEUE as u64 + 2 {
        told(&mut desk, 1, 1, &[2 * number + 1, 2 * number + 2], 0, false);
    }
    assert_eq!(listening.missed.load(Ordering::Relaxed), 4);
    let all: Vec<_> = std::iter::from_fn(|| heard(&mut listening)).collect();
    assert_eq!(all.len(), BATCH_QUEUE);
}

#[test]
fn a_flow_that_is_told_twice_has_one_time() {
    let (mut desk, _directive) = desk();
    let mut at = |offset_ns: i64| {
        let mut listening = desk.open(FlowAsk::default()).expect("room");
        let ask = desk.next - 1;
        let part = FlowEvents {
            ask,
            events: vec![FlowEvent { unix_ns: 100 * MS as u64, ..event(1) }],
            ..FlowEvents::default()
        };
        let clock = Some(ClockOffset { offset_ns, error_ns: 1 });
        let mut report = Report { node: "n".to_owned(), epoch: 1, clock, flow_events: vec![part], ..Report::default() };
        desk.take(&mut report, 0, &Names::default());
        listening.batches.try_recv().expect("a batch").seen[0].at / MS
    };
    assert_eq!([at(10 * MS), at(13 * MS), at(6 * MS)], [110, 110, 110], "the estimate wavers");
    assert_eq!([at(16 * MS), at(13 * MS)], [116, 116], "the clock was set");
}
