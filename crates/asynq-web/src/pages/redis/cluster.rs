//! The nodes of a cluster, and the slots of the queues.

use maud::{Markup, html};

use super::info::{Info, bytes, limit, number, text};
use crate::{
    cluster::{Node, Nodes, Shard},
    pages::{
        parts::{
            format,
            paged::Paged,
            text::{Tone, badge, dash, empty, figure, notice},
        },
        view::View,
    },
    v1::servers::Redis,
};

/// Masters of a cluster that are shown.
const MASTERS: usize = 100;

/// Returns the content of the page for a cluster.
pub(super) fn cluster(
    view: &View,
    redis: &Redis,
    nodes: &Nodes,
    places: &[(String, u16)],
    queues: usize,
    page: &Paged,
) -> Markup {
    let told = Info(&redis.cluster);
    let is_ok = told.text("cluster_state") == Some("ok");
    let assigned = told.number("cluster_slots_assigned");
    let failing = told.number("cluster_slots_fail").unwrap_or(0) + told.number("cluster_slots_pfail").unwrap_or(0);
    let sum = |name: &str| {
        redis
            .nodes
            .iter()
            .filter_map(|node| Info(&node.info).number(name))
            .sum::<u64>()
    };
    html! {
        @if !is_ok { (notice(Tone::Bad, &html! { "The cluster is down: " (text(told.text("cluster_state"))) ". Some slots have no node that answers." })) }
        @for node in &redis.nodes {
            @if let Some(error) = &node.error { (notice(Tone::Bad, &html! { "The node " code { (node.node.as_deref().unwrap_or("?")) } " does not answer: " (error) })) }
        }
        dl class="figures" {
            (figure("Cluster", &html! { (text(told.text("cluster_state"))) }, &html! { (number(told.number("cluster_size"))) " masters, " (number(told.number("cluster_known_nodes"))) " nodes" }))
            (figure("Slots", &number(assigned), &html! { "of 16,384" @if failing > 0 { ", " (format::number(failing)) " fail" } }))
            (figure("Memory", &bytes(Some(sum("used_memory"))), &html! { "of all masters" }))
            (figure("Commands per second", &number(Some(sum("instantaneous_ops_per_sec"))), &html! { "of all masters" }))
            (figure("Evicted keys", &number(Some(sum("evicted_keys"))), &html! { "since their start" }))
        }
        (masters(redis, nodes))
        (slots(view, nodes, places, queues, page))
    }
}

fn masters(redis: &Redis, nodes: &Nodes) -> Markup {
    let info_of = |shard: &Shard| {
        redis
            .nodes
            .iter()
            .find(|node| node.node.as_deref() == Some(shard.master()))
    };
    html! {
        section class="card" aria-labelledby="nodes-title" {
            h2 id="nodes-title" { "Nodes" }
            div class="table-box" tabindex="0" role="region" aria-label="Nodes" {
                table {
                    thead { tr {
                        th scope="col" { "Master" } th scope="col" { "State" } th scope="col" { "Slots" } th scope="col" class="num" { "Memory" }
                        th scope="col" class="num" { "Limit" } th scope="col" { "Policy" } th scope="col" class="num" { "Clients" } th scope="col" class="num" { "Commands/s" } th scope="col" { "Replicas" }
                    } }
                    tbody {
                        @for shard in nodes.shards().iter().take(MASTERS) {
                            @let info = info_of(shard).map(|node| Info(&node.info));
                            tr {
                                th scope="row" { code { (shard.master()) } }
                                td { @if let Some(master) = shard.nodes.first() { (health(master)) } }
                                td title=(ranges(shard)) { span class="num" { (format::number(shard.count().into())) } " " span class="hint" { (ranges(shard)) } }
                                @match info {
                                    Some(info) => {
                                        td class="num" { (bytes(info.number("used_memory"))) }
                                        td class="num" { (limit(info)) }
                                        td { @match info.text("maxmemory_policy") { Some("noeviction") => "noeviction", Some(policy) => (badge(Tone::Warning, policy)), None => (dash()) } }
                                        td class="num" { (number(info.number("connected_clients"))) }
                                        td class="num" { (number(info.number("instantaneous_ops_per_sec"))) }
                                    }
                                    None => { td colspan="5" { (dash()) } }
                                }
                                td { @for replica in shard.nodes.iter().skip(1) { code { (replica.address) } " " (health(replica)) " " } @if shard.nodes.len() == 1 { span class="hint" { "none" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn health(node: &Node) -> Markup {
    match node.has_failed() {
        true => badge(Tone::Bad, "fails"),
        false => badge(Tone::Good, "ok"),
    }
}

/// Returns the first ranges of slots.
fn ranges(shard: &Shard) -> String {
    let range = |(first, last): &(u16, u16)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}–{last}")
        }
    };
    let mut text = shard.slots.iter().take(3).map(range).collect::<Vec<_>>().join(", ");
    if shard.slots.len() > 3 {
        text.push_str(", …");
    }
    text
}

fn slots(view: &View, nodes: &Nodes, places: &[(String, u16)], queues: usize, page: &Paged) -> Markup {
    html! {
        section class="card" aria-labelledby="slots-title" {
            div class="card-head" { h2 id="slots-title" { "Slots of the queues" } span class="hint" { (format::number(queues as u64)) (if queues == 1 { " queue" } else { " queues" }) } }
            @if places.is_empty() { (empty("No queues yet", "All keys of a queue lie in one slot.")) } @else {
                div class="table-box" tabindex="0" role="region" aria-label="Slots of the queues" {
                    table {
                        thead { tr { th scope="col" { "Queue" } th scope="col" class="num" { "Slot" } th scope="col" { "Master" } th scope="col" { "Replicas" } } }
                        tbody {
                            @for (queue, slot) in places {
                                @let shard = nodes.of(*slot);
                                tr {
                                    th scope="row" class="name" { a href=(view.queue_link(queue)) { (queue) } }
                                    td class="num" { (slot) }
                                    td { @match shard { Some(shard) => code { (shard.master()) }, None => (badge(Tone::Bad, "no node")) } }
                                    td { @for replica in shard.into_iter().flat_map(|shard| shard.nodes.iter().skip(1)) { code { (replica.address) } " " } }
                                }
                            }
                        }
                    }
                }
                (page.links(view))
            }
        }
    }
}
