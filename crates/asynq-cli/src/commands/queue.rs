//! `asynq queue`: looks at queues, pauses and deletes them.

use asynq::info::DailyStats;
use asynq_web::records::QueueRecord;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::each::each;
use crate::{
    cli::Global,
    error::{CliError, Result},
    output::{BOLD, one_line, plain_table},
    session::Session,
};

/// Between the parts of an output about several queues, as in Go's program.
const SEPARATOR: &str = "=================================================";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the queues. In a cluster also their slots and nodes.
    #[command(visible_alias = "ls")]
    List,
    /// Show the numbers of queues.
    Inspect(Names),
    /// Show the processed and failed tasks of each day (UTC), newest first.
    History {
        #[command(flatten)]
        queues: Names,
        /// Number of days, 1 to 366. Counters are kept for 90 days.
        #[arg(short = 'x', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=366))]
        days: u32,
    },
    /// Stop all servers from taking tasks of queues. Tasks can still be enqueued.
    Pause(Names),
    /// Let servers take tasks of paused queues again.
    #[command(visible_alias = "unpause")]
    Resume(Names),
    /// Delete queues. Tasks that they have are deleted with `--force` only.
    #[command(visible_aliases = ["rm", "delete"])]
    Remove {
        #[command(flatten)]
        queues: Names,
        /// Delete queues that have tasks, with these tasks. A queue with active tasks is never deleted.
        #[arg(short, long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Names of queues.
    #[arg(required = true, value_name = "QUEUE", add = super::complete::queues())]
    names: Vec<String>,
}

/// A queue in a listing.
#[derive(Debug, Serialize)]
struct ListedQueue<'a> {
    queue: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_slot: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct DayRecord<'a> {
    queue: &'a str,
    date: String,
    processed: u64,
    failed: u64,
}

#[derive(Debug, Serialize)]
struct ActRecord<'a> {
    act: &'static str,
    queue: &'a str,
}

impl Command {
    pub(crate) fn is_listing(&self) -> bool {
        matches!(self, Self::List | Self::Inspect(_) | Self::History { .. })
    }

    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        match self {
            Self::List => list(&session).await,
            Self::Inspect(queues) => inspect(&session, &queues.names).await,
            Self::History { queues, days } => history(&session, &queues.names, *days).await,
            Self::Pause(queues) => {
                confirm(&session, "Pause", &queues.names)?;
                each(&queues.names, "queues", async |queue| {
                    session.inspector.pause_queue(queue).await?;
                    done(&session, "pause", queue, "Successfully paused queue")
                })
                .await
            }
            Self::Resume(queues) => {
                confirm(&session, "Resume", &queues.names)?;
                each(&queues.names, "queues", async |queue| {
                    session.inspector.unpause_queue(queue).await?;
                    done(&session, "resume", queue, "Successfully unpaused queue")
                })
                .await
            }
            Self::Remove { queues, force } => {
                each(&queues.names, "queues", async |queue| {
                    remove(&session, queue, *force).await
                })
                .await
            }
        }
    }
}

/// Asks before an act on queues.
fn confirm(session: &Session, act: &str, queues: &[String]) -> Result<()> {
    let names: Vec<String> = queues.iter().map(|name| format!("{name:?}")).collect();
    let what = if names.len() == 1 { "queue" } else { "queues" };
    let place = session.place();
    session
        .hands
        .confirm(&format!("{act} {what} {} at {place}", names.join(", ")))
}

fn done(session: &Session, act: &'static str, queue: &str, text: &str) -> Result<()> {
    session.answer(&ActRecord { act, queue }, || format!("{text} {queue:?}"))
}

async fn list(session: &Session) -> Result<()> {
    let queues = session.inspector.queues().await?;
    if !session.redis.is_cluster() {
        let mut listing = session.out.listing(&[]);
        for queue in &queues {
            let record = ListedQueue {
                queue: queue.as_str(),
                key_slot: None,
                nodes: None,
            };
            session.out.text(one_line(queue.as_str()) + "\n")?;
            listing.push(Vec::new(), &record)?;
        }
        return listing.end(String::new).map(drop);
    }
    let mut listing = session.out.listing(&["Queue", "Cluster KeySlot", "Cluster Nodes"]);
    for queue in &queues {
        let slot = session.inspector.cluster_key_slot(queue.as_str()).await?;
        let nodes = session.inspector.cluster_nodes(queue.as_str()).await?;
        let nodes: Vec<String> = nodes
            .iter()
            .map(|node| format!("{} {}", node.id, node.address))
            .collect();
        let cells = vec![queue.to_string(), slot.to_string(), nodes.join(", ")];
        let record = ListedQueue {
            queue: queue.as_str(),
            key_slot: Some(slot),
            nodes: Some(nodes),
        };
        listing.push(cells, &record)?;
    }
    listing.end(|| "No queues".to_owned()).map(drop)
}

