//! Under maxmemory each script does what rules.md#settle-under-oom says: what ends or moves tasks works, what
//! adds data is refused whole.

use std::{collections::BTreeSet, time::Duration};

use asynq_core::{
    Act, BrokerError, Cancelled, EnqueueError, SettleError, TaskState, Then,
    broker::{EndedRun, GroupLimits, Outcome, RECOVER_GRACE, Recovery, Settlement, Ticked, WatchKind},
    doctor::{Repair, RepairMode},
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, ServerStatus},
    inspect::{Cursor, ListFilter, PageRequest, ScanLimits, ScanPlace, TaskMark},
    statistics::{Bucket, RunEnd, Span, StatisticsPart, Step, TimeRange},
    trail::TrailEntry,
    tree::{ActorState, ServerIdentity, TreeNode},
};
use asynq_testing::request::{batch_of, group, id, queue, request};
use bytes::Bytes;

use crate::support::{Bench, DONE, archive, ids, key, q, retry, settlement, tick};

/// Each script, and by which test it is pinned.
const PINNED: &[(&str, &str)] = &[
    ("enqueue", "an_enqueue_is_refused_whole"),
    ("enqueue_tick", "a_tick_is_refused_whole_and_stays_open"),
    ("write_result", "an_enqueue_is_refused_whole"),
    ("write_statistics", "statistics_are_refused_whole"),
    ("exchange", "outcomes_are_written_and_tasks_taken"),
    ("quarantine", "outcomes_are_written_and_tasks_taken"),
    ("adopt", "leases_are_kept"),
    ("extend_leases", "leases_are_kept"),
    ("expired", "the_dead_are_recovered"),
    ("recover", "the_dead_are_recovered"),
    ("heal", "stores_heal"),
    ("heal_keys", "stores_heal"),
    ("drop_dangling", "stores_heal"),
    ("claim_heal", "stores_heal"),
    ("search_groups", "what_stands_nowhere_is_put_back"),
    ("search_list", "what_stands_nowhere_is_put_back"),
    ("relist", "what_stands_nowhere_is_put_back"),
    ("forward", "maintenance_goes_on"),
    ("delete_expired", "maintenance_goes_on"),
    ("run_task", "what_waits_is_run"),
    ("archive_task", "what_waits_is_archived_and_deleted"),
    ("delete_task", "what_waits_is_archived_and_deleted"),
    ("update_payload", "an_enqueue_is_refused_whole"),
    ("reschedule", "what_waits_is_archived_and_deleted"),
    ("act_on_some", "what_waits_is_archived_and_deleted"),
    ("act_on_these", "what_waits_is_archived_and_deleted"),
    ("delete_queue", "what_waits_is_archived_and_deleted"),
    ("cancel", "what_runs_is_cancelled"),
    ("groups", "groups_are_aggregated"),
    ("collect_group", "groups_are_aggregated"),
    ("read_set", "groups_are_aggregated"),
    ("end_set", "groups_are_aggregated"),
    ("finish_aggregation", "groups_are_aggregated"),
    ("forget_finished", "groups_are_aggregated"),
    ("reclaim_sets", "groups_are_aggregated"),
    ("announce", "servers_and_schedulers_are_seen"),
    ("write_server", "servers_and_schedulers_are_seen"),
    ("write_tree", "servers_and_schedulers_are_seen"),
    ("write_entries", "servers_and_schedulers_are_seen"),
    ("record_event", "servers_and_schedulers_are_seen"),
    ("record_act", "servers_and_schedulers_are_seen"),
    ("probe_pending", "reads_work"),
    ("probe_delayed", "reads_work"),
    ("queue_facts", "reads_work"),
    ("queue_info", "reads_work"),
    ("memory_usage", "reads_work"),
    ("list_tasks", "reads_work"),
    ("scan_tasks", "reads_work"),
    ("task_info", "reads_work"),
    ("task_state", "reads_work"),
    ("audit_container", "reads_work"),
    ("audit_places", "reads_work"),
    ("audit_leases", "reads_work"),
    ("audit_groups", "reads_work"),
    ("audit_keys", "reads_work"),
    ("repair_tasks", "breaches_are_repaired"),
    ("repair_keys", "breaches_are_repaired"),
];

