//! The page of the supervision trees: the actors of each server, down to the tasks that run.

use asynq::ActorState;
use axum::{extract::State, response::Response};
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    parts::{
        chart::meter,
        format,
        icon::icon,
        paged::{Paged, filter},
        text::{Tone, badge, empty, id, notice, time},
    },
    servers::{elapsed, is_late, state, task_link},
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    extract::Query,
    problem::Result,
    records::{ServerRecord, WorkerRecord},
    v1::servers::{self, NodeRecord, TreeRecord},
};

/// Servers of a page.
const SERVERS: usize = 8;
/// Running tasks of a server that are shown.
const TASKS: usize = 10;
/// Actors of a server that are shown.
const ACTORS: usize = 120;
/// Longest text of a failure or a note that is shown, in characters.
const LONGEST: usize = 300;
/// Time for which an actor that has restarted stands out.
const RECENT: TimeDelta = TimeDelta::minutes(10);
/// Restarts that are listed above the trees.
const TROUBLES: usize = 6;
/// Servers without a tree that are named.
const NAMED: usize = 30;
/// The actor that takes tasks and starts their runs.
const PROCESSOR: &str = "processor";

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    q: String,
    page: Option<usize>,
}

/// A tree with its server, which may have ended meanwhile.
type Tree<'a> = (&'a TreeRecord, Option<&'a ServerRecord>);

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response> {
    let (app, caller) = (&view.app, &view.caller);
    let (trees, servers) = tokio::join!(
        servers::trees(State(app.clone()), caller.clone()),
        servers::servers(State(app.clone()), caller.clone())
    );
    let (trees, servers) = (trees?.0.trees, servers?.0.servers);
    let is_of = |tree: &TreeRecord, server: &ServerRecord| {
        tree.server_id == server.id && tree.host == server.host && tree.pid == server.pid
    };
    let text = asked.q.trim().to_lowercase();
    let fits = |host: &str| host.to_lowercase().contains(&text);
    let mut found: Vec<Tree<'_>> = trees
        .iter()
        .filter(|tree| fits(&tree.host))
        .map(|tree| (tree, servers.iter().find(|server| is_of(tree, server))))
        .collect();
    found.sort_by_key(|(tree, _)| (&tree.host, tree.pid, &tree.server_id));
    let without: Vec<&ServerRecord> = servers
        .iter()
        .filter(|server| fits(&server.host) && !trees.iter().any(|tree| is_of(tree, server)))
        .collect();
    let page = Paged::of(asked.page, found.len(), SERVERS);
    let content = html! {
        (page_head(
            &html! { "Supervision tree" },
            &html! { "The actors of each server, down to the tasks that run now. An actor that fails is restarted by the one above it." },
            &filter(&view, &asked.q, "Filter by host"),
        ))
        (live("tree", &["trees", "servers"], &html! {
            (troubles(&view, &page, &found))
            @if servers.is_empty() && trees.is_empty() {
                (empty("No server runs", "The tree of a server is here as soon as it has started."))
            } @else if found.is_empty() && without.is_empty() {
                (empty("No server fits the filter", "A server fits if its host contains the text."))
            }
            @if !found.is_empty() { div class="trees" { @for (tree, server) in page.rows(&found) { (card(&view, tree, *server)) } } }
            (page.links(&view))
            (without_tree(&view, &without))
        }))
    };
    Ok(view.page(Nav::Tree, "Supervision tree", &content))
}

/// Returns whether an actor has restarted in the last minutes, or does not run because it failed.
fn is_trouble(node: &NodeRecord, now: DateTime<Utc>) -> bool {
    match node.state {
        ActorState::Restarting | ActorState::Failed => true,
        _ => node.restarts > 0 && now - node.since < RECENT,
    }
}

/// An actor that has failed: its names from the root on, the place of its node, and itself.
struct Trouble<'a> {
    names: Vec<&'a str>,
    anchor: String,
    node: &'a NodeRecord,
}

/// Finds the actors that have failed, with the most recent last.
fn find<'a>(node: &'a NodeRecord, anchor: &str, above: &[&'a str], now: DateTime<Utc>, found: &mut Vec<Trouble<'a>>) {
    let names: Vec<&str> = above.iter().copied().chain([node.name.as_str()]).collect();
    for (nth, child) in node.children.iter().enumerate() {
        find(child, &format!("{anchor}-{nth}"), &names, now, found);
    }
    if is_trouble(node, now) {
        let anchor = anchor.to_owned();
        found.push(Trouble { names, anchor, node });
    }
}

