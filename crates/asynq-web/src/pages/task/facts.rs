//! The last error, the headers and the options of a task.

use asynq::inspector::signature;
use maud::{Markup, html};

use super::subject::Subject;
use crate::pages::parts::{
    data::{copy_of, escaped_len, folded},
    format,
    text::{copy_button, dash, time},
};

/// Bytes of HTML, at most, for an error, and bytes for the name or the value of a header.
const ERROR: usize = 8 << 10;
const HEADER: usize = 512;
/// Bytes of HTML, at most, for all headers.
const HEADERS: usize = 24 << 10;

/// Returns the card with the last error, its signature, and the way to the tasks with the same one.
pub(super) fn error(subject: &Subject<'_>) -> Markup {
    let (view, task) = (subject.view, &subject.task);
    if task.last_error.is_empty() {
        return html! {};
    }
    let signature = signature(&task.last_error);
    let part = literal_part(&signature, &task.last_error);
    html! {
        section class="card task-error" aria-labelledby="error-title" {
            div class="card-head" {
                h2 id="error-title" {
                    "Last error"
                    @if let Some(at) = task.last_failed_at { " " span class="hint" { (time(view, at)) } }
                }
                (copy_of("last-error"))
            }
            div id="last-error" { (folded(&task.last_error, ERROR)) }
            dl class="pairs" {
                dt { "Signature" }
                dd { code { (signature) } }
                @if !part.is_empty() {
                    dt { "Same error" }
                    dd {
                        @for (index, state) in ["retry", "archived"].into_iter().enumerate() {
                            @if index > 0 { ", " }
                            a href=(same(subject, state, part)) { (state) " tasks of this queue" }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the link to the tasks of the queue whose errors contain a text.
fn same(subject: &Subject<'_>, state: &str, part: &str) -> String {
    let value = part.replace('\\', "\\\\").replace('"', "\\\"");
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("q", &format!("error~\"{value}\""))
        .finish();
    format!("{}&{query}", subject.view.state_link(subject.queue_name(), state))
}

/// Returns the longest part of a signature that stands in the error as it is.
fn literal_part<'s>(signature: &'s str, error: &str) -> &'s str {
    const PLACES: [&str; 7] = ["n", "id", "uuid", "addr", "time", "dur", "str"];
    let parts = signature.split(['<', '>', '…']).map(str::trim);
    let parts = parts.filter(|part| !PLACES.contains(part) && error.contains(part));
    parts.max_by_key(|part| part.len()).unwrap_or_default()
}

fn start(text: &str, most: usize) -> String {
    text.char_indices()
        .take_while(|(at, _)| *at < most)
        .map(|(_, char)| char)
        .collect()
}

pub(super) fn headers(subject: &Subject<'_>) -> Markup {
    let headers = &subject.task.headers;
    if headers.is_empty() {
        return html! {};
    }
    let cost = |text: &str| start(text, HEADER).chars().map(escaped_len).sum::<usize>();
    let mut left = HEADERS;
    let fits = |(name, value): &(&String, &String)| {
        // The value stands twice: to read, and to copy.
        let cost = cost(name) + 2 * cost(value) + 400;
        left = left.saturating_sub(cost);
        left > 0
    };
    let shown: Vec<_> = headers.iter().take_while(fits).collect();
    let more = headers.len() - shown.len();
    html! {
        section class="card" aria-labelledby="headers-title" {
            h2 id="headers-title" { "Headers " span class="hint" { (headers.len()) } }
            dl class="pairs" {
                @for (name, value) in &shown {
                    dt { code { (start(name, HEADER)) } }
                    dd {
                        code { (start(value, HEADER)) }
                        @if value.len() > HEADER { span class="hint" { " … " (format::bytes(value.len() as u64)) } }
                        @else { (copy_button(value, "Copy the value")) }
                    }
                }
            }
            @if more > 0 { p class="hint" { "and " (more) " more" } }
        }
    }
}

pub(super) fn options(subject: &Subject<'_>) -> Markup {
    let (view, task) = (subject.view, &subject.task);
    html! {
        section class="card" aria-labelledby="options-title" {
            h2 id="options-title" { "Options" }
            dl class="pairs" {
                dt { "Retries" }
                dd class="num" { (format::number(task.retried.into())) " of " (format::number(task.max_retry.into())) " used" }
                dt { "Timeout" }
                dd { @match task.timeout { Some(timeout) => (format::seconds(timeout.as_secs_f64())), None => (dash()) } }
                dt { "Deadline" }
                dd { @match task.deadline { Some(at) => { (view.settings.absolute(at)) ", " (time(view, at)) } None => (dash()) } }
                dt { "Retention" }
                dd { @if task.retention.is_zero() { "none: it is deleted when it succeeds" } @else { (format::seconds(task.retention.as_secs_f64())) " after it succeeds" } }
                dt { "Group" }
                dd { @match &task.group { Some(group) => { code { (group) } } None => (dash()) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_to_search_for_stands_in_the_error() {
        for (error, part) in [
            ("user 17 not found", "not found"),
            ("card declined", "card declined"),
            ("1", ""),
            ("say \"a b c d\" twice", "\" twice"),
        ] {
            assert_eq!(literal_part(&signature(error), error), part, "{error}");
        }
    }
}
