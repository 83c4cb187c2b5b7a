//! Task types by pattern, with the matching of Go's `ServeMux`.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound::{Included, Unbounded},
};

/// A reason why a pattern is refused. The texts are those of Go's `ServeMux`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// The pattern is empty or only white space.
    #[error("asynq: invalid pattern")]
    Blank,
    /// There is a value for this pattern.
    #[error("asynq: multiple registrations for {}", crate::excerpt::Excerpt(.pattern))]
    Duplicate {
        /// The pattern.
        pattern: String,
    },
}

/// Values by pattern. A pattern matches every task type of which it is a prefix, byte for byte and without regard to
/// separators: `email` matches `email`, `emails` and `email:send`. The longest pattern that matches wins.
///
/// ```
/// use asynq_core::patterns::Patterns;
///
/// let mut patterns = Patterns::new();
/// patterns.insert("email:", 1)?;
/// patterns.insert("email:welcome", 2)?;
/// assert_eq!(patterns.find("email:reminder"), Some(("email:", &1)));
/// assert_eq!(patterns.find("email:welcome:again"), Some(("email:welcome", &2)));
/// assert_eq!(patterns.find("image:resize"), None);
/// # Ok::<(), asynq_core::patterns::PatternError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Patterns<T>(BTreeMap<String, T>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Patterns<T> {
    /// No patterns.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a value.
    ///
    /// # Errors
    /// [`PatternError`] when the pattern is blank, or already has a value, which then stays.
    pub fn insert(&mut self, pattern: impl Into<String>, value: T) -> Result<(), PatternError> {
        let pattern = pattern.into();
        if pattern.trim().is_empty() {
            return Err(PatternError::Blank);
        }
        match self.0.entry(pattern) {
            Entry::Occupied(taken) => Err(PatternError::Duplicate {
                pattern: taken.key().clone(),
            }),
            Entry::Vacant(free) => {
                free.insert(value);
                Ok(())
            }
        }
    }

    /// The longest pattern that is a prefix of the task type, with its value.
    #[must_use]
    pub fn find(&self, task_type: &str) -> Option<(&str, &T)> {
        // A prefix of the text sorts at or below the text, and a longer prefix above a shorter one. If the highest
        // pattern at or below the text is not a prefix, no longer pattern than their common part can match.
        let mut highest = task_type;
        loop {
            let (pattern, value) = self.0.range::<str, _>((Unbounded, Included(highest))).next_back()?;
            if task_type.starts_with(pattern.as_str()) {
                return Some((pattern, value));
            }
            let shared = pattern
                .chars()
                .zip(task_type.chars())
                .take_while(|(ours, theirs)| ours == theirs)
                .map(|(same, _)| same.len_utf8())
                .sum();
            highest = &task_type[..shared];
        }
    }

    /// Iterates over all patterns, in the order of their bytes, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(pattern, value)| (pattern.as_str(), value))
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of<const N: usize>(all: [&str; N]) -> Patterns<()> {
        let mut patterns = Patterns::new();
        for pattern in all {
            patterns.insert(pattern, ()).unwrap();
        }
        patterns
    }

    fn found<'p>(patterns: &'p Patterns<()>, task_type: &str) -> Option<&'p str> {
        patterns.find(task_type).map(|(pattern, ())| pattern)
    }

    #[test]
    fn blank_and_second_registrations_are_refused_in_the_words_of_go() {
        let mut patterns = of(["a"]);
        for blank in ["", " \t"] {
            let refused = patterns.insert(blank, ()).unwrap_err();
            assert_eq!(refused.to_string(), "asynq: invalid pattern");
        }
        let refused = patterns.insert("a", ()).unwrap_err();
        assert_eq!(refused.to_string(), "asynq: multiple registrations for a");
        assert_eq!(patterns.iter().count(), 1);
    }

    #[test]
    fn the_longest_prefix_wins_and_what_sorts_between_does_not_hide_it() {
        let patterns = of(["email", "email:", "email:send", "email:a", "f"]);
        for (task_type, expected) in [
            ("email", Some("email")),
            ("emails", Some("email")),
            ("email:send", Some("email:send")),
            ("email:sender", Some("email:send")),
            ("email:b", Some("email:")),
            ("email:sand", Some("email:")),
            ("emai", None),
            ("", None),
        ] {
            assert_eq!(found(&patterns, task_type), expected, "{task_type}");
        }
        // The signs of euro and kip share two of their three bytes.
        let patterns = of(["p", "p€"]);
        assert_eq!(found(&patterns, "p₭x"), Some("p"));
    }

    proptest! {
        /// Go compares with each pattern in turn.
        #[test]
        fn finds_what_a_search_through_all_finds(
            all in prop::collection::btree_set("[ab:é€]{1,5}", 0..12),
            task_type in "[ab:é€]{0,7}",
        ) {
            let mut patterns = Patterns::new();
            for pattern in &all {
                patterns.insert(pattern.clone(), ()).unwrap();
            }
            let expected = all.iter().filter(|p| task_type.starts_with(p.as_str())).max_by_key(|p| p.len());
            prop_assert_eq!(found(&patterns, &task_type), expected.map(String::as_str));
        }
    }
}
