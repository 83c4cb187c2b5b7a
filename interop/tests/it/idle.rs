//! Servers that have nothing to do leave Redis, and each other, in peace.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use asynq_testing::RedisServer;
use tokio::time::{Instant, timeout, timeout_at};

use crate::sides::{Side, process};

/// Long enough for a beat of each server (5 s) and five polls of Go's (1 s).
const WINDOW: Duration = Duration::from_secs(5);

/// No server that has just started is silent for so long; Go's is between two polls.
const LULL: Duration = Duration::from_millis(500);

/// The connections of the two sides: id and address, by whether the name is that of a Go program.
async fn connections(redis: &RedisServer, side: Side) -> BTreeMap<String, String> {
    let list = redis.client().await.ok(&["CLIENT", "LIST"]).await.text();
    let of_side = |line: &str| {
        let value = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
        let name = value("name=")?;
        let of = if name.starts_with("asynq-interop-") {
            Side::Go
        } else if name.starts_with("asynq") {
            Side::Rust
        } else {
            return None;
        };
        (of == side).then_some((value("id=")?.to_owned(), value("addr=")?.to_owned()))
    };
    list.lines().filter_map(of_side).collect()
}

/// The commands that are sent in a window after the bustle of the start, with the address of the sender. What scripts do is not sent.
async fn sent(redis: &RedisServer) -> Vec<(String, String)> {
    let mut monitor = redis.client().await;
    monitor.ok(&["MONITOR"]).await;
    // Servers load their scripts and look around when they start.
    while let Ok(line) = timeout(LULL, monitor.reply()).await {
        line.unwrap();
    }
    let end = Instant::now() + WINDOW;
    let mut sent = Vec::new();
    while let Ok(line) = timeout_at(end, monitor.reply()).await {
        // 1700000000.000000 [0 127.0.0.1:1234] "PING"
        let line = line.unwrap().text();
        let (sender, command) = line.split_once("] ").unwrap();
        let sender = sender.rsplit_once(' ').unwrap().1;
        sent.push((sender.to_owned(), command.chars().take(80).collect()));
    }
    sent
}

fn by<'c>(sent: &'c [(String, String)], connections: &BTreeMap<String, String>) -> Vec<&'c str> {
    let addresses: BTreeSet<_> = connections.values().collect();
    let sent = sent.iter().filter(|(sender, _)| addresses.contains(sender));
    sent.map(|(_, command)| command.as_str()).collect()
}

/// An idle Go server alone, and one that shares its Redis with an idle server of ours.
#[tokio::test]
async fn our_idle_server_is_quiet_and_disturbs_nobody() {
    let (private, shared) = tokio::join!(RedisServer::start(), RedisServer::start());
    let (alone, beside, ours) = tokio::join!(
        process(Side::Go, &private).start(),
        process(Side::Go, &shared).start(),
        process(Side::Rust, &shared).start(),
    );
    let connected = connections(&shared, Side::Go).await;
    let (sent_alone, sent_beside) = tokio::join!(sent(&private), sent(&shared));

    let by_us = by(&sent_beside, &connections(&shared, Side::Rust).await);
    assert!(!by_us.is_empty(), "it beats: {sent_beside:#?}");
    let a_second = by_us.len() as f64 / WINDOW.as_secs_f64();
    assert!(a_second <= 5.0, "{a_second} commands a second: {by_us:#?}");

    let still_connected = connections(&shared, Side::Go).await;
    assert!(
        connected
            .iter()
            .all(|(id, address)| still_connected.get(id) == Some(address)),
        "Go had to connect again: {connected:?}, {still_connected:?}"
    );
    let go_alone = by(&sent_alone, &connections(&private, Side::Go).await);
    let go_beside = by(&sent_beside, &still_connected);
    assert!(!go_alone.is_empty(), "Go polls: {sent_alone:#?}");
    // Beats and polls that fall on the edge of a window.
    let apart = go_beside.len().abs_diff(go_alone.len());
    assert!(apart <= 5, "Go alone: {go_alone:#?}, beside ours: {go_beside:#?}");
    for server in [alone, beside, ours] {
        server.shutdown().await;
    }
}
