//! `asynq bench`.

use std::{
    io::Write as _,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use asynq::{
    AsynqSystem, Client, Inspector, ServerConfig, Task,
    error::{BrokerError, Error},
    inspector::{Act, ActLimits, SearchLimits},
    query::Query,
};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    cli::Global,
    error::{CliError, Result},
    interrupt,
    output::{BOLD, one_line},
    session::Session,
};

/// Queue of the tasks, unless another one is named.
const QUEUE: &str = "asynq-cli-bench";
/// Type of the tasks.
const TASK_TYPE: &str = "asynq-cli:bench";
/// Enqueues in progress at once.
const AT_ONCE: usize = 1000;
/// Tasks that are enqueued one at a time, to measure how long one takes to its handler.
const PROBES: u64 = 200;
/// Time without a task after which the drain has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time after which the server gives back a task that is not of the load.
const GIVE_BACK: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(
    after_help = "The queue must not exist, and no server may take from it. It is removed at the end, also after Ctrl-C. Only \
                        the default queue may hold tasks that an earlier load has left, which are removed first. The load uses \
                        the Redis that others use too: it is not for a Redis in production."
)]
pub(crate) struct Bench {
    /// Queue of the tasks.
    #[arg(long, default_value = QUEUE)]
    queue: String,
    /// Number of tasks.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    tasks: u64,
    /// Number of tasks that run at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Size of each payload.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    payload_bytes: u32,
    /// Keep the queue, with its counters.
    #[arg(long)]
    keep: bool,
}

/// The answer.
#[derive(Debug, Serialize)]
struct BenchRecord {
    place: String,
    queue: String,
    tasks: u64,
    payload_bytes: u32,
    concurrency: u32,
    enqueue_seconds: f64,
    enqueued_per_second: f64,
    process_seconds: f64,
    processed_per_second: f64,
    /// Tasks that were enqueued one at a time, while nothing else ran.
    latency_tasks: u64,
    /// Time from the enqueue to the handler.
    latency_p50_seconds: f64,
    latency_p99_seconds: f64,
    /// The queue is removed.
    removed: bool,
}

