//! Other task queues, and the builds of their programs.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{child::Program, layout::Layout};

/// Another task queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// `hibiken/asynq`, of which the bytes in Redis are.
    Go,
    /// The crate `asynq` of another project, with the layout of Go.
    Asynq,
    /// The crate `asynqrs`, with the layout of Go.
    Asynqrs,
    /// The crate `apalis-redis`.
    Apalis,
    /// The crate `rusty-sidekiq`.
    RustySidekiq,
    /// The crate `chasquimq`.
    ChasquiMq,
    /// BullMQ, in JavaScript.
    BullMq,
    /// Sidekiq, in Ruby.
    Sidekiq,
}

/// All of them.
pub(crate) const ALL: &[Peer] = &[
    Peer::Go,
    Peer::Asynq,
    Peer::Asynqrs,
    Peer::Apalis,
    Peer::RustySidekiq,
    Peer::ChasquiMq,
    Peer::BullMq,
    Peer::Sidekiq,
];

impl Peer {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Go => "Go asynq",
            Self::Asynq => "asynq 0.1, Rust",
            Self::Asynqrs => "asynqrs",
            Self::Apalis => "apalis-redis",
            Self::RustySidekiq => "rusty-sidekiq",
            Self::ChasquiMq => "ChasquiMQ",
            Self::BullMq => "BullMQ",
            Self::Sidekiq => "Sidekiq",
        }
    }

    /// The layout of its tasks in Redis.
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::Go | Self::Asynq | Self::Asynqrs => Layout::Asynq,
            Self::Apalis => Layout::Apalis,
            Self::RustySidekiq => Layout::RustySidekiq,
            Self::ChasquiMq => Layout::ChasquiMq,
            Self::BullMq => Layout::BullMq,
            Self::Sidekiq => Layout::Sidekiq,
        }
    }

    /// Largest number of tasks that it is given, so that a slow one does not take most of the time.
    pub(crate) fn most_tasks(self) -> u64 {
        match self {
            Self::Go => u64::MAX,
            Self::RustySidekiq | Self::ChasquiMq | Self::BullMq => 50_000,
            Self::Asynq | Self::Asynqrs | Self::Apalis | Self::Sidekiq => 20_000,
        }
    }

    /// Largest concurrency for which it is made.
    pub(crate) fn most_concurrency(self) -> usize {
        match self {
            // Threads of an interpreter that runs one of them at a time: its documentation advises 50 at most.
            Self::Sidekiq => 100,
            _ => usize::MAX,
        }
    }

    /// The oldest Redis that has its commands, as major and minor version.
    pub(crate) fn oldest_redis(self) -> (u32, u32) {
        match self {
            // `XADD` with `IDMP`.
            Self::ChasquiMq => (8, 6),
            _ => (6, 2),
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
            Self::Asynq => rust(&target, "bench-asynq"),
            Self::Asynqrs => rust(&target, "bench-asynqrs"),
            Self::Apalis => rust(&target, "bench-apalis"),
            Self::RustySidekiq => rust(&target, "bench-sidekiq"),
            Self::ChasquiMq => rust(&target, "bench-chasquimq"),
            Self::BullMq => node(&target),
            Self::Sidekiq => ruby(),
        }
    }
}

fn sources(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer)
}

/// The program that a variable names, or the usual one.
fn program(variable: &str, usual: &str) -> OsString {
    env::var_os(variable)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| usual.into())
}

fn go(target: &Path) -> Result<Program> {
    let path = target.join("asynq-bench-go");
    let mut build = Command::new(program("ASYNQ_GO", "go"));
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

/// Builds the workspace of Rust peers, which has a lock file and a target directory of its own. All packages are built at
/// once, since each alone would build what they share with other features; where one does not build, the others do alone.
fn rust(target: &Path, package: &str) -> Result<Program> {
    let target = target.join("rust");
    let build = |packages: &[&str]| {
        let mut build = Command::new(program("CARGO", "cargo"));
        build
            .args(["build", "--quiet", "--release", "--locked", "--target-dir"])
            .arg(&target)
            .args(packages)
            .current_dir(sources("rust"));
        finish(&mut build)
    };
    build(&["--workspace"]).or_else(|_| build(&["--package", package]))?;
    Ok(Program {
        path: target.join("release").join(package),
        words: Vec::new(),
    })
}

/// Installs what the program in JavaScript needs beside a copy of it, so that nothing is written among the sources.
fn node(target: &Path) -> Result<Program> {
    let (sources, target) = (sources("node"), target.join("node"));
    fs::create_dir_all(&target).context("no folder for BullMQ")?;
    for file in ["main.mjs", "package.json", "package-lock.json"] {
        fs::copy(sources.join(file), target.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let mut install = Command::new("npm");
    install
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&target);
    finish(&mut install)?;
    let path = PathBuf::from("node");
    finish(Command::new(&path).arg("--version"))?;
    Ok(Program {
        path,
        words: vec![target.join("main.mjs").to_string_lossy().into_owned()],
    })
}

fn ruby() -> Result<Program> {
    let path = PathBuf::from(program("ASYNQ_RUBY", "ruby"));
    finish(Command::new(&path).args(["-e", "require 'sidekiq/cli'"])).context("Ruby with the gem sidekiq is needed")?;
    Ok(Program {
        path,
        words: vec![sources("ruby").join("main.rb").to_string_lossy().into_owned()],
    })
}

/// Runs a step of a build to its end.
fn finish(command: &mut Command) -> Result<Output> {
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
    Ok(output)
}

/// The major and minor version in what `redis-server --version` prints.
pub(crate) fn redis_version(printed: &str) -> Option<(u32, u32)> {
    let (_, version) = printed.split_once("v=")?;
    let mut numbers = version.split(['.', ' ']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_step_that_fails_says_why() {
        let error = finish(Command::new("sh").args(["-c", "echo no such module >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("no such module"), "{error}");
        let error = finish(&mut Command::new("asynq-no-such-program")).unwrap_err();
        assert!(error.to_string().contains("cannot run"), "{error}");
    }

    #[test]
    fn each_peer_has_a_name_of_its_own() {
        let names: BTreeSet<_> = ALL.iter().map(|peer| peer.name()).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn the_version_of_redis_is_read() {
        let printed = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=a";
        assert_eq!(redis_version(printed), Some((7, 0)));
        assert_eq!(redis_version("Redis server v=8.10.1 sha=0"), Some((8, 10)));
        assert_eq!(redis_version("Valkey server"), None);
    }
}
