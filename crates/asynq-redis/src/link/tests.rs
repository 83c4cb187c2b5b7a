//! The link against real servers, and against a proxy that fails on demand.

mod barrier;
mod calls;
mod fake;
mod half_open;
mod liveness;
mod login;
#[cfg(feature = "sentinel")]
mod masters;
mod side_connections;
mod subscribing;
#[cfg(feature = "tls")]
mod tls;
mod watching;

use std::{fmt::Debug, future::Future, time::Duration};

use asynq_core::{broker::Env, error::BrokerError};
use redis::Value;

use super::{
    Link, Script,
    current::{Mortal, State},
    settings::Pace,
};
use crate::{link::Settings, uri};

/// Counts a key up: whether it ran, and how often, shows.
static COUNT: Script = Script::new("count", "return redis.call('INCR', KEYS[1])");
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Settings that wait long enough for a server to come back.
fn settings(url: &str) -> Settings {
    let mut settings = uri::parse(url).unwrap();
    settings.connect_timeout = LIMIT;
    settings.wait_timeout = LIMIT;
    settings
}

async fn open(url: &str) -> Link {
    Link::open(settings(url), Env::default()).await.unwrap()
}

/// Notices a dead connection soon.
fn impatient(url: &str) -> Settings {
    let ms = Duration::from_millis;
    let pace = Pace {
        tick: ms(10),
        slow: ms(50),
        ping_after: ms(50),
        check_after: ms(50),
        dead_after: ms(200),
        ping_timeout: ms(1000),
    };
    Settings { pace, ..settings(url) }
}

/// Asks a silent connection soon, and waits for the answer.
fn attentive(url: &str) -> Settings {
    let mut settings = impatient(url);
    settings.pace.ping_timeout = LIMIT;
    settings
}

fn cmd(words: &[&str]) -> redis::Cmd {
    let mut cmd = redis::Cmd::new();
    for word in words {
        cmd.arg(*word);
    }
    cmd
}

async fn count(link: &Link, key: &str) -> Result<i64, BrokerError> {
    link.eval(&COUNT, vec![key.into()], Vec::new()).await.map(int)
}

fn int(value: Value) -> i64 {
    match value {
        Value::Int(number) => number,
        other => panic!("not a number: {other:?}"),
    }
}

fn text(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text,
        other => panic!("not a text: {other:?}"),
    }
}

/// The code of the reply inside a refusal.
fn refusal(error: BrokerError) -> String {
    match error {
        BrokerError::Refused { source } => source.to_string().split(' ').next().unwrap().to_owned(),
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits until another connection than `before` is live, and gives its number.
async fn replaced(link: &Link, before: u64) -> u64 {
    let mut states = link.core.state.subscribe();
    let found = states.wait_for(|state| matches!(state, State::Up(wire) if wire.number() != before && !wire.is_over()));
    within(found).await.unwrap();
    link.connection()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it takes too long")
}

/// Asks a foreign process until it says so: it cannot tell us.
async fn until<F: Future<Output = bool>>(mut ask: impl FnMut() -> F) {
    within(async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Asks until it is answered: who is impatient gives up a connection, too, whose server is slow.
async fn at_last<T, F: Future<Output = Result<T, BrokerError>>>(mut ask: impl FnMut() -> F) -> T {
    within(async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    })
    .await
}

fn is<T: Debug>(answer: Result<T, BrokerError>, expected: fn(&BrokerError) -> bool) {
    match answer {
        Err(error) if expected(&error) => {}
        other => panic!("unexpected: {other:?}"),
    }
}

fn ambiguous(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Ambiguous { .. })
}

fn unavailable(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Unavailable { .. })
}

fn unsupported(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Unsupported { .. })
}

fn closed(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Closed)
}
