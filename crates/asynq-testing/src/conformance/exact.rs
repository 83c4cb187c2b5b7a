//! Times with a fraction of a second: the wire has whole ones, and nothing that we do is earlier than asked.

use asynq_core::{
    broker::{Forwarded, LeasedTask},
    clock::exact_millis,
};
use chrono::{DateTime, Utc};

use super::kit::*;

async fn forward(fx: &Fixture, limit: u32) -> Forwarded {
    fx.storage.forward(&queue(Q), limit).await.unwrap()
}

/// So many milliseconds after the whole second in which the case began.
fn millis(fx: &Fixture, millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(fx.secs() * 1000 + millis).unwrap()
}

fn pass(fx: &Fixture, millis: u64) {
    fx.clock.advance(Duration::from_millis(millis));
}

/// The contract: a field of ours has what the score has not; a whole second needs none.
pub(super) async fn the_rest_of_a_time_is_kept_beside_its_score(fx: &Fixture) {
    let (whole, exact) = (millis(fx, 9000), millis(fx, 9999));
    for (id, at) in [("whole", whole), ("exact", exact)] {
        fx.enqueue(request(Q, id).at(at)).await;
        fx.settled(&fx.running(request(Q, &format!("retry {id}"))).await, retry(at))
            .await;
    }
    let raw = fx.raw().await;
    let second = whole.timestamp();
    for (set, prefix) in [("scheduled", ""), ("retry", "retry ")] {
        let ids = ["exact", "whole"].map(|id| (format!("{prefix}{id}"), second));
        assert_eq!(raw.zset(set), ids);
        assert_eq!(raw.task(&ids[1].0).names(), ["msg", "state", "x:enq"]);
        assert_eq!(
            raw.task(&ids[0].0).field("x:at"),
            Some((second * 1000 + 999).to_string())
        );
    }
}

/// The contract: never before its millisecond, and told when that is.
pub(super) async fn no_task_is_forwarded_before_its_millisecond(fx: &Fixture) {
    // It is 250 ms past the second.
    fx.enqueue(request(Q, "scheduled").at(millis(fx, 750))).await;
    fx.settled(&fx.running(request(Q, "retry")).await, retry(millis(fx, 500)))
        .await;
    fx.enqueue(request(Q, "later").at(millis(fx, 60_250))).await;
    let at = [millis(fx, 500), millis(fx, 750), millis(fx, 60_000)];
    let begun = fx.secs();
    for (passes, moved, next) in [
        (0, 0, at[0]),
        (249, 0, at[0]),
        (1, 1, at[1]),
        (249, 0, at[1]),
        (1, 1, at[2]),
    ] {
        pass(fx, passes);
        let done = forward(fx, 100).await;
        assert_eq!(
            (done.moved, done.more, done.next_due),
            (moved, false, Some(next)),
            "{next}"
        );
    }
    let raw = fx.raw().await;
    assert_eq!(raw.list("pending"), ["scheduled", "retry"]);
    for id in ["scheduled", "retry"] {
        assert_eq!(raw.task(id).names(), ["msg", "pending_since", "state", "x:enq"]);
    }
    // At its whole second it is looked for, and then waited for.
    fx.clock.set(DateTime::from_timestamp(begun + 60, 0).unwrap());
    let done = forward(fx, 100).await;
    let exact = DateTime::from_timestamp_millis((begun + 60) * 1000 + 250);
    assert_eq!((done.moved, done.next_due), (0, exact));
    pass(fx, 250);
    assert_eq!(forward(fx, 100).await.moved, 1);
}

/// The contract: those that are held back hide no other, and a late server lets none wait for its millisecond.
pub(super) async fn what_is_held_back_hides_no_other(fx: &Fixture) {
    for id in ["a", "b", "c"] {
        fx.enqueue(request(Q, id).at(millis(fx, 900))).await;
    }
    for id in ["d", "e"] {
        fx.enqueue(request(Q, id).at(millis(fx, 0))).await;
    }
    let done = forward(fx, 1).await;
    assert_eq!((done.moved, done.more), (1, true));
    let done = forward(fx, 1).await;
    assert_eq!(
        (done.moved, done.more, done.next_due),
        (1, false, Some(millis(fx, 900)))
    );
    assert_eq!(fx.raw().await.list("pending"), ["e", "d"]);
    pass(fx, 750);
    let done = forward(fx, 100).await;
    assert_eq!((done.moved, done.more, done.next_due), (3, false, None));
}

/// The contract: where so many are held back that those behind them are not seen, the next second moves all.
pub(super) async fn no_task_waits_longer_than_the_second_of_its_score(fx: &Fixture) {
    for n in 10..30 {
        fx.enqueue(request(Q, &n.to_string()).at(millis(fx, 900))).await;
    }
    fx.enqueue(request(Q, "last").at(millis(fx, 0))).await;
    let done = forward(fx, 1).await;
    assert!(!done.more && done.next_due == Some(millis(fx, 900)), "{done:?}");
    pass(fx, 750);
    let mut moved = 0;
    loop {
        let done = forward(fx, 1).await;
        moved += done.moved;
        if !done.more {
            break;
        }
    }
    assert_eq!(moved, 21);
}

