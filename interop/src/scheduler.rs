//! A Go scheduler.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    process::{PATIENCE, Process, parse},
    task::{GoTask, GoTaskInfo},
};

/// `asynq.Scheduler` in a process of its own. Killed when dropped.
#[derive(Debug)]
pub struct GoScheduler {
    process: Process,
    /// Tasks that were enqueued while other answers were waited for.
    enqueued: VecDeque<Result<GoTaskInfo, String>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    spec: &'a str,
    #[serde(flatten)]
    task: &'a GoTask,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Ready,
    Registered {
        ok: bool,
        #[serde(default)]
        entry_id: String,
        #[serde(default)]
        error: String,
    },
    Enqueued {
        ok: bool,
        info: Option<Box<GoTaskInfo>>,
        #[serde(default)]
        error: String,
    },
    Closed,
}

impl GoScheduler {
    /// Starts a scheduler on the Redis at `host:port`, or at a URL. It writes its entries each `heartbeat`,
    /// the first time one of them after its start.
    ///
    /// # Panics
    /// If the program cannot be built or started. So do all methods if it fails.
    pub async fn start(address: &str, heartbeat: Duration) -> Self {
        let args = [format!("--heartbeat-interval={}", heartbeat.as_millis())];
        let mut scheduler = Self {
            process: Process::start("schedule", address, &args).await,
            enqueued: VecDeque::new(),
        };
        match scheduler.event().await {
            Some(Event::Ready) => scheduler,
            _ => panic!("the scheduler is not ready\n{}", scheduler.process.complaints()),
        }
    }

    async fn event(&mut self) -> Option<Event> {
        let line = self.process.line(PATIENCE).await?;
        Some(parse(&line))
    }

    /// Registers a periodic task, whose options are given at the registration; the id of the entry.
    ///
    /// # Errors
    /// What the library refused.
    ///
    /// # Panics
    /// If the program fails.
    pub async fn try_register(&mut self, spec: &str, task: &GoTask) -> Result<String, String> {
        let line = serde_json::to_string(&Entry { spec, task });
        let line = line.unwrap_or_else(|error| panic!("{task:?}: {error}"));
        self.process.say(&line).await;
        loop {
            match self.event().await {
                Some(Event::Registered { ok: true, entry_id, .. }) => return Ok(entry_id),
                Some(Event::Registered { error, .. }) => return Err(error),
                Some(Event::Enqueued { ok, info, error }) => self.keep(ok, info, error),
                _ => panic!("the scheduler does not answer\n{}", self.process.complaints()),
            }
        }
    }

    /// Registers a periodic task that must be accepted.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn register(&mut self, spec: &str, task: &GoTask) -> String {
        let registered = self.try_register(spec, task).await;
        registered.unwrap_or_else(|error| panic!("Go does not register {spec:?} of {task:?}: {error}"))
    }

    fn keep(&mut self, ok: bool, info: Option<Box<GoTaskInfo>>, error: String) {
        self.enqueued.push_back(match info {
            Some(info) if ok => Ok(*info),
            _ => Err(error),
        });
    }

    /// Waits until an entry has enqueued a task, or could not.
    ///
    /// # Errors
    /// What the library refused.
    ///
    /// # Panics
    /// If none does.
    pub async fn enqueued(&mut self) -> Result<GoTaskInfo, String> {
        loop {
            if let Some(enqueued) = self.enqueued.pop_front() {
                return enqueued;
            }
            match self.event().await {
                Some(Event::Enqueued { ok, info, error }) => self.keep(ok, info, error),
                _ => panic!("the scheduler enqueues nothing\n{}", self.process.complaints()),
            }
        }
    }

    /// Shuts it down in order: its entries and their history are gone.
    ///
    /// # Panics
    /// If it does not end well.
    pub async fn shutdown(self) {
        self.process.finish().await;
    }
}
