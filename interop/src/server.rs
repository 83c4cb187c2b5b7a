//! A server in a process of its own, Go's or ours, whose handler does what the payload says.

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf, time::Duration};

use rustix::process::Signal;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    events::{Events, GoEvent, GoRun},
    process::{Complaints, PATIENCE, Process, parse},
};

/// The program of a server.
#[derive(Clone, Debug)]
enum Program {
    /// `serve` of the Go program.
    Go,
    /// `asynq-interop-worker`.
    Worker(PathBuf),
}

/// A builder of servers. Settings that are not given take the default of the server's library.
#[derive(Clone, Debug)]
#[must_use]
pub struct ServerProcessBuilder {
    program: Program,
    address: String,
    args: Vec<String>,
}

impl ServerProcessBuilder {
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

    /// Sets how many tasks run at once.
    pub fn concurrency(self, tasks: usize) -> Self {
        self.flag("concurrency", tasks)
    }

    /// The pause when all queues are empty.
    pub fn task_check_interval(self, interval: Duration) -> Self {
        self.flag("task-check-interval", interval.as_millis())
    }

    /// Sets how often due tasks are looked for.
    pub fn delayed_task_check_interval(self, interval: Duration) -> Self {
        self.flag("delayed-check-interval", interval.as_millis())
    }

    /// Sets how long running tasks may go on after a shutdown began.
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

    /// Sets how often tasks of dead servers are looked for. Ours alone, as are the two below: Go's cannot be changed.
    pub fn recoverer_interval(self, interval: Duration) -> Self {
        self.flag("recoverer-interval", interval.as_millis())
    }

    /// Sets how long a lease must have been over before its task is taken from its owner.
    pub fn recover_grace(self, grace: Duration) -> Self {
        self.flag("recover-grace", grace.as_millis())
    }

    /// Sets how often leases are extended.
    pub fn heartbeat_interval(self, interval: Duration) -> Self {
        self.flag("heartbeat-interval", interval.as_millis())
    }

    /// Sets what the library logs to its standard error: `debug` to `error`.
    pub fn log_level(self, level: &str) -> Self {
        self.flag("log-level", level)
    }

    /// Starts the server and waits until others can see it.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(self) -> ServerProcess {
        let mut process = match &self.program {
            Program::Go => Process::start("serve", &self.address, &self.args).await,
            Program::Worker(path) => Process::of_ours(path, &self.address, &self.args),
        };
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
        let mut server = ServerProcess {
            complaints: process.complaints(),
            process,
            _reader: reader,
            events: Events::new(arrivals),
        };
        server
            .expect("ready", PATIENCE, |event| (*event == GoEvent::Ready).then_some(()))
            .await;
        server
    }
}

/// A server in a process of its own. Killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    process: Process,
    complaints: Complaints,
    _reader: JoinSet<()>,
    events: Events,
}

impl ServerProcess {
    /// Returns how to start `asynq.Server` on the Redis at `host:port`, or at a URL. It logs errors only.
    pub fn go(address: &str) -> ServerProcessBuilder {
        Self::builder(Program::Go, address)
    }

    /// Returns how to start a server of ours on the Redis at a URL: `program` is the path of `asynq-interop-worker`,
    /// which Cargo tells to tests alone. It logs errors only.
    pub fn worker(program: impl AsRef<OsStr>, url: &str) -> ServerProcessBuilder {
        Self::builder(Program::Worker(program.as_ref().into()), url)
    }

    fn builder(program: Program, address: &str) -> ServerProcessBuilder {
        ServerProcessBuilder {
            program,
            address: address.to_owned(),
            args: Vec::new(),
        }
    }

    /// The process id; `None` once it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Returns what it has told so far and nobody expected, in order.
    pub fn unexpected(&mut self) -> &[GoEvent] {
        self.events.unexpected()
    }

    /// Waits for an event that is wanted. Each event is given once; those that are not wanted stay for
    /// later calls.
    ///
    /// # Panics
    /// If it does not come in time, or the program ends first.
    ///
    /// # Cancel safety
    /// Safe: no event is lost.
    pub async fn expect<T>(&mut self, what: &str, within: Duration, wanted: impl Fn(&GoEvent) -> Option<T>) -> T {
        self.events.expect(what, within, &self.complaints, wanted).await
    }

    /// Waits until the handler is called for the task.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn started(&mut self, id: &str) -> GoRun {
        self.events.started(id, &self.complaints).await
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
        self.events.ended_like(what, &self.complaints, wanted).await
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

    /// Shuts down in order, and waits for the end of the program. All that it ever told, in order.
    ///
    /// # Panics
    /// If it does not end well.
    pub async fn shutdown(mut self) -> Vec<GoEvent> {
        self.process.say("shutdown").await;
        self.expect("closed", PATIENCE, |event| (*event == GoEvent::Closed).then_some(()))
            .await;
        self.process.finish().await;
        self.events.until_end().await
    }

    /// Stops the process where it stands, until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Sends SIGTERM, upon which a server of ours shuts down, and waits for the end of the program. All that it
    /// ever told, in order.
    ///
    /// # Panics
    /// If it does not end well.
    pub async fn terminate(mut self) -> Vec<GoEvent> {
        self.process.signal(Signal::TERM);
        self.expect("closed", PATIENCE, |event| (*event == GoEvent::Closed).then_some(()))
            .await;
        self.process.finish().await;
        self.events.until_end().await
    }

    /// Ends the program with SIGKILL: it writes and removes nothing more. All that it ever told, in order.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub async fn kill(mut self) -> Vec<GoEvent> {
        self.process.kill().await;
        self.events.until_end().await
    }
}
