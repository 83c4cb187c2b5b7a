//! The storages side by side, and what their workers know.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    Clock, Entropy, Env, QueueName, Storage, TaskInfo,
    broker::{AggregationSet, CallRecord, EnqueueRequest, ExpiredTask, LeasedTask},
    inspect::{ListFilter, TaskMark},
    raw::RawState,
};
use chrono::{DateTime, Utc};

use super::{QUEUES, Step, WORKERS, canon::Names, go};
use crate::{
    conformance::{Backend, audit},
    faulty::{Faults, FaultyBroker},
    invariants, request, view,
};

/// After how many steps the storages' own audits are asked: they take many calls.
const AUDIT_EVERY: usize = 10;

/// A worker of one storage.
pub(super) struct Worker {
    pub(super) broker: FaultyBroker<dyn Storage>,
    pub(super) faults: Faults,
}

/// One storage.
pub(super) struct Subject {
    pub(super) name: String,
    backend: Arc<dyn Backend>,
    pub(super) workers: Vec<Worker>,
    pub(super) names: Names,
}

impl Subject {
    async fn state(&self) -> RawState {
        self.names.canonical(self.backend.raw_state().await)
    }
}

/// A task that a worker took: as each storage gave it.
pub(super) type Held = Vec<LeasedTask>;

/// An exchange whose answer was lost: as each storage knows it.
#[derive(Clone)]
pub(super) struct Lost {
    pub(super) worker: usize,
    pub(super) queues: Vec<QueueName>,
    pub(super) calls: Vec<CallRecord>,
}

/// Storages that are to behave alike, and the workers that use them.
///
/// They share a clock that begins at the real time and is moved by [`Step::Advance`] alone. Unique
/// locks live for days, so that no sequence outlives them.
pub struct Arena {
    pub(super) subjects: Vec<Subject>,
    pub(super) clock: Clock,
    pub(super) held: Vec<Held>,
    pub(super) stale: Vec<Held>,
    pub(super) sent: Vec<Arc<EnqueueRequest>>,
    pub(super) lost: Vec<Lost>,
    pub(super) expired: Vec<Vec<ExpiredTask>>,
    pub(super) sets: Vec<Vec<AggregationSet>>,
    /// The tasks of the last look, as each storage told of them.
    pub(super) looked: Option<(QueueName, ListFilter, Vec<Vec<TaskMark>>)>,
    pub(super) calls: usize,
    pub(super) collected: usize,
    opened: u64,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.subjects.iter().map(|subject| &subject.name).collect();
        f.debug_struct("Arena")
            .field("subjects", &names)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// The answers to one step, in words, for each storage.
pub(super) type Answers = Vec<String>;

impl Arena {
    /// An arena over storages that hold nothing yet, each with a name for messages.
    pub async fn new(backends: Vec<(&str, Arc<dyn Backend>)>) -> Self {
        // The same place within a second each time, so that a sequence fails again when it is repeated.
        let start = DateTime::from_timestamp(Utc::now().timestamp(), 250_000_000).unwrap_or_default();
        let clock = Clock::manual(start);
        let mut subjects = Vec::new();
        for (name, backend) in backends {
            let mut workers = Vec::new();
            for seed in 0..WORKERS as u64 {
                let env = Env {
                    clock: clock.clone(),
                    entropy: Entropy::seeded(seed),
                };
                let faults = Faults::new();
                workers.push(Worker {
                    broker: faults.around(backend.connect(env).await),
                    faults,
                });
            }
            subjects.push(Subject {
                name: name.to_owned(),
                backend,
                workers,
                names: Names::default(),
            });
        }
        Self {
            expired: vec![Vec::new(); subjects.len()],
            subjects,
            clock,
            held: Vec::new(),
            stale: Vec::new(),
            sent: Vec::new(),
            lost: Vec::new(),
            sets: Vec::new(),
            looked: None,
            calls: 0,
            collected: 0,
            opened: WORKERS as u64,
        }
    }

