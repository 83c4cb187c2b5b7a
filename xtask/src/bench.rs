//! The measurements: beside peers as a program of its own, and criterion's of single pieces.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use cargo_metadata::TargetKind;

use crate::run;
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(3 * 60 * 60);

/// The crate that measures beside peers.
const PACKAGE: &str = "asynq-bench";
/// Asks for criterion's benchmarks instead.
const MICRO: &str = "--micro";

/// Measures, with arguments for the program that does it; behind `--micro` they are criterion's.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    match args.split_first() {
        Some((first, rest)) if first == MICRO => micro(workspace, rest),
        _ => beside_peers(workspace, args),
    }
}

fn beside_peers(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let mut cargo = workspace.cargo();
    let build = cargo.args(["build", "--release", "--package", PACKAGE]);
    let built = finished(build)?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let program = workspace.metadata.target_directory.join("release").join(PACKAGE);
    // In the folder of the caller, whose paths the arguments may name.
    finished(Command::new(program).args(args))
}

/// Runs all benchmarks of criterion.
fn micro(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let benches = workspace.targets(&TargetKind::Bench);
    // By name: among all targets are test programs, which do not understand criterion's arguments.
    let mut cargo = workspace.cargo();
    cargo.arg("bench").args(workspace.selection());
    for bench in benches {
        cargo.args(["--bench", &bench.name]);
    }
    finished(cargo.arg("--").args(args))
}

fn finished(command: &mut Command) -> Result<ExitCode> {
    let end = run::run(command, LIMIT)?;
    if end.success() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}: {}", run::shown(command), end.failure());
    Ok(ExitCode::FAILURE)
}
