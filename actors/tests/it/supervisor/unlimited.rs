//! Supervisors with children whose crashes never count, and children with a wait of their own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{
    ActorState,
    supervisor::{Backoff, Intensity, Restart, Strategy, SupervisorArgs},
};
use tokio::time::Instant;

use super::kit::{Boot, Order, World, breathe, settle};

fn unlimited(world: &World, strategy: Strategy, names: &[&'static str]) -> SupervisorArgs {
    SupervisorArgs {
        intensity: Intensity::UNLIMITED,
        ..world.args(strategy, world.children(names))
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_crashes_it_never_gives_up() {
    let world = World::new();
    let mut args = unlimited(&world, Strategy::OneForOne, &["a", "b"]);
    args.backoff = Backoff {
        first: Duration::from_millis(10),
        most: Duration::from_millis(20),
    };
    let root = world.spawn(args).await;
    for crash in 0..2000 {
        world.tell("b", [Order::Panic, Order::Fail].into_iter().nth(crash % 2).unwrap());
        tokio::time::sleep(Duration::from_millis(21)).await;
        assert_eq!(world.alive("b"), 1, "after crash {crash}");
    }
    assert_eq!(world.node(&["b"]).restarts, 2000);
    assert_eq!(world.starts("a").len(), 1);
    root.stop().await;
    assert_eq!(world.exit.get(), Some(&Ok(())));
}

#[tokio::test(start_paused = true)]
async fn the_wait_of_each_child_grows_by_its_own_crashes() {
    let world = World::new();
    let mut args = unlimited(&world, Strategy::OneForOne, &["a", "b"]);
    args.backoff = Backoff {
        first: Duration::from_millis(10),
        most: Duration::from_secs(30),
    };
    let root = world.spawn(args).await;
    world.boots("b", [Boot::Fail; 8]);
    world.tell("b", Order::Panic);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.state(&["b"]), ActorState::Restarting);
    let crashed = Instant::now();
    world.tell("a", Order::Panic);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(*world.starts("a").last().unwrap() > crashed, "a waits for itself only");
    settle().await;
    assert_eq!(world.alive("b"), 1);
    root.stop().await;
}

/// The very first start says what is wrong with the set-up; later ones are crashes.
#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_an_error_at_first_and_a_crash_when_the_supervisor_is_restarted() {
    for strategy in [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll] {
        let world = World::new();
        world.boots("b", [Boot::Fail]);
        let mut inner = unlimited(&world, strategy, &["a", "b", "c"]);
        inner.path = "root/inner".into();
        let outer = || world.args(Strategy::OneForOne, vec![world.nested("inner", inner.clone())]);
        world.try_spawn(outer()).await.map(drop).unwrap_err();

        let world = World::new();
        let mut inner = unlimited(&world, strategy, &["a", "b", "c"]);
        inner.path = "root/inner".into();
        let outer = world.args(Strategy::OneForOne, vec![world.nested("inner", inner)]);
        let root = world.spawn(outer).await;
        world.boots("b", [Boot::Fail, Boot::Panic, Boot::Fail]);
        world.supervisor_of("a").unwrap().kill();
        settle().await;
        for name in ["a", "b", "c"] {
            assert_eq!(world.alive(name), 1, "{strategy:?} {name}");
        }
        assert_eq!(
            world.node(&["inner"]).restarts,
            1,
            "{strategy:?}: it ended only when it was killed"
        );
        if strategy == Strategy::OneForOne {
            assert_eq!(world.starts("c").len(), 2, "it was not kept waiting");
        }
        assert_eq!(world.breaches(), [""; 0]);
        root.stop().await;
        assert_eq!(
            world.alive("a") + world.alive("b") + world.alive("c"),
            0,
            "{strategy:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_may_have_a_wait_of_its_own_that_hears_why() {
    let world = World::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    let child = world.child("a").restart_after(move |failure| {
        let times = {
            let mut heard = ears.lock().unwrap();
            heard.push(failure.to_owned());
            heard.len()
        };
        assert!(times != 3, "told to panic");
        Duration::from_secs(40)
    });
    let root = world.spawn(world.args(Strategy::OneForOne, vec![child])).await;
    for (order, wait) in [
        (Order::Panic, Duration::from_secs(40)),
        (Order::End, Duration::from_secs(40)),
        // It panics this time: the supervisor's applies, at most 100 ms.
        (Order::Fail, Duration::ZERO),
    ] {
        let crashed = Instant::now();
        world.tell("a", order);
        settle().await;
        let waited = *world.starts("a").last().unwrap() - crashed;
        assert!(
            waited >= wait && waited <= wait + Duration::from_millis(110),
            "{waited:?}"
        );
    }
    let heard = heard.lock().unwrap().clone();
    assert!(heard[0].contains("told to panic"), "{heard:?}");
    assert_eq!(heard[1], "stopped");
    assert!(heard[2].contains("told to fail"), "{heard:?}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_to_be_restarted_has_no_wait() {
    let world = World::new();
    let child = world
        .child("a")
        .restart(Restart::Transient)
        .restart_after(|_| panic!("not asked"));
    let root = world.spawn(world.args(Strategy::OneForOne, vec![child])).await;
    world.tell("a", Order::End);
    settle().await;
    assert_eq!(world.node(&["a"]).state, ActorState::Stopped);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_may_have_any_text_as_its_name() {
    let world = World::new();
    let names = ["img/resize#0", "img", "50%", "%2F", "über uns#1"];
    let mut events = world.tree.events();
    let root = world
        .spawn(world.args(Strategy::OneForOne, names.map(|n| world.child(n)).into()))
        .await;
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok())
        .map(|event| event.path)
        .collect();
    assert_eq!(
        told,
        [
            "root/img%2Fresize#0",
            "root/img",
            "root/50%25",
            "root/%252F",
            "root/über uns#1",
            "root"
        ]
    );
    for name in names {
        world.tell(name, Order::Panic);
        breathe().await;
        assert_eq!(world.state(&[name]), ActorState::Restarting, "{name}");
    }
    settle().await;
    for name in names {
        assert_eq!(world.node(&[name]).restarts, 1, "{name}");
        assert_eq!(world.node(&[name]).children, [], "{name}");
    }
    root.stop().await;
}
