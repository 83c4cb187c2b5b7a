//! `asynq cron list` and `history`.

use std::num::NonZeroU32;

use asynq::info::SchedulerEntry;
use asynq_web::records::{EntryRecord, Redaction};
use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use crate::{
    cli::Global,
    error::Result,
    go,
    output::{one_line, plain_table},
    redact,
    session::Session,
};

/// Between the parts of an output about several entries, as in Go's program.
const SEPARATOR: &str = "=================================================";
/// Largest number of events on a page.
const LARGEST_PAGE: i64 = 10_000;

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Ids of entries.
    #[arg(required = true, value_name = "ENTRY")]
    entries: Vec<String>,
    /// Number of the page, from 1.
    #[arg(long, default_value = "1")]
    page: NonZeroU32,
    /// Number of tasks on a page, 1 to 10000.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=LARGEST_PAGE))]
    size: u32,
}

#[derive(Debug, Serialize)]
struct EventRecord<'a> {
    entry: &'a str,
    task: &'a str,
    enqueued: DateTime<Utc>,
}

pub(super) async fn list(session: &Session) -> Result<()> {
    let mut entries = session.inspector.list_scheduler_entries().await?;
    entries.sort_by(|a, b| (&a.spec, &a.id).cmp(&(&b.spec, &b.id)));
    let redaction = session.redaction();
    let mut listing = session
        .out
        .listing(&["EntryID", "Spec", "Type", "Payload", "Options", "Next", "Prev"]);
    let now = Utc::now();
    for entry in &entries {
        listing.push(row(entry, now, &redaction), &EntryRecord::of(entry, &redaction))?;
    }
    listing.end(|| "No scheduler entries".to_owned()).map(drop)
}

fn row(entry: &SchedulerEntry, now: DateTime<Utc>, redaction: &Redaction) -> Vec<String> {
    let next = match entry.next {
        // A scheduler shows no time for a spec that never fits again.
        None => "Never".to_owned(),
        Some(next) if (next - now).as_seconds_f64().round() < 0.0 => "Now".to_owned(),
        Some(next) => format!("In {}", go::between(now, next)),
    };
    let prev = entry
        .prev
        .map_or_else(|| "N/A".to_owned(), |prev| format!("{} ago", go::between(prev, now)));
    vec![
        entry.id.clone(),
        entry.spec.clone(),
        entry.task_type.clone(),
        redact::text(redaction.hides(&entry.queue(), &entry.task_type), &entry.payload),
        format!("[{}]", entry.options.join(" ")),
        next,
        prev,
    ]
}

impl History {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        let mut listing = session.out.listing(&[]);
        for (number, entry) in self.entries.iter().enumerate() {
            if number > 0 {
                session.out.text(format!("\n{SEPARATOR}\n"))?;
            }
            session.out.text(format!("\nEntry: {}\n\n", one_line(entry)))?;
            let inspector = &session.inspector;
            let events = inspector
                .list_scheduler_enqueue_events(entry, self.page.get(), self.size)
                .await?;
            let rows: Vec<Vec<String>> = events
                .iter()
                .map(|event| vec![event.task_id.to_string(), go_time(event.enqueued_at)])
                .collect();
            session.out.text(match rows.is_empty() {
                true => format!("No scheduler enqueue events found for entry: {}\n", one_line(entry)),
                false => plain_table(&["TaskID", "EnqueuedAt"], &rows),
            })?;
            for event in &events {
                let record = EventRecord {
                    entry,
                    task: event.task_id.as_str(),
                    enqueued: event.enqueued_at,
                };
                listing.push(Vec::new(), &record)?;
            }
        }
        listing.end(String::new).map(drop)
    }
}

/// A time as Go prints a `time.Time`: in UTC, the fraction without the zeros at its end.
fn go_time(at: DateTime<Utc>) -> String {
    let fraction = format!(".{:09}", at.timestamp_subsec_nanos());
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{}{fraction} +0000 UTC", at.format("%Y-%m-%d %H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_by_go() {
        let at = |nanos| go_time(DateTime::from_timestamp(1_700_000_000, nanos).unwrap());
        assert_eq!(at(0), "2023-11-14 22:13:20 +0000 UTC");
        assert_eq!(at(500_000), "2023-11-14 22:13:20.0005 +0000 UTC");
    }
}
