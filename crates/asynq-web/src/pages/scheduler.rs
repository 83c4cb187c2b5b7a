//! The page of one periodic task: its next times, what it has enqueued, and the times that it missed.

use std::collections::BTreeSet;

use asynq::{
    cron::{CronSpec, Tz},
    findings::quote,
    info::SchedulerEntry,
    inspector::MAX_BACKFILL,
};
use axum::{extract::State, response::Response};
use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use maud::{Markup, html};

use super::{
    parts::{
        act::reason_field,
        data, format,
        icon::icon,
        text::{Tone, badge, command, dash, empty, id, id_link, notice, time, time_or_dash},
    },
    schedulers::{Asked, Periodic, act_path, queue, registered, run, words},
    shell::{Nav, live, page_head},
    view::View,
};
use crate::{
    access::Role,
    extract::{Path, Query},
    problem::Result,
    records::EntryRecord,
    v1::{
        common::SHORT,
        schedulers::{self, Enqueued, ListEvents},
    },
};

/// Next times that are shown.
const NEXT: usize = 5;
/// Enqueued tasks that are shown.
const EVENTS: usize = 12;
/// Enqueued tasks that are read to know which ticks ran.
const KNOWN: u64 = 1000;
/// Entries of one task whose histories are read.
const SAME: usize = 4;
/// Ticks that are offered for a backfill at once.
const TICKS: usize = 200;

type Time = DateTime<Utc>;

pub(crate) async fn show(view: &View, asked: &Asked, task: Option<&Periodic<'_>>) -> Result<Response> {
    let Some(task) = task else {
        let content = html! {
            (page_head(&html! { "Periodic task" }, &html! { a href=(view.link("schedulers")) { "All periodic tasks" } }, &html! {}))
            (empty("No running scheduler has this entry", "Its scheduler has ended or started anew: entries get new ids then. Look for it in the list."))
        };
        return Ok(view.page(Nav::Schedulers, "Periodic task", &content));
    };
    let entry = task.entry();
    let mut events: Vec<Enqueued> = Vec::new();
    let mut known_since: Option<Time> = None;
    for same in task.entries.iter().take(SAME) {
        let list = ListEvents {
            page: None,
            size: Some(KNOWN),
        };
        let (app, caller) = (State(view.app.clone()), view.caller.clone());
        let history = schedulers::history(app, caller, Path(same.id.clone()), Query(list))
            .await?
            .0;
        let first = history.events.iter().map(|event| event.enqueued_at).min();
        known_since = [known_since, first].into_iter().flatten().min();
        events.extend(history.events);
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.enqueued_at));
    let may_run = task.queue.as_ref().is_some_and(|queue| view.may(queue, Role::Operator));
    let acts = html! { @if let Some(act) = run(view, task) { (act.button(view)) } };
    let content = html! {
        (page_head(
            &html! { (entry.task_type) " " (registered(task)) },
            &html! { a href=(view.link("schedulers")) { "Periodic tasks" } " › " (words(&entry.spec)) },
            &acts,
        ))
        (live("scheduler", &["queues"], &html! {
            @if task.is_repeated {
                (notice(Tone::Warning, &html! { "It is registered " (task.entries.len()) " times, and each of its entries enqueues for itself. Give their schedulers one name, or run one of them." }))
            }
            div class="columns" {
                div class="stack" { (about(view, task)) (times(view, entry, task)) }
                (history(view, task, &events))
            }
        }))
        @if may_run { (backfill(view, asked, entry, &events, known_since)) }
    };
    Ok(view.page(Nav::Schedulers, &entry.task_type, &content))
}

fn about(view: &View, task: &Periodic<'_>) -> Markup {
    let entry = task.entry();
    let record = EntryRecord::of(entry, &view.caller.redaction().up_to(SHORT));
    html! {
        section class="card" {
            h2 { "Entry" }
            dl class="pairs" {
                dt { "Spec" } dd { code { (entry.spec) } }
                dt { "Queue" } dd { (queue(view, task)) }
                dt { "Options" } dd { @if entry.options.is_empty() { (dash()) } @for option in &entry.options { code { (option) } " " } }
                dt { (if task.entries.len() == 1 { "Id" } else { "Ids" }) }
                dd { @for entry in task.entries.iter().take(10) { (id(&entry.id)) " " } @if task.entries.len() > 10 { span class="hint" { "and " (task.entries.len() - 10) " more" } } }
                dt { "Payload" } dd { (data::block(&record.payload)) }
            }
        }
    }
}

