//! Asynq for Rust as a contestant.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use asynq::{
    AsynqSystem, Client, Error, Inspector, RetryDelay, ServerConfig, TaskState,
    inspect::{Cursor, ListFilter},
    inspector::SearchLimits,
    query::Query,
    redis::RedisConnectionType,
    task::Task,
};
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all};
use tokio::{
    runtime::Builder,
    sync::{Notify, oneshot},
    time::{MissedTickBehavior, interval},
};

use crate::contestant::{HandlerKind, Params, quantiles, ready, say, until_stopped};

/// The type of all tasks.
const TYPE: &str = "bench:noop";
/// Tasks that a refill enqueues together.
const REFILL: u64 = 1000;
/// Bytes of a probe's payload, which is when it was sent; other tasks have other sizes.
const PROBE: usize = 8;
/// Time until a task is tried again, longer than a measurement.
const RETRY: Duration = Duration::from_secs(3600);
/// Time after the last probe was sent in which it must have started.
const LAST_PROBE: Duration = Duration::from_secs(20);

type Ended = asynq::Result<()>;
type Run = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// Does the work on a runtime of its own.
pub(crate) fn run(work: &str, params: Params) -> Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(params.workers.max(1))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match work {
            "enqueue" => enqueue(&params).await,
            "drain" => drain(&params).await,
            "both" => both(&params).await,
            "latency" => latency(&params).await,
            "scheduled" => scheduled(&params).await,
            "idle" => idle(&params).await,
            "inspect" => inspect(&params).await,
            other => bail!("there is no work called {other:?}"),
        }
    })
}

fn redis(params: &Params) -> Result<RedisConnectionType> {
    Ok(RedisConnectionType::single(format!("redis://{}", params.redis))?)
}

fn config(params: &Params) -> ServerConfig {
    let mut config = ServerConfig::new()
        .concurrency(params.concurrency.max(1))
        .prefetch(params.prefetch);
    if !params.queues.is_empty() {
        config = config.queues(params.queues.clone());
    }
    if params.handler == HandlerKind::Mixed {
        // A retry within the measurement would be one task more.
        config = config.retry_delay(RetryDelay::new(|_, _, _| RETRY));
    }
    config
}

/// A task; every 20th of mixed ones is kept after its end.
fn task(params: &Params, number: u64) -> Result<Task> {
    let mut task = Task::new(TYPE, &vec![b'x'; params.payload])?;
    if !params.queues.is_empty() {
        let place = usize::try_from(number).unwrap_or(0) % params.queues.len();
        task = task.with_queue(params.queues[place].0.as_str());
    }
    if params.handler == HandlerKind::Mixed && number % 20 == 2 {
        task = task.with_retention(Duration::from_secs(3600));
    }
    Ok(task)
}

async fn enqueue(params: &Params) -> Result<()> {
    let system = AsynqSystem::builder(redis(params)?).spawn().await?;
    system.ping().await?;
    ready();
    produce(&system.client(), params).await?;
    say("handled");
    until_stopped();
    Ok(())
}

/// Enqueues all tasks by the callers, which share what is left to do. Each is a task of the runtime.
async fn produce(client: &Client, params: &Params) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let callers = (0..params.callers.max(1)).map(|_| {
        let (next, client, params) = (Arc::clone(&next), client.clone(), params.clone());
        #[expect(clippy::disallowed_methods, reason = "a caller, and all are waited for")]
        let caller = tokio::spawn(async move {
            let step = params.bulk.max(1) as u64;
            loop {
                let first = next.fetch_add(step, Ordering::Relaxed);
                if first >= params.n {
                    return anyhow::Ok(());
                }
                if params.bulk == 0 {
                    client.enqueue(task(&params, first)?).await?;
                    continue;
                }
                let tasks = (first..params.n.min(first + step)).map(|number| task(&params, number));
                for answer in client.enqueue_many(tasks.collect::<Result<Vec<_>>>()?).await {
                    answer?;
                }
            }
        });
        async { caller.await.context("a caller ended")? }
    });
    try_join_all(callers).await?;
    Ok(())
}

/// Counts runs, and says when the first one began and the last one ended.
struct Progress {
    n: u64,
    started: AtomicU64,
    handled: AtomicU64,
    refill: Notify,
}

impl Progress {
    fn new(n: u64) -> Arc<Self> {
        Arc::new(Self {
            n,
            started: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            refill: Notify::new(),
        })
    }

    /// Counts a run that begins, from 0.
    fn start(&self) -> u64 {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            say("first");
        }
        number
    }

    fn end(&self) {
        let handled = self.handled.fetch_add(1, Ordering::Relaxed) + 1;
        if handled == self.n {
            say("handled");
        }
        if handled.is_multiple_of(REFILL) {
            self.refill.notify_one();
        }
    }
}

