//! `asynq cron backfill`: enqueues the tasks of past ticks.

use std::collections::BTreeSet;

use asynq::{cron::Tz, info::SchedulerEntry, inspector::MAX_BACKFILL};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use serde::Serialize;

use super::{
    Entry, is_same, named,
    spec::{parse, times, zone_argument},
};
use crate::{
    cli::Global,
    error::{CliError, Result},
    go::time_argument,
    interrupt::Stop,
    session::Session,
};

/// Ticks that are shown of a preview.
const SHOWN: usize = 20;
/// Events that are read at once.
const PAGE: u32 = 1000;

#[derive(Debug, Args)]
#[command(
    after_help = "Ticks that a scheduler has enqueued, by the history of the entry, are left out. A history has the last 1000 \
tasks, and a scheduler that ends deletes those of its entries. Ticks before the histories begin may have run, so they are left \
out too, unless `--also-unknown` is given. Each tick is remembered for \
seven days, so the same command again enqueues nothing twice. Without a fixed id, the task of a tick gets the id \
`backfill:…:TIME`."
)]
pub(crate) struct Backfill {
    #[command(flatten)]
    entry: Entry,
    /// First time of the span, in RFC 3339. A tick at this time counts.
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    from: DateTime<Utc>,
    /// Last time of the span, in RFC 3339. A tick at this time counts. Default: now.
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    to: Option<DateTime<Utc>>,
    /// Time zone of the spec, unless it names one: that of the scheduler.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone_argument)]
    tz: Tz,
    /// Also enqueue the ticks before the histories of the entry begin. Nobody knows whether their tasks have run.
    #[arg(long)]
    also_unknown: bool,
    /// Show the ticks, and enqueue nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Record<'a> {
    act: &'static str,
    entry: &'a str,
    /// Nothing was enqueued, because of `--dry-run`.
    is_preview: bool,
    /// The ticks that were or would be enqueued.
    ticks: &'a [DateTime<Utc>],
    enqueued: u64,
    /// Ticks that a scheduler enqueued.
    by_scheduler: u64,
    /// Ticks before the histories begin, of which nobody knows whether their tasks ran.
    unknown: u64,
    /// These are left out.
    is_unknown_left_out: bool,
    /// Ticks that an earlier backfill enqueued.
    decided_before: u64,
    /// Ticks whose task was refused, as its id or its unique lock was taken.
    refused: u64,
    /// Ctrl-C ended it.
    is_stopped: bool,
}

impl Backfill {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let to = self.to.unwrap_or_else(Utc::now).min(Utc::now());
        if to < self.from {
            return Err(CliError::usage(
                "the span ends before it begins, or begins in the future",
            ));
        }
        let session = global.connect().await?;
        if !self.dry_run {
            session.hands.must_be_free()?;
        }
        let (entry, entries) = self.entry.find(&session).await?;
        let all = self.ticks_of(&entry, to)?;
        let (by_scheduler, known_since) = ticks_enqueued(&session, &entry, &entries, &all, self.tz).await?;
        let is_unknown =
            |tick: &DateTime<Utc>| !by_scheduler.contains(tick) && known_since.is_none_or(|since| *tick < since);
        let unknown = all.iter().filter(|tick| is_unknown(tick)).count() as u64;
        let ticks: Vec<_> = all
            .iter()
            .copied()
            .filter(|tick| !by_scheduler.contains(tick) && (self.also_unknown || !is_unknown(tick)))
            .collect();
        let mut record = Record {
            act: "backfill",
            entry: &entry.id,
            is_preview: self.dry_run || ticks.is_empty(),
            ticks: &ticks,
            enqueued: 0,
            by_scheduler: by_scheduler.len() as u64,
            unknown,
            is_unknown_left_out: !self.also_unknown,
            decided_before: 0,
            refused: 0,
            is_stopped: false,
        };
        if record.is_preview {
            return session.out.record(&record, || preview(&record));
        }
        let what = format!(
            "Enqueue the tasks of {} past ticks of entry {} at {}{}",
            ticks.len(),
            named(&entry),
            session.place(),
            match unknown {
                count if self.also_unknown && count > 0 => format!(". {count} of them may have run"),
                _ => String::new(),
            }
        );
        session.hands.confirm_tasks(&what, ticks.len() as u64, &entry.id)?;
        let stop = Stop::default();
        let until_stopped = ticks.iter().copied().take_while(|_| !stop.is_set());
        let Some(done) = stop
            .guard(session.inspector.backfill_entry(&entry, until_stopped))
            .await
        else {
            let error = CliError::failure("given up by Ctrl-C; it is not known how many ticks were enqueued");
            return Err(error.hint("The same command goes on: it enqueues no tick twice."));
        };
        let done = done.map_err(|error| {
            let error = CliError::from(error).context("could not enqueue all ticks");
            error.hint("The same command goes on: it enqueues no tick twice.")
        })?;
        record.enqueued = done.enqueued;
        record.decided_before = done.decided_before;
        record.refused = done.refused;
        record.is_stopped = stop.is_set();
        session.answer(&record, || result(&record))?;
        match record.is_stopped {
            true => Err(CliError::failure("stopped by Ctrl-C; the same command goes on")),
            false => Ok(()),
        }
    }

    /// The ticks of an entry in the span.
    fn ticks_of(&self, entry: &SchedulerEntry, to: DateTime<Utc>) -> Result<Vec<DateTime<Utc>>> {
        let spec = parse(&entry.spec)?;
        let ticks: Vec<_> = match (spec.every(), entry.next.or(entry.prev)) {
            (Some(period), Some(known)) => {
                // The ticks of a period are where those are that the scheduler has published.
                let period = i64::try_from(period.as_secs()).unwrap_or(i64::MAX).max(1);
                let phase = known.timestamp().rem_euclid(period);
                let from = self.from.timestamp() + i64::from(self.from.timestamp_subsec_nanos() > 0);
                let first = from + (phase - from).rem_euclid(period);
                std::iter::successors(Some(first), |tick| tick.checked_add(period))
                    .map_while(|tick| DateTime::from_timestamp(tick, 0))
                    .take_while(|tick| *tick <= to)
                    .take(MAX_BACKFILL + 1)
                    .collect()
            }
            (Some(_), None) => {
                return Err(CliError::failure(
                    "the scheduler has not published when this entry is due",
                ));
            }
            (None, known) => {
                let fits = |tick: DateTime<Utc>| {
                    let before = tick.checked_sub_signed(TimeDelta::seconds(1));
                    before.is_some_and(|before| times(&spec, self.tz, before).next() == Some(tick))
                };
                if let Some(known) = known.filter(|known| !fits(*known)) {
                    let error = CliError::usage(format!(
                        "in the zone {} the entry is not due at {}, but its scheduler says so",
                        self.tz.name(),
                        known.to_rfc3339_opts(SecondsFormat::Secs, true)
                    ));
                    return Err(error.hint("Give the time zone of the scheduler with `--tz ZONE`."));
                }
                times(&spec, self.tz, self.from - TimeDelta::nanoseconds(1))
                    .take_while(|tick| *tick <= to)
                    .take(MAX_BACKFILL + 1)
                    .collect()
            }
        };
        if ticks.len() > MAX_BACKFILL {
            let error = CliError::usage(format!("the span has more than {MAX_BACKFILL} ticks"));
            return Err(error.hint(format!(
                "Take a shorter one: the first {MAX_BACKFILL} ticks end at {}.",
                ticks[MAX_BACKFILL - 1].to_rfc3339_opts(SecondsFormat::Secs, true)
            )));
        }
        Ok(ticks)
    }
}

