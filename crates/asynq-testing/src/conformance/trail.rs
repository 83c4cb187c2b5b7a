//! The audit trail, in a key of our own.

use asynq_core::{
    inspect::Cursor,
    keys::own,
    trail::{Actor, MAX_TRAIL, TRAIL_SLACK, TrailEntry},
};
use futures::{StreamExt as _, stream};

use super::kit::*;

fn act(fx: &Fixture, number: usize) -> TrailEntry {
    let mut entry = TrailEntry::new("delete_task", fx.now(), "host", 7);
    entry.actor = Some(Actor::new("ann").with_reason(format!("ticket {number}")));
    entry.queue = Some("q:{1}".into());
    entry.task = Some(format!("t-{number}"));
    entry
}

/// Entries come newest first, a part in each call, and the parts neither skip nor repeat one although others come.
pub(super) async fn acts_are_read_newest_first_in_parts(fx: &Fixture) {
    let empty = fx.storage.trail(Cursor::default(), 10).await.unwrap();
    assert!(empty.items.is_empty() && empty.next.is_none());
    let acts: Vec<_> = (0..7).map(|number| act(fx, number)).collect();
    for act in &acts {
        fx.storage.record_act(act).await.unwrap();
    }
    let (mut cursor, mut read) = (Cursor::default(), Vec::new());
    loop {
        let part = fx.storage.trail(cursor, 3).await.unwrap();
        assert!(part.items.len() <= 3);
        read.extend(part.items);
        fx.storage.record_act(&act(fx, 99)).await.unwrap();
        match part.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    let newest_first: Vec<_> = acts.into_iter().rev().collect();
    assert_eq!(read, newest_first);
}

/// A part that ends with the oldest act is the last one.
pub(super) async fn a_trail_that_fits_has_no_next_part(fx: &Fixture) {
    for number in 0..3 {
        fx.storage.record_act(&act(fx, number)).await.unwrap();
    }
    let whole = fx.storage.trail(Cursor::default(), 3).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (3, None));
    let unknown = fx.storage.trail(Cursor(Some("no cursor".into())), 100).await.unwrap();
    assert_eq!(unknown.items, whole.items, "begins at the newest");
}

/// Whoever makes more acts than the trail keeps pushes out their own, and not those of others.
pub(super) async fn many_acts_of_one_push_out_no_others(fx: &Fixture) {
    let of = |name: &str, number: usize| {
        let mut act = act(fx, number);
        act.actor = Some(Actor::new(name));
        act
    };
    for number in 0..20 {
        fx.storage.record_act(&of("bob", number)).await.unwrap();
    }
    let most = (MAX_TRAIL + TRAIL_SLACK) as usize;
    let many = (0..most + 1).map(|number| of("ann", number));
    let mut many = stream::iter(many)
        .map(async |act| fx.storage.record_act(&act).await)
        .buffered(64);
    while let Some(recorded) = many.next().await {
        recorded.unwrap();
    }
    let (mut cursor, mut acts) = (Cursor::default(), Vec::new());
    loop {
        let part = fx.storage.trail(cursor, 1000).await.unwrap();
        acts.extend(part.items);
        match part.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert!(((MAX_TRAIL as usize)..=most).contains(&acts.len()), "{}", acts.len());
    let (bob, ann): (Vec<_>, Vec<_>) = acts.into_iter().partition(|act| act.operator() == Some("bob"));
    assert_eq!(bob.len(), 20);
    // The newest of the others are there.
    let newest = |nth: usize| ann.get(nth).and_then(|act| act.task.clone());
    assert_eq!(newest(0), Some(format!("t-{most}")));
    assert_eq!(newest(100), Some(format!("t-{}", most - 100)));
}

/// A key of another type is refused, and keeps its value.
pub(super) async fn a_damaged_trail_is_refused(fx: &Fixture) {
    fx.leaves_damage();
    fx.edit(|state| drop(state.insert(own::TRAIL.into(), string("x"))))
        .await;
    for answer in [
        fx.storage.record_act(&act(fx, 1)).await,
        fx.storage.trail(Cursor::default(), 1).await.map(drop),
    ] {
        assert!(
            matches!(&answer, Err(BrokerError::WrongType { key }) if key == own::TRAIL),
            "{answer:?}"
        );
    }
}
