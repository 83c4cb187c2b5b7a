//! Subscriptions, each on a connection of its own.
//!
//! They speak RESP2, which every server does and in which a subscribed connection can be asked
//! for a sign of life too.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use asynq_core::error::BrokerError;
use futures::{Stream, StreamExt};
use redis::{
    Msg, RedisConnectionInfo,
    aio::{PubSub, PubSubSink},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    failure::classify,
    link::{
        liveness::{self, Liveness},
        server_check::ServerCheck,
        settings::Settings,
        socket::{self, Opened, Peer},
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
    /// Returns once the server has confirmed: the one that `peer` leads to, else that of the settings.
    pub(crate) async fn subscribe(
        &self,
        settings: &Settings,
        peer: Option<&Peer>,
        is_closed: &(dyn Fn() -> bool + Sync),
        channel: &str,
    ) -> Result<mpsc::Receiver<Vec<u8>>, BrokerError> {
        if is_closed() {
            return Err(BrokerError::Closed);
        }
        let limit = settings.connect_timeout;
        let opened = timeout(limit, open(settings, peer, channel)).await;
        let (pubsub, liveness) =
            opened.unwrap_or_else(|_| Err(BrokerError::unavailable(format!("no subscription within {limit:?}"))))?;
        let (messages, receiver) = mpsc::channel(WAITING_MESSAGES);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, which closing takes after it has marked the link as closed.
        if is_closed() {
            return Err(BrokerError::Closed);
        }
        while tasks.try_join_next().is_some() {}
        tasks.spawn(carry(pubsub, messages, liveness));
        Ok(receiver)
    }

    /// Ends all; more may follow.
    pub(crate) fn end_all(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

async fn open(settings: &Settings, peer: Option<&Peer>, channel: &str) -> Result<(PubSub, Liveness), BrokerError> {
    let Opened { stream, activity, peer } = socket::open(settings, peer).await?;
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
    let liveness = Liveness {
        activity,
        check: ServerCheck {
            settings: Arc::new(settings.clone()),
            peer,
            id: None,
        },
        pace: settings.pace,
        to: settings.to_string(),
        doubt: watch::Sender::new(false),
    };
    Ok((pubsub, liveness))
}

/// Passes messages on until the connection is lost, is dead, or nobody listens any more.
async fn carry(pubsub: PubSub, messages: mpsc::Sender<Vec<u8>>, liveness: Liveness) {
    let (sink, stream) = pubsub.split();
    tokio::select! {
        () = forward(stream, &messages) => {}
        () = until_dead(sink, &liveness) => {}
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

async fn until_dead(sink: PubSubSink, liveness: &Liveness) {
    let ping = || -> liveness::Asked<bool> {
        let mut sink = sink.clone();
        Box::pin(async move { sink.ping::<redis::Value>().await.is_ok() })
    };
    liveness.until_dead(ping, || None, || {}).await;
}
