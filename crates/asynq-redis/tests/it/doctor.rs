//! Audits and repairs of large and busy queues.

use std::{cell::Cell, sync::Arc, time::Duration};

use asynq_core::{
    Act, Storage, TaskState,
    broker::{GroupLimits, Outcome, Want},
    doctor::{Remedy, Repair, RepairMode},
    inspect::{Breach, Cursor, ListFilter},
};
use asynq_testing::request::{id, request};

use crate::{
    backlog::fill,
    support::{Bench, DONE, archive, connect, key, q, retry, settlement},
};

/// Most commands of one call of an audit: a part of a search, the judgement, and the look itself.
const MOST_COMMANDS: u64 = 60;

/// Number of scripts and parts of the keyspace that were asked for. Other commands are called by scripts too, and are not
/// counted.
async fn round_trips(bench: &mut Bench) -> u64 {
    let info = bench.raw(&["INFO", "commandstats"]).await.text();
    let calls = info.lines().filter_map(|line| {
        let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        ["evalsha", "scan"].contains(&name).then_some(())?;
        fields.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok()
    });
    calls.sum()
}

/// Makes so many calls of an audit, from a cursor on. Returns the findings and the cursor that is left.
async fn steps(bench: &mut Bench, mut cursor: Cursor, count: usize) -> (Vec<Breach>, Option<Cursor>) {
    let mut found = Vec::new();
    for _ in 0..count {
        let before = round_trips(bench).await;
        let page = bench.storage.audit(&q(), cursor).await.unwrap();
        let spent = round_trips(bench).await - before;
        assert!(spent <= MOST_COMMANDS, "{spent} commands");
        found.extend(page.items);
        match page.next {
            Some(next) => cursor = next,
            None => return (found, None),
        }
    }
    (found, Some(cursor))
}

/// Each call of an audit of a million pending tasks, some of them damaged, is a few commands; and the damage is found.
#[tokio::test]
async fn each_step_over_a_million_tasks_is_a_few_commands() {
    const COUNT: usize = 1_000_000;
    let mut bench = Bench::start().await;
    fill(&mut bench, COUNT).await;
    let (found, cursor) = steps(&mut bench, Cursor::default(), 20).await;
    assert_eq!(found, []);
    // Damage behind the place, and in the part of the keys that is looked at first.
    let next = format!("id-{:07}", COUNT - 1 - 1930);
    bench.raw(&["DEL", &key(&format!("t:{next}"))]).await;
    let twice = format!("id-{:07}", COUNT - 1 - 1960);
    bench.raw(&["ZADD", &key("retry"), "5", &twice]).await;
    let (found, cursor) = steps(&mut bench, cursor.unwrap(), 1).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    // The other one is looked for everywhere.
    let (others, _) = steps(&mut bench, cursor.unwrap(), 150).await;
    let breach = Breach::Duplicated {
        id: id(&twice),
        containers: vec![key("pending"), key("retry")],
    };
    assert_eq!(others, [breach]);
    let results = bench.storage.repair(&q(), &found, RepairMode::Write).await.unwrap();
    assert_eq!(results, [Repair::Done(Remedy::RemoveId)]);

    // Healthy keys need no look anywhere else.
    let keys = Cursor(Some("k\t0\t1".to_owned()));
    let before = round_trips(&mut bench).await;
    let (found, _) = steps(&mut bench, keys.clone(), 20).await;
    assert_eq!(found, []);
    let spent = round_trips(&mut bench).await - before;
    assert!(spent <= 45, "{spent} commands for 20 healthy parts");
}

/// A task in no container is found behind a long `pending`, once those next to run are younger, in bounded calls.
#[tokio::test]
async fn an_unlisted_task_is_found_in_a_long_backlog() {
    const COUNT: usize = 50_000;
    let mut bench = Bench::start().await;
    fill(&mut bench, COUNT).await;
    // It was to run first.
    bench.raw(&["RPOP", &key("pending")]).await;
    bench
        .raw(&["HSET", &key("t:id-0000000"), "pending_since", "1000000000"])
        .await;
    let (found, left) = steps(&mut bench, Cursor(Some("k\t0\t1".to_owned())), 5_000).await;
    assert_eq!(left, None);
    let breach = Breach::Unlisted {
        id: id("id-0000000"),
        state: "pending".into(),
    };
    assert_eq!(found, [breach]);
    let results = bench.storage.repair(&q(), &found, RepairMode::Write).await.unwrap();
    assert_eq!(results, [Repair::Done(Remedy::List(TaskState::Pending))]);
    let again = bench.storage.repair(&q(), &found, RepairMode::Write).await.unwrap();
    assert_eq!(again, [Repair::Gone]);
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, COUNT as i64);
}

