//! `asynq audit`.

use asynq::{
    inspect::Cursor,
    inspector::{MAX_TRAIL, TrailEntry},
};
use clap::Args;

use crate::{cli::Global, error::Result, go};

/// Entries that are read at once.
const PART: u32 = 500;

#[derive(Debug, Args)]
#[command(after_help = "The trail has the last 10,000 acts, newest first. Acts of Go's tools are not in it.")]
pub(crate) struct Audit {
    /// Largest number of acts that are shown; 0: all.
    #[arg(long, value_name = "NUMBER", default_value_t = 30)]
    limit: u32,
    /// Only acts on this queue.
    #[arg(short, long, add = super::complete::queues())]
    queue: Option<String>,
    /// Only acts of operators of this name. `--actor` is the name of an act that is made.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Audit {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        let most = if self.limit == 0 { u32::MAX } else { self.limit };
        let mut listing = session
            .out
            .listing(&["When", "Who", "Act", "Target", "Changed", "Reason or failure"]);
        // Among entries that are not asked for, a small part would take many calls.
        let is_filtered = self.queue.is_some() || self.by.is_some();
        let part = if is_filtered { PART } else { most.min(PART) };
        let (mut cursor, mut shown) = (Cursor::default(), 0);
        'parts: loop {
            let read = session.inspector.audit_trail(cursor, part).await?;
            for entry in read.items.iter().filter(|entry| self.is_asked(entry)) {
                listing.push(row(entry), entry)?;
                shown += 1;
                if shown == most {
                    break 'parts;
                }
            }
            match read.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        listing.end(|| match is_filtered {
            true => format!("no such act among the last {MAX_TRAIL}"),
            false => "no acts".to_owned(),
        })?;
        Ok(())
    }

    fn is_asked(&self, entry: &TrailEntry) -> bool {
        let actor = entry.actor.as_ref().map(|actor| &actor.name);
        (self.queue.is_none() || self.queue == entry.queue) && (self.by.is_none() || self.by.as_ref() == actor)
    }
}

fn row(entry: &TrailEntry) -> Vec<String> {
    let (name, reason) = match &entry.actor {
        Some(actor) => (actor.name.as_str(), actor.reason.as_str()),
        None => ("-", ""),
    };
    let why = match &entry.failure {
        Some(failure) if reason.is_empty() => format!("failed: {failure}"),
        Some(failure) => format!("{reason}; failed: {failure}"),
        None => reason.to_owned(),
    };
    vec![
        go::date(entry.at),
        format!("{name}@{}", entry.host),
        entry.act.clone(),
        target(entry),
        entry.changed.map(|changed| changed.to_string()).unwrap_or_default(),
        why,
    ]
}

/// The target of an act: the queue, the task or the choice of tasks, and the details in parentheses.
fn target(entry: &TrailEntry) -> String {
    let parts = [&entry.queue, &entry.task, &entry.tasks];
    let mut target = parts
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(": ");
    if let Some(detail) = &entry.detail {
        target += if target.is_empty() { "" } else { " " };
        target += &format!("({detail})");
    }
    target
}
