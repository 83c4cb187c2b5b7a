//! Panics of application code, which are caught, reported with their place, and kept from spreading through drops.

use std::{
    any::Any,
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

/// The places of so many panics are known.
const PLACES: usize = 64;

/// Text and place of the last panics, the newest last. A caught panic no longer has its place.
static LAST_PANICS: Mutex<VecDeque<(String, String)>> = Mutex::new(VecDeque::new());

/// Drops a value of application code. Returns the text of the panic if the drop panics.
pub fn drop_quietly<T>(left: T) -> Option<String> {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| drop(left))).err()?;
    let text = panic_text(&*panic);
    tracing::error!(panic = text, "a value of user code panicked when it was dropped");
    // A payload that panics in turn cannot be dropped at all.
    let _never = std::mem::ManuallyDrop::new(panic);
    Some(text)
}

/// The text of a panic, where it is one.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    text_of(panic)
}

fn text_of(panic: &dyn Any) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is not text".to_owned()
    }
}

/// Makes the process record the places of its last panics, for [`panic_report`]. The previous panic hook is still
/// called. A hook that is set later ends the recording, which does no harm.
pub fn remember_panics() {
    static ONCE: Once = Once::new();
    // A thread that panics may not set a hook.
    if std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Some(place) = panic.location() {
                let mut last = last_panics();
                if last.len() == PLACES {
                    last.pop_front();
                }
                let text = text_of(panic.payload());
                last.push_back((text, format!("{}:{}", place.file(), place.line())));
            }
            before(panic);
        }));
    });
}

fn last_panics() -> MutexGuard<'static, VecDeque<(String, String)>> {
    LAST_PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the text that Go reports for a panic, with its place if it was [recorded](remember_panics).
pub fn panic_report(panic: &(dyn Any + Send)) -> String {
    let text = panic_text(panic);
    let last = last_panics();
    match last.iter().rfind(|(told, _)| *told == text) {
        Some((_, place)) => format!("panic [{place}]: {text}"),
        None => format!("panic: {text}"),
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

    #[test]
    fn a_panic_is_told_with_its_place() {
        let caught = |text: &'static str| std::panic::catch_unwind(|| panic!("{text}")).unwrap_err();
        let unknown = panic_report(&*caught("before anybody asked"));
        assert_eq!(unknown, "panic: before anybody asked");
        remember_panics();
        remember_panics();
        for number in 0..2 * PLACES {
            let _ = std::panic::catch_unwind(|| panic!("{number}"));
        }
        let line = line!() + 1;
        let known = std::thread::spawn(|| panic!("on another thread")).join().unwrap_err();
        assert_eq!(
            panic_report(&*known),
            format!("panic [{}:{line}]: on another thread", file!())
        );
        assert!(last_panics().len() <= PLACES);
    }
}
