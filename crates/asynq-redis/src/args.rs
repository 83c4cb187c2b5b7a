//! The arguments of a script.

use std::{
    fmt,
    io::{self, Write},
};

use asynq_core::{
    clock::exact_millis,
    keys,
    message::{self, TaskMessage},
    names::QueueName,
};
use chrono::{DateTime, Utc};
use redis::{Arg, Cmd, RedisWrite as _};

/// KEYS or ARGV as they grow, one behind the other in one buffer.
#[derive(Clone, Default)]
pub(crate) struct Args {
    words: Cmd,
    count: usize,
    bytes: usize,
    largest: usize,
}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Args({} of {} bytes)", self.count, self.bytes)
    }
}

impl Args {
    /// Room for `n`.
    pub(crate) fn with_capacity(n: usize) -> Self {
        Self::sized(n, 0)
    }

    /// Room for `n` that take so many bytes together.
    pub(crate) fn sized(n: usize, bytes: usize) -> Self {
        Self {
            words: Cmd::with_capacity(n, bytes),
            ..Self::default()
        }
    }

    fn count(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
        self.largest = self.largest.max(bytes);
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
        self.push_display(value);
    }

    /// A time, as `include/exact.lua` takes it.
    pub(crate) fn push_time(&mut self, at: DateTime<Utc>) {
        match exact_millis(at) {
            Some(millis) => self.push_display(format_args!("{}:{millis}", at.timestamp())),
            None => self.push_int(at.timestamp()),
        }
    }

    /// A count.
    pub(crate) fn push_count(&mut self, value: usize) {
        self.push_display(value);
    }

    /// The text of a value.
    pub(crate) fn push_display(&mut self, value: impl fmt::Display) {
        let mut text = Counted(self.words.writer_for_next_arg(), 0);
        // Writing to a buffer that grows cannot fail.
        let _ = write!(text, "{value}");
        let bytes = text.1;
        drop(text);
        self.count(bytes);
    }

    /// A text or bytes.
    pub(crate) fn push(&mut self, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.words.write_arg(value);
        self.count(value.len());
    }

    /// A message as it is stored.
    pub(crate) fn push_message(&mut self, message: &TaskMessage) {
        let bytes = message::encoded_len(message);
        message::encode_into(message, &mut self.words.bufmut_for_next_arg(bytes));
        self.count(bytes);
    }

    /// Returns the number of arguments.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Returns the number of bytes of all arguments.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of bytes of the largest argument.
    pub(crate) fn largest(&self) -> usize {
        self.largest
    }

    /// Returns the first argument.
    #[cfg(feature = "cluster")]
    pub(crate) fn first(&self) -> Option<&[u8]> {
        self.iter().next()
    }

    /// Returns the arguments, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.words.args_iter().map(word_of)
    }

    /// Appends all of `more`.
    pub(crate) fn append(&mut self, more: &Self) {
        for word in more.iter() {
            self.push(word);
        }
    }
}

/// Counts the bytes that it writes.
struct Counted<W>(W, usize);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1 += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn word_of(word: Arg<&[u8]>) -> &[u8] {
    match word {
        Arg::Simple(word) => word,
        // No cursor is ever written.
        _ => b"0",
    }
}

impl<W: AsRef<[u8]>> FromIterator<W> for Args {
    fn from_iter<I: IntoIterator<Item = W>>(words: I) -> Self {
        let mut args = Self::default();
        args.extend(words);
        args
    }
}

impl<W: AsRef<[u8]>> Extend<W> for Args {
    fn extend<I: IntoIterator<Item = W>>(&mut self, words: I) {
        words.into_iter().for_each(|word| self.push(word));
    }
}

impl From<Vec<Vec<u8>>> for Args {
    fn from(words: Vec<Vec<u8>>) -> Self {
        words.into_iter().collect()
    }
}

/// Keys of a queue by their suffixes.
pub(crate) fn keys_of(queue: &QueueName, suffixes: &[&str]) -> Args {
    const FRAME: usize = "asynq:{}:".len();
    let bytes = suffixes
        .iter()
        .map(|suffix| FRAME + queue.as_str().len() + suffix.len())
        .sum();
    let mut keys = Args::sized(suffixes.len(), bytes);
    for suffix in suffixes {
        keys.push_display(keys::KeyOf(queue, suffix));
    }
    keys
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
    fn arguments_stand_in_their_order_and_are_counted() {
        let at = DateTime::from_timestamp_millis(1_700_000_000_250).unwrap();
        let message = TaskMessage {
            r#type: "t".to_owned(),
            payload: vec![0xff; 40].into(),
            ..TaskMessage::default()
        };
        let mut args = Args::sized(3, 8).int(-7).text("");
        args.push_time(at);
        args.push_message(&message);
        let mut more = Args::default();
        more.push_count(12);
        more.push_display(format_args!("{}{}", 'p', "x"));
        args.append(&more);
        let encoded = message::encode(&message);
        let sent: [&[u8]; 6] = [b"-7", b"", b"1700000000:1700000000250", &encoded, b"12", b"px"];
        assert_eq!(args.iter().collect::<Vec<_>>(), sent);
        assert_eq!(args.len(), sent.len());
        assert_eq!(args.bytes(), sent.iter().map(|word| word.len()).sum::<usize>());
        assert_eq!(args.largest(), encoded.len());
    }

    #[test]
    fn a_pattern_means_the_name_and_nothing_else() {
        let queue = QueueName::new(r"a*b?[c]\").unwrap();
        assert_eq!(pattern_of(&queue, ""), r"asynq:{a\*b\?\[c\]\\}:*");
        assert_eq!(pattern_of(&queue, "g:"), r"asynq:{a\*b\?\[c\]\\}:g:*");
    }
}