fn anchor(tree: &TreeRecord) -> String {
    format!("node-{}-{}", tree.server_id, tree.pid)
}

fn troubles(view: &View, page: &Paged, trees: &[Tree<'_>]) -> Markup {
    let mut all = Vec::new();
    for (row, (tree, _)) in trees.iter().enumerate() {
        let mut found = Vec::new();
        find(&tree.tree, &anchor(tree), &[], view.now, &mut found);
        all.extend(found.into_iter().map(|trouble| (row, *tree, trouble)));
    }
    all.sort_by_key(|(_, _, trouble)| std::cmp::Reverse(trouble.node.since));
    if all.is_empty() {
        return html! {
            @if !trees.is_empty() { p class="all-well" { (icon("check")) "No actor has failed or restarted in the last " (RECENT.num_minutes()) " minutes." } }
        };
    }
    let more = all.len().saturating_sub(TROUBLES);
    html! {
        section class="card" aria-labelledby="troubles-title" {
            h2 id="troubles-title" { "Failed, or restarted in the last " (RECENT.num_minutes()) " minutes" }
            ul class="troubles" {
                @for (row, tree, trouble) in all.iter().take(TROUBLES) {
                    @let number = page.page_of(*row);
                    li {
                        (time(view, trouble.node.since))
                        span {
                            a href={ @if number != page.number() { (view.with(&[("page", &number.to_string())])) } "#" (trouble.anchor) } { (trouble.names.join(" › ")) }
                            " " span class="hint" { "at " (tree.host) " pid " (tree.pid) }
                            @if let Some(failure) = &trouble.node.last_failure { span class="node-failure" { (cut(failure)) } }
                        }
                    }
                }
            }
            @if more > 0 { p class="hint" { "and " (format::number(more as u64)) " more" } }
        }
    }
}

/// Returns the beginning of a long text.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn count(node: &NodeRecord) -> usize {
    1 + node.children.iter().map(count).sum::<usize>()
}

fn card(view: &View, tree: &TreeRecord, server: Option<&ServerRecord>) -> Markup {
    let handles = tree.tree.handles.as_deref().unwrap_or_default();
    let actors = count(&tree.tree);
    let mut drawn = Drawn {
        view,
        server,
        left: ACTORS,
        are_tasks_drawn: false,
    };
    let nodes = drawn.node(&tree.tree, &anchor(tree));
    let more = actors.saturating_sub(ACTORS);
    html! {
        section class="card tree-card" aria-label={ "Tree of " (tree.host) " pid " (tree.pid) } {
            div class="card-head" {
                h2 { (tree.host) " " span class="hint" { "pid " (tree.pid) } }
                @if let Some(server) = server {
                    (state(server.state))
                    span class="hint" title=(view.settings.absolute(server.started)) { "up " (format::seconds(elapsed(server.started, view.now))) }
                    span class="hint" { (server.active_workers) " of " (server.concurrency) " tasks at a time" }
                }
                span class="hint" { (actors) " actors" }
                (id(&tree.server_id))
            }
            @if !handles.is_empty() {
                ul class="tags" aria-label="Task types that it handles" {
                    @for pattern in handles.iter().take(20) { li class="tag" { (cut(pattern)) } }
                    @if handles.len() > 20 { li class="hint" { "and " (handles.len() - 20) " more" } }
                }
            }
            ul class="tree" { (nodes) @if !drawn.are_tasks_drawn { (drawn.tasks()) } }
            @if more > 0 { p class="hint" { (format::number(more as u64)) " more actors are not shown." } }
        }
    }
}

/// The tree of a server while it is drawn.
struct Drawn<'a> {
    view: &'a View,
    server: Option<&'a ServerRecord>,
    /// Actors that may still be drawn.
    left: usize,
    are_tasks_drawn: bool,
}

