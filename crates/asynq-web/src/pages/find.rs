//! The search for a name or an id, over all queues.

use asynq::error::{BrokerError, Error};
use axum::response::Response;
use futures::{StreamExt as _, stream};
use maud::html;
use serde::Deserialize;

use super::{
    parts::text::{empty, state},
    shell::{Nav, page_head},
    view::View,
};
use crate::{
    extract::Query,
    problem::{Problem, Result},
};

/// Queues whose names fit that are shown.
const QUEUES: usize = 50;
/// Queues in which a task is looked for, and how many at the same time.
const LOOKED_IN: usize = 2000;
const AT_ONCE: usize = 16;
/// Longest id that is looked for, in bytes.
const LONGEST: usize = 1024;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    q: String,
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response> {
    let text = asked.q.trim();
    let names = view.app.inspector.queues().await?;
    let names: Vec<String> = names
        .iter()
        .map(ToString::to_string)
        .filter(|name| view.caller.sees(name))
        .collect();
    let lower = text.to_lowercase();
    let fit: Vec<&String> = names
        .iter()
        .filter(|name| name.to_lowercase().contains(&lower))
        .collect();
    let mut tasks = Vec::new();
    if !text.is_empty() && text.len() <= LONGEST {
        let _read = view.app.budgets.read(&view.caller.user().name)?;
        let looked_in: Vec<String> = names.iter().take(LOOKED_IN).cloned().collect();
        let found = stream::iter(looked_in)
            .map(async |queue| {
                let task = view.app.inspector.get_task_info(&queue, text).await;
                (queue, task)
            })
            .buffered(AT_ONCE);
        let mut found = std::pin::pin!(found);
        while let Some((queue, task)) = found.next().await {
            match task {
                Ok(task) => tasks.push((queue, task.task_type, task.state)),
                Err(Error::Broker(BrokerError::TaskNotFound { .. } | BrokerError::QueueNotFound { .. })) => {}
                // A queue or a task that cannot be read hides no other one.
                Err(error) => {
                    let problem = Problem::from(error);
                    if problem.is_outage() {
                        return Err(problem);
                    }
                }
            }
        }
    }
    let left_out = names.len().saturating_sub(LOOKED_IN);
    let content = html! {
        (page_head(&html! { "Find" }, &html! { "Queues whose names contain the text, and tasks with exactly this id." }, &html! {}))
        form class="card filters" method="get" role="search" {
            input type="search" name="q" value=(asked.q) aria-label="Name or id" maxlength="1024" data-filter;
            button class="button primary" { "Find" }
        }
        section class="card" aria-labelledby="found-tasks" {
            h2 id="found-tasks" { "Tasks" }
            @if tasks.is_empty() {
                (empty("No task has this id", "To find tasks by type, error or payload, open their queue and write a query."))
            } @else {
                ul class="plain-list" {
                    @for (queue, task_type, of_state) in &tasks {
                        li { a href=(view.task_link(queue, text)) { (text) } " " (state(of_state.as_str())) " " span class="hint" { (task_type) " in " (queue) } }
                    }
                }
            }
            @if left_out > 0 { p class="hint" { "Not looked in " (left_out) " more queues." } }
        }
        section class="card" aria-labelledby="found-queues" {
            h2 id="found-queues" { "Queues" }
            @if fit.is_empty() {
                (empty("No queue has a name like this", "Names are compared without regard to case."))
            } @else {
                ul class="plain-list" {
                    @for name in fit.iter().take(QUEUES) { li { a href=(view.queue_link(name)) { (name) } } }
                }
                @if fit.len() > QUEUES { p { a href={ (view.paths.home) "?" (form_urlencoded::Serializer::new(String::new()).append_pair("q", text).finish()) } { "All " (fit.len()) " queues" } } }
            }
        }
    };
    Ok(view.page(Nav::None, "Find", &content))
}
