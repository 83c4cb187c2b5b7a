//! The benchmarks of all crates.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use cargo_metadata::TargetKind;

use crate::run;
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Runs all benchmarks, with arguments for criterion.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let benches = workspace.targets(&TargetKind::Bench);
    if benches.is_empty() {
        println!("there are no benchmarks yet");
        return Ok(ExitCode::SUCCESS);
    }
    // By name: among all targets are test programs, which do not understand criterion's arguments.
    let mut cargo = workspace.cargo();
    cargo.arg("bench").args(workspace.selection());
    for bench in benches {
        cargo.args(["--bench", &bench.name]);
    }
    let end = run::run(cargo.arg("--").args(args), LIMIT)?;
    if end.success() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}: {}", run::shown(&cargo), end.failure());
    Ok(ExitCode::FAILURE)
}
