//! The page of a task: its state and what happens next, its data, its life, and the acts on it.

mod acts;
pub(crate) mod download;
mod edit;
mod facts;
mod life;
mod machine;
mod next;
mod subject;

use asynq::findings::quote;
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;

use self::subject::Subject;
use super::{
    parts::{
        data::{Panel, copyable},
        text::{command, state},
    },
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    access::Role,
    extract::{Path, Query},
    problem::{Problem, Result},
};

/// Bytes of HTML for the payload, and for the result.
const PAYLOAD: usize = 56 << 10;
const RESULT: usize = 28 << 10;

/// The forms in which the data are shown.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    payload: String,
    #[serde(default)]
    result: String,
}

pub(crate) async fn show(
    view: View,
    Path((queue, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let subject = match Subject::read(&view, &queue, &id).await {
        Ok(subject) => subject,
        Err(problem) if problem.code == "damaged_task" => return Ok(damaged(&view, &queue, &id, &problem)),
        Err(problem) => return Err(problem),
    };
    let title = match subject.task.task_type.as_str() {
        "" => "(no type)",
        task_type => task_type,
    };
    let content = html! {
        p id="task-gone" class="notice warning" role="alert" hidden { "This task is gone: it was deleted, or it succeeded and is not kept. What you see is its last state." }
        (live("task", &["queues", "servers"], &html! {
            (page_head(&html! { (title) }, &below(&subject), &acts::buttons(&subject)))
            (next::card(&subject))
            div class="task-columns" {
                div class="stack" {
                    (facts::error(&subject))
                    (panel(&subject, "payload", "Payload", &subject.task.payload, PAYLOAD).markup(&view, &asked.payload))
                    @if let Some(result) = &subject.task.result {
                        (panel(&subject, "result", "Result", result, RESULT).markup(&view, &asked.result))
                    }
                    (facts::headers(&subject))
                }
                div class="stack" {
                    (life::card(&subject))
                    (facts::options(&subject))
                    (acts::commands(&subject))
                }
            }
        }))
        (acts::dialogs(&subject))
        (edit::dialogs(&subject))
    };
    Ok(view.page(Nav::None, &format!("{title} {id}"), &content))
}

fn below(subject: &Subject<'_>) -> Markup {
    html! {
        span class="row" {
            (state(subject.task.state.as_str()))
            (copyable(subject.id(), "Copy the id"))
            span { "in " a href=(subject.view.queue_link(subject.queue_name())) { (subject.queue_name()) } }
        }
    }
}

fn panel<'s>(
    subject: &'s Subject<'_>,
    name: &'static str,
    title: &'static str,
    bytes: &'s [u8],
    most: usize,
) -> Panel<'s> {
    Panel {
        name,
        title,
        bytes,
        hidden: subject.hidden.as_deref(),
        download: subject.link(&format!("/{name}")),
        most,
    }
}

/// The page of a task whose data cannot be read.
fn damaged(view: &View, queue: &str, id: &str, problem: &Problem) -> Response {
    let acts =
        html! { @if view.may(queue, Role::Operator) { span class="apart" { (acts::delete(view, queue, id, "")) } } };
    let dashes = if queue.starts_with('-') { "-- " } else { "" };
    let content = html! {
        (page_head(&html! { "Damaged task" }, &html! { span class="row" { (copyable(id, "Copy the id")) span { "in " a href=(view.queue_link(queue)) { (queue) } } } }, &acts))
        section class="card stack" aria-labelledby="damage-title" {
            h2 id="damage-title" { "The data of this task cannot be read" }
            p class="notice bad" { (problem.detail) "." }
            p { "Only its id and its queue are known. Servers put such a task aside when they come to it. The doctor says what can be repaired:" }
            p { (command(view, &format!("asynq doctor {dashes}{}", quote(queue)))) }
        }
    };
    (
        problem.status,
        view.page(Nav::None, &format!("Damaged task {id}"), &content),
    )
        .into_response()
}
