//! The branch of the actors that take, run and settle tasks.

pub(crate) mod handled;
pub(crate) mod handlers;
pub(crate) mod heartbeater;
pub(crate) mod processor;
pub(crate) mod router;
pub(crate) mod run;
pub(crate) mod statistician;
pub(crate) mod syncer;

use std::{any::Any, sync::Arc};

use asynq_core::{Env, Result, ServerIdentity, config::Settings};

use self::{
    handlers::{HandlerActorSpec, Prepared},
    heartbeater::{Heartbeater, Identity},
    processor::ProcessorArgs,
    router::{HandlerRef, Router},
    run::Runner,
    statistician::Statistician,
    syncer::Syncer,
};
use crate::{
    in_flight::exchange::Exchange,
    statistics::Statistics,
    supervision::{
        branch::SupervisorSettings,
        chore::{STOP_WITHIN, chore},
        supervisor::{ChildSpec, Intensity},
    },
};

/// The path of the branch in the tree.
const PATH: &str = "system/work";

/// Largest number of patterns that are published. They are written with every beat.
const MAX_PATTERNS: usize = 200;
/// Largest number of bytes of all published patterns.
const MAX_PATTERN_BYTES: usize = 16 << 10;

/// The parts of the branch.
pub(crate) struct Work<'s> {
    pub(crate) settings: &'s Settings,
    pub(crate) handler_actors: &'s [(HandlerActorSpec, Prepared)],
    /// The handler of the tasks that no handler actor is for.
    pub(crate) plain: Option<HandlerRef>,
    pub(crate) exchange: &'s Exchange,
    /// The runs that this server has counted; `None` if it counts none.
    pub(crate) statistics: Option<Arc<Statistics>>,
    /// The identity of this server.
    pub(crate) server: &'s ServerIdentity,
    /// The [`Client`](crate::Client) that handlers find.
    pub(crate) client: Arc<dyn Any + Send + Sync>,
    pub(crate) env: &'s Env,
    pub(crate) supervisors: &'s SupervisorSettings,
}

impl Work<'_> {
    /// Returns the branch with all its actors.
    ///
    /// # Errors
    /// [`Error::Config`](asynq_core::Error::Config) when patterns of handler actors clash.
    pub(crate) fn branch(self) -> Result<ChildSpec> {
        let (tree, entropy) = (&self.supervisors.tree, &self.env.entropy);
        let table = &self.exchange.table;
        let (handlers, router) = self.handlers()?;
        let heartbeater = Heartbeater::new(
            Arc::clone(table),
            self.exchange.broker.clone(),
            self.identity(),
            self.settings.heartbeat_interval,
            tree.clone(),
            entropy.clone(),
        );
        for (actor, stuck) in [("processor", false), ("syncer", true)] {
            let table = Arc::clone(table);
            tree.set_backlog(&format!("{PATH}/{actor}"), move || table.unsettled(stuck));
        }
        let syncer = Syncer {
            exchange: self.exchange.clone(),
            interval: self.settings.syncer_interval,
        };
        let runner = Runner {
            router,
            settings: self.settings.clone(),
            env: self.env.clone(),
            table: Arc::clone(table),
            broker: self.exchange.broker.clone(),
            nudge: self.exchange.nudge.clone(),
            client: Arc::clone(&self.client),
        };
        let runner = Arc::new(runner);
        // It lives as long as the spec of the processor does.
        self.exchange.starter.is(&runner);
        let processor = ProcessorArgs {
            runner,
            exchange: self.exchange.clone(),
            tree: tree.clone(),
            path: format!("{PATH}/processor"),
        };
        let mut children = vec![
            chore("heartbeater", PATH, heartbeater, tree, entropy, STOP_WITHIN),
            chore("syncer", PATH, syncer, tree, entropy, STOP_WITHIN),
        ];
        if let Some(statistics) = self.statistics {
            let statistician = Statistician::new(statistics, self.exchange.broker.clone(), entropy.clone());
            children.push(chore("statistician", PATH, statistician, tree, entropy, STOP_WITHIN));
        }
        children.extend(handlers);
        children.push(processor::spec(processor));
        Ok(self.supervisors.branch(PATH, children))
    }

    /// Returns the supervisor of the instances of all handler actors, where there are any, and what finds the
    /// handler of a task. Crashes of instances never count (rules.md#tasks-break-no-supervisor).
    fn handlers(&self) -> Result<(Option<ChildSpec>, Router)> {
        const PATH: &str = "system/work/handlers";
        let tree = &self.supervisors.tree;
        let (actors, instances) = handlers::build(self.handler_actors, PATH, tree, self.env)?;
        let child = (!instances.is_empty()).then(|| {
            let supervisors = SupervisorSettings {
                intensity: Intensity::UNLIMITED,
                ..self.supervisors.clone()
            };
            supervisors.branch(PATH, instances)
        });
        let entropy = self.env.entropy.clone();
        let router = Router::new(actors, self.plain.clone(), self.settings.unknown_task, entropy);
        Ok((child, router))
    }

    /// Returns what the tools show of this server.
    fn identity(&self) -> Identity {
        let settings = self.settings;
        Identity {
            server: self.server.clone(),
            concurrency: i32::try_from(settings.concurrency).unwrap_or(i32::MAX),
            queues: settings
                .queues
                .iter()
                .map(|(name, priority)| (name.to_string(), *priority))
                .collect(),
            strict_priority: settings.strict_priority,
            start_time: self.env.clock.now(),
            handles: self.handles(),
        }
    }

    /// Returns the patterns of the task types that have a handler; `None` if they are not known, or too many to publish.
    fn handles(&self) -> Option<Vec<String>> {
        let mut patterns = self
            .plain
            .as_ref()
            .map_or(Some(Vec::new()), |plain| plain.0.task_types())?;
        let actors = self.handler_actors.iter().map(|(spec, _)| spec.pattern());
        patterns.extend(actors.map(str::to_owned));
        patterns.sort();
        patterns.dedup();
        let bytes: usize = patterns.iter().map(String::len).sum();
        (patterns.len() <= MAX_PATTERNS && bytes <= MAX_PATTERN_BYTES).then_some(patterns)
    }
}
