//! Places of runs: the number of concurrent runs, and the runs that wait for the storage without a place.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use asynq_core::QueueName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The place of a run, as long as it has one.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) places: Arc<Semaphore>,
    pub(super) place: Option<OwnedSemaphorePermit>,
    pub(super) queue: QueueName,
    pub(super) stuck: Arc<Mutex<HashMap<QueueName, usize>>>,
}

impl Seat {
    fn count(&self, act: impl FnOnce(&mut usize)) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        let count = stuck.entry(self.queue.clone()).or_default();
        act(count);
        if *count == 0 {
            stuck.remove(&self.queue);
        }
    }

    /// Gives up the place while the storage does not answer.
    pub(super) fn give_up(&mut self) {
        if self.place.take().is_some() {
            self.count(|stuck| *stuck += 1);
        }
    }

    /// Takes a place again.
    pub(super) async fn take(&mut self) {
        if self.place.is_none() {
            let place = Arc::clone(&self.places).acquire_owned().await;
            self.place = Some(place.expect("the semaphore is never closed"));
            self.count(|stuck| *stuck -= 1);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.place.is_none() {
            self.count(|stuck| *stuck -= 1);
        }
    }
}
