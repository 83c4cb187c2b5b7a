//! The settings of a system's scheduler, before it runs.

use std::{fmt, sync::Arc, time::Duration};

use asynq_core::{
    ConfigError, Env, Error, PeriodicTaskConfig, PeriodicTaskConfigProvider, Result, error::ConfigFault,
    excerpt::Excerpt,
};

use super::{Claim, LONGEST_SLEEP, SchedulerArgs, SchedulerConfig, SchedulerHandle};
use crate::{
    broker::BrokerHandle,
    maintenance::periodic_task_manager::{DEFAULT_INTERVAL, Manager, check_interval},
    supervision::{chore::chore, supervisor::ChildSpec, tree::Tree},
};

/// The scheduler of a system, if it has one.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) config: Option<SchedulerConfig>,
    pub(crate) handle: Option<SchedulerHandle>,
    pub(crate) periodic: Vec<PeriodicTaskConfig>,
    pub(crate) provider: Option<(Arc<dyn PeriodicTaskConfigProvider>, Duration)>,
}

/// The scheduler of a system that is about to run.
pub(crate) struct Ready {
    pub(crate) handle: SchedulerHandle,
    manager: Option<Manager>,
    claim: Claim,
}

impl Setup {
    /// Interval at which a provider is asked by default.
    pub(crate) const SYNC_INTERVAL: Duration = DEFAULT_INTERVAL;

    /// Returns all faults of the settings.
    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let config = self.config.as_ref().and_then(|config| config.validate().err());
        let mut faults = config.map_or_else(Vec::new, |error| error.faults);
        faults.extend(
            self.provider
                .as_ref()
                .and_then(|(_, interval)| check_interval(*interval)),
        );
        faults
    }

    /// Makes the scheduler with its first entries; `None` if no scheduler is configured.
    ///
    /// # Errors
    /// [`Error::Config`] with all wrong specs at once, and the error of the first call of the provider.
    pub(crate) async fn ready(&self, env: &Env, tree: &Tree, branch: &str) -> Result<Option<Ready>> {
        let wanted = self.config.is_some() || !self.periodic.is_empty() || self.provider.is_some();
        let handle = match &self.handle {
            Some(handle) => handle.clone(),
            None if wanted => SchedulerHandle::new(self.config.clone().unwrap_or_default(), env.clone())?,
            None => return Ok(None),
        };
        let taken = handle.entries.take();
        let mut claim = taken.ok_or(Error::Lifecycle("the scheduler is already running"))?;
        let manager = self.fill(&handle, &mut claim, tree, branch).await?;
        Ok(Some(Ready { handle, manager, claim }))
    }

    /// Registers the first entries.
    async fn fill(
        &self,
        handle: &SchedulerHandle,
        claim: &mut Claim,
        tree: &Tree,
        branch: &str,
    ) -> Result<Option<Manager>> {
        let mut faults = Vec::new();
        for config in &self.periodic {
            match handle.entries.prepare(config) {
                Ok(prepared) => claim.insert(prepared),
                Err(Error::Config(error)) => faults.extend(error.faults),
                Err(error) => faults.push(ConfigFault {
                    field: "cronspec",
                    problem: format!("{:?}: {error}", Excerpt(config.get_cronspec())),
                }),
            }
        }
        if !faults.is_empty() {
            return Err(ConfigError { faults }.into());
        }
        let Some((provider, interval)) = &self.provider else {
            return Ok(None);
        };
        let path = format!("{branch}/{MANAGER}");
        let manager = Manager::new(Arc::clone(provider), handle.clone(), *interval, tree.clone(), path);
        manager.begin().await?;
        Ok(Some(manager))
    }
}

const MANAGER: &str = "periodic_task_manager";

impl Ready {
    /// Returns the children of the branch, and the parts that must be kept while they run.
    pub(crate) fn children(
        self,
        broker: &BrokerHandle,
        tree: &Tree,
        env: &Env,
        branch: &str,
        stop: Duration,
    ) -> (Vec<ChildSpec>, Claim) {
        let scheduler = SchedulerArgs {
            handle: self.handle,
            broker: broker.clone(),
            tree: tree.clone(),
            path: format!("{branch}/scheduler"),
            longest_sleep: LONGEST_SLEEP,
        };
        let mut children = vec![super::spec(scheduler)];
        children.extend(
            self.manager
                .map(|manager| chore(MANAGER, branch, manager, tree, &env.entropy, stop)),
        );
        (children, self.claim)
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("config", &self.config)
            .field("periodic", &self.periodic)
            .finish_non_exhaustive()
    }
}
