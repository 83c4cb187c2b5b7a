//! [`Context`]: one of several Redis that a server shows.

use std::{fmt, sync::Arc};

use asynq::{
    broker::{Connector, Storage},
    redis::{RedisBroker, RedisConnectionType},
};

use crate::access::RedactionRule;

/// Longest name of a context, in characters.
const LONGEST_NAME: usize = 40;

/// The kind of the systems that use a storage. Pages show it in a colour of its own, so that nobody takes one for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// Customers depend on it.
    Production,
    /// It is like production, without customers.
    Staging,
    /// Developers try things there.
    Development,
}

impl Environment {
    /// Returns the name: `production`, `staging` or `development`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Staging => "staging",
            Self::Development => "development",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A storage that a server shows beside its first one: see [`Web::beside`](crate::Web::beside).
///
/// ```
/// use asynq::memory::MemoryStore;
/// use asynq_web::{Context, Environment, Web};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// let staging = Context::connect("staging", MemoryStore::new()).await?.environment(Environment::Staging);
/// let web = Web::connect(MemoryStore::new())
///     .await?
///     .named("live", Some(Environment::Production))
///     .and_then(|web| web.beside(staging))
///     .map_err(anyhow::Error::msg)?;
/// # drop(web);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a context does nothing until it is given to `Web::beside`"]
pub struct Context {
    pub(crate) name: String,
    pub(crate) environment: Option<Environment>,
    pub(crate) storage: Arc<dyn Storage>,
    /// The same storage, if it is Redis.
    pub(crate) redis: Option<Arc<RedisBroker>>,
    pub(crate) redactions: Vec<RedactionRule>,
    pub(crate) read_only: bool,
    pub(crate) require_reason: bool,
}

impl Context {
    /// Returns the context of a storage. Its name is checked by [`Web::beside`](crate::Web::beside).
    pub fn new(name: impl Into<String>, storage: Arc<dyn Storage>) -> Self {
        Self {
            name: name.into(),
            environment: None,
            storage,
            redis: None,
            redactions: Vec::new(),
            read_only: false,
            require_reason: false,
        }
    }

    /// Returns the context of an open connection to Redis.
    pub fn of_redis(name: impl Into<String>, redis: Arc<RedisBroker>) -> Self {
        let storage = Arc::clone(&redis) as Arc<dyn Storage>;
        Self {
            redis: Some(redis),
            ..Self::new(name, storage)
        }
    }

    /// Returns the context of a storage to which own connections are opened.
    ///
    /// # Errors
    /// [`asynq::Error::Broker`] when the storage cannot be reached or refuses the credentials. There is only one attempt.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(name: impl Into<String>, connector: impl Connector) -> asynq::Result<Self> {
        let storage = connector.connect(connector.env()).await?;
        Ok(Self::new(name, storage))
    }

    /// Returns the context of a Redis to which own connections are opened.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect_redis(name: impl Into<String>, connection: RedisConnectionType) -> asynq::Result<Self> {
        Ok(Self::of_redis(name, Arc::new(RedisBroker::new(connection).await?)))
    }

    /// Sets the environment that pages show. Default: none.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Hides the payloads and results of some task types, beside what [`Web::redact`](crate::Web::redact) hides everywhere.
    pub fn redact(mut self, rule: RedactionRule) -> Self {
        self.redactions.push(rule);
        self
    }

    /// Refuses all changes here, whoever asks.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Refuses changes here for which no reason is given.
    pub fn require_reason(mut self) -> Self {
        self.require_reason = true;
        self
    }
}

/// Checks the name of a context, which is a part of paths.
pub(crate) fn checked_name(name: &str) -> Result<(), String> {
    let is_dots = name.chars().all(|char| char == '.');
    match name.chars().count() <= LONGEST_NAME && !is_dots && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(format!(
            "context: the name {name:?} must have 1 to {LONGEST_NAME} characters, no control characters, and not only dots"
        )),
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("name", &self.name)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_contexts_are_parts_of_paths() {
        for name in ["prod", "eu-1.shop", "a b/é"] {
            assert_eq!(checked_name(name), Ok(()));
        }
        for name in ["", ".", "..", "a\nb", &"a".repeat(41)] {
            assert!(checked_name(name).unwrap_err().contains("1 to 40"), "{name}");
        }
    }
}
