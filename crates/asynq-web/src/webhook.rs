//! [`Webhook`]: posts what newly needs attention to a URL.

mod delivery;
mod news;
mod secret;

use std::{fmt, sync::Arc, time::Duration};

use asynq::{Inspector, broker::Storage, entropy::Entropy, findings::Severity};
use reqwest::Url;

use self::{
    delivery::{Delivery, Failure},
    news::News,
    secret::Secret,
};

/// Posts new findings to a URL: each finding once, for as long as it stays, and again if it comes back after it went, or
/// becomes more serious. The messages follow [Standard Webhooks](https://www.standardwebhooks.com).
///
/// ```no_run
/// use asynq::{broker::Connector as _, findings::Severity, memory::MemoryStore};
/// use asynq_web::Webhook;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let storage = MemoryStore::new();
/// let storage = storage.connect(storage.env()).await?;
/// let hook = Webhook::new("https://hooks.example.com/asynq", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?
///     .at_least(Severity::Warning);
/// // In a task of its own, until the program ends.
/// hook.run(storage).await;
/// # Ok(())
/// # }
/// ```
///
/// # The message
///
/// The request is a `POST` with a body in JSON:
///
/// ```json
/// {
///   "type": "asynq.findings.new",
///   "timestamp": "2025-03-01T12:00:00Z",
///   "data": {
///     "findings": [
///       {"severity": "warning", "queue": "mail", "kind": "quarantine", "tasks": 3, "text": "…", "command": "…"}
///     ],
///     "left_out": 0
///   }
/// }
/// ```
///
/// A message has at most 100 findings, most serious first, and 256 KiB; `left_out` counts the others of that look. The fields of
/// a finding are those of `/api/v1/findings`. `webhook-signature` is `v1,` and the base64 of an HMAC-SHA256 over
/// `webhook-id`, `webhook-timestamp` and the body, joined by full stops. All attempts at a message have the same
/// `webhook-id`, so that a receiver can drop those that come twice.
///
/// # Failures
///
/// A message that is not answered with a status of 200 to 299 within [`timeout`](Self::timeout) is sent again up to 7
/// times, after growing waits. After that, and at once where the status says that another attempt makes no sense, its findings count
/// as not posted: those that are still there are in the next message. Redirects are failures and are not followed, and the body of
/// an answer is not read.
///
/// After a start of the program all findings are new. Several programs with a webhook post for themselves: give it to one of
/// them only.
pub struct Webhook {
    url: Url,
    secret: Secret,
    every: Duration,
    timeout: Duration,
    waits: (Duration, Duration),
    least: Severity,
}

/// A reason why a webhook cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// The URL is not one of `https` or `http` with a host, or has a name or a password in it.
    #[error("webhook URL: it must begin with https:// or http://, and have a host and no password")]
    Url,
    /// The secret is not `whsec_` and the base64 of 24 to 64 bytes.
    #[error("webhook secret: it must be `whsec_` and the base64 of 24 to 64 bytes")]
    Secret,
    /// A duration is out of range.
    #[error("webhook {field}: it must be {least:?} to {most:?}")]
    Duration {
        /// The setting.
        field: &'static str,
        /// The least value.
        least: Duration,
        /// The greatest value.
        most: Duration,
    },
    /// The program cannot make connections.
    #[error("webhook: {0}")]
    Client(String),
}

impl Webhook {
    /// Returns a webhook for this URL, whose messages are signed with this secret. Plain `http` is for receivers on this
    /// machine or in a safe network.
    ///
    /// # Errors
    /// [`WebhookError::Url`] and [`WebhookError::Secret`].
    pub fn new(url: &str, secret: &str) -> Result<Self, WebhookError> {
        let url = Url::parse(url).map_err(|_| WebhookError::Url)?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() || !is_plain {
            return Err(WebhookError::Url);
        }
        Ok(Self {
            url,
            secret: Secret::parse(secret).ok_or(WebhookError::Secret)?,
            every: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            waits: (Duration::from_secs(1), Duration::from_secs(60)),
            least: Severity::Notice,
        })
    }

