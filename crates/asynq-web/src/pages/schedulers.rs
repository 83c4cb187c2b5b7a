//! The page of the periodic tasks.

use asynq::{
    cron::CronSpec,
    findings::{FindingKind, quote, same_entry},
    info::SchedulerEntry,
};
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    findings,
    parts::{
        act::Act,
        format,
        paged::{Paged, filter},
        text::{Tone, badge, empty, figure, notice, sort_head, time_or_dash},
    },
    paths::segment,
    scheduler,
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    access::Role,
    extract::Query,
    problem::Result,
    records::{FindingRecord, queue_of},
};

/// Rows of a page.
const ROWS: usize = 50;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    pub(crate) q: String,
    #[serde(default)]
    sort: String,
    page: Option<usize>,
    /// Id of an entry: more about it.
    #[serde(default)]
    entry: String,
    /// Span whose ticks are to be backfilled.
    #[serde(default)]
    pub(crate) from: String,
    #[serde(default)]
    pub(crate) to: String,
    /// Time zone of a spec that names none.
    #[serde(default)]
    pub(crate) zone: String,
}

/// A periodic task, with all the entries that enqueue it at the same times.
pub(crate) struct Periodic<'e> {
    pub(crate) entries: Vec<&'e SchedulerEntry>,
    /// Name of its queue, `None` if it cannot be read.
    pub(crate) queue: Option<String>,
    /// Each of its entries enqueues for itself, so its tasks run more than once.
    pub(crate) is_repeated: bool,
}

impl Periodic<'_> {
    /// Returns the entry that stands for all.
    pub(crate) fn entry(&self) -> &SchedulerEntry {
        self.entries[0]
    }

    pub(crate) fn next(&self) -> Option<DateTime<Utc>> {
        self.entries.iter().filter_map(|entry| entry.next).min()
    }

    pub(crate) fn previous(&self) -> Option<DateTime<Utc>> {
        self.entries.iter().filter_map(|entry| entry.prev).max()
    }
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response> {
    let (entries, found) = tokio::join!(read(&view), findings::read(&view, None));
    let entries = entries?;
    let findings = found.map(|found| found.findings).unwrap_or_default();
    let mut tasks = group(&entries, &findings);
    if !asked.entry.is_empty() {
        let of_id = |task: &Periodic<'_>| task.entries.iter().any(|entry| entry.id == asked.entry);
        let task = tasks.iter().find(|task| of_id(task));
        return scheduler::show(&view, &asked, task).await;
    }
    let (count, repeated) = (tasks.len(), tasks.iter().filter(|task| task.is_repeated).count());
    let next = tasks.iter().filter_map(Periodic::next).min();
    let text = asked.q.trim().to_lowercase();
    if !text.is_empty() {
        tasks.retain(|task| {
            let entry = task.entry();
            let parts = [Some(&entry.task_type), Some(&entry.spec), task.queue.as_ref()];
            parts
                .into_iter()
                .flatten()
                .any(|part| part.to_lowercase().contains(&text))
        });
    }
    sort(&mut tasks, &asked.sort);
    let page = Paged::of(asked.page, tasks.len(), ROWS);
    let head = |label: &str, name: &str| sort_head(&view, label, name, &asked.sort, false);
    let content = html! {
        (page_head(&html! { "Schedulers" }, &html! { "Periodic tasks of the schedulers that run now: Go's and those of this library." }, &html! {}))
        (live("schedulers", &["queues"], &html! {
            @if repeated > 0 {
                (notice(Tone::Warning, &html! { (repeated) (if repeated == 1 { " periodic task is" } else { " periodic tasks are" }) " enqueued more than once: several schedulers have the same entry, and each enqueues for itself. Give them one name, or run one of them." }))
            }
            dl class="figures" {
                (figure("Periodic tasks", &html! { (format::number(count as u64)) }, &html! { "of " (format::number(entries.len() as u64)) (if entries.len() == 1 { " entry" } else { " entries" }) }))
                (figure("Next", &html! { @match next { Some(at) => (format::relative(at, view.now)), None => "–" } }, &html! { @if let Some(at) = next { (view.settings.absolute(at)) } }))
            }
            section class="card" aria-labelledby="entries-title" {
                div class="card-head" { h2 id="entries-title" { "Periodic tasks" } (filter(&view, &asked.q, "Filter by type, queue or spec")) }
                @if count == 0 {
                    (empty("No scheduler runs", "The entries of a scheduler are here while it runs."))
                } @else if tasks.is_empty() {
                    (empty("No periodic task fits the filter", "One fits if its type, queue or spec contains the text."))
                } @else {
                    div class="table-box" tabindex="0" role="region" aria-label="Periodic tasks" {
                        table data-rows {
                            thead { tr {
                                (head("Task type", "type")) (head("When", "spec")) (head("Queue", "queue"))
                                (head("Next", "next")) (head("Previous", "previous")) th scope="col" { span class="sr" { "Acts" } }
                            } }
                            tbody { @for task in page.rows(&tasks) { (row(&view, task)) } }
                        }
                    }
                    (page.links(&view))
                }
            }
        }))
    };
    Ok(view.page(Nav::Schedulers, "Schedulers", &content))
}

