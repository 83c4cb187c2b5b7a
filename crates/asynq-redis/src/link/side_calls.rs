//! Calls beside the main connection of a link, and the making of the connections for them.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{owned::Owned, settings::Settings, side_connections::Role, socket::Peer, state::LinkState, wire::Wire};

/// Time for which a call waits for a connection that is being made. It then takes the main one.
const WAIT: Duration = Duration::from_secs(2);
/// Least time between the beginnings of two attempts.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl LinkState {
    /// The connection for calls of this kind, or the main one where there is none.
    pub(super) async fn beside(self: &Arc<Self>, main: Arc<Wire>, role: Role) -> Arc<Wire> {
        let found = || self.sides.to(role, main.peer());
        if let Some(wire) = found() {
            return wire;
        }
        let mut told = self.sides.side(role).subscribe();
        if self.open_side(role, main.peer()) {
            // Made in the background: one that is slow to come must not keep a lease waiting.
            let _ = timeout(WAIT, told.wait_for(|side| side.opening.is_none())).await;
        }
        found().unwrap_or(main)
    }

    /// Begins to make a connection. Whether one is being made.
    fn open_side(self: &Arc<Self>, role: Role, peer: &Peer) -> bool {
        let mut opens = true;
        self.sides.side(role).send_if_modified(|side| {
            if side.opening.is_some() || side.to(peer).is_some() {
                return false;
            }
            opens = !self.is_closed() && side.tried.is_none_or(|tried| tried.elapsed() >= TRY_AGAIN_AFTER);
            if opens {
                let core = Arc::downgrade(self);
                let (settings, peer, bits) = (self.settings.clone(), peer.clone(), self.env.entropy.bits());
                side.tried = Some(Instant::now());
                side.opening = Some(Owned::spawn(async move {
                    let wire = open(&settings, &peer, role, bits).await;
                    if let Some(core) = core.upgrade() {
                        core.side_opened(role, wire);
                    }
                }));
            }
            opens
        });
        opens
    }

    fn side_opened(&self, role: Role, wire: Option<Wire>) {
        self.sides.side(role).send_modify(|side| {
            side.opening = None;
            // Under the lock, which whoever closes the link or turns it to another server takes after that.
            let main = self.state.live().ok().flatten();
            let leads_there = |wire: &Wire| main.is_some_and(|main| main.peer() == wire.peer());
            side.live = wire.filter(leads_there).map(Arc::new);
        });
    }
}

async fn open(settings: &Settings, peer: &Peer, role: Role, bits: u64) -> Option<Wire> {
    match Wire::open_to(settings, Some(peer), role.suffix(), None, bits).await {
        Ok(wire) => Some(wire),
        Err(error) => {
            tracing::debug!(server = %settings, ?role, %error, "no separate connection; using the main one");
            None
        }
    }
}
