//! Times and leases when the clock of this host was wrong, or Redis's own jumped. In real time, since the
//! server's clock counts.

use asynq_testing::request::batch_of;
use std::{sync::Arc, time::Duration};

use asynq_core::{
    Clock, Storage,
    broker::{LeaseUntil, LeasedTask, RECOVER_GRACE, Want},
};
use asynq_testing::{RedisServer, Resp, request};
use chrono::{TimeDelta, Utc};

use crate::support::{connect, ids, key, q};

/// Long enough for what is waited for, whatever the machine does besides.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    storage: Arc<dyn Storage>,
    clock: Clock,
    client: Resp,
    server: RedisServer,
}

impl World {
    async fn start() -> Self {
        let server = RedisServer::start().await;
        let clock = Clock::system();
        let storage = connect(&server.url(), &clock, 1).await;
        Self {
            storage,
            clock,
            client: server.client().await,
            server,
        }
    }

    /// As after a suspend, in which monotonic time stood still, or before the first measurement.
    fn set_wrong(&self, by: i64) {
        let wrong = Utc::now() + TimeDelta::seconds(by);
        self.clock.correct(wrong, self.clock.steady());
    }

    async fn take(&self) -> (Vec<LeasedTask>, bool) {
        let want = vec![Want { queue: q(), max: 1 }];
        let answer = self.storage.exchange(&self.storage.begin(), &[], &want).await;
        assert!(answer.failed.is_empty(), "{:?}", answer.failed);
        (answer.leased, !answer.exhausted.is_empty())
    }

    /// Returns how long the lease of a task still is, by this host, in seconds.
    async fn lease(&mut self, id: &str) -> i64 {
        let score = self.client.ok(&["ZSCORE", &key("lease"), id]).await;
        score.text().parse::<i64>().unwrap() - Utc::now().timestamp()
    }
}

#[tokio::test]
async fn a_take_by_a_wrong_clock_takes_nothing_and_mends_the_clock() {
    for by in [-600, -65, 65, 600] {
        let mut world = World::start().await;
        let task = request::request("q", "a").build();
        world.storage.enqueue(&batch_of([task])).await.remove(0).unwrap();
        world.set_wrong(by);
        let (taken, exhausted) = world.take().await;
        assert!(taken.is_empty() && !exhausted, "{by}: it is still there");
        let (taken, _) = world.take().await;
        assert_eq!(ids(&taken), ["a"], "{by}");
        assert!((15..=31).contains(&world.lease("a").await), "{by}");
    }
}

#[tokio::test]
async fn leases_are_extended_by_the_time_of_the_server() {
    for by in [-600, -65, 65, 600] {
        let mut world = World::start().await;
        let task = request::request("q", "a").build();
        world.storage.enqueue(&batch_of([task])).await.remove(0).unwrap();
        let taken = world.take().await.0.remove(0);
        let before = world.lease("a").await + Utc::now().timestamp() - 20;
        world
            .client
            .ok(&["ZADD", &key("lease"), &before.to_string(), "a"])
            .await;
        world.set_wrong(by);
        let answer = world.storage.extend_leases(vec![taken.lease.clone()]).await.remove(0);
        let LeaseUntil(until) = answer.unwrap();
        assert!((15..=31).contains(&(until - Utc::now().timestamp())), "{by}");
        assert!((15..=31).contains(&world.lease("a").await), "{by}");
    }
}

#[tokio::test]
async fn nothing_is_taken_over_moved_or_deleted_by_a_wrong_clock() {
    let mut world = World::start().await;
    let later = request::request("q", "later").at(Utc::now() + TimeDelta::seconds(50));
    let batch = vec![request::request("q", "a").build(), later.build()];
    for answer in world.storage.enqueue(&batch_of(batch)).await {
        answer.unwrap();
    }
    assert_eq!(ids(&world.take().await.0), ["a"]);
    let set = key("g:g:set");
    let until = (Utc::now().timestamp() + 50).to_string();
    world.client.ok(&["ZADD", &set, "1", "a"]).await;
    world.client.ok(&["ZADD", &key("aggregation_sets"), &until, &set]).await;
    world.client.ok(&["ZADD", &key("completed"), &until, "later"]).await;
    for by in [65, 600] {
        // A connection of its own for each, since one measurement is good for a second.
        let wrong = async || {
            let clock = Clock::system();
            let storage = connect(&world.server.url(), &clock, 2).await;
            clock.correct(Utc::now() + TimeDelta::seconds(by), clock.steady());
            storage
        };
        let found = wrong().await.expired(&q(), RECOVER_GRACE, 10).await.unwrap();
        assert!(found.tasks.is_empty(), "{by}");
        assert_eq!(wrong().await.forward(&q(), 10).await.unwrap().moved, 0, "{by}");
        assert_eq!(wrong().await.delete_expired(&q(), 10).await.unwrap(), 0, "{by}");
        assert_eq!(wrong().await.reclaim_aggregation_sets(&q()).await.unwrap(), 0, "{by}");
    }
}

/// Living owners wrote their leases by the time before, and extend them by the new one.
#[tokio::test]
async fn nothing_is_taken_over_soon_after_a_jump_of_the_servers_time() {
    let mut world = World::start().await;
    let task = request::request("q", "a").build();
    world.storage.enqueue(&batch_of([task])).await.remove(0).unwrap();
    assert_eq!(ids(&world.take().await.0), ["a"]);
    let dead = (Utc::now().timestamp() - 65).to_string();
    world.client.ok(&["ZADD", &key("lease"), &dead, "a"]).await;
    let expired = async || {
        world
            .storage
            .expired(&q(), RECOVER_GRACE, 10)
            .await
            .unwrap()
            .tasks
            .len()
    };
    assert_eq!(expired().await, 1, "long dead");
    // As seen from here, the server is 65 s behind and then jumps to the right time.
    world.set_wrong(-65);
    let jumped = async {
        loop {
            let found = expired().await;
            let right = world.clock.now() > Utc::now() - TimeDelta::seconds(30);
            match found {
                0 if right => return,
                0 => tokio::task::yield_now().await,
                // The machine was so slow that the jump was not seen.
                _ => world.set_wrong(-65),
            }
        }
    };
    tokio::time::timeout(PATIENCE, jumped).await.unwrap();
    assert_eq!(expired().await, 0, "it might be alive");
    assert_eq!(world.storage.reclaim_aggregation_sets(&q()).await.unwrap(), 0);
}