/// Reads the entries that the user may see.
async fn read(view: &View) -> Result<Vec<SchedulerEntry>> {
    let _read = view.app.budgets.read(&view.caller.user().name)?;
    let entries = view.app.readings.entries().await?;
    Ok(entries.iter().filter(|entry| view.sees_entry(entry)).cloned().collect())
}

/// Puts the entries together that enqueue the same task at the same times.
fn group<'e>(entries: &'e [SchedulerEntry], findings: &[FindingRecord]) -> Vec<Periodic<'e>> {
    let mut sorted: Vec<&SchedulerEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| {
        let key =
            |entry: &'e SchedulerEntry| (&entry.task_type, &entry.spec, &entry.payload, &entry.options, &entry.id);
        key(a).cmp(&key(b))
    });
    let is_repeated = |entry: &SchedulerEntry| {
        findings.iter().any(|finding| match &finding.evidence {
            FindingKind::RepeatedEntry { entries, .. } => entries.contains(&entry.id),
            _ => false,
        })
    };
    let groups = sorted.chunk_by(|a, b| same_entry(a, b));
    groups
        .map(|same| Periodic {
            entries: same.to_vec(),
            queue: queue_of(same[0]),
            is_repeated: same.iter().any(|entry| is_repeated(entry)),
        })
        .collect()
}

fn sort(tasks: &mut [Periodic<'_>], sort: &str) {
    // What is never due comes last.
    let at = |time: Option<DateTime<Utc>>| time.unwrap_or(DateTime::<Utc>::MAX_UTC);
    match sort.trim_start_matches('-') {
        "type" => {}
        "spec" => tasks.sort_by(|a, b| a.entry().spec.cmp(&b.entry().spec)),
        "queue" => tasks.sort_by(|a, b| a.queue.cmp(&b.queue)),
        "previous" => tasks.sort_by_key(|task| at(task.previous())),
        _ => tasks.sort_by_key(|task| at(task.next())),
    }
    if sort.starts_with('-') {
        tasks.reverse();
    }
}

fn row(view: &View, task: &Periodic<'_>) -> Markup {
    let entry = task.entry();
    html! {
        tr id={ "entry-" (entry.id) } {
            th scope="row" class="name" {
                a href=(view.with(&[("entry", &entry.id), ("q", ""), ("sort", ""), ("page", "")])) data-open-row { (entry.task_type) }
                " " (registered(task))
            }
            td class="wide" { (words(&entry.spec)) " " code class="hint" { (entry.spec) } }
            td { (queue(view, task)) }
            td { (time_or_dash(view, task.next())) }
            td { (time_or_dash(view, task.previous())) }
            td class="acts" { @if let Some(act) = run(view, task) { (act.quiet(task.entry().task_type.as_str()).button(view)) } }
        }
    }
}

/// Returns the badge of a task that several schedulers have registered.
pub(crate) fn registered(task: &Periodic<'_>) -> Markup {
    let times = task.entries.len();
    html! {
        @if times > 1 {
            @let title = match task.is_repeated {
                true => "Each of its entries enqueues for itself, so its tasks run more than once.",
                false => "Several schedulers have this entry. No task was seen that two of them enqueued.",
            };
            span class=(if task.is_repeated { "badge warning" } else { "badge" }) title=(title) { "registered " (times) " times" }
        }
    }
}

/// Returns a spec in words, or why it cannot be read.
pub(crate) fn words(spec: &str) -> Markup {
    match CronSpec::parse(spec) {
        Ok(spec) => html! { span class="spec-words" { (spec.in_words()) } },
        Err(error) => html! { (badge(Tone::Bad, "cannot be read")) " " span class="hint" { (error) } },
    }
}

/// Returns the link to the queue of a task.
pub(crate) fn queue(view: &View, task: &Periodic<'_>) -> Markup {
    html! {
        @match &task.queue {
            Some(queue) => a href=(view.queue_link(queue)) { (queue) },
            None => (badge(Tone::Bad, "cannot be read")),
        }
    }
}

/// Returns the act that enqueues a task now, for an operator of its queue.
pub(crate) fn run(view: &View, task: &Periodic<'_>) -> Option<Act> {
    let (queue, entry) = (task.queue.as_ref()?, task.entry());
    if !view.may(queue, Role::Operator) {
        return None;
    }
    let act = Act::post(act_path(view, entry, "run"), "Run now", "play")
        .asks(
            format!("Run {} now?", entry.task_type),
            format!("A task is enqueued into the queue {queue} at once. The times of the schedule do not change."),
        )
        .command(format!("asynq cron run -- {}", quote(&entry.id)))
        .says("The task is enqueued.");
    Some(act)
}

/// Returns the path of the API for an act on an entry.
pub(crate) fn act_path(view: &View, entry: &SchedulerEntry, act: &str) -> String {
    view.link(&format!("api/v1/schedulers/{}/{act}", segment(&entry.id)))
}
