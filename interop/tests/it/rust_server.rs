//! A system of ours in this process, with the obedient handler.

use std::{future::ready, time::Duration};

use asynq::{AsynqSystem, GroupAggregatorFunc, Result, RetryDelay, ServerConfig, Task};
use asynq_interop::{Events, GoEvent, GoRun, is_failure, obey};
use asynq_testing::RedisServer;
use tokio::sync::mpsc;

use crate::{pair::connector, sides::Settings};

#[derive(Debug)]
pub(crate) struct RustServer {
    pub(crate) system: AsynqSystem,
    events: Events,
}

impl RustServer {
    pub(crate) async fn start(redis: &RedisServer, settings: &Settings) -> Self {
        let (told, arrivals) = mpsc::unbounded_channel();
        let retry_delay = settings.retry_delay;
        let config = ServerConfig::new()
            .concurrency(settings.concurrency)
            .prefetch(settings.prefetch)
            .queues(settings.queues.iter().copied())
            .strict_priority(settings.strict)
            .task_check_interval(Duration::from_millis(100))
            .delayed_task_check_interval(settings.forward_every)
            .heartbeat_interval(Duration::from_millis(200))
            .recoverer_interval(Duration::from_millis(500))
            .janitor_interval(settings.janitor_every)
            .shutdown_timeout(settings.shutdown_timeout)
            .retry_delay(RetryDelay::new(move |_, _, _| retry_delay))
            .is_failure(is_failure());
        let config = match settings.aggregate_after {
            Some(grace) => config.group_grace_period(grace).unwrap(),
            None => config,
        };
        let mut builder = AsynqSystem::builder(connector(redis)).config(config.group_max_size(settings.group_max_size));
        if settings.aggregate_after.is_some() {
            builder = builder.aggregator(GroupAggregatorFunc::new(aggregate));
        }
        let system = builder
            .handler(move |task: Task| {
                let told = told.clone();
                async move {
                    obey(&task, |event| {
                        // A test that no longer listens has seen enough.
                        let _ = told.send(event);
                        ready(())
                    })
                    .await
                }
            })
            .spawn()
            .await
            .unwrap();
        system.ping().await.unwrap();
        Self {
            system,
            events: Events::new(arrivals),
        }
    }

    pub(crate) async fn started(&mut self, id: &str) -> GoRun {
        self.events.started(id, &format_args!("{:?}", self.system)).await
    }

    pub(crate) async fn ended(&mut self, id: &str) -> GoRun {
        self.ended_like(&format!("end of {id}"), |run| run.id == id).await
    }

    /// Cancel safe: no end is lost.
    pub(crate) async fn ended_like(&mut self, what: &str, wanted: impl Fn(&GoRun) -> bool) -> GoRun {
        let system = format_args!("{:?}", self.system);
        self.events.ended_like(what, &system, wanted).await
    }

    /// The ids of the runs that were started and not yet expected, in order.
    pub(crate) fn unexpected(&mut self) -> Vec<String> {
        let starts = self.events.unexpected().iter().filter_map(GoEvent::start);
        starts.map(|run| run.id.clone()).collect()
    }
}

fn aggregate(group: &str, tasks: &[Task]) -> Result<Task> {
    let payloads: Vec<_> = tasks.iter().map(Task::get_payload).collect();
    Task::new(format!("aggregated:{group}"), &payloads.join(&b"\n"[..]))
}
