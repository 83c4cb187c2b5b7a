//! A private master with one sentinel.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Mode, RedisServer, RedisServerBuilder, START_LIMIT};

/// A running master and the sentinel that watches it. Both are killed when it is dropped.
#[derive(Debug)]
pub struct RedisSentinel {
    sentinel: RedisServer,
    master: RedisServer,
    replica: Option<RedisServer>,
}

impl RedisSentinel {
    /// The sentinel's name of the master.
    pub const MASTER: &'static str = "asynq-test";

    /// Starts both, without passwords, and waits until the sentinel knows the master.
    ///
    /// # Panics
    /// If one does not come up.
    pub async fn start() -> Self {
        Self::start_of(RedisServer::builder(), None).await
    }

    /// Starts both; clients of the sentinel need `password`, those of the master what it says.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_of(master: RedisServerBuilder, password: Option<&str>) -> Self {
        let mut sentinel = RedisServerBuilder {
            mode: Mode::Sentinel,
            ..RedisServer::builder()
        };
        sentinel.password = password.map(str::to_owned);
        let (master, sentinel) = futures::future::join(master.start(), sentinel.start()).await;
        let both = Self {
            sentinel,
            master,
            replica: None,
        };
        both.monitor(&both.master).await;
        both
    }

    /// Starts a master with a replica, and a sentinel that puts the replica in its place once the master has
    /// been silent for so long, 100 ms or more; it takes a few seconds longer than that.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_replicated(down_after: Duration) -> Self {
        let master = RedisServer::start().await;
        let port = master.port().to_string();
        let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]).await;
        let mut client = replica.client().await;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let facts = client.ok(&["INFO", "replication"]).await.text();
            if facts.contains("master_link_status:up") {
                break;
            }
            assert!(Instant::now() < deadline, "the replica does not follow: {facts}");
            sleep(Duration::from_millis(10)).await;
        }
        let builder = RedisServerBuilder {
            mode: Mode::Sentinel,
            ..RedisServer::builder()
        };
        let all = Self {
            sentinel: builder.start().await,
            master,
            replica: Some(replica),
        };
        all.monitor(&all.master).await;
        let mut client = all.sentinel.client().await;
        let down_after = down_after.as_millis().to_string();
        let set = ["SENTINEL", "SET", Self::MASTER, "down-after-milliseconds", &down_after];
        client.ok(&set).await;
        loop {
            let replicas = client.ok(&["SENTINEL", "REPLICAS", Self::MASTER]).await.array();
            if !replicas.is_empty() {
                return all;
            }
            assert!(Instant::now() < deadline, "the sentinel does not find the replica");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The replica that takes over.
    ///
    /// # Panics
    /// If this was not [started replicated](Self::start_replicated).
    #[must_use]
    pub fn replica(&self) -> &RedisServer {
        self.replica
            .as_ref()
            .unwrap_or_else(|| panic!("the master was started without a replica"))
    }

    /// Waits until the sentinel has changed the master.
    ///
    /// # Panics
    /// If it does not within a minute.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn switched(&self) {
        let mut client = self.sentinel.client().await;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let asked = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::MASTER];
            let port = client.ok(&asked).await.array()[1].text();
            if port != self.master.port().to_string() {
                return;
            }
            assert!(Instant::now() < deadline, "the sentinel does not change the master");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The server that was the master at first.
    #[must_use]
    pub fn master(&self) -> &RedisServer {
        &self.master
    }

    /// The sentinel.
    #[must_use]
    pub fn sentinel(&self) -> &RedisServer {
        &self.sentinel
    }

    /// The master and the sentinel, each on its own.
    #[must_use]
    pub fn into_parts(self) -> (RedisServer, RedisServer) {
        (self.master, self.sentinel)
    }

    /// Lets the sentinel call another server the master, as after a failover. One with a password must
    /// have the password of the first one.
    ///
    /// # Panics
    /// If the sentinel refuses.
    pub async fn promote(&self, server: &RedisServer) {
        let mut client = self.sentinel.client().await;
        client.ok(&["SENTINEL", "REMOVE", Self::MASTER]).await;
        self.monitor(server).await;
    }

    async fn monitor(&self, server: &RedisServer) {
        let mut client = self.sentinel.client().await;
        let port = server.port().to_string();
        client
            .ok(&["SENTINEL", "MONITOR", Self::MASTER, "127.0.0.1", &port, "1"])
            .await;
        if let Some(password) = &server.builder.password {
            client
                .ok(&["SENTINEL", "SET", Self::MASTER, "auth-pass", password])
                .await;
        }
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let facts = client.ok(&["SENTINEL", "MASTER", Self::MASTER]).await.array();
            let words: Vec<String> = facts.iter().map(|fact| fact.text()).collect();
            let flags = words.windows(2).find(|pair| pair[0] == "flags").map(|pair| &pair[1]);
            if flags.is_some_and(|flags| flags == "master") {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the sentinel does not reach the master: {words:?}"
            );
            // As in the launcher: nobody tells when a foreign process is ready.
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn master_of(both: &RedisSentinel) -> i64 {
        let mut client = both.sentinel().client().await;
        let address = client
            .ok(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", RedisSentinel::MASTER])
            .await
            .array();
        address[1].int()
    }

    #[tokio::test]
    async fn the_sentinel_knows_its_master() {
        let both = RedisSentinel::start_of(RedisServer::builder().password("m"), Some("s")).await;
        assert_eq!(master_of(&both).await, i64::from(both.master().port()));
        let other = RedisServer::builder().password("m").start().await;
        both.promote(&other).await;
        assert_eq!(master_of(&both).await, i64::from(other.port()));
    }
}
