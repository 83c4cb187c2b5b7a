//! [`TestKit`]: tests of applications that enqueue and handle tasks, without Redis and without waiting.
//!
//! Enable the feature for tests only: `asynq = { …, features = ["testing"] }` under `[dev-dependencies]`.
//!
//! # Check what was enqueued
//!
//! ```
//! use asynq::{Client, Result, Task, testing::TestKit};
//! use std::time::Duration;
//!
//! // The code under test.
//! async fn sign_up(client: &Client, user: u32) -> Result<()> {
//!     let payload = format!(r#"{{"user":{user}}}"#);
//!     client.enqueue(Task::new("email:welcome", payload.as_bytes())?.with_queue("critical")).await?;
//!     client.enqueue_in(Task::new("email:tips", payload.as_bytes())?, Duration::from_secs(86_400)).await?;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let kit = TestKit::new().await;
//! sign_up(kit.client(), 42).await?;
//!
//! kit.assert_enqueued("email:welcome").queue("critical").at_once().once();
//! kit.assert_enqueued("email:tips").payload(r#"{"user":42}"#).delayed_by(Duration::from_secs(86_400));
//! kit.assert_not_enqueued("email:goodbye");
//! # Ok(())
//! # }
//! ```
//!
//! # Run a handler
//!
//! ```
//! use asynq::{Error, Result, Task, testing::{End, TestKit}};
//!
//! // The code under test: fails once.
//! async fn send(task: Task) -> Result<()> {
//!     match task.context().map(|run| run.retried()) {
//!         Some(0) => Err(Error::other("mail server is away")),
//!         _ => Ok(()),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let kit = TestKit::new().await;
//! kit.client().enqueue(Task::new("email:send", b"42")?).await?;
//!
//! let first = kit.run_one(&send).await.expect("a task is due");
//! let End::Retried { at, error } = first.end else { panic!("{first:?}") };
//! assert_eq!(error.to_string(), "mail server is away");
//! assert!(kit.run_one(&send).await.is_none(), "not due yet");
//!
//! kit.advance_to(at).await;
//! assert!(kit.run_one(&send).await.expect("it is due again").end.is_done());
//! # Ok(())
//! # }
//! ```
//!
//! # Make the storage fail
//!
//! ```
//! use asynq::{Error, Task, error::EnqueueError, testing::{EnqueueFault, TestKit}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> asynq::Result<()> {
//! let kit = TestKit::new().await;
//! kit.fail_next_enqueue(EnqueueFault::AnswerLost);
//! let answer = kit.client().enqueue(Task::new("email:send", b"42")?).await;
//! assert!(matches!(answer, Err(Error::Enqueue(EnqueueError::Unknown { .. }))));
//! kit.assert_enqueued("email:send").once();
//! # Ok(())
//! # }
//! ```

mod enqueued;
mod run;
mod storage;

use std::{sync::Arc, time::Duration};

use asynq_core::{Clock, Connector as _, Entropy, Env, Handler, Result, ServerConfig, config::Settings};
use asynq_memory::MemoryBroker;
use chrono::{DateTime, Utc};

use self::storage::{KitStorage, Shared};
use crate::{client::Client, inspector::Inspector};

pub use enqueued::{EnqueuedTask, Found};
pub use run::{End, Ran};
pub use storage::{EnqueueFault, TestConnector};

/// Largest number of tasks that one [`drain`](TestKit::drain) runs.
pub const MAX_DRAINED: usize = 10_000;

/// A storage in memory with its own clock, a client of the storage, and assertions about its tasks.
///
/// Kits share nothing, so tests can run concurrently. See the [module](self) for examples.
#[derive(Debug)]
pub struct TestKit {
    shared: Arc<Shared>,
    storage: Arc<KitStorage>,
    client: Client,
    settings: Settings,
    tokio_time: bool,
}

