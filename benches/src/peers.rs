//! Other task queues, and the builds of their programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{child::Program, layout::Layout};

/// Another task queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// `hibiken/asynq`, of which the bytes in Redis are.
    Go,
}

/// All of them.
pub(crate) const ALL: &[Peer] = &[Peer::Go];

impl Peer {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Go => "Go asynq",
        }
    }

    /// The layout of its tasks in Redis.
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::Go => Layout::Asynq,
        }
    }

    /// Builds its program below a folder for what is built.
    ///
    /// # Errors
    /// The reason that there is none on this machine.
    pub(crate) fn build(self, target: &Path) -> Result<Program> {
        let target = target.join("bench");
        fs::create_dir_all(&target).context("no folder for peers")?;
        match self {
            Self::Go => go(&target),
        }
    }
}

fn sources(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer)
}

fn go(target: &Path) -> Result<Program> {
    let go = std::env::var_os("ASYNQ_GO")
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "go".into());
    let path = target.join("asynq-bench-go");
    let mut build = Command::new(go);
    build
        .args(["build", "-trimpath", "-o"])
        .arg(&path)
        .arg(".")
        .current_dir(sources("go"));
    finish(&mut build)?;
    Ok(Program {
        path,
        words: Vec::new(),
    })
}

/// Runs a step of a build to its end.
fn finish(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = errors.lines().rev().take(12).collect();
        bail!(
            "{name}: {}\n{}",
            output.status,
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_says_why() {
        let error = finish(Command::new("sh").args(["-c", "echo no such module >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("no such module"), "{error}");
        let error = finish(&mut Command::new("asynq-no-such-program")).unwrap_err();
        assert!(error.to_string().contains("cannot run"), "{error}");
    }
}
