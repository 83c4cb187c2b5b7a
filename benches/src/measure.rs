//! One measurement: a private Redis, one contestant, one piece of work.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use asynq_testing::{redis::RedisServer, resp::Resp};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout_at};

use crate::{
    child::{Contest, Program},
    contestant::Params,
    layout::Layout,
    peers::Peer,
    plan::{Contestant, Row, Work},
    procfs::{Cpu, Memory},
    proxy,
};

/// Round trip that the proxy adds.
pub(crate) const ROUND_TRIP: Duration = Duration::from_millis(1);
/// Time that a settled end may take after the last task was handled.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at Redis once all tasks were handled.
const LOOK: Duration = Duration::from_millis(1);
/// Time that idle workers have for their start.
const QUIET: Duration = Duration::from_secs(2);
/// Tasks that are enqueued together to have some wait.
const FILL: usize = 1000;
/// The same for contestants with a layout of their own. Those without a call for several tasks have as many callers.
const FILL_OTHERS: usize = 50;
/// Largest number of tasks in a call of our scripts.
const MOST_TOGETHER: f64 = 200.0;

/// The figures of one measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sample {
    /// Number of the round in which it was taken, from 1.
    pub(crate) pair: usize,
    /// Tasks settled, or enqueued.
    pub(crate) tasks: u64,
    pub(crate) seconds: f64,
    /// CPU time in seconds of the contestant, in all and in user mode, and of Redis.
    pub(crate) client_cpu: f64,
    pub(crate) client_user: f64,
    pub(crate) redis_cpu: f64,
    /// Scripts called, and commands run, those of scripts included; of idle workers only their own.
    pub(crate) scripts: u64,
    pub(crate) commands: u64,
    /// Largest resident memory of the contestant, and what it has of its own at the end.
    pub(crate) peak_kb: u64,
    pub(crate) own_kb: u64,
    /// Measurements of the contestant itself: quantiles of delays in microseconds.
    pub(crate) delays: BTreeMap<String, i64>,
}

/// The programs of the contestants that are there.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) own: Program,
    pub(crate) peers: BTreeMap<Peer, Program>,
}

impl Programs {
    fn of(&self, contestant: Contestant) -> Result<Program> {
        let side = |side: &str| Program {
            path: self.own.path.clone(),
            words: vec![side.to_owned()],
        };
        Ok(match contestant {
            Contestant::Ours { .. } => side("ours"),
            Contestant::Bare => side("bare"),
            Contestant::Peer(peer) => self.peers.get(&peer).context("it was not built")?.clone(),
        })
    }
}

/// Figures of measurements before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// Tasks in a call of ours in the same row, for the bare scripts.
    pub(crate) batch: Option<f64>,
    /// Tasks in a second that the contestant enqueues and settles at once.
    pub(crate) full_load: Option<f64>,
}

impl Sample {
    /// Tasks in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.tasks as f64 / self.seconds
    }

    /// A time in seconds as microseconds for each task.
    pub(crate) fn micros(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.tasks as f64
    }

    /// Tasks settled in a second in which Redis has one core to itself.
    pub(crate) fn per_core_second(&self) -> f64 {
        self.tasks as f64 / self.redis_cpu
    }

    /// Tasks in a call of a script.
    pub(crate) fn batch(&self) -> f64 {
        self.tasks as f64 / self.scripts as f64
    }
}

/// CPU time that the processes had used at a moment.
struct Look {
    at: Instant,
    client: Cpu,
    redis: Cpu,
}

impl Look {
    fn at(client: u32, redis: u32) -> Result<Self> {
        Ok(Self {
            client: Cpu::of(client)?,
            redis: Cpu::of(redis)?,
            at: Instant::now(),
        })
    }
}

