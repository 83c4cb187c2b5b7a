//! The aggregator of the application, which combines the tasks of a group into one task.

use std::{fmt, future::Future, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::{blocking, error::Result, task::Task};

/// Number of sets of tasks that one server aggregates at once (Go: `maxConcurrentAggregations`).
pub const MAX_AGGREGATIONS: usize = 3;

/// Makes one task out of the tasks of a group.
///
/// Async functions and closures from `(String, Vec<Task>)`, the group and its tasks, to [`Result<Task>`](Result) are
/// aggregators too. [`GroupAggregatorFunc`] makes an aggregator of a function that is not async.
///
/// The returned task is enqueued with its own options, but in the queue of the group, as in Go. If it names a group
/// of its own, it joins that group. One step removes the members and enqueues the returned task.
///
/// No task is lost if the aggregation fails, because of an error, a panic, the time limit, or a returned task that
/// cannot be enqueued. All members then return to their group after a wait, and are aggregated again. The wait is one
/// second after the first failure of the group, and doubles with each further failure, up to two minutes. Then the
/// members wait for the next check of the group. An aggregator can therefore receive the same tasks more than once.
/// If the server stops or crashes during an aggregation, the members return when the time of their set is over, two
/// to three minutes later, as in Go.
///
/// The future is dropped at its next await point when it takes longer than
/// [`group_timeout`](crate::ServerConfig::group_timeout), when the server stops, or when another server has taken
/// over the set because this one could not reach the storage.
#[async_trait]
pub trait GroupAggregator: Send + Sync + 'static {
    /// Combines `tasks` into one task. There is at least one; each has its type, payload and headers. Tasks that
    /// joined in an earlier second come first. Up to [`MAX_AGGREGATIONS`] calls run at once.
    ///
    /// # Errors
    /// Any error leaves the tasks in their group.
    async fn aggregate(&self, group: &str, tasks: &[Task]) -> Result<Task>;
}

#[async_trait]
impl<F, Fut> GroupAggregator for F
where
    F: Fn(String, Vec<Task>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Task>> + Send,
{
    async fn aggregate(&self, group: &str, tasks: &[Task]) -> Result<Task> {
        self(group.to_owned(), tasks.to_vec()).await
    }
}

#[async_trait]
impl<A: GroupAggregator + ?Sized> GroupAggregator for Arc<A> {
    async fn aggregate(&self, group: &str, tasks: &[Task]) -> Result<Task> {
        (**self).aggregate(group, tasks).await
    }
}

type AggregateFn = dyn Fn(&str, &[Task]) -> Result<Task> + Send + Sync;

/// A [`GroupAggregator`] made of a function that is not async (Go: `GroupAggregatorFunc`).
///
/// The function is called on a thread where it may block, never on one that runs async tasks. A call that has begun
/// cannot be interrupted. After the time limit its result is dropped, and it counts toward [`MAX_AGGREGATIONS`] until
/// it returns. The end of the tokio runtime does not wait for the call, and the end of the process ends it.
///
/// ```
/// use asynq::{GroupAggregatorFunc, Task};
///
/// let aggregator = GroupAggregatorFunc::new(|group, tasks| {
///     let lines = tasks.iter().map(|t| t.get_payload()).collect::<Vec<_>>().join(&b"\n"[..]);
///     Task::new(format!("digest:{group}"), &lines)
/// });
/// ```
#[derive(Clone)]
pub struct GroupAggregatorFunc {
    function: Arc<AggregateFn>,
    threads: Arc<Semaphore>,
}

impl GroupAggregatorFunc {
    /// An aggregator that calls the function.
    pub fn new<F: Fn(&str, &[Task]) -> Result<Task> + Send + Sync + 'static>(f: F) -> Self {
        Self {
            function: Arc::new(f),
            threads: Arc::new(Semaphore::new(MAX_AGGREGATIONS)),
        }
    }
}