#[test]
fn each_script_is_pinned() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
    let files: BTreeSet<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        PINNED
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect::<BTreeSet<_>>(),
        files
    );
    let source = include_str!("oom.rs");
    for (name, test) in PINNED {
        assert!(
            source.contains(&format!("async fn {test}()")),
            "{name} is pinned by {test}, which is not here"
        );
    }
}

/// From here on the server has no memory left.
async fn fill(bench: &mut Bench) {
    bench.raw(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = bench.client.cmd(&["SET", "other", "x"]).await;
    assert!(
        refused.error().is_some_and(|text| text.starts_with("OOM")),
        "{refused:?}"
    );
}

async fn keys_of(bench: &mut Bench) -> Vec<Bytes> {
    bench.client.keys().await
}

#[tokio::test]
async fn an_enqueue_is_refused_whole() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    let task = bench.take(1).await.remove(0);
    let later = bench.after(60);
    bench.enqueue(vec![request("q", "later").at(later)]).await;
    fill(&mut bench).await;
    let before = keys_of(&mut bench).await;
    let batch = vec![
        request("q", "p").build(),
        request("q", "s").at(bench.after(60)).build(),
        request("q", "g").group("g").build(),
        request("q", "u").unique(Duration::from_secs(60)).build(),
        request("other", "p").build(),
    ];
    for answer in bench.storage.enqueue(&batch_of(batch)).await {
        assert!(
            matches!(answer, Err(EnqueueError::Broker(BrokerError::OutOfMemory))),
            "{answer:?}"
        );
    }
    let answer = bench.storage.write_result(&task.lease, "r".into()).await;
    assert!(
        matches!(answer, Err(SettleError::Broker(BrokerError::OutOfMemory))),
        "{answer:?}"
    );
    let answer = bench
        .storage
        .update_task_payload(&q(), &id("later"), "new".into())
        .await;
    assert!(matches!(answer, Err(BrokerError::OutOfMemory)), "{answer:?}");
    assert_eq!(keys_of(&mut bench).await, before);
    assert_eq!(bench.raw_int(&["HEXISTS", &key("t:a"), "result"]).await, 0);
}

#[tokio::test]
async fn a_tick_is_refused_whole_and_stays_open() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    let first = tick(&bench, 0);
    let decided = bench
        .storage
        .enqueue_tick(request("q", "first").build(), &first)
        .await
        .unwrap();
    assert!(matches!(decided, Ticked::Enqueued(_)), "{decided:?}");
    fill(&mut bench).await;
    let before = keys_of(&mut bench).await;
    let next = tick(&bench, 1);
    for new in [
        request("q", "p"),
        request("q", "s").at(bench.after(60)),
        request("q", "g").group("g"),
        request("q", "u").unique(Duration::from_secs(60)),
        // A conflict writes the mark alone.
        request("q", "a"),
    ] {
        let answer = bench.storage.enqueue_tick(new.build(), &next).await;
        assert!(
            matches!(answer, Err(EnqueueError::Broker(BrokerError::OutOfMemory))),
            "{answer:?}"
        );
    }
    assert_eq!(keys_of(&mut bench).await, before);
    let last = bench.storage.last_ticks(&[(q(), next.entry.clone())]).await.remove(0);
    assert_eq!(last.unwrap().unwrap().instant(), first.at);
    // What was decided is still told.
    let taken = bench
        .storage
        .enqueue_tick(request("q", "b").build(), &first)
        .await
        .unwrap();
    assert_eq!(taken, Ticked::Taken { last: first.at });
    bench.raw(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let open = bench
        .storage
        .enqueue_tick(request("q", "p").build(), &next)
        .await
        .unwrap();
    assert!(matches!(open, Ticked::Enqueued(_)), "{open:?}");
}