/// Returns the time after another one at which a spec is due.
fn after(spec: &CronSpec, zone: Tz, at: Time) -> Option<Time> {
    let zone = spec.timezone().unwrap_or(zone);
    spec.next_after(&at.with_timezone(&zone)).map(|next| next.to_utc())
}

/// Returns the next times of a spec. The first one is that which its scheduler tells, if it does. A scheduler may count in a time zone of
/// its own, which it does not tell: then the first one is the only one that is known.
fn next_times(spec: &str, next: Option<Time>, now: Time) -> Vec<Time> {
    let is_interval = spec.trim_start().starts_with("@every");
    let Ok(spec) = CronSpec::parse(spec) else {
        return next.into_iter().collect();
    };
    let told = next.filter(|next| *next >= now);
    if let Some(told) = told {
        let is_due = after(&spec, Tz::UTC, told - TimeDelta::seconds(1)) == Some(told);
        if !is_interval && !is_due {
            return vec![told];
        }
    }
    let first = told.or_else(|| after(&spec, Tz::UTC, now));
    std::iter::successors(first, |at| after(&spec, Tz::UTC, *at))
        .take(NEXT)
        .collect()
}

fn times(view: &View, entry: &SchedulerEntry, task: &Periodic<'_>) -> Markup {
    let next = next_times(&entry.spec, task.next(), view.now);
    html! {
        section class="card" {
            h2 { "Next times" }
            @if next.is_empty() { p class="hint" { "It is never due." } } @else {
                ol class="times" { @for at in &next { li { span class="num" { (view.settings.absolute(*at)) } " " span class="hint" { (format::relative(*at, view.now)) } } } }
            }
            @if next.len() == 1 { p class="hint" { "Later times are not known: the scheduler counts in a time zone that it does not tell." } }
            p class="hint" { "Previous: " (time_or_dash(view, task.previous())) }
            p { (command(view, &format!("asynq cron next {}", quote(&entry.spec)))) }
        }
    }
}

fn history(view: &View, task: &Periodic<'_>, events: &[Enqueued]) -> Markup {
    html! {
        section class="card" {
            h2 { "Enqueued" }
            @if events.is_empty() {
                p class="hint" { "It has enqueued nothing since its scheduler started." }
            } @else {
                table {
                    thead { tr { th scope="col" { "Task" } th scope="col" { "Enqueued" } } }
                    tbody {
                        @for event in events.iter().take(EVENTS) {
                            tr {
                                td { @match &task.queue { Some(queue) => (id_link(&view.task_link(queue, &event.task), &event.task)), None => (id(&event.task)) } }
                                td { (time(view, event.enqueued_at)) }
                            }
                        }
                    }
                }
                @if events.len() > EVENTS { p class="hint" { "The last " (EVENTS) " of " (format::number(events.len() as u64)) ". Completed tasks go when their retention ends." } }
            }
        }
    }
}

/// The ticks of a span, with what is known about them.
struct Ticks {
    /// The ticks that no scheduler has enqueued, and whether the history reaches back to them.
    missed: Vec<(Time, bool)>,
    ran: usize,
    /// There are more after these.
    is_cut: bool,
}

