//! The steps of maintenance and administration.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    Act, Broker as _, BrokerError, Inspect as _, TaskState, Then,
    broker::{GroupLimits, RECOVER_GRACE, Recovery},
    inspect::{ListFilter, ScanLimits},
};
use chrono::TimeDelta;
use proptest::sample::Index;

use super::{
    Delivery, End, NewTask,
    arena::{Answers, Arena, queue},
    calls::{broker_error, enqueued, group_name, result, task_id},
};
use crate::{faulty::Op, request};

/// An answer in words.
fn told<T>(answer: &Result<T, BrokerError>, show: impl Fn(&T) -> String) -> String {
    answer.as_ref().map_or_else(broker_error, show)
}

impl Arena {
    pub(super) async fn forward(&self, worker: usize, number: usize, limit: u32, delivery: Delivery) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            subject.order(worker, Op::Forward, delivery);
            let answer = subject.workers[worker].broker.forward(&queue(number), limit).await;
            answers.push(told(&answer, |done| format!("{done:?}")));
        }
        answers
    }

    pub(super) async fn expired(&mut self, worker: usize, number: usize, grace: bool, limit: u32) -> Answers {
        let grace = if grace { RECOVER_GRACE } else { Duration::ZERO };
        let mut answers = Answers::new();
        for (index, subject) in self.subjects.iter().enumerate() {
            let answer = subject.workers[worker]
                .broker
                .expired(&queue(number), grace, limit)
                .await;
            answers.push(told(&answer, |found| format!("{found:?}")));
            self.expired[index] = answer.map(|found| found.tasks).unwrap_or_default();
        }
        answers
    }

    pub(super) async fn recover(&self, worker: usize, end: End, delivery: Delivery) -> Answers {
        let outcome = self.recovery(end);
        let mut answers = Answers::new();
        for (subject, found) in self.subjects.iter().zip(&self.expired) {
            subject.order(worker, Op::Recover, delivery);
            let batch = found.iter().map(|task| Recovery {
                task: task.clone(),
                outcome: outcome.clone(),
            });
            let answer = subject.workers[worker].broker.recover(batch.collect()).await;
            answers.push(
                answer
                    .iter()
                    .map(|one| result(one, |()| String::new()))
                    .collect::<Vec<_>>()
                    .join("; "),
            );
        }
        answers
    }

    pub(super) async fn delete_expired(&self, worker: usize, number: usize, limit: u32) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            let answer = subject.workers[worker]
                .broker
                .delete_expired(&queue(number), limit)
                .await;
            answers.push(told(&answer, ToString::to_string));
        }
        answers
    }

    pub(super) async fn heal(&self, worker: usize, number: usize) -> Result<Answers, String> {
        for subject in &self.subjects {
            let answer = subject.workers[worker].broker.heal(&queue(number), 100).await;
            if !answer.as_ref().is_ok_and(asynq_core::broker::Healed::is_empty) {
                return Err(format!(
                    "there was nothing to heal, but {} says {answer:?}",
                    subject.name
                ));
            }
        }
        Ok(Answers::new())
    }

    pub(super) async fn collect(
        &mut self,
        worker: usize,
        number: usize,
        group: usize,
        limits: GroupLimits,
    ) -> Result<Answers, String> {
        let (mut answers, mut sets) = (Answers::new(), Vec::new());
        let name = request::group(group_name(group));
        for subject in &mut self.subjects {
            let answer = subject.workers[worker]
                .broker
                .collect_group(&queue(number), &name, limits)
                .await;
            answers.push(told(&answer, |set| match set {
                Some(set) => format!("{} {:?}", set.until.0, set.tasks),
                None => "not ready".to_owned(),
            }));
            if let Ok(Some(set)) = answer {
                subject.names.set(&set.id, self.collected);
                sets.push(set);
            }
        }
        self.collected += 1;
        if sets.len() == self.subjects.len() {
            self.sets.push(sets);
        } else if !sets.is_empty() {
            return Err(format!("only some storages gave a set: {answers:?}"));
        }
        Ok(answers)
    }

    pub(super) async fn extend_set(&self, worker: usize, nth: &Index) -> Answers {
        let mut answers = Answers::new();
        if self.sets.is_empty() {
            return answers;
        }
        for (subject, set) in self.subjects.iter().zip(nth.get(&self.sets)) {
            let answer = subject.workers[worker].broker.extend_aggregation(set).await;
            answers.push(told(&answer, |until| until.0.to_string()));
        }
        answers
    }

    pub(super) async fn release_set(&self, worker: usize, nth: &Index, wait: u64) -> Answers {
        let mut answers = Answers::new();
        if self.sets.is_empty() {
            return answers;
        }
        let wait = Duration::from_secs(wait);
        for (subject, set) in self.subjects.iter().zip(nth.get(&self.sets)) {
            let answer = subject.workers[worker].broker.release_aggregation(set, wait).await;
            answers.push(told(&answer, |until| until.0.to_string()));
        }
        answers
    }

    pub(super) async fn finish_set(
        &mut self,
        worker: usize,
        nth: &Index,
        task: &NewTask,
        delivery: Delivery,
    ) -> Answers {
        let mut answers = Answers::new();
        if self.sets.is_empty() {
            return answers;
        }
        let sets = nth.get(&self.sets);
        // The result goes to the queue of the set.
        let request = (0..super::QUEUES).find(|number| queue(*number) == sets[0].queue);
        let request = self.request(&NewTask {
            queue: request.unwrap_or(0),
            ..task.clone()
        });
        for (subject, set) in self.subjects.iter().zip(sets) {
            subject.order(worker, Op::FinishAggregation, delivery);
            let answer = subject.workers[worker]
                .broker
                .finish_aggregation(set, request.clone())
                .await;
            answers.push(enqueued(&answer));
        }
        self.sent.push(Arc::new(request));
        answers
    }

    pub(super) async fn reclaim(&self, worker: usize, number: usize) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            let answer = subject.workers[worker]
                .broker
                .reclaim_aggregation_sets(&queue(number))
                .await;
            answers.push(told(&answer, ToString::to_string));
        }
        answers
    }

    pub(super) async fn run_task(&self, worker: usize, number: usize, id: usize, delivery: Delivery) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            subject.order(worker, Op::RunTask, delivery);
            let broker = &subject.workers[worker].broker;
            let answer = broker.run_task(&queue(number), &request::id(&task_id(id))).await;
            answers.push(told(&answer, |()| "ok".to_owned()));
        }
        answers
    }

    pub(super) async fn archive_task(&self, worker: usize, number: usize, id: usize, delivery: Delivery) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            subject.order(worker, Op::ArchiveTask, delivery);
            let broker = &subject.workers[worker].broker;
            let answer = broker.archive_task(&queue(number), &request::id(&task_id(id))).await;
            answers.push(told(&answer, |()| "ok".to_owned()));
        }
        answers
    }

    pub(super) async fn delete_task(&self, worker: usize, number: usize, id: usize, delivery: Delivery) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            subject.order(worker, Op::DeleteTask, delivery);
            let broker = &subject.workers[worker].broker;
            let answer = broker.delete_task(&queue(number), &request::id(&task_id(id))).await;
            answers.push(told(&answer, |()| "ok".to_owned()));
        }
        answers
    }

    pub(super) async fn act_on_all(
        &self,
        worker: usize,
        number: usize,
        (state, group): (usize, usize),
        act: Act,
        delivery: Delivery,
    ) -> Answers {
        let filter = filter(state, group);
        let mut answers = Answers::new();
        for subject in &self.subjects {
            subject.order(worker, Op::ActOnSome, delivery);
            let broker = &subject.workers[worker].broker;
            let answer = broker.act_on_all(&queue(number), &filter, act).await;
            answers.push(told(&answer, |done| format!("{done:?}")));
        }
        answers
    }

    /// Looks at all of them, or at none if a step fails.
    pub(super) async fn look(
        &mut self,
        worker: usize,
        number: usize,
        (state, group): (usize, usize),
        size: u32,
    ) -> Answers {
        let (queue, filter) = (queue(number), filter(state, group));
        let limits = ScanLimits {
            tasks: size,
            ..ScanLimits::default()
        };
        let (mut answers, mut looked) = (Answers::new(), Vec::new());
        for subject in &self.subjects {
            let broker = &subject.workers[worker].broker;
            let (mut marks, mut words, mut place) = (Vec::new(), Vec::new(), None);
            loop {
                let step = broker.scan_tasks(&queue, &filter, place.as_ref(), limits).await;
                words.push(told(&step, |step| {
                    let tasks = step.tasks.iter();
                    let views = tasks.map(|task| format!("{} {:?}", task.info.id, task.info.state_since));
                    views.collect::<Vec<_>>().join(" ")
                }));
                let Ok(step) = step else { break };
                marks.extend(step.tasks.into_iter().map(|task| task.mark));
                place = step.next;
                if place.is_none() {
                    break;
                }
            }
            looked.push(marks);
            answers.push(words.join("; "));
        }
        let is_same = looked.iter().all(|marks| marks.len() == looked[0].len());
        self.looked = is_same.then_some((queue, filter, looked));
        answers
    }

    pub(super) async fn act_on_these(&self, worker: usize, every: usize, act: Act, delivery: Delivery) -> Answers {
        let mut answers = Answers::new();
        let Some((queue, filter, looked)) = &self.looked else {
            return answers;
        };
        for (subject, marks) in self.subjects.iter().zip(looked) {
            let some: Vec<_> = marks.iter().step_by(every).cloned().collect();
            subject.order(worker, Op::ActOnThese, delivery);
            let broker = &subject.workers[worker].broker;
            let answer = broker.act_on_these(queue, filter, act, &some).await;
            answers.push(told(&answer, |acted| format!("{acted:?}")));
        }
        answers
    }

    pub(super) async fn reschedule(
        &self,
        worker: usize,
        number: usize,
        id: usize,
        secs: i64,
        delivery: Delivery,
    ) -> Answers {
        let at = self.clock.now() + TimeDelta::seconds(secs);
        let mut answers = Answers::new();
        for subject in &self.subjects {
            subject.order(worker, Op::RescheduleTask, delivery);
            let broker = &subject.workers[worker].broker;
            let answer = broker
                .reschedule_task(&queue(number), &request::id(&task_id(id)), at)
                .await;
            answers.push(told(&answer, |()| "ok".to_owned()));
        }
        answers
    }

    pub(super) async fn update_payload(
        &self,
        worker: usize,
        number: usize,
        id: usize,
        byte: u8,
        delivery: Delivery,
    ) -> Answers {
        let payload = vec![byte; usize::from(byte % 4)];
        let mut answers = Answers::new();
        for subject in &self.subjects {
            subject.order(worker, Op::UpdateTaskPayload, delivery);
            let broker = &subject.workers[worker].broker;
            let answer = broker
                .update_task_payload(&queue(number), &request::id(&task_id(id)), payload.clone().into())
                .await;
            answers.push(told(&answer, |()| "ok".to_owned()));
        }
        answers
    }

    pub(super) async fn clear_counters(&self, number: usize) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            let answer = subject.workers[0].broker.clear_counters(&queue(number)).await;
            answers.push(told(&answer, |()| "ok".to_owned()));
        }
        answers
    }

    pub(super) async fn delete_queue(&self, worker: usize, number: usize, force: bool) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            let broker = &subject.workers[worker].broker;
            let answer = broker.delete_queue(&queue(number), force).await;
            answers.push(told(&answer, |()| "ok".to_owned()));
        }
        answers
    }

    pub(super) async fn cancel_task(
        &self,
        worker: usize,
        number: usize,
        id: usize,
        then: Then,
        delivery: Delivery,
    ) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            subject.order(worker, Op::CancelTask, delivery);
            let broker = &subject.workers[worker].broker;
            let answer = broker
                .cancel_task(&queue(number), &request::id(&task_id(id)), then)
                .await;
            answers.push(told(&answer, |cancelled| format!("{cancelled:?}")));
        }
        answers
    }

    pub(super) async fn pause(&self, number: usize, pause: bool) -> Answers {
        let mut answers = Answers::new();
        for subject in &self.subjects {
            let broker = &subject.workers[0].broker;
            // A pause makes no queue, and a queue that is not in the index is a breach.
            if !broker
                .queues()
                .await
                .is_ok_and(|queues| queues.contains(&queue(number)))
            {
                answers.push("unknown".to_owned());
                continue;
            }
            let answer = if pause {
                broker.pause(&queue(number)).await
            } else {
                broker.unpause(&queue(number)).await
            };
            answers.push(told(&answer, |()| "ok".to_owned()));
        }
        answers
    }
}

fn filter(state: usize, group: usize) -> ListFilter {
    match TaskState::ALL[state] {
        TaskState::Aggregating => ListFilter::Group(request::group(group_name(group))),
        state => ListFilter::State(state),
    }
}