#[tokio::test]
async fn outcomes_are_written_and_tasks_taken() {
    let mut bench = Bench::start().await;
    let names = ["done", "completed", "retry", "archived", "requeued"];
    bench
        .enqueue(
            names
                .iter()
                .map(|id| {
                    request("q", id)
                        .retention(60)
                        .unique(Duration::from_secs(9))
                        .payload(*id)
                })
                .collect(),
        )
        .await;
    let tasks = bench.take(5).await;
    bench.enqueue_ids(&["bad", "bare", "next"]).await;
    bench.raw(&["HSET", &key("t:bad"), "msg", "garbage"]).await;
    bench.raw(&["HDEL", &key("t:bare"), "msg"]).await;
    fill(&mut bench).await;
    let outcomes = [
        Outcome::Done { retain: false },
        DONE,
        retry(bench.after(60)),
        archive(),
        Outcome::Requeue,
    ];
    for (task, outcome) in tasks.iter().zip(outcomes) {
        let run = EndedRun {
            started: Some(bench.after(0)),
            ended: Some(bench.after(0)),
            server: None,
        };
        let settlement = Settlement {
            run: outcome.keeps(&task.message).then(|| Box::new(run)),
            ..settlement(task, outcome)
        };
        bench.exchange(vec![settlement], 0).await.settled.remove(0).unwrap();
    }
    for id in &names[1..] {
        let recorded = bench.raw_int(&["HEXISTS", &key(&format!("t:{id}")), "x:runs"]).await;
        assert_eq!(recorded, 1, "{id}");
    }
    let answer = bench.exchange(Vec::new(), 5).await;
    assert_eq!(ids(&answer.leased), ["requeued", "next"]);
    assert_eq!(answer.poisoned.len(), 2);
    assert_eq!(bench.raw_int(&["ZCARD", &key("x:quarantine")]).await, 2);
    // A take without outcomes begins with a write that frees as well, and one of outcomes and takes too.
    bench.settle(&answer.leased[0], Outcome::Requeue).await.unwrap();
    let last = bench.exchange(vec![settlement(&answer.leased[1], DONE)], 1).await;
    assert!(last.settled[0].is_ok());
    assert_eq!(ids(&last.leased), ["requeued"]);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn outcomes_leave_the_active_list_wherever_they_stand() {
    // Others are pushed back when they stand between, and are walked over when they are many.
    for every in [2, 20] {
        let mut bench = Bench::start().await;
        let names: Vec<String> = (0..10 * every).map(|n| format!("id{n}")).collect();
        bench
            .enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
        let tasks = bench.take(u32::try_from(names.len()).unwrap()).await;
        fill(&mut bench).await;
        let ended = tasks.iter().step_by(every).map(|task| settlement(task, DONE)).collect();
        let settled = bench.exchange(ended, 0).await.settled;
        assert_eq!(settled.len(), 10);
        assert!(settled.iter().all(Result::is_ok), "{settled:?}");
        let others = (0..names.len())
            .rev()
            .filter(|n| n % every != 0)
            .map(|n| names[n].clone());
        assert_eq!(bench.list("active").await, others.collect::<Vec<_>>());
        assert_eq!(bench.audit(&q()).await, []);
    }
}

#[tokio::test]
async fn leases_are_kept() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a", "b"]).await;
    let call = bench.storage.begin();
    let want = vec![asynq_core::broker::Want { queue: q(), max: 2 }];
    let taken = bench.storage.exchange(&call, &[], &want).await.leased;
    fill(&mut bench).await;
    bench.advance(5);
    let until = bench
        .storage
        .extend_leases(vec![taken[0].lease.clone()])
        .await
        .remove(0)
        .unwrap();
    assert_eq!(until.0, bench.secs() + 30);
    // The first one was extended, so it is in the table of its owner; the other was lost.
    assert_eq!(ids(&bench.storage.adopt(&q(), &call).await.unwrap()), ["b"]);
}

