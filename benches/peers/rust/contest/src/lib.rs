//! The line protocol that `benches/src/contestant.rs` describes, and the work that a contestant does with a task queue.

use std::{
    future::Future,
    io::{self, BufRead as _, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::{
    runtime::{Builder, Handle},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

/// Time after the last probe was sent in which it must have started.
const LAST_PROBE: Duration = Duration::from_secs(20);
/// Start of a probe's payload; the rest is when it was sent. Other payloads are of `x` alone.
const PROBE: &str = "probe ";

/// The parameters of a piece of work.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Params {
    /// Address of Redis as `host:port`.
    pub redis: String,
    /// Number of tasks.
    pub n: u64,
    /// Callers that enqueue at once.
    pub callers: usize,
    /// Tasks that a caller hands over together; 0 for one by one.
    pub bulk: usize,
    /// Tasks that run at once.
    pub concurrency: usize,
    /// Bytes of each payload.
    pub payload: usize,
    /// Probes in a second.
    pub rate: u64,
    /// Seconds for which probes are sent.
    pub seconds: f64,
    /// Other tasks in a second, while probes are sent.
    pub load: u64,
}

impl Params {
    /// URL of Redis.
    pub fn url(&self) -> String {
        format!("redis://{}", self.redis)
    }

    fn payload(&self) -> String {
        "x".repeat(self.payload)
    }
}

/// The work with the payload of each task.
pub type Handler = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// A task queue of another project.
pub trait Queue: Clone + Send + Sync + 'static {
    /// It has a call for several tasks.
    const BULK: bool = false;

    /// Connects a producer.
    fn connect(params: &Params) -> impl Future<Output = Result<Self>> + Send;

    /// Enqueues a task.
    fn enqueue(&self, payload: String) -> impl Future<Output = Result<()>> + Send;

    /// Enqueues several tasks, where it has a call for that.
    fn enqueue_bulk(&self, payloads: Vec<String>) -> impl Future<Output = Result<()>> + Send {
        async move { bail!("no call enqueues {} tasks", payloads.len()) }
    }

    /// Works on tasks until the process ends.
    fn work(params: Params, handler: Handler) -> impl Future<Output = Result<()>>;
}

/// Does what the command line says, as `PROGRAM WORK JSON`, on a runtime with its default settings.
pub fn run<Q: Queue>() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [work, params] = &words[..] else {
        bail!("usage: PROGRAM WORK JSON")
    };
    let params: Params = serde_json::from_str(params).context("the parameters")?;
    Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match work.as_str() {
            "enqueue" => enqueue::<Q>(&params).await,
            "drain" => drain::<Q>(&params),
            "both" => both::<Q>(&params).await,
            "latency" => latency::<Q>(&params).await,
            "idle" => idle::<Q>(&params).await,
            other => bail!("there is no work called {other:?}"),
        }
    })
}

/// Prints a line at once.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    // A reader that is gone ends this process through its input.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Says that all is ready, and waits until it may begin. Blocks its thread.
fn ready() {
    say("ready");
    let _ = io::stdin().lock().read_line(&mut String::new());
}

/// Waits until the input ends. Blocks its thread, which is none of those that work.
fn until_stopped() {
    for line in io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
    }
    // Some workers end only by a signal.
    std::process::exit(0);
}

/// Starts the worker, as a program does that has nothing else to do in its `main`. The process ends with it.
fn start<Q: Queue>(params: &Params, handler: Handler) {
    let (runtime, params) = (Handle::current(), params.clone());
    thread::spawn(move || {
        let end = runtime.block_on(Q::work(params, handler));
        eprintln!("the worker ended: {end:?}");
        std::process::exit(1);
    });
}

async fn enqueue<Q: Queue>(params: &Params) -> Result<()> {
    let queue = Q::connect(params).await?;
    ready();
    produce(&queue, params).await?;
    say("handled");
    until_stopped();
    Ok(())
}

