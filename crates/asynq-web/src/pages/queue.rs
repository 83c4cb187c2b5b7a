//! The page of a queue.

mod asked;
mod bar;
mod bulk;
mod columns;
mod enqueue;
mod found;
mod list;
pub(crate) mod suggest;
mod top;

use axum::{extract::State, http::HeaderMap, response::Response};
use maud::{Markup, html};

use self::{
    asked::{Asked, Tab},
    columns::{Runner, Runners},
    list::List,
};
use super::{
    findings,
    overview::pause_or_resume,
    parts::{
        act::{Act, argument},
        format,
        icon::icon,
        text::{Tone, badge, copy_button},
    },
    shell::{Nav, live},
    view::View,
};
use crate::{
    access::Role,
    extract::{Path, Query},
    problem::Result,
    records::{FindingRecord, QueueRecord},
    v1::{
        queues::{self, Day, GroupList, ListGroups, ShowQueue},
        statistics::{self, ShowStatistics, Statistics},
    },
};

/// The ids of the parts that are asked for by themselves.
const TOP: &str = "queue-top";
const TASKS: &str = "queue-tasks";

/// The data of the upper part.
struct Top {
    findings: Vec<FindingRecord>,
    statistics: Option<Statistics>,
    servers: usize,
}

pub(crate) async fn show(
    view: View,
    Path(queue): Path<String>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    // A part that looks for news needs no more than itself.
    let wanted = headers.get("hx-target").and_then(|target| target.to_str().ok());
    let (wants_top, wants_tasks) = (wanted != Some(TASKS), wanted != Some(TOP));
    let detail = ShowQueue { days: Some(14) };
    let detail = queues::show(State(view.app.clone()), Path(queue.clone()), Query(detail))
        .await?
        .0;
    let servers = view.app.readings.servers().await?;
    let serving = servers
        .0
        .iter()
        .filter(|server| server.queues.contains_key(&queue))
        .count();
    let top = async {
        match wants_top {
            true => Ok::<_, crate::problem::Problem>(Some(Top {
                findings: findings::read(&view, Some(&queue)).await?.findings,
                statistics: last_hour(&view, &queue).await,
                servers: serving,
            })),
            false => Ok(None),
        }
    };
    let tasks = async {
        match wants_tasks {
            true => found::read(&view, &queue, &asked).await.map(Some),
            false => Ok(None),
        }
    };
    let (top, tasks) = tokio::join!(top, tasks);
    let (top, tasks) = (top?, tasks?);
    let groups = match asked.state {
        Tab::Aggregating => Some(groups(&view, &queue).await?),
        _ => None,
    };
    let types = match wanted {
        None if view.may(&queue, Role::Operator) => suggest::types(&view, &queue).await,
        _ => Vec::new(),
    };
    let runners = servers
        .1
        .iter()
        .filter(|worker| worker.queue.as_str() == queue)
        .map(|worker| {
            let runner = Runner {
                server: format!("{}:{}", worker.host, worker.pid),
                since: worker.start_time,
                until: worker.deadline,
            };
            (worker.task_id.to_string(), runner)
        });
    let runners: Runners = runners.collect();
    let page = Page {
        view: &view,
        asked: &asked,
        queue: &detail.queue,
        days: &detail.history,
    };
    let refused = tasks.as_ref().and_then(|read| read.as_ref().err());
    let query = asked.whole_query(&queue).ok();
    let may_act = view.may(&queue, Role::Operator) && !asked.state.acts().is_empty() && query.is_some();
    let list = List {
        view: &view,
        asked: &asked,
        queue: &detail.queue,
        runners: &runners,
        may_act,
    };
    let content = html! {
        @if let Some(top) = &top { (live(TOP, &["queues", "gone", "findings", "servers"], &page.top(top))) }
        section class="card tasks-card" aria-label="Tasks" {
            (bar::bar(&view, &queue, &asked, refused))
            @if let Some(groups) = &groups { (top::groups(&view, &asked, groups)) }
            @if let Some(read) = &tasks { (live_tasks(&asked, &list.markup(read))) }
        }
        @if let Some(query) = query.filter(|_| may_act) { (bulk::bulk(&view, &queue, &asked, &query)) }
        (page.danger())
        @if view.may(&queue, Role::Operator) { (enqueue::dialog(&view, &queue, &types)) }
    };
    Ok(view.page(Nav::Overview, &queue, &content))
}