impl Bench {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        session.hands.must_be_free()?;
        let left = self.must_be_unused(&session.inspector).await?;
        let queue = one_line(&self.queue);
        session.hands.confirm(&format!(
            "Load queue {queue} at {} with {} tasks{}, drain it{}",
            session.place(),
            self.tasks,
            match left {
                0 => String::new(),
                left => format!(" after the removal of {left} that an earlier load has left"),
            },
            if self.keep { "" } else { " and remove it" },
        ))?;
        // Again, because a question takes time.
        let left = self.must_be_unused(&session.inspector).await?;
        if left > 0 {
            let _ = writeln!(
                anstream::stderr(),
                "Removing {left} tasks that an earlier load has left in queue {queue}."
            );
            self.delete_tasks(&session.inspector).await?;
        }
        let client = Client::new(session.connector.clone()).await?;
        let measured = {
            let mut work = pin!(self.measure(&session, &client));
            tokio::select! {
                // First, so that nothing is written before it is heard.
                biased;
                () = interrupt::any() => Err(CliError::failure("stopped before the end")),
                measured = &mut work => measured,
            }
        };
        let clean = async {
            client.close().await;
            match self.keep {
                true => Ok(false),
                false => self.remove(&session.inspector).await.map(|()| true),
            }
        };
        let removed = tokio::select! {
            // Redis may not answer, and many tasks take their time.
            () = interrupt::any() => Err(CliError::failure("stopped while it was removed")),
            removed = clean => removed,
        };
        match (measured, removed) {
            (Ok(mut record), Ok(removed)) => {
                record.removed = removed;
                session.out.record(&record, || text(&record))
            }
            (Err(error), Ok(true)) => Err(error.hint(format!("Queue {queue} is removed."))),
            (Err(error), Ok(false)) => Err(error.hint(format!("Queue {queue} is kept, with the tasks that are left."))),
            (Err(error), Err(left)) => Err(error.hint(format!("Queue {queue} could not be removed: {left}"))),
            (Ok(_), Err(left)) => Err(left.context(format!("queue {queue} could not be removed"))),
        }
    }

    /// Fails if the queue exists, or a server takes from it. Returns the number of tasks that an earlier load has left: the
    /// default queue may exist if it has no other tasks.
    ///
    /// # Errors
    /// [`Status::Refused`](crate::error::Status::Refused).
    async fn must_be_unused(&self, inspector: &Inspector) -> Result<u64> {
        let queue = &self.queue;
        let refused = |why: String| {
            Err(CliError::refused(format!("queue {queue:?} {why}, nothing was changed"))
                .hint("The load needs a queue of its own, which does not exist: `--queue`."))
        };
        let left = match inspector.get_queue_stats(queue).await {
            Err(Error::Broker(BrokerError::QueueNotFound { .. })) => 0,
            Err(error) => return Err(error.into()),
            Ok(info) if queue != QUEUE => return refused(format!("exists, with {} tasks", info.size())),
            Ok(info) if info.paused => return refused("is paused".to_owned()),
            // Only a server can take them back, once their leases have ended.
            Ok(info) if info.active > 0 => return refused(format!("has {} tasks that run", info.active)),
            Ok(info) => {
                let limits = SearchLimits::default()
                    .looked_at(u64::MAX)
                    .bytes(u64::MAX)
                    .time(PATIENCE);
                let own = inspector.count(&self.own_tasks()?, &limits).await?;
                if !own.is_complete {
                    return refused(format!("has too many tasks to look at, {}", info.size()));
                }
                if own.tasks != info.size() {
                    return refused(format!(
                        "has {} tasks that are not of an earlier load",
                        info.size().saturating_sub(own.tasks)
                    ));
                }
                own.tasks
            }
        };
        let servers = inspector.servers().await?;
        match servers.iter().find(|server| server.queues.contains_key(queue)) {
            None => Ok(left),
            Some(server) => Err(CliError::refused(format!(
                "a server at {} takes from queue {queue:?}, nothing was changed",
                server.host
            ))
            .hint("The load needs a queue of its own: `--queue`.")),
        }
    }

    async fn measure(&self, session: &Session, client: &Client) -> Result<BenchRecord> {
        let payload = vec![b'x'; self.payload_bytes as usize];
        let task = Task::new(TASK_TYPE, &payload)?.with_queue(&self.queue);
        let bar = bar(self.tasks, "enqueued");
        let began = Instant::now();
        let enqueues = (0..self.tasks).map(|_| async {
            let enqueued = client.enqueue(task.clone()).await;
            bar.inc(1);
            enqueued.map(drop)
        });
        stream::iter(enqueues)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let enqueue_seconds = began.elapsed().as_secs_f64();
        bar.finish_and_clear();

        let (process_seconds, mut latencies) = self.drain(session, client, &task).await?;
        latencies.sort_unstable();
        Ok(BenchRecord {
            place: session.place(),
            queue: self.queue.clone(),
            tasks: self.tasks,
            payload_bytes: self.payload_bytes,
            concurrency: self.concurrency,
            enqueue_seconds,
            enqueued_per_second: self.tasks as f64 / enqueue_seconds.max(f64::EPSILON),
            process_seconds,
            processed_per_second: self.tasks as f64 / process_seconds.max(f64::EPSILON),
            latency_tasks: latencies.len() as u64,
            latency_p50_seconds: quantile(&latencies, 50).as_secs_f64(),
            latency_p99_seconds: quantile(&latencies, 99).as_secs_f64(),
            removed: false,
        })
    }

    /// Runs a server until all tasks have run, and then tasks one at a time. Returns the seconds of the first, and the times
    /// that the others took to the handler.
    async fn drain(&self, session: &Session, client: &Client, task: &Task) -> Result<(f64, Vec<Duration>)> {
        let done = Arc::new(AtomicU64::new(0));
        let (started, mut starts) = mpsc::unbounded_channel();
        let (all, counted) = (self.tasks, Arc::clone(&done));
        let (not_ours, mut foreign) = mpsc::unbounded_channel();
        let handler = move |task: Task| {
            let at = Instant::now();
            let is_ours = task.get_type() == TASK_TYPE;
            if !is_ours {
                let _ = not_ours.send(task.get_type().to_owned());
            } else if counted.fetch_add(1, Ordering::Relaxed) + 1 >= all {
                // The last of the load, and each one after it.
                let _ = started.send(at);
            }
            async move {
                if !is_ours {
                    // It has not run: the server ends now, and gives it back.
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        };
        let config = ServerConfig::new()
            .concurrency(self.concurrency as usize)
            .shutdown_timeout(GIVE_BACK)
            .queues([(self.queue.as_str(), 1)]);
        let began = Instant::now();
        let system = AsynqSystem::builder(session.connector.clone())
            .config(config)
            .handler(handler)
            .spawn()
            .await?;
        let work = async {
            let last = self.wait(&done, &mut starts).await?;
            let mut latencies = Vec::new();
            for _ in 0..self.tasks.min(PROBES) {
                let enqueued = Instant::now();
                client.enqueue(task.clone()).await?;
                let started = tokio::time::timeout(PATIENCE, starts.recv()).await;
                let Ok(Some(started)) = started else {
                    return Err(CliError::failure(format!("a task did not run within {PATIENCE:?}")));
                };
                // A handler may begin before the answer of the enqueue is here.
                latencies.push(started.saturating_duration_since(enqueued));
            }
            Ok((last.saturating_duration_since(began).as_secs_f64(), latencies))
        };
        let measured = tokio::select! {
            measured = work => measured,
            Some(task_type) = foreign.recv() => Err(CliError::failure(format!(
                "somebody else has put a task of type {task_type:?} into the queue, which is given back"
            ))),
        };
        system.shutdown().await;
        measured
    }

    /// Waits for the last task of the load, and returns the time at which it ran.
    async fn wait(&self, done: &AtomicU64, starts: &mut mpsc::UnboundedReceiver<Instant>) -> Result<Instant> {
        let bar = bar(self.tasks, "processed");
        let (mut before, mut moved) = (0, Instant::now());
        loop {
            match tokio::time::timeout(Duration::from_millis(100), starts.recv()).await {
                Ok(Some(last)) => {
                    bar.finish_and_clear();
                    return Ok(last);
                }
                Ok(None) => return Err(CliError::failure("the server has ended")),
                Err(_) => {}
            }
            let now = done.load(Ordering::Relaxed);
            bar.set_position(now);
            if now != before {
                (before, moved) = (now, Instant::now());
            } else if moved.elapsed() > PATIENCE {
                return Err(CliError::failure(format!(
                    "no task ran for {PATIENCE:?}, after {now} of {}",
                    self.tasks
                )));
            }
        }
    }

    /// The tasks of loads in the queue.
    fn own_tasks(&self) -> Result<Query> {
        format!("queue={} type={TASK_TYPE:?}", quoted(&self.queue))
            .parse()
            .map_err(|error| CliError::failure(format!("cannot name the tasks: {error}")))
    }

    /// Deletes the tasks of loads that do not run, and returns how many were found.
    async fn delete_tasks(&self, inspector: &Inspector) -> Result<u64> {
        let mut act = inspector.act_by_query(&self.own_tasks()?, Act::Delete, ActLimits::default())?;
        while act.next().await?.is_some() {}
        Ok(act.progress().found)
    }

    /// Removes what is left of the load, and then the queue, if nobody else has put something there.
    async fn remove(&self, inspector: &Inspector) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.delete_tasks(inspector).await?;
            match inspector.delete_queue(&self.queue, false).await {
                Ok(()) | Err(Error::Broker(BrokerError::QueueNotFound { .. })) => return Ok(()),
                // Tasks that were running when the server was stopped may still come back.
                Err(Error::Broker(BrokerError::QueueNotEmpty { .. } | BrokerError::QueueHasActiveTasks { .. }))
                    if Instant::now() < end
                        && (found > 0 || inspector.get_queue_stats(&self.queue).await?.active > 0) =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A bar on a terminal, and nothing elsewhere.
fn bar(tasks: u64, done: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{pos} of {len} {msg} {wide_bar} {per_sec}");
    ProgressBar::new(tasks)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(done)
}

/// A name as a value in a query.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The least of the sorted times that `percent` of them do not exceed.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn text(record: &BenchRecord) -> String {
    let millis = |seconds: f64| format!("{:.2}ms", seconds * 1000.0);
    format!(
        "{BOLD}{} tasks of {} bytes{BOLD:#} in queue {} at {}\n\
         Enqueued   {:>10.0}/s  in {:.2}s\n\
         Processed  {:>10.0}/s  in {:.2}s, {} at once\n\
         Latency    {:>12}  p50, {} p99: from the enqueue to the handler, {} tasks one at a time\n\
         The queue is {}.\n",
        record.tasks,
        record.payload_bytes,
        one_line(&record.queue),
        record.place,
        record.enqueued_per_second,
        record.enqueue_seconds,
        record.processed_per_second,
        record.process_seconds,
        record.concurrency,
        millis(record.latency_p50_seconds),
        millis(record.latency_p99_seconds),
        record.latency_tasks,
        if record.removed { "removed" } else { "kept" },
    )
}
