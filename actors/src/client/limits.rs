//! Bounds of the enqueues that wait for their answers, and of the part that one queue in trouble may hold.

use std::{collections::HashMap, sync::Arc, time::Duration};

use asynq_core::{
    EnqueueError, Task, TaskContext, TaskError, TaskOptions,
    broker::{EnqueueRequest, Env},
    compose::compose_within,
    config::ClientSettings,
    trace_context::TraceContext,
    traces::Sending,
};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio_util::sync::CancellationToken;

/// Divisor for the part of the waiting requests that a queue in trouble may hold: one half.
const SHARE: usize = 2;

type Permits = [OwnedSemaphorePermit; 2];

/// The permits of an enqueue: they go with it until its answer, through every attempt.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    permits: Arc<(Permits, Option<Permits>)>,
}

impl Admission {
    /// The KiB that it lets in.
    pub(super) fn kib(&self) -> usize {
        self.permits.0[1].num_permits()
    }
}

/// The enqueues that may wait: their number, and their KiB.
#[derive(Clone, Debug)]
struct Places {
    items: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    most_items: usize,
    most_kib: u32,
}

impl Places {
    fn new(most_items: usize, kib: usize) -> Self {
        Self {
            items: Arc::new(Semaphore::new(most_items)),
            kib: Arc::new(Semaphore::new(kib)),
            most_items,
            most_kib: u32::try_from(kib).unwrap_or(u32::MAX),
        }
    }

    fn kib(&self, request: &EnqueueRequest) -> u32 {
        u32::try_from(request.size().div_ceil(1024))
            .unwrap_or(self.most_kib)
            .min(self.most_kib)
    }

    async fn take(&self, request: &EnqueueRequest) -> Result<Permits, AcquireError> {
        let item = Arc::clone(&self.items).acquire_owned().await?;
        let bytes = Arc::clone(&self.kib).acquire_many_owned(self.kib(request)).await?;
        Ok([item, bytes])
    }

    fn try_take(&self, request: &EnqueueRequest) -> Result<Permits, TryAcquireError> {
        let item = Arc::clone(&self.items).try_acquire_owned()?;
        let bytes = Arc::clone(&self.kib).try_acquire_many_owned(self.kib(request))?;
        Ok([item, bytes])
    }

    fn close(&self) {
        self.items.close();
        self.kib.close();
    }
}

/// The limits of one client, shared by its handles and its actor.
#[derive(Debug)]
pub(super) struct Limits {
    all: Places,
    /// The permits that each queue in trouble may hold.
    troubled: watch::Sender<HashMap<String, Places>>,
    pub(super) enqueue_within: Duration,
    max_message_bytes: usize,
    /// The system has ended.
    pub(super) closed: CancellationToken,
}

impl Limits {
    pub(super) fn new(settings: &ClientSettings) -> Self {
        Self {
            all: Places::new(settings.max_waiting, settings.max_waiting_bytes >> 10),
            troubled: watch::Sender::new(HashMap::new()),
            enqueue_within: settings.enqueue_timeout,
            max_message_bytes: settings.max_message_bytes,
            closed: CancellationToken::new(),
        }
    }

    /// Composes a request, and begins its span, below the parent.
    pub(super) fn compose(
        &self,
        task: &Task,
        options: &TaskOptions,
        env: &Env,
        parent: &TraceContext,
    ) -> Result<(EnqueueRequest, Sending), TaskError> {
        let mut request = compose_within(task, options, env, self.max_message_bytes)?;
        let given = task.context().map(TaskContext::given_headers);
        let sending = Sending::begin(given, &mut request, self.max_message_bytes, parent);
        Ok((request, sending))
    }

    /// Returns whether a call for this queue failed or was late, and none was answered since.
    pub(super) fn is_in_trouble(&self, queue: &str) -> bool {
        self.troubled.borrow().contains_key(queue)
    }

    fn share(&self, queue: &str) -> Option<Places> {
        self.troubled.borrow().get(queue).cloned()
    }

    /// Waits for a place. A queue that falls into trouble meanwhile has to be content with its share,
    /// so that what waits for it does not stand in the way of the others.
    pub(super) async fn admit(&self, request: &EnqueueRequest) -> Result<Admission, EnqueueError> {
        let queue = &request.message.queue;
        loop {
            let share = match self.share(queue) {
                None => None,
                Some(share) => match share.take(request).await {
                    Ok(permits) => Some(permits),
                    // The trouble is over.
                    Err(_) => continue,
                },
            };
            match self.all.try_take(request) {
                Ok(permits) => return Ok(admission(permits, share)),
                Err(TryAcquireError::Closed) => return Err(EnqueueError::Closed),
                Err(TryAcquireError::NoPermits) => {}
            }
            let place = self.all.take(request);
            if share.is_some() {
                let permits = place.await.map_err(|_| EnqueueError::Closed)?;
                return Ok(admission(permits, share));
            }
            let mut troubled = self.troubled.subscribe();
            tokio::select! {
                biased;
                permits = place => {
                    return Ok(admission(permits.map_err(|_| EnqueueError::Closed)?, None));
                }
                _ = troubled.wait_for(|troubled| troubled.contains_key(queue)) => {}
            }
        }
    }

    pub(super) fn try_admit(&self, request: &EnqueueRequest) -> Result<Admission, EnqueueError> {
        let share = match self.share(&request.message.queue).map(|share| share.try_take(request)) {
            Some(Ok(permits)) => Some(permits),
            Some(Err(TryAcquireError::NoPermits)) => return Err(EnqueueError::Overloaded),
            // There was no trouble, or it is over.
            Some(Err(TryAcquireError::Closed)) | None => None,
        };
        match self.all.try_take(request) {
            Ok(permits) => Ok(admission(permits, share)),
            Err(TryAcquireError::NoPermits) => Err(EnqueueError::Overloaded),
            Err(TryAcquireError::Closed) => Err(EnqueueError::Closed),
        }
    }

    /// A call for this queue failed, or has no answer yet.
    pub(super) fn trouble(&self, queue: &str) {
        self.troubled.send_if_modified(|troubled| {
            let new = !troubled.contains_key(queue);
            if new {
                let items = (self.all.most_items / SHARE).max(1);
                let kib = (self.all.most_kib as usize / SHARE).max(1);
                troubled.insert(queue.to_owned(), Places::new(items, kib));
            }
            new
        });
    }

    /// A call for this queue was answered.
    pub(super) fn well(&self, queue: &str) {
        if self.troubled.borrow().contains_key(queue) {
            self.troubled.send_modify(|troubled| {
                if let Some(share) = troubled.remove(queue) {
                    share.close();
                }
            });
        }
    }

    /// Returns how many enqueues wait for their answer.
    pub(super) fn waiting(&self) -> usize {
        let free = self.all.items.available_permits();
        self.all.most_items - free.min(self.all.most_items)
    }

    pub(super) fn free(&self) -> usize {
        self.all.items.available_permits()
    }

    pub(super) fn close(&self) {
        self.all.close();
        self.closed.cancel();
        self.troubled.send_modify(|troubled| {
            for (_, share) in troubled.drain() {
                share.close();
            }
        });
    }
}

fn admission(permits: Permits, share: Option<Permits>) -> Admission {
    Admission {
        permits: Arc::new((permits, share)),
    }
}