/// The runs that are held.
struct Held {
    ends: Vec<oneshot::Sender<()>>,
    random: u64,
}

impl Held {
    /// Adds a run; beyond `most` one of all ends, at random.
    fn hold(&mut self, most: usize, all_started: bool) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        self.ends.push(end);
        while !self.ends.is_empty() && (self.ends.len() >= most || all_started) {
            // Xorshift: any that does not repeat soon will do.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let place = usize::try_from(self.random % self.ends.len() as u64).unwrap_or(0);
            let _ = self.ends.swap_remove(place).send(());
        }
        ended
    }
}

fn handler(params: &Params, progress: Arc<Progress>) -> impl Fn(Task) -> Run + Send + Sync + 'static {
    let kind = params.handler;
    let most = (params.concurrency * 9 / 10).max(1);
    let held = Arc::new(Mutex::new(Held {
        ends: Vec::new(),
        random: 0x9E37_79B9_7F4A_7C15,
    }));
    move |_task| {
        let number = progress.start();
        let outcome = match kind {
            HandlerKind::Mixed if number.is_multiple_of(20) => Err(Error::other("try again")),
            HandlerKind::Mixed if number % 20 == 1 => Err(Error::skip_retry("no use")),
            HandlerKind::Hold => {
                let all_started = number + 1 >= progress.n;
                let ended = held
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .hold(most, all_started);
                let progress = Arc::clone(&progress);
                return Box::pin(async move {
                    let _ = ended.await;
                    progress.end();
                    Ok(())
                });
            }
            _ => Ok(()),
        };
        progress.end();
        Box::pin(std::future::ready(outcome))
    }
}

async fn drain(params: &Params) -> Result<()> {
    let builder = AsynqSystem::builder(redis(params)?).config(config(params));
    let progress = Progress::new(params.n);
    ready();
    let system = if params.handler == HandlerKind::Noop {
        // Without a box: a handler that does nothing is one that costs nothing.
        let progress = Arc::clone(&progress);
        let handler = move |_task: Task| {
            progress.start();
            progress.end();
            std::future::ready(Ended::Ok(()))
        };
        builder.handler(handler).spawn().await?
    } else {
        builder.handler(handler(params, Arc::clone(&progress))).spawn().await?
    };
    if params.refill {
        refill(&system.client(), params, &progress).await?;
    }
    until_stopped();
    Ok(())
}

/// Enqueues as many tasks as were handled, until enough were.
async fn refill(client: &Client, params: &Params, progress: &Progress) -> Result<()> {
    let mut enqueued = 0;
    loop {
        let handled = progress.handled.load(Ordering::Relaxed);
        if handled >= params.n {
            return Ok(());
        }
        if enqueued + REFILL > handled {
            progress.refill.notified().await;
            continue;
        }
        let tasks = (0..REFILL)
            .map(|number| task(params, number))
            .collect::<Result<Vec<_>>>()?;
        for answer in client.enqueue_many(tasks).await {
            answer?;
        }
        enqueued += REFILL;
    }
}

async fn both(params: &Params) -> Result<()> {
    let progress = Progress::new(params.n);
    let counted = Arc::clone(&progress);
    let system = AsynqSystem::builder(redis(params)?)
        .config(config(params))
        .handler(move |_task: Task| {
            counted.start();
            counted.end();
            std::future::ready(Ended::Ok(()))
        })
        .spawn()
        .await?;
    system.ping().await?;
    ready();
    produce(&system.client(), params).await?;
    until_stopped();
    Ok(())
}

/// The delays of probes in microseconds.
type Delays = Arc<Mutex<Vec<i64>>>;

