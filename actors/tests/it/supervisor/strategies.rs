//! The children that are restarted, for every strategy, restart type and kind of end.

use std::time::Duration;

use asynq_actors::{
    ActorState,
    supervisor::{Restart, Shutdown, Strategy},
};

use super::kit::{Boot, Order, World, breathe, settle};

const STRATEGIES: [Strategy; 3] = [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll];

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Panic,
    Err,
    KillIdle,
    KillBusy,
    KillStarting,
    PanicAfterStart,
    ErrAfterStart,
    Normal,
}

const ENDS: [End; 8] = [
    End::Panic,
    End::Err,
    End::KillIdle,
    End::KillBusy,
    End::KillStarting,
    End::PanicAfterStart,
    End::ErrAfterStart,
    End::Normal,
];

async fn inflict(world: &World, name: &str, end: End) {
    match end {
        End::Panic => world.tell(name, Order::Panic),
        End::Err => world.tell(name, Order::Fail),
        End::Normal => world.tell(name, Order::End),
        End::KillIdle | End::KillStarting => world.probe(name).kill(),
        End::KillBusy => {
            world.tell(name, Order::Hang);
            breathe().await;
            world.probe(name).kill();
        }
        // The start itself was told to end like that.
        End::PanicAfterStart | End::ErrAfterStart => {}
    }
}

async fn one_case(strategy: Strategy, restart: Restart, end: End) {
    let case = format!("{strategy:?}, {restart:?}, {end:?}");
    let world = World::new();
    match end {
        End::KillStarting => world.boots("b", [Boot::HangAfterwards]),
        End::PanicAfterStart => world.boots("b", [Boot::PanicAfterwards]),
        End::ErrAfterStart => world.boots("b", [Boot::FailAfterwards]),
        _ => {}
    }
    let children = vec![world.child("a"), world.child("b").restart(restart), world.child("c")];
    let root = world.spawn(world.args(strategy, children)).await;
    assert_eq!(world.log(), ["start a", "start b", "start c"], "{case}");
    inflict(&world, "b", end).await;
    settle().await;

    let crash = end != End::Normal;
    let again = match restart {
        Restart::Permanent => true,
        Restart::Transient => crash,
        Restart::Temporary => false,
    };
    // A normal end says so itself.
    let own_word = if crash { None } else { Some("stop b") };
    let then: &[&str] = match (again, strategy) {
        (false, _) => &[],
        (true, Strategy::OneForOne) => &["start b"],
        (true, Strategy::RestForOne) => &["stop c", "start b", "start c"],
        (true, Strategy::OneForAll) => &["stop c", "stop a", "start a", "start b", "start c"],
    };
    let expected: Vec<_> = own_word.into_iter().chain(then.iter().copied()).collect();
    assert_eq!(world.log(), expected, "{case}");

    assert_eq!(world.alive("a"), 1, "{case}");
    assert_eq!(world.alive("b"), usize::from(again), "{case}");
    assert_eq!(world.alive("c"), 1, "{case}");
    let b = world.node(&["b"]);
    assert_eq!(
        b.state,
        if again {
            ActorState::Running
        } else {
            ActorState::Stopped
        },
        "{case}"
    );
    assert_eq!(b.restarts, u64::from(again), "{case}");
    let restarted = |name: &str| u64::from(then.contains(&format!("start {name}").as_str()));
    assert_eq!(world.node(&["a"]).restarts, restarted("a"), "{case}");
    assert_eq!(world.node(&["c"]).restarts, restarted("c"), "{case}");
    let failure = b.last_failure.unwrap_or_default();
    let named = match end {
        End::Panic => "told to panic",
        End::PanicAfterStart => "told to panic after the start",
        // With its cause.
        End::Err | End::ErrAfterStart => "told to fail: an error occurred",
        End::KillIdle | End::KillBusy | End::KillStarting => "killed",
        End::Normal if again => "stopped",
        End::Normal => "",
    };
    assert!(
        failure.contains(named) && failure.is_empty() == named.is_empty(),
        "{case}: {failure}"
    );
    root.stop().await;
    assert_eq!(world.breaches(), [""; 0], "{case}");
}

#[tokio::test(start_paused = true)]
async fn each_strategy_and_restart_type_and_kind_of_end() {
    for strategy in STRATEGIES {
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            for end in ENDS {
                one_case(strategy, restart, end).await;
            }
        }
    }
}

