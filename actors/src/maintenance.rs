//! The branch of the actors that maintain the storage and enqueue periodic tasks.

pub(crate) mod aggregator;
pub(crate) mod forwarder;
pub(crate) mod healthchecker;
pub(crate) mod janitor;
pub(crate) mod periodic_task_manager;
pub(crate) mod poison;
pub(crate) mod recoverer;
pub(crate) mod scheduler;
pub(crate) mod subscriber;

use std::sync::Arc;

use asynq_core::{Env, config::Settings};

use self::{
    aggregator::{Aggregator, AggregatorRef},
    forwarder::Forwarder,
    healthchecker::Healthchecker,
    janitor::Janitor,
    recoverer::Recoverer,
    scheduler::{Claim, Ready},
    subscriber::SubscriberArgs,
};
use crate::{
    in_flight::exchange::Exchange,
    supervision::{
        branch::SupervisorSettings,
        chore::{STOP_WITHIN, chore},
        supervisor::ChildSpec,
    },
};

/// The path of the branch in the tree.
pub(crate) const PATH: &str = "system/maintenance";

/// The parts of the branch.
pub(crate) struct Maintenance<'s> {
    /// `None` if the system only enqueues periodic tasks and maintains no storage.
    pub(crate) settings: Option<&'s Settings>,
    pub(crate) aggregator: Option<AggregatorRef>,
    pub(crate) scheduler: Option<Ready>,
    pub(crate) exchange: &'s Exchange,
    pub(crate) env: &'s Env,
    pub(crate) supervisors: &'s SupervisorSettings,
}

impl Maintenance<'_> {
    /// Returns the branch with the configured actors, and the parts that must be kept while it runs.
    pub(crate) fn branch(self) -> (ChildSpec, Option<Claim>) {
        let Self {
            exchange,
            env,
            supervisors,
            ..
        } = self;
        let mut children = self.settings.map_or_else(Vec::new, |settings| self.keepers(settings));
        let claim = self.scheduler.map(|scheduler| {
            let (more, claim) = scheduler.children(&exchange.broker, &supervisors.tree, env, PATH, STOP_WITHIN);
            children.extend(more);
            claim
        });
        (supervisors.branch(PATH, children), claim)
    }

    fn keepers(&self, settings: &Settings) -> Vec<ChildSpec> {
        let (env, tree, entropy) = (self.env, &self.supervisors.tree, &self.env.entropy);
        let broker = &self.exchange.broker;
        let subscriber = SubscriberArgs {
            broker: broker.clone(),
            table: Arc::clone(&self.exchange.table),
            entropy: entropy.clone(),
            tree: tree.clone(),
            path: format!("{PATH}/subscriber"),
        };
        let path = format!("{PATH}/forwarder");
        let clock = env.clock.clone();
        let forwarder = Forwarder::new(settings, broker.clone(), clock, entropy.clone(), tree.clone(), path);
        let recoverer = Recoverer::new(settings, broker.clone(), env.clone());
        let janitor = Janitor::new(settings, broker.clone(), entropy.clone());
        let mut children = vec![
            subscriber::spec(subscriber),
            chore("forwarder", PATH, forwarder, tree, entropy, STOP_WITHIN),
            chore("recoverer", PATH, recoverer, tree, entropy, STOP_WITHIN),
            chore("janitor", PATH, janitor, tree, entropy, STOP_WITHIN),
        ];
        if let Some(aggregator) = self.aggregator.clone() {
            let aggregator = Aggregator::new(aggregator, settings, broker.clone(), env.clone(), tree.ending().clone());
            let stop_within = aggregator.stop_within();
            children.push(chore("aggregator", PATH, aggregator, tree, entropy, stop_within));
        }
        if let Some(check) = settings.health_check.clone() {
            let healthchecker = Healthchecker {
                broker: broker.clone(),
                check,
                interval: settings.health_check_interval,
            };
            children.push(chore("healthchecker", PATH, healthchecker, tree, entropy, STOP_WITHIN));
        }
        children
    }
}