impl Drawn<'_> {
    fn node(&mut self, node: &NodeRecord, anchor: &str) -> Markup {
        if self.left == 0 {
            return html! {};
        }
        self.left -= 1;
        let is_trouble = is_trouble(node, self.view.now);
        let mut below = Vec::new();
        for (nth, child) in node.children.iter().enumerate() {
            below.push(self.node(child, &format!("{anchor}-{nth}")));
        }
        if node.name == PROCESSOR && !self.are_tasks_drawn {
            self.are_tasks_drawn = true;
            below.push(self.tasks());
        }
        let has_below = below.iter().any(|markup| !markup.0.is_empty());
        html! {
            li id=(anchor) class={ "node node-" (word(node.state)) @if is_trouble { " node-trouble" } } {
                @if has_below {
                    details open {
                        summary class="node-line" { (self.line(node)) }
                        ul { @for part in &below { (part) } }
                    }
                } @else {
                    div class="node-line" { (self.line(node)) }
                }
            }
        }
    }

    fn line(&self, node: &NodeRecord) -> Markup {
        let is_running = node.state == ActorState::Running;
        let since = self.view.settings.absolute(node.since);
        html! {
            span class="node-dot" aria-hidden="true" {}
            span class="node-name" { (cut(&node.name)) }
            span class=(if is_running { "sr" } else { "node-state" }) { " " (word(node.state)) }
            @if let Some(note) = &node.note { span class="node-note" { (cut(note)) } }
            @if let Some(backlog) = node.backlog.filter(|backlog| *backlog > 0) { (badge(Tone::Info, &format!("{} waiting", format::number(backlog)))) }
            @if node.restarts > 0 {
                (badge(if is_trouble(node, self.view.now) { Tone::Warning } else { Tone::Neutral }, &format!("restarted {}×", format::number(node.restarts))))
            }
            span class="node-since" title={ (word(node.state)) " since " (since) } { (format::seconds(elapsed(node.since, self.view.now))) }
            @if let Some(failure) = &node.last_failure { span class="node-failure" { span class="sr" { "last failure: " } (cut(failure)) } }
        }
    }

    /// Returns the tasks that the server runs, as the last leaves of its tree.
    fn tasks(&self) -> Markup {
        let Some(server) = self.server else { return html! {} };
        let mut workers: Vec<&WorkerRecord> = server.workers.iter().collect();
        workers.sort_by_key(|worker| (worker.started, &worker.task));
        let more = workers.len().saturating_sub(TASKS);
        html! {
            @for worker in workers.iter().take(TASKS) { (self.task(worker)) }
            @if more > 0 {
                li class="node node-more" {
                    div class="node-line" {
                        a href={ (self.view.link("servers")) "?" (form_urlencoded::Serializer::new(String::new()).append_pair("server", &server.id).finish()) } { "and " (format::number(more as u64)) " more running tasks" }
                    }
                }
            }
        }
    }

    fn task(&self, worker: &WorkerRecord) -> Markup {
        let view = self.view;
        let (ran, whole) = (
            elapsed(worker.started, view.now),
            elapsed(worker.started, worker.deadline),
        );
        html! {
            li class="node node-task" id={ "task-" (worker.queue) "-" (worker.task) } {
                div class="node-line" {
                    span class="node-dot" aria-hidden="true" {}
                    span class="sr" { "task " }
                    (task_link(view, worker))
                    span class="node-name" { (cut(&worker.task_type)) }
                    span class="node-note" { "from " a href=(view.queue_link(&worker.queue)) { (worker.queue) } }
                    @if is_late(worker, view.now) { (badge(Tone::Bad, "late")) }
                    @else if worker.deadline.timestamp() > 0 { span class="node-meter" { (meter(ran / whole.max(1.0), "part of the time until its deadline")) } }
                    span class="node-since" title={ "runs since " (view.settings.absolute(worker.started)) } { (format::seconds(ran)) }
                }
            }
        }
    }
}

fn word(state: ActorState) -> &'static str {
    match state {
        ActorState::Running => "running",
        ActorState::Restarting => "restarting",
        ActorState::Stopped => "stopped",
        ActorState::Failed => "failed",
        _ => "unknown",
    }
}

fn without_tree(view: &View, servers: &[&ServerRecord]) -> Markup {
    let more = servers.len().saturating_sub(NAMED);
    html! {
        @if !servers.is_empty() {
            section class="card" aria-labelledby="without-title" {
                h2 id="without-title" { "Servers without a tree" }
                (notice(Tone::Info, &html! { "Servers of Go have no supervision tree, and a server that has just started has not published its own yet." }))
                ul class="plain-list" {
                    @for server in servers.iter().take(NAMED) {
                        li {
                            (server.host) " " span class="hint" { "pid " (server.pid) ", up " (format::seconds(elapsed(server.started, view.now))) ", " }
                            a href={ (view.link("servers")) "?" (form_urlencoded::Serializer::new(String::new()).append_pair("server", &server.id).finish()) } { (server.active_workers) " running tasks" }
                        }
                    }
                    @if more > 0 { li class="hint" { "and " (format::number(more as u64)) " more" } }
                }
            }
        }
    }
}
