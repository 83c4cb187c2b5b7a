//! Connections beside the main one of a link, so that what must be timely waits behind no data.
//!
//! The control connection carries small calls that must not be late, such as the extension of leases; the data
//! connection carries large calls. The main one carries the rest: takes and outcomes, and calls whose answer may
//! be large. The two are made when they are first needed, lead to the same server as the main one, log in as it
//! does, and are watched over in the same way. Where one cannot be had, its calls take the main one.
//!
//! Calls on different connections may overtake each other. So only such calls go here as are safe in any order:
//! their scripts check by themselves that they still apply, and [`SideConnections::open_ones`] is there for what must
//! come last.

use std::{mem, sync::Arc};

use asynq_core::broker::LARGE_BYTES;
use tokio::{sync::watch, time::Instant};

use super::{current::Mortal as _, owned::Owned, socket::Peer, wire::Wire};
use crate::args::Args;

/// Up to so many bytes of arguments, a call is small.
const SMALL: usize = 64 << 10;

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
    pub(super) fn role(self, args: &Args) -> Option<Role> {
        match self {
            Self::Timely if args.bytes() <= SMALL => Some(Role::Control),
            // Many small items are no data: they keep their order on the main one.
            Self::Timely | Self::Apart => (args.largest() >= LARGE_BYTES).then_some(Role::Data),
        }
    }
}

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Small calls that must not be late.
    Control,
    /// Large calls.
    Data,
}

impl Role {
    /// The end of its name in CLIENT LIST.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Control => ":control",
            Self::Data => ":data",
        }
    }
}

/// The connections of a link but for the main one.
#[derive(Debug, Default)]
pub(crate) struct SideConnections {
    control: watch::Sender<Side>,
    data: watch::Sender<Side>,
}

#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) live: Option<Arc<Wire>>,
    /// Makes the connection, whoever waits for it.
    pub(super) opening: Option<Owned>,
    /// Beginning of the last attempt.
    pub(super) tried: Option<Instant>,
}

impl Side {
    /// The connection, if it leads to where the main one does.
    pub(super) fn to(&self, peer: &Peer) -> Option<&Arc<Wire>> {
        self.live.as_ref().filter(|wire| !wire.is_over() && wire.peer() == peer)
    }
}

impl SideConnections {
    pub(super) fn side(&self, role: Role) -> &watch::Sender<Side> {
        match role {
            Role::Control => &self.control,
            Role::Data => &self.data,
        }
    }

    pub(super) fn to(&self, role: Role, peer: &Peer) -> Option<Arc<Wire>> {
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
