//! The state of Redis, as it tells it.

use std::collections::BTreeMap;

use asynq::names::QueueName;
use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;

use super::{
    answer::json,
    fault::{Fault, Result},
    queues,
};
use crate::{app::App, guard::Caller};

#[derive(Serialize)]
struct RedisAnswer {
    address: String,
    info: BTreeMap<String, String>,
    raw_info: String,
    cluster: bool,
    raw_cluster_nodes: String,
    queue_locations: Option<Vec<Location>>,
}

#[derive(Serialize)]
struct Location {
    queue: QueueName,
    keyslot: u16,
    nodes: Option<Vec<String>>,
}

pub(super) async fn show(State(app): State<App>, caller: Caller) -> Result<Response> {
    let Some(redis) = &app.redis else {
        return Err(Fault::new(StatusCode::NOT_FOUND, "the storage is not a Redis server"));
    };
    let failed = |error| Fault::other("", error);
    let raw_info = redis.info_text().await.map_err(failed)?;
    let cluster = redis.is_cluster();
    let (mut raw_cluster_nodes, mut queue_locations) = (String::new(), None);
    if cluster {
        raw_cluster_nodes = redis.cluster_nodes_text().await.map_err(failed)?;
        let nodes = Nodes::parse(&raw_cluster_nodes);
        let mut locations = Vec::new();
        for queue in queues::seen(&app, &caller).await? {
            let slot = app.storage.cluster_key_slot(&queue).await;
            let keyslot = slot.map_err(|error| failed(error.into()))?;
            let nodes = nodes.of(keyslot);
            locations.push(Location { queue, keyslot, nodes });
        }
        queue_locations = Some(locations).filter(|locations| !locations.is_empty());
    }
    json(&RedisAnswer {
        address: address(&redis.describe()),
        info: lines(&raw_info),
        raw_info,
        cluster,
        raw_cluster_nodes,
        queue_locations,
    })
}

/// The host and port of each URI of a list.
fn address(uris: &str) -> String {
    let address = |uri: &str| {
        let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        match rest.starts_with('/') {
            true => rest.split('?').next().unwrap_or_default().to_owned(),
            false => rest.split('/').next().unwrap_or_default().to_owned(),
        }
    };
    uris.split(',').map(address).collect::<Vec<_>>().join(",")
}

/// The lines with one colon, as asynqmon reads them.
fn lines(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split("\r\n").filter_map(|line| line.split_once(':'));
    pairs
        .filter(|(_, value)| !value.contains(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The nodes of a cluster, by their slots.
#[derive(Debug, Default)]
struct Nodes(Vec<Shard>);

/// A master with its replicas.
#[derive(Debug)]
struct Shard {
    /// Ranges of slots.
    slots: Vec<(u16, u16)>,
    /// Their addresses, that of the master first.
    nodes: Vec<String>,
}

impl Nodes {
    /// Reads the answer to `CLUSTER NODES`: `id host:port@bus flags master … slots…`.
    fn parse(text: &str) -> Self {
        let rows = || text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let address = |row: &[&str]| {
            row.get(1)
                .and_then(|at| at.split(['@', ',']).next())
                .unwrap_or_default()
                .to_owned()
        };
        let masters = rows().filter(|row| row.len() > 8);
        let shards = masters.map(|master| {
            let slots = master[8..].iter().filter_map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some((first.parse().ok()?, last.parse().ok()?))
            });
            let replicas = rows().filter(|row| row.get(3) == master.first());
            let mut nodes = vec![address(&master)];
            nodes.extend(replicas.map(|replica| address(&replica)));
            Shard {
                slots: slots.collect(),
                nodes,
            }
        });
        Self(shards.collect())
    }

    /// The master of a slot, and its replicas.
    fn of(&self, slot: u16) -> Option<Vec<String>> {
        let has = |shard: &&Shard| shard.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        self.0.iter().find(has).map(|shard| shard.nodes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_found_by_their_slots() {
        let text = "aa 127.0.0.1:1@11,host myself,master - 0 0 1 connected 0-99 200\n\
                    bb :2@12 master - 0 0 2 connected 100-199 [201->-aa]\n\
                    cc 127.0.0.1:3@13 slave aa 0 0 1 connected\n";
        let nodes = Nodes::parse(text);
        let of = |slot| nodes.of(slot).unwrap_or_default().join(" ");
        assert_eq!(of(0), "127.0.0.1:1 127.0.0.1:3");
        assert_eq!(of(200), "127.0.0.1:1 127.0.0.1:3");
        assert_eq!(of(199), ":2");
        assert_eq!(of(300), "");
        assert_eq!(Nodes::parse("\n\nrubbish").of(0), None);
    }

    #[test]
    fn addresses_have_no_scheme_and_no_database() {
        for (uri, expected) in [
            ("redis://127.0.0.1:6379/0", "127.0.0.1:6379"),
            ("redis://[::1]:1/0", "[::1]:1"),
            ("redis-socket:///tmp/s?db=0", "/tmp/s"),
            ("redis://a:1/0,redis://b:2/0", "a:1,b:2"),
        ] {
            assert_eq!(address(uri), expected);
        }
    }

    #[test]
    fn only_lines_with_one_colon_count() {
        let info = lines("# Server\r\nredis_version:7.0.15\r\nempty:\r\nclock:1:2\r\n");
        let expected = [("empty", ""), ("redis_version", "7.0.15")];
        assert_eq!(info, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    }
}