async fn inspect(session: &Session, queues: &[String]) -> Result<()> {
    let mut listing = session.out.listing(&[]);
    let mut is_first = true;
    let ended = each(queues, "queues", async |queue| {
        let info = session.inspector.get_queue_stats(queue).await;
        if !std::mem::take(&mut is_first) {
            session.out.text(format!("\n{SEPARATOR}\n\n"))?;
        }
        let record = QueueRecord::of(&info?);
        session.out.text(text_of(&record))?;
        listing.push(Vec::new(), &record)
    })
    .await;
    listing.end(String::new)?;
    ended
}

fn text_of(queue: &QueueRecord) -> String {
    let states = [
        "active",
        "pending",
        "aggregating",
        "scheduled",
        "retry",
        "archived",
        "completed",
    ];
    let numbers = [
        queue.active,
        queue.pending,
        queue.aggregating,
        queue.scheduled,
        queue.retry,
        queue.archived,
        queue.completed,
    ];
    let runs = vec![
        queue.processed.to_string(),
        queue.failed.to_string(),
        error_rate(queue.processed, queue.failed),
    ];
    format!(
        "{BOLD}Queue Info{BOLD:#}\nName:   {}\nSize:   {}\nGroups: {}\nPaused: {}\n\n{BOLD}Task Count by State{BOLD:#}\n{}\n\
         {BOLD}Daily Stats {} UTC{BOLD:#}\n{}",
        one_line(&queue.queue),
        queue.size,
        queue.groups,
        queue.paused,
        plain_table(&states, &[numbers.map(|number| number.to_string()).to_vec()]),
        queue.timestamp.format("%Y-%m-%d"),
        plain_table(&["processed", "failed", "error rate"], &[runs]),
    )
}

/// The share of failures as Go's program writes it.
pub(crate) fn error_rate(processed: u64, failed: u64) -> String {
    match processed {
        0 => "N/A".to_owned(),
        _ => format!("{:.2}%", failed as f64 / processed as f64 * 100.0),
    }
}

async fn history(session: &Session, queues: &[String], days: u32) -> Result<()> {
    let mut listing = session.out.listing(&[]);
    let mut is_first = true;
    let ended = each(queues, "queues", async |queue| {
        if !std::mem::take(&mut is_first) {
            session.out.text(format!("\n{SEPARATOR}\n\n"))?;
        }
        session.out.text(format!("Queue: {}\n\n", one_line(queue)))?;
        let history = session.inspector.history(queue, days).await?;
        let row = |day: &DailyStats| {
            vec![
                day.date.to_string(),
                day.processed.to_string(),
                day.failed.to_string(),
                error_rate(day.processed, day.failed),
            ]
        };
        let rows: Vec<Vec<String>> = history.iter().map(row).collect();
        session
            .out
            .text(plain_table(&["date (UTC)", "processed", "failed", "error rate"], &rows))?;
        for day in &history {
            let record = DayRecord {
                queue,
                date: day.date.to_string(),
                processed: day.processed,
                failed: day.failed,
            };
            listing.push(Vec::new(), &record)?;
        }
        Ok(())
    })
    .await;
    listing.end(String::new)?;
    ended
}

async fn remove(session: &Session, queue: &str, force: bool) -> Result<()> {
    session.hands.must_be_free()?;
    let size = session.inspector.get_queue_stats(queue).await?.size();
    let tasks = if size == 1 { "task" } else { "tasks" };
    let what = format!("Delete queue {queue:?} with its {size} {tasks} at {}", session.place());
    if size > 0 && !force {
        let error = CliError::failure(format!("queue {queue:?} is not empty, it has {size} {tasks}"));
        return Err(error.hint("`--force` deletes the queue with its tasks."));
    }
    session.hands.confirm_by_name(&what, queue)?;
    session.inspector.delete_queue(queue, force).await?;
    done(session, "remove", queue, "Successfully removed queue")
}
