//! What becomes of a task whose run failed: one rule for servers, recoverers and the test kit.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use chrono::TimeDelta;

use crate::{
    broker::{Env, Outcome},
    config::Settings,
    distrust::{drop_quietly, panic_text, trusting},
    error::{Directive, Error},
    handler::default_retry_delay,
    message::TaskMessage,
    options::MAX_DURATION,
    task::Task,
};

/// Returns what is to be written for a task whose run ended with an error (Go: `processor.go`,
/// `handleFailedMessage`; `recoverer.go` for a lease that ran out).
///
/// The error's [directive](Error::directive) comes first; then a task without retries left is archived, and any
/// other is retried after the configured delay. Panics in the user's rules are caught and logged: an error whose
/// text panics gets a text of ours, `is_failure` counts as true, and the default delay applies.
pub fn outcome_of(settings: &Settings, env: &Env, message: &TaskMessage, task: &Task, error: &Error) -> Outcome {
    let text = trusting(|| error.to_string());
    let retry = |delay: Duration, error, is_failure| Outcome::Retry {
        at: env.clock.now() + TimeDelta::from_std(delay.min(MAX_DURATION)).unwrap_or(TimeDelta::zero()),
        error,
        is_failure,
    };
    match guarded("an error's source", || error.directive()).unwrap_or(Directive::Fail) {
        Directive::Revoke => Outcome::Done { retain: false },
        Directive::SkipRetry => Outcome::Archive { error: text },
        Directive::Snooze(delay) => retry(delay, text, false),
        Directive::Fail if message.retried >= message.retry => Outcome::Archive { error: text },
        Directive::Fail => {
            let rule = settings.is_failure.as_ref();
            let is_failure = rule.and_then(|rule| guarded("is_failure", || rule.of(error)));
            let retried = u32::try_from(message.retried).unwrap_or(0);
            let rule = settings.retry_delay.as_ref();
            let delay = rule.and_then(|rule| guarded("retry_delay", || rule.after(retried, error, task)));
            let delay = delay.unwrap_or_else(|| default_retry_delay(retried, &env.entropy));
            retry(delay, text, is_failure.unwrap_or(true))
        }
    }
}

/// What the user's code answers; `None` if it panics.
fn guarded<T>(what: &'static str, ask: impl FnOnce() -> T) -> Option<T> {
    let panic = match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(answer) => return Some(answer),
        Err(panic) => panic,
    };
    tracing::error!(panic = panic_text(&*panic), "{what} panicked");
    drop_quietly(panic);
    None
}
