//! Calls of the scheduler to the storage: they enqueue ticks, show entries and keep histories.
//!
//! The calls run in tasks of the actor, and may be dropped at any await point. [`Entries`] has the ticks in progress.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    BrokerError, EnqueueError, EntryKey, QueueName, Storage,
    broker::{Tick, Ticked},
    error::text::report,
    info::SchedulerEnqueueEvent,
    periodic::TickMark,
};
use futures::{StreamExt as _, stream};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    entries::Entries,
    entry::{Again, Ended, Run, Work},
};
use crate::broker::BrokerHandle;

/// Longest time that one call may take before it is repeated.
const CALL_WITHIN: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Number of ticks that are sent at once.
const CALLS: usize = 256;
/// Number of histories that are deleted at once.
const DELETIONS: usize = 64;

/// Works for one incarnation of the actor.
pub(super) struct Worker {
    entries: Arc<Entries>,
    broker: BrokerHandle,
    places: Semaphore,
    /// The actor is to stop: what waits need not go on.
    pub(super) closing: CancellationToken,
}

/// Growing waits, half of each random.
struct Wait(Duration);

impl Wait {
    fn new() -> Self {
        Self(FIRST_RETRY)
    }

    fn next(&mut self, worker: &Worker) -> Duration {
        let wait = self.0 / 2 + worker.entries.env.entropy.up_to(self.0 / 2);
        self.0 = (self.0 * 2).min(LAST_RETRY);
        wait
    }
}

/// A call of the storage that may hang.
async fn within<T, E: From<BrokerError>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let hung = || BrokerError::ambiguous(format!("no answer within {CALL_WITHIN:?}"));
    timeout(CALL_WITHIN, call).await.unwrap_or_else(|_| Err(hung().into()))
}

/// Returns whether the same request may be taken later. A storage that is closed is being replaced.
fn is_retryable(error: &EnqueueError) -> bool {
    match error {
        EnqueueError::Broker(error) => error.is_retryable() || matches!(error, BrokerError::Closed),
        EnqueueError::Unknown { .. } | EnqueueError::Overloaded | EnqueueError::Closed => true,
        _ => false,
    }
}

/// Returns whether the request may have decided its tick.
fn is_ambiguous(error: &EnqueueError) -> bool {
    match error {
        EnqueueError::Broker(error) => error.is_ambiguous(),
        EnqueueError::Unknown { .. } => true,
        _ => false,
    }
}

impl Worker {
    pub(super) fn new(entries: Arc<Entries>, broker: BrokerHandle) -> Self {
        Self {
            entries,
            broker,
            places: Semaphore::new(CALLS),
            closing: CancellationToken::new(),
        }
    }

