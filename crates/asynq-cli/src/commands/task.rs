//! `asynq task`: looks at tasks, finds them and acts on them.

mod act;
mod all;
mod change;
mod enqueue;
mod follow;
mod list;
mod payload;
pub(crate) mod query;
mod search;

use clap::{Args, Subcommand};

use crate::{cli::Global, error::Result};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tasks of a state.
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show a task: its state, its errors, its runs and its data.
    Inspect(list::Inspect),
    /// Find tasks by a query.
    Search(search::Search),
    /// Count the tasks that a query finds.
    Count(search::Count),
    /// Wait for the end of a task. Exit status: 0 completed, 1 archived, 3 gone, which also is how a task without retention
    /// succeeds.
    Follow(follow::Follow),
    /// Make tasks pending, so that they run at once.
    #[command(visible_alias = "retry")]
    Run(act::Choice),
    /// Archive tasks.
    Archive(act::Choice),
    /// Delete tasks.
    #[command(visible_aliases = ["remove", "rm"])]
    Delete(act::Choice),
    /// Cancel running tasks.
    Cancel(act::Cancel),
    /// Change the payload or the time of a task that waits.
    Edit(change::Edit),
    /// Enqueue a new task like another one.
    Copy(change::Copy),
    /// Enqueue a task.
    Enqueue(enqueue::Enqueue),
    /// Make all scheduled, retry, archived or aggregating tasks pending.
    #[command(name = "runall")]
    RunAll(all::All),
    /// Archive all pending, aggregating, scheduled or retry tasks.
    #[command(name = "archiveall")]
    ArchiveAll(all::All),
    /// Delete all pending, aggregating, scheduled, retry, archived or completed tasks.
    #[command(name = "deleteall")]
    DeleteAll(all::All),
}

/// One task.
#[derive(Clone, Debug, Args)]
pub(crate) struct OneTask {
    /// Queue of the task.
    #[arg(short, long, allow_hyphen_values = true, add = super::complete::queues())]
    queue: String,
    /// Id of the task.
    #[arg(short, long, allow_hyphen_values = true)]
    id: String,
}

impl Command {
    pub(crate) fn is_listing(&self) -> bool {
        matches!(
            self,
            Self::List(_) | Self::Inspect(_) | Self::Search(_) | Self::Count(_)
        )
    }

    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        use asynq::inspector::Act;
        match self {
            Self::List(command) => command.run(global).await,
            Self::Inspect(command) => command.run(global).await,
            Self::Search(command) => command.run(global).await,
            Self::Count(command) => command.run(global).await,
            Self::Follow(command) => command.run(global).await,
            Self::Run(tasks) => tasks.act(global, Act::Run).await,
            Self::Archive(tasks) => tasks.act(global, Act::Archive).await,
            Self::Delete(tasks) => tasks.act(global, Act::Delete).await,
            Self::Cancel(command) => command.run(global).await,
            Self::Edit(command) => command.run(global).await,
            Self::Copy(command) => command.run(global).await,
            Self::Enqueue(command) => command.run(global).await,
            Self::RunAll(tasks) => tasks.act(global, Act::Run).await,
            Self::ArchiveAll(tasks) => tasks.act(global, Act::Archive).await,
            Self::DeleteAll(tasks) => tasks.act(global, Act::Delete).await,
        }
    }
}
