//! `asynq cron`: looks at periodic tasks, and enqueues them by hand.

mod backfill;
mod list;
mod spec;

use asynq::info::SchedulerEntry;
use asynq_web::records::TaskRecord;
use clap::{Args, Subcommand};

use crate::{
    cli::Global,
    error::{CliError, Result},
    output::one_line,
    session::Session,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the entries of the running schedulers, Go's and ours.
    #[command(visible_alias = "ls")]
    List,
    /// Show which tasks entries have enqueued, newest first.
    History(list::History),
    /// Show the next times of a cron spec. Needs no Redis.
    Next(spec::Next),
    /// Enqueue the task of an entry now. Its ticks are not affected.
    Run(Entry),
    /// Enqueue the tasks of past ticks of an entry, those that its scheduler missed.
    Backfill(backfill::Backfill),
}

/// An entry that the user names.
#[derive(Debug, Args)]
pub(crate) struct Entry {
    /// Id of the entry, as `asynq cron list` shows it. The first characters will do.
    #[arg(value_name = "ENTRY")]
    entry: String,
}

impl Command {
    pub(crate) fn is_listing(&self) -> bool {
        matches!(self, Self::List | Self::History(_) | Self::Next(_))
    }

    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::List => list::list(&global.connect().await?).await,
            Self::History(command) => command.run(global).await,
            Self::Next(command) => command.run(global.out()),
            Self::Run(entry) => entry.run(global).await,
            Self::Backfill(command) => command.run(global).await,
        }
    }
}

impl Entry {
    /// Finds the entry.
    ///
    /// # Errors
    /// [`Status::NotFound`](crate::error::Status::NotFound), and [`Status::Usage`](crate::error::Status::Usage) if
    /// several begin so.
    async fn find(&self, session: &Session) -> Result<(SchedulerEntry, Vec<SchedulerEntry>)> {
        let name = &self.entry;
        let entries = session.inspector.list_scheduler_entries().await?;
        let of_beginning: Vec<_> = entries
            .iter()
            .filter(|entry| entry.id.starts_with(name.as_str()))
            .collect();
        let found = match (entries.iter().find(|entry| entry.id == *name), of_beginning.as_slice()) {
            (Some(entry), _) => entry.clone(),
            (None, [entry]) if !name.is_empty() => (*entry).clone(),
            (None, [_, _, ..]) if !name.is_empty() => {
                return Err(CliError::usage(format!("several entries begin with {name:?}")));
            }
            _ => {
                let error = CliError::not_found(format!("there is no scheduler entry {name:?}"));
                return Err(error.hint("`asynq cron list` shows the entries of the schedulers that run."));
            }
        };
        Ok((found, entries))
    }

    async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        session.hands.must_be_free()?;
        let (entry, _) = self.find(&session).await?;
        let what = format!("Enqueue the task of entry {} now at {}", named(&entry), session.place());
        session.hands.confirm(&what)?;
        let info = session.inspector.run_entry(&entry).await;
        let info = info.map_err(|error| CliError::from(error).context("could not enqueue task"))?;
        session.answer(&TaskRecord::of(&info, &session.redaction()), || {
            let (id, queue) = (one_line(info.id.as_str()), one_line(info.queue.as_str()));
            format!("Enqueued task {id} to queue {queue}")
        })
    }
}

/// An entry in a question: its id, spec and type.
fn named(entry: &SchedulerEntry) -> String {
    one_line(&format!("{} ({}, {})", entry.id, entry.spec, entry.task_type))
}

/// Returns whether two entries enqueue the same tasks at the same times. Each scheduler publishes its own.
fn is_same(one: &SchedulerEntry, other: &SchedulerEntry) -> bool {
    (&one.spec, &one.task_type, &one.payload, &one.options)
        == (&other.spec, &other.task_type, &other.payload, &other.options)
}