#[tokio::test]
async fn the_dead_are_recovered() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a", "b", "c", "bare", "gone"]).await;
    bench.take(5).await;
    bench.raw(&["HDEL", &key("t:bare"), "msg"]).await;
    bench.raw(&["DEL", &key("t:gone")]).await;
    bench.advance(60);
    fill(&mut bench).await;
    let expired = bench.storage.expired(&q(), RECOVER_GRACE, 10).await.unwrap();
    assert_eq!(
        (expired.tasks.len(), expired.poisoned.len(), expired.more),
        (3, 2, false)
    );
    let outcomes = [retry(bench.after(60)), archive(), Outcome::Requeue];
    let batch = expired
        .tasks
        .into_iter()
        .zip(outcomes)
        .map(|(task, outcome)| Recovery { task, outcome })
        .collect();
    for answer in bench.storage.recover(batch).await {
        answer.unwrap();
    }
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn stores_heal() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a", "b", "c", "d"]).await;
    bench.take(2).await;
    bench.enqueue(vec![request("q", "g").group("g")]).await;
    bench
        .raw(&["DEL", &key("lease"), &key("pending"), &key("groups")])
        .await;
    bench.raw(&["ZADD", &key("lease"), "7", "stranger"]).await;
    bench.raw(&["ZADD", &key("archived"), "7", "gone"]).await;
    bench.raw(&["SET", &key("unique:t:"), "nobody"]).await;
    bench.raw(&["HDEL", &key("t:d"), "msg"]).await;
    fill(&mut bench).await;
    assert!(bench.storage.claim_heal(&q(), Duration::from_secs(60)).await.unwrap());
    let healed = bench.storage.heal(&q(), 1000).await.unwrap();
    assert_eq!(
        (healed.leased.len(), healed.stale_leases.len(), healed.relisted.len()),
        (2, 1, 1),
        "{healed:?}"
    );
    assert_eq!(
        (healed.regrouped.len(), healed.unlocked.len(), healed.poisoned.len()),
        (1, 1, 2),
        "{healed:?}"
    );
    assert_eq!(bench.audit(&q()).await, []);
}

