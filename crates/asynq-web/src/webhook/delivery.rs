//! The way of a message to its receiver.

use std::{error::Error as _, time::Duration};

use asynq::entropy::Entropy;
use reqwest::{Client, StatusCode, Url, header};

use super::{WebhookError, news::Message, secret::Secret};
use crate::http_client;

/// Number of attempts at one message.
const ATTEMPTS: u32 = 8;

/// A reason why a message did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the receiver is gone")]
    Gone,
    #[error("the receiver answers with the status {0}, which no other attempt will change")]
    Refused(StatusCode),
    #[error("{0}, {ATTEMPTS} times")]
    GivenUp(String),
}

/// The end of one attempt.
enum Attempt {
    Arrived,
    Final(Failure),
    /// It may succeed later, after this time at the earliest.
    Again(String, Option<Duration>),
}

/// Posts messages.
pub(super) struct Delivery {
    url: Url,
    secret: Secret,
    client: Client,
    waits: (Duration, Duration),
}

impl Delivery {
    pub(super) fn new(
        url: Url,
        secret: Secret,
        timeout: Duration,
        waits: (Duration, Duration),
    ) -> Result<Self, WebhookError> {
        let client = http_client::builder()
            .map_err(WebhookError::Client)?
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            // A message is rare, and an answer is not read.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("asynq-web/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| WebhookError::Client(error.to_string()))?;
        Ok(Self {
            url,
            secret,
            client,
            waits,
        })
    }

    /// Posts a message, and tries again after failures.
    pub(super) async fn deliver(&self, message: &Message, entropy: &Entropy) -> Result<(), Failure> {
        let id = format!("msg_{}", entropy.uuid());
        let (mut wait, longest) = self.waits;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (why, least) = match self.attempt(&id, &message.body).await {
                Attempt::Arrived => return Ok(()),
                Attempt::Final(failure) => return Err(failure),
                Attempt::Again(why, _) if attempts == ATTEMPTS => return Err(Failure::GivenUp(why)),
                Attempt::Again(why, least) => (why, least),
            };
            let pause = entropy.around(wait).max(least.unwrap_or_default().min(longest));
            tracing::warn!(why, ?pause, "a message of the webhook did not arrive, trying again");
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(longest);
        }
    }

    async fn attempt(&self, id: &str, body: &[u8]) -> Attempt {
        let timestamp = chrono::Utc::now().timestamp();
        let request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.secret.sign(id, timestamp, body))
            .body(body.to_vec());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let error = error.without_url();
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                return Attempt::Again(format!("{error}{cause}"), None);
            }
        };
        let status = response.status();
        match status {
            _ if status.is_success() => Attempt::Arrived,
            StatusCode::GONE => Attempt::Final(Failure::Gone),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => again(&response),
            _ if status.is_server_error() => again(&response),
            _ => Attempt::Final(Failure::Refused(status)),
        }
    }
}

fn again(response: &reqwest::Response) -> Attempt {
    let seconds = response.headers().get(header::RETRY_AFTER);
    let seconds = seconds.and_then(|text| text.to_str().ok()?.parse().ok());
    Attempt::Again(
        format!("the receiver answers with the status {}", response.status()),
        seconds.map(Duration::from_secs),
    )
}
