//! No script holds the server for more than five milliseconds, however much there is; where the machine is
//! slow or busy, for no more than it takes for seven thousand simple commands.

use std::time::Duration;

use asynq_core::{
    Act, TaskState, Then,
    broker::{GroupLimits, Outcome, RECOVER_GRACE, Recovery, WatchKind},
    inspect::{BulkEntry, Cursor, ListFilter, PageRequest, ScanLimits, ScanPlace},
    statistics::{Bucket, RunEnd, Span, StatisticsPart},
    tree::ServerIdentity,
};
use asynq_testing::request::{group, id, request};
use chrono::{DateTime, TimeDelta, Utc};

use crate::support::{Bench, DONE, archive, key, q, retry, settlement};

fn entry(id: &str) -> BulkEntry {
    BulkEntry {
        score: "7".into(),
        id: id.to_owned().into(),
    }
}

/// Two hours by minute, each with all the types that a bucket tells apart.
fn full_buckets(now: DateTime<Utc>) -> Vec<StatisticsPart> {
    let mut bucket = Bucket::new();
    for number in 0..500 {
        let task_type = format!("task-type-{number}");
        for millis in [1, 7, 50, 400, 3000] {
            bucket.started(&task_type, Duration::from_millis(millis));
            bucket.ended(&task_type, RunEnd::Done, Duration::from_millis(millis));
        }
    }
    let minutes = (0..120).map(|back| StatisticsPart {
        span: Span::Minute(now - TimeDelta::minutes(back)),
        bucket: bucket.clone(),
    });
    minutes.collect()
}

const CEILING: &str = "5000";
const NOW: GroupLimits = GroupLimits {
    grace: Duration::ZERO,
    max_delay: None,
    max_size: None,
};

/// Tasks of one state, a hundred thousand and more, as Go writes them.
async fn fill(bench: &mut Bench) {
    const FILL: &str = "
        local prefix, now = KEYS[1], tonumber(ARGV[1])
        local function task(kind, i, ...)
          local id = kind .. string.format('-%07d', i)
          local msg = string.gsub(ARGV[4], 'id%-0000000', id)
          redis.call('HSET', prefix .. 't:' .. id, 'msg', msg, ...)
          return id
        end
        for i = tonumber(ARGV[2]), tonumber(ARGV[3]) - 1 do
          local since = string.format('%d000000000', now - 100000 + i)
          redis.call('LPUSH', prefix .. 'pending', task('pe', i, 'state', 'pending', 'pending_since', since))
          redis.call('ZADD', prefix .. 'archived', now - i, task('ar', i, 'state', 'archived'))
          redis.call('ZADD', prefix .. 'g:large', now - i, task('la', i, 'state', 'aggregating', 'group', 'large'))
          if i < 10000 then
            local group = 'group-' .. i
            redis.call('ZADD', prefix .. 'g:' .. group, now, task('gr', i, 'state', 'aggregating', 'group', group))
            redis.call('SADD', prefix .. 'groups', group)
            redis.call('ZADD', prefix .. 'completed', now - 1, task('co', i, 'state', 'completed'))
            redis.call('ZADD', prefix .. 'scheduled', now - 1, task('sc', i, 'state', 'scheduled'))
            local at = string.format('%d900', now)
            redis.call('ZADD', prefix .. 'retry', now, task('re', i, 'state', 'retry', 'x:at', at))
          end
          if i < 2000 then
            local id = task('ac', i, 'state', 'active')
            redis.call('LPUSH', prefix .. 'active', id)
            redis.call('ZADD', prefix .. 'lease', now + 30, id)
            id = task('de', i, 'state', 'active')
            redis.call('LPUSH', prefix .. 'active', id)
            redis.call('ZADD', prefix .. 'lease', now - 100, id)
            redis.call('LPUSH', prefix .. 'active', 'gone' .. i)
            redis.call('ZADD', prefix .. 'lease', now - 200, 'gone' .. i)
          end
        end
        redis.call('SADD', prefix .. 'groups', 'large')
        redis.call('SADD', 'asynq:queues', 'q')";
    let message = request("q", "id-0000000").encoded();
    let (prefix, now) = (key(""), bench.secs().to_string());
    for from in (0..100_000).step_by(10_000) {
        let (from, to) = (from.to_string(), (from + 10_000).to_string());
        let words: [&[u8]; 8] = [
            b"EVAL",
            FILL.as_bytes(),
            b"1",
            prefix.as_bytes(),
            now.as_bytes(),
            from.as_bytes(),
            to.as_bytes(),
            &message,
        ];
        bench.client.ok(&words).await;
    }
}