#[async_trait]
impl GroupAggregator for GroupAggregatorFunc {
    /// # Panics
    /// Outside of a tokio runtime; and where the function panics.
    async fn aggregate(&self, group: &str, tasks: &[Task]) -> Result<Task> {
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let (function, group, tasks) = (Arc::clone(&self.function), group.to_owned(), tasks.to_vec());
        let call = blocking::run(move || {
            let answer = function(&group, &tasks);
            drop(thread);
            answer
        });
        call.await
    }
}

impl fmt::Debug for GroupAggregatorFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupAggregatorFunc")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::AssertUnwindSafe,
        sync::{Mutex, mpsc},
        thread::ThreadId,
    };

    use futures::FutureExt as _;

    use super::*;
    use crate::error::Error;

    fn tasks(payloads: &[&str]) -> Vec<Task> {
        let task = |payload: &&str| Task::new("t", payload.as_bytes()).unwrap();
        payloads.iter().map(task).collect()
    }

    fn joined(group: &str, tasks: &[Task]) -> Result<Task> {
        let payloads: Vec<_> = tasks.iter().map(Task::get_payload).collect();
        Task::new(group, &payloads.join(&b","[..]))
    }

    #[tokio::test]
    async fn functions_async_functions_and_shared_aggregators_are_aggregators() {
        async fn later(group: String, tasks: Vec<Task>) -> Result<Task> {
            joined(&group, &tasks)
        }
        let all: [Arc<dyn GroupAggregator>; 4] = [
            Arc::new(GroupAggregatorFunc::new(joined)),
            Arc::new(later),
            Arc::new(|group: String, tasks: Vec<Task>| async move { joined(&group, &tasks) }),
            Arc::new(Arc::new(later)),
        ];
        for aggregator in all {
            let task = aggregator.aggregate("g", &tasks(&["a", "b"])).await.unwrap();
            assert_eq!((task.get_type(), task.get_payload()), ("g", &b"a,b"[..]));
        }
    }

    #[tokio::test]
    async fn a_function_runs_on_a_thread_where_it_may_block() {
        let here = std::thread::current().id();
        let there: Arc<Mutex<Option<ThreadId>>> = Arc::default();
        let seen = Arc::clone(&there);
        let aggregator = GroupAggregatorFunc::new(move |group, tasks| {
            *seen.lock().unwrap() = Some(std::thread::current().id());
            joined(group, tasks)
        });
        aggregator.aggregate("g", &tasks(&["a"])).await.unwrap();
        let there = there.lock().unwrap().unwrap();
        assert_ne!(here, there);
    }

    #[tokio::test]
    async fn a_panic_of_the_function_is_a_panic_of_the_call() {
        let aggregator = GroupAggregatorFunc::new(|_, _| panic!("no such group"));
        let tasks = tasks(&["a"]);
        let call = AssertUnwindSafe(aggregator.aggregate("g", &tasks)).catch_unwind();
        let panic = call.await.unwrap_err();
        assert_eq!(*panic.downcast::<&str>().unwrap(), "no such group");
    }

    #[tokio::test]
    async fn calls_that_were_given_up_keep_their_threads_until_they_end() {
        let ((begun, begins), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
        let released = Mutex::new(released);
        let aggregator = GroupAggregatorFunc::new(move |group, tasks| {
            begun.send(()).map_err(Error::other)?;
            released.lock().unwrap().recv().map_err(Error::other)?;
            joined(group, tasks)
        });
        let members = tasks(&["a"]);
        for _ in 0..MAX_AGGREGATIONS {
            let mut call = aggregator.aggregate("g", &members);
            assert!((&mut call).now_or_never().is_none());
            begins.recv().unwrap();
        }
        assert_eq!(aggregator.threads.available_permits(), 0, "dropped, and going on");
        let mut late = aggregator.aggregate("g", &members);
        assert!((&mut late).now_or_never().is_none());
        for _ in 0..=MAX_AGGREGATIONS {
            release.send(()).unwrap();
        }
        late.await.unwrap();
    }
}
