//! The fate of a task whose run failed. Servers, recoverers and the test kit share this rule.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use chrono::TimeDelta;

use crate::{
    broker::{Env, Outcome},
    config::Settings,
    error::{Directive, Error, text::shown},
    handler::default_retry_delay,
    message::TaskMessage,
    options::{MAX_DURATION, MAX_ERROR_BYTES},
    panics::{drop_quietly, panic_text},
    task::Task,
};

/// Returns the outcome to write for a task whose run ended with an error (Go: `handleFailedMessage` in
/// `processor.go`; `recoverer.go` for a lease that ended).
///
/// The error's [directive](Error::directive) has precedence. Without one, a task that has no retries left is
/// archived, and any other task is retried after the configured delay. Panics in the rules of the application are
/// caught and logged. If the error's text panics, the text is one of ours; if `is_failure` panics, the run is a
/// failure; if the delay panics, the default delay applies. The text includes the causes of the error, as wrapped
/// errors in Go do, and is truncated to [`MAX_ERROR_BYTES`].
pub fn outcome_of(settings: &Settings, env: &Env, message: &TaskMessage, task: &Task, error: &Error) -> Outcome {
    let text = cut(shown(error));
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
            let delay = rule.and_then(|rule| guarded("retry_delay", || rule.after(retried, error, task)).flatten());
            let delay = delay.unwrap_or_else(|| default_retry_delay(retried, &env.entropy));
            retry(delay, text, is_failure.unwrap_or(true))
        }
    }
}

/// Cuts a text that is too long to be kept with a task.
fn cut(mut text: String) -> String {
    const MARK: char = '…';
    if text.len() > MAX_ERROR_BYTES {
        let most = MAX_ERROR_BYTES - MARK.len_utf8();
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push(MARK);
        text.shrink_to_fit();
    }
    text
}

/// Returns what the user's code answers; `None` if it panics.
fn guarded<T>(what: &'static str, ask: impl FnOnce() -> T) -> Option<T> {
    let panic = match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(answer) => return Some(answer),
        Err(panic) => panic,
    };
    tracing::error!(panic = panic_text(&*panic), "{what} panicked");
    drop_quietly(panic);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_between_two_characters() {
        let fits = "x".repeat(MAX_ERROR_BYTES);
        assert_eq!(cut(fits.clone()), fits);
        for before in ["", "x", "xx", "xxx"] {
            let long = cut(format!("{before}{}", "€".repeat(MAX_ERROR_BYTES / 2)));
            assert!(
                long.len() <= MAX_ERROR_BYTES && long.len() > MAX_ERROR_BYTES - 3,
                "{}",
                long.len()
            );
            assert!(long.starts_with(before) && long.ends_with("€…"));
        }
    }

    #[test]
    fn a_delay_may_leave_some_tasks_to_the_default() {
        let minute = std::time::Duration::from_secs(60);
        let delay = crate::RetryDelay::or_default(move |_, _, task| (task.get_type() == "mine").then_some(minute));
        let settings = crate::ServerConfig::new().retry_delay(delay).validate().unwrap();
        let env = Env::default();
        for (r#type, least, most) in [("mine", 59, 61), ("other", 14, 46)] {
            let message = TaskMessage {
                r#type: r#type.to_owned(),
                retry: 1,
                ..TaskMessage::default()
            };
            let task = Task::from_message(&message, None);
            let outcome = outcome_of(&settings, &env, &message, &task, &Error::other("no"));
            let Outcome::Retry { at, .. } = outcome else {
                panic!("it is retried")
            };
            let delay = env.clock.until(at).as_secs();
            assert!((least..=most).contains(&delay), "{}: {delay}", message.r#type);
        }
    }

    #[test]
    fn an_error_is_kept_with_its_causes_each_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Layer {
            text: &'static str,
            source: Option<Box<Layer>>,
        }
        let layers = |texts: &[&'static str]| {
            let chain = texts
                .iter()
                .rev()
                .fold(None, |source, text| Some(Box::new(Layer { text, source })));
            Error::other(*chain.unwrap())
        };
        let settings = crate::ServerConfig::new().validate().unwrap();
        let message = TaskMessage {
            r#type: "t".to_owned(),
            ..TaskMessage::default()
        };
        let task = Task::from_message(&message, None);
        for (texts, kept) in [
            (&["charge", "bank away", "refused"][..], "charge: bank away: refused"),
            (
                &["charge: bank away", "bank away", "refused"],
                "charge: bank away: refused",
            ),
            (&["charge"], "charge"),
        ] {
            let outcome = outcome_of(&settings, &Env::default(), &message, &task, &layers(texts));
            assert_eq!(outcome, Outcome::Archive { error: kept.to_owned() });
            let refused = Error::skip_retry(layers(texts));
            let outcome = outcome_of(&settings, &Env::default(), &message, &task, &refused);
            assert_eq!(outcome, Outcome::Archive { error: kept.to_owned() });
        }
    }

    #[test]
    fn an_error_with_a_long_text_is_kept_with_its_beginning() {
        let settings = crate::ServerConfig::new().validate().unwrap();
        let message = TaskMessage {
            r#type: "t".to_owned(),
            retry: 1,
            ..TaskMessage::default()
        };
        let task = Task::from_message(&message, None);
        let error = Error::other("x".repeat(MAX_ERROR_BYTES + 1));
        let Outcome::Retry { error, .. } = outcome_of(&settings, &Env::default(), &message, &task, &error) else {
            panic!("it is retried")
        };
        assert!(error.len() <= MAX_ERROR_BYTES && error.starts_with("xxx") && error.ends_with("x…"));
    }
}
