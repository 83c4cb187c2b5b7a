//! [`Background`]: the work that outlives requests.

use std::{future::Future, sync::Arc};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// The work of a router that outlives single requests: acts on many tasks, and live updates. Cheap to clone.
///
/// ```
/// use asynq::memory::MemoryStore;
/// use asynq_web::Web;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// let web = Web::connect(MemoryStore::new()).await?;
/// let background = web.background();
/// let router = web.router();
/// // … serve the router, and at the end:
/// background.stop().await;
/// # drop(router);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Background(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: DateTime<Utc>,
    is_stopping: watch::Sender<bool>,
    running: watch::Sender<usize>,
}

impl Background {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            started: Utc::now(),
            is_stopping: watch::Sender::new(false),
            running: watch::Sender::new(0),
        }))
    }

    /// Stops the acts on many tasks after their current step, and ends the streams of live updates. It returns when all have ended,
    /// and the ends of the acts are in the audit trail. New acts and streams are refused from now on.
    ///
    /// # Cancel safety
    /// Safe: the work stops all the same.
    pub async fn stop(&self) {
        self.0.is_stopping.send_replace(true);
        let mut running = self.0.running.subscribe();
        // The sender lives as long as `self`.
        let _ = running.wait_for(|running| *running == 0).await;
    }

    pub(crate) fn started(&self) -> DateTime<Utc> {
        self.0.started
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.0.is_stopping.borrow()
    }

    /// Waits until the work is to stop.
    pub(crate) async fn stopping(&self) {
        let mut is_stopping = self.0.is_stopping.subscribe();
        let _ = is_stopping.wait_for(|is| *is).await;
    }

    /// Runs work beside the requests. [`stop`](Self::stop) waits for it, and it must end when that is [called](Self::stopping).
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.running.send_modify(|running| *running += 1);
        let running = Running(self.clone());
        #[expect(clippy::disallowed_methods, reason = "it is counted, and waited for")]
        tokio::spawn(async move {
            let _running = running;
            work.await;
        });
    }
}

/// Work that runs.
#[derive(Debug)]
struct Running(Background);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.send_modify(|running| *running -= 1);
    }
}
