//! A Go server whose handler does what the payload says.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    base64_bytes,
    process::{Complaints, PATIENCE, Process, parse},
};

/// How a Go server is to be started. What is not set takes the library's default.
#[derive(Clone, Debug)]
#[must_use]
pub struct GoServerBuilder {
    address: String,
    args: Vec<String>,
}

impl GoServerBuilder {
    fn flag(mut self, name: &str, value: impl ToString) -> Self {
        self.args.push(format!("--{name}={}", value.to_string()));
        self
    }

    /// The queues and their priorities.
    ///
    /// # Panics
    /// Never: names and numbers can be written as JSON.
    pub fn queues<'q>(self, queues: impl IntoIterator<Item = (&'q str, i32)>) -> Self {
        let queues: BTreeMap<_, _> = queues.into_iter().collect();
        let json = serde_json::to_string(&queues).unwrap_or_else(|error| panic!("{queues:?}: {error}"));
        self.flag("queues", json)
    }

    /// Strict priority.
    pub fn strict(self) -> Self {
        self.flag("strict", true)
    }

    /// How many tasks run at once.
    pub fn concurrency(self, tasks: usize) -> Self {
        self.flag("concurrency", tasks)
    }

    /// The pause when all queues are empty.
    pub fn task_check_interval(self, interval: Duration) -> Self {
        self.flag("task-check-interval", interval.as_millis())
    }

    /// How often due tasks are looked for.
    pub fn delayed_task_check_interval(self, interval: Duration) -> Self {
        self.flag("delayed-check-interval", interval.as_millis())
    }

    /// How long running tasks may go on after a shutdown began.
    pub fn shutdown_timeout(self, timeout: Duration) -> Self {
        self.flag("shutdown-timeout", timeout.as_millis())
    }

    /// The same delay before every retry.
    pub fn retry_delay(self, delay: Duration) -> Self {
        self.flag("retry-delay-ms", delay.as_millis())
    }

    /// Aggregates groups in which no task joined for so long, at least 1 s.
    pub fn group_grace(self, quiet: Duration) -> Self {
        self.flag("group-grace", quiet.as_millis())
    }

    /// With how many tasks a group is full.
    pub fn group_max_size(self, tasks: u32) -> Self {
        self.flag("group-max-size", tasks)
    }

    /// What the library logs to its standard error: `debug` to `fatal`.
    pub fn log_level(self, level: &str) -> Self {
        self.flag("log-level", level)
    }

    /// Starts the server and waits until others can see it.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(self) -> GoServer {
        let mut process = Process::start("serve", &self.address, &self.args).await;
        let mut output = process.take_output();
        let (events, arrivals) = mpsc::unbounded_channel();
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            // An error is the end, too: whoever waits for an event is told.
            while let Ok(Some(line)) = output.next_line().await {
                if events.send(parse(&line)).is_err() {
                    break;
                }
            }
        });
        let mut server = GoServer {
            complaints: process.complaints(),
            process,
            _reader: reader,
            arrivals,
            waiting: Vec::new(),
            history: Vec::new(),
        };
        server
            .expect("ready", PATIENCE, |event| (*event == GoEvent::Ready).then_some(()))
            .await;
        server
    }
}

/// What a Go server tells.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum GoEvent {
    /// It is listed and can be told to cancel tasks. Always the first.
    Ready,
    /// The handler was called.
    Start(GoRun),
    /// The handler returned; its outcome is not in Redis yet.
    End(GoRun),
    /// The aggregator was called; what it made is not in Redis yet.
    Aggregate(GoAggregation),
    /// `Stop` returned.
    Stopped,
    /// `Shutdown` returned.
    Closed,
}

/// One run of a handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GoRun {
    /// The task's type.
    pub r#type: String,
    /// Its id.
    pub id: String,
    /// Its queue.
    pub queue: String,
    /// Its payload.
    #[serde(with = "base64_bytes")]
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Retries it has had.
    pub retried: i64,
    /// Retries it may have.
    pub max_retry: i64,
    /// When the run must have ended.
    pub deadline_unix_nanos: i64,
    /// What the handler did; empty at the start.
    #[serde(default)]
    pub outcome: String,
    /// The text of its error; empty if there is none.
    #[serde(default)]
    pub error: String,
    /// When.
    pub at_unix_nanos: i64,
}