    /// Waits, unless the actor is to stop; whether to go on.
    async fn pause(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => false,
            () = sleep(wait) => true,
        }
    }

    /// Looks up the stored tick of each entry for which that was not done, however long it takes. `some`
    /// is called when that of some entries is known and others must wait.
    pub(super) async fn anchor(&self, some: impl Fn()) {
        let mut wait = Wait::new();
        let mut failures = 0_u32;
        loop {
            let unanchored = self.entries.unanchored();
            if unanchored.is_empty() {
                return;
            }
            let asked: Vec<_> = unanchored
                .iter()
                .map(|(_, queue, key)| (queue.clone(), key.clone()))
                .collect();
            let answers = within(async {
                let storage = self.broker.storage().await?;
                let mut answers = storage.last_ticks(&asked).await;
                self.begin_periods(&*storage, &unanchored, &mut answers).await;
                Ok::<_, BrokerError>(answers)
            });
            let answers = answers.await.unwrap_or_else(|error| vec![Err(error)]);
            // None must be left without an answer.
            let mut failure = (answers.len() < asked.len()).then(|| BrokerError::unavailable("too few answers"));
            let mut anchored = false;
            for ((number, queue, key), answer) in unanchored.iter().zip(answers) {
                match answer {
                    Ok(last) => {
                        self.entries.anchor(*number, last);
                        anchored = true;
                    }
                    Err(error) if error.is_retryable() || matches!(error, BrokerError::Closed) => failure = Some(error),
                    Err(error) => {
                        tracing::error!(%queue, entry = %key, error = %report(&error), "the last tick cannot be read");
                        self.entries.anchor(*number, None);
                    }
                }
            }
            let Some(error) = failure else {
                wait = Wait::new();
                continue;
            };
            if failures == 0 {
                tracing::warn!(error = %report(&error), "last ticks not read, retrying");
            }
            failures += 1;
            if anchored {
                some();
            }
            if !self.pause(wait.next(self)).await {
                return;
            }
        }
    }

    /// Has the storage remember where the periods of entries start of which it knows nothing.
    async fn begin_periods(
        &self,
        storage: &dyn Storage,
        asked: &[(u64, QueueName, EntryKey)],
        answers: &mut [Result<Option<TickMark>, BrokerError>],
    ) {
        let unknown = asked
            .iter()
            .zip(answers)
            .filter(|(_, answer)| matches!(answer, Ok(None)));
        let (starts, places): (Vec<_>, Vec<_>) = unknown
            .filter_map(|((number, ..), answer)| Some((self.entries.start_of(*number)?, answer)))
            .unzip();
        if starts.is_empty() {
            return;
        }
        for (place, answer) in places.into_iter().zip(storage.start_ticks(&starts).await) {
            *place = answer;
        }
    }

    /// One tick of an entry, and its history.
    pub(super) async fn work(&self, number: u64) {
        // Left over where an incarnation crashed.
        self.record(number).await;
        match self.entries.begin(number) {
            Work::Nothing => {}
            Work::Run(run) => {
                self.see_through(number, &run).await;
                self.record(number).await;
            }
            Work::Invalid(subject, error) => {
                tracing::error!(spec = subject.spec, entry = %subject.id, %error, "the task of a tick cannot be enqueued");
                let error = EnqueueError::from(error);
                let hooks = self.entries.hooks();
                hooks.pre(&subject.task, &subject.options);
                hooks.error(&subject.task, &subject.options, &error);
                hooks.post(Err(&error));
            }
        }
    }

    /// Sends a tick until it is decided, or too late.
    async fn see_through(&self, number: u64, run: &Arc<Run>) {
        let (hooks, subject) = (self.entries.hooks(), &run.subject);
        if run.announce() {
            hooks.pre(&subject.task, &subject.options);
        }
        let sending = run.sending();
        let (mut wait, mut failures) = (Wait::new(), 0_u32);
        let (mut tick, mut late) = (run.tick.clone(), None);
        loop {
            let unsure = run.attempt();
            let error = match (self.send(run, &tick).await, late.take()) {
                (Ok(Ticked::Enqueued(info)), _) => {
                    if failures > 0 {
                        tracing::info!(spec = subject.spec, entry = %subject.id, failures, "tick enqueued after all");
                    }
                    let event = SchedulerEnqueueEvent {
                        task_id: info.id.clone(),
                        enqueued_at: self.entries.env.clock.now(),
                    };
                    if self.entries.end(number, run, Ended::Enqueued(event)) {
                        sending.end(Ok(&info));
                        tracing::debug!(entry = %subject.id, task = %info.id, tick = %run.tick.at, "tick enqueued");
                        hooks.post(Ok(&info));
                    }
                    return;
                }
                // No attempt had any effect.
                (Ok(Ticked::Taken { .. }), Some(error)) => {
                    run.settled(false);
                    error
                }
                (Ok(Ticked::Taken { last }), None) => {
                    tracing::debug!(entry = %subject.id, tick = %run.tick.at, %last, "tick decided elsewhere");
                    if self.entries.end(number, run, Ended::Taken(last)) {
                        sending.taken();
                    }
                    return;
                }
                (Err(error), _) => {
                    if !is_ambiguous(&error) {
                        run.settled(unsure);
                    }
                    hooks.error(&subject.task, &subject.options, &error);
                    error
                }
            };
            let mut again = if is_retryable(&error) {
                self.entries.again(number, run)
            } else {
                Again::No
            };
            let asks = run.is_unsure() && again == Again::TooLate;
            if again == Again::Yes || asks {
                if failures == 0 {
                    tracing::warn!(
                        spec = subject.spec, entry = %subject.id, tick = %run.tick.at, error = %report(&error),
                        "tick not enqueued, retrying"
                    );
                }
                failures += 1;
                if !self.pause(wait.next(self)).await {
                    return;
                }
                again = self.entries.again(number, run);
            }
            let ended = match again {
                Again::Yes => {
                    tick.decide = true;
                    continue;
                }
                Again::No => Ended::Failed,
                // Too late for the task, but an attempt whose answer was lost may have enqueued it.
                Again::TooLate if run.is_unsure() => {
                    tick.decide = false;
                    late = Some(error);
                    continue;
                }
                Again::TooLate => Ended::TooLate,
                Again::Removed => {
                    self.entries.end(number, run, Ended::TooLate);
                    return;
                }
            };
            if self.entries.end(number, run, ended) {
                sending.end::<()>(Err(&error));
                self.tell_failed(run, &error);
                hooks.post(Err(&error));
            }
            return;
        }
    }

    fn tell_failed(&self, run: &Run, error: &EnqueueError) {
        let subject = &run.subject;
        if matches!(error, EnqueueError::TaskIdConflict) {
            tracing::warn!(
                spec = subject.spec, entry = %subject.id, tick = %run.tick.at, task = %run.request().message.id,
                queue = %run.request().message.queue,
                "the tick enqueued nothing: another task has its fixed id; if that one is archived or completed, delete \
                 it, or give the entry on_conflict(ReplaceFinished)"
            );
            return;
        }
        tracing::error!(
            spec = subject.spec, entry = %subject.id, tick = %run.tick.at, error = %report(error),
            "the task of a tick was not enqueued"
        );
    }

    async fn send(&self, run: &Run, tick: &Tick) -> Result<Ticked, EnqueueError> {
        let storage = self.broker.storage().await?;
        let _place = self.places.acquire().await;
        within(storage.enqueue_tick(run.request().clone(), tick)).await
    }

    /// Adds what was enqueued to the history. What cannot be added now is added later, for as long as the
    /// entry lives: the same event is one, however often it is written.
    async fn record(&self, number: u64) {
        while let Some((id, event)) = self.entries.unrecorded(number) {
            let written = within(async {
                let storage = self.broker.storage().await?;
                storage.record_enqueue_event(id.as_str(), &event).await
            });
            match written.await {
                Err(error) if error.is_retryable() || matches!(error, BrokerError::Closed) => {
                    let wait = LAST_RETRY / 2 + self.entries.env.entropy.up_to(LAST_RETRY / 2);
                    if self.entries.not_recorded(number, &event, wait) {
                        tracing::warn!(entry = %id, error = %report(&error), "history not written, retrying");
                    }
                    continue;
                }
                Err(error) => {
                    tracing::warn!(entry = %id, error = %report(&error), "an enqueued tick is missing in the history");
                }
                Ok(()) => {}
            }
            self.entries.recorded(number, &event);
        }
    }

    /// Shows the entries for `ttl`, and deletes the histories of those that are gone.
    pub(super) async fn show(&self, ttl: Duration) -> Result<(), BrokerError> {
        let storage = within(self.broker.storage()).await?;
        let shown = self.entries.shown();
        within(storage.write_scheduler_entries(&self.entries.scheduler_id, &shown, ttl)).await?;
        let obsolete = self.entries.obsolete();
        self.delete(&*storage, obsolete).await
    }

    async fn delete(&self, storage: &dyn Storage, histories: Vec<super::EntryId>) -> Result<(), BrokerError> {
        let deletions = stream::iter(histories).map(|id| async move {
            within(storage.clear_scheduler_history(id.as_str())).await?;
            self.entries.deleted(&id);
            Ok(())
        });
        let answers: Vec<_> = deletions.buffer_unordered(DELETIONS).collect().await;
        answers.into_iter().collect()
    }

    /// The entries are shown no longer, and their histories are deleted (Go).
    pub(super) async fn clear(&self) -> Result<(), BrokerError> {
        let storage = self.broker.storage().await?;
        storage.clear_scheduler_entries(&self.entries.scheduler_id).await?;
        self.delete(&*storage, self.entries.with_history()).await
    }
}
