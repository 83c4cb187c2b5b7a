//! Outcomes: from the end of a run until the storage has taken them.

use std::{
    collections::{BTreeSet, VecDeque, hash_map},
    sync::Arc,
    time::Duration,
};

use asynq_core::{
    QueueName, ServerIdentity, SettleError,
    broker::{EndedRun, Settlement},
    clock::Reading,
};

use super::{Key, Phase, State, Table};

/// An outcome that nobody claimed for so long is the syncer's.
const UNCLAIMED: Duration = Duration::from_secs(2);

/// The time of a claim, and the server that claims.
pub(super) struct By<'t> {
    now: Reading,
    server: Option<&'t Arc<ServerIdentity>>,
}

/// Outcomes claimed for one call.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    pub(crate) call: u64,
    pub(crate) items: Vec<Settlement>,
}

impl State {
    pub(super) fn ended(&mut self, key: Key) {
        match self.ended.get_mut(&key.0) {
            Some(ended) => ended.push_back(key),
            None => drop(self.ended.insert(key.0.clone(), VecDeque::from([key]))),
        }
    }

    /// A claim without items.
    pub(super) fn new_claim(&mut self) -> Claim {
        self.calls += 1;
        Claim {
            call: self.calls,
            items: Vec::new(),
        }
    }

    /// Adds outcomes of a queue that were not offered yet, until there are `most` items.
    pub(super) fn add_ended(&mut self, claim: &mut Claim, queue: &QueueName, most: usize, by: &By<'_>) {
        let Some(mut ended) = self.ended.get_mut(queue).map(std::mem::take) else {
            return;
        };
        claim.items.reserve(ended.len().min(most));
        while claim.items.len() < most
            && let Some(key) = ended.pop_front()
        {
            self.add(claim, &key, 0, by);
        }
        self.ended.insert(queue.clone(), ended);
    }

    /// Adds the outcome of a task, if it has one that waits and was offered `most` times at most.
    pub(super) fn add(&mut self, claim: &mut Claim, key: &Key, most: u32, by: &By<'_>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if !matches!(entry.phase, Phase::Finished { attempts, .. } if attempts <= most) {
            return;
        }
        let lease = entry.fenced(&by.now);
        let fence = lease.until;
        if let Phase::Finished { outcome, at, attempts } = &entry.phase {
            claim.items.push(Settlement {
                lease,
                message: Arc::clone(&entry.message),
                outcome: outcome.clone(),
                run: entry.ended_at.map(|ended| {
                    Box::new(EndedRun {
                        server: by.server.cloned(),
                        started: Some(entry.started_at),
                        ended: Some(ended),
                    })
                }),
            });
            entry.phase = Phase::Claimed {
                call: claim.call,
                outcome: outcome.clone(),
                at: *at,
                attempts: *attempts,
                fence,
            };
        }
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
    /// Returns how many outcomes are not written: those whose write failed, or those of the first offer.
    pub(crate) fn unsettled(&self, failed: bool) -> usize {
        let state = self.lock();
        let tried = state.entries.values().filter_map(|entry| match entry.phase {
            Phase::Finished { attempts, .. } | Phase::Claimed { attempts, .. } => Some(attempts > 0),
            _ => None,
        });
        tried.filter(|tried| *tried == failed).count()
    }

    /// Returns how many outcomes of a queue wait for their first offer.
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
        unsettled.map(|(Key(queue, _), _)| queue.clone()).collect()
    }

    /// The queues of which [`claim_stuck_of`](Self::claim_stuck_of) would claim something.
    pub(crate) fn stuck_queues(&self, all: bool) -> BTreeSet<QueueName> {
        let stuck = self.lock().stuck(|_| true, all);
        stuck.into_iter().map(|Key(queue, _)| queue).collect()
    }

    pub(super) fn by(&self) -> By<'_> {
        By {
            now: self.clock.read(),
            server: self.server.as_ref(),
        }
    }

    /// Claims up to `most` outcomes of a queue that were not offered yet.
    pub(crate) fn claim_ended_of(&self, queue: &QueueName, most: usize) -> Claim {
        let by = self.by();
        let mut state = self.lock();
        let mut claim = state.new_claim();
        state.add_ended(&mut claim, queue, most, &by);
        claim
    }

    /// Claims up to `most` outcomes of a queue whose write failed, or that nobody offered for 2 s; all
    /// that wait, if `all`.
    pub(crate) fn claim_stuck_of(&self, queue: &QueueName, most: usize, all: bool) -> Claim {
        let by = self.by();
        let mut state = self.lock();
        let mut claim = state.new_claim();
        for key in state.stuck(|of| of == queue, all).iter().take(most) {
            state.add(&mut claim, key, u32::MAX, &by);
        }
        claim
    }

    /// Takes the storage's answers to a claim. An item that was offered before may have been
    /// written then, so that `NotOurs` is no news.
    pub(crate) fn settled(&self, call: u64, items: &[Settlement], answers: Vec<Result<(), SettleError>>) {
        {
            let mut state = self.lock();
            for (item, answer) in items.iter().zip(answers) {
                let key = Key::of(&item.lease);
                let hash_map::Entry::Occupied(mut found) = state.entries.entry(key) else {
                    continue;
                };
                let entry = found.get_mut();
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
                        found.remove();
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
                            tracing::warn!(queue = %item.lease.queue, task = %item.lease.id, "outcome refused: the task was taken over");
                        }
                        found.remove();
                    }
                    Err(SettleError::Poison(kind)) => {
                        tracing::error!(queue = %item.lease.queue, task = %item.lease.id, %kind, "outcome refused: the task is damaged");
                        found.remove();
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
            let key = Key::of(&item.lease);
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