/// Work of the server for an operation.
struct Work {
    runs: usize,
    /// Microseconds of its processor.
    spent: f64,
    /// Microseconds that scripts took which took too long, and their digests.
    slow: Vec<(i64, String)>,
}

impl Work {
    /// Since the last time.
    async fn of(bench: &mut Bench) -> Self {
        let info = bench.raw(&["INFO", "everything"]).await.text();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        let seconds = |name| field(name).trim().parse::<f64>().unwrap();
        let calls = field("cmdstat_evalsha:calls=").split(',').next().unwrap();
        let slow = bench.raw(&["SLOWLOG", "GET", "1000"]).await.array();
        let slow = slow.into_iter().filter_map(|entry| {
            let fields = entry.array();
            let command = fields[3].clone().array();
            (command[0].text() == "EVALSHA").then(|| (fields[2].int(), command[1].text()))
        });
        let work = Self {
            runs: calls.parse().unwrap(),
            spent: (seconds("used_cpu_user:") + seconds("used_cpu_sys:")) * 1e6,
            slow: slow.collect(),
        };
        bench.raw(&["CONFIG", "RESETSTAT"]).await;
        bench.raw(&["SLOWLOG", "RESET"]).await;
        work
    }

    /// Those that were slow by themselves: what a busy machine kept waiting took longer than the server
    /// had a processor for, and one in a few that was kept waiting all the same does not count.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of an operation")]
    fn slow_since(self, before: &Self) -> Vec<(i64, String)> {
        let spent = (self.spent - before.spent) * 1.25;
        let mut slow = self.slow;
        slow.retain(|(took, _)| *took as f64 <= spent);
        if slow.len() * 8 < self.runs {
            slow.clear();
        }
        slow
    }
}

/// Does something until its scripts are fast enough, eight times at most: a busy machine may keep some
/// waiting, but not the same ones each time.
macro_rules! holds {
    ($bench:ident, $name:literal, $work:expr) => {{
        let mut slow = Vec::new();
        for _ in 0..8 {
            let before = Work::of(&mut $bench).await;
            $work;
            slow = Work::of(&mut $bench).await.slow_since(&before);
            if !slow.is_empty() {
                let yardstick = $bench.yardstick().await;
                slow.retain(|(took, _)| took.unsigned_abs() > yardstick);
            }
            if slow.is_empty() {
                break;
            }
        }
        assert!(slow.is_empty(), "{}: {slow:?}", $name);
    }};
}