/// Each repair by itself: what comes first in a script must be a write that frees.
#[tokio::test]
async fn what_stands_nowhere_is_put_back() {
    let set = key("g:g:0f0f0f0f-aaaa-4bbb-8ccc-0123456789ab");
    let (a, active, retry, group) = (key("t:a"), key("active"), key("retry"), key("g:g"));
    let all = [key("pending"), key("scheduled")];
    let becomes = |state: &str| vec![vec!["HSET".to_owned(), a.clone(), "state".into(), state.into()]];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let cases = [
        becomes("pending"),
        becomes("active"),
        becomes("retry"),
        becomes("archived"),
        vec![words(&["HSET", &a, "state", "aggregating", "group", "g"])],
        becomes("unknown"),
        vec![words(&["HDEL", &a, "msg"])],
        // In `active` alone, and there besides another place.
        vec![words(&["LPUSH", &active, "a"])],
        vec![
            words(&["LPUSH", &active, "a"]),
            words(&["HSET", &a, "state", "retry"]),
            words(&["ZADD", &retry, "7", "a"]),
        ],
        // A forgotten group, and a forgotten set.
        vec![
            words(&["HSET", &a, "state", "aggregating", "group", "g"]),
            words(&["ZADD", &group, "7", "a"]),
        ],
        vec![
            words(&["HSET", &a, "state", "aggregating", "group", "g"]),
            words(&["ZADD", &set, "7", "a"]),
        ],
    ];
    for case in cases {
        let mut bench = Bench::start().await;
        bench.enqueue(vec![request("q", "a").at(bench.after(60))]).await;
        bench.raw(&["DEL", &all[0], &all[1]]).await;
        for command in &case {
            bench.raw(&command.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        fill(&mut bench).await;
        assert!(!bench.storage.heal(&q(), 1000).await.unwrap().is_empty(), "{case:?}");
        assert_eq!(
            bench
                .audit(&q())
                .await
                .iter()
                .filter(|breach| !matches!(breach, asynq_core::inspect::Breach::PendingSince { .. }))
                .count(),
            0,
            "{case:?}"
        );
    }
}

#[tokio::test]
async fn maintenance_goes_on() {
    let mut bench = Bench::start().await;
    bench.enqueue(vec![request("q", "kept").retention(10)]).await;
    let task = bench.take(1).await.remove(0);
    bench.settle(&task, DONE).await.unwrap();
    bench
        .enqueue(vec![
            request("q", "s").at(bench.after(5)),
            request("q", "g").at(bench.after(5)),
        ])
        .await;
    bench.raw(&["HSET", &key("t:g"), "group", "g"]).await;
    bench.advance(20);
    fill(&mut bench).await;
    assert_eq!(bench.storage.forward(&q(), 10).await.unwrap().moved, 2);
    assert_eq!(bench.storage.delete_expired(&q(), 10).await.unwrap(), 1);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn what_waits_is_run() {
    let mut bench = Bench::start().await;
    bench
        .enqueue(vec![
            request("q", "s").at(bench.after(60)),
            request("q", "g").group("g"),
        ])
        .await;
    fill(&mut bench).await;
    for name in ["s", "g"] {
        bench.storage.run_task(&q(), &id(name)).await.unwrap();
    }
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 2);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn what_waits_is_archived_and_deleted() {
    let mut bench = Bench::start().await;
    let new = |of: &str| {
        vec![
            request("q", &format!("p{of}")),
            request("q", &format!("s{of}")).at(bench.after(60)),
            request("q", &format!("g{of}"))
                .group("g")
                .payload(of.to_owned())
                .unique(Duration::from_secs(600)),
        ]
    };
    let (first, second) = (new("1"), new("2"));
    bench.enqueue(first).await;
    bench.enqueue(second).await;
    bench
        .enqueue((0..600).map(|n| request("q", &format!("x{n}"))).collect())
        .await;
    fill(&mut bench).await;
    bench
        .storage
        .reschedule_task(&q(), &id("s1"), bench.after(30))
        .await
        .unwrap();
    for name in ["p1", "s1", "g1"] {
        bench.storage.archive_task(&q(), &id(name)).await.unwrap();
    }
    for name in ["p2", "s2", "g2", "p1"] {
        bench.storage.delete_task(&q(), &id(name)).await.unwrap();
    }
    bench.raw(&["DEL", &key("t:x1")]).await;
    bench.storage.delete_task(&q(), &id("x1")).await.unwrap();
    assert_eq!(bench.raw_int(&["ZCARD", &key("archived")]).await, 2);
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 599);
    assert_eq!(bench.audit(&q()).await, []);
    // Every second of some tasks in the middle of the list, and then these.
    let pending = ListFilter::State(TaskState::Pending);
    let scan = async |filter: &ListFilter, place: Option<&ScanPlace>| {
        let limits = ScanLimits::default();
        bench.storage.scan_tasks(&q(), filter, place, limits).await.unwrap()
    };
    let first = scan(&pending, None).await;
    let middle = scan(&pending, first.next.as_ref()).await;
    let marks: Vec<_> = middle.tasks.into_iter().step_by(2).map(|task| task.mark).collect();
    let archived = ListFilter::State(TaskState::Archived);
    let act = async |filter: &ListFilter, act, marks: &[TaskMark]| {
        let acted = bench.storage.act_on_these(&q(), filter, act, marks).await.unwrap();
        acted.done
    };
    assert_eq!(act(&pending, Act::Archive, &marks).await, 100);
    let last = scan(&archived, None).await;
    let marks: Vec<_> = last.tasks.into_iter().rev().take(100).map(|task| task.mark).collect();
    assert_eq!(act(&archived, Act::Run, &marks[..50]).await, 50);
    assert_eq!(act(&archived, Act::Delete, &marks[50..]).await, 50);
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 549);
    assert_eq!(bench.audit(&q()).await, []);
    for (act, from) in [
        (Act::Archive, TaskState::Pending),
        (Act::Run, TaskState::Archived),
        (Act::Delete, TaskState::Scheduled),
    ] {
        let filter = ListFilter::State(from);
        bench.storage.act_on_all(&q(), &filter, act).await.unwrap();
    }
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 551);
    assert_eq!(bench.audit(&q()).await, []);
    // In several parts, with a pause meanwhile.
    bench.storage.delete_queue(&q(), true).await.unwrap();
    assert_eq!(keys_of(&mut bench).await, [""; 0]);
}

