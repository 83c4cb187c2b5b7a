//! Guards around what a user's code does: its texts, its drops and its panics.

use std::{any::Any, panic::AssertUnwindSafe};

/// An error with its causes, on one line. For errors of our own; a user's goes through [`shown`].
pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The text of an error, its causes included.
pub fn shown(error: &(dyn std::error::Error + 'static)) -> String {
    trusting(|| report(error))
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

/// Drops what a user's code left behind. The text of the panic, if that panics.
pub fn drop_quietly<T>(left: T) -> Option<String> {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| drop(left))).err()?;
    let text = panic_text(&*panic);
    tracing::error!(panic = text, "what was left behind panicked when it was dropped");
    // A payload that panics in turn cannot be dropped at all.
    let _never = std::mem::ManuallyDrop::new(panic);
    Some(text)
}

/// The text of a panic, where it is one.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is not text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_panic() {
        let text = |panic: Box<dyn Any + Send>| panic_text(&*panic);
        assert_eq!(text(Box::new("static")), "static");
        assert_eq!(text(Box::new("owned".to_owned())), "owned");
        assert_eq!(text(Box::new(7)), "a value that is not text");
    }

    #[test]
    fn a_payload_that_panics_in_turn_ends_here() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                std::panic::panic_any(Bad);
            }
        }
        assert_eq!(drop_quietly(Bad).as_deref(), Some("a value that is not text"));
        assert_eq!(drop_quietly(1), None);
    }
}
