//! The pages of acts on many tasks: a list, and the progress of one.

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    parts::{
        act::Act,
        chart::meter,
        format,
        text::{Tone, badge, dash, empty, id, id_link, notice, number, time, time_or_dash},
    },
    paths::segment,
    shell::{Nav, page_head},
    view::View,
};
use crate::{
    acts::{ActRecord, ActState},
    extract::{Path, Query},
    problem::Result,
    v1::acts,
};

pub(crate) async fn list(view: View) -> Response {
    let list = acts::list(State(view.app.clone()), view.caller.clone()).await.0.acts;
    let runs = list.iter().any(|act| !act.has_ended());
    let content = html! {
        (page_head(
            &html! { "Bulk acts" },
            &html! { "Acts on many tasks that run or have run. They are kept for an hour after their end; the audit trail keeps them for longer." },
            &html! {},
        ))
        (follows("acts", runs.then_some(2), &html! {
            @if list.is_empty() {
                (empty("No acts", "Open a queue, select tasks or write a query, and run, archive or delete what it finds."))
            } @else {
                section class="card" aria-label="Acts" { (table(&view, &list)) }
            }
        }))
    };
    view.page(Nav::Acts, "Bulk acts", &content)
}

fn table(view: &View, list: &[ActRecord]) -> Markup {
    html! {
        div class="table-box" tabindex="0" role="region" aria-label="Acts" {
            table data-rows {
                thead { tr {
                    th scope="col" { "Act" }
                    th scope="col" { "State" }
                    th scope="col" { "Tasks" }
                    th scope="col" class="num" { "Done" }
                    th scope="col" class="num" { "Looked at" }
                    th scope="col" { "By" }
                    th scope="col" { "Reason" }
                    th scope="col" { "Started" }
                    th scope="col" { "Took" }
                } }
                tbody {
                    @for act in list {
                        tr {
                            th scope="row" { a href=(view.link(&format!("acts/{}", segment(&act.id)))) data-open-row { (verb(act.act)) } }
                            td { (state(act.state)) }
                            td { (tasks(act)) }
                            td class="num" { (number(act.done)) }
                            td class="num" { (number(act.looked_at)) }
                            td { (act.user) }
                            td { @if act.reason.is_empty() { (dash()) } @else { span class="clip" title=(act.reason) { (act.reason) } } }
                            td { (time(view, act.created)) }
                            td { (took(view, act)) }
                        }
                    }
                }
            }
        }
    }
}

fn tasks(act: &ActRecord) -> Markup {
    match (&act.query, act.listed) {
        (Some(query), _) => html! { code class="clip" title=(query) { (query) } },
        (None, Some(listed)) => {
            html! { (format::number(listed as u64)) (if listed == 1 { " selected task" } else { " selected tasks" }) }
        }
        (None, None) => dash(),
    }
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    /// Number of tasks that the preview has counted.
    #[serde(default)]
    of: Option<u64>,
}

pub(crate) async fn show(view: View, Path(id): Path<String>, Query(asked): Query<Asked>) -> Result<Response> {
    let act = acts::show(State(view.app.clone()), view.caller.clone(), Path(id))
        .await?
        .0;
    let title = match act.listed {
        Some(listed) => format!("{} {} selected tasks", verb(act.act), format::number(listed as u64)),
        None => format!("{} by query", verb(act.act)),
    };
    let content = html! {
        p class="crumbs" { a href=(view.link("acts")) { "Bulk acts" } }
        (follows("act", (!act.has_ended()).then_some(1), &html! {
            (page_head(&html! { (title) " " (state(act.state)) }, &html! { (words(act.state)) }, &stop(&view, &act)))
            (progress(&view, &act, asked.of))
            @if let Some(error) = &act.error { (notice(Tone::Bad, &html! { (error) })) }
            (numbers(&act))
            (refusals(&view, &act))
            (about(&view, &act))
        }))
    };
    Ok(view.page(Nav::Acts, &title, &content))
}

/// Returns a part of a page that is asked for again every few seconds. With `None` it stays as it is.
fn follows(id: &str, every: Option<u32>, content: &Markup) -> Markup {
    let trigger = every.map(|seconds| format!("every {seconds}s, asynq:refresh from:body"));
    html! {
        div id=(id) data-live hx-get=[trigger.as_ref().map(|_| "")] hx-trigger=[trigger.as_ref()] hx-select={ "#" (id) } hx-ext="morph" hx-swap="morph:outerHTML" {
            (content)
        }
    }
}

fn stop(view: &View, act: &ActRecord) -> Markup {
    if act.has_ended() || view.app.read_only {
        return html! {};
    }
    Act::post(
        view.link(&format!("api/v1/acts/{}/stop", segment(&act.id))),
        "Stop",
        "stop",
    )
    .tone(Tone::Bad)
    .asks(
        "Stop this act?",
        "It ends after its current step of at most 200 tasks. What it has done stays done.",
    )
    .says("It stops after its current step.")
    .button(view)
}

