//! Subscriptions, each on a connection of its own.
//!
//! They speak RESP2, which every server does and in which a subscribed connection can be asked
//! for a sign of life too.

use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
};

use asynq_core::error::BrokerError;
use futures::{Stream, StreamExt};
use redis::{
    Msg, RedisConnectionInfo,
    aio::{PubSub, PubSubSink},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    failure::classify,
    link::{
        settings::{Pace, Settings},
        socket,
    },
};

/// Messages that may wait for a slow reader here; more wait in the connection.
const WAITING_MESSAGES: usize = 1024;

/// The subscriptions of a link. They end with it.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    tasks: Mutex<JoinSet<()>>,
}

impl Subscriptions {
    /// Returns once the server has confirmed.
    pub(crate) async fn subscribe(
        &self,
        settings: &Settings,
        is_closed: &(dyn Fn() -> bool + Sync),
        channel: &str,
    ) -> Result<mpsc::Receiver<Vec<u8>>, BrokerError> {
        if is_closed() {
            return Err(BrokerError::Closed);
        }
        let limit = settings.connect_timeout;
        let opened = timeout(limit, open(settings, channel)).await;
        let pubsub =
            opened.unwrap_or_else(|_| Err(BrokerError::unavailable(format!("no subscription within {limit:?}"))))?;
        let (messages, receiver) = mpsc::channel(WAITING_MESSAGES);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, which closing takes after it has marked the link as closed.
        if is_closed() {
            return Err(BrokerError::Closed);
        }
        while tasks.try_join_next().is_some() {}
        tasks.spawn(carry(pubsub, messages, settings.pace));
        Ok(receiver)
    }

    /// Ends all.
    pub(crate) fn close(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

async fn open(settings: &Settings, channel: &str) -> Result<PubSub, BrokerError> {
    let stream = socket::connect(settings).await?;
    let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some((user, password)) = settings.login() {
        info = info.set_username(user).set_password(password);
    }
    let mut pubsub = PubSub::new(&info, stream)
        .await
        .map_err(|error| classify(error, false))?;
    pubsub
        .subscribe(channel)
        .await
        .map_err(|error| classify(error, false))?;
    Ok(pubsub)
}

/// Until the connection is lost, answers no more, or nobody listens any more.
async fn carry(pubsub: PubSub, messages: mpsc::Sender<Vec<u8>>, pace: Pace) {
    let (sink, stream) = pubsub.split();
    tokio::select! {
        () = forward(stream, &messages) => {}
        () = until_silent(sink, pace) => {}
        () = messages.closed() => {}
    }
}

async fn forward(stream: impl Stream<Item = Msg>, messages: &mpsc::Sender<Vec<u8>>) {
    let mut stream = pin!(stream);
    while let Some(message) = stream.next().await {
        if messages.send(message.get_payload_bytes().to_vec()).await.is_err() {
            return;
        }
    }
}

async fn until_silent(mut sink: PubSubSink, pace: Pace) {
    loop {
        sleep(pace.ping_after).await;
        match timeout(pace.ping_timeout, sink.ping::<redis::Value>()).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::warn!("a subscription answers no more and is given up");
                return;
            }
        }
    }
}
