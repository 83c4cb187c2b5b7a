//! `asynq task run`, `archive` and `delete`, for single tasks and for those that a query finds; and `cancel`.

use std::{num::NonZeroU32, time::Duration};

use asynq::{
    error::{BrokerError, Error},
    inspect::Cursor,
    inspector::{Act, ActLimits, ActProgress, Cancelled, SearchLimits, Then},
    query::Query,
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{super::each::each, query};
use crate::{
    cli::Global,
    error::{CliError, Result},
    hands::MANY,
    interrupt::Stop,
    output::plain_table,
    session::Session,
};

/// Number of tasks that the archive of a queue keeps, as in Go.
const ARCHIVE: u64 = 9_999;
/// Number of tasks that a dry run shows.
const SHOWN: usize = 10;
/// Longest time to count the tasks before a question.
const COUNTING: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Queue of the tasks.
    #[arg(short, long, allow_hyphen_values = true, requires = "id", conflicts_with = "query", add = super::super::complete::queues())]
    queue: Option<String>,
    /// Id of a task; may be given several times.
    #[arg(short, long, allow_hyphen_values = true, requires = "queue")]
    id: Vec<String>,
    /// Act on the tasks that this query finds, such as `queue=mail state=retry error~"timeout"`.
    #[arg(long, conflicts_with = "id")]
    query: Option<String>,
    /// Only show which tasks the query finds.
    #[arg(long, requires = "query")]
    dry_run: bool,
    /// Act on at most so many tasks a second, such as `50/s`.
    #[arg(long, requires = "query", value_parser = rate)]
    rate: Option<NonZeroU32>,
    /// End after so many tasks.
    #[arg(long, requires = "query", value_name = "TASKS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// Ids of running tasks.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Queue of the tasks. With it, the request is kept until the run has ended, and `--then` counts.
    #[arg(short, long, add = super::super::complete::queues())]
    queue: Option<String>,
    /// End of the cancelled tasks: retry, archive or delete.
    #[arg(long, default_value = "retry", requires = "queue")]
    then: Then,
}

fn rate(text: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number
        .parse()
        .map_err(|_| "a rate is a number of tasks a second from 1 on, such as 50/s".to_owned())
}

/// The answer to an act on one task.
#[derive(Debug, Serialize)]
struct ActRecord<'a> {
    act: &'static str,
    queue: &'a str,
    id: &'a str,
}

/// The answer to an act by query.
#[derive(Debug, Serialize)]
struct ByQueryRecord<'a> {
    act: &'static str,
    query: &'a str,
    /// Tasks that met the query.
    found: u64,
    /// Tasks that were acted on.
    done: u64,
    /// Tasks that had moved or changed meanwhile.
    moved: u64,
    undecided: u64,
    dropped: u64,
    poisoned: u64,
    looked_at: u64,
    /// The act went through all tasks.
    has_ended: bool,
}

/// An act as a question says it.
pub(super) fn verb(act: Act) -> &'static str {
    match act {
        Act::Run => "Run",
        Act::Archive => "Archive",
        Act::Delete => "Delete",
        _ => "Act on",
    }
}

/// Returns what a question says about tasks that an archive has no room for: `archived` are there, and `tasks` come.
pub(super) fn full_archive(archived: u64, tasks: u64) -> String {
    match (archived + tasks).checked_sub(ARCHIVE) {
        None | Some(0) => String::new(),
        Some(lost) => format!(". The archive keeps {ARCHIVE} tasks, so the {lost} oldest are deleted"),
    }
}

/// Returns the end of an act in words, as Go's program says it.
pub(super) fn outcome(act: Act) -> &'static str {
    match act {
        Act::Run => "now pending",
        Act::Archive => "archived",
        Act::Delete => "deleted",
        _ => "done",
    }
}

impl Choice {
    pub(crate) async fn act(&self, global: &Global, act: Act) -> Result<()> {
        match (&self.query, &self.queue) {
            (Some(text), _) => self.by_query(global, act, text).await,
            (None, Some(queue)) => {
                let session = global.connect().await?;
                session.hands.must_be_free()?;
                let lost = match act {
                    Act::Archive => {
                        let archived = session.inspector.get_queue_stats(queue).await?.archived;
                        full_archive(archived, self.id.len() as u64)
                    }
                    _ => String::new(),
                };
                let what = format!("{} {}{lost}", verb(act), named(&self.id, queue, &session));
                session.hands.confirm(&what)?;
                each(&self.id, "tasks", async |id| single(&session, act, queue, id).await).await
            }
            (None, None) => Err(CliError::usage("which tasks? Give --queue and --id, or --query")),
        }
    }

