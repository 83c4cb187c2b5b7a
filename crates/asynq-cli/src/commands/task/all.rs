//! `asynq task runall`, `archiveall` and `deleteall`.

use std::str::FromStr as _;

use asynq::{
    TaskState,
    error::Error,
    inspect::ListFilter,
    inspector::{Act, BulkDone},
    names::GroupKey,
};
use clap::Args;
use serde::Serialize;

use super::act::{full_archive, outcome, verb};
use crate::{
    cli::Global,
    error::{CliError, Result},
    interrupt::Stop,
    session::Session,
};

#[derive(Debug, Args)]
pub(crate) struct All {
    /// Queue of the tasks.
    #[arg(short, long, allow_hyphen_values = true, add = super::super::complete::queues())]
    queue: String,
    /// State of the tasks.
    #[arg(short, long)]
    state: String,
    /// Group of aggregating tasks.
    #[arg(short, long, allow_hyphen_values = true)]
    group: Option<String>,
}

#[derive(Debug, Serialize)]
struct Record<'a> {
    act: &'static str,
    queue: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    done: u64,
    dropped: u64,
    poisoned: u64,
}

impl All {
    pub(crate) async fn act(&self, global: &Global, act: Act) -> Result<()> {
        let unsupported = || CliError::usage(format!("unsupported state {:?}", self.state));
        let state = TaskState::from_str(&self.state).map_err(|_| unsupported())?;
        if !act.applies_to(state) {
            return Err(unsupported());
        }
        let (filter, group) = match (state, &self.group) {
            (TaskState::Aggregating, None) => {
                return Err(CliError::usage("flag --group is required for aggregating tasks"));
            }
            (TaskState::Aggregating, Some(group)) => {
                let key = GroupKey::new(group).map_err(Error::from)?;
                (ListFilter::Group(key), Some(group.as_str()))
            }
            _ => (ListFilter::State(state), None),
        };
        let session = global.connect().await?;
        session.hands.must_be_free()?;
        let (tasks, archived) = self.size(&session, state, group).await?;
        let of_group = group.map_or_else(String::new, |group| format!(" of group {group:?}"));
        let what = format!(
            "{} all {state} tasks{of_group} of queue {:?} ({tasks} now) at {}{}",
            verb(act),
            self.queue,
            session.place(),
            if act == Act::Archive {
                full_archive(archived, tasks)
            } else {
                String::new()
            }
        );
        session.hands.confirm_tasks(&what, tasks, &self.queue)?;
        let stop = Stop::default();
        let go_on = |_: &BulkDone| !stop.is_set();
        let acting = session.inspector.act_on_all_while(&self.queue, &filter, act, go_on);
        let Some(done) = stop.guard(acting).await else {
            return Err(CliError::failure(
                "given up by Ctrl-C; it is not known how many tasks were acted on",
            ));
        };
        let done = done?;
        let record = Record {
            act: act.as_str(),
            queue: &self.queue,
            state: state.as_str(),
            group,
            done: done.done,
            dropped: done.dropped,
            poisoned: done.poisoned,
        };
        session.answer(&record, || {
            let are = if act == Act::Run { "are " } else { "" };
            format!("{} tasks {are}{}", record.done, outcome(act))
        })?;
        match stop.is_set() {
            true => Err(CliError::failure("stopped by Ctrl-C; the same command goes on")),
            false => Ok(()),
        }
    }

    /// Returns the number of tasks that there are now, and of those that are archived.
    async fn size(&self, session: &Session, state: TaskState, group: Option<&str>) -> Result<(u64, u64)> {
        let stats = session.inspector.get_queue_stats(&self.queue).await?;
        let tasks = match (state, group) {
            (_, Some(group)) => {
                let groups = session.inspector.list_groups(&self.queue).await?;
                let group = groups.iter().find(|info| info.group.as_str() == group);
                group.map_or(0, |info| info.size)
            }
            (TaskState::Pending, _) => stats.pending,
            (TaskState::Scheduled, _) => stats.scheduled,
            (TaskState::Retry, _) => stats.retry,
            (TaskState::Archived, _) => stats.archived,
            (TaskState::Completed, _) => stats.completed,
            (TaskState::Active, _) => stats.active,
            _ => stats.aggregating,
        };
        Ok((tasks, stats.archived))
    }
}
