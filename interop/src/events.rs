//! Events that a server reports of its runs, and the wait for them.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};

use crate::{base64_bytes, process::PATIENCE};

/// An event of a Go server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
    /// Time by which the run must have ended.
    pub deadline_unix_nanos: i64,
    /// The action of the handler; empty at the start.
    #[serde(default)]
    pub outcome: String,
    /// The text of its error; empty if there is none.
    #[serde(default)]
    pub error: String,
    /// Time of the event.
    pub at_unix_nanos: i64,
}

/// One call of the aggregator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct GoAggregation {
    /// The group.
    pub group: String,
    /// The payloads of its tasks, oldest first.
    #[serde(with = "base64_bytes::list")]
    pub payloads: Vec<Vec<u8>>,
    /// Time of the event.
    pub at_unix_nanos: i64,
}

impl GoEvent {
    /// The run whose start this is.
    #[must_use]
    pub fn start(&self) -> Option<&GoRun> {
        match self {
            Self::Start(run) => Some(run),
            _ => None,
        }
    }

    /// The run whose end this is.
    #[must_use]
    pub fn end(&self) -> Option<&GoRun> {
        match self {
            Self::End(run) => Some(run),
            _ => None,
        }
    }
}

/// The events of one server. Each is given once; those that nobody wants yet stay for later calls.
#[derive(Debug)]
pub struct Events {
    arrivals: mpsc::UnboundedReceiver<GoEvent>,
    /// Told and not yet expected.
    waiting: Vec<GoEvent>,
    history: Vec<GoEvent>,
}

impl Events {
    /// The events that come out of the channel.
    #[must_use]
    pub fn new(arrivals: mpsc::UnboundedReceiver<GoEvent>) -> Self {
        Self {
            arrivals,
            waiting: Vec::new(),
            history: Vec::new(),
        }
    }

    /// Returns what has been told so far and nobody expected, in order.
    pub fn unexpected(&mut self) -> &[GoEvent] {
        while let Ok(event) = self.arrivals.try_recv() {
            self.keep(event);
        }
        &self.waiting
    }

    /// All that is told until the server's end, in order.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn until_end(mut self) -> Vec<GoEvent> {
        let all = async {
            while let Some(event) = self.arrivals.recv().await {
                self.history.push(event);
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            panic!("the server does not end; {:#?}", self.history);
        }
        self.history
    }

    fn keep(&mut self, event: GoEvent) {
        self.history.push(event.clone());
        self.waiting.push(event);
    }

    /// Waits for an event that is wanted. `server` is shown when it does not come.
    ///
    /// # Panics
    /// If it does not come in time, or the server ends first.
    ///
    /// # Cancel safety
    /// Safe: no event is lost.
    pub async fn expect<T>(
        &mut self,
        what: &str,
        within: Duration,
        server: &impl fmt::Display,
        wanted: impl Fn(&GoEvent) -> Option<T>,
    ) -> T {
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
                Ok(None) => panic!("the server ended before {what}; {server}\n{:#?}", self.history),
                Err(_) => panic!("no {what} in {within:?}; {server}\n{:#?}", self.history),
            }
        }
    }

    /// Waits until the handler is called for the task.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn started(&mut self, id: &str, server: &impl fmt::Display) -> GoRun {
        let wanted = |event: &GoEvent| event.start().filter(|run| run.id == id).cloned();
        self.expect(&format!("start of {id}"), PATIENCE, server, wanted).await
    }

    /// Waits until the handler returns for such a task. Its outcome is in Redis some time later.
    ///
    /// # Panics
    /// If that does not happen.
    ///
    /// # Cancel safety
    /// Safe: no end is lost.
    pub async fn ended_like(
        &mut self,
        what: &str,
        server: &impl fmt::Display,
        wanted: impl Fn(&GoRun) -> bool,
    ) -> GoRun {
        let wanted = |event: &GoEvent| event.end().filter(|run| wanted(run)).cloned();
        self.expect(what, PATIENCE, server, wanted).await
    }
}
