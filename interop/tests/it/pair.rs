//! One Redis, and two inspectors that must agree about it.

use std::{sync::Arc, time::Duration};

use asynq::{
    Connector as _, Inspector, TaskState,
    broker::{Env, Storage},
    error::BrokerError,
    inspect::{Breach, ListFilter, PageRequest},
    names::{GroupKey, QueueName, TaskId},
    redis::RedisConnectionType,
};
use asynq_core::raw::RawState;
use asynq_interop::{GoError, GoErrorKind, GoGroup, GoInspector, GoQueueInfo, GoTaskInfo};
use asynq_testing::RedisServer;
use chrono::Utc;
use tokio::time::{Instant, sleep};

use crate::translate;

/// Time that others may take to do what they are expected to do. Far more than they need: tests share the machine
/// with builds.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Pair {
    pub(crate) redis: RedisServer,
    /// Ours.
    pub(crate) storage: Arc<dyn Storage>,
    /// Go's.
    pub(crate) go: GoInspector,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        let redis = RedisServer::start().await;
        let go = GoInspector::start(&redis.address()).await;
        let storage = connector(&redis).connect(Env::default()).await.unwrap();
        Self { redis, storage, go }
    }

    /// The task as both see it; `None` if there is none.
    pub(crate) async fn look(&mut self, queue: &str, id: &str) -> Option<GoTaskInfo> {
        let ours = match self.ours(queue, id).await {
            Ok(info) => Some(normal(info)),
            Err(BrokerError::TaskNotFound { .. } | BrokerError::QueueNotFound { .. }) => None,
            Err(error) => panic!("our look at {id}: {error}"),
        };
        let go = match self.go.task_info(queue, id).await {
            // Go looks for the lease when it lists tasks, and not here.
            Ok(info) => Some(normal(GoTaskInfo {
                is_orphaned: ours.as_ref().is_some_and(|ours| ours.is_orphaned),
                ..info
            })),
            Err(GoError {
                kind: GoErrorKind::TaskNotFound | GoErrorKind::QueueNotFound,
                ..
            }) => None,
            Err(error) => panic!("Go's look at {id}: {error}"),
        };
        assert_eq!(ours, go, "ours (left) and Go's (right) look at {id} differ");
        ours
    }

    async fn ours(&self, queue: &str, id: &str) -> Result<GoTaskInfo, BrokerError> {
        let (queue, id) = (queue_name(queue), TaskId::new(id).unwrap());
        self.storage
            .task_info(&queue, &id)
            .await
            .map(|info| translate::task_info(&info))
    }

    /// Waits until the task is in the state, in which it must stay; then it is what both see.
    pub(crate) async fn until(&mut self, queue: &str, id: &str, state: TaskState) -> GoTaskInfo {
        let in_state = async || match self.ours(queue, id).await.map(|info| info.state) {
            Ok(now) if now == state.as_str() => Ok(()),
            other => Err(other),
        };
        eventually(&format!("{id} in state {state}"), in_state).await;
        self.look(queue, id).await.unwrap()
    }

    /// Waits until there is no such task.
    pub(crate) async fn until_gone(&mut self, queue: &str, id: &str) {
        let gone = async || match self.ours(queue, id).await {
            Err(BrokerError::TaskNotFound { .. }) => Ok(()),
            other => Err(other.map(|info| info.state)),
        };
        eventually(&format!("{id} gone"), gone).await;
        assert_eq!(self.look(queue, id).await, None);
    }

    /// The tasks of a state as both see them, in the order that both see.
    pub(crate) async fn list(&mut self, queue: &str, state: TaskState) -> Vec<GoTaskInfo> {
        let go = self.go.list(queue, state.as_str()).await;
        self.same_list(queue, &ListFilter::State(state), go).await
    }

    /// The tasks of a group as both see them.
    pub(crate) async fn list_group(&mut self, queue: &str, group: &str) -> Vec<GoTaskInfo> {
        let go = self.go.list_group(queue, group).await;
        self.same_list(queue, &ListFilter::Group(GroupKey::new(group).unwrap()), go)
            .await
    }

    async fn same_list(&self, queue: &str, filter: &ListFilter, go: Vec<GoTaskInfo>) -> Vec<GoTaskInfo> {
        let page = PageRequest::new(1, 1000);
        let ours = self.storage.list_tasks(&queue_name(queue), filter, page).await.unwrap();
        assert!(ours.poisoned().next().is_none());
        let ours: Vec<_> = ours
            .tasks
            .iter()
            .map(|info| normal(translate::task_info(info)))
            .collect();
        let go: Vec<_> = go.into_iter().map(normal).collect();
        assert_eq!(
            ours, go,
            "our (left) and Go's (right) list {filter:?} of {queue} differ"
        );
        ours
    }

    /// The groups of a queue as both see them.
    pub(crate) async fn groups(&mut self, queue: &str) -> Vec<GoGroup> {
        let ours = self.storage.group_infos(&queue_name(queue)).await.unwrap();
        // Go shows none of which all tasks are in sets.
        let mut ours: Vec<_> = ours
            .into_iter()
            .filter(|info| info.size > 0)
            .map(|info| GoGroup {
                group: info.group.to_string(),
                size: info.size,
            })
            .collect();
        ours.sort_by(|a, b| a.group.cmp(&b.group));
        assert_eq!(
            ours,
            self.go.groups(queue).await,
            "our (left) and Go's (right) groups of {queue} differ"
        );
        ours
    }

    /// The queues as both see them.
    pub(crate) async fn queues(&mut self) -> Vec<String> {
        let ours: Vec<_> = self
            .storage
            .queues()
            .await
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            ours,
            self.go.queues().await,
            "our (left) and Go's (right) queues differ"
        );
        ours
    }

    /// A queue as both see it, but for what is measured: that must be about the same, and is 0 here.
    pub(crate) async fn queue(&mut self, queue: &str) -> GoQueueInfo {
        let mut ours = translate::queue_info(&self.storage.queue_info(&queue_name(queue)).await.unwrap());
        let mut go = self.go.queue_info(queue).await.unwrap();
        about(ours.latency_nanos, go.latency_nanos, Duration::from_secs(30));
        about(
            ours.timestamp_unix_nanos,
            go.timestamp_unix_nanos,
            Duration::from_secs(30),
        );
        for info in [&mut ours, &mut go] {
            assert_eq!(info.memory_usage > 0, info.size > 0, "{info:?}");
            (info.latency_nanos, info.timestamp_unix_nanos, info.memory_usage) = (0, 0, 0);
        }
        assert_eq!(ours, go, "our (left) and Go's (right) look at queue {queue} differ");
        ours
    }

    /// Waits until the queue is as wanted.
    pub(crate) async fn until_queue(&mut self, queue: &str, what: &str, wanted: impl Fn(&GoQueueInfo) -> bool) {
        let name = queue_name(queue);
        let as_wanted = async || {
            let info = translate::queue_info(&self.storage.queue_info(&name).await.unwrap());
            if wanted(&info) { Ok(()) } else { Err(info) }
        };
        eventually(&format!("queue {queue}: {what}"), as_wanted).await;
    }

    /// Processed and failed tasks of a queue, by the total and by today's counters.
    pub(crate) async fn counted(&mut self, queue: &str) -> (u64, u64) {
        let info = self.queue(queue).await;
        assert_eq!((info.processed, info.failed), (info.processed_total, info.failed_total));
        (info.processed, info.failed)
    }

    /// Makes the lease of an active task one that ended a minute ago. The lease as it is then, in Unix seconds.
    pub(crate) async fn let_lease_expire(&self, queue: &str, id: &str) -> i64 {
        let then = Utc::now().timestamp() - 60;
        let leases = format!("asynq:{{{queue}}}:lease");
        let change = ["ZADD", &leases, "XX", "CH", &then.to_string(), id];
        let changed = self.redis.client().await.ok(&change).await.int();
        assert_eq!(changed, 1, "{id} has a lease");
        then
    }

    /// The keys that are not about servers, at rest.
    pub(crate) async fn raw(&self) -> RawState {
        self.redis.client().await.raw_state().await
    }

    /// Returns what the doctor finds in all queues, seen twice each.
    pub(crate) async fn breaches(&self) -> Vec<Breach> {
        let inspector = Inspector::new(self.storage.clone());
        let (mut doctor, mut found) = (inspector.doctor(), Vec::new());
        while let Some(step) = doctor.next().await.unwrap() {
            found.extend(step.findings.into_iter().map(|finding| finding.breach));
        }
        found
    }
}