impl TestKit {
    /// Returns a kit whose clock stands still, at the whole second of the call, until [`advance`](Self::advance)
    /// moves it.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its time enabled.
    pub async fn new() -> Self {
        let now = Utc::now();
        let clock = Clock::manual(DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now));
        Self::at(clock, false).await
    }

    /// Returns a kit whose clock is tokio's, for tests with paused time (`#[tokio::test(start_paused = true)]`).
    /// Sleeps of the code under test then move the clock of the kit too.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub async fn on_tokio_time() -> Self {
        Self::at(Clock::tokio(), true).await
    }

    async fn at(clock: Clock, tokio_time: bool) -> Self {
        // The entropy is seeded, so that random parts of a run repeat.
        let entropy = Entropy::seeded(0);
        let shared = Shared::new(Env { clock, entropy });
        let client = Client::new(TestConnector(Arc::clone(&shared))).await;
        Self {
            storage: Arc::new(shared.open()),
            shared,
            client: client.expect("the actors of a client start in a tokio runtime"),
            settings: ServerConfig::new().validate().expect("the default settings are valid"),
            tokio_time,
        }
    }

    /// Sets the settings that [`run_one`](Self::run_one) uses in place of a server's. Only those of a single run have
    /// an effect: states, retry delay, error handler, the rule for failures, unknown types.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with all faults at once.
    pub fn server_config(mut self, config: &ServerConfig) -> Result<Self> {
        self.settings = config.validate()?;
        Ok(self)
    }

    /// Returns a client of the kit's storage.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns a connector for code under test that makes its own client, server or system. On a clock that stands
    /// still, a server takes tasks, but its waits for a time never end.
    #[must_use]
    pub fn connector(&self) -> TestConnector {
        TestConnector(Arc::clone(&self.shared))
    }

    /// Returns an inspector of the storage: states, results, counters.
    #[must_use]
    pub fn inspector(&self) -> Inspector<MemoryBroker> {
        Inspector::new(Arc::new(self.shared.open_plain()))
    }

    /// Returns the time of the kit's clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.connector().env().clock.now()
    }

    /// Moves the time forward. With tokio's time, all timers that become due fire. Runs no task by itself.
    ///
    /// # Panics
    /// When the kit uses tokio's time and that time is not paused.
    pub async fn advance(&self, by: Duration) {
        if self.tokio_time {
            tokio::time::advance(by).await;
        } else {
            self.shared.env.clock.advance(by);
        }
    }

    /// Moves the time forward to `at`. Without effect when `at` has passed.
    ///
    /// # Panics
    /// As [`advance`](Self::advance).
    pub async fn advance_to(&self, at: DateTime<Utc>) {
        let by = self.shared.env.clock.until(at);
        if !by.is_zero() {
            self.advance(by).await;
        }
    }

    /// Makes one enqueue fail in this way, through any client of the kit's storage. Each call affects one task, also
    /// in a batch; several calls affect the next tasks in order.
    pub fn fail_next_enqueue(&self, fault: EnqueueFault) {
        self.shared.fail_next(fault);
    }

    /// Returns the tasks that were enqueued and not yet taken, in the order of their enqueues. A task that was taken
    /// never appears here again, whatever its outcome.
    #[must_use]
    pub fn enqueued(&self) -> Vec<EnqueuedTask> {
        self.shared.enqueued()
    }

    /// Asserts that a task of this type is [enqueued](Self::enqueued). The methods of the returned value add
    /// conditions, and each is checked at once.
    ///
    /// # Panics
    /// When there is no such task. The message lists the enqueued tasks.
    #[track_caller]
    pub fn assert_enqueued(&self, task_type: &str) -> Found {
        Found::of_type(self.enqueued(), task_type)
    }

    /// Asserts that no task of this type is [enqueued](Self::enqueued).
    ///
    /// # Panics
    /// When there is such a task. The message lists the enqueued tasks.
    #[track_caller]
    pub fn assert_not_enqueued(&self, task_type: &str) {
        let all = self.enqueued();
        assert!(
            all.iter().all(|task| task.info.task_type != task_type),
            "a task with type {task_type:?} is enqueued\n{}",
            enqueued::shown(&all)
        );
    }

    /// Asserts that nothing is [enqueued](Self::enqueued).
    ///
    /// # Panics
    /// When a task is enqueued. The message lists the enqueued tasks.
    #[track_caller]
    pub fn assert_nothing_enqueued(&self) {
        let all = self.enqueued();
        assert!(all.is_empty(), "{}", enqueued::shown(&all));
    }

    /// Takes one due task, runs it with its timeout, and writes its outcome, as a server does. Queues are searched in
    /// the order of their names, and the task that has waited longest is taken. `None` if no task is due, or its
    /// queue is paused.
    ///
    /// The timeout always uses tokio's time, independent of the kit's clock.
    ///
    /// # Panics
    /// When a [check](Handler::check) of the handler finds a fault, and when the outcome cannot be written because
    /// other code has taken the task. A panic of the handler does not panic here: it is a failure of the task.
    ///
    /// # Cancel safety
    /// Not safe: a task that was taken stays active.
    pub async fn run_one(&self, handler: &(impl Handler + ?Sized)) -> Option<Ran> {
        if let Err(faults) = handler.check_with(&self.settings.states) {
            panic!("{faults}");
        }
        run::run_one(&self.shared, &self.storage, &self.settings, &self.client, handler).await
    }

    /// Runs tasks until none is due, including those that handlers enqueue. Returns the runs in order. The time does
    /// not move by itself: retried and delayed tasks wait for [`advance`](Self::advance).
    ///
    /// # Panics
    /// As [`run_one`](Self::run_one). Also after [`MAX_DRAINED`] tasks, because the handlers seem to enqueue new
    /// tasks without end.
    ///
    /// # Cancel safety
    /// As [`run_one`](Self::run_one).
    pub async fn drain(&self, handler: &(impl Handler + ?Sized)) -> Vec<Ran> {
        let mut ran = Vec::new();
        while let Some(one) = self.run_one(handler).await {
            ran.push(one);
            assert!(ran.len() < MAX_DRAINED, "still tasks after {MAX_DRAINED} of them");
        }
        ran
    }
}
