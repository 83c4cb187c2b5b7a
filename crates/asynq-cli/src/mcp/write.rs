//! Tools that change something. Each has a reason, for the audit trail.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use asynq::{
    Task, TaskOptions,
    inspector::{ActLimits, Cancelled, SearchLimits},
};
use rmcp::{
    handler::server::wrapper::Parameters,
    model::CallToolResult,
    service::{RequestContext, RoleServer},
    tool, tool_router,
};
use serde_json::{Value, json};

use super::{
    args::{ActByQuery, ActOnQueue, ActOnTask, CancelTask, EnqueueTask, within},
    server::Server,
};
use crate::error::{CliError, Result};

/// Time after which an act on many tasks is stopped.
const LONGEST_ACT: Duration = Duration::from_secs(45);
/// Time after which a count of the tasks ends.
const LONGEST_PREVIEW: Duration = Duration::from_secs(30);
/// Largest number of retries that a task may be given.
const MOST_RETRIES: u32 = 1000;
/// Tasks that are acted on per second at most, so that a wrong act can be noticed.
const ACT_RATE: NonZeroU32 = NonZeroU32::new(1000).unwrap();

#[tool_router(router = write_router, vis = "pub(super)")]
impl Server {
    /// Makes a task pending that is scheduled, waits for its retry, is archived, or waits in its group.
    #[tool(annotations(title = "Run a task now", destructive_hint = false, open_world_hint = false))]
    async fn run_task(&self, Parameters(args): Parameters<ActOnTask>) -> CallToolResult {
        self.act(async {
            self.acting(&args.reason)?.run_task(&args.queue, &args.id).await?;
            Ok(json!({"done": "run_task", "queue": args.queue, "id": args.id}))
        })
        .await
    }

    /// Archives a task that is pending or scheduled, waits for its retry, or waits in its group.
    #[tool(annotations(title = "Archive a task", destructive_hint = false, open_world_hint = false))]
    async fn archive_task(&self, Parameters(args): Parameters<ActOnTask>) -> CallToolResult {
        self.act(async {
            self.acting(&args.reason)?.archive_task(&args.queue, &args.id).await?;
            Ok(json!({"done": "archive_task", "queue": args.queue, "id": args.id}))
        })
        .await
    }

    /// Deletes a task that is not active, with its result. This cannot be undone.
    #[tool(annotations(title = "Delete a task", destructive_hint = true, open_world_hint = false))]
    async fn delete_task(&self, Parameters(args): Parameters<ActOnTask>) -> CallToolResult {
        self.act(async {
            self.acting(&args.reason)?.delete_task(&args.queue, &args.id).await?;
            Ok(json!({"done": "delete_task", "queue": args.queue, "id": args.id}))
        })
        .await
    }

    /// Asks the server that runs a task to end the run, and then to retry, archive or delete the task. The answer does not
    /// wait for the end.
    #[tool(annotations(title = "Cancel the run of a task", destructive_hint = true, open_world_hint = false))]
    async fn cancel_task(&self, Parameters(args): Parameters<CancelTask>) -> CallToolResult {
        self.act(async {
            let cancelled = self
                .acting(&args.reason)?
                .cancel_task(&args.queue, &args.id, args.then.into())
                .await?;
            let note = match cancelled {
                Cancelled::Kept => "the request is kept with the task",
                Cancelled::Told => "a Go server runs the task, and will retry it",
                _ => "the request is sent",
            };
            Ok(json!({"done": "cancel_task", "queue": args.queue, "id": args.id, "note": note}))
        })
        .await
    }

    /// Stops all servers from taking tasks of a queue. Tasks can still be enqueued.
    #[tool(annotations(
        title = "Pause a queue",
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn pause_queue(&self, Parameters(args): Parameters<ActOnQueue>) -> CallToolResult {
        self.act(async {
            let inspector = self.acting(&args.reason)?;
            inspector.get_queue_stats(&args.queue).await?;
            inspector.pause_queue(&args.queue).await?;
            Ok(json!({"done": "pause_queue", "queue": args.queue}))
        })
        .await
    }

    /// Ends the pause of a queue.
    #[tool(annotations(
        title = "Unpause a queue",
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn unpause_queue(&self, Parameters(args): Parameters<ActOnQueue>) -> CallToolResult {
        self.act(async {
            let inspector = self.acting(&args.reason)?;
            inspector.get_queue_stats(&args.queue).await?;
            inspector.unpause_queue(&args.queue).await?;
            Ok(json!({"done": "unpause_queue", "queue": args.queue}))
        })
        .await
    }