#[tokio::test]
async fn what_runs_is_cancelled() {
    let mut bench = Bench::start().await;
    bench.enqueue(vec![request("q", "a"), request("q", "b")]).await;
    let taken = bench.take(2).await;
    fill(&mut bench).await;
    for (task, then) in taken.iter().zip([Then::Archive, Then::Delete]) {
        let cancelled = bench.storage.cancel_task(&q(), &task.lease.id, then).await.unwrap();
        assert_eq!(cancelled, Cancelled::Kept);
        bench.settle(task, Outcome::Requeue).await.unwrap();
    }
    assert_eq!(bench.raw_int(&["ZCARD", &key("archived")]).await, 1);
    assert_eq!(bench.raw_int(&["EXISTS", &key("t:b")]).await, 0);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn groups_are_aggregated() {
    let mut bench = Bench::start().await;
    let names = ["a", "b", "c", "d", "bare", "e"];
    bench
        .enqueue(names.iter().map(|id| request("q", id).group("g")).collect())
        .await;
    bench.raw(&["HDEL", &key("t:bare"), "msg"]).await;
    fill(&mut bench).await;
    assert_eq!(bench.storage.list_groups(&q()).await.unwrap(), [group("g")]);
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: Some(4),
    };
    let first = bench
        .storage
        .collect_group(&q(), &group("g"), limits)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.tasks.len(), 3, "one of four is damaged");
    let second = bench
        .storage
        .collect_group(&q(), &group("g"), limits)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(second.tasks.len(), 2);
    bench.advance(1);
    bench.storage.extend_aggregation(&first).await.unwrap();
    let sizes = bench.storage.group_infos(&q()).await.unwrap();
    assert_eq!((sizes.len(), sizes[0].in_sets), (1, 5));
    let minute = Duration::from_secs(60);
    bench.storage.release_aggregation(&second, minute).await.unwrap();
    bench
        .storage
        .finish_aggregation(&first, request("q", "all").build())
        .await
        .unwrap();
    bench.advance(61);
    assert_eq!(bench.storage.reclaim_aggregation_sets(&q()).await.unwrap(), 1);
    assert_eq!(bench.storage.list_groups(&q()).await.unwrap(), [group("g")]);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn servers_and_schedulers_are_seen() {
    let mut bench = Bench::start().await;
    fill(&mut bench).await;
    let now = bench.clock.now();
    let server = ServerInfo {
        host: "h".into(),
        pid: 7,
        server_id: "s".into(),
        concurrency: 1,
        queues: [("q".to_owned(), 1)].into(),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: now,
        active_worker_count: 0,
    };
    let ttl = Duration::from_secs(10);
    bench.storage.write_server_state(&server, &[], ttl).await.unwrap();
    let identity = ServerIdentity::from(&server);
    assert_eq!(bench.storage.servers().await.unwrap(), [server]);
    let tree = TreeNode::new("system", ActorState::Running, now);
    for _ in 0..2 {
        bench.storage.write_tree(&identity, &tree, ttl).await.unwrap();
        assert_eq!(bench.storage.trees().await.unwrap()[0].tree, tree);
    }
    let entry = SchedulerEntry {
        id: "e".into(),
        spec: "@every 1m".into(),
        task_type: "t".into(),
        payload: Bytes::new(),
        options: Vec::new(),
        next: Some(now),
        prev: None,
    };
    bench.storage.write_scheduler_entries("s", &[entry], ttl).await.unwrap();
    assert_eq!(bench.raw_int(&["LLEN", "asynq:schedulers:{s}"]).await, 1);
    let event = SchedulerEnqueueEvent {
        task_id: id("a"),
        enqueued_at: now,
    };
    bench.storage.record_enqueue_event("e", &event).await.unwrap();
    assert_eq!(bench.raw_int(&["ZCARD", "asynq:scheduler_history:e"]).await, 1);
    let act = TrailEntry::new("delete_task", now, "h", 7);
    bench.storage.record_act(&act).await.unwrap();
    assert_eq!(bench.storage.trail(Cursor::default(), 5).await.unwrap().items, [act]);
}

