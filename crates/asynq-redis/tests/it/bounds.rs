//! No call is longer than rules.md#bounded-calls allows, however much there is to do.

use std::{collections::HashSet, time::Duration};

use asynq_core::{
    TaskState,
    broker::{GroupLimits, RECOVER_GRACE},
    error::SettleError,
    info::{SchedulerEntry, ServerInfo, ServerStatus, WorkerInfo},
    inspect::{ListFilter, PageRequest},
};
use asynq_testing::request::{group, id, request};
use bytes::Bytes;

use crate::support::{Bench, DONE, archive, ids, key, q, settlement};

/// Returns how many scripts the server has run.
async fn scripts_run(bench: &mut Bench) -> i64 {
    let info = bench.raw(&["INFO", "commandstats"]).await.text();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="))
        .unwrap_or("0");
    line.split(',').next().unwrap().parse().unwrap()
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:05}")).collect()
}

async fn enqueue_all(bench: &Bench, names: &[String]) {
    bench.enqueue(names.iter().map(|id| request("q", id)).collect()).await;
}

async fn push_strangers(bench: &mut Bench, command: &str, count: usize) {
    let mut words = vec![command.to_owned(), key("active")];
    words.extend(numbered("stranger", count));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    bench.raw(&words).await;
}

#[tokio::test]
async fn outcomes_over_a_long_active_list_are_cut_into_several_calls() {
    let mut bench = Bench::start().await;
    let names = numbered("id", 200);
    enqueue_all(&bench, &names).await;
    let taken = bench.take(200).await;
    assert_eq!(taken.len(), 200);
    // In the middle: 200 searches of some 5000 entries each.
    push_strangers(&mut bench, "LPUSH", 5000).await;
    push_strangers(&mut bench, "RPUSH", 5000).await;
    enqueue_all(&bench, &["next".to_owned()]).await;
    let before = scripts_run(&mut bench).await;
    let answer = bench
        .exchange(taken.iter().map(|task| settlement(task, DONE)).collect(), 1)
        .await;
    assert!(answer.settled.iter().all(Result::is_ok));
    assert_eq!(ids(&answer.leased), ["next"], "the last of the calls takes");
    let calls = scripts_run(&mut bench).await - before;
    assert!((10..=40).contains(&calls), "{calls} calls");
    assert_eq!(bench.raw_int(&["LLEN", &key("active")]).await, 10_001);
    assert_eq!(bench.raw_int(&["GET", &key("processed")]).await, 200);
}

#[tokio::test]
async fn outcomes_at_either_end_of_a_long_active_list_need_one_call() {
    for command in ["LPUSH", "RPUSH"] {
        let mut bench = Bench::start().await;
        enqueue_all(&bench, &numbered("id", 100)).await;
        let taken = bench.take(100).await;
        push_strangers(&mut bench, command, 10_000).await;
        let before = scripts_run(&mut bench).await;
        let answer = bench
            .exchange(taken.iter().map(|task| settlement(task, DONE)).collect(), 0)
            .await;
        assert!(answer.settled.iter().all(Result::is_ok));
        assert_eq!(scripts_run(&mut bench).await - before, 1, "{command}");
    }
}

/// A thousand tasks under way that end in any order: each call ends 200 of them and takes as many.
#[tokio::test]
async fn a_full_exchange_among_many_active_tasks_takes_in_the_same_call() {
    let mut bench = Bench::start().await;
    for names in numbered("id", 2000).chunks(500) {
        enqueue_all(&bench, names).await;
    }
    let mut running = Vec::new();
    while running.len() < 1000 {
        running.extend(bench.take(200).await);
    }
    let before = scripts_run(&mut bench).await;
    for round in 0..5_usize {
        // Every fifth one, then every fourth one of those that are left.
        let mut ended = Vec::new();
        running = running
            .into_iter()
            .enumerate()
            .filter_map(|(at, task)| {
                let ends = at % 5 == round % 5;
                if ends {
                    ended.push(task)
                } else {
                    return Some(task);
                }
                None
            })
            .collect();
        ended.reverse();
        let outcomes: Vec<_> = ended.iter().map(|task| settlement(task, DONE)).collect();
        assert_eq!(outcomes.len(), 200);
        let answer = bench.exchange(outcomes, 200).await;
        assert!(answer.settled.iter().all(Result::is_ok));
        assert_eq!(answer.leased.len(), 200);
        running.extend(answer.leased);
    }
    assert_eq!(scripts_run(&mut bench).await - before, 5);
    assert_eq!(bench.raw_int(&["LLEN", &key("active")]).await, 1000);
    assert_eq!(bench.raw_int(&["GET", &key("processed")]).await, 1000);
}

