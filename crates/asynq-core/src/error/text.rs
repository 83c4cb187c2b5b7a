//! Texts of errors with their causes, also for errors of application code.

use std::panic::AssertUnwindSafe;

use super::directed::Directed;
use crate::panics::drop_quietly;

/// Number of causes of an error that are shown.
const CAUSES: usize = 32;

/// Returns an error of ours with its causes, on one line. A cause is left out if the text of its error already
/// contains it, or if it is a directive. [`shown`] is for errors of application code.
pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()).take(CAUSES) {
        if cause.is::<Directed>() {
            continue;
        }
        let cause = cause.to_string();
        if !text.ends_with(&cause) && !text.contains(&format!(": {cause}")) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Returns the text of an error with its causes. If a cause cannot be shown, only the text of the error itself.
pub fn shown(error: &(dyn std::error::Error + 'static)) -> String {
    std::panic::catch_unwind(AssertUnwindSafe(|| report(error))).unwrap_or_else(|panic| {
        drop_quietly(panic);
        trusting(|| error.to_string())
    })
}

/// Returns a text that application code makes, or a placeholder if the code panics.
pub fn trusting(text: impl FnOnce() -> String) -> String {
    match std::panic::catch_unwind(AssertUnwindSafe(text)) {
        Ok(text) => text,
        Err(panic) => {
            drop_quietly(panic);
            "an error that cannot be shown: its text panics".to_owned()
        }
    }
}
