//! The steps of clients and workers.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    Broker as _, BrokerError, EnqueueError, SettleError, TaskInfo,
    broker::{EndedRun, EnqueueRequest, LeaseUntil, LeasedTask, Outcome, Settlement, Want},
};
use chrono::TimeDelta;
use proptest::sample::Index;

use super::{
    Delivery, End, NewTask, Pick, Place,
    arena::{Answers, Arena, Held, Lost, Subject, queue, told},
};
use crate::{
    faulty::{Fault, Op},
    request::request,
};

/// Longer than any sequence.
const UNIQUE_TTL: Duration = Duration::from_secs(20 * 24 * 3600);
/// Number of settled tasks that are remembered.
const STALE: usize = 40;

impl Subject {
    /// Orders what is to happen to the next call of a worker.
    pub(super) fn order(&self, worker: usize, op: Op, delivery: Delivery) {
        let fault = match delivery {
            Delivery::Whole => return,
            Delivery::ReplyLost => Fault::LoseReply,
            Delivery::RequestLost => Fault::LoseRequest,
            Delivery::Late => Fault::Late,
        };
        self.workers[worker].faults.next(op, fault);
    }
}

impl Arena {
    pub(super) fn request(&self, task: &NewTask) -> EnqueueRequest {
        let new = request(queue(task.queue).as_str(), &task_id(task.id)).task_type(["t0", "t1"][task.task_type % 2]);
        let mut new = new.retention(task.retention).max_retry(3).token(self.sent.len() as u64);
        if let Some(payload) = [None, Some(""), Some("p")][task.payload % 3] {
            new = new.payload(payload);
        }
        match task.place {
            Place::Now => {}
            Place::In(secs) => new = new.at(self.clock.now() + TimeDelta::seconds(secs)),
            Place::Group(number) => new = new.group(group_name(number)),
        }
        if task.unique {
            new = new.unique(UNIQUE_TTL);
        }
        new.build()
    }

    pub(super) async fn enqueue(&mut self, worker: usize, tasks: &[NewTask], delivery: Delivery) -> Answers {
        let mut batch = Vec::new();
        for task in tasks {
            let request = Arc::new(self.request(task));
            self.sent.push(Arc::clone(&request));
            batch.push(request);
        }
        self.send(worker, &batch, delivery).await
    }

    pub(super) async fn resend(&mut self, worker: usize, nth: &Index, delivery: Delivery) -> Answers {
        if self.sent.is_empty() {
            return Answers::new();
        }
        let batch = vec![Arc::clone(nth.get(&self.sent))];
        self.send(worker, &batch, delivery).await
    }