/// Enqueues all tasks by the callers, which share what is left to do. Each is a task of the runtime. Where there is no call
/// for several tasks, a bulk is as many callers.
async fn produce<Q: Queue>(queue: &Q, params: &Params) -> Result<()> {
    let (callers, step) = match params.bulk {
        0 => (params.callers, 1),
        bulk if Q::BULK => (params.callers, bulk as u64),
        bulk => (params.callers.max(1) * bulk, 1),
    };
    let in_bulk = step > 1;
    let next = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    for _ in 0..callers.max(1) {
        let (queue, next, n, payload) = (queue.clone(), Arc::clone(&next), params.n, params.payload());
        running.spawn(async move {
            loop {
                let first = next.fetch_add(step, Ordering::Relaxed);
                if first >= n {
                    return anyhow::Ok(());
                }
                if in_bulk {
                    let count = usize::try_from(step.min(n - first))?;
                    queue.enqueue_bulk(vec![payload.clone(); count]).await?;
                } else {
                    queue.enqueue(payload.clone()).await?;
                }
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// A handler that counts runs, and says when the first one began and the last one ended.
fn counted(n: u64) -> Handler {
    let (started, handled) = (AtomicU64::new(0), AtomicU64::new(0));
    Arc::new(move |_payload| {
        if started.fetch_add(1, Ordering::Relaxed) == 0 {
            say("first");
        }
        if handled.fetch_add(1, Ordering::Relaxed) + 1 == n {
            say("handled");
        }
    })
}

fn drain<Q: Queue>(params: &Params) -> Result<()> {
    ready();
    start::<Q>(params, counted(params.n));
    until_stopped();
    Ok(())
}

async fn both<Q: Queue>(params: &Params) -> Result<()> {
    let queue = Q::connect(params).await?;
    start::<Q>(params, counted(params.n));
    ready();
    produce(&queue, params).await?;
    until_stopped();
    Ok(())
}

async fn idle<Q: Queue>(params: &Params) -> Result<()> {
    let _queue = Q::connect(params).await?;
    start::<Q>(params, Arc::new(|_payload| {}));
    ready();
    until_stopped();
    Ok(())
}

async fn latency<Q: Queue>(params: &Params) -> Result<()> {
    let (began, delays) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let found = Arc::clone(&delays);
    let handler: Handler = Arc::new(move |payload| {
        let sent = str::from_utf8(payload).ok().and_then(|text| text.strip_prefix(PROBE));
        if let Some(sent) = sent.and_then(|nanos| nanos.parse::<i64>().ok()) {
            let delay = began.elapsed().as_nanos() as i64 - sent;
            found.lock().unwrap_or_else(PoisonError::into_inner).push(delay / 1000);
        }
    });
    let queue = Q::connect(params).await?;
    start::<Q>(params, handler);
    ready();
    let until = Instant::now() + Duration::from_secs_f64(params.seconds);
    let probes = async {
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(params.rate.max(1))?);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        while Instant::now() < until {
            ticks.tick().await;
            queue.enqueue(format!("{PROBE}{}", began.elapsed().as_nanos())).await?;
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
            let mut calls = JoinSet::new();
            for _ in sent..due {
                let (queue, payload) = (queue.clone(), params.payload());
                calls.spawn(async move { queue.enqueue(payload).await });
            }
            sent = due;
            while let Some(call) = calls.join_next().await {
                call??;
            }
        }
        anyhow::Ok(())
    };
    let (count, ()) = tokio::try_join!(probes, load)?;
    let deadline = Instant::now() + LAST_PROBE;
    let found = loop {
        let found = delays.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if found.len() >= count || Instant::now() > deadline {
            break found;
        }
        sleep(Duration::from_millis(5)).await;
    };
    say(&quantiles(found));
    until_stopped();
    Ok(())
}

/// The quantiles of durations in microseconds, as a line for [`say`].
fn quantiles(mut micros: Vec<i64>) -> String {
    micros.sort_unstable();
    let at = |per_mille: usize| {
        let place = (micros.len() * per_mille).div_ceil(1000).max(1) - 1;
        micros.get(place).copied().unwrap_or(0)
    };
    let values = serde_json::json!({
        "count": micros.len(), "min_us": at(0), "p50_us": at(500), "p99_us": at(990), "max_us": at(1000),
    });
    format!("result {values}")
}
