//! `asynq task enqueue`.

use std::time::Duration;

use asynq::{Task, TaskOptions};
use asynq_web::records::TaskRecord;
use chrono::{DateTime, Utc};
use clap::Args;

use super::payload::Payload;
use crate::{
    cli::Global,
    error::{CliError, Result},
    go::{duration_argument, time_argument},
    output::one_line,
};

#[derive(Debug, Args)]
pub(crate) struct Enqueue {
    /// Type of the task.
    #[arg(short, long = "type_name", visible_alias = "type", value_name = "TYPE")]
    type_name: String,
    #[command(flatten)]
    payload: Payload,
    /// Queue of the task. Default: `default`.
    #[arg(short, long, allow_hyphen_values = true, add = super::super::complete::queues())]
    queue: Option<String>,
    /// Id of the task. Default: a random one.
    #[arg(short, long, allow_hyphen_values = true)]
    id: Option<String>,
    /// Largest number of retries. Default: 25.
    #[arg(short, long, value_name = "TIMES")]
    retry: Option<u32>,
    /// Longest time of one run. Default: 30m.
    #[arg(short = 'd', long, value_name = "DURATION", value_parser = duration_argument)]
    timeout: Option<Duration>,
    /// Time after which the task is not run any more, in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    deadline: Option<DateTime<Utc>>,
    /// Time for which no other task of this queue, type and payload is accepted.
    #[arg(long, value_name = "DURATION", value_parser = duration_argument)]
    unique: Option<Duration>,
    /// Time of the first run, in RFC 3339.
    #[arg(long = "process_at", alias = "process-at", value_name = "TIME", conflicts_with = "process_in", value_parser = time_argument)]
    process_at: Option<DateTime<Utc>>,
    /// Time until the first run.
    #[arg(long = "process_in", alias = "process-in", value_name = "DURATION", value_parser = duration_argument)]
    process_in: Option<Duration>,
    /// Time for which the task is kept once it has succeeded.
    #[arg(long, value_name = "DURATION", value_parser = duration_argument)]
    retention: Option<Duration>,
    /// Group of the task.
    #[arg(short, long, allow_hyphen_values = true)]
    group: Option<String>,
    /// Header of the task, as `NAME=VALUE`; may be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a header is like NAME=VALUE".to_owned()),
    }
}

impl Enqueue {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let Some(payload) = self.payload.read()? else {
            return Err(CliError::usage("neither --payload nor --payload-file is given"));
        };
        let task = Task::new(&self.type_name, &payload)?.with_options(self.options());
        let session = global.connect().await?;
        session.hands.must_be_free()?;
        let enqueued = session.inspector.enqueue(task).await;
        let info = enqueued.map_err(|error| CliError::from(error).context("could not enqueue task"))?;
        session.answer(&TaskRecord::of(&info, &session.redaction()), || {
            let (id, queue) = (one_line(info.id.as_str()), one_line(info.queue.as_str()));
            format!("Enqueued task {id} to queue {queue}")
        })
    }

    /// The options that are given.
    fn options(&self) -> TaskOptions {
        let mut options = TaskOptions::new();
        if let Some(queue) = &self.queue {
            options = options.queue(queue);
        }
        if let Some(id) = &self.id {
            options = options.task_id(id);
        }
        if let Some(retries) = self.retry {
            options = options.max_retry(retries);
        }
        if let Some(timeout) = self.timeout {
            options = options.timeout(timeout);
        }
        if let Some(deadline) = self.deadline {
            options = options.deadline(deadline);
        }
        if let Some(ttl) = self.unique {
            options = options.unique_ttl(ttl);
        }
        if let Some(at) = self.process_at {
            options = options.process_at(at);
        }
        if let Some(delay) = self.process_in {
            options = options.process_in(delay);
        }
        if let Some(retention) = self.retention {
            options = options.retention(retention);
        }
        if let Some(group) = &self.group {
            options = options.group(group);
        }
        for (name, value) in &self.headers {
            options = options.header(name, value);
        }
        options
    }
}
