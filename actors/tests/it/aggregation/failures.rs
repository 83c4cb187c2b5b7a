//! Sets for which there is no result, or whose result cannot be written.

use std::time::Duration;

use asynq_core::{Broker as _, Clock, Inspect as _, QueueName, Task, broker::Env, error::BrokerError};
use asynq_testing::faulty::{Fault, Op};

use super::kit::*;

/// The first call goes wrong, for this set alone: another group is aggregated meanwhile. Nothing
/// is enqueued, and after a short wait its tasks are aggregated after all.
async fn tried_again_after(act: Act) {
    let mut world = World::new([act]);
    let system = world.spawn(quick()).await;
    let taken = Task::new("other", b"").unwrap().with_task_id("taken");
    system.client().enqueue(taken).await.unwrap();
    world.add_all(&system, "bad", &["a", "b"]).await;
    let first = world.call().await;
    assert_eq!(first.members, names(&["a", "b"]));
    world.add(&system, "good", "c").await;
    let calls = [world.call().await, world.call().await];
    assert!(calls.iter().any(|call| call.group == "good"), "{calls:?}");
    let again = calls.iter().find(|call| call.group == "bad").unwrap();
    assert_eq!(again.members, names(&["a", "b"]));
    let wait = again.after - first.after;
    assert!(SECOND <= wait && wait <= 5 * SECOND, "{act:?}: after {wait:?}");
    world.all_aggregated().await;
    world.no_more_calls();
    system.shutdown().await;
    world.balance().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_loses_no_task() {
    tried_again_after(Act::Fails).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_loses_no_task() {
    tried_again_after(Act::Panics).await;
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_that_cannot_be_dropped_lose_no_task() {
    tried_again_after(Act::FailsBadly).await;
    tried_again_after(Act::PanicsBadly).await;
}

/// Go's nil.
#[tokio::test(start_paused = true)]
async fn a_result_without_a_type_loses_no_task() {
    tried_again_after(Act::Blank).await;
}

#[tokio::test(start_paused = true)]
async fn a_result_with_a_bad_option_loses_no_task() {
    tried_again_after(Act::Refused).await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_large_loses_no_task() {
    tried_again_after(Act::TooLarge).await;
}

#[tokio::test(start_paused = true)]
async fn a_result_whose_id_is_taken_loses_no_task() {
    tried_again_after(Act::Conflicts).await;
}

/// The waits grow, so that an aggregator that always fails is not called again and again; what joins the group
/// meanwhile counts as a part of the same row.
#[tokio::test(start_paused = true)]
async fn an_aggregator_that_always_fails_is_called_less_and_less() {
    let mut world = World::new([Act::Fails; 12]);
    let system = world.spawn(quick()).await;
    world.add(&system, "g", "a").await;
    let mut calls = Vec::new();
    for _ in 0..12 {
        calls.push(world.call().await.after);
    }
    let waits: Vec<_> = calls.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    for (wait, least) in waits.iter().zip([1, 2, 4, 8, 16, 32, 64, 119, 119, 119, 119]) {
        assert!((least..=least + 5).contains(wait), "{waits:?}");
    }
    assert_eq!(world.call().await.members, names(&["a"]));
    world.all_aggregated().await;
    system.shutdown().await;
}

/// A set that cannot be given up, because the storage is away, is given up as soon as it is back.
#[tokio::test(start_paused = true)]
async fn a_set_is_given_up_though_answers_are_lost() {
    for fault in [Fault::unavailable(), Fault::LoseReply, Fault::LoseRequest] {
        let mut world = World::new([Act::Fails]);
        for _ in 0..5 {
            world.faults.next(Op::ReleaseAggregation, fault);
        }
        world.faults.next(Op::ReclaimAggregationSets, fault);
        let system = world.spawn(quick()).await;
        world.add(&system, "g", "a").await;
        let first = world.call().await;
        let again = world.call().await;
        assert!(again.after - first.after <= 15 * SECOND, "{:?}", again.after);
        world.all_aggregated().await;
        system.shutdown().await;
    }
}

/// Operators see the tasks of a set as aggregating, while they are and when that has failed.
#[tokio::test(start_paused = true)]
async fn tasks_of_a_set_are_shown_as_aggregating() {
    let mut world = World::new([Act::Waits]);
    let system = world.spawn(quick()).await;
    world.add_all(&system, "g", &["a", "b"]).await;
    world.call().await;
    world.add(&system, "g", "c").await;
    let storage = world.store.open(world.env.clone());
    let info = storage.queue_info(&QueueName::default()).await.unwrap();
    assert_eq!((info.aggregating, info.groups), (3, 1));
    let groups = storage.group_infos(&QueueName::default()).await.unwrap();
    assert_eq!((groups.len(), groups[0].size, groups[0].in_sets), (1, 1, 2));
    world.release(1);
    world.all_aggregated().await;
    let info = storage.queue_info(&QueueName::default()).await.unwrap();
    assert_eq!(info.aggregating, 0);
    system.shutdown().await;
}

/// Longer than the lifetime of a set: it is extended, and nobody else takes its tasks.
#[tokio::test(start_paused = true)]
async fn an_aggregator_may_take_longer_than_the_set_lives() {
    let mut world = World::new([Act::Takes(20 * MINUTE)]);
    let system = world.spawn(quick()).await;
    world.add_all(&system, "g", &["a", "b"]).await;
    world.call().await;
    pass(20 * MINUTE - SECOND).await;
    assert_eq!(world.books().await.sums.len(), 0);
    assert_eq!(world.all_aggregated().await.sums, [names(&["a", "b"])]);
    world.no_more_calls();
    let extended = world.faults.calls(Op::ExtendAggregation);
    assert!((30..=40).contains(&extended), "{extended} times");
    system.shutdown().await;
}

async fn broken_off_after(act: Act) {
    let mut world = World::new([act]);
    let system = world.spawn(quick().group_timeout(5 * MINUTE)).await;
    world.add_all(&system, "g", &["a", "b"]).await;
    let first = world.call().await;
    pass(5 * MINUTE - SECOND).await;
    assert_eq!(world.broken_off(), 0);
    pass(2 * SECOND).await;
    assert_eq!(world.broken_off(), 1);
    let again = world.call().await;
    assert_eq!(again.members, names(&["a", "b"]));
    assert!(
        again.after - first.after <= 5 * MINUTE + 5 * SECOND,
        "{:?}",
        again.after
    );
    assert_eq!(world.all_aggregated().await.sums, [names(&["a", "b"])]);
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_aggregator_that_hangs_is_broken_off() {
    broken_off_after(Act::Hangs).await;
    broken_off_after(Act::HangsBadly).await;
}

/// A set that cannot be extended is another's when its time is over: the run ends before.
#[tokio::test(start_paused = true)]
async fn a_run_ends_with_the_time_of_its_set() {
    let mut world = World::new([Act::Hangs]);
    world.faults.always(Op::ExtendAggregation, Fault::unavailable());
    let system = world.spawn(quick()).await;
    world.add(&system, "g", "a").await;
    world.call().await;
    pass(2 * MINUTE - 2 * SECOND).await;
    assert_eq!(world.broken_off(), 0);
    pass(3 * SECOND).await;
    assert_eq!(world.broken_off(), 1);
    assert_eq!(world.call().await.members, names(&["a"]));
    world.all_aggregated().await;
    assert_eq!(world.most_at_once(), 1);
    system.shutdown().await;
}

/// An extension that fails is tried again, and so is one whose answer was lost.
#[tokio::test(start_paused = true)]
async fn an_extension_may_fail_for_a_while() {
    let mut world = World::new([Act::Takes(10 * MINUTE)]);
    for fault in [Fault::unavailable(), Fault::LoseReply, Fault::LoseRequest] {
        for _ in 0..25 {
            world.faults.next(Op::ExtendAggregation, fault);
        }
    }
    let system = world.spawn(quick()).await;
    world.add(&system, "g", "a").await;
    world.call().await;
    world.all_aggregated().await;
    assert_eq!(world.broken_off(), 0);
    world.no_more_calls();
    system.shutdown().await;
}

/// Somebody whose clock is ahead hands the set back while it is being aggregated.
async fn hand_back(world: &World) {
    let ahead = Env {
        clock: Clock::manual(world.env.clock.now() + 5 * MINUTE),
        ..world.env.clone()
    };
    let thief = world.store.open(ahead);
    assert_eq!(thief.reclaim_aggregation_sets(&QueueName::default()).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_set_was_handed_back_is_broken_off() {
    let mut world = World::new([Act::Hangs]);
    let system = world.spawn(quick()).await;
    world.add(&system, "g", "a").await;
    world.call().await;
    hand_back(&world).await;
    assert_eq!(world.balance().await.waiting["g"], ["a"]);
    // The next extension tells.
    pass(MINUTE / 2 + SECOND).await;
    assert_eq!(world.broken_off(), 1);
    assert_eq!(world.call().await.members, names(&["a"]));
    world.all_aggregated().await;
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_set_that_was_handed_back_is_dropped() {
    let mut world = World::new([Act::Waits]);
    let config = quick().group_check_interval(MINUTE);
    let system = world.spawn(config).await;
    world.add(&system, "g", "a").await;
    world.call().await;
    hand_back(&world).await;
    world.release(1);
    world.faults.called(Op::FinishAggregation, 1).await;
    pass(SECOND).await;
    let books = world.balance().await;
    assert_eq!((books.sums.len(), &books.waiting["g"]), (0, &names(&["a"])));
    assert_eq!(world.call().await.members, names(&["a"]));
    world.all_aggregated().await;
    system.shutdown().await;
}

/// A result is offered under one token until it is taken.
async fn taken_once(faults: &[Fault]) {
    let mut world = World::new([]);
    for fault in faults {
        world.faults.next(Op::FinishAggregation, *fault);
    }
    let system = world.spawn(quick()).await;
    world.add_all(&system, "g", &["a", "b"]).await;
    let call = world.call().await;
    assert_eq!(world.all_aggregated().await.sums, [names(&["a", "b"])]);
    let offers = world.faults.calls(Op::FinishAggregation);
    pass(10 * MINUTE).await;
    world.no_more_calls();
    world.balance().await;
    assert!(call.after <= 4 * SECOND);
    assert!(offers >= 1 && world.faults.calls(Op::FinishAggregation) <= faults.len() as u64 + 1);
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_doubles_no_result() {
    taken_once(&[Fault::LoseReply]).await;
    taken_once(&[Fault::LoseReply, Fault::LoseReply, Fault::unavailable()]).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_loses_no_result() {
    taken_once(&[Fault::LoseRequest]).await;
    taken_once(&[Fault::unavailable(), Fault::LoseRequest, Fault::LoseReply]).await;
}

#[tokio::test(start_paused = true)]
async fn a_result_waits_for_memory() {
    taken_once(&[Fault::Fail(|| BrokerError::OutOfMemory); 5]).await;
}

/// Taken, run to its end and deleted before the answer was asked for again.
#[tokio::test(start_paused = true)]
async fn a_result_that_is_gone_when_it_is_offered_again_was_taken() {
    let mut world = World::new([]);
    world.faults.next(Op::FinishAggregation, Fault::LoseReply);
    world.faults.next(Op::FinishAggregation, Fault::Hang);
    let system = world
        .builder(quick())
        .handler(|task: Task| async move {
            assert_eq!(task.get_type(), "sum");
            Ok(())
        })
        .spawn()
        .await
        .unwrap();
    world.add(&system, "g", "a").await;
    world.call().await;
    world.faults.hung(Op::FinishAggregation, 1).await;
    pass(SECOND).await;
    let books = world.books().await;
    assert!(
        books.sums.is_empty() && books.waiting.is_empty(),
        "it was run: {books:?}"
    );
    world.faults.release();
    pass(10 * MINUTE).await;
    world.no_more_calls();
    assert_eq!(world.books().await, Books::default());
    system.shutdown().await;
}

/// A set was made and nobody heard of it: it comes back.
#[tokio::test(start_paused = true)]
async fn a_set_whose_making_nobody_heard_of_comes_back() {
    let mut world = World::new([]);
    let system = world.spawn(quick()).await;
    world.add_all(&system, "g", &["a", "b"]).await;
    // The first looks find a group that is not ready, and one makes the set.
    world.faults.always(Op::CollectGroup, Fault::LoseReply);
    pass(10 * SECOND).await;
    world.faults.clear();
    assert_eq!(world.books().await, Books::default(), "in their set");
    let call = world.call().await;
    assert_eq!(call.members, names(&["a", "b"]));
    assert!(
        call.after > 2 * MINUTE - SECOND && call.after <= HANDED_BACK,
        "{call:?}"
    );
    world.all_aggregated().await;
    system.shutdown().await;
}

/// In the same pass, and without waiting for the next.
#[tokio::test(start_paused = true)]
async fn a_group_or_a_queue_that_cannot_be_looked_at_keeps_no_other_waiting() {
    let mut world = World::new([]);
    let config = quick().group_max_size(1).queues([("default", 1), ("low", 1)]);
    let system = world.spawn(config).await;
    world.add(&system, "g1", "a").await;
    world.add(&system, "g2", "b").await;
    let low = Task::new("member", b"c").unwrap().with_group("g").with_queue("low");
    system.client().enqueue(low).await.unwrap();
    world.expect_member("c");
    let wrong = || BrokerError::WrongType { key: "g:g1".to_owned() };
    world.faults.next(Op::CollectGroup, Fault::Fail(wrong));
    let calls = [world.call().await, world.call().await];
    let mut now: Vec<_> = calls.iter().map(|call| (call.after, call.members.concat())).collect();
    now.sort();
    assert_eq!(now, [(SECOND, "b".to_owned()), (SECOND, "c".to_owned())]);
    world.all_aggregated().await;

    world.call().await;
    world.add(&system, "g1", "d").await;
    let low = Task::new("member", b"e").unwrap().with_group("g").with_queue("low");
    system.client().enqueue(low).await.unwrap();
    world.expect_member("e");
    let first_queue = world.faults.for_queue(&asynq_core::QueueName::default());
    first_queue.next(Op::ListGroups, Fault::unavailable());
    let first = world.call().await;
    assert_eq!(first.members, names(&["e"]));
    let second = world.call().await;
    assert_eq!(second.members, names(&["d"]));
    assert!(
        second.after - first.after <= Duration::from_millis(100),
        "tried on at once"
    );
    world.all_aggregated().await;
    system.shutdown().await;
}

/// It is not asked for every group when it is away.
#[tokio::test(start_paused = true)]
async fn a_storage_that_is_away_is_asked_once_in_a_pass() {
    let mut world = World::new([]);
    let system = world.spawn(quick().group_max_size(1)).await;
    for group in ["g1", "g2", "g3", "g4"] {
        world.add(&system, group, group).await;
    }
    world.faults.always(Op::CollectGroup, Fault::unavailable());
    world.faults.called(Op::CollectGroup, 1).await;
    pass(Duration::from_millis(40)).await;
    assert_eq!(world.faults.calls(Op::CollectGroup), 1);
    world.faults.clear();
    world.all_aggregated().await;
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_is_away_for_a_while() {
    let mut world = World::new([Act::Takes(MINUTE)]);
    let system = world.spawn(quick()).await;
    world.add_all(&system, "g", &["a", "b"]).await;
    world.call().await;
    world.add(&system, "h", "c").await;
    world.faults.all(Fault::unavailable());
    pass(80 * SECOND).await;
    world.faults.clear();
    world.all_aggregated().await;
    assert_eq!(world.broken_off(), 0);
    system.shutdown().await;
}
