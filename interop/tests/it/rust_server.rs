//! A system of ours whose handler does what the payload says, as that of the Go program does.

use std::time::Duration;

use asynq::{
    AsynqSystem, Error, GroupAggregatorFunc, IsFailure, Result, RetryDelay, ServerConfig, Task, error::BoxError,
};
use asynq_interop::{GoRun, PATIENCE};
use asynq_testing::RedisServer;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::Utc;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::{pair::connector, sides::Settings, translate::nanos};

/// A payload that the handler understands; see `interop/go/README.md`. Anything else: succeed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Orders {
    r#do: String,
    error: String,
    n: u32,
    ms: u64,
    data: String,
    data_base64: Option<String>,
}

impl Orders {
    fn error(&self, fallback: &str) -> BoxError {
        if self.error.is_empty() {
            fallback.into()
        } else {
            self.error.as_str().into()
        }
    }
}

/// An error that does not count as a failure.
#[derive(Debug, thiserror::Error)]
#[error("not a failure")]
struct NotAFailure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Start,
    End,
}

#[derive(Debug)]
pub(crate) struct RustServer {
    pub(crate) system: AsynqSystem,
    arrivals: mpsc::UnboundedReceiver<(Moment, GoRun)>,
    waiting: Vec<(Moment, GoRun)>,
}

impl RustServer {
    pub(crate) async fn start(redis: &RedisServer, settings: &Settings) -> Self {
        let (told, arrivals) = mpsc::unbounded_channel();
        let retry_delay = settings.retry_delay;
        let is_failure = |error: &Error| !matches!(error, Error::Handler(cause) if cause.is::<NotAFailure>());
        let config = ServerConfig::new()
            .concurrency(settings.concurrency)
            .queues(settings.queues.iter().copied())
            .strict_priority(settings.strict)
            .task_check_interval(Duration::from_millis(100))
            .delayed_task_check_interval(settings.forward_every)
            .heartbeat_interval(Duration::from_millis(200))
            .recoverer_interval(Duration::from_millis(500))
            .janitor_interval(settings.janitor_every)
            .shutdown_timeout(settings.shutdown_timeout)
            .retry_delay(RetryDelay::new(move |_, _, _| retry_delay))
            .is_failure(IsFailure::new(is_failure));
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
                async move { run(&task, &told).await }
            })
            .spawn()
            .await
            .unwrap();
        system.ping().await.unwrap();
        Self {
            system,
            arrivals,
            waiting: Vec::new(),
        }
    }

    pub(crate) async fn started(&mut self, id: &str) -> GoRun {
        self.expect(Moment::Start, id, |run| run.id == id).await
    }

    pub(crate) async fn ended(&mut self, id: &str) -> GoRun {
        self.ended_like(id, |run| run.id == id).await
    }

    /// Cancel safe: no end is lost.
    pub(crate) async fn ended_like(&mut self, what: &str, wanted: impl Fn(&GoRun) -> bool) -> GoRun {
        self.expect(Moment::End, what, wanted).await
    }

    async fn expect(&mut self, moment: Moment, what: &str, wanted: impl Fn(&GoRun) -> bool) -> GoRun {
        loop {
            let found = self
                .waiting
                .iter()
                .position(|(when, run)| *when == moment && wanted(run));
            if let Some(index) = found {
                return self.waiting.remove(index).1;
            }
            match tokio::time::timeout(PATIENCE, self.arrivals.recv()).await {
                Ok(arrival) => self.waiting.push(arrival.unwrap()),
                Err(_) => panic!(
                    "our server: no {moment:?} of {what}; {:?} {:#?}",
                    self.system, self.waiting
                ),
            }
        }
    }

    /// The ids of the runs that were started and not yet expected, in order.
    pub(crate) fn unexpected(&mut self) -> Vec<String> {
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.waiting.push(arrival);
        }
        let starts = self.waiting.iter().filter(|(moment, _)| *moment == Moment::Start);
        starts.map(|(_, run)| run.id.clone()).collect()
    }
}

fn aggregate(group: &str, tasks: &[Task]) -> Result<Task> {
    let payloads: Vec<_> = tasks.iter().map(Task::get_payload).collect();
    Task::new(format!("aggregated:{group}"), &payloads.join(&b"\n"[..]))
}

async fn run(task: &Task, told: &mpsc::UnboundedSender<(Moment, GoRun)>) -> Result<()> {
    let context = task.context().unwrap();
    let mut run = GoRun {
        r#type: task.get_type().to_owned(),
        id: context.id().to_string(),
        queue: context.queue().to_string(),
        payload: Some(task.get_payload().to_vec()),
        headers: task.headers().clone(),
        retried: context.retried().into(),
        max_retry: context.max_retry().into(),
        // As the Go program does with a time that is too late.
        deadline_unix_nanos: context.deadline().timestamp_nanos_opt().unwrap_or(i64::MAX),
        outcome: String::new(),
        error: String::new(),
        at_unix_nanos: nanos(Utc::now()),
    };
    // A test that no longer listens has seen enough.
    let _ = told.send((Moment::Start, run.clone()));

    let orders: Orders = serde_json::from_slice(task.get_payload()).unwrap_or_default();
    let (outcome, result) = obey(task, &orders).await;
    run.at_unix_nanos = nanos(Utc::now());
    outcome.clone_into(&mut run.outcome);
    run.error = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let _ = told.send((Moment::End, run));
    if outcome == "panic" {
        panic!("{}", orders.error("panicked"));
    }
    result
}

async fn obey(task: &Task, orders: &Orders) -> (&'static str, Result<()>) {
    let context = task.context().unwrap();
    let failed = || ("error", Err(Error::other(orders.error("failed"))));
    match orders.r#do.as_str() {
        "fail" => failed(),
        "fail_times" if context.retried() < orders.n => failed(),
        "not_failure" => ("not_failure", Err(Error::other(NotAFailure))),
        "skip_retry" => (
            "skip_retry",
            Err(Error::skip_retry(orders.error("skip retry for the task"))),
        ),
        "revoke" => ("revoke", Err(Error::revoke("revoke task"))),
        "panic" => ("panic", Ok(())),
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(orders.ms)).await;
            ("ok", Ok(()))
        }
        "wait_cancel" => {
            context.cancelled().await;
            // Deaf to the shutdown, as the handler of a program that is cut off: the runtime has to end it.
            std::future::pending().await
        }
        "result" => {
            let data = match &orders.data_base64 {
                Some(text) => STANDARD.decode(text).unwrap(),
                None => orders.data.clone().into_bytes(),
            };
            match context.write_result(data).await {
                Err(error) => ("error", Err(error)),
                Ok(_) if !orders.error.is_empty() => failed(),
                Ok(_) => ("ok", Ok(())),
            }
        }
        _ => ("ok", Ok(())),
    }
}
