//! A private cluster: three masters, no replicas.

use std::time::Duration;

use asynq_core::raw::RawState;
use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep};

use super::{Mode, RedisServer, RedisServerBuilder, START_LIMIT};
use crate::resp::Resp;

const NODES: u16 = 3;
/// Number of slots of a cluster.
const SLOTS: u16 = 16384;

/// A running cluster of three masters. Its servers are killed when it is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster without persistence and waits until each node serves all slots: about two
    /// seconds, which a node waits by itself.
    ///
    /// # Panics
    /// If a node does not come up, or they do not agree in time.
    pub async fn start() -> Self {
        Self::start_of(RedisServer::builder()).await
    }

    /// Starts a cluster of such nodes.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_of(node: RedisServerBuilder) -> Self {
        let node = RedisServerBuilder {
            mode: Mode::Node,
            ..node
        };
        let nodes = join_all((0..NODES).map(|_| node.clone().start())).await;
        let cluster = Self { nodes };
        cluster.join_nodes().await;
        cluster.agree().await;
        cluster
    }

    /// Starts a replica of the node at a place, and waits until it has its data and all nodes know it. Its role
    /// is changed with [`promote`](Self::promote); the password of a node is not known to it.
    ///
    /// # Panics
    /// If it does not come up, or the nodes do not agree in time.
    pub async fn start_replica(&self, of: usize) -> RedisServer {
        let replica = self.nodes[of].builder.clone().start().await;
        let mut client = replica.client().await;
        let port = self.nodes[of].port().to_string();
        client.ok(&["CLUSTER", "MEET", "127.0.0.1", &port]).await;
        let master = self.nodes[of].client().await.ok(&["CLUSTER", "MYID"]).await.text();
        let known = format!("cluster_known_nodes:{}", NODES + 1);
        let mut all = self.clients().await;
        until("a replica is known", async || {
            for client in all.iter_mut().chain([&mut client]) {
                if !client
                    .ok(&["CLUSTER", "INFO"])
                    .await
                    .text()
                    .lines()
                    .any(|line| line == known)
                {
                    return false;
                }
            }
            true
        })
        .await;
        client.ok(&["CLUSTER", "REPLICATE", &master]).await;
        until("a replica has the data", async || {
            let info = client.ok(&["INFO", "replication"]).await.text();
            info.lines().any(|line| line == "master_link_status:up")
        })
        .await;
        replica
    }

    /// Makes a replica the master of its slots, as if the others had voted for it.
    ///
    /// # Panics
    /// If it refuses.
    pub async fn promote(replica: &RedisServer) {
        replica.client().await.ok(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await;
    }

    /// The nodes, by the slots that they serve at first.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// `redis://127.0.0.1:port` of each node.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The place among [`nodes`](Self::nodes) of the node that served the key's slot at first.
    #[must_use]
    pub fn place_of(key: &[u8]) -> usize {
        let slot = Self::slot_of(key);
        let found = (0..NODES).position(|node| (first_slot(node)..first_slot(node + 1)).contains(&slot));
        found.unwrap_or_else(|| unreachable!("each slot has a node"))
    }

    /// The slot of a key: CRC16 (XMODEM) of its hash tag, if it has one, else of all of it.
    #[must_use]
    pub fn slot_of(key: &[u8]) -> u16 {
        let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
            let rest = &key[open + 1..];
            let close = rest.iter().position(|byte| *byte == b'}')?;
            (close > 0).then(|| &rest[..close])
        });
        let crc = tag.unwrap_or(key).iter().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
                if crc & 0x8000 == 0 {
                    crc << 1
                } else {
                    (crc << 1) ^ 0x1021
                }
            })
        });
        crc % SLOTS
    }

    /// A raw connection to each node.
    ///
    /// # Panics
    /// If one does not answer.
    pub async fn clients(&self) -> Vec<Resp> {
        join_all(self.nodes.iter().map(RedisServer::client)).await
    }

    /// All keys of all nodes.
    ///
    /// # Panics
    /// If a node does not answer.
    pub async fn raw_state(&self) -> RawState {
        let mut state = RawState::new();
        for mut client in self.clients().await {
            state.extend(client.raw_state().await);
        }
        state
    }

    /// Deletes all keys.
    ///
    /// # Panics
    /// If a node does not answer.
    pub async fn clear(&self) {
        for mut client in self.clients().await {
            client.ok(&["FLUSHALL"]).await;
        }
    }

    /// Gives a slot from one node to another, and says so to all. The slot must be empty.
    ///
    /// # Panics
    /// If a node refuses.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let mut clients = self.clients().await;
        let slot = slot.to_string();
        let before = clients[from].ok(&["CLUSTER", "MYID"]).await.text();
        let after = clients[to].ok(&["CLUSTER", "MYID"]).await.text();
        // So the new owner begins an epoch, and no late message of the old one counts.
        clients[to]
            .ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &before])
            .await;
        clients.swap(0, to);
        for client in &mut clients {
            client.ok(&["CLUSTER", "SETSLOT", &slot, "NODE", &after]).await;
        }
    }

    async fn join_nodes(&self) {
        let mut clients = self.clients().await;
        for (place, client) in (0..NODES).zip(&mut clients) {
            // One by one: a range is known to Redis 7 only.
            let slots = (first_slot(place)..first_slot(place + 1)).map(|slot| slot.to_string());
            let words: Vec<String> = ["CLUSTER", "ADDSLOTS"]
                .map(String::from)
                .into_iter()
                .chain(slots)
                .collect();
            assert_eq!(client.cmd_bytes(&words).await.error(), None, "the slots of a node");
            client
                .ok(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()])
                .await;
        }
        for node in &self.nodes[1..] {
            let port = node.port().to_string();
            clients[0].ok(&["CLUSTER", "MEET", "127.0.0.1", &port]).await;
        }
    }

    /// Waits until each node knows the others and serves.
    async fn agree(&self) {
        let deadline = Instant::now() + START_LIMIT;
        let mut clients = self.clients().await;
        loop {
            let asked = clients.iter_mut().map(async |client| {
                let info = client.try_cmd(&["CLUSTER", "INFO"]).await?.text();
                let says = |line: &str| info.lines().any(|found| found == line);
                // Without full coverage a node is ok before it knows which node serves what.
                let facts = [
                    "cluster_state:ok".to_owned(),
                    format!("cluster_known_nodes:{NODES}"),
                    format!("cluster_slots_ok:{SLOTS}"),
                ];
                std::io::Result::Ok(facts.iter().all(|fact| says(fact)))
            });
            let answers = try_join_all(asked).await;
            match answers {
                Ok(ready) if ready.iter().all(|ready| *ready) => return,
                Ok(_) if Instant::now() < deadline => {}
                other => {
                    let logs: Vec<String> = self.nodes.iter().map(RedisServer::log).collect();
                    panic!(
                        "the test cluster does not agree ({other:?}); its nodes said:\n{}",
                        logs.join("\n")
                    );
                }
            }
            // As in the launcher: nobody tells when foreign processes are ready.
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Asks until the answer is yes.
async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + START_LIMIT;
    while !yes().await {
        assert!(Instant::now() < deadline, "the test cluster waits in vain: {what}");
        // As in the launcher: nobody tells when foreign processes are ready.
        sleep(Duration::from_millis(10)).await;
    }
}

/// The first slot of a node.
fn first_slot(node: u16) -> u16 {
    u16::try_from(u32::from(SLOTS) * u32::from(node) / u32::from(NODES)).unwrap_or(SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // layout.md#hash-slots
        for (key, slot) in [
            ("default", 5718),
            ("critical", 8090),
            ("asynq:{low}:pending", 15214),
            ("asynq:{q}:t:a{b}", 11958),
            ("asynq:queues", 3477),
            ("asynq:servers", 15197),
        ] {
            assert_eq!(RedisCluster::slot_of(key.as_bytes()), slot, "{key}");
        }
        let slot = |key: &[u8]| RedisCluster::slot_of(key);
        assert_ne!(slot(b"a{}b"), slot(b""), "an empty tag is none");
    }

    #[tokio::test]
    async fn three_masters_share_the_slots_and_die_with_their_value() {
        let cluster = RedisCluster::start().await;
        let mut clients = cluster.clients().await;
        for queue in ["a", "b", "c", "default", "critical", "low"] {
            let key = format!("asynq:{{{queue}}}:x");
            let place = RedisCluster::place_of(key.as_bytes());
            for (node, client) in clients.iter_mut().enumerate() {
                let answer = client.cmd(&["SET", &key, "v"]).await;
                assert_eq!(answer.error().is_none(), node == place, "{key}: {answer:?}");
            }
        }
        cluster.clear().await;
        for client in &mut clients {
            assert!(client.keys().await.is_empty());
        }
        let slot = RedisCluster::slot_of(b"moved");
        let from = RedisCluster::place_of(b"moved");
        let to = (from + 1) % 3;
        cluster.move_slot(slot, from, to).await;
        clients[to].ok(&["SET", "moved", "v"]).await;
        let addresses: Vec<_> = cluster.nodes().iter().map(RedisServer::address).collect();
        drop(cluster);
        for address in addresses {
            assert!(Resp::connect(&address).await.is_err());
        }
    }
}
