//! Several servers in processes of their own, one of which dies by SIGKILL in the midst of its work.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use asynq::TaskState;
use asynq_interop::{GoEvent, GoQueueInfo, GoRun, GoTask, PATIENCE, ServerProcess};

use crate::{
    pair::Pair,
    recovery::EXPIRED,
    sides::{Producer, Side, process},
};

const HOUR_MS: i64 = 3_600_000;

/// A task that shows what became of it: kept after success, and with a lock that a second owner would miss.
fn task(id: &str, orders: &str) -> GoTask {
    GoTask::new(id)
        .payload(orders)
        .id(id)
        .header("of", id)
        .unique_ms(HOUR_MS)
        .retention_ms(HOUR_MS)
}

/// The runs whose start was told, by id.
///
/// # Panics
/// If one started twice.
fn starts(told: &[GoEvent]) -> BTreeMap<String, GoRun> {
    runs(told.iter().filter_map(GoEvent::start))
}

/// The runs whose end was told, by id.
///
/// # Panics
/// If one ended twice.
fn ends(told: &[GoEvent]) -> BTreeMap<String, GoRun> {
    runs(told.iter().filter_map(GoEvent::end))
}

fn runs<'e>(told: impl Iterator<Item = &'e GoRun>) -> BTreeMap<String, GoRun> {
    let mut runs = BTreeMap::new();
    for run in told {
        if let Some(before) = runs.insert(run.id.clone(), run.clone()) {
            panic!("{} was run twice: {before:?} and {run:?}", run.id);
        }
    }
    runs
}

fn ids<'r>(runs: impl IntoIterator<Item = &'r String>) -> BTreeSet<&'r str> {
    runs.into_iter().map(String::as_str).collect()
}

/// Nothing is active, leased or locked, and nothing contradicts itself.
async fn assert_at_rest(pair: &Pair) {
    let raw = pair.raw().await;
    let unsettled = |key: &&String| key.ends_with("}:active") || key.ends_with("}:lease") || key.contains("}:unique:");
    let left: Vec<_> = raw.keys().filter(unsettled).collect();
    assert_eq!(left, [""; 0]);
    assert_eq!(pair.breaches().await, []);
    asynq_testing::invariants::assert_hold(&raw);
}

