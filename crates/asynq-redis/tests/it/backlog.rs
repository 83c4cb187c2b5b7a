//! Upkeep costs the same however much is waiting, and still finds what is damaged.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use asynq_core::{Storage, broker::RECOVER_GRACE};
use asynq_testing::request::request;

use crate::support::{Bench, DONE, connect, key, q, settlement};

/// Number of entries that the recoverer looks at in one pass.
const PASS: u32 = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Makes `count` pending tasks, `id-0000000` and so on: the first one runs next. Each is pending since
/// a millisecond later than the one before, the last one since now.
pub(crate) async fn fill(bench: &mut Bench, count: usize) {
    const FILL: &str = "
        local function task(i)
          return string.format('id-%07d', i)
        end
        for i = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
          local id = task(i)
          local since = string.format('%d%06d000000', ARGV[3], i)
          redis.call('HSET', KEYS[1] .. 't:' .. id, 'msg', (string.gsub(ARGV[4], 'id%-0000000', id)),
            'state', 'pending', 'pending_since', since)
          redis.call('LPUSH', KEYS[1] .. 'pending', id)
        end
        redis.call('SADD', 'asynq:queues', 'q')";
    let message = request("q", "id-0000000").encoded();
    let since = (bench.secs() - 7200).to_string();
    // Seconds since the epoch, then milliseconds of the task's place.
    let since = &since[..since.len() - 3];
    for from in (0..count).step_by(20_000) {
        let (prefix, to) = (key(""), (from + 20_000).min(count).to_string());
        let from = from.to_string();
        let words: [&[u8]; 8] = [
            b"EVAL",
            FILL.as_bytes(),
            b"1",
            prefix.as_bytes(),
            from.as_bytes(),
            to.as_bytes(),
            since.as_bytes(),
            &message,
        ];
        bench.client.ok(&words).await;
    }
}

