//! The periodic task manager: keeps the entries of a scheduler equal to the configurations of a provider.
//!
//! Messages: none. A pass calls the provider, with a time limit. The first pass runs before the system starts. A
//! restart loses nothing: the entries belong to the system, and the time of the next pass does not change.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use asynq_core::{
    BrokerError, Error, PeriodicTaskConfig, PeriodicTaskConfigProvider, Result,
    error::{
        BoxError, ConfigFault,
        text::{report, shown},
    },
    panics::{drop_quietly, panic_text},
};
use futures::FutureExt as _;
use tokio::time::{Instant, timeout};

use crate::{
    maintenance::scheduler::{SchedulerHandle, config::outside},
    supervision::{chore::Chore, tree::Tree},
};

/// Longest time that the provider may take. The sync interval limits it too.
const ASK_WITHIN: Duration = Duration::from_secs(30);
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(3 * 60);
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
const MOST_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The fault of a sync interval.
pub(crate) fn check_interval(interval: Duration) -> Option<ConfigFault> {
    outside("sync_interval", interval, LEAST_INTERVAL, MOST_INTERVAL)
}

/// A reason for which the entries do not change. The texts are those of Go if Go has one.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error("{0}")]
    Failed(String),
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("PeriodicTaskConfig.Cronspec cannot be empty")]
    NoSpec,
}

/// The first answer of the provider cannot be used. The text is Go's.
#[derive(Debug, thiserror::Error)]
enum NoFirstSync {
    #[error("asynq: initial call to GetConfigs failed: {0}")]
    Failed(#[source] SyncError),
    #[error("asynq: initial call to GetConfigs contained an invalid config: {0}")]
    Invalid(#[source] SyncError),
}

pub(crate) struct Manager {
    provider: Arc<dyn PeriodicTaskConfigProvider>,
    handle: SchedulerHandle,
    interval: Duration,
    tree: Tree,
    path: String,
    past: Mutex<Past>,
}

/// The earlier state, which all incarnations share.
#[derive(Default)]
struct Past {
    synced: Option<Instant>,
    failures: u32,
    /// Entries that were refused and reported.
    refused: HashSet<String>,
}

impl Manager {
    pub(crate) fn new(
        provider: Arc<dyn PeriodicTaskConfigProvider>,
        handle: SchedulerHandle,
        interval: Duration,
        tree: Tree,
        path: String,
    ) -> Self {
        Self {
            provider,
            handle,
            interval,
            tree,
            path,
            past: Mutex::default(),
        }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first pass.
    pub(crate) async fn begin(&self) -> Result<()> {
        match self.sync().await {
            Ok(()) => Ok(()),
            Err(error @ SyncError::NoSpec) => Err(Error::other(NoFirstSync::Invalid(error))),
            Err(error) => Err(Error::other(NoFirstSync::Failed(error))),
        }
    }

    async fn sync(&self) -> Result<(), SyncError> {
        self.past().synced = Some(Instant::now());
        let configs = self.ask().await?;
        if configs.iter().any(|config| config.get_cronspec().trim().is_empty()) {
            return Err(SyncError::NoSpec);
        }
        let mut refused = HashSet::new();
        let mut wanted = Vec::with_capacity(configs.len());
        for config in &configs {
            match self.handle.entries.prepare(config) {
                Ok(prepared) => wanted.push(prepared.managed()),
                Err(error) => {
                    let error = report(&error);
                    let told = self.past().refused.contains(&error);
                    if !told && !refused.contains(&error) {
                        let task_type = config.get_task().get_type();
                        tracing::error!(spec = config.get_cronspec(), task_type, error, "periodic task left out");
                    }
                    refused.insert(error);
                }
            }
        }
        self.past().refused = refused;
        let (new, gone) = self.handle.entries.replace_managed(wanted);
        if new + gone > 0 {
            tracing::info!(new, gone, "periodic tasks changed");
            self.handle.changed();
        }
        Ok(())
    }

    /// Returns the answer of the provider, or its failure of any kind.
    async fn ask(&self) -> Result<Vec<PeriodicTaskConfig>, SyncError> {
        let limit = ASK_WITHIN.min(self.interval);
        let call = AssertUnwindSafe(async { self.provider.get_configs().await }).catch_unwind();
        let mut call = Box::pin(call);
        let answer = timeout(limit, &mut call).await;
        let answer = match answer {
            Ok(Ok(Ok(configs))) => Ok(configs),
            Ok(Ok(Err(error))) => Err(SyncError::Failed(told(error))),
            Ok(Err(panic)) => {
                let text = panic_text(&*panic);
                drop_quietly(panic);
                Err(SyncError::Panicked(text))
            }
            Err(_) => Err(SyncError::TimedOut(limit)),
        };
        drop_quietly(call);
        answer
    }
}

/// Returns the text of an application error, which is then dropped.
fn told(error: BoxError) -> String {
    let text = shown(&*error);
    drop_quietly(error);
    text
}

#[async_trait]
impl Chore for Manager {
    fn first(&self) -> Duration {
        let since = self.past().synced.map_or(Duration::MAX, |at| at.elapsed());
        self.interval.saturating_sub(since)
    }

    fn longest_retry(&self) -> Duration {
        self.interval
    }

    async fn pass(&self) -> Result<Duration, BrokerError> {
        match self.sync().await {
            Ok(()) => {
                let failures = std::mem::take(&mut self.past().failures);
                if failures > 0 {
                    tracing::info!(failures, "the provider of periodic tasks answers again");
                    self.tree.note(&self.path, None);
                }
            }
            Err(error) => {
                let first = {
                    let mut past = self.past();
                    past.failures = past.failures.saturating_add(1);
                    past.failures == 1
                };
                if first {
                    tracing::error!(%error, "the provider of periodic tasks failed; the entries stay as they are");
                }
                self.tree
                    .note(&self.path, Some(&format!("keeps the last good set: {error}")));
            }
        }
        Ok(self.interval)
    }
}