/// Does one measurement.
pub(crate) async fn measure(row: &Row, contestant: Contestant, programs: &Programs, known: Known) -> Result<Sample> {
    let server = RedisServer::builder().args(row.redis.clone()).start().await;
    let mut redis = server.client().await;
    let layout = contestant.layout();
    let queues = queues(&row.params);
    let program = programs.of(contestant)?;
    let mut params = params(row, contestant, known);
    params.redis = server.address();
    if matches!(row.work, Work::Drain | Work::Inspect) {
        let is_filled = params.refill || row.work == Work::Inspect;
        let waiting = if is_filled { row.fill } else { params.n };
        fill(programs, &program, layout, &params, waiting).await?;
        layout.ready(&mut redis, &queues).await;
        let counts = layout.count(&mut redis, &queues).await;
        ensure!(
            counts.waiting == waiting,
            "{} tasks wait, and not {waiting}",
            counts.waiting
        );
    }
    if row.far {
        params.redis = proxy::start(server.address().parse()?, ROUND_TRIP)?.to_string();
    }
    let mut contest = Contest::start(&program, row.work.word(), &params).await?;
    let (client_pid, redis_pid) = (contest.pid()?, server.pid().context("Redis has ended")?);
    redis.ok(&["CONFIG", "RESETSTAT"]).await;
    let mut sample = Sample::default();
    let (mut before, after);
    let mut told = None;
    match row.work {
        Work::Enqueue => {
            before = Look::at(client_pid, redis_pid)?;
            contest.go().await?;
            contest.until("handled").await?;
            after = Look::at(client_pid, redis_pid)?;
            sample.tasks = layout.count(&mut redis, &queues).await.waiting;
            ensure!(
                sample.tasks == params.n,
                "{} tasks were enqueued, and not {}",
                sample.tasks,
                params.n
            );
        }
        Work::Drain | Work::Both => {
            before = Look::at(client_pid, redis_pid)?;
            contest.go().await?;
            contest.until("first").await?;
            if row.work == Work::Drain {
                before = Look::at(client_pid, redis_pid)?;
            }
            contest.until("handled").await?;
            sample.tasks = settled(&mut redis, layout, &queues, &params).await?;
            after = Look::at(client_pid, redis_pid)?;
        }
        Work::Latency | Work::Scheduled => {
            before = Look::at(client_pid, redis_pid)?;
            contest.go().await?;
            sample.delays = serde_json::from_str(&contest.until("result").await?)?;
            let started = sample.delays.get("count").copied().unwrap_or(0);
            let least = least_probes(row.work, &params);
            ensure!(
                started >= least,
                "{started} probes were started, of {least} or more that were sent"
            );
            after = Look::at(client_pid, redis_pid)?;
            sample.tasks = layout.count(&mut redis, &queues).await.settled_of(0);
        }
        Work::Inspect => {
            before = Look::at(client_pid, redis_pid)?;
            contest.go().await?;
            sample.delays = serde_json::from_str(&contest.until("result").await?)?;
            after = Look::at(client_pid, redis_pid)?;
            sample.tasks = params.n;
        }
        Work::Idle => {
            contest.go().await?;
            sleep(QUIET).await;
            let mut monitor = server.client().await;
            monitor.ok(&["MONITOR"]).await;
            before = Look::at(client_pid, redis_pid)?;
            told = Some(commands_told(&mut monitor, Duration::from_secs_f64(params.seconds)).await);
            after = Look::at(client_pid, redis_pid)?;
        }
    }
    statistics(&mut redis, &mut sample).await;
    sample.commands = told.unwrap_or(sample.commands);
    let memory = Memory::of(client_pid)?;
    (sample.peak_kb, sample.own_kb) = (memory.peak, memory.own);
    contest.stop().await;
    let (client, server) = (after.client.since(before.client), after.redis.since(before.redis));
    sample.seconds = (after.at - before.at).as_secs_f64();
    sample.client_cpu = client.total.as_secs_f64();
    sample.client_user = client.user.as_secs_f64();
    sample.redis_cpu = server.total.as_secs_f64();
    Ok(sample)
}

fn queues(params: &Params) -> Vec<String> {
    if params.queues.is_empty() {
        return vec!["default".to_owned()];
    }
    params.queues.iter().map(|(name, _)| name.clone()).collect()
}

/// The parameters of a row for one contestant.
fn params(row: &Row, contestant: Contestant, known: Known) -> Params {
    let mut params = row.params.clone();
    params.n = row.tasks(contestant);
    match contestant {
        Contestant::Ours { workers, prefetch } => (params.workers, params.prefetch) = (workers, prefetch),
        Contestant::Bare => {
            let slots = if row.work == Work::Drain {
                params.concurrency
            } else {
                params.callers
            };
            (params.batch, params.in_flight) = calls(slots, params.bulk, known.batch);
        }
        Contestant::Peer(_) => {}
    }
    if params.load > 0 {
        params.load = known.full_load.map_or(0, |rate| (rate / 2.0) as u64);
    }
    params
}

/// The number of tasks in a call of the bare scripts, and of calls under way: as many tasks in a call as
/// ours had, and no more tasks under way than the slots or callers are.
fn calls(slots: usize, bulk: usize, ours: Option<f64>) -> (usize, usize) {
    if bulk > 0 {
        return (bulk.min(MOST_TOGETHER as usize), bulk.div_ceil(MOST_TOGETHER as usize));
    }
    let half = (slots as f64 / 2.0).ceil();
    let batch = ours
        .unwrap_or(half)
        .clamp(1.0, MOST_TOGETHER.min(slots.max(1) as f64))
        .round() as usize;
    (batch, (slots / batch).clamp(1, 8))
}

