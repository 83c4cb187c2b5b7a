//! Steps of a host's wall clock, played on two systems on one Redis, in real time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use asynq::{AsynqSystem, Env, Exit, ServerConfig, Task, TaskState, redis::RedisConnectionType};
use asynq_core::{Clock, Connector as _, Entropy};
use asynq_testing::{
    RedisServer,
    faulty::{Faults, FaultyConnector, Op},
    invariants, request,
};
use chrono::{TimeDelta, Utc};
use tokio::sync::Notify;

/// Number of passes of a recoverer that show that it leaves a task alone.
const PASSES: u64 = 4;
const OFTEN: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

/// A system on a host whose wall clock can be stepped.
struct Host {
    step: Arc<AtomicI64>,
    faults: Faults,
    system: AsynqSystem,
}

/// Observations of the handlers of both.
#[derive(Default)]
struct Seen {
    begun: AtomicU32,
    cancelled: AtomicU32,
    go: Notify,
    changed: Notify,
}

impl Host {
    async fn start(server: &RedisServer, queue: &str, step: i64, seen: &Arc<Seen>) -> Self {
        let step = Arc::new(AtomicI64::new(step));
        let read = Arc::clone(&step);
        let env = Env {
            clock: Clock::with_wall(move || Utc::now() + TimeDelta::seconds(read.load(Ordering::SeqCst))),
            entropy: Entropy::from_os(),
        };
        let (faults, seen) = (Faults::new(), Arc::clone(seen));
        let connector = RedisConnectionType::single(server.url()).unwrap();
        let system = AsynqSystem::builder(FaultyConnector::new(connector, faults.clone()))
            .env(env)
            .config(
                ServerConfig::new()
                    .queues([(queue, 1)])
                    .heartbeat_interval(OFTEN)
                    .recoverer_interval(OFTEN)
                    .janitor_interval(OFTEN),
            )
            .handler(move |task: Task| {
                let context = task.context().unwrap().clone();
                let seen = Arc::clone(&seen);
                async move {
                    seen.begun.fetch_add(1, Ordering::SeqCst);
                    seen.changed.notify_waiters();
                    tokio::select! {
                        () = seen.go.notified() => {}
                        () = context.cancelled() => {
                            seen.cancelled.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    asynq::Result::Ok(())
                }
            })
            .spawn()
            .await
            .unwrap();
        Self { step, faults, system }
    }

    /// Steps the wall clock, which then stays so for some passes and beats.
    async fn step(&self, by: i64) {
        self.step.store(by, Ordering::SeqCst);
        self.passes().await;
    }

    async fn passes(&self) {
        let done = || self.faults.calls(Op::Expired).min(self.faults.calls(Op::ExtendLeases));
        let from = done();
        let passes = async {
            while done() < from + PASSES {
                tokio::time::sleep(OFTEN / 2).await;
            }
        };
        tokio::time::timeout(PATIENCE, passes).await.unwrap();
    }
}

/// One runs a task; it, or the other, is stepped.
async fn step(server: &RedisServer, by: i64, owner: bool) {
    let queue = format!("q{by}{owner}");
    let seen = Arc::new(Seen::default());
    let begun = |count| {
        let seen = &seen;
        async move {
            loop {
                let changed = seen.changed.notified();
                if seen.begun.load(Ordering::SeqCst) >= count {
                    return;
                }
                changed.await;
            }
        }
    };
    // Stepped before its first measurement.
    let before = if owner { by } else { 0 };
    let first = Host::start(server, &queue, before, &seen).await;
    let task = Task::new("t", b"").unwrap().with_queue(&queue).with_max_retry(0);
    let task = task
        .with_retention(Duration::from_secs(600))
        .with_timeout(Duration::from_secs(300));
    let id = first.system.client().enqueue(task).await.unwrap().id;
    tokio::time::timeout(PATIENCE, begun(1)).await.unwrap();
    let before = if owner { 0 } else { by };
    let second = Host::start(server, &queue, before, &seen).await;
    let (stepped, other) = if owner { (&first, &second) } else { (&second, &first) };
    // The second has its own task, so that it extends, too.
    first.system.stop_fetching();
    let task = Task::new("t", b"").unwrap().with_queue(&queue).with_max_retry(0);
    second.system.client().enqueue(task).await.unwrap();
    tokio::time::timeout(PATIENCE, begun(2)).await.unwrap();
    stepped.passes().await;
    // Back to the right time, and between two measurements off again, to both sides.
    for by in [0, by, -by, 0] {
        stepped.step(by).await;
        other.passes().await;
    }
    assert_eq!(
        seen.cancelled.load(Ordering::SeqCst),
        0,
        "{queue}: a healthy run was ended"
    );
    assert_eq!(
        seen.begun.load(Ordering::SeqCst),
        2,
        "{queue}: a task was taken from its owner"
    );
    seen.go.notify_waiters();
    let look = RedisConnectionType::single(server.url()).unwrap();
    let look = look.connect(Env::default()).await.unwrap();
    let done = async {
        loop {
            let info = look.task_info(&request::queue(&queue), &id).await.unwrap();
            if info.state != TaskState::Active {
                return info;
            }
            tokio::time::sleep(OFTEN / 2).await;
        }
    };
    let info = tokio::time::timeout(PATIENCE, done).await.unwrap();
    assert_eq!((info.state, info.retried), (TaskState::Completed, 0), "{queue}");
    for host in [first, second] {
        assert_eq!(host.system.shutdown().await, Exit::Stopped);
    }
}

/// Nothing is recovered while its owner extends, and no run ends while its lease stands.
#[tokio::test]
async fn steps_of_a_wall_clock_cost_no_task_and_no_run() {
    let server = RedisServer::start().await;
    let steps = [-600, -65, 40, 65, 600]
        .into_iter()
        .flat_map(|by| [(by, true), (by, false)]);
    futures::future::join_all(steps.map(|(by, owner)| step(&server, by, owner))).await;
    invariants::assert_hold(&server.client().await.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(server.url()).unwrap()).await;
}
