//! `asynq task search` and `count`.

use std::{io::Write as _, time::Duration};

use asynq::{TaskInfo, inspect::Cursor, inspector::SearchLimits};
use asynq_web::records::{Redaction, TaskRecord};
use clap::Args;
use futures::TryStreamExt as _;
use serde::Serialize;

use super::query;
use crate::{
    cli::Global,
    error::{CliError, Result},
    go::duration_argument,
    output::Listing,
    redact,
    session::Session,
};

#[derive(Debug, Args)]
#[command(after_help = "A query is made of conditions, such as:
  state=retry error~\"timeout\"
  queue=mail,push type^=email: retried>3
  payload.user_id=1002 age>1h
  (state=archived or state=retry) not header.tenant=test")]
pub(crate) struct Search {
    /// Query that finds the tasks.
    query: String,
    /// Largest number of tasks to find.
    #[arg(long, value_name = "TASKS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Find all tasks, as they are read. Without it, a search ends at its limits and says how to go on.
    #[arg(long, conflicts_with_all = ["limit", "time", "from"])]
    all: bool,
    /// Longest time to search.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration_argument)]
    time: Duration,
    /// Place at which a former search ended.
    #[arg(long, value_name = "CURSOR")]
    from: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Count {
    /// Query that finds the tasks.
    query: String,
    /// Longest time to count.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration_argument)]
    time: Duration,
}

const COLUMNS: [&str; 6] = ["ID", "Queue", "State", "Type", "Payload", "Last Error"];

impl Search {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let query = query::parse(&self.query)?;
        let session = global.connect().await?;
        let redaction = session.redaction();
        let mut listing = session.out.listing(&COLUMNS);
        let none = || "No tasks found".to_owned();
        if self.all {
            let mut tasks = std::pin::pin!(session.inspector.search_all(&query));
            while let Some(task) = tasks.try_next().await? {
                push(&mut listing, &task, &redaction)?;
            }
            return listing.end(none).map(drop);
        }
        let limits = SearchLimits::default()
            .found(self.limit as usize)
            .looked_at(u64::MAX)
            .bytes(u64::MAX)
            .time(self.time);
        let from = Cursor(self.from.clone());
        let found = session.inspector.search(&query, &limits, &from).await?;
        for task in &found.tasks {
            push(&mut listing, task, &redaction)?;
        }
        listing.end(none)?;
        let mut said = format!("looked at {}", found.looked_at);
        if found.undecided > 0 {
            said += &format!(", {} undecided", found.undecided);
        }
        if let Some(Cursor(Some(place))) = &found.next {
            let place = asynq::findings::quote(place);
            said += &format!("; there is more: --all, a larger --limit, or --from={place}");
        }
        // On stderr, so that the tasks stay alone on stdout. Nobody is left to tell if it is closed.
        let _ = writeln!(anstream::stderr(), "{said}");
        Ok(())
    }
}

fn push(listing: &mut Listing, task: &TaskInfo, redaction: &Redaction) -> Result<()> {
    let cells = vec![
        task.id.to_string(),
        task.queue.to_string(),
        task.state.to_string(),
        task.task_type.clone(),
        redact::text(redaction.hides(task.queue.as_str(), &task.task_type), &task.payload),
        task.last_error.clone(),
    ];
    listing.push(cells, &TaskRecord::of(task, redaction))
}

impl Count {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        #[derive(Serialize)]
        struct Record {
            tasks: u64,
            looked_at: u64,
            undecided: u64,
            is_complete: bool,
        }
        let query = query::parse(&self.query)?;
        let session: Session = global.connect().await?;
        let limits = SearchLimits::default()
            .looked_at(u64::MAX)
            .bytes(u64::MAX)
            .time(self.time);
        let count = session.inspector.count(&query, &limits).await?;
        let record = Record {
            tasks: count.tasks,
            looked_at: count.looked_at,
            undecided: count.undecided,
            is_complete: count.is_complete,
        };
        session.out.record(&record, || count.to_string())?;
        match count.is_complete {
            true => Ok(()),
            false => {
                Err(CliError::failure("the time was over before all tasks were counted")
                    .hint("`--time` counts longer."))
            }
        }
    }
}
