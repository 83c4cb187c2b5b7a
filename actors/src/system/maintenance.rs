//! The branch of the actors that keep the storage in order, and of those that enqueue by the clock.

use std::sync::Arc;

use asynq_core::config::Settings;

use super::{AsynqSystemBuilder, CHORE_STOP};
use crate::{
    aggregator::Aggregator,
    chore::chore,
    exchange::Exchange,
    forwarder::Forwarder,
    healthchecker::Healthchecker,
    janitor::Janitor,
    recoverer::Recoverer,
    scheduler::{Claim, Ready},
    subscriber::{self, SubscriberArgs},
    supervisor::ChildSpec,
    tree::Tree,
};

impl AsynqSystemBuilder {
    pub(super) const MAINTENANCE: &str = "system/maintenance";

    /// The branch, with those of its actors that are wanted, and what is to be kept when it runs; without
    /// `settings` nothing is kept in order here.
    pub(super) fn maintenance(
        &self,
        settings: Option<&Settings>,
        scheduler: Option<Ready>,
        exchange: &Exchange,
        tree: &Tree,
    ) -> (ChildSpec, Option<Claim>) {
        let mut children = settings.map_or_else(Vec::new, |settings| self.keepers(settings, exchange, tree));
        let claim = scheduler.map(|scheduler| {
            let (more, claim) = scheduler.children(&exchange.broker, tree, &self.env, Self::MAINTENANCE, CHORE_STOP);
            children.extend(more);
            claim
        });
        (self.branch("maintenance", children, tree), claim)
    }

    fn keepers(&self, settings: &Settings, exchange: &Exchange, tree: &Tree) -> Vec<ChildSpec> {
        const PATH: &str = AsynqSystemBuilder::MAINTENANCE;
        let entropy = &self.env.entropy;
        let broker = &exchange.broker;
        let subscriber = SubscriberArgs {
            broker: broker.clone(),
            table: Arc::clone(&exchange.table),
            entropy: entropy.clone(),
            tree: tree.clone(),
            path: format!("{PATH}/subscriber"),
        };
        let path = format!("{PATH}/forwarder");
        let clock = self.env.clock.clone();
        let forwarder = Forwarder::new(settings, broker.clone(), clock, entropy.clone(), tree.clone(), path);
        let recoverer = Recoverer::new(settings, broker.clone(), self.env.clone());
        let janitor = Janitor::new(settings, broker.clone(), entropy.clone());
        let mut children = vec![
            subscriber::spec(subscriber),
            chore("forwarder", PATH, forwarder, tree, entropy, CHORE_STOP),
            chore("recoverer", PATH, recoverer, tree, entropy, CHORE_STOP),
            chore("janitor", PATH, janitor, tree, entropy, CHORE_STOP),
        ];
        if let Some(aggregator) = self.aggregator.clone() {
            let (env, ending) = (self.env.clone(), tree.ending().clone());
            let aggregator = Aggregator::new(aggregator, settings, broker.clone(), env, ending);
            let stop_within = aggregator.stop_within();
            children.push(chore("aggregator", PATH, aggregator, tree, entropy, stop_within));
        }
        if let Some(check) = settings.health_check.clone() {
            let healthchecker = Healthchecker {
                broker: broker.clone(),
                check,
                interval: settings.health_check_interval,
            };
            children.push(chore("healthchecker", PATH, healthchecker, tree, entropy, CHORE_STOP));
        }
        children
    }
}
