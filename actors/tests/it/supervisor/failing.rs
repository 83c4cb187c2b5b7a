//! Supervisors that give up, are killed, or meet children they cannot trust.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{
    ActorState,
    supervisor::{Intensity, Restart, Strategy, Supervisor, SupervisorArgs, SupervisorError},
};
use ractor::{Actor, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};

use super::kit::{Boot, Order, World, breathe, settle};

/// An actor of the user's own that supervises by hand.
struct Boss;

struct BossArgs {
    args: SupervisorArgs,
    heard: Arc<Mutex<Vec<SupervisorError>>>,
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Boss {
    type Msg = ();
    type State = Arc<Mutex<Vec<SupervisorError>>>;
    type Arguments = BossArgs;

    async fn pre_start(&self, myself: ActorRef<()>, boss: BossArgs) -> Result<Self::State, ActorProcessingErr> {
        Actor::spawn_linked(None, Supervisor, boss.args, myself.get_cell()).await?;
        Ok(boss.heard)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        heard: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            heard
                .lock()
                .unwrap()
                .push(*error.downcast().expect("its type is known"));
            myself.stop(None);
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn one_crash_too_many_ends_the_children_in_order_and_reaches_the_parent_typed() {
    for strategy in [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll] {
        let world = World::new();
        let mut args = world.args(strategy, world.children(&["a", "b", "c"]));
        args.intensity = Intensity {
            restarts: 2,
            within: Duration::from_secs(60),
        };
        let heard = Arc::default();
        let boss = BossArgs {
            args,
            heard: Arc::clone(&heard),
        };
        let (_, boss) = Actor::spawn(None, Boss, boss).await.unwrap();
        for _ in 0..2 {
            world.tell("b", Order::Fail);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(world.alive("b"), 1, "two are normal");
        world.log();
        world.tell("b", Order::Panic);
        tokio::time::timeout(Duration::from_secs(1), boss)
            .await
            .expect("at once")
            .unwrap();
        assert_eq!(world.log(), ["stop c", "stop a"], "{strategy:?}");
        let expected = SupervisorError::IntensityExceeded {
            supervisor: "root".into(),
            child: "b".into(),
            failure: "told to panic".into(),
            restarts: 2,
            within: Duration::from_secs(60),
        };
        assert_eq!(*heard.lock().unwrap(), std::slice::from_ref(&expected));
        assert_eq!(world.failed_with(), expected);
        let root = world.node(&[]);
        assert_eq!(
            (root.state, root.last_failure.clone()),
            (ActorState::Failed, Some(expected.to_string()))
        );
        assert!(
            root.children.iter().all(|child| child.state == ActorState::Stopped),
            "{root}"
        );
        assert_eq!(world.node(&["b"]).last_failure.as_deref(), Some("told to panic"));
    }
}

#[tokio::test(start_paused = true)]
async fn with_no_restarts_allowed_the_first_crash_is_the_last() {
    let world = World::new();
    let mut args = world.args(Strategy::OneForOne, world.children(&["a"]));
    args.intensity.restarts = 0;
    let root = world.spawn(args).await;
    world.probe("a").kill();
    root.ended().await;
    assert!(matches!(world.failed_with(), SupervisorError::IntensityExceeded { failure, .. } if failure == "killed"));
}

#[tokio::test(start_paused = true)]
async fn crashes_that_are_far_enough_apart_are_normal_for_ever() {
    let world = World::new();
    let mut args = world.args(Strategy::OneForOne, world.children(&["a", "b"]));
    args.intensity = Intensity {
        restarts: 2,
        within: Duration::from_secs(10),
    };
    let root = world.spawn(args).await;
    for round in 0..50 {
        // Three in 12 s: never three within 10 s.
        world.tell(if round % 2 == 0 { "a" } else { "b" }, Order::Panic);
        tokio::time::sleep(Duration::from_millis(5100)).await;
    }
    assert_eq!((world.alive("a"), world.alive("b")), (1, 1));
    // The third within 10 s, of whichever child.
    for name in ["a", "b"] {
        world.tell(name, Order::Panic);
    }
    root.ended().await;
    assert!(matches!(world.failed_with(), SupervisorError::IntensityExceeded { .. }));
}

#[tokio::test(start_paused = true)]
async fn ends_that_are_not_restarted_do_not_count() {
    let world = World::new();
    let children = vec![
        world.child("t").restart(Restart::Temporary),
        world.child("n").restart(Restart::Transient),
        world.child("a"),
    ];
    let mut args = world.args(Strategy::OneForAll, children);
    args.intensity.restarts = 0;
    let root = world.spawn(args).await;
    world.tell("t", Order::Panic);
    world.tell("n", Order::End);
    settle().await;
    assert_eq!(world.alive("a"), 1);
    root.stop().await;
    assert_eq!(world.exit.get(), Some(&Ok(())));
}

fn two_levels(world: &World) -> SupervisorArgs {
    let mut inner = world.args(Strategy::OneForOne, world.children(&["b", "c"]));
    inner.path = "root/inner".into();
    inner.intensity.restarts = 1;
    let children = vec![world.child("a"), world.nested("inner", inner), world.child("d")];
    world.args(Strategy::OneForOne, children)
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_gave_up_is_restarted_by_its_own_with_a_clean_slate() {
    let world = World::new();
    let root = world.spawn(two_levels(&world)).await;
    for round in 1..=3 {
        world.tell("b", Order::Panic);
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.log();
        world.tell("b", Order::Panic);
        settle().await;
        assert_eq!(world.log(), ["stop c", "start b", "start c"]);
        let inner = world.node(&["inner"]);
        assert_eq!((inner.state, inner.restarts), (ActorState::Running, round));
        let failure = inner.last_failure.unwrap();
        assert_eq!(
            failure,
            "root/inner: more than 1 restarts in 60s, last b: told to panic"
        );
    }
    assert_eq!((world.starts("a").len(), world.starts("d").len()), (1, 1));
    assert_eq!(world.breaches(), [""; 0]);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn giving_up_goes_up_to_the_root() {
    let world = World::new();
    let mut args = two_levels(&world);
    args.intensity.restarts = 0;
    let root = world.spawn(args).await;
    world.tell("c", Order::Panic);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.log();
    world.tell("c", Order::Panic);
    root.ended().await;
    assert_eq!(world.log(), ["stop b", "stop d", "stop a"]);
    let SupervisorError::IntensityExceeded {
        supervisor,
        child,
        failure,
        ..
    } = world.failed_with()
    else {
        panic!("of another kind")
    };
    assert_eq!((supervisor.as_str(), child.as_str()), ("root", "inner"));
    assert!(
        failure.contains("root/inner: more than 1 restarts") && failure.contains("last c"),
        "{failure}"
    );
    assert_eq!(world.state(&["inner"]), ActorState::Failed);
    assert_eq!(world.state(&["inner", "c"]), ActorState::Stopped);
    assert_eq!(world.state(&[]), ActorState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_is_restarted_with_its_children_never_two_at_once() {
    let world = World::new();
    let mut args = two_levels(&world);
    args.backoff.first = Duration::ZERO;
    let root = world.spawn(args).await;
    for round in 1..=3 {
        world.tell("b", Order::Hang);
        breathe().await;
        world.log();
        world.supervisor_of("b").unwrap().kill();
        settle().await;
        assert_eq!(world.log(), ["start b", "start c"]);
        assert_eq!((world.alive("b"), world.alive("c")), (1, 1));
        assert_eq!(world.node(&["inner"]).restarts, round);
        assert_eq!(world.node(&["inner", "b"]).restarts, round);
        assert_eq!(world.node(&["inner"]).last_failure.as_deref(), Some("killed"));
    }
    assert_eq!(world.breaches(), [""; 0]);
    root.stop().await;
}

/// A former incarnation that is slow to die is waited for, at most a second.
#[test]
fn a_child_that_blocks_its_thread_is_waited_for_before_its_successor_starts() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new();
        let mut args = two_levels(&world);
        args.backoff.first = Duration::ZERO;
        let root = world.spawn(args).await;
        let (blocked, release) = std::sync::mpsc::channel();
        world.tell("b", Order::Block(release));
        world.blocked().await;
        let inner = world.supervisor_of("b").unwrap();
        inner.kill();
        inner.wait(None).await.unwrap();
        let restarted = async {
            while world.starts("b").len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        let mut restarted = std::pin::pin!(restarted);
        let early = tokio::time::timeout(Duration::from_millis(200), &mut restarted).await;
        assert!(early.is_err(), "started while the former was there");
        blocked.send(()).unwrap();
        restarted.await;
        assert_eq!(world.breaches(), [""; 0]);
        assert_eq!(world.alive("b"), 1);
        root.stop().await;
    });
}

#[tokio::test(start_paused = true)]
async fn the_tree_shows_no_running_child_below_a_dead_supervisor() {
    let world = World::new();
    let mut inner = world.args(Strategy::OneForOne, world.children(&["b", "c"]));
    inner.path = "root/inner".into();
    let children = vec![
        world.child("a"),
        world.nested("inner", inner).restart(Restart::Temporary),
    ];
    let root = world.spawn(world.args(Strategy::OneForOne, children)).await;
    world.supervisor_of("b").unwrap().kill();
    settle().await;
    assert_eq!(
        world.tree.snapshot().unwrap().to_string(),
        "root Running\n  a Running\n  inner Stopped last failure: killed\n    b Stopped\n    c Stopped\n"
    );
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_below_whose_children_do_not_start_is_tried_on() {
    let world = World::new();
    let root = world.spawn(two_levels(&world)).await;
    world.boots("c", [Boot::Fail, Boot::Panic]);
    world.supervisor_of("c").unwrap().kill();
    settle().await;
    assert_eq!(world.alive("b"), 1);
    assert_eq!(world.alive("c"), 1);
    assert_eq!(world.starts("b").len(), 4, "stopped in order after each failure");
    assert_eq!(world.state(&["inner"]), ActorState::Running);
    root.stop().await;
    assert_eq!(world.breaches(), [""; 0]);
}

/// A user's error and a user's state may panic where they are shown or dropped.
#[tokio::test(start_paused = true)]
async fn what_a_child_leaves_behind_harms_only_the_child() {
    let world = World::new();
    let root = world
        .spawn(world.args(Strategy::OneForOne, world.children(&["a", "b"])))
        .await;
    world.tell("b", Order::FailUnspeakably);
    settle().await;
    assert_eq!(
        world.node(&["b"]).last_failure.as_deref(),
        Some("an error that cannot be shown: its text panics")
    );
    world.tell("b", Order::EndBadly);
    settle().await;
    assert_eq!(world.alive("b"), 1);
    assert_eq!((world.starts("a").len(), world.starts("b").len()), (1, 3));
    root.stop().await;
    assert_eq!(world.exit.get(), Some(&Ok(())));
}

struct Stranger;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Stranger {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        panic!("a stranger's")
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_was_linked_to_the_supervisor_is_none_of_its_business() {
    let world = World::new();
    let mut args = world.args(Strategy::OneForAll, world.children(&["a"]));
    args.intensity.restarts = 0;
    let root = world.spawn(args).await;
    let (stranger, _) = Actor::spawn_linked(None, Stranger, (), root.cell.clone())
        .await
        .unwrap();
    stranger.cast(()).unwrap();
    settle().await;
    assert_eq!(stranger.get_status(), ActorStatus::Stopped);
    assert_eq!(world.starts("a").len(), 1);
    root.stop().await;
}