    /// Carries out the steps; after each all answers and all keys are the same and the invariants
    /// hold over the raw keys. Each storage's own audit agrees, now and then and at the end.
    ///
    /// # Errors
    /// What differs first, and after which step.
    pub async fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for (number, step) in steps.iter().enumerate() {
            let at = |problem: String| format!("step {number}, {step:?}:\n{problem}");
            let answers = self.step(step).await.map_err(at)?;
            self.same_answers(&answers).map_err(at)?;
            self.same_state().await.map_err(at)?;
            if number % AUDIT_EVERY == 0 || number + 1 == steps.len() {
                self.audits().await.map_err(at)?;
            }
        }
        Ok(())
    }

    /// Closes all connections.
    pub async fn close(&self) {
        for worker in self.subjects.iter().flat_map(|subject| &subject.workers) {
            worker.broker.inner().close().await;
        }
    }

    fn same_answers(&self, answers: &Answers) -> Result<(), String> {
        let differs = answers.iter().any(|answer| *answer != answers[0]);
        if !differs {
            return Ok(());
        }
        let lines = self
            .subjects
            .iter()
            .zip(answers)
            .map(|(subject, answer)| format!("{}: {answer}", subject.name));
        Err(format!("the answers differ:\n{}", lines.collect::<Vec<_>>().join("\n")))
    }