#[tokio::test]
async fn statistics_are_refused_whole() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    let now = bench.after(0);
    let server = ServerIdentity {
        host: "h".into(),
        pid: 7,
        server_id: "s".into(),
    };
    let mut bucket = Bucket::new();
    bucket.ended("t", RunEnd::Done, Duration::from_secs(1));
    let parts = [Span::Minute(now), Span::Hour(now)].map(|span| StatisticsPart {
        span,
        bucket: bucket.clone(),
    });
    fill(&mut bench).await;
    let before = keys_of(&mut bench).await;
    let refused = bench.storage.write_statistics(&q(), &server, &parts).await;
    assert!(matches!(refused, Err(BrokerError::OutOfMemory)), "{refused:?}");
    assert_eq!(keys_of(&mut bench).await, before);
    let range = TimeRange::last(60, Step::Minute, now).unwrap();
    assert!(bench.storage.statistics(&q(), &range).await.unwrap().points.is_empty());
    // Nothing is lost: the same call works once there is room.
    bench.raw(&["CONFIG", "SET", "maxmemory", "0"]).await;
    bench.storage.write_statistics(&q(), &server, &parts).await.unwrap();
    let found = bench.storage.statistics(&q(), &range).await.unwrap();
    assert_eq!(found.total(), bucket);
}

#[tokio::test]
async fn reads_work() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    bench.raw(&["ZADD", &key("g:g"), "7", "a"]).await;
    bench.raw(&["SADD", &key("groups"), "g"]).await;
    // The connection for watches proves itself by a write, once.
    bench
        .storage
        .watch(&[queue("first")], WatchKind::Delayed)
        .await
        .unwrap();
    fill(&mut bench).await;
    let facts = bench.storage.queue_facts(&q(), Duration::from_secs(60)).await;
    assert_eq!(facts.unwrap().pending, 1);
    let info = bench.storage.queue_info(&q()).await.unwrap();
    assert_eq!(info.pending, 1);
    assert!(info.memory_usage.is_some_and(|bytes| bytes > 100));
    let filter = ListFilter::State(TaskState::Pending);
    assert_eq!(
        bench
            .storage
            .list_tasks(&q(), &filter, PageRequest::default())
            .await
            .unwrap()
            .tasks
            .len(),
        1
    );
    let step = bench
        .storage
        .scan_tasks(&q(), &filter, None, ScanLimits::default())
        .await;
    assert_eq!(step.unwrap().tasks.len(), 1);
    bench.storage.task_info(&q(), &id("a")).await.unwrap();
    bench.storage.task_state(&q(), &id("a")).await.unwrap();
    assert_eq!(bench.audit(&q()).await.len(), 2, "a wrong state, and twice");
    assert!(bench.audit_pages(&q()).await > 1);
    for kind in [WatchKind::Pending, WatchKind::Delayed] {
        bench.storage.watch(&[q(), queue("other")], kind).await.unwrap();
    }
}

#[tokio::test]
async fn breaches_are_repaired() {
    let mut bench = Bench::start().await;
    bench
        .enqueue_ids(&["dangling", "unlisted", "twice", "since", "other", "unusable", "leased"])
        .await;
    bench.enqueue(vec![request("q", "grouped").group("g")]).await;
    for command in [
        &["DEL", &key("t:dangling")][..],
        &["LREM", &key("pending"), "0", "unlisted"],
        &["ZADD", &key("retry"), "5", "twice"],
        &["HDEL", &key("t:since"), "pending_since"],
        &["HSET", &key("t:other"), "state", "completed"],
        &["HDEL", &key("t:unusable"), "msg"],
        &["ZADD", &key("lease"), "5", "leased"],
        &["LPUSH", &key("active"), "unleased"],
        &["COPY", &key("t:leased"), &key("t:unleased")],
        &["DEL", &key("groups")],
        &["SADD", &key("groups"), "empty"],
        &["SET", &key("unique:t:"), "nobody"],
        &["SET", &key("processed:2026-11-29"), "1"],
        &["SET", &key("processed"), "1", "EX", "600"],
    ] {
        bench.raw(command).await;
    }
    fill(&mut bench).await;
    for _ in 0..3 {
        let found = bench.audit(&q()).await;
        let results = bench.storage.repair(&q(), &found, RepairMode::Write).await.unwrap();
        assert!(
            results.iter().all(|result| matches!(result, Repair::Done(_))),
            "{results:#?}"
        );
    }
    assert_eq!(bench.audit(&q()).await, []);
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 5);
    assert_eq!(bench.raw_int(&["TTL", &key("processed")]).await, -1);
}
