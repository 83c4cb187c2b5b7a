//! The ends of children: in reverse order, each in its own way and time.

use std::time::Duration;

use asynq_actors::{
    ActorState,
    supervisor::{Backoff, Shutdown, Strategy},
};
use tokio::time::Instant;

use super::kit::{Boot, Order, World, breathe, settle};

#[tokio::test(start_paused = true)]
async fn children_start_in_order_and_stop_in_reverse_through_all_levels() {
    let world = World::new();
    let mut inner = world.args(Strategy::OneForAll, world.children(&["b", "c"]));
    inner.path = "root/inner".into();
    let children = vec![world.child("a"), world.nested("inner", inner), world.child("d")];
    let root = world.spawn(world.args(Strategy::OneForOne, children)).await;
    assert_eq!(world.log(), ["start a", "start b", "start c", "start d"]);
    assert_eq!(
        world.tree.snapshot().unwrap().to_string(),
        "root Running\n  a Running\n  inner Running\n    b Running\n    c Running\n  d Running\n"
    );
    root.stop().await;
    assert_eq!(world.log(), ["stop d", "stop c", "stop b", "stop a"]);
    assert_eq!(
        world.tree.snapshot().unwrap().to_string(),
        "root Stopped\n  a Stopped\n  inner Stopped\n    b Stopped\n    c Stopped\n  d Stopped\n"
    );
    assert_eq!(world.exit.get(), Some(&Ok(())));
}

