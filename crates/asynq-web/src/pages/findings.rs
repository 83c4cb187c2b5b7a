//! The page of the findings: what needs attention, with the command that mends it.

use std::borrow::Borrow;

use asynq::findings::Severity;
use axum::{extract::State, response::Response};
use chrono::DateTime;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    doctor,
    parts::{
        paged::Paged,
        text::{Tone, badge, command, empty, moment, time},
    },
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    extract::Query,
    problem::Result,
    records::FindingRecord,
    v1::upkeep::{self, FindingList, ListFindings},
};

/// Findings of a page.
const ROWS: usize = 50;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    page: Option<usize>,
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response> {
    let found = read(&view, None).await?;
    let paged = Paged::of(asked.page, found.findings.len(), ROWS);
    let shown: Vec<&FindingRecord> = paged.rows(&found.findings).collect();
    let content = html! {
        (page_head(
            &html! { "Findings" },
            &html! { "What needs attention, the most serious first. Looked at " (found.queues) " queues " (time(&view, found.at)) "." },
            &html! {},
        ))
        @if found.queues_left_out > 0 {
            p class="notice warning" { (found.queues_left_out) " queues were left out, as there are too many. Ask for one: " code { (view.in_shell("asynq explain queue NAME")) } }
        }
        (live("findings", &["findings"], &html! { (list(&view, &shown)) (paged.links(&view)) }))
        (doctor::card(&view))
    };
    Ok(view.page(Nav::Findings, "Findings", &content))
}

/// Reads the findings that the user may see, of one queue or of all.
pub(crate) async fn read(view: &View, queue: Option<&str>) -> Result<FindingList> {
    let asked = ListFindings {
        queue: queue.map(str::to_owned),
        severity: None,
    };
    let found = upkeep::findings(State(view.app.clone()), view.caller.clone(), Query(asked)).await?;
    Ok(found.0)
}

/// Returns the list of findings.
pub(crate) fn list(view: &View, findings: &[impl Borrow<FindingRecord>]) -> Markup {
    if findings.is_empty() {
        return empty(
            "Nothing needs attention",
            "Queues have servers, leases are kept, Redis has memory left.",
        );
    }
    html! {
        ul class="findings" {
            @for finding in findings { (line(view, finding.borrow())) }
        }
    }
}

fn line(view: &View, finding: &FindingRecord) -> Markup {
    let tone = tone(finding.severity);
    html! {
        li class={ "finding " (tone.class()) } {
            div class="finding-head" {
                (badge(tone, severity(finding.severity)))
                @if let Some(queue) = &finding.queue { a class="name" href=(view.queue_link(queue)) { (queue) } }
            }
            p { (with_times(view, &finding.text)) }
            @if !finding.command.is_empty() { (command(view, &finding.command)) }
        }
    }
}

/// Returns a text with its times in the reader's time zone.
fn with_times(view: &View, text: &str) -> Markup {
    let part = |word: &str| {
        let bare = word.trim_end_matches([',', '.', ';', ':', ')']);
        let at = DateTime::parse_from_rfc3339(bare).ok()?;
        Some((at.to_utc(), word.get(bare.len()..).unwrap_or_default().to_owned()))
    };
    html! {
        @for word in text.split_inclusive(' ') {
            @match part(word.trim_end_matches(' ')) {
                Some((at, after)) => { (moment(view, at)) (after) @if word.ends_with(' ') { " " } }
                None => (word),
            }
        }
    }
}

/// Returns the colour of a severity.
pub(crate) fn tone(severity: Severity) -> Tone {
    match severity {
        Severity::Critical => Tone::Bad,
        Severity::Warning => Tone::Warning,
        _ => Tone::Info,
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        _ => "notice",
    }
}
