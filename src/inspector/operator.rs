//! The operator of an inspector, and the record of its acts.

use std::future::Future;

use asynq_core::{
    BrokerError, EnqueueError, Error, Inspect, Result,
    names::{NameError, NameFault},
    trail::{Actor, TrailEntry},
};
use chrono::Utc;

/// On whose behalf an inspector acts.
#[derive(Clone, Debug, Default)]
pub(super) struct Operator {
    pub(super) actor: Option<Actor>,
    pub(super) needs_reason: bool,
}

/// The things that an act concerns.
#[derive(Debug, Default)]
pub(super) struct Target<'a> {
    pub(super) queue: Option<&'a str>,
    pub(super) task: Option<&'a str>,
    pub(super) tasks: Option<String>,
    pub(super) detail: Option<String>,
}

impl<'a> Target<'a> {
    pub(super) fn queue(queue: &'a str) -> Self {
        Self {
            queue: Some(queue),
            ..Self::default()
        }
    }

    pub(super) fn task(queue: &'a str, task: &'a str) -> Self {
        Self {
            task: Some(task),
            ..Self::queue(queue)
        }
    }

    pub(super) fn detail(mut self, detail: impl ToString) -> Self {
        self.detail = Some(detail.to_string());
        self
    }
}

impl Operator {
    /// Refuses an act without the reason that is required.
    pub(super) fn must_have_reason(&self) -> Result<()> {
        let has_reason = self.actor.as_ref().is_some_and(|actor| !actor.reason.trim().is_empty());
        if self.needs_reason && !has_reason {
            return Err(NameError::new("reason", NameFault::Blank).into());
        }
        Ok(())
    }

    /// Returns the entry of an act of this operator that has ended now.
    pub(super) fn entry(&self, name: &str, target: Target<'_>) -> TrailEntry {
        let mut entry = TrailEntry::new(name, Utc::now(), host(), std::process::id());
        entry.actor.clone_from(&self.actor);
        entry.queue = target.queue.map(str::to_owned);
        entry.task = target.task.map(str::to_owned);
        entry.tasks = target.tasks;
        entry.detail = target.detail;
        entry
    }

    /// Makes an act and records it.
    pub(super) async fn recorded<T>(
        &self,
        storage: &(impl Inspect + ?Sized),
        name: &str,
        target: Target<'_>,
        act: impl Future<Output = Result<T>>,
        changed: impl FnOnce(&T) -> Option<u64>,
    ) -> Result<T> {
        self.must_have_reason()?;
        let several = target.tasks.is_some();
        let outcome = act.await;
        let mut entry = self.entry(name, target);
        match &outcome {
            Ok(done) => entry.changed = changed(done),
            Err(error) if several || may_have_happened(error) => entry = entry.failed(error),
            Err(_) => return outcome,
        }
        record(storage, &entry).await;
        outcome
    }
}

/// Adds an act to the audit trail.
pub(super) async fn record(storage: &(impl Inspect + ?Sized), entry: &TrailEntry) {
    if let Err(error) = storage.record_act(entry).await {
        tracing::error!(act = entry.act, ?entry, %error, "an act cannot be recorded in the audit trail");
    }
}

/// Returns whether a call may have taken effect although it failed.
fn may_have_happened(error: &Error) -> bool {
    matches!(error, Error::Broker(BrokerError::Ambiguous { .. }))
        || matches!(error, Error::Enqueue(EnqueueError::Unknown { .. }))
}

fn host() -> String {
    let name = hostname::get().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unknown-host".to_owned())
}
