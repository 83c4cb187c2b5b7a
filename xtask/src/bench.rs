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
/// Asks for them with the feature `otel`. It is off without being asked, as in the library.
const OTEL: &str = "--otel";

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

/// Runs all benchmarks of criterion, each crate alone: another one would turn on features that are not to be measured.
fn micro(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let (otel, args): (Vec<_>, Vec<_>) = args.iter().partition(|arg| *arg == OTEL);
    for member in workspace.members() {
        // By name: among all targets are test programs, which do not understand criterion's arguments.
        let benches = member.targets.iter().filter(|target| target.is_kind(TargetKind::Bench));
        let benches: Vec<_> = benches.flat_map(|bench| ["--bench", &bench.name]).collect();
        if benches.is_empty() {
            continue;
        }
        let mut cargo = workspace.cargo();
        cargo.args(["bench", "--package", &member.name]).args(benches);
        if otel.is_empty() {
            cargo.arg("--no-default-features");
        }
        let end = finished(cargo.arg("--").args(&args))?;
        if end != ExitCode::SUCCESS {
            return Ok(end);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn finished(command: &mut Command) -> Result<ExitCode> {
    let end = run::run(command, LIMIT)?;
    if end.success() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}: {}", run::shown(command), end.failure());
    Ok(ExitCode::FAILURE)
}
