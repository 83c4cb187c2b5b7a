//! `asynq task edit` and `copy`.

use std::time::Duration;

use asynq::Task;
use asynq_web::records::TaskRecord;
use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use super::{OneTask, payload::Payload};
use crate::{
    cli::Global,
    error::{CliError, Result},
    go::{date, duration_argument, time_argument},
    output::one_line,
};

#[derive(Debug, Args)]
pub(crate) struct Edit {
    #[command(flatten)]
    task: OneTask,
    #[command(flatten)]
    payload: Payload,
    /// Time of the next run of a scheduled or retry task, in RFC 3339.
    #[arg(long, value_name = "TIME", conflicts_with = "after", value_parser = time_argument)]
    at: Option<DateTime<Utc>>,
    /// Time until the next run of a scheduled or retry task.
    #[arg(long = "in", value_name = "DURATION", value_parser = duration_argument)]
    after: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Copy {
    #[command(flatten)]
    task: OneTask,
    /// Payload of the copy. Default: that of the task.
    #[command(flatten)]
    payload: Payload,
    /// Queue of the copy. Default: that of the task.
    #[arg(long, value_name = "QUEUE", add = super::super::complete::queues())]
    to: Option<String>,
    /// Id of the copy. Default: a random one.
    #[arg(long, value_name = "ID")]
    new_id: Option<String>,
    /// Time until the first run of the copy. Default: none.
    #[arg(long = "in", value_name = "DURATION", value_parser = duration_argument)]
    after: Option<Duration>,
}

impl Edit {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        #[derive(Serialize)]
        struct Record<'a> {
            act: &'static str,
            queue: &'a str,
            id: &'a str,
            /// The payload was replaced.
            payload: bool,
            next_process_at: Option<DateTime<Utc>>,
        }
        let payload = self.payload.read()?;
        let at = match self.after {
            Some(delay) => Some(
                chrono::TimeDelta::from_std(delay)
                    .ok()
                    .and_then(|delay| Utc::now().checked_add_signed(delay))
                    .ok_or_else(|| CliError::usage("--in is too long"))?,
            ),
            None => self.at,
        };
        if payload.is_none() && at.is_none() {
            let error = CliError::usage("nothing to change is given");
            return Err(error.hint("`--payload`, `--payload-file`, `--at` or `--in` say what to change."));
        }
        let session = global.connect().await?;
        let (queue, id) = (self.task.queue.as_str(), self.task.id.as_str());
        let mut changes = Vec::new();
        if let Some(payload) = &payload {
            changes.push(format!("the payload to {} bytes", payload.len()));
        }
        if let Some(at) = at {
            changes.push(format!("the next run to {}", date(at)));
        }
        let place = session.place();
        let what = format!(
            "Change task {id:?} of queue {queue:?} at {place}: {}",
            changes.join(", ")
        );
        session.hands.confirm(&what)?;
        if let Some(payload) = &payload {
            session.inspector.update_task_payload(queue, id, payload).await?;
        }
        if let Some(at) = at {
            let moved = session.inspector.reschedule_task(queue, id, at).await;
            moved.map_err(|error| match payload {
                Some(_) => CliError::from(error).context("the payload was changed, but not the time"),
                None => error.into(),
            })?;
        }
        let record = Record {
            act: "edit",
            queue,
            id,
            payload: payload.is_some(),
            next_process_at: at,
        };
        session.answer(&record, || "task changed".to_owned())
    }
}

impl Copy {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let payload = self.payload.read()?;
        let session = global.connect().await?;
        let (queue, id) = (self.task.queue.as_str(), self.task.id.as_str());
        let to = self.to.as_deref().unwrap_or(queue);
        let place = session.place();
        let what = format!("Enqueue a copy of task {id:?} of queue {queue:?} to queue {to:?} at {place}");
        session.hands.confirm(&what)?;
        let change = |copy: Task| {
            let mut copy = match &payload {
                // A payload stays with its task, so another one needs a new task.
                Some(payload) => Task::new(copy.get_type(), payload)?.with_options(copy.options().clone()),
                None => copy,
            };
            if let Some(queue) = &self.to {
                copy = copy.with_queue(queue);
            }
            if let Some(id) = &self.new_id {
                copy = copy.with_task_id(id);
            }
            if let Some(delay) = self.after {
                copy = copy.with_process_in(delay);
            }
            Ok(copy)
        };
        let info = session.inspector.enqueue_copy(queue, id, change).await?;
        session.answer(&TaskRecord::of(&info, &session.redaction()), || {
            let (id, queue) = (one_line(info.id.as_str()), one_line(info.queue.as_str()));
            format!("Enqueued task {id} to queue {queue}")
        })
    }
}
