//! Limits of groups: when one is aggregated, its fate, and how many are aggregated at once.

use std::time::Duration;

use asynq_actors::{AsynqSystem, Exit};
use asynq_core::{
    EnqueueError, Error, GroupAggregatorFunc, ServerConfig, Task, TaskState, aggregator::MAX_AGGREGATIONS,
};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Op};
use tokio::sync::mpsc;

use super::kit::*;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Ready within this second, seen within the next, and some for the way.
fn about(after: Duration, secs: u64) {
    let (least, most) = (Duration::from_secs(secs - 1), Duration::from_millis(secs * 1000 + 1100));
    assert!(least < after && after <= most, "after {after:?} and not {secs} s");
}

#[tokio::test(start_paused = true)]
async fn each_task_begins_the_grace_period_anew() {
    let mut world = World::new([]);
    let config = quick().group_grace_period(secs(10)).unwrap();
    let system = world.spawn(config).await;
    world.add(&system, "g", "a").await;
    pass(secs(6)).await;
    world.add(&system, "g", "b").await;
    pass(secs(6)).await;
    assert_eq!(world.balance().await.waiting["g"], ["a", "b"]);
    let call = world.call().await;
    assert_eq!((call.group.as_str(), call.members), ("g", names(&["a", "b"])));
    about(call.after, 16);
    world.all_aggregated().await;
    assert_eq!(system.shutdown().await, Exit::Stopped);
    world.no_more_calls();
}

#[tokio::test(start_paused = true)]
async fn the_oldest_task_waits_for_the_longest_delay_at_most() {
    let mut world = World::new([]);
    let config = quick().group_grace_period(secs(60)).unwrap().group_max_delay(secs(10));
    let system = world.spawn(config).await;
    for name in ["a", "b", "c", "d"] {
        world.add(&system, "g", name).await;
        pass(secs(4)).await;
    }
    let call = world.call().await;
    assert_eq!(call.members, names(&["a", "b", "c"]));
    about(call.after, 10);
    assert_eq!(world.balance().await.waiting["g"], ["d"]);
    let call = world.call().await;
    assert_eq!(call.members, names(&["d"]));
    about(call.after, 22);
    world.all_aggregated().await;
    system.shutdown().await;
}

