//! Starts that go wrong, the first and later ones, and the wait between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use asynq_actors::{
    ActorState, SupervisedRef,
    supervisor::{Backoff, ChildSpec, Strategy, SupervisorError},
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::time::Instant;

use super::kit::{Boot, Order, Probe, World, breathe, settle};

#[tokio::test(start_paused = true)]
async fn a_first_start_that_fails_stops_what_was_started_and_says_why() {
    for (boot, why) in [
        (
            Boot::Fail,
            "told to fail: an error occurred when formatting an argument",
        ),
        (Boot::Panic, "told to panic at start"),
        (Boot::Hang, "did not start within 7s"),
    ] {
        for strategy in [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll] {
            let world = World::new();
            world.boots("c", [boot]);
            let children = vec![
                world.child("a"),
                world.child("b"),
                world.child("c").start_within(Duration::from_secs(7)),
                world.child("d"),
            ];
            let error = world
                .try_spawn(world.args(strategy, children))
                .await
                .map(drop)
                .unwrap_err();
            let SpawnErr::StartupFailed(error) = error else {
                panic!("{error}")
            };
            let error: SupervisorError = *error.downcast().expect("its type is known");
            let SupervisorError::StartFailed {
                supervisor,
                child,
                failure,
            } = &error
            else {
                panic!("{error}")
            };
            assert_eq!(
                (supervisor.as_str(), child.as_str(), failure.as_str()),
                ("root", "c", why)
            );
            assert_eq!(world.failed_with(), error);
            assert_eq!(world.log(), ["start a", "start b", "stop b", "stop a"], "{boot:?}");
            settle().await;
            assert_eq!(
                world.tree.snapshot().unwrap().to_string(),
                format!(
                    "root Failed last failure: {error}\n  a Stopped\n  b Stopped\n  c Stopped last failure: {why}\n  d Stopped\n"
                )
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_below_fails_the_whole_tree() {
    let world = World::new();
    world.boots("c", [Boot::Fail]);
    let mut inner = world.args(Strategy::OneForOne, world.children(&["b", "c"]));
    inner.path = "root/inner".into();
    let children = vec![world.child("a"), world.nested("inner", inner)];
    let error = world
        .try_spawn(world.args(Strategy::OneForOne, children))
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("root/inner: start of c failed: told to fail"),
        "{error}"
    );
    assert!(matches!(world.failed_with(), SupervisorError::StartFailed { child, .. } if child == "inner"));
    assert_eq!(world.log(), ["start a", "start b", "stop b", "stop a"]);
    assert_eq!(world.state(&["inner"]), ActorState::Failed);
}

#[tokio::test(start_paused = true)]
async fn two_children_of_one_name_are_refused() {
    let world = World::new();
    let args = world.args(Strategy::OneForOne, world.children(&["a", "b", "a"]));
    world.try_spawn(args).await.map(drop).unwrap_err();
    let (supervisor, child) = ("root".to_owned(), "a".to_owned());
    assert_eq!(
        world.failed_with(),
        SupervisorError::DuplicateChild { supervisor, child }
    );
    assert_eq!(world.log(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_makes_a_child_may_panic() {
    let world = World::new();
    let twice = Arc::new(AtomicU32::new(0));
    let (again, inside) = (Arc::clone(&twice), world.clone());
    let fragile = ChildSpec::new("fragile", move || {
        // The second to the fourth time.
        let time = again.fetch_add(1, Ordering::Relaxed);
        assert!(!(1..4).contains(&time), "no argument for a child");
        (Probe, ("fragile".to_owned(), inside.clone()))
    });
    let root = world
        .spawn(world.args(Strategy::OneForOne, vec![world.child("a"), fragile]))
        .await;
    world.tell("fragile", Order::Panic);
    settle().await;
    assert_eq!(twice.load(Ordering::Relaxed), 5);
    assert_eq!((world.alive("fragile"), world.alive("a")), (1, 1));
    assert_eq!(world.starts("a").len(), 1);
    let failure = world.node(&["fragile"]).last_failure.unwrap();
    assert_eq!(failure, "panicked: no argument for a child");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_is_tried_again_by_the_strategy() {
    for (strategy, starts) in [
        (Strategy::OneForOne, [1, 2, 1]),
        // From the one on that failed: a and b were not stopped again.
        (Strategy::RestForOne, [1, 2, 2]),
        (Strategy::OneForAll, [4, 2, 2]),
    ] {
        let world = World::new();
        let root = world
            .spawn(world.args(strategy, world.children(&["a", "b", "c"])))
            .await;
        world.boots("b", [Boot::Fail, Boot::Panic]);
        world.tell("b", Order::Fail);
        settle().await;
        for (name, starts) in ["a", "b", "c"].into_iter().zip(starts) {
            assert_eq!(world.alive(name), 1, "{strategy:?} {name}");
            assert_eq!(world.starts(name).len(), starts, "{strategy:?} {name}");
        }
        assert_eq!(
            world.node(&["b"]).restarts,
            1,
            "{strategy:?}: a start that failed is none"
        );
        root.stop().await;
        assert_eq!(world.breaches(), [""; 0]);
    }
}

/// In rest_for_one those before the one whose start failed keep running.
#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_half_way_goes_on_from_there() {
    let world = World::new();
    let root = world
        .spawn(world.args(Strategy::RestForOne, world.children(&["a", "b", "c", "d"])))
        .await;
    world.boots("c", [Boot::Fail]);
    world.tell("a", Order::Fail);
    settle().await;
    let starts = ["a", "b", "c", "d"].map(|name| world.starts(name).len());
    assert_eq!(starts, [2, 2, 2, 2]);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_starts_count_as_restarts() {
    let world = World::new();
    let mut args = world.args(Strategy::OneForOne, world.children(&["a", "b"]));
    args.intensity.restarts = 3;
    let root = world.spawn(args).await;
    world.boots("b", [Boot::Fail; 100]);
    world.tell("b", Order::Panic);
    root.ended().await;
    // The crash, and three starts that failed.
    assert!(matches!(
        world.failed_with(),
        SupervisorError::IntensityExceeded { restarts: 3, .. }
    ));
    assert_eq!(world.log(), ["start a", "start b", "stop a"]);
}

/// Half of each wait is random; the doubling is not.
#[tokio::test(start_paused = true)]
async fn the_wait_doubles_to_its_cap_and_is_forgotten_in_time() {
    let world = World::new();
    let mut args = world.args(Strategy::OneForOne, world.children(&["a", "b"]));
    args.backoff = Backoff {
        first: Duration::from_millis(100),
        most: Duration::from_millis(1500),
    };
    let root = world.spawn(args).await;
    let crash = async |name: &'static str| {
        let before = world.starts(name).len();
        let began = Instant::now();
        world.tell(name, Order::Panic);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let starts = world.starts(name);
        assert_eq!(starts.len(), before + 1);
        (starts[before] - began).as_millis()
    };
    for most in [100, 200, 400, 800, 1500, 1500] {
        let waited = crash("b").await;
        // Timers are good to a millisecond.
        assert!((most / 2..=most + 1).contains(&waited), "{waited} of {most}");
    }
    let waited = crash("a").await;
    assert!((50..=101).contains(&waited), "each child has its own wait: {waited}");
    tokio::time::sleep(Duration::from_secs(61)).await;
    let waited = crash("b").await;
    assert!((50..=101).contains(&waited), "after the intensity's time: {waited}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_wait_has_jitter() {
    let mut waits = std::collections::BTreeSet::new();
    let world = World::new();
    let root = world
        .spawn(world.args(Strategy::OneForOne, world.children(&["a"])))
        .await;
    for _ in 0..10 {
        let began = Instant::now();
        world.tell("a", Order::Panic);
        tokio::time::sleep(Duration::from_secs(1)).await;
        waits.insert(*world.starts("a").last().unwrap() - began);
    }
    assert!(waits.len() > 3, "{waits:?}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_follows_restarts() {
    let world = World::new();
    let slot = SupervisedRef::new();
    assert!(slot.get().is_none());
    assert!(matches!(slot.cast(Order::Note(0)), Err(Order::Note(0))));
    let inside = world.clone();
    let published = ChildSpec::published("p", slot.clone(), move || (Probe, ("p".to_owned(), inside.clone())));
    let root = world.spawn(world.args(Strategy::OneForOne, vec![published])).await;
    let first = slot.get().unwrap().get_id();
    slot.cast(Order::Note(1)).unwrap();
    slot.cast(Order::Panic).unwrap();
    breathe().await;
    assert!(
        matches!(slot.cast(Order::Note(2)), Err(Order::Note(2))),
        "none is alive"
    );
    assert!(!slot.newer(Some(first), Duration::from_millis(10)).await, "not yet");
    assert!(slot.newer(Some(first), Duration::from_secs(10)).await);
    assert_ne!(slot.get().unwrap().get_id(), first);
    slot.cast(Order::Note(3)).unwrap();
    breathe().await;
    assert_eq!(world.log(), ["start p", "did p 1", "start p", "did p 3"]);
    root.stop().await;
    assert!(matches!(slot.cast(Order::Note(4)), Err(Order::Note(4))));
}

/// Looks for itself in its slot.
struct Narcissus;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Narcissus {
    type Msg = Order;
    type State = ();
    type Arguments = (SupervisedRef<Order>, Arc<AtomicU32>);

    async fn pre_start(
        &self,
        myself: ActorRef<Order>,
        (slot, seen): Self::Arguments,
    ) -> Result<(), ActorProcessingErr> {
        let there = slot.get().is_some_and(|actor| actor.get_id() == myself.get_id());
        seen.fetch_add(u32::from(there), Ordering::Relaxed);
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Order>, _: Order, (): &mut ()) -> Result<(), ActorProcessingErr> {
        panic!("told to")
    }
}

#[tokio::test(start_paused = true)]
async fn each_incarnation_is_published_before_it_runs() {
    let world = World::new();
    let (slot, seen) = (SupervisedRef::new(), Arc::new(AtomicU32::new(0)));
    let inside = (slot.clone(), Arc::clone(&seen));
    let published = ChildSpec::published("p", slot.clone(), move || (Narcissus, inside.clone()));
    let root = world.spawn(world.args(Strategy::OneForOne, vec![published])).await;
    slot.cast(Order::Note(1)).unwrap();
    settle().await;
    assert_eq!(seen.load(Ordering::Relaxed), 2);
    root.stop().await;
}

/// A published child is started in a task of its own: it must not go on when the start is given up.
#[tokio::test(start_paused = true)]
async fn a_published_child_whose_start_takes_too_long_is_given_up() {
    let world = World::new();
    let (slot, inside) = (SupervisedRef::new(), world.clone());
    let published = ChildSpec::published("p", slot.clone(), move || (Probe, ("p".to_owned(), inside.clone())));
    let children = vec![world.child("a"), published.start_within(Duration::from_secs(2))];
    let root = world.spawn(world.args(Strategy::OneForOne, children)).await;
    world.log();
    world.boots(
        "p",
        [Boot::Slow(Duration::from_secs(3)), Boot::Hang, Boot::Fail, Boot::Panic],
    );
    slot.cast(Order::Panic).unwrap();
    settle().await;
    assert_eq!(world.log(), ["start p"], "once, without the late one");
    assert_eq!(world.alive("p"), 1);
    assert_eq!(slot.get().unwrap().get_id(), world.probe("p").get_id());
    assert_eq!(
        world.node(&["p"]).last_failure.as_deref(),
        Some("told to panic at start")
    );
    root.stop().await;
    assert_eq!(world.log(), ["stop p", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_killed_while_it_starts_a_published_child() {
    let world = World::new();
    let (slot, inside) = (SupervisedRef::new(), world.clone());
    let published = ChildSpec::published("p", slot.clone(), move || (Probe, ("p".to_owned(), inside.clone())));
    let root = world.spawn(world.args(Strategy::OneForOne, vec![published])).await;
    world.log();
    world.boots("p", [Boot::Slow(Duration::from_secs(3))]);
    slot.cast(Order::Panic).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    root.cell.kill();
    root.ended().await;
    settle().await;
    assert_eq!((world.log(), world.alive("p")), (vec![], 0));
}
