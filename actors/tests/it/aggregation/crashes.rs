//! Kills and stops while sets are being aggregated.

use asynq_actors::{Crash, Exit};
use asynq_core::Task;
use asynq_testing::faulty::{Fault, Op, Plan};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::kit::*;

/// A run belongs to no actor: it goes on, and its set is aggregated once.
async fn a_run_survives(path: &str, crash: Crash) {
    let mut world = World::new([Act::Takes(5 * MINUTE)]);
    let system = world.spawn(quick()).await;
    world.add_all(&system, "g", &["a", "b"]).await;
    world.call().await;
    for _ in 0..3 {
        assert!(system.crash_actor(path, crash), "no actor at {path}");
        // An actor crashes in these ways when it handles something.
        if path == "maintenance" && crash != Crash::Kill {
            assert!(system.kill_actor("maintenance/janitor"));
        }
        pass(2 * SECOND).await;
    }
    // The next incarnation looks at the groups, too.
    world.add(&system, "g", "c").await;
    assert_eq!(world.call().await.members, names(&["c"]));
    assert_eq!(world.broken_off(), 0);
    assert_eq!(world.all_aggregated().await.sums, [names(&["a", "b"]), names(&["c"])]);
    world.no_more_calls();
    let tree = system.tree().unwrap();
    let names: Vec<_> = path.split('/').collect();
    assert_eq!(tree.find(&names).unwrap().restarts, 3, "{tree}");
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn the_aggregator_crashes() {
    for crash in [Crash::Kill, Crash::Panic, Crash::Error] {
        a_run_survives("maintenance/aggregator", crash).await;
    }
}

#[tokio::test(start_paused = true)]
async fn maintenance_crashes() {
    for crash in [Crash::Kill, Crash::Panic, Crash::Error] {
        a_run_survives("maintenance", crash).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_broker_is_killed() {
    a_run_survives("broker", Crash::Kill).await;
}

/// The storage is asked for a set, and the asker dies before the answer.
#[tokio::test(start_paused = true)]
async fn the_aggregator_is_killed_while_it_waits_for_a_set() {
    let mut world = World::new([]);
    let system = world.spawn(quick().group_max_size(1)).await;
    world.faults.next(Op::CollectGroup, Fault::Hang);
    world.add(&system, "g", "a").await;
    world.faults.hung(Op::CollectGroup, 1).await;
    assert!(system.kill_actor("maintenance/aggregator"));
    pass(SECOND / 10).await;
    world.faults.release();
    let call = world.call().await;
    assert_eq!(call.members, names(&["a"]));
    assert!(
        call.after < 2 * SECOND,
        "at once, and not when its set comes back: {call:?}"
    );
    world.all_aggregated().await;
    system.shutdown().await;
}

/// Many groups, an aggregator that sometimes fails, a storage that loses answers, and kills.
#[tokio::test(start_paused = true)]
async fn a_load_with_kills_and_lost_answers_balances() {
    const GROUPS: usize = 5;
    let acts = [
        Act::Well,
        Act::Fails,
        Act::Takes(SECOND),
        Act::Panics,
        Act::Takes(30 * SECOND),
    ];
    let mut world = World::new(acts.into_iter().cycle().take(60));
    let ops = [
        Op::ListGroups,
        Op::CollectGroup,
        Op::ExtendAggregation,
        Op::FinishAggregation,
        Op::ReclaimAggregationSets,
    ];
    let plan = Plan::seeded(8)
        .only(&ops)
        .with(60, Fault::LoseReply)
        .with(60, Fault::LoseRequest)
        .with(60, Fault::unavailable());
    world.faults.plan(plan);
    let system = world.spawn(quick().group_max_size(10)).await;
    let paths = [
        "maintenance/aggregator",
        "maintenance",
        "broker",
        "maintenance/recoverer",
        "client",
    ];
    for round in 0..60_usize {
        for number in 0..5 {
            let group = format!("g{}", (round + number) % GROUPS);
            world.add(&system, &group, &format!("{round}-{number}")).await;
        }
        pass(SECOND / 3).await;
        if round % 3 == 0 {
            system.kill_actor(paths[(round / 3) % paths.len()]);
        }
    }
    world.all_aggregated().await;
    assert!(
        world.faults.calls(Op::FinishAggregation) > 30,
        "too few to say anything"
    );
    assert!(world.most_at_once() <= 3);
    assert_eq!(system.shutdown().await, Exit::Stopped);
    world.balance().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_runs_end() {
    let mut world = World::new([Act::Takes(5 * SECOND)]);
    let system = world.spawn(quick()).await;
    world.add(&system, "g", "a").await;
    world.call().await;
    // Ready when the shutdown begins, or soon after: not begun any more.
    world.add(&system, "h", "b").await;
    let began = Instant::now();
    assert_eq!(system.shutdown().await, Exit::Stopped);
    assert!(began.elapsed() >= 4 * SECOND, "{:?}", began.elapsed());
    let books = world.balance().await;
    assert_eq!((books.sums, &books.waiting["h"]), (vec![names(&["a"])], &names(&["b"])));
    world.no_more_calls();
    assert_eq!(world.broken_off(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_breaks_off_what_does_not_end_and_the_next_server_takes_over() {
    let mut world = World::new([Act::Hangs]);
    let config = || quick().shutdown_timeout(3 * SECOND);
    let system = world.spawn(config()).await;
    world.add_all(&system, "g", &["a", "b"]).await;
    world.call().await;
    let began = Instant::now();
    assert_eq!(system.shutdown().await, Exit::Stopped);
    let took = began.elapsed();
    assert!(3 * SECOND <= took && took <= 5 * SECOND, "{took:?}");
    assert_eq!((world.broken_off(), world.under_way()), (1, 0));
    assert_eq!(world.balance().await.waiting["g"], ["a", "b"]);
    let system = world.spawn(config()).await;
    assert_eq!(world.call().await.members, names(&["a", "b"]));
    assert_eq!(world.all_aggregated().await.sums, [names(&["a", "b"])]);
    system.shutdown().await;
}

/// Calls that hang then are not waited for, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_in_time_though_no_set_can_be_handed_back() {
    for op in [Op::ReleaseAggregation, Op::ReclaimAggregationSets] {
        let mut world = World::new([Act::Hangs]);
        let config = || quick().shutdown_timeout(3 * SECOND);
        let system = world.spawn(config()).await;
        world.add(&system, "g", "a").await;
        world.call().await;
        world.faults.always(op, Fault::Hang);
        let began = Instant::now();
        assert_eq!(system.shutdown().await, Exit::Stopped);
        let took = began.elapsed();
        assert!(3 * SECOND <= took && took <= 6 * SECOND, "{op:?}: {took:?}");
        assert_eq!(world.books().await, Books::default(), "{op:?}: it is in its set");
        world.faults.clear();
        let system = world.spawn(config()).await;
        assert_eq!(world.call().await.members, names(&["a"]), "{op:?}");
        world.all_aggregated().await;
        system.shutdown().await;
    }
}

struct Parent;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Parent {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// Nobody extends the set any longer, so nothing of the run may go on.
#[tokio::test(start_paused = true)]
async fn runs_end_with_the_system_however_it_ends() {
    let mut world = World::new([Act::Hangs]);
    let (parent, _) = Actor::spawn(None, Parent, ()).await.unwrap();
    let linked = world.builder(quick()).spawn_linked(parent.get_cell());
    let system = linked.await.unwrap();
    world.add(&system, "g", "a").await;
    world.call().await;
    parent.kill();
    assert_eq!(system.wait().await, Exit::Killed);
    pass(SECOND).await;
    assert_eq!((world.broken_off(), world.under_way()), (1, 0));
    let system = world.spawn(quick()).await;
    world.call().await;
    world.all_aggregated().await;
    system.shutdown().await;
}

/// Two servers on one storage: each set is one server's.
#[tokio::test(start_paused = true)]
async fn two_servers_share_the_groups() {
    let mut world = World::new([]);
    let (first, second) = (world.spawn(quick()).await, world.spawn(quick()).await);
    for round in 0..20_usize {
        for group in ["g", "h"] {
            world.add(&first, group, &format!("{group}{round}")).await;
        }
        pass(SECOND).await;
    }
    // Not grouped: run by nobody here, and none of the aggregator's business.
    second.client().enqueue(Task::new("plain", b"").unwrap()).await.unwrap();
    world.all_aggregated().await;
    first.shutdown().await;
    second.shutdown().await;
    world.balance().await;
}