/// Has tasks wait. Those with the layout of Asynq are enqueued by ours, which is the fastest; others by who works on
/// them.
async fn fill(programs: &Programs, program: &Program, layout: Layout, params: &Params, waiting: u64) -> Result<()> {
    let mut params = params.clone();
    params.n = waiting;
    params.workers = 2;
    let filler = if layout == Layout::Asynq {
        (params.callers, params.bulk) = (2, FILL);
        &programs.of(Contestant::OURS)?
    } else {
        (params.callers, params.bulk) = (1, FILL_OTHERS);
        program
    };
    let mut contest = Contest::start(filler, "enqueue", &params).await.context("the tasks")?;
    contest.go().await?;
    contest.until("handled").await.context("the tasks")?;
    contest.stop().await;
    Ok(())
}

/// The number of probes that must have started. Half of them may be missing, since a busy machine does not keep a
/// rate.
fn least_probes(work: Work, params: &Params) -> i64 {
    let least = match work {
        Work::Scheduled => params.n as f64,
        _ => params.rate as f64 * params.seconds * 0.5,
    };
    least as i64
}

/// Waits until Redis shows all tasks settled and none active, and returns how many were settled. With a refill there
/// is no such end: then until enough were settled.
async fn settled(redis: &mut Resp, layout: Layout, queues: &[String], params: &Params) -> Result<u64> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let counts = layout.count(redis, queues).await;
        let settled = counts.settled_of(params.n);
        if settled >= params.n && (params.refill || counts.active == 0) {
            ensure!(
                params.refill || (settled == params.n && counts.waiting == 0),
                "{settled} of {} tasks were settled, and {} wait",
                params.n,
                counts.waiting
            );
            return Ok(settled);
        }
        if Instant::now() > deadline {
            bail!(
                "{settled} of {} tasks settled, {} active, {} waiting",
                params.n,
                counts.active,
                counts.waiting
            );
        }
        sleep(LOOK).await;
    }
}

/// Counts the commands of clients that a connection with MONITOR is told of, without those of scripts.
async fn commands_told(monitor: &mut Resp, within: Duration) -> u64 {
    let end = tokio::time::Instant::now() + within;
    let mut count = 0;
    while let Ok(Ok(line)) = timeout_at(end, monitor.reply()).await {
        count += u64::from(!line.text().contains(" lua] "));
    }
    count
}

/// Calls of scripts and commands since the statistics were reset.
async fn statistics(redis: &mut Resp, sample: &mut Sample) {
    let info = redis.ok(&["INFO", "commandstats"]).await.text();
    sample.scripts = ["evalsha", "eval"].iter().map(|command| calls_of(&info, command)).sum();
    let info = redis.ok(&["INFO", "stats"]).await.text();
    let commands = info
        .lines()
        .find_map(|line| line.strip_prefix("total_commands_processed:"));
    sample.commands = commands.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
}

/// The calls of a command in the answer to `INFO commandstats`.
fn calls_of(info: &str, command: &str) -> u64 {
    let start = format!("cmdstat_{command}:calls=");
    let found = info
        .lines()
        .find_map(|line| line.strip_prefix(&start)?.split(',').next());
    found.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_scripts_have_calls_like_ours_and_no_more_under_way_than_slots() {
        assert_eq!(calls(1, 0, None), (1, 1));
        assert_eq!(calls(10, 0, None), (5, 2));
        assert_eq!(calls(100, 0, Some(41.3)), (41, 2));
        assert_eq!(calls(1000, 0, Some(350.0)), (200, 5));
        assert_eq!(calls(10, 0, Some(30.0)), (10, 1));
        assert_eq!(calls(1, 1000, None), (200, 5));
        assert_eq!(calls(1, 100, None), (100, 1));
    }

    #[test]
    fn probes_that_never_start_are_missed() {
        let params = Params {
            n: 300,
            rate: 100,
            seconds: 5.0,
            ..Params::default()
        };
        assert_eq!(least_probes(Work::Scheduled, &params), 300);
        assert_eq!(least_probes(Work::Latency, &params), 250);
    }

    #[test]
    fn calls_are_found_in_the_statistics() {
        let info = "# Commandstats\r\ncmdstat_evalsha:calls=42,usec=7\r\ncmdstat_eval:calls=1,usec=9\r\n";
        assert_eq!(calls_of(info, "evalsha"), 42);
        assert_eq!(calls_of(info, "eval"), 1);
        assert_eq!(calls_of(info, "get"), 0);
    }
}
