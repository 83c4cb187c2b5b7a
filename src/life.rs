//! The life of a [`Server`](crate::Server), [`Scheduler`](crate::Scheduler) or
//! [`PeriodicTaskManager`](crate::scheduler::PeriodicTaskManager): new, active, closed.

use asynq_actors::{AsynqSystem, AsynqSystemBuilder, Exit};
use asynq_core::{Connector, Error, Result};

/// The system of a server or scheduler, which starts once. A system that is dropped is shut down in the background.
pub(crate) enum Life {
    New,
    Active(Box<AsynqSystem>),
    Closed,
}

impl Life {
    /// Starts the system.
    pub(crate) async fn start(&mut self, builder: AsynqSystemBuilder) -> Result<()> {
        *self = Self::Active(Box::new(builder.spawn().await?));
        Ok(())
    }

    /// Runs until a signal, or until the system ends by itself. `name` is used in the error.
    pub(crate) async fn run(&mut self, name: &str) -> Result<()> {
        let Self::Active(system) = self else {
            return Err(Error::Lifecycle("not started"));
        };
        let exit = system.run_until_signal().await?;
        *self = Self::Closed;
        match exit {
            Exit::Stopped => Ok(()),
            Exit::Failed(error) => Err(Error::Actor(error.into())),
            other => Err(Error::Actor(format!("the {name} ended with {other:?}").into())),
        }
    }

    pub(crate) async fn shutdown(&mut self) {
        if let Self::Active(system) = self {
            system.shutdown().await;
            *self = Self::Closed;
        }
    }

    /// Checks that the storage answers. If nothing has started, the storage is opened for this check only.
    pub(crate) async fn ping(&self, connector: &dyn Connector) -> Result<()> {
        match self {
            Self::Active(system) => system.ping().await,
            Self::New => {
                let storage = connector.connect(connector.env()).await?;
                let answer = storage.ping().await;
                storage.close().await;
                Ok(answer?)
            }
            Self::Closed => Ok(()),
        }
    }

    pub(crate) fn system(&self) -> Option<&AsynqSystem> {
        match self {
            Self::Active(system) => Some(system),
            Self::New | Self::Closed => None,
        }
    }

    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Active(_) => "active",
            Self::Closed => "closed",
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Self::Active(system) = self {
            system.stop();
        }
    }
}