    async fn send(&self, worker: usize, batch: &[Arc<EnqueueRequest>], delivery: Delivery) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            subject.order(worker, Op::Enqueue, delivery);
            let answer = subject.workers[worker].broker.enqueue(batch).await;
            answers.push(answer.iter().map(enqueued).collect::<Vec<_>>().join("; "));
        }
        answers
    }

    /// The task that a pick means.
    fn picked(&self, pick: &Pick) -> Option<&Held> {
        let from = if pick.stale && !self.stale.is_empty() {
            &self.stale
        } else {
            &self.held
        };
        (!from.is_empty()).then(|| pick.nth.get(from))
    }

    fn outcome(&self, end: End) -> Outcome {
        match end {
            End::Done => Outcome::Done { retain: true },
            End::Revoke => Outcome::Done { retain: false },
            End::Retry(secs, is_failure) => {
                let at = self.clock.now() + TimeDelta::seconds(secs);
                Outcome::Retry {
                    at,
                    error: "boom".into(),
                    is_failure,
                }
            }
            End::Archive => Outcome::Archive {
                error: "for good".into(),
            },
            End::Requeue => Outcome::Requeue,
        }
    }

    pub(super) fn recovery(&self, end: End) -> Outcome {
        self.outcome(end)
    }

    pub(super) async fn exchange(
        &mut self,
        worker: usize,
        settle: &[(Pick, End)],
        want: &[(usize, u32)],
        delivery: Delivery,
    ) -> Result<Answers, String> {
        let picked: Vec<(Held, Outcome)> = settle
            .iter()
            .filter_map(|(pick, end)| Some((self.picked(pick)?.clone(), self.outcome(*end))))
            .collect();
        let mut want: Vec<Want> = want
            .iter()
            .map(|(number, max)| Want {
                queue: queue(*number),
                max: *max,
            })
            .collect();
        want.sort_by(|a, b| a.queue.cmp(&b.queue));
        want.dedup_by(|a, b| a.queue == b.queue);

        let run = EndedRun {
            server: None,
            started: Some(self.clock.now() - TimeDelta::milliseconds(1500)),
            ended: Some(self.clock.now()),
        };
        self.calls += 1;
        let (number, mut answers, mut calls, mut leased, mut settled) =
            (self.calls, Answers::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, subject) in self.subjects.iter_mut().enumerate() {
            let call = subject.workers[worker].broker.begin();
            subject.names.token(call.token.as_str(), number);
            subject.order(worker, Op::Exchange, delivery);
            let settle = picked.iter().map(|(held, outcome)| Settlement {
                lease: held[index].lease.clone(),
                message: Arc::clone(&held[index].message),
                outcome: outcome.clone(),
                run: outcome.keeps(&held[index].message).then(|| Box::new(run.clone())),
            });
            let mut answer = subject.workers[worker]
                .broker
                .exchange(&call, &settle.collect::<Vec<_>>(), &want)
                .await;
            answer.leased.sort_by(|a, b| a.lease.queue.cmp(&b.lease.queue));
            answer.exhausted.sort();
            answers.push(format!(
                "settled [{}], leased [{}], poisoned {:?}, exhausted {:?}, failed {:?}",
                answer
                    .settled
                    .iter()
                    .map(|one| result(one, |()| String::new()))
                    .collect::<Vec<_>>()
                    .join("; "),
                answer.leased.iter().map(held).collect::<Vec<_>>().join("; "),
                answer.poisoned,
                answer.exhausted,
                answer
                    .failed
                    .iter()
                    .map(|(of, error)| format!("{of}: {error}"))
                    .collect::<Vec<_>>(),
            ));
            settled = answer.settled.iter().map(Result::is_ok).collect();
            leased.push(answer.leased);
            calls.push(call);
        }
        for ((of, _), settled) in picked.iter().zip(settled) {
            if settled {
                self.retire(of);
            }
        }
        if delivery != Delivery::Whole && !want.is_empty() {
            self.lost.push(Lost {
                worker,
                queues: want.into_iter().map(|want| want.queue).collect(),
                calls,
            });
        }
        self.hold(leased)?;
        Ok(answers)
    }

    /// The tasks are settled: who offers them again is told so.
    fn retire(&mut self, of: &Held) {
        let is = |held: &Held| held[0].lease.token == of[0].lease.token && held[0].lease.id == of[0].lease.id;
        if let Some(at) = self.held.iter().position(is) {
            self.stale.push(self.held.remove(at));
        }
        if self.stale.len() > STALE {
            self.stale.remove(0);
        }
    }

    /// The tasks that a call gave, as each storage gave them.
    fn hold(&mut self, leased: Vec<Vec<LeasedTask>>) -> Result<(), String> {
        let count = leased.first().map_or(0, Vec::len);
        if leased.iter().any(|tasks| tasks.len() != count) {
            return Err(format!(
                "the storages gave {:?} tasks",
                leased.iter().map(Vec::len).collect::<Vec<_>>()
            ));
        }
        for nth in 0..count {
            self.held.push(leased.iter().map(|tasks| tasks[nth].clone()).collect());
        }
        Ok(())
    }

    pub(super) async fn adopt(&mut self, nth: &Index, delivery: Delivery) -> Result<Answers, String> {
        if self.lost.is_empty() {
            return Ok(Answers::new());
        }
        let lost = nth.get(&self.lost).clone();
        let mut answers = vec![String::new(); self.subjects.len()];
        for of in &lost.queues {
            let mut adopted = Vec::new();
            for (index, subject) in self.subjects.iter().enumerate() {
                subject.order(lost.worker, Op::Adopt, delivery);
                let answer = subject.workers[lost.worker].broker.adopt(of, &lost.calls[index]).await;
                answers[index] += &match &answer {
                    Ok(tasks) => format!("{of}: [{}] ", tasks.iter().map(held).collect::<Vec<_>>().join("; ")),
                    Err(error) => format!("{of}: {error} "),
                };
                adopted.push(answer.unwrap_or_default());
            }
            // What is adopted again replaces what the first adoption gave.
            for task in adopted.first().into_iter().flatten() {
                let is = |held: &Held| held[0].lease.token == task.lease.token && held[0].lease.id == task.lease.id;
                if let Some(at) = self.held.iter().position(is) {
                    self.stale.push(self.held.remove(at));
                }
            }
            self.hold(adopted)?;
        }
        Ok(answers)
    }

    pub(super) async fn extend(&mut self, worker: usize, picks: &[Pick], delivery: Delivery) -> Answers {
        let mut picked: Vec<Held> = Vec::new();
        for of in picks.iter().filter_map(|pick| self.picked(pick)) {
            // Nobody extends a lease twice in one batch.
            if !picked.iter().any(|held| held[0].lease == of[0].lease) {
                picked.push(of.clone());
            }
        }
        let (mut answers, mut written) = (Answers::new(), Vec::new());
        for (index, subject) in self.subjects.iter().enumerate() {
            subject.order(worker, Op::ExtendLeases, delivery);
            let leases = picked.iter().map(|held| held[index].lease.clone()).collect();
            let answer = subject.workers[worker].broker.extend_leases(leases).await;
            answers.push(
                answer
                    .iter()
                    .map(|one| result(one, |until| until.0.to_string()))
                    .collect::<Vec<_>>()
                    .join("; "),
            );
            written = answer.into_iter().map(Result::ok).collect::<Vec<Option<LeaseUntil>>>();
        }
        for (of, until) in picked.iter().zip(written) {
            let Some(until) = until else { continue };
            let is = |held: &Held| held[0].lease.token == of[0].lease.token && held[0].lease.id == of[0].lease.id;
            for held in self.held.iter_mut().filter(|held| is(held)) {
                held.iter_mut().for_each(|task| task.lease.until = until);
            }
        }
        answers
    }

    pub(super) async fn write_result(&self, worker: usize, pick: &Pick, byte: u8, delivery: Delivery) -> Answers {
        let Some(of) = self.picked(pick) else {
            return Answers::new();
        };
        let mut answers = Answers::new();
        for (index, subject) in self.subjects.iter().enumerate() {
            subject.order(worker, Op::WriteResult, delivery);
            let bytes = vec![byte; usize::from(byte % 4)];
            let answer = subject.workers[worker]
                .broker
                .write_result(&of[index].lease, bytes.into())
                .await;
            answers.push(result(&answer, ToString::to_string));
        }
        answers
    }
}