/// Returns the number of tasks that the act is about, as far as it is known.
fn whole(act: &ActRecord, counted: Option<u64>) -> Option<u64> {
    let listed = act.listed.map(|listed| listed as u64);
    let whole = listed.or_else(|| [act.limit, counted].into_iter().flatten().min());
    whole.filter(|whole| *whole > 0)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn progress(view: &View, act: &ActRecord, counted: Option<u64>) -> Markup {
    let whole = whole(act, counted);
    // Tasks that are left alone are done with too.
    let passed = act.done + act.moved + act.refused;
    let part = match whole {
        _ if act.state == ActState::Complete || act.state == ActState::LimitReached => 1.0,
        Some(whole) => passed as f64 / whole as f64,
        None => 0.0,
    };
    let seconds = act
        .started
        .map(|started| seconds(started, act.ended.unwrap_or(view.now)));
    let rate = seconds
        .filter(|seconds| *seconds >= 0.5)
        .map(|seconds| act.done as f64 / seconds);
    let left = whole.zip(rate).filter(|(_, rate)| *rate > 0.0 && !act.has_ended());
    let left = left.map(|(whole, rate)| whole.saturating_sub(passed) as f64 / rate);
    let about: Vec<String> = [
        rate.map(|rate| format!("{} per second", format::three_digits(rate))),
        act.rate
            .map(|rate| format!("at most {} per second", format::number(rate.into()))),
        left.map(|left| format!("about {} left", format::seconds(left))),
        seconds
            .filter(|_| act.has_ended())
            .map(|seconds| format!("took {}", format::seconds(seconds))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let tone = match tone(act.state) {
        Tone::Good if act.refused > 0 => Tone::Warning,
        tone => tone,
    };
    html! {
        section class={ "card act-card " (tone.class()) } aria-label="Progress" {
            div class="act-line" role=[act.has_ended().then_some("status")] {
                p {
                    strong { (format::number(act.done)) }
                    @match whole {
                        Some(whole) => { " of " (format::number(whole)) " tasks " (done_word(act.act)) },
                        None => { " tasks " (done_word(act.act)) },
                    }
                }
                p class="hint" { (about.join(", ")) }
            }
            div class="act-progress" { (meter(part, &format!("{:.0} per cent", part.clamp(0.0, 1.0) * 100.0))) }
        }
    }
}

fn seconds(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).as_seconds_f64().max(0.0)
}

fn numbers(act: &ActRecord) -> Markup {
    let line = |label: &str, value: u64, about: &str| {
        html! { div class="figure" { dt { (label) } dd { span class="figure-value" { (number(value)) } span class="figure-below" { (about) } } } }
    };
    html! {
        dl class="figures" {
            (line("Looked at", act.looked_at, "tasks"))
            (line("Found", act.found, "met the query"))
            (line("Done", act.done, done_word(act.act)))
            (line("Left alone", act.moved, "had moved or changed"))
            (line("Undecided", act.undecided, "a value is not known"))
            (line("Refused", act.refused, "in a wrong state, or gone"))
            @if act.dropped + act.poisoned > 0 { (line("Damaged", act.dropped + act.poisoned, "removed or quarantined")) }
        }
    }
}

fn refusals(view: &View, act: &ActRecord) -> Markup {
    if act.refusals.is_empty() {
        return html! {};
    }
    html! {
        section class="card" aria-labelledby="refusals" {
            h2 id="refusals" { "Refused" @if act.refused > act.refusals.len() as u64 { " " span class="hint" { "the first " (act.refusals.len()) } } }
            div class="table-box" tabindex="0" role="region" aria-label="Refused tasks" {
                table {
                    thead { tr { th scope="col" { "Task" } th scope="col" { "Queue" } th scope="col" { "Why" } } }
                    tbody {
                        @for refusal in &act.refusals {
                            tr {
                                td { (id_link(&view.task_link(&refusal.queue, &refusal.id), &refusal.id)) }
                                td { (refusal.queue) }
                                td class="wide" { (refusal.error) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn about(view: &View, act: &ActRecord) -> Markup {
    html! {
        section class="card" aria-label="About the act" {
            dl class="pairs" {
                @if let Some(query) = &act.query { dt { "Query" } dd { code { (query) } } }
                dt { "By" } dd { (act.user) }
                dt { "Reason" } dd { @if act.reason.is_empty() { (dash()) } @else { (act.reason) } }
                @if let Some(limit) = act.limit { dt { "Ends after" } dd { (format::number(limit)) " tasks" } }
                dt { "Asked for" } dd { (time(view, act.created)) }
                dt { "Started" } dd { (time_or_dash(view, act.started)) }
                dt { "Ended" } dd { (time_or_dash(view, act.ended)) }
                dt { "Id" } dd { (id(&act.id)) }
            }
        }
    }
}

fn took(view: &View, act: &ActRecord) -> Markup {
    match act.started {
        Some(started) => html! { (format::seconds(seconds(started, act.ended.unwrap_or(view.now)))) },
        None => dash(),
    }
}

fn verb(act: &str) -> &'static str {
    match act {
        "run" => "Run",
        "archive" => "Archive",
        _ => "Delete",
    }
}

fn done_word(act: &str) -> &'static str {
    match act {
        "run" => "made pending",
        "archive" => "archived",
        _ => "deleted",
    }
}

fn state(state: ActState) -> Markup {
    let word = match state {
        ActState::Waiting => "waiting",
        ActState::Running => "running",
        ActState::Complete => "complete",
        ActState::LimitReached => "limit reached",
        ActState::Stopped => "stopped",
        ActState::Forbidden => "forbidden",
        ActState::Failed => "failed",
    };
    badge(tone(state), word)
}

fn tone(state: ActState) -> Tone {
    match state {
        ActState::Waiting => Tone::Neutral,
        ActState::Running => Tone::Info,
        ActState::Complete | ActState::LimitReached => Tone::Good,
        ActState::Stopped => Tone::Warning,
        ActState::Forbidden | ActState::Failed => Tone::Bad,
    }
}

fn words(state: ActState) -> &'static str {
    match state {
        ActState::Waiting => "Others run before it. Four acts run at a time.",
        ActState::Running => "It runs in the background, also when this page is closed.",
        ActState::Complete => "It has looked at all tasks.",
        ActState::LimitReached => "It has acted on as many tasks as were asked for.",
        ActState::Stopped => "Somebody has stopped it, or the server has ended.",
        ActState::Forbidden => "Its user may no longer act, or has other rights than at its start.",
        ActState::Failed => "It could not go on.",
    }
}