    /// Sets the time between two looks at the findings: half to one and a half times this, 100 ms to a day. Default: one minute.
    ///
    /// # Errors
    /// [`WebhookError::Duration`].
    pub fn every(mut self, interval: Duration) -> Result<Self, WebhookError> {
        self.every = within("interval", interval, Duration::from_millis(100), DAY)?;
        Ok(self)
    }

    /// Sets the longest time that one attempt may take, 10 ms to a minute. Default: 10 s.
    ///
    /// # Errors
    /// [`WebhookError::Duration`].
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, WebhookError> {
        self.timeout = within("timeout", timeout, Duration::from_millis(10), Duration::from_secs(60))?;
        Ok(self)
    }

    /// Sets the wait after the first failed attempt, which doubles with each further one up to `longest`. Half to one and a half
    /// times that is waited. 10 ms to an hour. Default: 1 s, up to 60 s.
    ///
    /// # Errors
    /// [`WebhookError::Duration`].
    pub fn waits(mut self, first: Duration, longest: Duration) -> Result<Self, WebhookError> {
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
        let first = within("first wait", first, least, most)?;
        self.waits = (first, within("longest wait", longest, first, most)?);
        Ok(self)
    }

    /// Posts only findings that are at least so serious. Default: all.
    #[must_use]
    pub fn at_least(mut self, severity: Severity) -> Self {
        self.least = severity;
        self
    }

    /// Looks at the findings of a storage at intervals, and posts the new ones. It ends only if the receiver answers `410
    /// Gone`, which asks for no further messages, or if the program cannot make connections; both are logged.
    ///
    /// # Cancel safety
    /// Safe: dropped, it posts no more. A message that was under way may have arrived.
    pub async fn run(self, storage: Arc<dyn Storage>) {
        let delivery = match Delivery::new(self.url, self.secret, self.timeout, self.waits) {
            Ok(delivery) => delivery,
            Err(error) => {
                tracing::error!(%error, "the webhook cannot be used");
                return;
            }
        };
        let (inspector, entropy) = (Inspector::new(storage), Entropy::from_os());
        let mut news = News::new(self.least);
        loop {
            match inspector.findings().await {
                Ok(findings) => {
                    if let Some(message) = news.message(&findings) {
                        match delivery.deliver(&message, &entropy).await {
                            Ok(()) => {
                                tracing::debug!(findings = message.keys.len(), "findings posted to the webhook");
                                news.posted(message);
                            }
                            Err(Failure::Gone) => {
                                tracing::error!("the receiver of the webhook is gone, and gets no further messages");
                                return;
                            }
                            Err(failure) => {
                                tracing::error!(%failure, findings = message.keys.len(), "findings were not posted to the webhook");
                            }
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "the findings for the webhook could not be read"),
            }
            tokio::time::sleep(entropy.around(self.every)).await;
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn within(field: &'static str, value: Duration, least: Duration, most: Duration) -> Result<Duration, WebhookError> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(WebhookError::Duration { field, least, most }),
    }
}

impl fmt::Debug for Webhook {
    /// Without the secret, and without the URL, which may have one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("host", &self.url.host_str())
            .field("every", &self.every)
            .field("least", &self.least)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn wrong_settings_are_refused() {
        for url in [
            "",
            "hooks.example.com",
            "ftp://a",
            "file:///a",
            "https://u:p@a/",
            "https://u@a/",
            "data:x",
        ] {
            assert_eq!(Webhook::new(url, SECRET).unwrap_err(), WebhookError::Url, "{url}");
        }
        for secret in [
            "",
            "whsec_",
            "whsec_!",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_c2hvcnQ=",
        ] {
            let error = Webhook::new("https://a/", secret).unwrap_err();
            assert_eq!(error, WebhookError::Secret, "{secret}");
        }
        let hook = || Webhook::new("https://hooks.example.com/t0k3n", SECRET).unwrap();
        assert!(hook().every(Duration::ZERO).is_err() && hook().every(Duration::MAX).is_err());
        assert!(hook().timeout(Duration::from_secs(61)).is_err());
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(2));
        assert!(hook().waits(long, short).is_err() && hook().waits(short, long).is_ok());
        let shown = format!("{:?}", hook());
        assert!(
            shown.contains("hooks.example.com") && !shown.contains("t0k3n") && !shown.contains("MfKQ"),
            "{shown}"
        );
    }
}