pub(super) fn task_id(number: usize) -> String {
    format!("task{number}")
}

pub(super) fn group_name(number: usize) -> &'static str {
    ["g", "g:2"][number % super::GROUPS]
}

fn held(task: &LeasedTask) -> String {
    format!(
        "{} {} {} {:?}",
        task.lease.queue, task.lease.id, task.lease.until.0, task.message
    )
}

pub(super) fn enqueued(answer: &Result<TaskInfo, EnqueueError>) -> String {
    match answer {
        Ok(info) => told(info),
        Err(EnqueueError::Broker(error)) => broker_error(error),
        Err(error) => error.to_string(),
    }
}

/// The answer to one item of a batch.
pub(super) fn result<T>(answer: &Result<T, SettleError>, show: impl Fn(&T) -> String) -> String {
    match answer {
        Ok(value) => format!("ok {}", show(value)),
        Err(SettleError::Broker(error)) => broker_error(error),
        Err(error) => error.to_string(),
    }
}

/// The kind of an error: its text may be the storage's own.
pub(super) fn broker_error(error: &BrokerError) -> String {
    match error {
        BrokerError::Refused { .. } => "refused".to_owned(),
        BrokerError::Ambiguous { .. } => "ambiguous".to_owned(),
        other => other.to_string(),
    }
}