/// Microseconds that the server has spent in commands which came from outside, and how many of some.
async fn spent(bench: &mut Bench) -> (u64, u64) {
    let info = bench.raw(&["INFO", "commandstats"]).await.text();
    let field = |line: &str, name: &str| -> u64 {
        let at = line.split([',', ':']).find_map(|field| field.strip_prefix(name));
        at.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let outside = ["evalsha", "eval", "get", "set", "del", "scan", "sadd", "smembers"];
    let lines = info.lines().filter(|line| {
        let name = line.strip_prefix("cmdstat_").and_then(|rest| rest.split_once(':'));
        name.is_some_and(|(name, _)| outside.contains(&name))
    });
    let (mut micros, mut calls) = (0, 0);
    for line in lines {
        micros += field(line, "usec=");
        if line.starts_with("cmdstat_scan:") || line.starts_with("cmdstat_evalsha:") {
            calls += field(line, "calls=");
        }
    }
    (micros, calls)
}

async fn reset(bench: &mut Bench) {
    bench.raw(&["CONFIG", "RESETSTAT"]).await;
}

/// A look at a healthy queue needs no look anywhere else, and as many calls over a long queue as over a
/// short one.
#[tokio::test]
async fn a_look_costs_the_same_over_any_backlog() {
    for count in [15_000, 150_000] {
        let mut bench = Bench::start().await;
        fill(&mut bench, count).await;
        bench.storage.heal(&q(), PASS).await.unwrap();
        // Five times at most: a busy machine may disturb some.
        let mut costs = Vec::new();
        loop {
            reset(&mut bench).await;
            assert!(bench.storage.heal(&q(), PASS).await.unwrap().is_empty());
            let (micros, calls) = spent(&mut bench).await;
            // Forty parts, each with its SCAN.
            assert!(calls <= 100, "{calls}");
            let yardstick = bench.yardstick().await;
            costs.push((micros, yardstick));
            if micros < 30 * yardstick {
                break;
            }
            assert!(costs.len() < 5, "{count} tasks: {costs:?}");
        }
    }
}

/// A long list of pending tasks is not searched for each of them, and neither are the keys for what is not found there
/// (a thousand tasks are under way besides): the same commands over 9 thousand as over 12 thousand.
#[tokio::test]
async fn a_look_beside_a_drain_scans_its_own_part_of_the_keys_alone() {
    for count in [9_000, 12_000] {
        let mut bench = Bench::start().await;
        fill(&mut bench, count).await;
        for _ in 0..6 {
            assert_eq!(bench.take(200).await.len(), 200);
        }
        // So that the server knows the scripts.
        bench.storage.heal(&q(), 1).await.unwrap();
        reset(&mut bench).await;
        assert!(bench.storage.heal(&q(), PASS).await.unwrap().is_empty());
        let (_, calls) = spent(&mut bench).await;
        // Forty parts, each with its SCAN; five of active, four sorted sets.
        assert!(calls <= 89, "{count} tasks: {calls}");
    }
}

/// Twenty servers with a backlog of 200 thousand tasks, through a minute of upkeep.
#[tokio::test]
async fn the_upkeep_of_a_fleet_takes_less_than_a_hundredth_of_a_core() {
    let mut bench = Bench::start().await;
    fill(&mut bench, 200_000).await;
    let mut fleet: Vec<Arc<dyn Storage>> = Vec::new();
    for seed in 0..20 {
        fleet.push(connect(&bench.server.url(), &bench.clock, 100 + seed).await);
    }
    reset(&mut bench).await;
    let mut healers = 0;
    for server in &fleet {
        // The forwarder's safety poll, the janitor, then the recoverer, by the intervals of the defaults.
        for _ in 0..12 {
            server.forward(&q(), 100).await.unwrap();
        }
        for _ in 0..8 {
            server.delete_expired(&q(), 100).await.unwrap();
        }
        server.expired(&q(), RECOVER_GRACE, 100).await.unwrap();
        server.reclaim_aggregation_sets(&q()).await.unwrap();
        if server.claim_heal(&q(), MINUTE).await.unwrap() {
            healers += 1;
            assert!(server.heal(&q(), PASS).await.unwrap().is_empty());
        }
    }
    assert_eq!(healers, 1);
    let (micros, calls) = spent(&mut bench).await;
    let yardstick = bench.yardstick().await;
    assert!(micros < 150 * yardstick, "{micros} us, {yardstick} us, {calls} calls");
}

/// Passes until the walk over the keys has come round.
async fn heal_all(bench: &Bench, keys: u32) -> BTreeSet<String> {
    let mut relisted = BTreeSet::new();
    for _ in 0..2 + keys / PASS {
        let healed = bench.storage.heal(&q(), PASS).await.unwrap();
        assert!(healed.poisoned.is_empty(), "{healed:?}");
        for id in healed.relisted {
            assert!(relisted.insert(id.as_str().to_owned()), "{id} twice");
        }
    }
    relisted
}

/// A task that stands nowhere is put back though the backlog is long: one round over the keys after
/// its turn has passed, and not before.
#[tokio::test]
async fn a_lost_task_is_found_in_a_long_backlog() {
    let mut bench = Bench::start().await;
    fill(&mut bench, 30_000).await;
    // Lost: two that should have run before the others, one from the middle, one that was running, one
    // that waited for its retry. Not lost: those that Go's servers gave back.
    for lost in ["id-0000000", "id-0000001", "id-0029000"] {
        bench.raw(&["LREM", &key("pending"), "1", lost]).await;
    }
    for (name, state) in [("running", "active"), ("failed", "retry")] {
        bench
            .raw(&["HSET", &key(&format!("t:{name}")), "msg", "m", "state", state])
            .await;
    }
    for back in ["back-1", "back-2"] {
        bench
            .raw(&["HSET", &key(&format!("t:{back}")), "msg", "m", "state", "pending"])
            .await;
        bench.raw(&["RPUSH", &key("pending"), back]).await;
    }
    let early = (bench.secs() - 100_000).to_string() + "000000000";
    for lost in ["id-0000000", "id-0000001"] {
        bench
            .raw(&["HSET", &key(&format!("t:{lost}")), "pending_since", &early])
            .await;
    }
    let expected = ["failed", "id-0000000", "id-0000001", "running"].map(str::to_owned);
    assert_eq!(heal_all(&bench, 30_000).await, BTreeSet::from(expected));
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 30_001);
    for (container, id) in [("pending", "id-0000000"), ("active", "running")] {
        assert!(bench.raw(&["LPOS", &key(container), id]).await.int() >= 0);
    }
    // The third one is found when those that are next have come later.
    const RENEW: &str = "
        for _, id in ipairs(redis.call('LRANGE', KEYS[1] .. 'pending', 0, -1)) do
          redis.call('HSET', KEYS[1] .. 't:' .. id, 'pending_since', ARGV[1])
        end";
    let now = bench.secs().to_string() + "000000000";
    bench.raw(&["EVAL", RENEW, "1", &key(""), &now]).await;
    assert_eq!(
        heal_all(&bench, 30_000).await,
        BTreeSet::from(["id-0029000".to_owned()])
    );
    assert_eq!(
        bench
            .raw(&["LPOS", &key("pending"), "id-0029000", "COUNT", "0"])
            .await
            .array()
            .len(),
        1
    );
}