/// The ticks that schedulers enqueued, by the histories of the entry, and the time at which these begin. An event counts for the
/// last tick before it.
async fn ticks_enqueued(
    session: &Session,
    entry: &SchedulerEntry,
    entries: &[SchedulerEntry],
    ticks: &[DateTime<Utc>],
    zone: Tz,
) -> Result<(BTreeSet<DateTime<Utc>>, Option<DateTime<Utc>>)> {
    let (mut enqueued, mut since) = (BTreeSet::new(), None);
    let Some(&last) = ticks.last() else {
        return Ok((enqueued, since));
    };
    // An event after the tick that follows the last one is of a later tick.
    let end = parse(&entry.spec)
        .ok()
        .and_then(|spec| times(&spec, zone, last).next())
        .unwrap_or(DateTime::<Utc>::MAX_UTC);
    for same in entries.iter().filter(|other| is_same(entry, other)) {
        let events = session
            .inspector
            .list_scheduler_enqueue_events(&same.id, 1, PAGE)
            .await?;
        let first = events.iter().map(|event| event.enqueued_at).min();
        // The history that reaches back furthest counts.
        since = [since, first].into_iter().flatten().min();
        for event in events.iter().filter(|event| event.enqueued_at < end) {
            let before = ticks.partition_point(|tick| *tick <= event.enqueued_at);
            enqueued.extend(before.checked_sub(1).map(|tick| ticks[tick]));
        }
    }
    Ok((enqueued, since))
}

fn ticks(count: u64) -> String {
    match count {
        1 => "1 tick".to_owned(),
        _ => format!("{count} ticks"),
    }
}

fn preview(record: &Record<'_>) -> String {
    let mut text = format!("would enqueue {}", ticks(record.ticks.len() as u64));
    if record.by_scheduler > 0 {
        text += &format!("; {} by the scheduler left out", ticks(record.by_scheduler));
    }
    text += &unknown(record);
    for tick in record.ticks.iter().take(SHOWN) {
        text += &format!("\n  {}", tick.to_rfc3339_opts(SecondsFormat::Secs, true));
    }
    if record.ticks.len() > SHOWN {
        text += "\n  …";
    }
    text
}

fn result(record: &Record<'_>) -> String {
    let mut text = format!("enqueued {}", ticks(record.enqueued));
    for (count, what) in [
        (record.by_scheduler, "by the scheduler left out"),
        (record.decided_before, "decided by an earlier backfill"),
        (record.refused, "refused: their id or unique lock is taken"),
    ] {
        if count > 0 {
            text += &format!("; {} {what}", ticks(count));
        }
    }
    text + &unknown(record)
}

/// Tells about ticks before the histories begin.
fn unknown(record: &Record<'_>) -> String {
    match (record.unknown, record.is_unknown_left_out) {
        (0, _) => String::new(),
        (count, true) => format!(
            "; {} older than the history left out: their tasks may have run (`--also-unknown`)",
            ticks(count)
        ),
        (count, false) => format!("; {} older than the history: their tasks may have run", ticks(count)),
    }
}
