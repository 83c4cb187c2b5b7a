//! The supervisors of a system: the root, and the branches below it.

use std::time::Duration;

use asynq_core::Entropy;

use super::{
    supervisor::{Backoff, ChildSpec, ExitCell, Intensity, Shutdown, Strategy, Supervisor, SupervisorArgs},
    tree::Tree,
};

/// Time that a supervisor may take to stop, in addition to the deadlines of its children.
const SLACK: Duration = Duration::from_secs(2);

/// The settings that all supervisors of a system share.
#[derive(Clone, Debug)]
pub(crate) struct SupervisorSettings {
    pub(crate) intensity: Intensity,
    pub(crate) backoff: Backoff,
    pub(crate) tree: Tree,
    pub(crate) entropy: Entropy,
}

impl SupervisorSettings {
    /// Returns the arguments of the supervisor at `path` with these children, in start order.
    pub(crate) fn args(&self, path: &str, children: Vec<ChildSpec>, exit: ExitCell) -> SupervisorArgs {
        SupervisorArgs {
            path: path.to_owned(),
            children,
            strategy: Strategy::OneForOne,
            intensity: self.intensity,
            backoff: self.backoff,
            tree: self.tree.clone(),
            entropy: self.entropy.clone(),
            exit,
        }
    }

    /// Returns the supervisor at `path` as a child. Its time to stop is the sum of the times of its children.
    pub(crate) fn branch(&self, path: &str, children: Vec<ChildSpec>) -> ChildSpec {
        let within = SLACK
            + children
                .iter()
                .map(|child| match child.shutdown {
                    Shutdown::Stop(within) | Shutdown::Drain(within) => within + SLACK,
                    Shutdown::Kill => SLACK,
                })
                .sum::<Duration>();
        let args = self.args(path, children, ExitCell::default());
        let id = path.rsplit_once('/').map_or(path, |(_, id)| id);
        let fresh = move || {
            let exit = ExitCell::default();
            (Supervisor, SupervisorArgs { exit, ..args.clone() })
        };
        ChildSpec::new(id, fresh).shutdown(Shutdown::Stop(within))
    }
}
