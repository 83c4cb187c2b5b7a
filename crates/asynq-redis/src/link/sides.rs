//! Connections beside the main one of a link, so that what must be timely waits behind no data.
//!
//! The control connection carries small calls that must not be late, such as the extension of leases; the data
//! connection carries large calls. The main one carries the rest: takes and outcomes, and calls whose answer may
//! be large. The two are made when they are first needed, lead to the same server as the main one, log in as it
//! does, and are watched over in the same way. Where one cannot be had, its calls take the main one.
//!
//! Calls on different connections may overtake each other. So only such calls go here as are safe in any order:
//! their scripts check by themselves that they still apply, and [`Sides::open_ones`] is there for what must
//! come last.

use std::{mem, sync::Arc, time::Duration};

use asynq_core::broker::LARGE_BYTES;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Core, current::Mortal as _, owned::Owned, settings::Settings, socket::Peer, wire::Wire};

/// Up to so many bytes of arguments, a call is small.
const SMALL: usize = 64 << 10;
/// Time for which a call waits for a connection that is being made. It then takes the main one.
const WAIT: Duration = Duration::from_secs(2);
/// Least time between the beginnings of two attempts.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The way in which a call travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A small call must not wait behind data.
    Timely,
    /// No call waits behind a large one.
    Apart,
}

impl Way {
    /// The connection for these arguments; `None` is the main one.
    fn role(self, args: &[Vec<u8>]) -> Option<Role> {
        match self {
            Self::Timely if args.iter().map(Vec::len).sum::<usize>() <= SMALL => Some(Role::Control),
            // Many small items are no data: they keep their order on the main one.
            Self::Timely | Self::Apart => args.iter().any(|arg| arg.len() >= LARGE_BYTES).then_some(Role::Data),
        }
    }
}

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Small calls that must not be late.
    Control,
    /// Large calls.
    Data,
}

impl Role {
    /// The end of its name in CLIENT LIST.
    fn suffix(self) -> &'static str {
        match self {
            Self::Control => ":control",
            Self::Data => ":data",
        }
    }
}

/// The connections of a link but for the main one.
#[derive(Debug, Default)]
pub(crate) struct Sides {
    control: watch::Sender<Side>,
    data: watch::Sender<Side>,
}

#[derive(Debug, Default)]
struct Side {
    live: Option<Arc<Wire>>,
    /// Makes the connection, whoever waits for it.
    opening: Option<Owned>,
    /// Beginning of the last attempt.
    tried: Option<Instant>,
}

impl Side {
    /// The connection, if it leads to where the main one does.
    fn to(&self, peer: &Peer) -> Option<&Arc<Wire>> {
        self.live.as_ref().filter(|wire| !wire.is_over() && wire.peer() == peer)
    }
}

impl Sides {
    fn side(&self, role: Role) -> &watch::Sender<Side> {
        match role {
            Role::Control => &self.control,
            Role::Data => &self.data,
        }
    }

    fn to(&self, role: Role, peer: &Peer) -> Option<Arc<Wire>> {
        self.side(role).borrow().to(peer).cloned()
    }

    /// The connections that are open, to where the main one leads.
    pub(crate) fn open_ones(&self, main: &Wire) -> Vec<Arc<Wire>> {
        let roles = [Role::Control, Role::Data];
        roles
            .into_iter()
            .filter_map(|role| self.to(role, main.peer()))
            .collect()
    }

    /// Ends them: calls without answer become ambiguous. New ones are made when they are needed.
    pub(crate) fn cut(&self) {
        for side in [&self.control, &self.data] {
            side.send_modify(|side| {
                side.opening = None;
                if let Some(wire) = mem::take(&mut side.live) {
                    wire.cut();
                }
            });
        }
    }
}

impl Core {
    /// The connection for a call with these arguments. The main one is that for most.
    pub(super) async fn beside(self: &Arc<Self>, main: Arc<Wire>, way: Way, args: &[Vec<u8>]) -> Arc<Wire> {
        let Some(role) = way.role(args) else { return main };
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