    /// Runs, archives or deletes the tasks that a query finds; `search_tasks` describes the language. By default it only counts
    /// them (`dry_run`): `would_change`, or `would_change_at_least` if there was no time to look at all. Tasks that move
    /// meanwhile are left alone. `ended` tells why an act has ended: `complete`, `limit`, `time` or `stopped`.
    #[tool(annotations(
        title = "Act on the tasks of a query",
        destructive_hint = true,
        open_world_hint = false
    ))]
    async fn act_by_query(
        &self,
        Parameters(args): Parameters<ActByQuery>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        if args.dry_run {
            return self.answer(self.preview(&args, &context)).await;
        }
        self.act(async {
            let query = self.query(&args.query)?;
            let limit = within("limit", args.limit, 100, 10_000)?;
            let inspector = self.acting(&args.reason)?;
            let limits = ActLimits::default().tasks(limit).rate(ACT_RATE);
            let mut act = inspector.act_by_query(&query, args.act.into(), limits)?;
            let began = Instant::now();
            let ended = loop {
                // The client no longer wants it, or has gone.
                if context.ct.is_cancelled() {
                    break "stopped";
                }
                if began.elapsed() > LONGEST_ACT {
                    break "time";
                }
                match act.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) if act.progress().done >= limit => break "limit",
                    Ok(None) => break "complete",
                    Err(error) => {
                        let so_far = act.progress();
                        let error = CliError::from(error).context(format!(
                            "failed after {} tasks were changed, of {} found and {} looked at",
                            so_far.done, so_far.found, so_far.looked_at
                        ));
                        return Err(match so_far.found {
                            0 => error,
                            _ => error.hint("More may have been changed; look before you repeat it."),
                        });
                    }
                }
            };
            let progress = act.stop().await;
            Ok(json!({
                "dry_run": false,
                "done": progress.done,
                "found": progress.found,
                "looked_at": progress.looked_at,
                "moved": progress.moved,
                "undecided": progress.undecided,
                "ended": ended,
            }))
        })
        .await
    }

    /// Enqueues a task.
    #[tool(annotations(title = "Enqueue a task", destructive_hint = false, open_world_hint = false))]
    async fn enqueue_task(&self, Parameters(args): Parameters<EnqueueTask>) -> CallToolResult {
        self.act(async {
            let inspector = self.acting(&args.reason)?;
            let info = inspector.enqueue(task(&args)?).await?;
            Ok(json!({"done": "enqueue_task", "task": self.task(&info)?}))
        })
        .await
    }
}

impl Server {
    /// Counts the tasks that an act would change.
    async fn preview(&self, args: &ActByQuery, context: &RequestContext<RoleServer>) -> Result<Value> {
        let query = self.query(&args.query)?;
        let limit = within("limit", args.limit, 100, 10_000)?;
        let limits = SearchLimits::default()
            .looked_at(u64::MAX)
            .bytes(u64::MAX)
            .time(LONGEST_PREVIEW);
        let inspector = self.acting(&args.reason)?;
        let count = tokio::select! {
            count = inspector.preview(&query, args.act.into(), &limits) => count?,
            () = context.ct.cancelled() => return Err(CliError::failure("stopped")),
        };
        let name = match count.is_complete || count.tasks >= limit {
            true => "would_change",
            false => "would_change_at_least",
        };
        Ok(json!({
            "dry_run": true,
            name: count.tasks.min(limit),
            "tasks_found": count.tasks,
            "is_complete": count.is_complete,
            "undecided": count.undecided,
        }))
    }
}

/// The task that is asked for.
fn task(args: &EnqueueTask) -> Result<Task> {
    let payload = match (&args.payload, &args.payload_text) {
        (Some(_), Some(_)) => return Err(CliError::usage("`payload` and `payload_text` exclude each other")),
        (Some(value), None) => value.to_string().into_bytes(),
        (None, text) => text.clone().unwrap_or_default().into_bytes(),
    };
    let mut options = TaskOptions::new();
    if let Some(queue) = &args.queue {
        options = options.queue(queue);
    }
    if let Some(id) = &args.id {
        options = options.task_id(id);
    }
    if let Some(retries) = args.max_retry {
        match u32::try_from(retries) {
            Ok(retries @ 0..=MOST_RETRIES) => options = options.max_retry(retries),
            _ => {
                return Err(CliError::usage(format!(
                    "`max_retry` is {retries}, must be 0 to {MOST_RETRIES}"
                )));
            }
        }
    }
    if let Some(seconds) = args.timeout_seconds {
        if seconds == 0 {
            return Err(CliError::usage("`timeout_seconds` is 0, must be at least 1"));
        }
        options = options.timeout(Duration::from_secs(seconds));
    }
    if let Some(seconds) = args.process_in_seconds {
        options = options.process_in(Duration::from_secs(seconds));
    }
    if let Some(seconds) = args.retention_seconds {
        options = options.retention(Duration::from_secs(seconds));
    }
    Ok(Task::new(&args.task_type, &payload)?.with_options(options))
}
