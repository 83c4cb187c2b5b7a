//! The metrics of a system, as a recorder of the application sees them.

use std::{collections::BTreeMap, time::Duration};

use asynq_actors::{AsynqSystem, metrics as ours};
use asynq_core::{BrokerError, Error, RetryDelay, ServerConfig, Task, statistics::RunEnd};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::sync::mpsc;

use crate::env;

const SECOND: Duration = Duration::from_secs(1);

/// The values that a recorder has seen: by the name and the labels of a metric, as `name{label=value,…}`. A reading takes what came
/// since the one before, of gauges too, and is added to it.
struct Seen {
    snapshotter: Snapshotter,
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
    histograms: BTreeMap<String, Vec<f64>>,
}

impl Seen {
    fn read(&mut self) {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let (_, key) = key.into_parts();
            let labels: Vec<_> = key
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            let name = format!("{}{{{}}}", key.name(), labels.join(","));
            match value {
                DebugValue::Counter(count) => *self.counters.entry(name).or_default() += count,
                DebugValue::Gauge(value) => *self.gauges.entry(name).or_default() += value.0,
                DebugValue::Histogram(values) => {
                    let values = values.into_iter().map(|value| value.0);
                    self.histograms.entry(name).or_default().extend(values);
                }
            }
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.counters
            .get(name)
            .copied()
            .unwrap_or_else(|| panic!("no {name} in {:#?}", self.counters))
    }

    fn histogram(&self, name: &str) -> &[f64] {
        self.histograms
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:#?}", self.histograms))
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.counters
            .keys()
            .chain(self.gauges.keys())
            .chain(self.histograms.keys())
    }
}

struct Bench {
    system: AsynqSystem,
    faults: Faults,
    runs: mpsc::UnboundedReceiver<()>,
    seen: Seen,
    /// All of a test runs on its thread, and so does the recorder.
    _recorder: metrics::LocalRecorderGuard<'static>,
}

async fn start() -> Bench {
    let recorder: &'static DebuggingRecorder = Box::leak(Box::default());
    let guard = metrics::set_default_local_recorder(recorder);
    ours::describe();
    let faults = Faults::new();
    let (began, runs) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(FaultyConnector::new(MemoryStore::new(), faults.clone()))
        .env(env())
        .config(
            ServerConfig::new()
                .concurrency(8)
                .shutdown_timeout(SECOND)
                .retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(3600))),
        )
        .handler(move |task: Task| {
            let _ = began.send(());
            async move {
                match task.get_payload() {
                    b"fail" => Err(Error::other("failed")),
                    b"skip" => Err(Error::skip_retry("never")),
                    b"snooze" => Err(Error::snooze(Duration::from_secs(3600))),
                    b"forever" => std::future::pending().await,
                    _ => {
                        tokio::time::sleep(2 * SECOND).await;
                        Ok(())
                    }
                }
            }
        })
        .spawn()
        .await
        .unwrap();
    Bench {
        system,
        faults,
        runs,
        seen: Seen {
            snapshotter: recorder.snapshotter(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            histograms: BTreeMap::new(),
        },
        _recorder: guard,
    }
}