/// Three servers of ours are busy, and one is killed. What it ran is run again by the others when its leases
/// are over, and not before; all other tasks are run once; each succeeds once. The runs were so short that they
/// may not have been started, so none of it counts as a failure.
#[tokio::test]
async fn a_killed_server_costs_its_tasks_a_second_run_and_the_others_nothing() {
    const TASKS: usize = 400;
    let mut pair = Pair::start().await;
    let server = process(Side::Rust, &pair.redis)
        .concurrency(4)
        .retry_delay(Duration::ZERO)
        .recoverer_interval(Duration::from_millis(500))
        .recover_grace(Duration::ZERO);
    let (mut doomed, one, other) = tokio::join!(server.clone().start(), server.clone().start(), server.start());
    let mut client = Producer::start(Side::Rust, &pair.redis).await;
    let all: BTreeSet<_> = (0..TASKS).map(|n| format!("{n:03}")).collect();
    for (n, id) in all.iter().enumerate() {
        let orders = format!(r#"{{"do":"sleep","ms":{}}}"#, 20 + 180 * n / TASKS);
        client.enqueue(&task(id, &orders)).await;
    }
    for _ in 0..20 {
        let started = |event: &GoEvent| event.start().map(drop);
        doomed.expect("some work", PATIENCE, started).await;
    }
    let told = doomed.kill().await;
    let (begun, finished) = (starts(&told), ends(&told));
    let cut_off: BTreeSet<_> = &ids(begun.keys()) - &ids(finished.keys());
    assert!(!cut_off.is_empty(), "it was killed while it ran nothing");

    pair.until_queue("default", "all done", |info| info.completed == TASKS as u64)
        .await;
    let told = [one.shutdown().await, other.shutdown().await].concat();
    // No task twice, whoever of the two ran it.
    let by_survivors = starts(&told);
    assert_eq!(ids(by_survivors.keys()), ids(ends(&told).keys()));

    let done = pair.list("default", TaskState::Completed).await;
    assert_eq!(done.iter().map(|info| info.id.clone()).collect::<BTreeSet<_>>(), all);
    let mut failed = 0;
    for info in &done {
        match (info.retried, info.last_err.as_str()) {
            (0, "") => {}
            // Its lease was extended just before its owner was killed.
            (1, EXPIRED) => failed += 1,
            _ => panic!("neither run in one go nor recovered: {info:?}"),
        }
    }
    let recovered = &ids(begun.keys()) & &ids(by_survivors.keys());
    assert!(cut_off.is_subset(&recovered), "{cut_off:?} of {recovered:?}");
    // The others ran what was recovered, and what the dead server had never begun.
    let once = &ids(&all) - &ids(begun.keys());
    assert_eq!(ids(by_survivors.keys()), &once | &recovered);
    for (id, again) in &by_survivors {
        if let Some(first) = begun.get(id) {
            let apart = Duration::from_nanos(again.at_unix_nanos.abs_diff(first.at_unix_nanos));
            // A lease of 30 s, but for the time between the take and the start, and for whole seconds.
            assert!(
                apart > Duration::from_secs(25),
                "{id} was taken from a lease, {apart:?} after its start"
            );
        }
    }
    assert_eq!(
        pair.counted("default").await,
        (TASKS as u64 + failed, failed),
        "each task succeeded once"
    );
    assert_at_rest(&pair).await;
}

/// A server of ours stands still for longer than its leases last, under load, beside another of ours and one of
/// Go's. The tasks have no retry, so a failure that was counted archives them: only what it had begun may be.
#[tokio::test]
async fn a_server_that_stood_still_costs_no_task_its_run() {
    const TASKS: usize = 400;
    const PAUSE: Duration = Duration::from_secs(32);
    let mut pair = Pair::start().await;
    let ours = process(Side::Rust, &pair.redis)
        .recoverer_interval(Duration::from_millis(500))
        .recover_grace(Duration::ZERO);
    let go = process(Side::Go, &pair.redis).concurrency(2);
    let (paused, other) = (ours.clone().concurrency(8), ours.concurrency(2));
    let (paused, other, go) = tokio::join!(paused.start(), other.start(), go.start());
    let mut client = Producer::start(Side::Rust, &pair.redis).await;
    let all: BTreeSet<_> = (0..TASKS).map(|n| format!("{n:03}")).collect();
    for id in &all {
        client.enqueue(&task(id, r#"{"do":"sleep","ms":5}"#).max_retry(0)).await;
        if id == "199" {
            paused.pause();
        }
    }
    tokio::time::sleep(PAUSE).await;
    let settled = |info: &GoQueueInfo| info.completed + info.archived == TASKS as u64;
    pair.until_queue("default", "all settled", settled).await;
    paused.resume();
    // It hears that its late words are refused, and serves on.
    client.enqueue(&task("after", r#"{"do":"sleep","ms":5}"#)).await;
    pair.until_queue("default", "the last", |info| {
        info.completed + info.archived > TASKS as u64
    })
    .await;
    let told = paused.terminate().await;
    let begun: BTreeSet<_> = told
        .iter()
        .filter_map(GoEvent::start)
        .map(|run| run.id.clone())
        .collect();
    for info in pair.list("default", TaskState::Archived).await {
        assert!(begun.contains(&info.id), "archived without a run: {info:?}");
    }
    for server in [other, go] {
        server.shutdown().await;
    }
    assert_at_rest(&pair).await;
}

#[tokio::test]
async fn go_takes_over_from_a_killed_worker_of_ours() {
    taken_over_from(Side::Rust).await;
}

#[tokio::test]
async fn we_take_over_from_a_killed_go_server() {
    taken_over_from(Side::Go).await;
}

/// Servers of both sides run tasks of the same queues, and that of `dead` is killed. The other side recovers
/// what it ran, and nothing else. Time is helped along: the dead server's leases are made old ones.
async fn taken_over_from(dead: Side) {
    const QUEUES: [&str; 2] = ["default", "low"];
    let mut pair = Pair::start().await;
    let redis = &pair.redis;
    let start = async |side, slots| -> ServerProcess {
        let server = process(side, redis).queues(QUEUES.map(|queue| (queue, 1)));
        let server = server.concurrency(slots).retry_delay(Duration::ZERO);
        let server = server.delayed_task_check_interval(Duration::from_millis(100));
        let server = server.task_check_interval(Duration::from_millis(50));
        match side {
            Side::Go => server.start().await,
            Side::Rust => server.recoverer_interval(Duration::from_millis(500)).start().await,
        }
    };
    let mut clients = [
        Producer::start(Side::Go, redis).await,
        Producer::start(Side::Rust, redis).await,
    ];
    // By the index: two tasks of each client in each queue.
    let queue_of = |n: usize| QUEUES[n / 2 % 2];
    let mut enqueue = async |kind: &str, count: usize, orders: &str| {
        for n in 0..count {
            let task = task(&format!("{kind} {n}"), orders).queue(queue_of(n));
            clients[n % 2].enqueue(&task).await;
        }
    };

    // All slots of the one are taken before the other is there, so that it is known who runs what. The first
    // run of a doomed task would outlast the test; the second one is short.
    const DOOMED: usize = 4;
    let mut doomed = start(dead, DOOMED).await;
    enqueue("doomed", DOOMED, r#"{"do":"sleep","ms":600000,"n":1}"#).await;
    for n in 0..DOOMED {
        doomed.started(&format!("doomed {n}")).await;
    }
    const LONG: usize = 4;
    let mut survivor = start(dead.other(), LONG + 2).await;
    enqueue("long", LONG, r#"{"do":"sleep","ms":4000}"#).await;
    for n in 0..LONG {
        survivor.started(&format!("long {n}")).await;
    }
    const SHORT: usize = 40;
    enqueue("short", SHORT, r#"{"do":"sleep","ms":20}"#).await;

    assert_eq!(ends(&doomed.kill().await).len(), 0);
    for n in 0..DOOMED {
        pair.let_lease_expire(queue_of(n), &format!("doomed {n}")).await;
    }
    // Go looks for the dead when it starts, and then each minute only.
    let finder = match dead {
        Side::Go => None,
        Side::Rust => Some(start(Side::Go, 2).await),
    };

    let all = DOOMED + LONG + SHORT;
    for queue in QUEUES {
        let half = all as u64 / 2;
        pair.until_queue(queue, "all done", |info| info.completed == half).await;
    }
    let mut told = survivor.shutdown().await;
    if let Some(finder) = finder {
        told.extend(finder.shutdown().await);
    }
    assert_eq!((starts(&told).len(), ends(&told).len()), (all, all));
    for queue in QUEUES {
        for info in pair.list(queue, TaskState::Completed).await {
            let expected = if info.id.starts_with("doomed") {
                (1, EXPIRED)
            } else {
                (0, "")
            };
            assert_eq!((info.retried, info.last_err.as_str()), expected, "{info:?}");
            assert_eq!(info.headers["of"], info.id);
        }
        let (tasks, recovered) = (all as u64 / 2, DOOMED as u64 / 2);
        assert_eq!(pair.counted(queue).await, (tasks + recovered, recovered));
    }
    assert_at_rest(&pair).await;
}

/// An orderly end needs no lease to run out: what runs may end, what does not is given back as it was.
#[tokio::test]
async fn a_terminated_worker_of_ours_leaves_nothing_behind() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    let server = process(Side::Rust, &pair.redis).concurrency(2);
    let mut server = server.shutdown_timeout(Duration::from_secs(3)).start().await;
    for (id, ms) in [("ends", 1500), ("does not end", 600_000), ("waits", 1)] {
        let orders = format!(r#"{{"do":"sleep","ms":{ms}}}"#);
        client
            .enqueue(&GoTask::new("t").payload(orders).id(id).retention_ms(HOUR_MS))
            .await;
    }
    for id in ["ends", "does not end"] {
        server.started(id).await;
    }
    let told = server.terminate().await;
    assert_eq!(ids(starts(&told).keys()), BTreeSet::from(["ends", "does not end"]));
    assert_eq!(ids(ends(&told).keys()), BTreeSet::from(["ends"]));
    assert_eq!(pair.look("default", "ends").await.unwrap().state, "completed");
    for id in ["does not end", "waits"] {
        let info = pair.look("default", id).await.unwrap();
        let shown = (info.state.as_str(), info.retried, info.last_err.as_str());
        assert_eq!(shown, ("pending", 0, ""), "{id}");
    }
    assert_eq!(pair.go.servers().await, []);
    assert_at_rest(&pair).await;
}
