//! Outcomes: from the end of a run until the storage has taken them.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use asynq_core::{QueueName, SettleError, broker::Settlement};

use super::{Claim, Entry, Key, Phase, State, Table, UNCLAIMED};

impl State {
    pub(super) fn ended(&mut self, key: Key) {
        match self.ended.get_mut(&key.0) {
            Some(ended) => ended.push_back(key),
            None => drop(self.ended.insert(key.0.clone(), VecDeque::from([key]))),
        }
    }

    /// Outcomes of a queue that were not offered yet.
    pub(super) fn take_ended(&mut self, queue: &QueueName, most: usize) -> Vec<Key> {
        let mut keys = Vec::new();
        let Some(ended) = self.ended.get_mut(queue) else {
            return keys;
        };
        while keys.len() < most {
            let Some(key) = ended.pop_front() else { break };
            if matches!(
                self.entries.get(&key),
                Some(Entry {
                    phase: Phase::Finished { attempts: 0, .. },
                    ..
                })
            ) {
                keys.push(key);
            }
        }
        keys
    }

    /// Outcomes whose write failed, or that nobody offered for 2 s; all that wait, if `all`. Those
    /// least often refused first; then the last taken, so that what is given back keeps its order.
    pub(super) fn stuck(&self, of: impl Fn(&QueueName) -> bool, all: bool) -> Vec<Key> {
        let stuck = self.entries.iter().filter_map(|(key, entry)| match entry.phase {
            Phase::Finished { attempts, at, .. } if all || attempts > 0 || at.elapsed() >= UNCLAIMED => {
                of(&key.0).then_some(((attempts, std::cmp::Reverse(entry.order)), key))
            }
            _ => None,
        });
        let mut stuck: Vec<_> = stuck.collect();
        stuck.sort_by_key(|(rank, _)| *rank);
        stuck.into_iter().map(|(_, key)| key.clone()).collect()
    }
}

impl Table {
    /// How many outcomes of a queue wait for their first offer.
    pub(crate) fn ended_of(&self, queue: &QueueName) -> usize {
        self.lock().ended.get(queue).map_or(0, VecDeque::len)
    }

    /// The queues of which outcomes are not written.
    pub(crate) fn unsettled_queues(&self) -> BTreeSet<QueueName> {
        let state = self.lock();
        let unsettled = state
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.phase, Phase::Finished { .. } | Phase::Claimed { .. }));
        unsettled.map(|((queue, _), _)| queue.clone()).collect()
    }

    /// The queues of which [`claim_stuck_of`](Self::claim_stuck_of) would claim something.
    pub(crate) fn stuck_queues(&self, all: bool) -> BTreeSet<QueueName> {
        let stuck = self.lock().stuck(|_| true, all);
        stuck.into_iter().map(|(queue, _)| queue).collect()
    }

    /// Claims up to `most` outcomes of a queue that were not offered yet.
    pub(crate) fn claim_ended_of(&self, queue: &QueueName, most: usize) -> Claim {
        let mut state = self.lock();
        let keys = state.take_ended(queue, most);
        self.claim(&mut state, keys)
    }

    /// Claims up to `most` outcomes of a queue whose write failed, or that nobody offered for 2 s; all
    /// that wait, if `all`.
    pub(crate) fn claim_stuck_of(&self, queue: &QueueName, most: usize, all: bool) -> Claim {
        let mut state = self.lock();
        let mut keys = state.stuck(|of| of == queue, all);
        keys.truncate(most);
        self.claim(&mut state, keys)
    }

    pub(super) fn claim(&self, state: &mut State, keys: Vec<Key>) -> Claim {
        let now = self.clock.now();
        state.calls += 1;
        let call = state.calls;
        let mut items = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(entry) = state.entries.get_mut(&key) else {
                continue;
            };
            let lease = entry.fenced(now);
            let fence = lease.until;
            if let Phase::Finished { outcome, at, attempts } = &entry.phase {
                items.push(Settlement {
                    lease,
                    message: Arc::clone(&entry.message),
                    outcome: outcome.clone(),
                });
                entry.phase = Phase::Claimed {
                    call,
                    outcome: outcome.clone(),
                    at: *at,
                    attempts: *attempts,
                    fence,
                };
            }
        }
        Claim { call, items }
    }

    /// Takes the storage's answers to a claim. An item that was offered before may have been
    /// written then, so that `NotOurs` is no news.
    pub(crate) fn settled(&self, call: u64, items: &[Settlement], answers: Vec<Result<(), SettleError>>) {
        {
            let mut state = self.lock();
            for (item, answer) in items.iter().zip(answers) {
                let key = (item.lease.queue.clone(), item.lease.id.clone());
                let Some(entry) = state.entries.get_mut(&key) else {
                    continue;
                };
                let Phase::Claimed {
                    call: claimed_by,
                    outcome,
                    at,
                    attempts,
                    ..
                } = &entry.phase
                else {
                    continue;
                };
                if *claimed_by != call {
                    continue;
                }
                match answer {
                    Ok(()) => {
                        state.entries.remove(&key);
                    }
                    // The call was under way so long that an extension of ours may have raised the
                    // lease above its fence: offered again under the fence of today.
                    Err(SettleError::NotOurs) if item.lease.until < entry.lease.until => {
                        entry.phase = Phase::Finished {
                            outcome: outcome.clone(),
                            at: *at,
                            attempts: attempts + 1,
                        };
                    }
                    Err(SettleError::NotOurs) => {
                        if *attempts == 0 {
                            tracing::warn!(queue = %key.0, task = %key.1, "outcome refused: the task was taken over");
                        }
                        state.entries.remove(&key);
                    }
                    Err(SettleError::Poison(kind)) => {
                        tracing::error!(queue = %key.0, task = %key.1, %kind, "outcome refused: the task is damaged");
                        state.entries.remove(&key);
                    }
                    Err(_) => {
                        entry.phase = Phase::Finished {
                            outcome: outcome.clone(),
                            at: *at,
                            attempts: attempts + 1,
                        };
                    }
                }
            }
        }
        self.changed.notify_waiters();
    }

    /// A call ended without any answer (its task was dropped): its claims can be offered again.
    pub(crate) fn unclaim(&self, call: u64, items: &[Settlement]) {
        let mut state = self.lock();
        for item in items {
            let key = (item.lease.queue.clone(), item.lease.id.clone());
            let Some(entry) = state.entries.get_mut(&key) else {
                continue;
            };
            if let Phase::Claimed {
                call: claimed_by,
                outcome,
                at,
                attempts,
                ..
            } = &entry.phase
                && *claimed_by == call
            {
                entry.phase = Phase::Finished {
                    outcome: outcome.clone(),
                    at: *at,
                    attempts: attempts + 1,
                };
            }
        }
    }
}
