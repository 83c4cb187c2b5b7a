//! A store under a clock moved by hand.

use asynq_testing::request::batch_of;
use std::{sync::Arc, time::Duration};

use asynq_core::{
    Broker as _, Clock, Entropy, Env, QueueName, TaskId,
    broker::{EnqueueRequest, Exchanged, LeasedTask, Outcome, Settlement, Want},
    inspect::{Breach, Cursor, Inspect as _},
};
use asynq_memory::{MemoryBroker, MemoryStore};
use chrono::DateTime;

/// The Unix second at which the clock begins.
pub(crate) const START: i64 = 1_800_000_000;

/// A store, its clock, and a connection.
pub(crate) struct Kit {
    pub(crate) store: MemoryStore,
    pub(crate) clock: Clock,
    pub(crate) broker: MemoryBroker,
}

impl Kit {
    pub(crate) fn new() -> Self {
        let clock = Clock::manual(DateTime::from_timestamp(START, 250_000_000).unwrap());
        let store = MemoryStore::new();
        let broker = store.open(Env {
            clock: clock.clone(),
            entropy: Entropy::seeded(1),
        });
        Self { store, clock, broker }
    }

    pub(crate) fn connect(&self) -> MemoryBroker {
        self.store.open(Env {
            clock: self.clock.clone(),
            entropy: Entropy::seeded(2),
        })
    }

    pub(crate) fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    pub(crate) async fn enqueue(&self, request: EnqueueRequest) {
        self.broker.enqueue(&batch_of([request])).await.remove(0).unwrap();
    }

    pub(crate) async fn take(&self, max: u32) -> Exchanged {
        let want = vec![Want { queue: queue(), max }];
        self.broker.exchange(&self.broker.begin(), &[], &want).await
    }

    pub(crate) async fn settle(&self, task: &LeasedTask, outcome: Outcome) {
        let settled = self
            .broker
            .exchange(&self.broker.begin(), &[settlement(task, outcome)], &[])
            .await;
        assert!(matches!(settled.settled[..], [Ok(())]), "{settled:?}");
    }

    pub(crate) async fn audit(&self) -> Vec<Breach> {
        let page = self.broker.audit(&queue(), Cursor::default()).await.unwrap();
        assert_eq!(page.next, None);
        page.items
    }
}

pub(crate) fn settlement(task: &LeasedTask, outcome: Outcome) -> Settlement {
    Settlement {
        lease: task.lease.clone(),
        message: Arc::clone(&task.message),
        outcome,
        run: None,
    }
}

pub(crate) fn queue() -> QueueName {
    QueueName::new("q").unwrap()
}

pub(crate) fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}