pub(crate) fn connector(redis: &RedisServer) -> RedisConnectionType {
    RedisConnectionType::single(redis.url()).unwrap()
}

pub(crate) fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// Looks again and again until the look succeeds.
pub(crate) async fn eventually<T, E: std::fmt::Debug>(what: &str, look: impl AsyncFn() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => panic!("never: {what}; at last {last:?}"),
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Times or durations in nanoseconds that two programs took.
#[track_caller]
pub(crate) fn about(left: i64, right: i64, within: Duration) {
    let apart = Duration::from_nanos(left.abs_diff(right));
    assert!(
        apart <= within,
        "{left} and {right} are {apart:?} apart, more than {within:?}"
    );
}

/// Returns what the two may show differently, on common ground: no payload and an empty one, negative durations
/// (ours show as 0), and the moment of the look, which is when a pending task runs next.
fn normal(mut info: GoTaskInfo) -> GoTaskInfo {
    info.payload = info.payload.filter(|bytes| !bytes.is_empty());
    info.result = info.result.filter(|bytes| !bytes.is_empty());
    info.timeout_ms = info.timeout_ms.max(0);
    info.retention_ms = info.retention_ms.max(0);
    if info.state == "pending" {
        let now = Utc::now().timestamp();
        assert!(
            (now - 10..=now + 1).contains(&info.next_process_at_unix),
            "{info:?} at {now}"
        );
        info.next_process_at_unix = 0;
    }
    info
}

/// [`normal`] for what an enqueue was answered with.
pub(crate) fn answered(info: GoTaskInfo) -> GoTaskInfo {
    normal(info)
}