/// Waits until so many probes have started, or for as long as the last one may take.
async fn until_started(delays: &Delays, count: usize) -> Vec<i64> {
    let deadline = Instant::now() + LAST_PROBE;
    loop {
        let found = delays.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if found.len() >= count || Instant::now() > deadline {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn latency(params: &Params) -> Result<()> {
    let (began, delays) = (Instant::now(), Delays::default());
    let found = Arc::clone(&delays);
    let system = AsynqSystem::builder(redis(params)?)
        .config(config(params))
        .handler(move |task: Task| {
            if let Ok(sent) = <[u8; PROBE]>::try_from(task.get_payload()) {
                let delay = began.elapsed().as_nanos() as i64 - i64::from_le_bytes(sent);
                found.lock().unwrap_or_else(PoisonError::into_inner).push(delay / 1000);
            }
            std::future::ready(Ended::Ok(()))
        })
        .spawn()
        .await?;
    system.ping().await?;
    ready();
    let client = system.client();
    let until = Instant::now() + Duration::from_secs_f64(params.seconds);
    let probes = async {
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(params.rate.max(1))?);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        while Instant::now() < until {
            ticks.tick().await;
            let now = began.elapsed().as_nanos() as i64;
            client.enqueue(Task::new(TYPE, &now.to_le_bytes())?).await?;
            count += 1;
        }
        anyhow::Ok(count)
    };
    let load = async {
        let mut ticks = interval(Duration::from_millis(1));
        let (mut sent, start) = (0, Instant::now());
        while params.load > 0 && Instant::now() < until {
            ticks.tick().await;
            let due = (start.elapsed().as_secs_f64() * params.load as f64) as u64;
            let tasks = (sent..due)
                .map(|number| task(params, number))
                .collect::<Result<Vec<_>>>()?;
            sent = due;
            for answer in client.enqueue_many(tasks).await {
                answer?;
            }
        }
        anyhow::Ok(())
    };
    let (count, ()) = tokio::try_join!(probes, load)?;
    say(&quantiles(until_started(&delays, count).await));
    until_stopped();
    Ok(())
}

/// Delays of scheduled tasks behind their second. A negative one would be a task that started early.
async fn scheduled(params: &Params) -> Result<()> {
    let delays = Delays::default();
    let found = Arc::clone(&delays);
    let system = AsynqSystem::builder(redis(params)?)
        .config(config(params))
        .handler(move |task: Task| {
            if let Ok(due) = <[u8; PROBE]>::try_from(task.get_payload()) {
                let delay = Utc::now().timestamp_micros() - i64::from_le_bytes(due);
                found.lock().unwrap_or_else(PoisonError::into_inner).push(delay);
            }
            std::future::ready(Ended::Ok(()))
        })
        .spawn()
        .await?;
    system.ping().await?;
    ready();
    let client = system.client();
    let (first, spread) = (Utc::now().timestamp() + 2, (params.seconds as i64).max(1));
    for number in 0..params.n {
        let due = DateTime::from_timestamp(first + number as i64 % spread, 0).context("a time")?;
        let task = Task::new(TYPE, &due.timestamp_micros().to_le_bytes())?;
        client.enqueue_at(task, due).await?;
    }
    let count = usize::try_from(params.n)?;
    let found = loop {
        let found = until_started(&delays, count).await;
        if found.len() >= count || Utc::now().timestamp() > first + spread + 20 {
            break found;
        }
    };
    say(&quantiles(found));
    until_stopped();
    Ok(())
}

async fn idle(params: &Params) -> Result<()> {
    let system = AsynqSystem::builder(redis(params)?)
        .config(config(params))
        .handler(|_task: Task| std::future::ready(Ended::Ok(())))
        .spawn()
        .await?;
    system.ping().await?;
    ready();
    until_stopped();
    drop(system);
    Ok(())
}

/// The looks of an operator at a queue. Payloads are no JSON objects, so a search by a field looks at each.
async fn inspect(params: &Params) -> Result<()> {
    const QUEUE: &str = "default";
    const MANY: usize = 10_000;
    let inspector = Inspector::connect(redis(params)?).await?;
    let limits = SearchLimits::default().looked_at(MANY as u64);
    let by_payload: Query = "payload.user_id=1002".parse()?;
    let by_state: Query = "queue=default state=pending".parse()?;
    ready();
    let mut delays = Vec::new();
    for round in 0..params.n {
        let begun = Instant::now();
        match params.look.as_str() {
            "stats" => drop(inspector.get_queue_stats(QUEUE).await?),
            "page" => drop(inspector.list_tasks(QUEUE, TaskState::Pending, 1, 30).await?),
            "deep-page" => drop(inspector.list_tasks(QUEUE, TaskState::Pending, 30_000, 30).await?),
            "count" => {
                let count = inspector.count(&by_state, &limits).await?;
                anyhow::ensure!(count.is_complete, "at least {} tasks", count.tasks);
            }
            "findings" => drop(inspector.findings().await?),
            "search" => {
                let found = inspector.search(&by_payload, &limits, &Cursor::default()).await?;
                anyhow::ensure!(found.looked_at == MANY as u64, "looked at {} tasks", found.looked_at);
            }
            "scan" => {
                let tasks = inspector.scan_tasks(QUEUE, &ListFilter::State(TaskState::Pending))?;
                let count = tasks
                    .take(MANY)
                    .try_fold(0, |count, _| async move { Ok(count + 1) })
                    .await?;
                anyhow::ensure!(count == MANY, "{count} tasks");
            }
            other => bail!("there is nothing called {other:?} to look at in round {round}"),
        }
        delays.push(i64::try_from(begun.elapsed().as_micros())?);
    }
    say(&quantiles(delays));
    until_stopped();
    Ok(())
}
