//! The two sides in one shape, so that a test can be run with either in either role.

use std::time::Duration;

use asynq::{
    AsynqSystem, Exit,
    error::{EnqueueError, Error},
};
use asynq_interop::{GoClient, GoErrorKind, GoEvent, GoRun, GoTask, GoTaskInfo, ServerProcess, ServerProcessBuilder};
use asynq_testing::RedisServer;

use crate::{
    pair::{Pair, answered, connector},
    rust_server::RustServer,
    translate,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Go,
    Rust,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Go => Self::Rust,
            Self::Rust => Self::Go,
        }
    }
}

/// A reason why a task was not enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Duplicate,
    IdConflict,
    Other(String),
}

/// A client of either side.
pub(crate) enum Producer {
    Go(Box<GoClient>),
    Rust(Box<AsynqSystem>),
}

impl Producer {
    pub(crate) async fn start(side: Side, redis: &RedisServer) -> Self {
        match side {
            Side::Go => Self::Go(Box::new(GoClient::start(&redis.address()).await)),
            Side::Rust => Self::Rust(Box::new(AsynqSystem::builder(connector(redis)).spawn().await.unwrap())),
        }
    }

    pub(crate) async fn try_enqueue(&mut self, task: &GoTask) -> Result<GoTaskInfo, Refusal> {
        let info = match self {
            Self::Go(client) => client.try_enqueue(task).await.map_err(|error| match error.kind {
                GoErrorKind::Duplicate => Refusal::Duplicate,
                GoErrorKind::IdConflict => Refusal::IdConflict,
                _ => Refusal::Other(error.text),
            }),
            Self::Rust(system) => {
                let task = translate::task(task).map_err(Refusal::Other)?;
                let info = system.client().enqueue(task).await.map_err(|error| match error {
                    Error::Enqueue(EnqueueError::DuplicateTask) => Refusal::Duplicate,
                    Error::Enqueue(EnqueueError::TaskIdConflict) => Refusal::IdConflict,
                    other => Refusal::Other(other.to_string()),
                });
                info.map(|info| translate::task_info(&info))
            }
        };
        info.map(answered)
    }

    pub(crate) async fn enqueue(&mut self, task: &GoTask) -> GoTaskInfo {
        let enqueued = self.try_enqueue(task).await;
        enqueued.unwrap_or_else(|refusal| panic!("{task:?}: {refusal:?}"))
    }
}

/// Returns how to start a server of the side in a process of its own.
pub(crate) fn process(side: Side, redis: &RedisServer) -> ServerProcessBuilder {
    match side {
        Side::Go => ServerProcess::go(&redis.url()),
        Side::Rust => worker(&redis.url()),
    }
}

/// Returns how to start a server of ours in a process of its own.
pub(crate) fn worker(url: &str) -> ServerProcessBuilder {
    ServerProcess::worker(env!("CARGO_BIN_EXE_asynq-interop-worker"), url)
}

/// The settings of a server.
pub(crate) struct Settings {
    pub(crate) queues: Vec<(&'static str, i32)>,
    pub(crate) strict: bool,
    pub(crate) concurrency: usize,
    /// Tasks that are taken ahead of the slots; of ours alone.
    pub(crate) prefetch: usize,
    pub(crate) retry_delay: Duration,
    pub(crate) forward_every: Duration,
    pub(crate) shutdown_timeout: Duration,
    /// The grace period, if groups are aggregated: payloads joined with newlines, in a task of type
    /// `aggregated:<group>`.
    pub(crate) aggregate_after: Option<Duration>,
    /// With how many tasks a group is full; 0: never.
    pub(crate) group_max_size: u32,
    /// Of ours; Go's program has its library's default, 8 s.
    pub(crate) janitor_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queues: vec![("default", 1)],
            strict: false,
            concurrency: 10,
            prefetch: 0,
            retry_delay: Duration::from_secs(3600),
            forward_every: Duration::from_millis(100),
            shutdown_timeout: Duration::from_secs(5),
            aggregate_after: None,
            group_max_size: 0,
            janitor_every: Duration::from_millis(500),
        }
    }
}

impl Settings {
    pub(crate) fn queues(queues: &[&'static str]) -> Self {
        Self {
            queues: queues.iter().map(|queue| (*queue, 1)).collect(),
            ..Self::default()
        }
    }
}

/// A server of either side, with the obedient handler.
pub(crate) enum Runner {
    Go(Box<ServerProcess>),
    Rust(Box<RustServer>),
}

impl Runner {
    pub(crate) async fn start(side: Side, pair: &Pair, settings: &Settings) -> Self {
        match side {
            Side::Go => {
                let server = ServerProcess::go(&pair.redis.address())
                    .queues(settings.queues.iter().copied())
                    .concurrency(settings.concurrency)
                    .task_check_interval(Duration::from_millis(50))
                    .delayed_task_check_interval(settings.forward_every)
                    .retry_delay(settings.retry_delay)
                    .shutdown_timeout(settings.shutdown_timeout);
                let server = if settings.strict { server.strict() } else { server };
                let server = match settings.aggregate_after {
                    Some(grace) => server.group_grace(grace).group_max_size(settings.group_max_size),
                    None => server,
                };
                Self::Go(Box::new(server.start().await))
            }
            Side::Rust => Self::Rust(Box::new(RustServer::start(&pair.redis, settings).await)),
        }
    }

    /// Waits until the handler is called for the task.
    pub(crate) async fn started(&mut self, id: &str) -> GoRun {
        match self {
            Self::Go(server) => server.started(id).await,
            Self::Rust(server) => server.started(id).await,
        }
    }

    /// Waits until the handler returns for the task. Its outcome is in Redis some time later.
    pub(crate) async fn ended(&mut self, id: &str) -> GoRun {
        match self {
            Self::Go(server) => server.ended(id).await,
            Self::Rust(server) => server.ended(id).await,
        }
    }

    /// Waits until the handler returns for such a task.
    pub(crate) async fn ended_like(&mut self, what: &str, wanted: impl Fn(&GoRun) -> bool) -> GoRun {
        match self {
            Self::Go(server) => server.ended_like(what, wanted).await,
            Self::Rust(server) => server.ended_like(what, wanted).await,
        }
    }

    /// The tasks whose handler has been called, as far as nobody waited for that.
    pub(crate) fn unexpected(&mut self) -> Vec<String> {
        match self {
            Self::Go(server) => {
                let starts = server.unexpected().iter().filter_map(GoEvent::start);
                starts.map(|run| run.id.clone()).collect()
            }
            Self::Rust(server) => server.unexpected(),
        }
    }

    pub(crate) async fn shutdown(self) {
        match self {
            Self::Go(server) => drop(server.shutdown().await),
            Self::Rust(server) => assert_eq!(server.system.shutdown().await, Exit::Stopped),
        }
    }
}