/// The contract: a Go program that moves a task leaves the field as it is. Its score alone counts then.
pub(super) async fn what_a_go_program_leaves_behind_holds_no_task_back(fx: &Fixture) {
    let from = |at: i64| millis(fx, at);
    let (begun, since) = (fx.secs(), from(250).timestamp_millis() * 1_000_000);
    fx.enqueue(request(Q, "now").at(from(9500))).await;
    // As its inspector runs a task now.
    fx.edit(|state| {
        state.remove(&key("scheduled"));
        state.insert(key("pending"), list(&["now"]));
        set_field(state, "now", "state", Some(bytes("pending")));
        set_field(state, "now", "pending_since", Some(bytes(since.to_string())));
    })
    .await;
    let task = fx.take_one().await;
    assert_eq!(fx.raw().await.task("now").names(), ["msg", "state", "x:enq", "x:take"]);
    fx.settled(&task, DONE).await;
    // As its server retries a task.
    let retries = [("earlier", begun + 3), ("same", begun + 9), ("later", begun + 12)];
    for (id, _) in retries {
        fx.enqueue(request(Q, id).at(from(9500))).await;
    }
    fx.edit(|state| {
        state.remove(&key("scheduled"));
        state.insert(key("retry"), zset(&retries));
        for (id, _) in retries {
            set_field(state, id, "state", Some(bytes("retry")));
        }
    })
    .await;
    for (at, moved) in [(2999, 0), (3000, 1), (8999, 0), (10_000, 1), (11_999, 0), (12_000, 1)] {
        fx.clock
            .set(DateTime::from_timestamp_millis(begun * 1000 + at).unwrap());
        assert_eq!(forward(fx, 100).await.moved, moved, "{at}");
    }
    assert_eq!(fx.raw().await.list("pending"), ["later", "same", "earlier"]);
}

/// The contract: what is left of another time, or damaged, holds nothing back.
pub(super) async fn only_the_time_of_the_score_holds_a_task_back(fx: &Fixture) {
    let now = millis(fx, 0);
    for (at, id) in [
        (exact_millis(millis(fx, 5500)).unwrap().to_string(), "another"),
        ("x".to_owned(), "damaged"),
        ("99999999999999999999".to_owned(), "huge"),
        (String::new(), "empty"),
    ] {
        fx.enqueue(request(Q, id).at(now)).await;
        fx.edit(|state| set_field(state, id, "x:at", Some(bytes(at)))).await;
        assert_eq!(forward(fx, 100).await.moved, 1, "{id}");
        assert_eq!(fx.raw().await.task(id).field("x:at"), None, "{id}");
    }
    // A task that is run at once waits for nothing any more.
    fx.enqueue(request(Q, "at once").at(millis(fx, 9500))).await;
    fx.storage.run_task(&queue(Q), &id("at once")).await.unwrap();
    assert_eq!(fx.raw().await.task("at once").field("x:at"), None);
}

/// The contract: whoever takes a task, adopts it or takes it again is told its deadline to the millisecond.
pub(super) async fn a_deadline_comes_with_its_task(fx: &Fixture) {
    let at = millis(fx, 5400);
    fx.enqueue(request(Q, "exact").exact_deadline(at)).await;
    fx.enqueue(request(Q, "whole").deadline(at.timestamp())).await;
    fx.enqueue(request(Q, "none")).await;
    let call = fx.storage.begin();
    let want = vec![Want {
        queue: queue(Q),
        max: 3,
    }];
    let taken = fx.storage.exchange(&call, &[], &want).await.leased;
    let deadlines = |tasks: &[LeasedTask]| tasks.iter().map(|task| task.deadline).collect::<Vec<_>>();
    assert_eq!(ids(&taken), ["exact", "whole", "none"]);
    assert_eq!(deadlines(&taken), [Some(at), None, None]);
    assert_eq!(taken[0].message.deadline, at.timestamp());
    let adopted = fx.storage.adopt(&queue(Q), &call).await.unwrap();
    assert_eq!(deadlines(&adopted), [Some(at), None, None]);
    for task in adopted.iter().rev() {
        fx.settled(task, Outcome::Requeue).await;
    }
    assert_eq!(deadlines(&fx.take(3).await), [Some(at), None, None]);
}

/// The contract: a deadline that the field does not refine, or damage in it, leaves that of the message.
pub(super) async fn a_field_of_another_deadline_counts_as_none(fx: &Fixture) {
    let at = millis(fx, 5400);
    let other = exact_millis(millis(fx, 9400)).unwrap().to_string();
    for damage in [other.as_str(), "x", "", "99999999999999999999"] {
        fx.enqueue(request(Q, "a").exact_deadline(at)).await;
        fx.edit(|state| set_field(state, "a", "x:deadline", Some(bytes(damage))))
            .await;
        let task = fx.take_one().await;
        assert_eq!(
            (task.deadline, task.message.deadline),
            (None, at.timestamp()),
            "{damage}"
        );
        fx.settled(&task, DONE).await;
    }
}

/// A request with such times is known again like any other.
pub(super) async fn a_request_sent_again_is_success(fx: &Fixture) {
    let new = || {
        request(Q, "a")
            .at(millis(fx, 5400))
            .exact_deadline(millis(fx, 9400))
            .token(7)
    };
    fx.enqueue(new()).await;
    let before = fx.raw().await;
    fx.enqueue(new()).await;
    before.assert_same(&fx.raw().await);
    let answer = fx.try_enqueue(new().token(8)).await;
    assert!(matches!(answer, Err(EnqueueError::TaskIdConflict)), "{answer:?}");
}
