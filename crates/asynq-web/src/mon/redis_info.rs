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
use crate::{app::App, cluster::Nodes, guard::Caller};

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
            let nodes = nodes
                .of(keyslot)
                .map(|shard| shard.nodes.iter().map(|node| node.address.clone()).collect());
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

#[cfg(test)]
mod tests {
    use super::*;

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