fn backfill(
    view: &View,
    asked: &Asked,
    entry: &SchedulerEntry,
    events: &[Enqueued],
    known_since: Option<Time>,
) -> Markup {
    let is_asked = !asked.from.is_empty();
    let ticks = is_asked.then(|| ticks(view, asked, entry, events, known_since));
    let zone = if asked.zone.is_empty() { "UTC" } else { &asked.zone };
    html! {
        section class="card" aria-labelledby="backfill-title" id="backfill" {
            h2 id="backfill-title" { "Backfill" }
            p class="hint" { "Enqueue the tasks of past times that the scheduler missed, such as during an outage. No time is enqueued twice within seven days." }
            form method="get" class="filters" action="#backfill" {
                input type="hidden" name="entry" value=(entry.id);
                label class="field" { span { "From (" (view.settings.zone) ")" } input type="datetime-local" name="from" value=(asked.from) required; }
                label class="field" { span { "To" } input type="datetime-local" name="to" value=(asked.to); }
                label class="field" { span { "Zone of the scheduler" } input name="zone" value=(zone) maxlength="64" title="It counts if the spec names none."; }
                button class="button align-end" { "Find missed times" }
            }
            @match ticks {
                None => {}
                Some(Err(fault)) => (notice(Tone::Bad, &html! { (fault) })),
                Some(Ok(ticks)) => (missed(view, entry, &ticks)),
            }
        }
    }
}

fn missed(view: &View, entry: &SchedulerEntry, ticks: &Ticks) -> Markup {
    if ticks.missed.is_empty() {
        return html! { p class="all-well" { (icon("check")) "No time was missed in this span: " (ticks.ran) " ran." } };
    }
    html! {
        form class="stack" hx-ext="api" hx-post=(act_path(view, entry, "backfill")) hx-swap="none"
            data-ask={ "Enqueue the chosen times of " (entry.task_type) "?" } data-effect="A task is enqueued for each of them at once. Those that an earlier backfill has decided are left out."
            data-done="The times are enqueued." {
            p { (ticks.missed.len()) " missed, " (ticks.ran) " ran." @if ticks.is_cut { " There are more: these are the first." } }
            ul class="ticks" {
                @for (at, is_known) in &ticks.missed {
                    li { label class="choice" {
                        input type="checkbox" name="ticks" data-repeat value=(at.to_rfc3339()) checked[*is_known];
                        span class="num" { (view.settings.absolute(*at)) }
                        @if !*is_known { span title="The history does not reach back to it: it may have run." { (badge(Tone::Warning, "unknown")) } }
                    } }
                }
            }
            (reason_field(view))
            p class="notice bad" role="alert" data-problem hidden {}
            button class="button primary needs-js" { "Enqueue" }
        }
    }
}

/// Reads a time of a form in the time zone of the settings.
fn moment(view: &View, text: &str) -> Option<Time> {
    let form = if text.len() > 16 {
        "%Y-%m-%dT%H:%M:%S"
    } else {
        "%Y-%m-%dT%H:%M"
    };
    let local = NaiveDateTime::parse_from_str(text, form).ok()?;
    Some(view.settings.zone.from_local_datetime(&local).earliest()?.to_utc())
}

fn ticks(
    view: &View,
    asked: &Asked,
    entry: &SchedulerEntry,
    events: &[Enqueued],
    known_since: Option<Time>,
) -> std::result::Result<Ticks, String> {
    let from = moment(view, &asked.from).ok_or("From is no time as 2026-01-31T08:30.")?;
    let to = match asked.to.as_str() {
        "" => view.now,
        text => moment(view, text).ok_or("To is no time as 2026-01-31T08:30.")?,
    };
    let to = to.min(view.now);
    let zone: Tz = match asked.zone.trim() {
        "" => Tz::UTC,
        zone => zone.parse().map_err(|_| format!("There is no time zone {zone:?}."))?,
    };
    if to < from {
        return Err("The span ends before it begins, or begins in the future.".to_owned());
    }
    let spec = CronSpec::parse(&entry.spec).map_err(|error| format!("The spec cannot be read: {error}."))?;
    let all = all_ticks(&spec, entry, zone, from, to)?;
    // An event counts for the last tick before it; one behind the tick that follows the last is of a later one.
    let end = all
        .last()
        .and_then(|last| after(&spec, zone, *last))
        .unwrap_or(Time::MAX_UTC);
    let ran: BTreeSet<Time> = events
        .iter()
        .filter(|event| event.enqueued_at < end)
        .filter_map(|event| {
            let before = all.partition_point(|tick| *tick <= event.enqueued_at);
            before.checked_sub(1).map(|tick| all[tick])
        })
        .collect();
    let is_known = |tick: Time| known_since.is_some_and(|since| tick >= since);
    let missed = all
        .iter()
        .filter(|tick| !ran.contains(tick))
        .map(|tick| (*tick, is_known(*tick)));
    let missed: Vec<_> = missed.collect();
    Ok(Ticks {
        is_cut: missed.len() > TICKS || all.len() == MAX_BACKFILL,
        missed: missed.into_iter().take(TICKS).collect(),
        ran: ran.len(),
    })
}

