//! Handlers, and the hooks around them.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    entropy::Entropy,
    error::{BrokerError, ConfigError, Error, Result},
    shared_state::States,
    task::Task,
};

/// Runs tasks. Called from many tasks at once; each call is one run.
///
/// Async functions and closures from [`Task`] to [`Result<()>`](Result) are handlers too.
///
/// The future is dropped at its next await point when the run is cancelled, passes its deadline or loses its lease. A
/// panic is a failure of this task only.
///
/// A task whose run is cancelled on request is retried, as in Go. To archive or delete it instead, use
/// [`Inspect::cancel_task`](crate::Inspect::cancel_task). A handler can also wait for
/// [`TaskContext::cancelled`](crate::TaskContext::cancelled) in parallel to its work, and return
/// [`Error::skip_retry`] or [`Error::revoke`].
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Runs one task.
    ///
    /// # Errors
    /// A plain error retries the task while retries are left, then archives it. [`Error::skip_retry`] archives the
    /// task at once, [`Error::revoke`] deletes it, and [`Error::snooze`] runs it again later.
    async fn process_task(&self, task: Task) -> Result<()>;

    /// Checks the configuration of the handler. A server calls it before it starts.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults. Default: none.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// As [`check`](Self::check), and also checks that `states`, the values that the handlers of the server share,
    /// has every value that the handler needs. A server calls this method. A handler that wraps another one forwards
    /// the call.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults. Default: the faults of [`check`](Self::check).
    fn check_with(&self, states: &States) -> Result<(), ConfigError> {
        let _ = states;
        self.check()
    }

    /// Returns the patterns of the task types that the handler runs, each a prefix of types; `None` if it decides by
    /// itself. A server publishes them, and an inspector finds tasks that no running server handles. A handler that wraps
    /// another one forwards the call. Default: `None`.
    fn task_types(&self) -> Option<Vec<String>> {
        None
    }
}

#[async_trait]
impl<F, Fut> Handler for F
where
    F: Fn(Task) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    async fn process_task(&self, task: Task) -> Result<()> {
        self(task).await
    }
}

impl<H: Handler + ?Sized> Handler for Arc<H> {
    // The future of the handler itself, and not one around it in a box of its own.
    fn process_task<'s, 'f>(&'s self, task: Task) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        (**self).process_task(task)
    }

    fn check(&self) -> Result<(), ConfigError> {
        (**self).check()
    }

    fn check_with(&self, states: &States) -> Result<(), ConfigError> {
        (**self).check_with(states)
    }

    fn task_types(&self) -> Option<Vec<String>> {
        (**self).task_types()
    }
}

/// A hook that is called after every failed run, including revoked ones, before the outcome is written (Go:
/// `ErrorHandler`). The recoverer does not call it, as in Go.
#[async_trait]
pub trait ErrorHandler: Send + Sync + 'static {
    /// Called when a run has failed. A panic in the hook is caught and logged. The task keeps its slot and its lease
    /// during the call, and the future is dropped after 30 s.
    async fn handle_error(&self, task: &Task, error: &Error);
}

type DelayFn = dyn Fn(u32, &Error, &Task) -> Option<Duration> + Send + Sync;

/// The delay before the next attempt, as a function of the retries used so far, the error and the task.
#[derive(Clone)]
pub struct RetryDelay(Arc<DelayFn>);

impl RetryDelay {
    /// Makes the rule from a function of the application. If the function panics, the default applies.
    pub fn new(delay: impl Fn(u32, &Error, &Task) -> Duration + Send + Sync + 'static) -> Self {
        Self::or_default(move |retried, error, task| Some(delay(retried, error, task)))
    }

    /// Makes the rule from a function of the application that returns a delay for some errors or tasks. If the
    /// function returns `None` or panics, [the default](default_retry_delay) applies.
    ///
    /// ```
    /// # use asynq::RetryDelay;
    /// use std::time::Duration;
    ///
    /// let delay = RetryDelay::or_default(|_, _, task| match task.get_type() {
    ///     "payment:charge" => Some(Duration::from_secs(60)),
    ///     _ => None,
    /// });
    /// # let _ = delay;
    /// ```
    pub fn or_default(delay: impl Fn(u32, &Error, &Task) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self(Arc::new(delay))
    }

    /// Returns the delay after the failure of an attempt that had used `retried` retries; `None` for the default.
    #[must_use]
    pub fn after(&self, retried: u32, error: &Error, task: &Task) -> Option<Duration> {
        (self.0)(retried, error, task)
    }
}

impl fmt::Debug for RetryDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryDelay")
    }
}

/// Returns Go's default delay in seconds: n⁴ + 15 + random(0..=29) × (n + 1), where n is the number of retries used.
/// At most 100 years.
#[must_use]
pub fn default_retry_delay(retried: u32, entropy: &Entropy) -> Duration {
    let n = u64::from(retried);
    let secs = n
        .saturating_pow(4)
        .saturating_add(15)
        .saturating_add(entropy.below(30).saturating_mul(n.saturating_add(1)));
    Duration::from_secs(secs).min(crate::options::MAX_DURATION)
}

/// A rule that decides whether an error is a failure, which uses up a retry and is counted (Go: `IsFailure`).
#[derive(Clone)]
pub struct IsFailure(Arc<dyn Fn(&Error) -> bool + Send + Sync>);

impl IsFailure {
    /// Makes the rule from a function of the application. If the function panics, the error is a failure.
    pub fn new(rule: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// Returns whether this error counts.
    #[must_use]
    pub fn of(&self, error: &Error) -> bool {
        (self.0)(error)
    }
}

impl fmt::Debug for IsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IsFailure")
    }
}

type HealthFn = dyn Fn(Option<&BrokerError>) + Send + Sync;

/// A hook that is called at intervals with the state of the storage: `None` if the storage answers, else the reason
/// (Go: `HealthCheckFunc`).
#[derive(Clone)]
pub struct HealthCheck(Arc<HealthFn>);

impl HealthCheck {
    /// Makes the hook from a function of the application. The function must not block. A panic in it is caught and
    /// logged.
    pub fn new(check: impl Fn(Option<&BrokerError>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Calls the hook.
    pub fn tell(&self, health: Option<&BrokerError>) {
        (self.0)(health);
    }
}

impl fmt::Debug for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HealthCheck")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_delay_grows_as_in_go_and_never_overflows() {
        let entropy = Entropy::seeded(3);
        for n in [0_u32, 1, 5, 24] {
            let n64 = u64::from(n);
            let secs = default_retry_delay(n, &entropy).as_secs();
            let least = n64.pow(4) + 15;
            assert!((least..=least + 29 * (n64 + 1)).contains(&secs), "{n}: {secs}");
        }
        assert_eq!(default_retry_delay(u32::MAX, &entropy), crate::options::MAX_DURATION);
    }

    #[tokio::test]
    async fn async_functions_and_shared_handlers_are_handlers() {
        async fn run(task: Task) -> Result<()> {
            assert_eq!(task.get_type(), "t");
            Ok(())
        }
        let shared: Arc<dyn Handler> = Arc::new(run);
        shared.process_task(Task::new("t", b"").unwrap()).await.unwrap();
        let closure = |_task: Task| async { Err(Error::other("no")) };
        assert!(
            Arc::new(closure)
                .process_task(Task::new("t", b"").unwrap())
                .await
                .is_err()
        );
    }
}