/// Returns the list as a part that follows the queue. A search, or a later page, stays as it is until an act: it would cost
/// too much, and move under the eyes of its reader.
fn live_tasks(asked: &Asked, content: &Markup) -> Markup {
    let stays = asked.cursor().is_some() || !asked.query().is_empty();
    live(TASKS, if stays { &[] } else { &["queues"] }, content)
}

async fn last_hour(view: &View, queue: &str) -> Option<Statistics> {
    let asked = ShowStatistics {
        from: None,
        to: None,
        step: None,
        task_type: None,
    };
    let (app, caller) = (view.app.clone(), view.caller.clone());
    let shown = statistics::show(State(app), caller, Path(queue.to_owned()), Query(asked)).await;
    shown.ok().map(|shown| shown.0)
}

async fn groups(view: &View, queue: &str) -> Result<GroupList> {
    let list = ListGroups { limit: Some(1000) };
    let groups = queues::groups(State(view.app.clone()), Path(queue.to_owned()), Query(list)).await?;
    Ok(groups.0)
}

/// The parts around the list.
struct Page<'a> {
    view: &'a View,
    asked: &'a Asked,
    queue: &'a QueueRecord,
    days: &'a [Day],
}

impl Page<'_> {
    fn top(&self, top: &Top) -> Markup {
        let (view, queue) = (self.view, self.queue);
        let name = queue.queue.as_str();
        let may_change = view.may(name, Role::Operator);
        html! {
            div class="page-head" {
                div class="page-title" {
                    p class="crumbs" { a href=(view.paths.home) { "Queues" } }
                    h1 class="queue-name" {
                        (name) (copy_button(name, "Copy the name"))
                        @if queue.paused { " " (badge(Tone::Warning, "paused")) }
                        @if top.servers == 0 { " " span class="badge bad" title="No running server takes tasks from this queue." { "no consumer" } }
                    }
                }
                div class="page-acts" {
                    @if may_change {
                        (pause_or_resume(view, queue, false))
                        button type="button" class="button primary needs-js" data-open="enqueue" { (icon("edit")) "Enqueue a task" }
                    }
                }
            }
            @if !top.findings.is_empty() { (findings::list(view, &top.findings)) }
            (top::figures(queue, top.statistics.as_ref(), top.servers))
            (top::charts(view, queue, top.statistics.as_ref(), self.days))
            (top::tabs(view, queue, self.asked))
        }
    }

    /// The acts that cannot be taken back, at the end of the page.
    fn danger(&self) -> Markup {
        let (view, queue) = (self.view, self.queue);
        let name = queue.queue.as_str();
        if !view.may(name, Role::Admin) {
            return html! {};
        }
        let delete = match queue.size {
            0 => Act::delete(view.queue_act(name, ""), "Delete the queue")
                .asks(
                    format!("Delete the queue {name}?"),
                    "It has no tasks. Its counters and its history go with it. It comes back with the next task that is enqueued into it.",
                )
                .command(format!("asynq queue remove {}", argument(name))),
            size => Act::delete(view.queue_act(name, "?force=true"), "Delete with all tasks")
                .asks(
                    format!("Delete the queue {name} with all of its tasks?"),
                    format!(
                        "{} tasks are lost. This is refused while one of them is active.",
                        format::number(size)
                    ),
                )
                .command(format!("asynq queue remove --force {}", argument(name))),
        };
        html! {
            details class="danger-fold" {
                summary { "Danger zone" }
                div class="danger-zone" {
                    p { "Set the counters of processed and failed tasks, of today and in total, to zero." }
                    (Act::delete(view.queue_act(name, "/counters"), "Clear the counters")
                        .asks(format!("Clear the counters of {name}?"), "The numbers of processed and failed tasks, of today and in total, become zero.")
                        .typed(name)
                        .says("The counters are cleared.")
                        .button(view))
                }
                div class="danger-zone" {
                    p { "Delete the queue. Nothing of it can be brought back." }
                    (delete.typed(name).goes_to(view.paths.home.clone()).button(view))
                }
            }
        }
    }
}