/// Returns the first ticks of a span.
fn all_ticks(
    spec: &CronSpec,
    entry: &SchedulerEntry,
    zone: Tz,
    from: Time,
    to: Time,
) -> std::result::Result<Vec<Time>, String> {
    let known = entry.next.or(entry.prev);
    let second = TimeDelta::seconds(1);
    let first = match (spec.every(), known) {
        (Some(period), Some(known)) => {
            // The ticks of a period are where those are that the scheduler has published.
            let period = i64::try_from(period.as_secs()).unwrap_or(i64::MAX).max(1);
            let from = from.timestamp();
            let ahead = (known.timestamp().rem_euclid(period) - from).rem_euclid(period);
            from.checked_add(ahead).and_then(|at| DateTime::from_timestamp(at, 0))
        }
        (Some(_), None) => return Err("The scheduler has not told when this entry is due.".to_owned()),
        (None, known) => {
            let fits = |tick: Time| {
                tick.checked_sub_signed(second)
                    .and_then(|before| after(spec, zone, before))
                    == Some(tick)
            };
            if let Some(known) = known.filter(|known| !fits(*known)) {
                return Err(format!(
                    "In the zone {zone} the entry is not due at {}, but its scheduler says so: give the zone of the scheduler.",
                    known.to_rfc3339()
                ));
            }
            from.checked_sub_signed(second)
                .and_then(|before| after(spec, zone, before))
        }
    };
    let ticks = std::iter::successors(first, |at| after(spec, zone, *at));
    Ok(ticks.take_while(|tick| *tick <= to).take(MAX_BACKFILL).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn entry(spec: &str, next: Option<Time>) -> SchedulerEntry {
        SchedulerEntry {
            id: "e".to_owned(),
            spec: spec.to_owned(),
            task_type: "t".to_owned(),
            payload: "".into(),
            options: Vec::new(),
            next,
            prev: None,
        }
    }

    #[test]
    fn the_next_times_follow_that_of_the_scheduler() {
        assert_eq!(next_times("@every 1h", Some(at(60)), at(0))[..2], [at(60), at(3660)]);
        // Its scheduler has gone, and what it told is past.
        assert_eq!(next_times("@every 1h", Some(at(-60)), at(0))[0], at(3600));
        assert!(next_times("0 0 30 2 *", None, at(0)).is_empty());
        // A time that fits, and one of another time zone.
        assert_eq!(
            next_times("0 * * * *", Some(at(2800)), at(0))[..2],
            [at(2800), at(6400)]
        );
        assert_eq!(next_times("0 * * * *", Some(at(1000)), at(0)), [at(1000)]);
        assert_eq!(next_times("often", Some(at(5)), at(0)), [at(5)]);
    }

    #[test]
    fn the_ticks_of_a_span_are_where_the_scheduler_has_them() {
        let every = CronSpec::parse("@every 10m").unwrap();
        let of = |next, from, to| all_ticks(&every, &entry("@every 10m", next), Tz::UTC, at(from), at(to));
        assert_eq!(of(Some(at(6030)), 0, 1300).unwrap(), [at(30), at(630), at(1230)]);
        assert!(of(None, 0, 1300).is_err());
        let hourly = CronSpec::parse("0 * * * *").unwrap();
        let of = |next, zone| all_ticks(&hourly, &entry("0 * * * *", next), zone, at(0), at(7200));
        assert_eq!(of(None, Tz::UTC).unwrap(), [at(2800), at(6400)]);
        // Half an hour beside UTC.
        assert!(of(Some(at(2800)), Tz::Asia__Kolkata).is_err());
    }
}