/// All that is full goes in one pass (Go takes one set of each group in a pass), oldest first.
#[tokio::test(start_paused = true)]
async fn a_full_group_goes_at_once_and_the_rest_waits() {
    let mut world = World::new([]);
    let config = quick().group_grace_period(secs(60)).unwrap().group_max_size(2);
    let system = world.spawn(config).await;
    world.add_all(&system, "g", &["a", "b", "c", "d", "e"]).await;
    let (first, second) = (world.call().await, world.call().await);
    let members = [first.members, second.members];
    assert_eq!(members, [names(&["a", "b"]), names(&["c", "d"])]);
    assert_eq!((first.after, second.after), (SECOND, SECOND));
    let call = world.call().await;
    assert_eq!(call.members, names(&["e"]));
    about(call.after, 60);
    world.all_aggregated().await;
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn groups_of_all_queues_are_aggregated_each_for_itself() {
    let mut world = World::new([]);
    let system = world.spawn(quick().queues([("default", 1), ("low", 1)])).await;
    world.add_all(&system, "g", &["a", "b"]).await;
    world.add(&system, "h", "c").await;
    let low = Task::new("member", b"d").unwrap().with_group("g").with_queue("low");
    system.client().enqueue(low).await.unwrap();
    world.expect_member("d");
    // Nobody serves this queue.
    let other = Task::new("member", b"e").unwrap().with_group("g").with_queue("other");
    system.client().enqueue(other).await.unwrap();
    world.expect_member("e");
    let mut calls = [world.call().await, world.call().await, world.call().await];
    calls.sort_by(|a, b| a.members.cmp(&b.members));
    let [first, second, third] = calls.map(|call| (call.group, call.members));
    assert_eq!(first, ("g".to_owned(), names(&["a", "b"])));
    assert_eq!(second, ("h".to_owned(), names(&["c"])));
    assert_eq!(third, ("g".to_owned(), names(&["d"])));
    pass(MINUTE).await;
    world.no_more_calls();
    assert_eq!(world.balance().await.waiting["g"], ["e"]);
    system.shutdown().await;
}

/// As in Go, three at once; what waits is not forgotten, and the actor is not in its way.
#[tokio::test(start_paused = true)]
async fn so_many_sets_at_once_and_not_more() {
    const GROUPS: [&str; 7] = ["g1", "g2", "g3", "g4", "g5", "g6", "g7"];
    let mut world = World::new([Act::Waits; GROUPS.len()]);
    let system = world.spawn(quick()).await;
    for group in GROUPS {
        world.add(&system, group, &format!("{group}:a")).await;
    }
    for _ in 0..MAX_AGGREGATIONS {
        world.call().await;
    }
    pass(5 * MINUTE).await;
    world.no_more_calls();
    assert_eq!(world.under_way(), MAX_AGGREGATIONS);
    world.release(1);
    world.call().await;
    pass(MINUTE).await;
    world.no_more_calls();
    world.release(GROUPS.len() - 1);
    world.all_aggregated().await;
    assert_eq!(world.most_at_once(), MAX_AGGREGATIONS);
    system.shutdown().await;
}

/// However long a pass takes, up to the interval.
#[tokio::test(start_paused = true)]
async fn groups_are_looked_at_at_fixed_times() {
    let mut world = World::new([]);
    let system = world.spawn(quick()).await;
    world.add(&system, "g", "a").await;
    world.faults.next(Op::CollectGroup, Fault::Hang);
    world.faults.hung(Op::CollectGroup, 1).await;
    pass(SECOND / 2).await;
    world.faults.release();
    pass(SECOND / 2 + SECOND / 10).await;
    assert_eq!(world.faults.calls(Op::ListGroups), 2);
    world.all_aggregated().await;
    system.shutdown().await;
}

/// One that hangs takes one place, and the groups go on in the others.
#[tokio::test(start_paused = true)]
async fn a_set_that_hangs_keeps_no_other_group_waiting() {
    let mut world = World::new([Act::Waits]);
    let system = world.spawn(quick()).await;
    world.add(&system, "slow", "a").await;
    assert_eq!(world.call().await.group, "slow");
    for name in ["b", "c", "d", "e"] {
        world.add(&system, "g", name).await;
        assert_eq!(world.call().await.members, names(&[name]));
    }
    let books = world.books().await;
    assert_eq!(books.sums.len(), 4, "{books:?}");
    world.release(1);
    world.all_aggregated().await;
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_result_has_its_own_options_and_the_queue_of_its_group() {
    let world = World::new([]);
    let system = world
        .builder(quick().queues([("low", 1)]))
        .aggregator(|group: String, tasks: Vec<Task>| async move {
            assert_eq!(tasks[0].headers()["lang"], "de");
            let payload: Vec<_> = tasks.iter().map(Task::get_payload).collect();
            let sum = Task::new(format!("sum:{group}"), &payload.concat())?;
            Ok(sum
                .with_queue("elsewhere")
                .with_max_retry(3)
                .with_header("x", "y")
                .with_unique_ttl(MINUTE)
                .with_retention(MINUTE))
        })
        .spawn()
        .await
        .unwrap();
    let member = Task::new("member", b"a").unwrap().with_group("g").with_queue("low");
    let member = member.with_header("lang", "de").with_max_retry(9);
    let member = system.client().enqueue(member).await.unwrap();
    pass(secs(4)).await;
    let sum = world.only_sum("low").await;
    assert_eq!((sum.task_type.as_str(), &sum.payload[..]), ("sum:g", &b"a"[..]));
    assert_eq!((sum.max_retry, sum.retention, sum.group), (3, MINUTE, None));
    assert_eq!(
        sum.headers.iter().collect::<Vec<_>>(),
        [(&"x".to_owned(), &"y".to_owned())]
    );
    assert_ne!(sum.id, member.id);
    world.books().await;
    let duplicate = Task::new("sum:g", b"a")
        .unwrap()
        .with_queue("low")
        .with_unique_ttl(MINUTE);
    let refused = system.client().enqueue(duplicate).await;
    assert!(
        matches!(refused, Err(Error::Enqueue(EnqueueError::DuplicateTask))),
        "{refused:?}"
    );
    system.shutdown().await;
}

/// A member holds its lock until it is aggregated, and no longer (differences.md#freed-locks).
#[tokio::test(start_paused = true)]
async fn a_unique_member_is_unique_until_it_is_aggregated() {
    let mut world = World::new([Act::Fails]);
    let system = world.spawn(quick()).await;
    let unique = || {
        let task = Task::new("member", b"a").unwrap().with_group("g");
        task.with_unique_ttl(60 * MINUTE)
    };
    let client = system.client();
    client.enqueue(unique()).await.unwrap();
    world.expect_member("a");
    world.call().await;
    let refused = client.enqueue(unique()).await;
    assert!(
        matches!(refused, Err(Error::Enqueue(EnqueueError::DuplicateTask))),
        "in a set: {refused:?}"
    );
    world.call().await;
    world.all_aggregated().await;
    let sum = world.only_sum("default").await;
    client.enqueue(unique()).await.unwrap();
    assert_eq!(&sum.payload[..], b"a");
    system.shutdown().await;
}

/// From member to handler, with an aggregator that is a plain function.
#[tokio::test(start_paused = true)]
async fn what_was_aggregated_is_run() {
    let store = MemoryStore::new();
    let world = World::new([]);
    let (ran, mut runs) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(store.clone())
        .env(world.env.clone())
        .config(quick())
        .aggregator(GroupAggregatorFunc::new(|group, tasks| {
            let combined = tasks
                .iter()
                .map(|t| t.get_payload())
                .collect::<Vec<_>>()
                .join(&b"\n"[..]);
            Task::new(group, &combined)
        }))
        .handler(move |task: Task| {
            let ran = ran.clone();
            async move {
                ran.send((task.get_type().to_owned(), task.get_payload().to_vec()))
                    .map_err(Error::other)
            }
        })
        .spawn()
        .await
        .unwrap();
    for name in ["a", "b"] {
        let task = Task::new("t", name.as_bytes()).unwrap().with_group("digest");
        let task = task.with_task_id(name);
        let info = system.client().enqueue(task).await.unwrap();
        assert_eq!(info.state, TaskState::Aggregating);
    }
    assert_eq!(runs.recv().await.unwrap(), ("digest".to_owned(), b"a\nb".to_vec()));
    assert_eq!(system.shutdown().await, Exit::Stopped);
    assert!(runs.try_recv().is_err(), "the members were not run");
    let raw = store.raw_state();
    let left: Vec<_> = raw
        .keys()
        .filter(|key| key.contains(":t:") || key.contains(":g"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn only_a_system_with_an_aggregator_has_the_actor() {
    let world = World::new([]);
    let without = AsynqSystem::builder(world.store.clone())
        .env(world.env.clone())
        .handler(|_task: Task| async { Ok(()) })
        .spawn()
        .await
        .unwrap();
    let tree = without.tree().unwrap();
    assert!(tree.find(&["maintenance"]).is_some() && tree.find(&["maintenance", "aggregator"]).is_none());
    without.shutdown().await;
    let with = world.spawn(ServerConfig::new()).await;
    let tree = with.tree().unwrap();
    assert!(tree.find(&["maintenance", "aggregator"]).is_some() && tree.find(&["work"]).is_none());
    with.shutdown().await;
}
