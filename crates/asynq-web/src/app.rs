//! The state that all routes share.

use std::{net::IpAddr, ops::Deref, sync::Arc};

use asynq::{Inspector, broker::Storage, redis::RedisBroker};

use crate::{
    access::{RedactionRule, Sessions, Throttle, Ways},
    acts::Acts,
    background::Background,
    budget::Budgets,
    context::{Context, Environment},
    live::Live,
    metrics::Metrics,
    pulse::Pulses,
    range_queries::Prometheus,
    readings::Readings,
};

/// The state that all routes share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    /// The same storage, if it is Redis.
    pub(crate) redis: Option<Arc<RedisBroker>>,
    /// Acts through it need an actor: see `Caller::inspector`.
    pub(crate) inspector: Inspector,
    pub(crate) readings: Arc<Readings>,
    pub(crate) pulses: Pulses,
    pub(crate) auth: Arc<Ways>,
    /// Whoever sends a request may do everything.
    pub(crate) is_open: bool,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) throttle: Arc<Throttle>,
    /// All contexts of the server, the one at the root of the router first.
    pub(crate) contexts: Arc<[Place]>,
    /// The place of this one among them.
    pub(crate) context: usize,
    pub(crate) metrics: Metrics,
    pub(crate) redactions: Vec<RedactionRule>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) acts: Acts,
    pub(crate) background: Background,
    pub(crate) live: Arc<Live>,
    pub(crate) read_only: bool,
    pub(crate) require_reason: bool,
    /// The host names that are answered, `None` for all.
    pub(crate) hosts: Option<Hosts>,
    /// Proxies whose header `X-Forwarded-For` counts.
    pub(crate) proxies: Vec<IpAddr>,
    pub(crate) cookie: String,
    /// Origins beside that of the request's own host, such as `https://queues.example.com`.
    pub(crate) origins: Vec<String>,
    /// Users come over HTTPS.
    pub(crate) https: bool,
    /// Longest payload and longest result in the API of asynqmon, in characters.
    pub(crate) payload_length: usize,
    pub(crate) result_length: usize,
    /// The server that the API of asynqmon asks for the past of its metrics.
    pub(crate) prometheus: Option<Prometheus>,
}

/// The name of a context and its environment, as pages show them.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Empty if the only storage has no name.
    pub(crate) name: String,
    pub(crate) environment: Option<Environment>,
}

impl Place {
    pub(crate) fn of(context: &Context) -> Self {
        Self {
            name: context.name.clone(),
            environment: context.environment,
        }
    }
}

/// The host names that a server answers for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    pub(crate) names: Vec<String>,
    /// Any IP address, since no name of a stranger leads to it.
    pub(crate) addresses: bool,
}

impl Hosts {
    /// Returns whether a host is one of them. It has no port.
    pub(crate) fn has(&self, host: &str) -> bool {
        let is_address = || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        self.names.iter().any(|known| known.eq_ignore_ascii_case(host)) || self.addresses && is_address()
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