/// One call of the aggregator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GoAggregation {
    /// The group.
    pub group: String,
    /// The payloads of its tasks, oldest first.
    #[serde(deserialize_with = "base64_bytes::deserialize_list")]
    pub payloads: Vec<Vec<u8>>,
    /// When.
    pub at_unix_nanos: i64,
}

/// `asynq.Server` in a process of its own. Killed when dropped.
#[derive(Debug)]
pub struct GoServer {
    process: Process,
    complaints: Complaints,
    _reader: JoinSet<()>,
    arrivals: mpsc::UnboundedReceiver<GoEvent>,
    /// Told and not yet expected.
    waiting: Vec<GoEvent>,
    history: Vec<GoEvent>,
}

impl GoServer {
    /// How to start a server on the Redis at `host:port`, or at a URL. It logs errors only.
    pub fn builder(address: &str) -> GoServerBuilder {
        GoServerBuilder {
            address: address.to_owned(),
            args: Vec::new(),
        }
    }

    /// The process id; `None` once it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// What it has told so far and nobody expected, in order.
    pub fn unexpected(&mut self) -> &[GoEvent] {
        while let Ok(event) = self.arrivals.try_recv() {
            self.keep(event);
        }
        &self.waiting
    }

    fn keep(&mut self, event: GoEvent) {
        self.history.push(event.clone());
        self.waiting.push(event);
    }

    /// Waits for an event that is wanted. Each event is given once; those that are not wanted stay for
    /// later calls.
    ///
    /// # Panics
    /// If it does not come in time, or the program ends first.
    pub async fn expect<T>(&mut self, what: &str, within: Duration, wanted: impl Fn(&GoEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + within;
        let mut looked_at = 0;
        loop {
            let found = self.waiting[looked_at..].iter().enumerate();
            let found = found
                .filter_map(|(index, event)| Some((looked_at + index, wanted(event)?)))
                .next();
            if let Some((index, value)) = found {
                self.waiting.remove(index);
                return value;
            }
            looked_at = self.waiting.len();
            match tokio::time::timeout_at(deadline, self.arrivals.recv()).await {
                Ok(Some(event)) => self.keep(event),
                Ok(None) => panic!(
                    "the Go server ended before {what}; {}\n{:#?}",
                    self.complaints, self.history
                ),
                Err(_) => panic!(
                    "the Go server: no {what} in {within:?}; {}\n{:#?}",
                    self.complaints, self.history
                ),
            }
        }
    }

    /// Waits until the handler is called for the task.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn started(&mut self, id: &str) -> GoRun {
        let wanted = |event: &GoEvent| match event {
            GoEvent::Start(run) if run.id == id => Some(run.clone()),
            _ => None,
        };
        self.expect(&format!("start of {id}"), PATIENCE, wanted).await
    }

    /// Waits until the handler returns for the task. Its outcome is in Redis some time later.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn ended(&mut self, id: &str) -> GoRun {
        self.ended_like(&format!("end of {id}"), |run| run.id == id).await
    }

    /// Waits until the handler returns for such a task. Its outcome is in Redis some time later.
    ///
    /// # Panics
    /// If that does not happen.
    ///
    /// # Cancel safety
    /// Safe: no end is lost.
    pub async fn ended_like(&mut self, what: &str, wanted: impl Fn(&GoRun) -> bool) -> GoRun {
        let wanted = |event: &GoEvent| match event {
            GoEvent::End(run) if wanted(run) => Some(run.clone()),
            _ => None,
        };
        self.expect(what, PATIENCE, wanted).await
    }

    /// Stops taking tasks.
    ///
    /// # Panics
    /// If it does not.
    pub async fn stop(&mut self) {
        self.process.say("stop").await;
        self.expect("stopped", PATIENCE, |event| (*event == GoEvent::Stopped).then_some(()))
            .await;
    }

    /// Shuts down in order, and waits for the end of the program.
    ///
    /// # Panics
    /// If it does not end well.
    pub async fn shutdown(mut self) {
        self.process.say("shutdown").await;
        self.expect("closed", PATIENCE, |event| (*event == GoEvent::Closed).then_some(()))
            .await;
        self.process.finish().await;
    }

    /// Ends the program with SIGKILL: it writes and removes nothing more.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub async fn kill(mut self) {
        self.process.kill().await;
    }
}
