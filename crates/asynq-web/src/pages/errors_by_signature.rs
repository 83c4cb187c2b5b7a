//! The errors of failed tasks, grouped by what they have in common.

use std::time::Duration;

use axum::extract::State;
use futures::{StreamExt as _, stream};
use maud::{Markup, html};
use tokio::time::{Instant, timeout_at};

use super::{
    parts::{
        format,
        text::{copy_button, empty, number, short_id, time_or_dash},
    },
    view::View,
};
use crate::{
    extract::{Path, Query},
    problem::Result,
    records::SignatureRecord,
    v1::queues::{self, ShowErrors},
};

/// Signatures that are shown.
const SHOWN: usize = 20;
/// Tasks that are looked at for one page, over all queues, and the fewest of a queue.
const LOOKED_AT: u64 = 20_000;
const LEAST: u64 = 200;
/// Queues that are read at the same time.
const AT_ONCE: usize = 4;
/// Time for all of them. Queues for which none is left are left out, and counted.
const TIME: Duration = Duration::from_secs(3);
/// Longest signature and example that are shown, in characters.
const LONGEST: usize = 400;

/// The signatures of several queues, with their queues.
#[derive(Default)]
pub(crate) struct Errors {
    rows: Vec<(String, SignatureRecord)>,
    looked_at: u64,
    total: u64,
    /// Queues that could not be read, and those for which no time was left.
    unreadable: usize,
    late: usize,
    /// Only those of this type.
    task_type: String,
}

/// Reads the errors of the tasks that wait for a retry or are archived, of one type if it has a name.
pub(crate) async fn read(view: &View, names: &[String], task_type: &str) -> Result<Errors> {
    let deadline = Instant::now() + TIME;
    let each = (LOOKED_AT / (names.len() as u64).max(1)).clamp(LEAST, 10_000);
    let reads = stream::iter(names.to_vec())
        .map(async |queue| {
            let asked = ShowErrors {
                state: None,
                look_at: Some(each),
            };
            let (app, caller) = (State(view.app.clone()), view.caller.clone());
            queues::errors(app, caller, Path(queue), Query(asked)).await
        })
        .buffered(AT_ONCE);
    let mut reads = std::pin::pin!(reads);
    let mut errors = Errors {
        task_type: task_type.to_owned(),
        ..Errors::default()
    };
    let mut done = 0;
    while let Ok(Some(read)) = timeout_at(deadline, reads.next()).await {
        done += 1;
        let record = match read {
            Ok(record) => record.0,
            Err(problem) if problem.is_outage() => return Err(problem),
            // A queue that cannot be read, or a budget that is used up, hides nothing else of the page.
            Err(_) => {
                errors.unreadable += 1;
                continue;
            }
        };
        errors.looked_at += record.looked_at;
        errors.total += record.total;
        errors.rows.extend(
            record
                .top
                .into_iter()
                .map(|signature| (record.queue.clone(), signature)),
        );
    }
    errors.late = names.len() - done;
    errors
        .rows
        .sort_by_key(|(_, signature)| std::cmp::Reverse(signature.count));
    if task_type.is_empty() {
        errors.rows.truncate(SHOWN);
        return Ok(errors);
    }
    let mut of_type = Vec::new();
    for (queue, signature) in errors.rows.drain(..).take(SHOWN * 3) {
        let read = view.app.inspector.get_task_info(&queue, &signature.last);
        let Ok(task) = timeout_at(deadline, read).await else {
            break;
        };
        if task.is_ok_and(|task| task.task_type == task_type) {
            of_type.push((queue, signature));
        }
    }
    of_type.truncate(SHOWN);
    errors.rows = of_type;
    Ok(errors)
}

/// Returns the card with the signatures.
pub(crate) fn card(view: &View, errors: &Errors) -> Markup {
    html! {
        section class="card" aria-labelledby="errors-title" {
            div class="card-head" {
                h2 id="errors-title" { "Errors" }
                span class="hint" {
                    "of tasks that wait for a retry or are archived; " (format::number(errors.looked_at)) " of " (format::number(errors.total)) " were looked at"
                    @if errors.unreadable > 0 { ", " (errors.unreadable) " queues could not be read" }
                    @if errors.late > 0 { ", " (errors.late) " queues were left out, as it took too long" }
                }
            }
            @if errors.rows.is_empty() {
                (empty("No errors", "No task that waits for a retry or is archived has one."))
            } @else {
                @if !errors.task_type.is_empty() { p class="hint" { "Those whose last task has this type. Tasks of other types may have the same error, and are counted too." } }
                div class="table-box" tabindex="0" role="region" aria-label="Errors" {
                    table {
                        thead { tr {
                            th scope="col" class="num" { "Tasks" } th scope="col" { "Error" } th scope="col" { "Queue" }
                            th scope="col" { "First" } th scope="col" { "Last" } th scope="col" { "Last task" }
                        } }
                        tbody { @for (queue, signature) in &errors.rows { (row(view, queue, signature)) } }
                    }
                }
            }
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn row(view: &View, queue: &str, signature: &SignatureRecord) -> Markup {
    let last = &signature.last;
    html! {
        tr {
            td class="num narrow" { (number(signature.count)) }
            td class="wide" { code class="signature" title=(cut(&signature.example)) { (cut(&signature.signature)) } }
            td { a href=(view.queue_link(queue)) { (queue) } }
            td { (time_or_dash(view, signature.first_failed_at)) }
            td { (time_or_dash(view, signature.last_failed_at)) }
            td { span class="id" { a href=(view.task_link(queue, last)) title=(last) { (short_id(last)) } (copy_button(last, "Copy the id")) } }
        }
    }
}
