//! The page of Redis: memory, clients, throughput, persistence, and the nodes of a cluster.

mod cluster;
mod info;

use axum::{extract::State, response::Response};
use chrono::DateTime;
use maud::{Markup, html};
use serde::Deserialize;

use self::info::{Info, bytes, limit, number, text, warnings};
use super::{
    parts::{
        chart::meter,
        format,
        paged::Paged,
        text::{Tone, badge, command, dash, empty, figure, notice, time},
    },
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    cluster::Nodes,
    extract::Query,
    problem::Result,
    v1::servers::{self, RedisNode},
};

/// Queues of a page whose slots are shown.
const QUEUES: usize = 50;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    page: Option<usize>,
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response> {
    let Some(storage) = &view.app.redis else {
        let content = html! {
            (page_head(&html! { "Redis" }, &html! {}, &html! {}))
            (empty("The tasks are not in Redis", "They are in the memory of this process, or in another storage, which tells nothing about itself here."))
        };
        return Ok(view.page(Nav::Redis, "Redis", &content));
    };
    let redis = servers::redis(State(view.app.clone()), view.caller.clone()).await?.0;
    let content = match redis.is_cluster {
        true => {
            let nodes = Nodes::parse(&storage.cluster_nodes_text().await?);
            let queues = view.app.inspector.queues().await?;
            let page = Paged::of(asked.page, queues.len(), QUEUES);
            let mut places = Vec::new();
            for queue in page.rows(&queues) {
                places.push((
                    queue.to_string(),
                    view.app.inspector.cluster_key_slot(queue.as_str()).await?,
                ));
            }
            cluster::cluster(&view, &redis, &nodes, &places, queues.len(), &page)
        }
        false => single(&view, redis.nodes.first()),
    };
    let content = html! {
        (page_head(&html! { "Redis" }, &html! { "What Redis tells about itself." }, &html! {}))
        (live("redis", &["queues"], &content))
    };
    Ok(view.page(Nav::Redis, "Redis", &content))
}

fn notices(view: &View, info: Info<'_>) -> Markup {
    html! {
        @for (tone, text, mends) in warnings(info) {
            (notice(tone, &html! { p { (text) } @if let Some(mends) = mends { p { (command(view, mends)) } } }))
        }
    }
}

fn single(view: &View, node: Option<&RedisNode>) -> Markup {
    let Some(node) = node else {
        return empty(
            "Redis has told nothing",
            "It may be that this user of Redis may not call INFO.",
        );
    };
    let info = Info(&node.info);
    html! {
        (notices(view, info))
        (figures(info))
        div class="columns" {
            (memory(info))
            (traffic(info))
            (persistence(view, info))
            (replication(info))
            (keyspace(info))
            (server(info))
        }
        (all(info))
    }
}