    async fn same_state(&self) -> Result<(), String> {
        let mut first: Option<(&str, RawState)> = None;
        for subject in &self.subjects {
            let state = subject.state().await;
            let found = invariants::check(&state);
            if !found.is_empty() {
                let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
                return Err(format!(
                    "invariants do not hold in {}:\n{}",
                    subject.name,
                    lines.join("\n")
                ));
            }
            match &first {
                None => first = Some((&subject.name, state)),
                Some((name, expected)) => {
                    let lines = view::diff(expected, &state);
                    if !lines.is_empty() {
                        return Err(format!(
                            "the keys of {name} (left) and {} (right) differ:\n{}",
                            subject.name,
                            lines.join("\n")
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    async fn audits(&self) -> Result<(), String> {
        for subject in &self.subjects {
            for number in 0..QUEUES {
                let found = audit(&**subject.workers[0].broker.inner(), &queue(number)).await;
                let found = found.map_err(|error| format!("audit of {}: {error}", subject.name))?;
                if !found.is_empty() {
                    return Err(format!("the audit of {} finds {found:?}", subject.name));
                }
            }
        }
        Ok(())
    }

    /// One step; what each storage answered.
    async fn step(&mut self, step: &Step) -> Result<Answers, String> {
        match step {
            Step::Enqueue {
                worker,
                tasks,
                delivery,
            } => Ok(self.enqueue(*worker, tasks, *delivery).await),
            Step::Resend { worker, nth, delivery } => Ok(self.resend(*worker, nth, *delivery).await),
            Step::Exchange {
                worker,
                settle,
                want,
                delivery,
            } => self.exchange(*worker, settle, want, *delivery).await,
            Step::Adopt { nth, delivery } => self.adopt(nth, *delivery).await,
            Step::Arrive { worker } => {
                for subject in &self.subjects {
                    subject.workers[*worker].faults.run_late().await;
                }
                Ok(Answers::new())
            }
            Step::Reconnect { worker } => {
                self.reconnect(*worker).await;
                Ok(Answers::new())
            }
            Step::Extend {
                worker,
                picks,
                delivery,
            } => Ok(self.extend(*worker, picks, *delivery).await),
            Step::Result {
                worker,
                pick,
                byte,
                delivery,
            } => Ok(self.write_result(*worker, pick, *byte, *delivery).await),
            Step::Forward {
                worker,
                queue,
                limit,
                delivery,
            } => Ok(self.forward(*worker, *queue, *limit, *delivery).await),
            Step::Expired {
                worker,
                queue,
                grace,
                limit,
            } => Ok(self.expired(*worker, *queue, *grace, *limit).await),
            Step::Recover { worker, end, delivery } => Ok(self.recover(*worker, *end, *delivery).await),
            Step::DeleteExpired { worker, queue, limit } => Ok(self.delete_expired(*worker, *queue, *limit).await),
            Step::Heal { worker, queue } => self.heal(*worker, *queue).await,
            Step::Collect {
                worker,
                queue,
                group,
                size,
                grace,
                delay,
            } => {
                let limits = asynq_core::broker::GroupLimits {
                    grace: Duration::from_secs(*grace),
                    max_delay: delay.map(Duration::from_secs),
                    max_size: *size,
                };
                self.collect(*worker, *queue, *group, limits).await
            }
            Step::ExtendSet { worker, nth } => Ok(self.extend_set(*worker, nth).await),
            Step::ReleaseSet { worker, nth, wait } => Ok(self.release_set(*worker, nth, *wait).await),
            Step::FinishSet {
                worker,
                nth,
                task,
                delivery,
            } => Ok(self.finish_set(*worker, nth, task, *delivery).await),
            Step::Reclaim { worker, queue } => Ok(self.reclaim(*worker, *queue).await),
            Step::Run {
                worker,
                queue,
                id,
                delivery,
            } => Ok(self.run_task(*worker, *queue, *id, *delivery).await),
            Step::Archive {
                worker,
                queue,
                id,
                delivery,
            } => Ok(self.archive_task(*worker, *queue, *id, *delivery).await),
            Step::Delete {
                worker,
                queue,
                id,
                delivery,
            } => Ok(self.delete_task(*worker, *queue, *id, *delivery).await),
            Step::All {
                worker,
                queue,
                state,
                group,
                act,
                delivery,
            } => Ok(self
                .act_on_all(*worker, *queue, (*state, *group), *act, *delivery)
                .await),
            Step::Look {
                worker,
                queue,
                state,
                group,
                size,
            } => Ok(self.look(*worker, *queue, (*state, *group), *size).await),
            Step::These {
                worker,
                every,
                act,
                delivery,
            } => Ok(self.act_on_these(*worker, *every, *act, *delivery).await),
            Step::Reschedule {
                worker,
                queue,
                id,
                secs,
                delivery,
            } => Ok(self.reschedule(*worker, *queue, *id, *secs, *delivery).await),
            Step::UpdatePayload {
                worker,
                queue,
                id,
                byte,
                delivery,
            } => Ok(self.update_payload(*worker, *queue, *id, *byte, *delivery).await),
            Step::ClearCounters { queue } => Ok(self.clear_counters(*queue).await),
            Step::DeleteQueue { worker, queue, force } => Ok(self.delete_queue(*worker, *queue, *force).await),
            Step::Cancel {
                worker,
                queue,
                id,
                then,
                delivery,
            } => Ok(self.cancel_task(*worker, *queue, *id, *then, *delivery).await),
            Step::Pause { queue } => Ok(self.pause(*queue, true).await),
            Step::Unpause { queue } => Ok(self.pause(*queue, false).await),
            Step::GoTakes { queue } => Ok(self.go(*queue, go::takes).await),
            Step::GoRetakes { queue } => Ok(self.go(*queue, go::retakes).await),
            Step::GoRecovers { queue } => Ok(self.go(*queue, go::recovers).await),
            Step::Advance { millis } => {
                self.clock.advance(Duration::from_millis(*millis));
                Ok(Answers::new())
            }
        }
    }

    async fn reconnect(&mut self, worker: usize) {
        self.opened += 1;
        for subject in &mut self.subjects {
            let env = Env {
                clock: self.clock.clone(),
                entropy: Entropy::seeded(self.opened),
            };
            let old = &mut subject.workers[worker];
            old.broker.inner().close().await;
            // Its calls that are late stay with the old connection, and never arrive.
            old.broker = old.faults.around(subject.backend.connect(env).await);
        }
    }

    async fn go(&self, number: usize, change: fn(&RawState, &QueueName, i64) -> Option<go::Changes>) -> Answers {
        let now = self.clock.now().timestamp();
        for subject in &self.subjects {
            let state = subject.backend.raw_state().await;
            if let Some(changes) = change(&state, &queue(number), now) {
                subject.backend.put(changes).await;
            }
        }
        Answers::new()
    }
}

/// The queue of this number.
pub(super) fn queue(number: usize) -> QueueName {
    request::queue(["low", "high"][number % QUEUES])
}

/// Returns what is compared of a task that was described.
pub(super) fn told(info: &TaskInfo) -> String {
    format!(
        "{} {} {} {:?}",
        info.queue,
        info.id,
        info.state,
        info.next_process_at.map(|at| at.timestamp())
    )
}
