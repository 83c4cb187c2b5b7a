//! The settings of a client.

use std::time::Duration;

use super::limits::message_limit_problem;
use crate::{
    error::{ConfigError, ConfigFault, Result},
    options::DEFAULT_MAX_MESSAGE_BYTES,
};

/// Settings of a client, or of the client part of an `AsynqSystem`. Go's client has no settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    pub(crate) enqueue_timeout: Duration,
    pub(crate) max_waiting: usize,
    pub(crate) max_waiting_bytes: usize,
    pub(crate) max_message_bytes: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            enqueue_timeout: Duration::from_secs(10),
            max_waiting: 4096,
            max_waiting_bytes: 64 << 20,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
        }
    }
}

impl ClientConfig {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time after which an enqueue is given up, 10 ms to 1 h. Default: 10 s.
    #[must_use]
    pub fn enqueue_timeout(mut self, timeout: Duration) -> Self {
        self.enqueue_timeout = timeout;
        self
    }

    /// Sets the number of enqueues that may wait for their answer at once, 1 to 1 000 000. Above it, `enqueue` waits
    /// and `try_enqueue` refuses. Default: 4096.
    #[must_use]
    pub fn max_waiting(mut self, tasks: usize) -> Self {
        self.max_waiting = tasks;
        self
    }

    /// Sets the limit of the bytes of all waiting enqueues, 1 MiB to 1 GiB. A task counts with its encoded message,
    /// its headers, and the memory around them, but with at most this limit. While a batch of up to 200 tasks is
    /// being sent, it is in memory a second time. Default: 64 MiB.
    #[must_use]
    pub fn max_waiting_bytes(mut self, bytes: usize) -> Self {
        self.max_waiting_bytes = bytes;
        self
    }

    /// Sets the limit of one encoded message, in bytes: payload, headers, type and all other fields; 1 KiB to 510
    /// MiB, about the maximum of Redis. A larger message is refused before anything is sent, with
    /// [`TaskError::TooLarge`](crate::TaskError::TooLarge) for `message size`. Default: 16 MiB.
    ///
    /// A message is sent as a whole, so a slow connection needs time for it: 16 MiB at 1 MB/s take 17 s.
    /// [`enqueue_timeout`](Self::enqueue_timeout) must allow for this time. The server that takes the task needs as
    /// long again.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults, each naming the field and its limits.
    pub fn validate(&self) -> Result<ClientSettings, ConfigError> {
        let mut faults = Vec::new();
        let mut fault = |field, problem| faults.push(ConfigFault { field, problem });
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
        if !(least..=most).contains(&self.enqueue_timeout) {
            fault(
                "enqueue_timeout",
                format!("must be {least:?} to {most:?}, not {:?}", self.enqueue_timeout),
            );
        }
        if !(1..=1_000_000).contains(&self.max_waiting) {
            fault("max_waiting", format!("must be 1 to 1000000, not {}", self.max_waiting));
        }
        if let Some(problem) = message_limit_problem(self.max_message_bytes) {
            fault("max_message_bytes", problem);
        }
        if !(1 << 20..=1 << 30).contains(&self.max_waiting_bytes) {
            fault(
                "max_waiting_bytes",
                format!("must be 1048576 to 1073741824, not {}", self.max_waiting_bytes),
            );
        }
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        Ok(ClientSettings {
            enqueue_timeout: self.enqueue_timeout,
            max_waiting: self.max_waiting,
            max_waiting_bytes: self.max_waiting_bytes,
            max_message_bytes: self.max_message_bytes,
        })
    }
}

/// A checked [`ClientConfig`], with which the runtime works.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is the setting of the same name of ClientConfig")]
pub struct ClientSettings {
    pub enqueue_timeout: Duration,
    pub max_waiting: usize,
    pub max_waiting_bytes: usize,
    pub max_message_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_limits_are_checked() {
        ClientConfig::new().validate().unwrap();
        let bad = ClientConfig::new()
            .enqueue_timeout(Duration::ZERO)
            .max_waiting(0)
            .max_waiting_bytes(1)
            .max_message_bytes(1023);
        let error = bad.validate().unwrap_err();
        assert_eq!(error.faults.len(), 4);
        let limits = "max_message_bytes must be 1024 to 534773760, not 1023";
        assert!(error.to_string().contains(limits), "{error}");
    }
}