fn figures(info: Info<'_>) -> Markup {
    html! {
        dl class="figures" {
            (figure("Memory", &bytes(info.number("used_memory")), &match info.fullness() {
                Some(full) => meter(full, "part of the largest memory that is used"),
                None => html! { "no limit" },
            }))
            (figure("Commands per second", &number(info.number("instantaneous_ops_per_sec")), &html! { (number(info.number("total_commands_processed"))) " since its start" }))
            (figure("Clients", &number(info.number("connected_clients")), &html! { "of at most " (number(info.number("maxclients"))) }))
            (figure("Evicted keys", &number(info.number("evicted_keys")), &html! { (text(info.text("maxmemory_policy"))) }))
            (figure("Version", &text(info.text("redis_version")), &html! { (text(info.text("redis_mode"))) }))
            (figure("Uptime", &uptime(info), &html! { (text(info.text("role"))) }))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "two units are shown")]
fn uptime(info: Info<'_>) -> Markup {
    html! { @match info.number("uptime_in_seconds") { Some(seconds) => (format::seconds(seconds as f64)), None => (dash()) } }
}

fn card(title: &str, pairs: &[(&str, Markup)]) -> Markup {
    html! {
        section class="card" {
            h2 { (title) }
            dl class="pairs" { @for (name, value) in pairs { dt { (name) } dd class="num" { (value) } } }
        }
    }
}

fn memory(info: Info<'_>) -> Markup {
    let fragmentation = info.float("mem_fragmentation_ratio").map(format::three_digits);
    card(
        "Memory",
        &[
            ("Used", bytes(info.number("used_memory"))),
            ("Largest so far", bytes(info.number("used_memory_peak"))),
            ("Limit", limit(info)),
            ("Policy when it is full", text(info.text("maxmemory_policy"))),
            ("Taken from the system", bytes(info.number("used_memory_rss"))),
            ("Fragmentation", text(fragmentation.as_deref())),
        ],
    )
}

fn traffic(info: Info<'_>) -> Markup {
    card(
        "Clients and traffic",
        &[
            ("Clients", number(info.number("connected_clients"))),
            ("Clients that wait", number(info.number("blocked_clients"))),
            ("Refused connections", number(info.number("rejected_connections"))),
            ("Commands per second", number(info.number("instantaneous_ops_per_sec"))),
            ("Read", html! { (text(info.text("instantaneous_input_kbps"))) " KiB/s" }),
            (
                "Written",
                html! { (text(info.text("instantaneous_output_kbps"))) " KiB/s" },
            ),
        ],
    )
}

fn persistence(view: &View, info: Info<'_>) -> Markup {
    let saved = info
        .number("rdb_last_save_time")
        .and_then(|at| DateTime::from_timestamp(i64::try_from(at).ok()?, 0));
    let is_on = info.text("aof_enabled") == Some("1");
    card(
        "Persistence",
        &[
            (
                "Append-only file",
                badge(
                    if is_on { Tone::Good } else { Tone::Neutral },
                    if is_on { "on" } else { "off" },
                ),
            ),
            (
                "Last write of it",
                text(info.text("aof_last_write_status").filter(|_| is_on)),
            ),
            (
                "Last snapshot",
                html! { @match saved { Some(at) => (time(view, at)), None => (dash()) } },
            ),
            ("Its result", text(info.text("rdb_last_bgsave_status"))),
            ("Changes since then", number(info.number("rdb_changes_since_last_save"))),
        ],
    )
}

fn replication(info: Info<'_>) -> Markup {
    let master = info
        .text("master_host")
        .map(|host| format!("{host}:{}", info.text("master_port").unwrap_or("?")));
    let mut pairs = vec![
        ("Role", text(info.text("role"))),
        ("Replicas", number(info.number("connected_slaves"))),
    ];
    if let Some(master) = master {
        pairs.push(("Master", html! { code { (master) } }));
        pairs.push(("Link to it", text(info.text("master_link_status"))));
    }
    pairs.push(("Offset", number(info.number("master_repl_offset"))));
    card("Replication", &pairs)
}

fn keyspace(info: Info<'_>) -> Markup {
    let is_database = |name: &str| name.strip_prefix("db").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let databases: Vec<_> = info.0.iter().filter(|(name, _)| is_database(name)).collect();
    let part = |text: &str, name: &str| {
        let value = text
            .split(',')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok())
    };
    html! {
        section class="card" {
            h2 { "Keys" }
            @if databases.is_empty() {
                p class="hint" { "There are no keys." }
            } @else {
                table {
                    thead { tr { th scope="col" { "Database" } th scope="col" class="num" { "Keys" } th scope="col" class="num" { "That expire" } } }
                    tbody {
                        @for (name, keys) in databases.iter().take(16) {
                            tr { th scope="row" { (name) } td class="num" { (number(part(keys, "keys"))) } td class="num" { (number(part(keys, "expires"))) } }
                        }
                    }
                }
            }
        }
    }
}

fn server(info: Info<'_>) -> Markup {
    card(
        "Server",
        &[
            ("Version", text(info.text("redis_version"))),
            ("Mode", text(info.text("redis_mode"))),
            ("System", text(info.text("os"))),
            ("Port", text(info.text("tcp_port"))),
            ("Process", text(info.text("process_id"))),
            ("Uptime", uptime(info)),
        ],
    )
}

fn all(info: Info<'_>) -> Markup {
    html! {
        details class="card" {
            summary { "All that Redis tells (" (info.0.len()) " lines)" }
            dl class="pairs" { @for (name, value) in info.0 { dt { code { (name) } } dd { (value) } } }
        }
    }
}