/// Tasks come and go while the list is searched in parts: none is put back that stands in it.
#[tokio::test]
async fn what_moves_while_it_is_searched_for_is_not_put_back() {
    let mut bench = Bench::start().await;
    fill(&mut bench, 20_000).await;
    // All of them seem to be overtaken.
    let late = (bench.secs() + 100_000).to_string() + "000000000";
    for n in 0..300 {
        bench
            .raw(&["HSET", &key(&format!("t:id-{n:07}")), "pending_since", &late])
            .await;
    }
    bench
        .raw(&[
            "HSET",
            &key("t:lost"),
            "msg",
            "m",
            "state",
            "pending",
            "pending_since",
            "7",
        ])
        .await;
    let traffic = async {
        for n in 0..200 {
            bench.enqueue_ids(&[&format!("new-{n}")]).await;
            let taken = bench.take(1).await;
            bench.exchange(vec![settlement(&taken[0], DONE)], 0).await;
        }
    };
    let ((), relisted) = tokio::join!(traffic, heal_all(&bench, 20_000));
    assert_eq!(relisted.into_iter().collect::<Vec<_>>(), ["lost"]);
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 20_001);
    let listed = bench.raw(&["LRANGE", &key("pending"), "0", "-1"]).await.array();
    let listed: BTreeSet<_> = listed.iter().map(asynq_testing::RespValue::text).collect();
    assert_eq!(listed.len(), 20_001);
}

/// Another server goes on where one has ended, so that all keys are come to.
#[tokio::test]
async fn a_look_goes_on_where_another_servers_ended() {
    let mut bench = Bench::start().await;
    fill(&mut bench, 5000).await;
    bench.raw(&["HSET", &key("t:lost"), "msg", "m", "state", "retry"]).await;
    let mut found = 0;
    for seed in 0..12 {
        let server = connect(&bench.server.url(), &bench.clock, 100 + seed).await;
        found += server.heal(&q(), 500).await.unwrap().relisted.len();
    }
    assert_eq!(found, 1);
    // A place that cannot be read is the start.
    for place in ["nonsense", "1 2", "9999999 9999999 7"] {
        bench.raw(&["SET", &key("x:heal"), place]).await;
        assert!(bench.storage.heal(&q(), PASS).await.unwrap().is_empty());
    }
    assert_eq!(
        bench.raw(&["ZSCORE", &key("retry"), "lost"]).await.text(),
        bench.secs().to_string()
    );
}
