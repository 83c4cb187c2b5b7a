//! The arguments of a script.

use asynq_core::{clock::exact_millis, keys, names::QueueName};
use chrono::{DateTime, Utc};

/// ARGV as it grows.
#[derive(Debug, Default)]
pub(crate) struct Args(Vec<Vec<u8>>);

impl Args {
    /// Room for `n`.
    pub(crate) fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    /// A number.
    pub(crate) fn int(mut self, value: i64) -> Self {
        self.push_int(value);
        self
    }

    /// A text.
    pub(crate) fn text(mut self, value: &str) -> Self {
        self.push(value);
        self
    }

    /// A number.
    pub(crate) fn push_int(&mut self, value: i64) {
        self.0.push(value.to_string().into_bytes());
    }

    /// A time, as `include/exact.lua` takes it.
    pub(crate) fn push_time(&mut self, at: DateTime<Utc>) {
        match exact_millis(at) {
            Some(millis) => self.push(format!("{}:{millis}", at.timestamp())),
            None => self.push_int(at.timestamp()),
        }
    }

    /// A count.
    pub(crate) fn push_count(&mut self, value: usize) {
        self.0.push(value.to_string().into_bytes());
    }

    /// A text or bytes.
    pub(crate) fn push(&mut self, value: impl AsRef<[u8]>) {
        self.0.push(value.as_ref().to_vec());
    }

    /// Bytes that are given away.
    pub(crate) fn push_owned(&mut self, value: Vec<u8>) {
        self.0.push(value);
    }

    /// Returns the number of arguments.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends all of `more`.
    pub(crate) fn append(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }

    /// Returns the arguments.
    pub(crate) fn done(self) -> Vec<Vec<u8>> {
        self.0
    }
}

/// Keys of a queue by their suffixes.
pub(crate) fn keys_of(queue: &QueueName, suffixes: &[&str]) -> Vec<Vec<u8>> {
    suffixes
        .iter()
        .map(|suffix| keys::of_queue(queue, suffix).into_bytes())
        .collect()
}

/// The pattern that SCAN finds the queue's keys by whose suffix begins so.
pub(crate) fn pattern_of(queue: &QueueName, suffix: &str) -> String {
    let mut pattern = String::new();
    for c in keys::of_queue(queue, suffix).chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

/// A bound for a script, as its argument.
pub(crate) fn bound(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_name_and_nothing_else() {
        let queue = QueueName::new(r"a*b?[c]\").unwrap();
        assert_eq!(pattern_of(&queue, ""), r"asynq:{a\*b\?\[c\]\\}:*");
        assert_eq!(pattern_of(&queue, "g:"), r"asynq:{a\*b\?\[c\]\\}:g:*");
    }
}
