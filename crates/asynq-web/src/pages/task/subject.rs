//! A task with all that its page tells about it.

use asynq::{
    TaskInfo, TaskState,
    findings::quote,
    info::{QueueInfo, WorkerInfo},
};

use crate::{access::Role, pages::view::View, problem::Result, v1::tasks::Life, v1::tasks::life_of};

/// A task with its surroundings.
#[derive(Debug)]
pub(super) struct Subject<'v> {
    pub(super) view: &'v View,
    pub(super) task: TaskInfo,
    pub(super) life: Life,
    /// The numbers of its queue, if they can be read.
    pub(super) queue: Option<QueueInfo>,
    /// Number of servers that take tasks from its queue, if the servers can be read.
    pub(super) servers: Option<usize>,
    /// The run that goes on, as its server publishes it.
    pub(super) worker: Option<WorkerInfo>,
    /// The rule that hides its data from the user.
    pub(super) hidden: Option<String>,
}

impl<'v> Subject<'v> {
    pub(super) async fn read(view: &'v View, queue: &str, id: &str) -> Result<Self> {
        let task = view.app.inspector.get_task_info(queue, id).await?;
        // The rest of the page does not depend on these.
        let (info, servers) = tokio::join!(view.app.inspector.get_queue_stats(queue), view.app.readings.servers());
        let servers = servers.ok();
        let takes = |servers: &[asynq::info::ServerInfo]| {
            servers
                .iter()
                .filter(|server| server.queues.contains_key(queue))
                .count()
        };
        let is_run = |worker: &&WorkerInfo| worker.task_id.as_str() == id && worker.queue.as_str() == queue;
        let is_active = task.state == TaskState::Active;
        let worker = servers
            .as_ref()
            .filter(|_| is_active)
            .and_then(|both| both.1.iter().find(is_run).cloned());
        Ok(Self {
            view,
            life: life_of(&task),
            hidden: hiding_rule(view, queue, &task.task_type),
            queue: info.ok(),
            servers: servers.as_ref().map(|both| takes(&both.0)),
            worker,
            task,
        })
    }

    pub(super) fn queue_name(&self) -> &str {
        self.task.queue.as_str()
    }

    pub(super) fn id(&self) -> &str {
        self.task.id.as_str()
    }

    /// Returns the path of the API for an act on the task.
    pub(super) fn act(&self, suffix: &str) -> String {
        self.view.task_act(self.queue_name(), self.id(), suffix)
    }

    /// Returns the link to a page below that of the task.
    pub(super) fn link(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.view.task_link(self.queue_name(), self.id()))
    }

    /// Returns whether the user may change the task.
    pub(super) fn may_act(&self) -> bool {
        self.view.may(self.queue_name(), Role::Operator)
    }

    /// Returns whether an act fits the state of the task.
    pub(super) fn fits(&self, act: Fitting) -> bool {
        fits(act, self.task.state)
    }
}

/// An act that only some states allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fitting {
    Run,
    Archive,
    Delete,
    Cancel,
    Reschedule,
    Edit,
}

fn fits(act: Fitting, state: TaskState) -> bool {
    use TaskState::{Active, Aggregating, Archived, Pending, Retry, Scheduled};
    match act {
        Fitting::Run => matches!(state, Scheduled | Retry | Archived | Aggregating),
        Fitting::Archive => matches!(state, Pending | Scheduled | Retry | Aggregating),
        Fitting::Delete => state != Active,
        Fitting::Cancel => state == Active,
        Fitting::Reschedule => matches!(state, Scheduled | Retry | Archived),
        Fitting::Edit => state == Scheduled,
    }
}

/// Returns the rule that hides the data of a task from the user, in words.
pub(super) fn hiding_rule(view: &View, queue: &str, task_type: &str) -> Option<String> {
    if !view.caller.hides(queue, task_type) {
        return None;
    }
    let role = view.caller.user().role_for(queue)?;
    let rule = view.app.redactions.iter().find(|rule| rule.hides(task_type, role));
    Some(rule.map_or_else(String::new, |rule| rule.words()))
}

/// Returns a command of the CLI for a task, such as `asynq task run --queue=mail --id=1`.
pub(super) fn command(act: &str, queue: &str, id: &str) -> String {
    format!("asynq task {act} --queue={} --id={}", quote(queue), quote(id))
}
