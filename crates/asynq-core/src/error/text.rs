//! The texts of errors, with their causes, also where a user's code makes them.

use std::panic::AssertUnwindSafe;

use super::directed::Directed;
use crate::panics::drop_quietly;

/// Number of causes of an error that are shown.
const CAUSES: usize = 32;

/// An error with its causes, on one line. A cause whose text stands there already, since the error shows
/// it, is not repeated, and what an error says of its task is no cause. For errors of our own; a user's goes
/// through [`shown`].
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

/// The text of an error, its causes included; the error's own alone where one of them cannot be shown.
pub fn shown(error: &(dyn std::error::Error + 'static)) -> String {
    std::panic::catch_unwind(AssertUnwindSafe(|| report(error))).unwrap_or_else(|panic| {
        drop_quietly(panic);
        trusting(|| error.to_string())
    })
}

/// A text that a user's code makes, or a word that it cannot be had.
pub fn trusting(text: impl FnOnce() -> String) -> String {
    match std::panic::catch_unwind(AssertUnwindSafe(text)) {
        Ok(text) => text,
        Err(panic) => {
            drop_quietly(panic);
            "an error that cannot be shown: its text panics".to_owned()
        }
    }
}