/// Temporary children that a strategy stops stay away; transient ones that had done their work
/// come back with their group, as in OTP.
#[tokio::test(start_paused = true)]
async fn siblings_of_each_restart_type_when_their_group_is_restarted() {
    for strategy in [Strategy::RestForOne, Strategy::OneForAll] {
        let world = World::new();
        let children = vec![
            world.child("a"),
            world.child("done").restart(Restart::Transient),
            world.child("busy").restart(Restart::Transient),
            world.child("once").restart(Restart::Temporary),
            world.child("z"),
        ];
        let root = world.spawn(world.args(strategy, children)).await;
        world.tell("done", Order::End);
        breathe().await;
        world.log();
        world.tell("a", Order::Panic);
        settle().await;
        assert_eq!(
            world.log(),
            [
                "stop z",
                "stop once",
                "stop busy",
                "start a",
                "start done",
                "start busy",
                "start z"
            ],
            "{strategy:?}"
        );
        assert_eq!(world.state(&["once"]), ActorState::Stopped);
        // A second time it is no longer there to be stopped.
        world.tell("a", Order::Panic);
        settle().await;
        let log = world.log();
        assert!(!log.iter().any(|line| line.ends_with("once")), "{log:?}");
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_done_its_work_stays_away_when_others_are_restarted() {
    for (strategy, finished) in [
        (Strategy::OneForOne, ["a", "c"].as_slice()),
        // Those before the one that crashed are no part of it.
        (Strategy::RestForOne, &["a"]),
    ] {
        let world = World::new();
        let children = ["a", "b", "c"].map(|name| world.child(name).restart(Restart::Transient));
        let root = world.spawn(world.args(strategy, children.into())).await;
        for name in finished {
            world.tell(name, Order::End);
        }
        breathe().await;
        world.tell("b", Order::Panic);
        settle().await;
        assert_eq!(world.alive("b"), 1, "{strategy:?}");
        for name in finished {
            assert_eq!(world.alive(name), 0, "{strategy:?} {name}");
        }
        root.stop().await;
    }
}

/// Each child of one_for_one has its own wait.
#[tokio::test(start_paused = true)]
async fn the_restart_of_one_does_not_hasten_that_of_another() {
    let world = World::new();
    let mut args = world.args(Strategy::OneForOne, world.children(&["a", "b", "c"]));
    args.backoff.most = Duration::from_secs(100);
    let root = world.spawn(args).await;
    // The wait of c has grown to at least 1.6 s.
    for _ in 0..5 {
        world.tell("c", Order::Panic);
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    world.tell("c", Order::Panic);
    breathe().await;
    world.tell("a", Order::Panic);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((world.alive("a"), world.alive("c")), (1, 0));
    settle().await;
    assert_eq!(world.alive("c"), 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_or_finished_child_takes_nobody_with_it() {
    for strategy in [Strategy::RestForOne, Strategy::OneForAll] {
        for (restart, order) in [(Restart::Temporary, Order::Panic), (Restart::Transient, Order::End)] {
            let world = World::new();
            let children = vec![world.child("x").restart(restart), world.child("y")];
            let root = world.spawn(world.args(strategy, children)).await;
            world.log();
            world.tell("x", order);
            settle().await;
            assert!(!world.log().contains(&"stop y".to_owned()), "{strategy:?} {restart:?}");
            root.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn crashes_of_all_children_at_once() {
    for strategy in STRATEGIES {
        let world = World::new();
        let root = world
            .spawn(world.args(strategy, world.children(&["a", "b", "c"])))
            .await;
        world.log();
        for name in ["a", "b", "c"] {
            world.tell(name, Order::Panic);
        }
        settle().await;
        for name in ["a", "b", "c"] {
            assert_eq!(world.alive(name), 1, "{strategy:?} {name}");
            assert_eq!(world.starts(name).len(), 2, "{strategy:?} {name}");
        }
        if strategy != Strategy::OneForOne {
            assert_eq!(world.log(), ["start a", "start b", "start c"], "{strategy:?}");
        }
        root.stop().await;
    }
}

/// A child before one that waits for its restart crashes: the later plan is part of the earlier.
#[tokio::test(start_paused = true)]
async fn a_crash_while_another_restart_is_waited_for() {
    for strategy in STRATEGIES {
        for (first, second) in [("c", "a"), ("a", "c")] {
            let world = World::new();
            let root = world
                .spawn(world.args(strategy, world.children(&["a", "b", "c"])))
                .await;
            world.tell(first, Order::Panic);
            breathe().await;
            // In a group the second may have been stopped.
            if world.alive(second) == 1 {
                world.tell(second, Order::Panic);
            }
            settle().await;
            for name in ["a", "b", "c"] {
                assert_eq!(world.alive(name), 1, "{strategy:?} {first} {second} {name}");
                assert!(world.starts(name).len() <= 2, "{strategy:?} {first} {second} {name}");
            }
            root.stop().await;
            assert_eq!(world.breaches(), [""; 0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_crashes_as_soon_as_it_runs_is_tried_on() {
    let world = World::new();
    let root = world
        .spawn(world.args(Strategy::OneForAll, world.children(&["a", "b"])))
        .await;
    world.boots("a", [Boot::PanicAfterwards, Boot::FailAfterwards]);
    world.tell("b", Order::Panic);
    settle().await;
    assert_eq!((world.alive("a"), world.alive("b")), (1, 1));
    assert_eq!(world.starts("a").len(), 4);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn siblings_that_do_not_stop_are_killed_before_the_restart() {
    let world = World::new();
    let children = vec![
        world.child("a"),
        world.child("b").shutdown(Shutdown::Stop(Duration::from_secs(3))),
    ];
    let root = world.spawn(world.args(Strategy::RestForOne, children)).await;
    world.tell("b", Order::Hang);
    breathe().await;
    world.log();
    let began = tokio::time::Instant::now();
    world.tell("a", Order::Panic);
    settle().await;
    assert_eq!(world.log(), ["start a", "start b"]);
    let waited = world.starts("a")[1] - began;
    assert!(
        waited >= Duration::from_secs(3) && waited < Duration::from_secs(4),
        "{waited:?}"
    );
    assert_eq!(world.breaches(), [""; 0]);
    root.stop().await;
}