/// All operations on a queue with 100 thousand tasks pending, as many archived, as many in one group, and
/// ten thousand groups beside it; as many tasks that are due later in this second; 4000 ids in `active`, of
/// which half has no task.
#[tokio::test]
async fn no_operation_on_a_large_queue_holds_the_server() {
    let mut bench = Bench::start().await;
    fill(&mut bench).await;
    bench.raw(&["CONFIG", "SET", "slowlog-log-slower-than", CEILING]).await;
    bench.raw(&["CONFIG", "SET", "slowlog-max-len", "1000"]).await;
    let storage = std::sync::Arc::clone(&bench.storage);

    let mut new = 0;
    holds!(bench, "enqueue", {
        new += 1;
        let kinds = (0..100).flat_map(|n| {
            let id = |kind: &str| format!("{kind}{new}-{n}");
            [
                request("q", &id("p")),
                request("q", &id("s")).at(bench.after(60)),
                request("q", &id("g")).group("large"),
            ]
        });
        bench.enqueue(kinds.collect()).await;
    });
    for (name, outcome) in [
        ("done", DONE),
        ("retry", retry(bench.after(60))),
        ("archive", archive()),
        ("requeue", Outcome::Requeue),
    ] {
        holds!(bench, "take and settle", {
            let taken = bench.take(100).await;
            assert!(!taken.is_empty());
            storage
                .extend_leases(taken.iter().map(|task| task.lease.clone()).collect())
                .await;
            storage.write_result(&taken[0].lease, "r".into()).await.unwrap();
            let outcomes = taken.iter().map(|task| settlement(task, outcome.clone())).collect();
            let answer = bench.exchange(outcomes, 0).await;
            assert!(answer.settled.iter().all(Result::is_ok), "{name}");
        });
    }
    let buckets = full_buckets(bench.after(0));
    holds!(bench, "write_statistics", {
        let server = ServerIdentity {
            host: "h".into(),
            pid: 7,
            server_id: "s".into(),
        };
        storage.write_statistics(&q(), &server, &buckets).await.unwrap()
    });
    holds!(bench, "adopt", storage.adopt(&q(), &storage.begin()).await.unwrap());
    holds!(bench, "watch", {
        storage.watch(&[q()], WatchKind::Pending).await.unwrap();
        storage.watch(&[q()], WatchKind::Delayed).await.unwrap()
    });
    holds!(bench, "forward", {
        for _ in 0..20 {
            assert!(storage.forward(&q(), 100).await.unwrap().moved > 0);
        }
    });
    holds!(bench, "expired and recover", {
        let mut place = asynq_core::broker::ExpiredPlace::default();
        for _ in 0..10 {
            let found = storage.expired_after(&q(), RECOVER_GRACE, 100, &place).await.unwrap();
            place = found.next;
            let outcome = retry(bench.after(60));
            let batch = found.tasks.into_iter().map(|task| Recovery {
                task,
                outcome: outcome.clone(),
            });
            storage.recover(batch.collect()).await;
        }
    });
    holds!(bench, "heal", {
        storage.claim_heal(&q(), Duration::from_secs(60)).await.unwrap();
        storage.heal(&q(), 10_000).await.unwrap()
    });
    holds!(
        bench,
        "delete_expired",
        assert!(storage.delete_expired(&q(), 1000).await.unwrap() > 0)
    );
    holds!(
        bench,
        "list_groups",
        assert!(storage.list_groups(&q()).await.unwrap().len() > 10_000)
    );
    // Of the three sets one is finished, and one goes back to a group that is large.
    let mut sets = Vec::new();
    holds!(bench, "collect_group", {
        let set = storage
            .collect_group(&q(), &group("large"), NOW)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(set.tasks.len(), 10_000);
        sets.push(set);
    });
    let mut sums = 0;
    holds!(bench, "finish_aggregation", {
        let set = match sets.pop() {
            Some(set) => set,
            None => storage
                .collect_group(&q(), &group("large"), NOW)
                .await
                .unwrap()
                .unwrap(),
        };
        storage.extend_aggregation(&set).await.unwrap();
        storage
            .release_aggregation(&set, Duration::from_secs(60))
            .await
            .unwrap();
        sums += 1;
        let sum = request("q", &format!("sum{sums}")).build();
        storage.finish_aggregation(&set, sum).await.unwrap();
    });
    holds!(bench, "reclaim_aggregation_sets", {
        storage
            .collect_group(&q(), &group("large"), NOW)
            .await
            .unwrap()
            .unwrap();
        bench.advance(121);
        assert_eq!(storage.reclaim_aggregation_sets(&q()).await.unwrap(), 1);
    });

    // As many sets as a thousand failing servers leave, and ids without tasks.
    bench
        .raw(&[
            "EVAL",
            "for i = 1, 10000 do
               local set = KEYS[1] .. 'g:group-' .. i .. ':' .. i
               redis.call('ZADD', set, 1, 'set-' .. i)
               redis.call('ZADD', KEYS[1] .. 'aggregation_sets', 99999999999, set)
               redis.call('ZADD', KEYS[1] .. 'retry', 99999999999, 'dangling-' .. i)
             end",
            "1",
            &key(""),
        ])
        .await;
    holds!(
        bench,
        "queue_info",
        assert!(storage.queue_info(&q()).await.unwrap().groups > 10_000)
    );
    holds!(bench, "group_infos", {
        let groups = storage.group_infos(&q()).await.unwrap();
        assert_eq!(groups.iter().map(|group| group.in_sets).sum::<u64>(), 10_000);
    });
    bench
        .raw(&[
            "EVAL",
            "for i = 1, 10000 do
               redis.call('DEL', KEYS[1] .. 'g:group-' .. i .. ':' .. i)
             end
             redis.call('DEL', KEYS[1] .. 'aggregation_sets')",
            "1",
            &key(""),
        ])
        .await;
    for filter in [
        ListFilter::State(TaskState::Pending),
        ListFilter::State(TaskState::Archived),
        ListFilter::State(TaskState::Active),
        ListFilter::Group(group("large")),
    ] {
        holds!(bench, "list_tasks", {
            for page in [1, 10, 90] {
                storage
                    .list_tasks(&q(), &filter, PageRequest::new(page, 1000))
                    .await
                    .unwrap();
            }
        });
    }
    holds!(
        bench,
        "task_info",
        storage.task_info(&q(), &id("pe-0050000")).await.unwrap()
    );
    holds!(
        bench,
        "task_state",
        storage.task_state(&q(), &id("pe-0050000")).await.unwrap()
    );
    let mut next = 0;
    holds!(bench, "run_task", {
        next += 1;
        storage.run_task(&q(), &id(&format!("gr-000{next:04}"))).await.unwrap();
    });
    holds!(bench, "archive_task", {
        next += 1;
        for kind in ["gr-000", "pe-009"] {
            let name = format!("{kind}{next:04}");
            storage.archive_task(&q(), &id(&name)).await.unwrap();
        }
    });
    holds!(bench, "reschedule and update_payload", {
        let (task, at) = (id("ar-0000001"), bench.after(600));
        storage.reschedule_task(&q(), &task, at).await.unwrap();
        storage.update_task_payload(&q(), &task, "new".into()).await.unwrap();
    });
    holds!(bench, "delete_task", {
        next += 1;
        for kind in ["gr-000", "pe-009", "ar-000"] {
            let name = format!("{kind}{next:04}");
            storage.delete_task(&q(), &id(&name)).await.unwrap();
        }
        // With a look into all containers.
        storage.delete_task(&q(), &id("nobody")).await.unwrap_err();
    });
    // In the sets, and far from both ends of the list, where the place must be searched for.
    for state in [TaskState::Pending, TaskState::Active, TaskState::Archived] {
        let filter = ListFilter::State(state);
        let (mut place, mut marks) = (None, Vec::new());
        holds!(bench, "scan_tasks", {
            for round in 0..10 {
                let step = storage
                    .scan_tasks(&q(), &filter, place.as_ref(), ScanLimits::default())
                    .await;
                let step = step.unwrap();
                place = step.next;
                marks.extend(step.tasks.into_iter().map(|task| task.mark));
                if let Some(ScanPlace::Listed(place)) = &mut place
                    && round % 3 == 2
                {
                    place.position = 70_000;
                    let id = format!("pe-00{round}0000");
                    place.seen = vec![entry(&id); 400];
                }
            }
        });
        let act = match state {
            TaskState::Active => continue,
            TaskState::Pending => Act::Archive,
            _ => Act::Run,
        };
        holds!(bench, "act_on_these", {
            for marks in marks.chunks(200) {
                let some: Vec<_> = marks.iter().step_by(2).cloned().collect();
                storage.act_on_these(&q(), &filter, act, &some).await.unwrap();
            }
        });
    }
    for (state, act) in [
        (TaskState::Pending, Act::Archive),
        (TaskState::Archived, Act::Run),
        (TaskState::Scheduled, Act::Run),
        (TaskState::Retry, Act::Archive),
        (TaskState::Completed, Act::Delete),
        (TaskState::Pending, Act::Delete),
    ] {
        holds!(bench, "act_on_some", {
            let mut place = None;
            for _ in 0..10 {
                let step = storage.act_on_some(&q(), &ListFilter::State(state), act, place).await;
                place = step.unwrap().next;
            }
        });
    }
    holds!(bench, "history", storage.history(&q(), u32::MAX).await.unwrap());
    holds!(bench, "cancel", {
        for then in Then::ALL {
            let _ = storage.cancel_task(&q(), &id("ac-0000001"), then).await.unwrap();
        }
    });
    for cursor in [
        format!("c\t{}\tpending\t50000\t00", key("pending")),
        format!("c\t{}\tactive\t\t", key("active")),
        format!("c\t{}\tarchived\t\t", key("archived")),
        format!("c\t{}\taggregating\t\t", key("g:large")),
        "l\t\t".to_owned(),
        "g\t0".to_owned(),
        "k\t0\t1".to_owned(),
    ] {
        holds!(bench, "audit", {
            let mut cursor = Cursor(Some(cursor.clone()));
            for _ in 0..20 {
                match storage.audit(&q(), cursor).await.unwrap().next {
                    Some(next) => cursor = next,
                    None => break,
                }
            }
        });
    }
    // Damage in a long backlog.
    assert!(storage.queue_info(&q()).await.unwrap().retry >= 10_000);
    holds!(bench, "heal of damage", {
        for n in 0..50 {
            bench
                .raw(&["HSET", &key(&format!("t:lost{n}")), "msg", "m", "state", "pending"])
                .await;
        }
        for _ in 0..3 {
            storage.heal(&q(), 10_000).await.unwrap();
        }
    });
    // The servers of its tasks are gone.
    for container in ["active", "lease"] {
        bench.raw(&["DEL", &key(container)]).await;
    }
    let client = bench.storage.clone();
    let mut rest = 8;
    holds!(bench, "delete_queue", {
        // A part of it in each try.
        rest -= 1;
        let patience = if rest == 0 { 3600 } else { 1 };
        let _ = tokio::time::timeout(Duration::from_secs(patience), client.delete_queue(&q(), true)).await;
    });
}