    /// Says whether an archive would lose tasks, if all of `tasks` came into that which has the most.
    async fn lost_by(&self, session: &Session, tasks: u64) -> Result<String> {
        let mut most = 0;
        for queue in session.inspector.queues().await? {
            match session.inspector.get_queue_stats(queue.as_str()).await {
                Ok(stats) => most = most.max(stats.archived),
                // It was deleted meanwhile.
                Err(Error::Broker(BrokerError::QueueNotFound { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(match most + tasks > ARCHIVE {
            true => format!(". An archive keeps {ARCHIVE} tasks; beyond that its oldest are deleted"),
            false => String::new(),
        })
    }

    async fn by_query(&self, global: &Global, act: Act, text: &str) -> Result<()> {
        let query = query::parse(text)?;
        let session = global.connect().await?;
        if self.dry_run {
            return self.preview(&session, act, &query).await;
        }
        session.hands.must_be_free()?;
        let limits = SearchLimits::default()
            .looked_at(u64::MAX)
            .bytes(u64::MAX)
            .time(COUNTING);
        if !session.hands.yes {
            let count = session.inspector.preview(&query, act, &limits).await?;
            if count.tasks == 0 && count.is_complete {
                return self.end(&session, act, text, ActProgress::default(), true);
            }
            let place = session.place();
            let tasks = self.limit.map_or(count.tasks, |limit| limit.min(count.tasks));
            let most = if tasks < count.tasks {
                format!(", {tasks} of them at most")
            } else {
                String::new()
            };
            let lost = match act {
                Act::Archive => self.lost_by(&session, tasks).await?,
                _ => String::new(),
            };
            let what = format!(
                "{} the tasks that {text:?} finds ({count}{most}) at {place}{lost}",
                verb(act)
            );
            let is_many = tasks > MANY || (!count.is_complete && self.limit.is_none_or(|limit| limit > MANY));
            // A query may concern several queues, so the act and its number stand for their names.
            let name = format!("{act} {tasks}");
            match is_many {
                true => session.hands.confirm_by_name(&what, &name)?,
                false => session.hands.confirm(&what)?,
            }
        }
        let mut limits = ActLimits::default();
        if let Some(rate) = self.rate {
            limits = limits.rate(rate);
        }
        if let Some(tasks) = self.limit {
            limits = limits.tasks(tasks);
        }
        let mut acting = session.inspector.act_by_query(&query, act, limits)?;
        let (bar, stop) = (bar(), Stop::default());
        let acted = stop.guard(async {
            while !stop.is_set() {
                match acting.next().await? {
                    Some(progress) => bar.set_message(format!("{} {}", progress.done, outcome(act))),
                    None => break,
                }
            }
            Ok::<_, CliError>(())
        });
        let acted = acted.await;
        bar.finish_and_clear();
        let known = acting.progress();
        // A stopped act is recorded as such.
        let progress = match acted {
            Some(Ok(())) if stop.is_set() => stop.guard(acting.stop()).await.unwrap_or(known),
            _ => known,
        };
        self.end(&session, act, text, progress, progress.has_ended)?;
        match acted {
            Some(Err(error)) => Err(error),
            _ if stop.is_set() && !progress.has_ended => {
                Err(CliError::failure("stopped by Ctrl-C; the same command goes on"))
            }
            _ => Ok(()),
        }
    }

    /// Tells what an act by query has done.
    fn end(&self, session: &Session, act: Act, text: &str, progress: ActProgress, has_ended: bool) -> Result<()> {
        let record = ByQueryRecord {
            act: act.as_str(),
            query: text,
            found: progress.found,
            done: progress.done,
            moved: progress.moved,
            undecided: progress.undecided,
            dropped: progress.dropped,
            poisoned: progress.poisoned,
            looked_at: progress.looked_at,
            has_ended,
        };
        session.answer(&record, || {
            let are = if act == Act::Run { "are " } else { "" };
            let mut line = format!("{} tasks {are}{}", record.done, outcome(act));
            for (number, what) in [
                (record.moved, "had moved or changed"),
                (record.undecided, "undecided"),
                (record.dropped, "without data removed"),
                (record.poisoned, "unreadable, moved to quarantine"),
            ] {
                if number > 0 {
                    line += &format!(", {number} {what}");
                }
            }
            line
        })
    }

    async fn preview(&self, session: &Session, act: Act, query: &Query) -> Result<()> {
        let limits = SearchLimits::default()
            .looked_at(u64::MAX)
            .bytes(u64::MAX)
            .time(COUNTING);
        let count = session.inspector.preview(query, act, &limits).await?;
        let mut rows = Vec::new();
        let mut from = Some(Cursor::default());
        while let Some(place) = from.filter(|_| rows.len() < SHOWN && count.tasks > 0) {
            let found = session
                .inspector
                .search(query, &limits.clone().found(SHOWN), &place)
                .await?;
            for task in found.tasks.iter().filter(|task| act.applies_to(task.state)) {
                rows.push(vec![
                    task.id.to_string(),
                    task.queue.to_string(),
                    task.state.to_string(),
                    task.task_type.clone(),
                ]);
            }
            from = found.next;
        }
        rows.truncate(SHOWN);
        #[derive(Serialize)]
        struct Preview {
            act: &'static str,
            tasks: u64,
            undecided: u64,
            is_complete: bool,
        }
        let record = Preview {
            act: act.as_str(),
            tasks: count.tasks,
            undecided: count.undecided,
            is_complete: count.is_complete,
        };
        session.out.record(&record, || {
            let mut text = format!("would {act}: {count}\n");
            if !rows.is_empty() {
                text += &format!("\n{}", plain_table(&["ID", "Queue", "State", "Type"], &rows));
            }
            if count.tasks > rows.len() as u64 {
                text += "…\n";
            }
            text
        })
    }
}

/// A bar of a length that nobody knows. It shows only on a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    // The template is right, and without it the bar looks as usual.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}; Ctrl-C stops") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Tasks with their place, for a question.
fn named(ids: &[String], queue: &str, session: &Session) -> String {
    let place = session.place();
    match ids {
        [id] => format!("task {id:?} of queue {queue:?} at {place}"),
        ids => format!("{} tasks of queue {queue:?} at {place}", ids.len()),
    }
}

async fn single(session: &Session, act: Act, queue: &str, id: &str) -> Result<()> {
    let inspector = &session.inspector;
    match act {
        Act::Run => inspector.run_task(queue, id).await,
        Act::Archive => inspector.archive_task(queue, id).await,
        _ => inspector.delete_task(queue, id).await,
    }
    .map_err(|error| CliError::from(error).context(format!("could not {act} task")))?;
    let record = ActRecord {
        act: act.as_str(),
        queue,
        id,
    };
    session.answer(&record, || match act {
        Act::Run => "task is now pending".to_owned(),
        other => format!("task {}", outcome(other)),
    })
}

impl Cancel {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        let place = session.place();
        let what = match &self.queue {
            Some(queue) => named(&self.ids, queue, &session),
            None if self.ids.len() == 1 => format!("all tasks with id {:?} at {place}", self.ids[0]),
            None => format!("all tasks with {} ids at {place}", self.ids.len()),
        };
        session.hands.confirm(&format!("Cancel {what}"))?;
        each(&self.ids, "tasks", async |id| self.cancel(&session, id).await).await
    }

    async fn cancel(&self, session: &Session, id: &str) -> Result<()> {
        #[derive(Serialize)]
        struct Record<'a> {
            act: &'static str,
            queue: Option<&'a str>,
            id: &'a str,
            /// The request is kept until the run has ended.
            is_kept: bool,
        }
        let kept = match &self.queue {
            None => {
                session.inspector.cancel_processing(id).await?;
                false
            }
            Some(queue) => session.inspector.cancel_task(queue, id, self.then).await? == Cancelled::Kept,
        };
        let record = Record {
            act: "cancel",
            queue: self.queue.as_deref(),
            id,
            is_kept: kept,
        };
        let id = crate::output::one_line(id);
        session.answer(&record, || format!("Sent cancelation signal for task {id}"))
    }
}