/// Puts `of` at the places of `list` that are a multiple of `every`, behind `front` strangers, and returns the strangers.
async fn interleave(bench: &mut Bench, of: &[String], front: usize, every: usize, behind: usize) -> Vec<String> {
    let strangers = numbered("stranger", front + of.len() * (every - 1) + behind);
    let mut rest = strangers.iter();
    let mut list: Vec<&String> = rest.by_ref().take(front).collect();
    for id in of {
        list.push(id);
        list.extend(rest.by_ref().take(every - 1));
    }
    list.extend(rest);
    let active = key("active");
    bench.raw(&["DEL", &active]).await;
    let words = ["RPUSH", &active]
        .into_iter()
        .chain(list.into_iter().map(String::as_str));
    bench.raw(&words.collect::<Vec<_>>()).await;
    strangers
}

#[tokio::test]
async fn other_tasks_keep_their_order_when_outcomes_leave_the_active_list() {
    // Strangers before, between and behind: at the tail, at the head, in the middle, close together and far apart.
    for (count, front, every, behind) in [
        (1, 0, 1, 0),
        (1, 5, 1, 0),
        (1, 0, 1, 5),
        (2, 300, 40, 300),
        (20, 0, 1, 0),
        (20, 0, 2, 0),
        (20, 9, 3, 0),
        (20, 500, 2, 3),
        (20, 3, 2, 500),
        (20, 50, 9, 50),
        (20, 500, 60, 500),
        (150, 4000, 2, 4000),
    ] {
        let mut bench = Bench::start().await;
        let names = numbered("id", count);
        enqueue_all(&bench, &names).await;
        let taken = bench.take(u32::try_from(count).unwrap()).await;
        let strangers = interleave(&mut bench, &names, front, every, behind).await;
        let before = scripts_run(&mut bench).await;
        let answer = bench
            .exchange(taken.iter().rev().map(|task| settlement(task, DONE)).collect(), 0)
            .await;
        let case = (count, front, every, behind);
        assert!(answer.settled.iter().all(Result::is_ok), "{case:?}");
        assert_eq!(scripts_run(&mut bench).await - before, 1, "{case:?}");
        assert_eq!(bench.list("active").await, strangers, "{case:?}");
    }
}

#[tokio::test]
async fn an_id_that_is_active_twice_is_ended_once() {
    for count in [1, 30] {
        let mut bench = Bench::start().await;
        let names = numbered("id", count);
        enqueue_all(&bench, &names).await;
        let taken = bench.take(u32::try_from(count).unwrap()).await;
        let active = key("active");
        bench.raw(&["LPUSH", &active, "id00000"]).await;
        bench.raw(&["RPUSH", &active, "id00000"]).await;
        let twice = taken.iter().chain(&taken[..1]);
        let settled = bench
            .exchange(twice.map(|task| settlement(task, DONE)).collect(), 0)
            .await
            .settled;
        assert!(settled[..count].iter().all(Result::is_ok), "{settled:?}");
        assert!(matches!(settled[count], Err(SettleError::NotOurs)), "{settled:?}");
        assert_eq!(bench.list("active").await, ["id00000", "id00000"]);
        assert_eq!(
            bench.raw_int(&["GET", &key("processed")]).await,
            i64::try_from(count).unwrap()
        );
    }
}