#[tokio::test(start_paused = true)]
async fn the_next_is_stopped_when_the_one_before_has_ended() {
    let world = World::new();
    let root = world
        .spawn(world.args(Strategy::OneForOne, world.children(&["a", "b"])))
        .await;
    world.lingers("b", Duration::from_secs(4));
    root.cell.stop(None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((world.alive("a"), world.alive("b")), (1, 1));
    root.ended().await;
    assert_eq!(world.log(), ["start a", "start b", "stop b", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn stop_drops_what_is_queued_and_drain_handles_it() {
    let world = World::new();
    let limit = Duration::from_secs(10);
    let children = vec![
        world.child("stopped").shutdown(Shutdown::Stop(limit)),
        world.child("drained").shutdown(Shutdown::Drain(limit)),
        world.child("killed").shutdown(Shutdown::Kill),
    ];
    let root = world.spawn(world.args(Strategy::OneForOne, children)).await;
    world.log();
    // The turn of the first to be started comes last.
    for (name, secs) in [("stopped", 5), ("drained", 1), ("killed", 1)] {
        world.tell(name, Order::Busy(Duration::from_secs(secs)));
        world.tell(name, Order::Note(1));
        world.tell(name, Order::Note(2));
    }
    breathe().await;
    root.stop().await;
    assert_eq!(
        world.log(),
        ["did drained 1", "did drained 2", "stop drained", "stop stopped"]
    );
    for name in ["stopped", "drained", "killed"] {
        assert_eq!(world.alive(name), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_still_there_at_its_deadline_is_killed_and_the_others_stop_in_order() {
    for (shutdown, order, linger) in [
        (Shutdown::Stop(Duration::from_secs(2)), Order::Hang, None),
        (Shutdown::Drain(Duration::from_secs(2)), Order::Hang, None),
        (
            Shutdown::Drain(Duration::from_secs(2)),
            Order::Busy(Duration::from_secs(3)),
            None,
        ),
        (
            Shutdown::Stop(Duration::from_secs(2)),
            Order::Note(1),
            Some(Duration::from_secs(60)),
        ),
    ] {
        let case = format!("{shutdown:?} {order:?} {linger:?}");
        let world = World::new();
        let children = vec![world.child("a"), world.child("b").shutdown(shutdown), world.child("c")];
        let root = world.spawn(world.args(Strategy::OneForOne, children)).await;
        if let Some(linger) = linger {
            world.lingers("b", linger);
        }
        world.tell("b", order);
        breathe().await;
        world.log();
        let began = Instant::now();
        root.stop().await;
        let took = began.elapsed();
        assert!(
            took >= Duration::from_secs(2) && took < Duration::from_millis(2100),
            "{case}: {took:?}"
        );
        assert_eq!(world.log(), ["stop c", "stop a"], "{case}");
        assert_eq!(world.alive("b"), 0, "{case}");
        assert_eq!(world.exit.get(), Some(&Ok(())), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_changes_nothing() {
    let world = World::new();
    let root = world
        .spawn(world.args(Strategy::OneForOne, world.children(&["a", "b"])))
        .await;
    world.lingers("b", Duration::from_secs(1));
    world.log();
    root.cell.stop(None);
    root.cell.stop(Some("again".into()));
    breathe().await;
    root.cell.stop(None);
    root.stop().await;
    assert_eq!(world.log(), ["stop b", "stop a"]);
    assert_eq!(world.exit.get(), Some(&Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_a_restart_is_waited_for_starts_nothing_any_more() {
    for strategy in [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll] {
        for drain in [false, true] {
            let case = format!("{strategy:?}, drain: {drain}");
            let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
            let tasks_before = tasks();
            let world = World::new();
            let mut args = world.args(strategy, world.children(&["a", "b", "c"]));
            args.backoff = Backoff {
                first: Duration::from_secs(10),
                most: Duration::from_secs(10),
            };
            let root = world.spawn(args).await;
            world.tell("b", Order::Panic);
            breathe().await;
            assert_eq!(world.state(&["b"]), ActorState::Restarting, "{case}");
            world.log();
            let began = Instant::now();
            if drain {
                root.cell.drain().unwrap();
            } else {
                root.cell.stop(None);
            }
            root.ended().await;
            assert!(began.elapsed() < Duration::from_secs(1), "{case}");
            tokio::task::yield_now().await;
            assert_eq!(tasks(), tasks_before, "{case}: a timer is left behind");
            settle().await;
            assert!(world.log().iter().all(|line| line.starts_with("stop")), "{case}");
            assert_eq!(world.state(&["b"]), ActorState::Stopped, "{case}");
            assert_eq!(world.exit.get(), Some(&Ok(())), "{case}");
        }
    }
}

/// A child that crashes while its supervisor drains is not restarted, and does not make it give up.
#[tokio::test(start_paused = true)]
async fn a_crash_while_the_supervisor_drains() {
    let world = World::new();
    let mut args = world.args(Strategy::OneForOne, world.children(&["a", "b"]));
    args.intensity.restarts = 0;
    let root = world.spawn(args).await;
    world.tell("b", Order::Panic);
    root.cell.drain().unwrap();
    root.ended().await;
    assert_eq!(world.log(), ["start a", "start b", "stop a"]);
    assert_eq!(world.exit.get(), Some(&Ok(())));
}

/// Restarts that wait behind a slow one when the drain comes are not tried, and a start that the
/// drain thwarts is no failure.
#[tokio::test(start_paused = true)]
async fn a_drain_while_a_child_is_being_started() {
    let world = World::new();
    let mut args = world.args(Strategy::OneForOne, world.children(&["a", "b", "c"]));
    args.backoff.first = Duration::ZERO;
    args.intensity.restarts = 2;
    let root = world.spawn(args).await;
    world.boots("a", [Boot::Slow(Duration::from_secs(5))]);
    world.log();
    world.tell("a", Order::Panic);
    world.tell("b", Order::Panic);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (world.alive("a"), world.alive("b")),
        (0, 0),
        "one is starting, one waits"
    );
    root.cell.drain().unwrap();
    root.ended().await;
    assert_eq!(world.log(), ["start a", "stop c"], "and was not linked");
    assert_eq!(world.exit.get(), Some(&Ok(())));
    assert_eq!(world.alive("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_a_child_is_being_started_waits_for_it_and_stops_all() {
    let world = World::new();
    let root = world
        .spawn(world.args(Strategy::OneForAll, world.children(&["a", "b", "c"])))
        .await;
    world.boots("b", [Boot::Slow(Duration::from_secs(5))]);
    world.tell("a", Order::Panic);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((world.alive("a"), world.alive("b"), world.alive("c")), (1, 0, 0));
    world.log();
    root.stop().await;
    assert_eq!(world.log(), ["start b", "start c", "stop c", "stop b", "stop a"]);
}

/// A crash in a child's last words is no reason to stay.
#[tokio::test(start_paused = true)]
async fn children_that_end_by_themselves_while_all_are_stopped() {
    let world = World::new();
    let root = world
        .spawn(world.args(Strategy::OneForAll, world.children(&["a", "b", "c"])))
        .await;
    world.lingers("c", Duration::from_secs(1));
    world.log();
    root.cell.stop(None);
    breathe().await;
    world.tell("a", Order::Panic);
    world.probe("b").kill();
    root.ended().await;
    assert_eq!(world.log(), ["stop c"]);
    assert_eq!(world.exit.get(), Some(&Ok(())));
    assert_eq!((world.alive("a"), world.alive("b"), world.alive("c")), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_leaves_no_child_and_no_word() {
    let world = World::new();
    let root = world
        .spawn(world.args(Strategy::OneForOne, world.children(&["a", "b"])))
        .await;
    world.tell("b", Order::Hang);
    breathe().await;
    world.log();
    root.cell.kill();
    root.ended().await;
    settle().await;
    assert_eq!((world.alive("a"), world.alive("b")), (0, 0));
    assert_eq!(world.log(), [""; 0], "killed: no post_stop");
    assert_eq!(world.exit.get(), None);
    assert_eq!(
        world.tree.snapshot().unwrap().to_string(),
        "root Stopped\n  a Stopped\n  b Stopped\n"
    );
}

/// ractor does not kill children that are just stopping or draining.
#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_killed_while_it_stops_or_restarts_leaves_no_child() {
    let long = Duration::from_secs(1000);
    for (stopping, shutdown, order) in [
        (true, Shutdown::Stop(long), Order::Hang),
        (false, Shutdown::Stop(long), Order::Hang),
        (true, Shutdown::Drain(long), Order::Hang),
        (false, Shutdown::Drain(long), Order::Hang),
        (true, Shutdown::Stop(long), Order::Note(0)),
        (false, Shutdown::Stop(long), Order::Note(0)),
    ] {
        let world = World::new();
        let children = vec![world.child("a"), world.child("b").shutdown(shutdown)];
        let root = world.spawn(world.args(Strategy::OneForAll, children)).await;
        world.lingers("b", 2 * long);
        world.tell("b", order);
        breathe().await;
        if stopping {
            root.cell.stop(None);
        } else {
            world.tell("a", Order::Panic);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.alive("b"), 1);
        root.cell.kill();
        root.ended().await;
        settle().await;
        assert_eq!((world.alive("a"), world.alive("b")), (0, 0));
        assert_eq!(world.state(&["b"]), ActorState::Stopped);
        assert_eq!(world.exit.get(), None);
    }
}
