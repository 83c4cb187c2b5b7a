//! The keeper of a link: replaces its connection whenever it is lost or leads to the wrong server.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

#[cfg(feature = "sentinel")]
use super::settings::Address;
use super::{
    backoff::{REPORT_EVERY, STOOD_WELL, backoff},
    current::{Mortal as _, State},
    state::LinkState,
    wire::Wire,
};
use crate::clock_sync;

/// Time after which sentinels are asked again while a connection is silent.
#[cfg(feature = "sentinel")]
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Does the background work of a connection for as long as the link lives.
pub(super) async fn attend(core: Arc<LinkState>, wire: Arc<Wire>) {
    #[cfg(feature = "sentinel")]
    if let Address::Master(sentinels) = &core.settings.address {
        let listen = Arc::clone(sentinels).listen(&core.settings, &core.env, &core.switched);
        futures::future::join(keep(&core, wire), listen).await;
        return;
    }
    keep(&core, wire).await;
}

/// A reason to replace a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Lost,
    ReadOnly,
    /// Sentinels call another server the master.
    Switched,
}

/// Replaces the connection whenever it is lost or leads to the wrong server.
pub(super) async fn keep(core: &LinkState, mut wire: Arc<Wire>) {
    let mut attempt = 0;
    let mut since = Instant::now();
    loop {
        let why = tokio::select! {
            () = wire.over() => Why::Lost,
            () = core.elsewhere.notified() => Why::ReadOnly,
            () = another_master(core, &wire) => Why::Switched,
            () = clock_sync::keep_in_sync(&core.env.clock, &*wire) => continue,
        };
        if since.elapsed() >= STOOD_WELL {
            attempt = 0;
        }
        match why {
            Why::Lost => {
                tracing::warn!(server = %core.settings, "the connection to Redis is lost");
                core.state.set(State::Down(None));
            }
            Why::ReadOnly if attempt == 0 => {
                tracing::warn!(server = %core.settings, "this Redis is read-only; connecting again");
            }
            Why::Switched => {
                tracing::warn!(server = %core.settings, "there is another master; connecting to it");
                attempt = 0;
            }
            Why::ReadOnly => {}
        }
        let before = Arc::clone(&wire);
        wire = reconnect(core, Some(&before), &mut attempt).await;
        since = Instant::now();
        // The new one may lead to another server: watch and listen there.
        core.watcher.begin_anew();
        let elsewhere = wire.peer() != before.peer();
        if elsewhere {
            core.subscriptions.end_all();
        }
        // The one before, if it lives, ends with its last call.
        core.state.set(State::Up(Arc::clone(&wire)));
        if elsewhere {
            core.sides.cut();
        }
        if why == Why::Switched {
            // Nothing that the old master still does counts. What waits for it is ambiguous now, and not
            // only when it turns out to be silent.
            before.cut();
        }
    }
}

/// Waits until the sentinels call another server the master than the one that a connection leads to. They
/// are asked when they tell of a failover, and as long as the connection is silent. Without sentinels it
/// waits for ever.
async fn another_master(core: &LinkState, wire: &Wire) {
    #[cfg(feature = "sentinel")]
    if let Address::Master(sentinels) = &core.settings.address {
        loop {
            tokio::select! {
                () = core.switched.notified() => {}
                () = wire.in_doubt() => {}
            }
            if let Ok((host, port)) = sentinels.find_master(&core.settings).await
                && !wire.peer().is(&host, port).await
            {
                return;
            }
            sleep(LOOK_AGAIN_AFTER).await;
        }
    }
    #[cfg(not(feature = "sentinel"))]
    let _ = (core, wire);
    std::future::pending().await
}

/// Waits a while, or until sentinels tell of a failover.
async fn pause(core: &LinkState, wait: Duration) {
    #[cfg(feature = "sentinel")]
    tokio::select! {
        () = sleep(wait) => {}
        () = core.switched.notified() => {}
    }
    #[cfg(not(feature = "sentinel"))]
    {
        let _ = core;
        sleep(wait).await;
    }
}

/// Tries until there is a connection.
pub(super) async fn reconnect(core: &LinkState, before: Option<&Wire>, attempt: &mut u32) -> Arc<Wire> {
    let begun = Instant::now();
    let mut reported: Option<Instant> = None;
    loop {
        pause(core, backoff(&core.env, *attempt)).await;
        *attempt = attempt.saturating_add(1);
        match Wire::open(&core.settings, "", None, core.env.entropy.bits()).await {
            Ok(wire) => {
                clock_sync::sync(&core.env.clock, &wire).await;
                tracing::debug!(server = %core.settings, after = ?begun.elapsed(), "connected to Redis again");
                return Arc::new(wire);
            }
            Err(error) => {
                if reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
                    reported = Some(Instant::now());
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(server = %core.settings, %error, cause, "no connection to Redis; retrying");
                }
                if before.is_none_or(Wire::is_over) {
                    core.state.set(State::Down(Some(Arc::new(error))));
                }
            }
        }
    }
}
