//! Safety of hands: what has to be given before something is changed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use asynq::inspector::Actor;

use crate::{
    error::{CliError, Result},
    output::one_line,
    settings::Target,
};

/// Acts on more tasks than this are confirmed by typing the name of the queue.
pub(crate) const MANY: u64 = 1000;

/// The things that the user has given for acts, and those that the Redis asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hands {
    pub(crate) yes: bool,
    pub(crate) reason: Option<String>,
    pub(crate) read_only: bool,
    /// The name of the protected context that was not named on the command line.
    pub(crate) protected: Option<String>,
    pub(crate) require_reason: bool,
    pub(crate) actor: String,
}

impl Hands {
    pub(crate) fn new(
        yes: bool,
        reason: Option<String>,
        read_only: bool,
        actor: Option<String>,
        target: &Target,
    ) -> Self {
        let protected = (target.protected && !target.named).then(|| target.context.clone().unwrap_or_default());
        Self {
            yes,
            reason,
            read_only: read_only || target.read_only,
            protected,
            require_reason: target.require_reason,
            actor: actor.unwrap_or_else(user),
        }
    }

    /// Those of a program that only reads.
    pub(crate) fn reader() -> Self {
        Self {
            read_only: true,
            actor: user(),
            ..Self::default()
        }
    }

    /// The operator for the audit trail.
    pub(crate) fn operator(&self) -> Actor {
        Actor::new(self.actor.clone()).with_reason(self.reason.clone().unwrap_or_default())
    }

    /// Refuses all acts where nothing may be changed.
    ///
    /// # Errors
    /// [`Status::Refused`](crate::error::Status::Refused).
    pub(crate) fn must_be_free(&self) -> Result<()> {
        if self.read_only {
            return Err(CliError::refused("this is read-only, nothing was changed")
                .hint("`--read-only`, ASYNQ_READ_ONLY or the context says so."));
        }
        if let Some(context) = &self.protected {
            return Err(
                CliError::refused(format!("context {context:?} is protected, nothing was changed"))
                    .hint(format!("Name it on the command line: `--context {context}`.")),
            );
        }
        if self.require_reason && self.reason.as_deref().unwrap_or_default().trim().is_empty() {
            return Err(CliError::refused("a reason is required here, nothing was changed")
                .hint("Give it with `--reason TEXT`; it goes to the audit trail."));
        }
        Ok(())
    }

    /// Asks before an act. `what` is the act with its target, without a question mark.
    ///
    /// # Errors
    /// [`Status::Refused`](crate::error::Status::Refused) if nothing may be changed, if the answer is not yes, or if there
    /// is no terminal to ask on.
    pub(crate) fn confirm(&self, what: &str) -> Result<()> {
        self.must_be_free()?;
        if self.yes {
            return Ok(());
        }
        let answer = ask(&format!("{what}? [y/N] "), what)?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(CliError::refused("not confirmed, nothing was changed")),
        }
    }

    /// Asks before an act that cannot be undone, by the name of its target.
    ///
    /// # Errors
    /// As [`confirm`](Self::confirm).
    pub(crate) fn confirm_by_name(&self, what: &str, name: &str) -> Result<()> {
        self.must_be_free()?;
        if self.yes {
            return Ok(());
        }
        let answer = ask(
            &format!("{what}? This cannot be undone. Type {} to confirm: ", one_line(name)),
            what,
        )?;
        match answer.trim_end_matches(['\r', '\n']) == name {
            true => Ok(()),
            false => Err(CliError::refused("not confirmed, nothing was changed")),
        }
    }

    /// [`confirm_by_name`](Self::confirm_by_name) for more than [`MANY`] tasks, or else [`confirm`](Self::confirm).
    pub(crate) fn confirm_tasks(&self, what: &str, tasks: u64, name: &str) -> Result<()> {
        match tasks > MANY {
            true => self.confirm_by_name(what, name),
            false => self.confirm(what),
        }
    }
}

fn ask(question: &str, what: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(CliError::refused(format!("{what}: not confirmed, nothing was changed"))
            .hint("Without a terminal, `--yes` or ASYNQ_YES=1 confirms."));
    }
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer)
}

/// The name of the person at the terminal.
fn user() -> String {
    ["SUDO_USER", "USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|variable| std::env::var(variable).ok().filter(|name| !name.trim().is_empty()))
        .unwrap_or_else(|| "asynq".to_owned())
}