#[tokio::test]
async fn many_old_archived_tasks_are_trimmed_over_several_calls() {
    let mut bench = Bench::start().await;
    let tasks = numbered("id", 40);
    enqueue_all(&bench, &tasks).await;
    let taken = bench.take(40).await;
    for chunk in numbered("old", 9000).chunks(1000) {
        let mut add = vec!["ZADD".to_owned(), key("archived")];
        let mut commands = Vec::new();
        for id in chunk {
            add.extend(["1000".to_owned(), id.clone()]);
            commands.push(
                ["HSET", &key(&format!("t:{id}")), "msg", "m", "state", "archived"]
                    .map(|word| Bytes::copy_from_slice(word.as_bytes()))
                    .to_vec(),
            );
        }
        bench.raw(&add.iter().map(String::as_str).collect::<Vec<_>>()).await;
        bench.client.pipeline(&commands).await;
    }
    for (nth, task) in taken.iter().enumerate() {
        bench.settle(task, archive()).await.unwrap();
        let left = bench.raw_int(&["ZCARD", &key("archived")]).await;
        let old = 9000_usize.saturating_sub(250 * (nth + 1));
        assert_eq!(left, i64::try_from(old + nth + 1).unwrap());
    }
    let hashes = bench
        .client
        .keys()
        .await
        .into_iter()
        .filter(|key| key.starts_with(b"asynq:{q}:t:"))
        .count();
    assert_eq!(hashes, 40);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn a_large_batch_is_enqueued_in_order() {
    let mut bench = Bench::start().await;
    let names = numbered("id", 1010);
    let before = scripts_run(&mut bench).await;
    enqueue_all(&bench, &names).await;
    // One more where the script was not known.
    let calls = scripts_run(&mut bench).await - before;
    assert!((6..=12).contains(&calls), "{calls}");
    let listed = bench.raw(&["LRANGE", &key("pending"), "0", "-1"]).await.array();
    let listed: Vec<_> = listed.iter().rev().map(asynq_testing::RespValue::text).collect();
    assert_eq!(listed, names);
}

#[tokio::test]
async fn large_messages_are_sent_apart() {
    let mut bench = Bench::start().await;
    let large = vec![7_u8; 700 << 10];
    enqueue_all(&bench, &["warm".to_owned()]).await;
    let before = scripts_run(&mut bench).await;
    bench
        .enqueue(
            ["a", "b", "c"]
                .map(|id| request("q", id).payload(large.clone()).retention(60))
                .into(),
        )
        .await;
    assert_eq!(scripts_run(&mut bench).await - before, 3);
    bench.take(1).await;
    let mut taken = Vec::new();
    while taken.len() < 3 {
        taken.extend(bench.take(3).await);
    }
    let filter = ListFilter::State(TaskState::Active);
    let page = bench
        .storage
        .list_tasks(&q(), &filter, PageRequest::new(1, 10))
        .await
        .unwrap();
    assert_eq!(page.tasks.len(), 4, "read in parts");
    let before = scripts_run(&mut bench).await;
    let answer = bench
        .exchange(taken.iter().map(|task| settlement(task, DONE)).collect(), 0)
        .await;
    assert!(answer.settled.iter().all(Result::is_ok));
    assert_eq!(scripts_run(&mut bench).await - before, 3);
    bench.advance(100);
    let expired = bench.storage.expired(&q(), RECOVER_GRACE, 10).await.unwrap();
    assert_eq!((expired.tasks.len(), expired.more), (1, false));
}

#[tokio::test]
async fn expired_tasks_are_listed_in_parts() {
    let bench = Bench::start().await;
    bench
        .enqueue(["a", "b"].map(|id| request("q", id).payload(vec![7; 700 << 10])).into())
        .await;
    bench.take(1).await;
    bench.take(1).await;
    bench.advance(100);
    let expired = bench.storage.expired(&q(), RECOVER_GRACE, 10).await.unwrap();
    assert_eq!((expired.tasks.len(), expired.more), (1, true));
}

#[tokio::test]
async fn a_page_of_thousands_is_read_in_parts_and_whole() {
    let bench = Bench::start().await;
    let names = numbered("id", 2300);
    enqueue_all(&bench, &names).await;
    let filter = ListFilter::State(TaskState::Pending);
    let page = bench
        .storage
        .list_tasks(&q(), &filter, PageRequest::new(2, 1100))
        .await
        .unwrap();
    let listed: Vec<_> = page.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(listed, names[1100..2200].iter().map(String::as_str).collect::<Vec<_>>());
    let last = bench
        .storage
        .list_tasks(&q(), &filter, PageRequest::new(3, 1100))
        .await
        .unwrap();
    assert_eq!(last.tasks.len(), 100);
}

#[tokio::test]
async fn a_group_of_thousands_becomes_one_set() {
    let mut bench = Bench::start().await;
    let names = numbered("id", 8500);
    bench
        .enqueue(names.iter().map(|id| request("q", id).group("g")).collect())
        .await;
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    let set = bench
        .storage
        .collect_group(&q(), &group("g"), limits)
        .await
        .unwrap()
        .unwrap();
    let read: Vec<_> = set.tasks.iter().map(|task| task.id.clone()).collect();
    assert_eq!(read, names);
    bench
        .storage
        .finish_aggregation(&set, request("q", "all").build())
        .await
        .unwrap();
    let tasks = bench
        .client
        .keys()
        .await
        .into_iter()
        .filter(|key| key.starts_with(b"asynq:{q}:t:"))
        .count();
    assert_eq!(tasks, 1);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn thousands_of_workers_and_entries_are_published() {
    let bench = Bench::start().await;
    let now = bench.clock.now();
    let server = ServerInfo {
        host: "h".into(),
        pid: 7,
        server_id: "s".into(),
        concurrency: 8500,
        queues: [("q".to_owned(), 1)].into(),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: now,
        active_worker_count: 8500,
    };
    let worker = |name: &String| WorkerInfo {
        host: "h".into(),
        pid: 7,
        server_id: "s".into(),
        task_id: id(name),
        task_type: "t".into(),
        payload: Bytes::new(),
        queue: q(),
        start_time: now,
        deadline: now,
    };
    let workers: Vec<_> = numbered("id", 8500).iter().map(worker).collect();
    bench
        .storage
        .write_server_state(&server, &workers, Duration::from_secs(10))
        .await
        .unwrap();
    let read: HashSet<_> = bench
        .storage
        .workers()
        .await
        .unwrap()
        .into_iter()
        .map(|worker| worker.task_id)
        .collect();
    assert_eq!(read.len(), 8500);
    let entry = |id: &String| SchedulerEntry {
        id: id.clone(),
        spec: "@daily".into(),
        task_type: "t".into(),
        payload: Bytes::new(),
        options: Vec::new(),
        next: None,
        prev: None,
    };
    let entries: Vec<_> = numbered("e", 8500).iter().map(entry).collect();
    bench
        .storage
        .write_scheduler_entries("s", &entries, Duration::from_secs(10))
        .await
        .unwrap();
}