/// Ids that are repaired, taken or forwarded while an audit goes on do not hide those behind them.
#[tokio::test]
async fn what_leaves_a_container_hides_nothing_behind_it() {
    let mut bench = Bench::start().await;
    let names: Vec<_> = (0..1000).map(|n| format!("id{n:04}")).collect();
    bench
        .enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let later = bench.after(60);
    let delayed = names.iter().map(|id| request("q", &format!("s{id}")).at(later));
    bench.enqueue(delayed.collect()).await;
    for name in &names {
        bench.raw(&["DEL", &key(&format!("t:{name}"))]).await;
        bench.raw(&["DEL", &key(&format!("t:s{name}"))]).await;
    }
    let (mut cursor, mut repaired) = (Cursor::default(), 0);
    loop {
        let page = bench.storage.audit(&q(), cursor).await.unwrap();
        let results = bench
            .storage
            .repair(&q(), &page.items, RepairMode::Write)
            .await
            .unwrap();
        assert!(results.iter().all(|result| *result == Repair::Done(Remedy::RemoveId)));
        repaired += results.len();
        // Others go too, in front of the place.
        bench.raw(&["ZPOPMIN", &key("scheduled")]).await;
        match page.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(bench.audit(&q()).await, [], "{repaired} repaired");
    assert!(repaired > 1950, "{repaired}");
}

/// The counter of processed tasks of a day ends before that of failed tasks.
#[tokio::test]
async fn the_last_hours_of_a_day_of_counters_are_no_breach() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    let task = bench.take(1).await.remove(0);
    bench.settled(&task, archive()).await;
    bench.raw(&["SET", &key("failed:2026-08-31"), "3", "EX", "40000"]).await;
    assert_eq!(bench.audit(&q()).await, []);
    bench
        .raw(&["SET", &key("failed:2026-08-31"), "3", "EX", "400000"])
        .await;
    assert_eq!(bench.audit(&q()).await.len(), 1);
}

/// Moves tasks through all states until it is told to stop.
async fn storm(bench: &Bench, storage: &dyn Storage, name: &str, stop: &Cell<bool>) -> usize {
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: Some(3),
    };
    let (mut moved, mut number) = (0, 0);
    while !stop.get() {
        let mut batch = Vec::new();
        for _ in 0..10 {
            number += 1;
            let new = request("q", &format!("{name}-{number}"));
            batch.push(Arc::new(
                match number % 5 {
                    0 => new.at(bench.after(0)),
                    1 => new.group(["g1", "g2"][number % 2]),
                    2 => new.payload(format!("{name}-{number}")).unique(Duration::from_secs(60)),
                    3 => new.retention(60),
                    _ => new,
                }
                .build(),
            ));
        }
        for answer in storage.enqueue(&batch).await {
            answer.unwrap();
        }
        let want = [Want { queue: q(), max: 10 }];
        let taken = storage.exchange(&storage.begin(), &[], &want).await.leased;
        let outcomes = [DONE, retry(bench.after(0)), archive(), Outcome::Requeue, DONE];
        let settlements: Vec<_> = taken
            .iter()
            .enumerate()
            .map(|(at, task)| settlement(task, outcomes[at % outcomes.len()].clone()))
            .collect();
        moved += settlements.len();
        for result in storage.exchange(&storage.begin(), &settlements, &[]).await.settled {
            result.unwrap();
        }
        storage.forward(&q(), 100).await.unwrap();
        for group in storage.list_groups(&q()).await.unwrap() {
            if let Some(set) = storage.collect_group(&q(), &group, limits).await.unwrap() {
                number += 1;
                let result = request("q", &format!("{name}-{number}")).build();
                storage.finish_aggregation(&set, result).await.unwrap();
            }
        }
        let archived = ListFilter::State(TaskState::Archived);
        storage.act_on_some(&q(), &archived, Act::Run, None).await.unwrap();
    }
    moved
}

/// While servers move tasks through all states, no part of an audit finds anything.
#[tokio::test]
async fn nothing_is_found_while_tasks_move() {
    let bench = Bench::start().await;
    let (one, two) = (
        connect(&bench.server.url(), &bench.clock, 2).await,
        connect(&bench.server.url(), &bench.clock, 3).await,
    );
    let stop = Cell::new(false);
    let audits = async {
        let mut pages = 0;
        for _ in 0..10 {
            let mut cursor = Cursor::default();
            loop {
                let page = bench.storage.audit(&q(), cursor).await.unwrap();
                pages += 1;
                assert_eq!(page.items, []);
                match page.next {
                    Some(next) => cursor = next,
                    None => break,
                }
            }
        }
        stop.set(true);
        pages
    };
    let (pages, one, two) = futures::join!(
        audits,
        storm(&bench, &*one, "one", &stop),
        storm(&bench, &*two, "two", &stop)
    );
    assert!(pages > 50 && one + two > 100, "{pages} parts, {one} and {two} tasks");
}

/// A queue that is made and deleted again and again is never told to be missing in the index.
#[tokio::test]
async fn a_queue_that_comes_and_goes_is_not_unlisted() {
    let bench = Bench::start().await;
    let other = connect(&bench.server.url(), &bench.clock, 2).await;
    let stop = Cell::new(false);
    let comes_and_goes = async {
        for number in 0..300 {
            let new = request("q", &format!("id{number}")).build();
            other.enqueue(&[Arc::new(new)]).await.remove(0).unwrap();
            other.delete_queue(&q(), true).await.unwrap();
        }
        stop.set(true);
    };
    let audits = async {
        while !stop.get() {
            let keys = Cursor(Some("k\t0\t0".to_owned()));
            assert_eq!(bench.storage.audit(&q(), keys).await.unwrap().items, []);
        }
    };
    futures::join!(comes_and_goes, audits);
}
