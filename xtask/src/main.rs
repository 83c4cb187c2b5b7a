//! The commands of this workspace, run as `cargo xtask <command>`.
//!
//! `test` and `lint` do everything that a change has to pass, and are what continuous integration runs. Every check that
//! needs no other program is an ordinary test of this crate as well.

mod bench;
mod carry;
mod circles;
mod citations;
mod codegen;
mod features;
mod floors;
mod lint;
mod msrv;
mod package;
mod pages;
mod prerequisites;
mod report;
mod run;
mod surface;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// The commands of this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need, then run all tests, doc tests and examples
    Test {
        /// Only look for what the tests need; fails if something is missing
        #[arg(long)]
        check: bool,
        /// Run only tests, with these arguments for each test program: a part of a test's name, `--nocapture` and so on
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run every check that is not a test: format, clippy, docs, floors and so on
    Lint,
    /// Measure beside peers and the bare scripts; `--help` shows the options, and `--micro` runs criterion's benchmarks
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments for the program that measures, or behind `--micro` for criterion: a part of a name, `--quick` and so on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Make pictures of all web pages, light and dark, wide and narrow
    Screenshots(pages::Screenshots),
    /// Measure the weight of the web pages and the time until they are shown, beside those of asynqmon
    Pages,
    /// Generate the Rust code of the protobuf schema
    Codegen {
        /// Only compare with the committed code
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    execute(Cli::parse().command).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn execute(command: Command) -> Result<ExitCode> {
    run::end_children_on_signals()?;
    let root = workspace::root();
    match command {
        Command::Test { check: true, .. } => prerequisites::report(&Workspace::load(root)?),
        Command::Test { args, .. } => test::run(&Workspace::load(root)?, &args),
        Command::Lint => lint::run(&Workspace::load(root)?),
        Command::Bench { args } => bench::run(&Workspace::load(root)?, &args),
        Command::Screenshots(wanted) => pages::screenshots(&Workspace::load(root)?, &wanted),
        Command::Pages => pages::weight(&Workspace::load(root)?),
        Command::Codegen { check: true } => codegen::check(&root).map(|()| ExitCode::SUCCESS),
        Command::Codegen { check: false } => codegen::write(&root).map(|()| ExitCode::SUCCESS),
    }
}
