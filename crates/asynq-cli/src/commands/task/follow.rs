//! `asynq task follow`.

use std::time::Duration;

use asynq::{
    TaskInfo, TaskState,
    error::{BrokerError, Error},
};
use asynq_web::records::{Redaction, TaskRecord};
use chrono::Utc;
use clap::Args;

use super::OneTask;
use crate::{
    cli::Global,
    error::{CliError, Result},
    go::{self, duration_argument},
    output::{Form, one_line},
    session::Session,
};

#[derive(Debug, Args)]
pub(crate) struct Follow {
    #[command(flatten)]
    task: OneTask,
    /// Time between two looks at the task, at least 50ms.
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = interval)]
    interval: Duration,
    /// Longest time to wait. Default: no limit.
    #[arg(long, value_name = "DURATION", value_parser = duration_argument)]
    within: Option<Duration>,
}

fn interval(text: &str) -> Result<Duration, String> {
    match duration_argument(text)? {
        interval if interval < Duration::from_millis(50) => Err("an interval is at least 50ms".to_owned()),
        interval => Ok(interval),
    }
}

impl Follow {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        if matches!(global.output, Form::Json | Form::Yaml) {
            let error = CliError::usage("a task that is followed has no end to wait for in this form of output");
            return Err(error.hint("`--output ndjson` writes one object for each change."));
        }
        let session = global.connect().await?;
        let following = self.until_ended(&session);
        let Some(within) = self.within else {
            return following.await;
        };
        match tokio::time::timeout(within, following).await {
            Ok(ended) => ended,
            Err(_) => Err(CliError::failure(format!(
                "the task has not ended within {}",
                asynq::go::write_duration(within)
            ))),
        }
    }

    async fn until_ended(&self, session: &Session) -> Result<()> {
        let redaction = session.redaction();
        let mut looks = tokio::time::interval(self.interval);
        let mut last: Option<TaskInfo> = None;
        loop {
            looks.tick().await;
            let task = match session.inspector.get_task_info(&self.task.queue, &self.task.id).await {
                Ok(task) => task,
                // The connection comes back by itself.
                Err(Error::Broker(
                    BrokerError::Unavailable { .. } | BrokerError::Ambiguous { .. } | BrokerError::Busy { .. },
                )) => continue,
                Err(error @ Error::Broker(BrokerError::TaskNotFound { .. })) if last.is_some() => {
                    let error = CliError::from(error).context("the task is gone");
                    return Err(error.hint("It succeeded and is not kept, or it was deleted or aggregated."));
                }
                Err(error) => return Err(error.into()),
            };
            if last.as_ref().is_none_or(|last| differs(last, &task)) {
                show(session, &task, &redaction)?;
            }
            match task.state {
                TaskState::Completed => return Ok(()),
                TaskState::Archived => {
                    let error = one_line(&task.last_error);
                    return Err(CliError::failure(format!("the task is archived: {error}")));
                }
                _ => last = Some(task),
            }
        }
    }
}

/// Returns whether there is something new to tell about a task.
fn differs(last: &TaskInfo, task: &TaskInfo) -> bool {
    (
        last.state,
        last.retried,
        last.next_process_at,
        &last.progress,
        &last.last_error,
    ) != (
        task.state,
        task.retried,
        task.next_process_at,
        &task.progress,
        &task.last_error,
    )
}

fn show(session: &Session, task: &TaskInfo, redaction: &Redaction) -> Result<()> {
    session.out.record(&TaskRecord::of(task, redaction), || {
        let mut line = format!("{}  {}", go::date(Utc::now()), task.state);
        if let Some(at) = task.next_process_at.filter(|at| *at > Utc::now()) {
            line += &format!(" in {}", go::between(Utc::now(), at));
        }
        if task.retried > 0 {
            line += &format!(", retried {}/{}", task.retried, task.max_retry);
        }
        if let Some(progress) = task.progress.as_ref().filter(|_| task.state == TaskState::Active) {
            line += &format!(", {}% {}", progress.percent, one_line(&progress.note));
        }
        if !task.last_error.is_empty() {
            line += &format!(", last error: {}", one_line(&task.last_error));
        }
        line
    })
}
