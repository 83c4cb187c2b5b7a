//! Findings about the server itself, and their cost over large queues and many queues.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use asynq_core::{
    Clock, Storage, TaskState,
    findings::{Finding, FindingKind, Findings, FindingsOptions, Severity, read_facts},
    inspect::{ListFilter, PageRequest, ScanLimits, ScanPlace},
};
use asynq_testing::{RedisServer, request::request};
use chrono::{TimeDelta, Utc};

use crate::support::{Bench, connect, key, q};

async fn findings(storage: &dyn Storage) -> Findings {
    let options = FindingsOptions::new().queue_timeout(Duration::from_secs(60));
    let (facts, left_out) = read_facts(storage, &options).await.unwrap();
    Findings::of(&facts, left_out, &options)
}

fn names(findings: &Findings) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.kind.name()).collect()
}

/// The memory policy and a full memory, until the server has other settings.
#[tokio::test]
async fn the_settings_of_the_server_are_judged() {
    let mut bench = Bench::start().await;
    assert_eq!(names(&findings(&*bench.storage).await), [""; 0]);
    bench.raw(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let found = findings(&*bench.storage).await;
    assert_eq!(names(&found), ["eviction_policy"]);
    let command = &found.findings[0].command;
    let command = command.strip_prefix("redis-cli -h HOST -p PORT ").unwrap();
    let words: Vec<_> = command.split(' ').collect();
    bench.raw(&words).await;
    assert_eq!(names(&findings(&*bench.storage).await), [""; 0]);

    let info = bench.raw(&["INFO", "memory"]).await.text();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let used: u64 = used.trim().parse().unwrap();
    bench
        .raw(&["CONFIG", "SET", "maxmemory", &(used * 10).to_string()])
        .await;
    assert_eq!(names(&findings(&*bench.storage).await), [""; 0]);
    // Settings of the memory change what is used by a little.
    bench
        .raw(&["CONFIG", "SET", "maxmemory", &(used * 10 / 9).to_string()])
        .await;
    let found = findings(&*bench.storage).await;
    assert_eq!(names(&found), ["memory_near_limit"]);
    let FindingKind::MemoryNearLimit { used: told, limit, .. } = found.findings[0].kind else {
        panic!("{found:?}")
    };
    assert!(told > used / 2 && limit == used * 10 / 9, "{told} of {limit}, {used}");
    bench.raw(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(names(&findings(&*bench.storage).await), [""; 0]);
}

/// The wall clock of this host counts, not the one that is corrected by Redis.
#[tokio::test]
async fn a_wrong_clock_of_this_host_is_found() {
    let server = RedisServer::start().await;
    for (by, severity) in [
        (0, None),
        (-20, Some(Severity::Warning)),
        (20, Some(Severity::Warning)),
        (600, Some(Severity::Critical)),
    ] {
        let clock = Clock::with_wall(move || Utc::now() + TimeDelta::seconds(by));
        let storage = connect(&server.url(), &clock, 1).await;
        let found = findings(&*storage).await;
        assert_eq!(found.findings.first().map(|finding| finding.severity), severity, "{by}");
        if let Some(Finding {
            kind: FindingKind::ClockSkew { ahead, within, .. },
            ..
        }) = found.findings.first()
        {
            let wrong = (*ahead + TimeDelta::seconds(by)).abs();
            assert!(
                wrong <= TimeDelta::from_std(*within).unwrap() + TimeDelta::milliseconds(1),
                "{by}: {ahead}"
            );
        }
    }
}

/// A user without INFO and TIME: nothing is known of the server, and the queues are judged.
#[tokio::test]
async fn a_user_who_may_ask_little_is_told_of_the_queues() {
    let mut bench = Bench::start().await;
    let rules = ["ACL", "SETUSER", "default", "-info", "-time"];
    bench.enqueue_ids(&["a"]).await;
    bench.advance(60);
    bench.raw(&rules).await;
    assert_eq!(names(&findings(&*bench.storage).await), ["no_consumer"]);
}

/// Returns how often the server has run each command since the statistics began, those in scripts too.
async fn commands(bench: &mut Bench) -> BTreeMap<String, u64> {
    let info = bench.raw(&["INFO", "commandstats"]).await.text();
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        // Those of this test.
        if name == "info" || name.starts_with("config") {
            return None;
        }
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(line).collect()
}

/// Makes pending, scheduled and retry tasks, a third each, and groups. Tasks that no call reaches have no hash.
async fn fill(bench: &mut Bench, tasks: usize, groups: usize) {
    const FILL: &str = "
        local prefix, now, msg = KEYS[1], tonumber(ARGV[3]), ARGV[4]
        local sets = { 'pending', 'scheduled', 'retry' }
        local ids = { {}, {}, {} }
        for i = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
          local kind = i % 3 + 1
          local id, state = string.format('id-%07d', i), sets[kind]
          if i < 3000 then
            redis.call('HSET', prefix .. 't:' .. id, 'msg', (string.gsub(msg, 'id%-0000000', id)), 'state', state,
              'pending_since', string.format('%d000000000', now - 7200))
          end
          local of = ids[kind]
          if kind > 1 then
            of[#of + 1] = now + 1000 + i
          end
          of[#of + 1] = id
        end
        redis.call('LPUSH', prefix .. 'pending', unpack(ids[1]))
        redis.call('ZADD', prefix .. 'scheduled', unpack(ids[2]))
        redis.call('ZADD', prefix .. 'retry', unpack(ids[3]))";
    const GROUPS: &str = "
        for i = 1, tonumber(ARGV[1]) do
          redis.call('SADD', KEYS[1] .. 'groups', 'g' .. i)
          redis.call('ZADD', KEYS[1] .. 'g:g' .. i, ARGV[2], 'x' .. i)
        end
        redis.call('SADD', 'asynq:queues', 'q')";
    let (prefix, now) = (key(""), bench.secs().to_string());
    let message = request("q", "id-0000000").encoded();
    for from in (0..tasks).step_by(6000) {
        let (from, to) = (from.to_string(), (from + 6000).min(tasks).to_string());
        let words: [&[u8]; 8] = [
            b"EVAL",
            FILL.as_bytes(),
            b"1",
            prefix.as_bytes(),
            from.as_bytes(),
            to.as_bytes(),
            now.as_bytes(),
            &message,
        ];
        bench.client.ok(&words).await;
    }
    bench
        .raw(&["EVAL", GROUPS, "1", &prefix, &groups.to_string(), &now])
        .await;
}

/// As many commands over a queue of a million tasks as over one of three thousand.
#[tokio::test]
async fn findings_cost_the_same_over_any_queue() {
    let mut costs = Vec::new();
    for (tasks, groups) in [(3_000, 100), (1_000_000, 2_000)] {
        let mut bench = Bench::start().await;
        fill(&mut bench, tasks, groups).await;
        // So that the server knows the scripts.
        let found = findings(&*bench.storage).await;
        assert_eq!(names(&found), ["no_consumer"]);
        assert_eq!(found.queues, 1);
        bench.raw(&["CONFIG", "RESETSTAT"]).await;
        findings(&*bench.storage).await;
        let spent = commands(&mut bench).await;
        // The numbers, and a sample of what waits for a retry.
        assert_eq!(spent["evalsha"], 2, "{spent:?}");
        // The queues, the servers, the trees, the schedulers, and the server itself.
        let outside = ["smembers", "zrangebyscore", "time", "sismember"].map(|name| spent[name]);
        assert_eq!(outside, [1, 3, 1, 1], "{spent:?}");
        let all: u64 = spent.values().sum();
        assert!(all < 1200, "{all}: {spent:?}");
        costs.push(all);
    }
    assert_eq!(costs[0], costs[1]);
}

/// A page, the numbers of a queue and each step of a scan cost as many commands over a million tasks as over three
/// thousand, also in the middle of the list and after a place was lost.
#[tokio::test]
async fn looks_cost_the_same_over_any_queue() {
    let mut costs = Vec::new();
    for tasks in [3_000, 1_000_000] {
        let mut bench = Bench::start().await;
        fill(&mut bench, tasks, 10).await;
        let (queue, pending) = (q(), ListFilter::State(TaskState::Pending));
        let storage = Arc::clone(&bench.storage);
        let mut spent = Vec::new();
        let mut place: Option<ScanPlace> = None;
        for look in 0..7 {
            bench.raw(&["CONFIG", "RESETSTAT"]).await;
            match look {
                // So that the server knows the scripts.
                0 | 2 => drop(storage.queue_info(&queue).await.unwrap()),
                1 => drop(
                    storage
                        .list_tasks(&queue, &pending, PageRequest::new(20, 30))
                        .await
                        .unwrap(),
                ),
                3 => drop(
                    storage
                        .list_tasks(&queue, &pending, PageRequest::new(20, 30))
                        .await
                        .unwrap(),
                ),
                _ => {
                    let step = storage.scan_tasks(&queue, &pending, place.as_ref(), ScanLimits::default());
                    let step = step.await.unwrap();
                    assert_eq!(step.tasks.len(), 200);
                    place = step.next;
                    if look == 5
                        && let Some(ScanPlace::Listed(place)) = &mut place
                    {
                        place.position = tasks as u64 / 6;
                    }
                }
            }
            spent.push(commands(&mut bench).await.values().sum::<u64>());
        }
        // A page of 30 and a step of 200 tasks: a few commands for each task.
        assert!(spent[3] < 30 * 4 && spent[5] < 200 * 4, "{spent:?}");
        costs.push(spent.split_off(2));
    }
    assert_eq!(costs[0][..4], costs[1][..4]);
    // A place that is far away is searched for, by a few commands more.
    assert!(costs[1][4] < costs[1][3] + 10, "{costs:?}");
}

/// A thousand queues: one script for each, as no sample could tell more. One that cannot be read is marked, and the others are judged.
#[tokio::test]
async fn findings_over_a_thousand_queues() {
    const FILL: &str = "
        for i = 1, 1000 do
          local prefix = string.format('asynq:{q%04d}:', i)
          redis.call('SADD', 'asynq:queues', string.format('q%04d', i))
          redis.call('LPUSH', prefix .. 'pending', 'a')
          redis.call('ZADD', prefix .. 'retry', ARGV[1], 'b')
        end
        redis.call('DEL', 'asynq:{q0500}:retry')
        redis.call('SET', 'asynq:{q0500}:retry', 'x')";
    let mut bench = Bench::start().await;
    let now = bench.secs().to_string();
    bench.raw(&["EVAL", FILL, "1", "asynq:queues", &now]).await;
    findings(&*bench.storage).await;
    bench.raw(&["CONFIG", "RESETSTAT"]).await;
    let found = findings(&*bench.storage).await;
    let spent = commands(&mut bench).await;
    assert_eq!((found.queues, found.left_out, found.findings.len()), (1000, 0, 1000));
    assert_eq!(
        found.iter().filter(|found| found.kind.name() == "no_consumer").count(),
        999
    );
    let last = found.findings.last().unwrap();
    let of = last.queue.as_ref().unwrap().as_str();
    assert_eq!((last.kind.name(), of), ("unreadable", "q0500"));
    assert_eq!(spent["evalsha"], 999 + 1, "{spent:?}");

    let some = FindingsOptions::new().max_queues(10).sample(0);
    bench.raw(&["CONFIG", "RESETSTAT"]).await;
    let (facts, left_out) = read_facts(&*bench.storage, &some).await.unwrap();
    assert_eq!((facts.queues.len(), left_out), (10, 990));
    assert_eq!(commands(&mut bench).await["evalsha"], 10);
}

/// Each master of a cluster has settings and a clock of its own.
#[cfg(feature = "cluster")]
#[tokio::test]
async fn each_master_of_a_cluster_is_judged() {
    use asynq_core::{Connector as _, Env};
    use asynq_testing::RedisCluster;

    let cluster = RedisCluster::start().await;
    let limit = Duration::from_secs(60);
    let to = asynq_redis::RedisConnectionType::cluster(cluster.urls()).unwrap();
    let to = to.connect_timeout(limit).wait_timeout(limit).node_timeout(limit);
    let clock = Clock::with_wall(|| Utc::now() + TimeDelta::seconds(20));
    let env = Env {
        clock,
        ..Env::default()
    };
    let storage: Arc<dyn Storage> = to.connect(env).await.unwrap();
    let mut clients = cluster.clients().await;
    clients[1]
        .ok(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"])
        .await;
    let found = findings(&*storage).await;
    assert_eq!(
        names(&found),
        ["eviction_policy", "clock_skew", "clock_skew", "clock_skew"]
    );
    let address = cluster.nodes()[1].address();
    match &found.findings[0].kind {
        FindingKind::EvictionPolicy { node, policy } => {
            assert_eq!(
                (node.as_deref(), policy.as_str()),
                (Some(address.as_str()), "volatile-ttl")
            );
        }
        other => panic!("{other:?}"),
    }
}
