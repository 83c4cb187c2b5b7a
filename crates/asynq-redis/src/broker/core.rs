//! The state of a broker, which its operations share.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use asynq_core::{
    broker::{CallRecord, CallToken, LeaseUntil},
    clock::Jumps,
};
use chrono::{DateTime, Utc};

use super::{cancel_subscriptions::CancelSubscriptions, unpublished::Unpublished};
use crate::{clock_sync::Freshness, link::owned::Owned, links::Links};

/// The state that all clones of a broker share. Its operations work with it.
pub(crate) struct Core {
    pub(crate) link: Links,
    /// Prefix of each token.
    id: String,
    calls: AtomicU64,
    kept: Mutex<Vec<Owned>>,
    freshness: Freshness,
    jumps: Mutex<Jumps>,
    pub(crate) unpublished: Unpublished,
    /// `true` while connections may be killed, as far as is known.
    pub(crate) may_kill: AtomicBool,
    pub(crate) cancel_requests: CancelSubscriptions,
}

impl Core {
    pub(crate) fn new(link: Links) -> Self {
        let id = link.env().entropy.uuid();
        Self {
            link,
            id,
            calls: AtomicU64::new(1),
            kept: Mutex::default(),
            freshness: Freshness::default(),
            jumps: Mutex::default(),
            unpublished: Unpublished::default(),
            may_kill: AtomicBool::new(true),
            cancel_requests: CancelSubscriptions::default(),
        }
    }

    /// Returns the record of a call that is about to be sent.
    pub(crate) fn next_call(&self) -> CallRecord {
        let lease_until = LeaseUntil::from_now(self.now());
        let seq = self.calls.fetch_add(1, Ordering::Relaxed);
        CallRecord {
            token: CallToken::new(&self.id, seq, lease_until),
            connection: self.link.connection(),
            lease_until,
        }
    }

    /// The time now, corrected to the server's.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.link.env().clock.now()
    }

    /// Corrects the clock by the server's before times are judged or leases are written.
    pub(crate) async fn refresh_clock(&self) {
        self.freshness.refresh(&self.link.env().clock, &self.link).await;
    }

    /// [`refresh_clock`](Self::refresh_clock) before tasks or sets are taken from their owners; `false` if the
    /// time has jumped so lately that living owners may not have extended their leases since.
    pub(crate) async fn may_take_over(&self) -> bool {
        self.refresh_clock().await;
        let clock = &self.link.env().clock;
        let mut jumps = lock(&self.jumps);
        jumps.look(clock);
        !jumps.is_settling(clock)
    }

    /// Returns what tells this broker from others; in front of each token.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Keeps a background task until it has ended, at most as long as the broker.
    pub(crate) fn keep(&self, task: Owned) {
        let mut kept = lock(&self.kept);
        kept.retain(|task| !task.handle().is_finished());
        kept.push(task);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