impl Bench {
    async fn run(&mut self, payloads: &[&str]) {
        for payload in payloads {
            let task = Task::new("mail", payload.as_bytes()).unwrap();
            self.system.client().enqueue(task).await.unwrap();
            self.runs.recv().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_metric_has_its_value() {
    let mut bench = start().await;
    // One is found by a poll, and the others by pushes.
    tokio::time::sleep(60 * SECOND).await;
    bench.run(&["ok", "ok", "fail", "skip", "snooze", "forever"]).await;
    let twice = Task::new("mail", b"ok").unwrap().with_task_id("one");
    bench.system.client().enqueue(twice.clone()).await.unwrap();
    bench.runs.recv().await.unwrap();
    bench.system.client().enqueue(twice).await.unwrap_err();
    bench.seen.read();
    assert_eq!(bench.seen.gauges["asynq_in_flight_tasks{queue=default}"], 4.0);

    // A restart, and failures of the storage.
    bench.faults.next(Op::Exchange, Fault::LoseReply);
    bench
        .faults
        .next(Op::Exchange, Fault::Fail(|| BrokerError::OutOfMemory));
    assert!(bench.system.kill_actor("work/syncer"));
    tokio::time::sleep(60 * SECOND).await;
    bench.system.shutdown().await;
    bench.seen.read();

    let seen = &bench.seen;
    let runs = |outcome: RunEnd| {
        let outcome = outcome.as_str();
        seen.counter(&format!(
            "asynq_runs_total{{queue=default,type=mail,outcome={outcome}}}"
        ))
    };
    assert_eq!(RunEnd::ALL.map(runs), [3, 1, 1, 1, 1, 0]);
    assert_eq!(seen.counter("asynq_runs_started_total{queue=default,type=mail}"), 7);
    let of_runs = seen.histogram("asynq_run_duration_seconds{queue=default,type=mail}");
    assert_eq!(of_runs.len(), 7);
    assert_eq!(
        of_runs.iter().filter(|secs| (**secs - 2.0).abs() < 0.01).count(),
        3,
        "{of_runs:?}"
    );
    let waits = seen.histogram("asynq_wait_duration_seconds{queue=default,type=mail}");
    assert!(waits.len() == 7 && waits.iter().all(|secs| *secs < 2.0), "{waits:?}");
    for direction in ["settle", "take"] {
        let tasks = seen.histogram(&format!("asynq_exchange_tasks{{queue=default,direction={direction}}}"));
        assert_eq!(tasks.iter().sum::<f64>(), 7.0, "{direction}: {tasks:?}");
    }
    let batches = seen.histogram("asynq_enqueue_batch_tasks{queue=default}");
    assert_eq!((batches.len(), batches.iter().sum::<f64>()), (8, 8.0));
    assert_eq!(seen.counter("asynq_enqueues_total{queue=default,result=enqueued}"), 7);
    assert_eq!(
        seen.counter("asynq_enqueues_total{queue=default,result=id_conflict}"),
        1
    );
    assert!(seen.counter("asynq_wakeups_total{kind=push}") >= 1);
    assert!(seen.counter("asynq_wakeups_total{kind=poll}") >= 1);
    assert_eq!(seen.counter("asynq_actor_restarts_total{actor=system/work/syncer}"), 1);
    assert_eq!(seen.counter("asynq_storage_errors_total{kind=ambiguous}"), 1);
    assert_eq!(seen.counter("asynq_storage_errors_total{kind=out_of_memory}"), 1);
    assert_eq!(seen.gauges["asynq_in_flight_tasks{queue=default}"], 0.0);
    assert_eq!(seen.gauges["asynq_unsettled_tasks{actor=processor}"], 0.0);
    assert_eq!(seen.gauges["asynq_unsettled_tasks{actor=syncer}"], 0.0);

    // The list has all of them, and nothing else, with their labels.
    let labels = |name: &str| {
        let (name, labels) = name.trim_end_matches('}').split_once('{').unwrap();
        let labels: Vec<_> = labels
            .split(',')
            .map(|label| label.split('=').next().unwrap().to_owned())
            .collect();
        (name.to_owned(), labels)
    };
    let emitted: BTreeMap<_, _> = seen.names().map(|name| labels(name)).collect();
    let listed = ours::ALL.iter().map(|metric| {
        let labels = metric.labels.iter().map(ToString::to_string).collect();
        (metric.name.to_owned(), labels)
    });
    assert_eq!(emitted, listed.collect());
}

#[tokio::test(start_paused = true)]
async fn types_and_queues_beyond_the_bounds_are_other() {
    let mut bench = start().await;
    for number in 0..=asynq_core::statistics::MAX_TYPES {
        let task = Task::new(format!("t{number}"), b"fail").unwrap();
        bench.system.client().enqueue(task).await.unwrap();
        bench.runs.recv().await.unwrap();
    }
    for number in 0..=ours::MAX_QUEUES {
        let to = asynq_core::TaskOptions::new().queue(format!("q{number}"));
        bench
            .system
            .client()
            .enqueue_with(Task::new("t", b"").unwrap(), to)
            .await
            .unwrap();
    }
    bench.system.shutdown().await;
    bench.seen.read();
    let started = |task_type: &str| {
        bench
            .seen
            .counter(&format!("asynq_runs_started_total{{queue=default,type={task_type}}}"))
    };
    assert_eq!((started("t499"), started("other")), (1, 1));
    // The queue of the server is one of them.
    assert_eq!(
        bench.seen.counter("asynq_enqueues_total{queue=q498,result=enqueued}"),
        1
    );
    assert_eq!(
        bench.seen.counter("asynq_enqueues_total{queue=other,result=enqueued}"),
        2
    );
}

/// A counter of a metric has a name that Prometheus expects of it, and no metric has one of Go's.
#[test]
fn names_are_ours() {
    let of_go = [
        "asynq_queue_size",
        "asynq_queue_latency_seconds",
        "asynq_queue_memory_usage_approx_bytes",
        "asynq_tasks_enqueued_total",
        "asynq_tasks_processed_total",
        "asynq_tasks_failed_total",
        "asynq_queue_paused_total",
    ];
    for metric in ours::ALL {
        assert!(
            metric.name.starts_with("asynq_") && !of_go.contains(&metric.name),
            "{}",
            metric.name
        );
        let counts = metric.kind == ours::MetricKind::Counter;
        assert_eq!(metric.name.ends_with("_total"), counts, "{}", metric.name);
        assert!(!metric.description.is_empty() && !metric.description.ends_with('.'));
    }
    let ends: Vec<_> = RunEnd::ALL.iter().map(|end| end.as_str()).collect();
    assert_eq!(ends, ours::OUTCOMES);
}
