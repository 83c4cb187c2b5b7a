//! [`TestKit`]: tests of applications that enqueue and handle tasks, without Redis and without waiting.
//!
//! Turn the feature on for tests alone: `asynq = { …, features = ["testing"] }` under
//! `[dev-dependencies]`.
//!
//! # What was enqueued
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
//! # What a handler does
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
//! # When the storage fails
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

/// A storage in memory with a clock of its own, a client on it, and what a test wants to know of both.
///
/// Each kit is a world of its own, so tests may run side by side. See the [module](self) for examples.
#[derive(Debug)]
pub struct TestKit {
    shared: Arc<Shared>,
    storage: Arc<KitStorage>,
    client: Client,
    settings: Settings,
    tokio_time: bool,
}

impl TestKit {
    /// A kit whose clock stands still, at the whole second in which it was made, until
    /// [`advance`](Self::advance) moves it.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its time enabled.
    pub async fn new() -> Self {
        let now = Utc::now();
        let clock = Clock::manual(DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now));
        Self::at(clock, false).await
    }

    /// A kit whose clock is tokio's: for tests with paused time (`#[tokio::test(start_paused = true)]`),
    /// in which sleeps of the code under test move it too.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub async fn on_tokio_time() -> Self {
        Self::at(Clock::tokio(), true).await
    }

    async fn at(clock: Clock, tokio_time: bool) -> Self {
        // The same numbers each time, so that what is random in a run repeats.
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

    /// The settings of the server in whose place [`run_one`](Self::run_one) stands. What concerns a single
    /// run counts: states, retry delay, error handler, what is a failure, unknown types.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with all faults at once.
    pub fn server_config(mut self, config: &ServerConfig) -> Result<Self> {
        self.settings = config.validate()?;
        Ok(self)
    }

    /// A client of the kit's storage.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns a connector for code under test that makes its own client, server or system. A server on a clock
    /// that stands still takes tasks, and waits for ever where it waits for a time.
    #[must_use]
    pub fn connector(&self) -> TestConnector {
        TestConnector(Arc::clone(&self.shared))
    }

    /// Looks into the storage: states, results, counters.
    #[must_use]
    pub fn inspector(&self) -> Inspector<MemoryBroker> {
        Inspector::new(Arc::new(self.shared.open_plain()))
    }

    /// The kit's time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.connector().env().clock.now()
    }

    /// Moves the time forward; on tokio's time all that waits for it wakes up. Runs nothing by itself.
    ///
    /// # Panics
    /// On tokio's time when that is not paused.
    pub async fn advance(&self, by: Duration) {
        if self.tokio_time {
            tokio::time::advance(by).await;
        } else {
            self.shared.env.clock.advance(by);
        }
    }

    /// Moves the time forward to `at`; without effect when that is past.
    ///
    /// # Panics
    /// As [`advance`](Self::advance).
    pub async fn advance_to(&self, at: DateTime<Utc>) {
        let by = self.shared.env.clock.until(at);
        if !by.is_zero() {
            self.advance(by).await;
        }
    }

    /// The next enqueue that no earlier order concerns fails in this way, through whatever client of the
    /// kit's storage. One order is for one task, also where many are enqueued at once.
    pub fn fail_next_enqueue(&self, fault: EnqueueFault) {
        self.shared.fail_next(fault);
    }

    /// The tasks that were enqueued and not taken yet, in the order in which they were enqueued. A task that
    /// was taken does not come back here, whatever became of it.
    #[must_use]
    pub fn enqueued(&self) -> Vec<EnqueuedTask> {
        self.shared.enqueued()
    }

    /// A task of this type is [enqueued](Self::enqueued). More can be said of it at the answer; each
    /// statement is checked at once.
    ///
    /// # Panics
    /// When there is none; shows what is enqueued.
    #[track_caller]
    pub fn assert_enqueued(&self, task_type: &str) -> Found {
        Found::of_type(self.enqueued(), task_type)
    }

    /// No task of this type is [enqueued](Self::enqueued).
    ///
    /// # Panics
    /// When there is one; shows what is enqueued.
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
    /// When something is; shows it.
    #[track_caller]
    pub fn assert_nothing_enqueued(&self) {
        let all = self.enqueued();
        assert!(all.is_empty(), "{}", enqueued::shown(&all));
    }

    /// Takes one task that is due, runs it with its timeout, and writes how it ended, as a server would; in
    /// the queues by name, in each the one that waits longest. `None`: none is due, or its queue is paused.
    ///
    /// The timeout runs on tokio's time, whatever the kit's clock is.
    ///
    /// # Panics
    /// When the handler is [put together wrong](Handler::check), and when its end cannot be written, because
    /// somebody else took the task meanwhile. A panic of the handler is a failure of its task.
    ///
    /// # Cancel safety
    /// Not safe: a task that was taken stays active.
    pub async fn run_one(&self, handler: &(impl Handler + ?Sized)) -> Option<Ran> {
        if let Err(faults) = handler.check_with(&self.settings.states) {
            panic!("{faults}");
        }
        run::run_one(&self.shared, &self.storage, &self.settings, &self.client, handler).await
    }

    /// Runs tasks, those that handlers enqueue as well, until none is due; the ends in order. The time does
    /// not move by itself: what is retried or delayed waits for [`advance`](Self::advance).
    ///
    /// # Panics
    /// As [`run_one`](Self::run_one), and after [`MAX_DRAINED`] tasks: they make one another for ever.
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
