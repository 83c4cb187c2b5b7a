//! All tests, doc tests and examples of all crates.

use std::env;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use cargo_metadata::{Message, TargetKind};

use crate::prerequisites::{self, Tool};
use crate::report::{Counts, Outcome, Report};
use crate::run;
use crate::workspace::Workspace;

/// Longest time that one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(40 * 60);

/// Longest time that one example may run.
const EXAMPLE_LIMIT: Duration = Duration::from_secs(120);

/// The modes of ractor beside its plain one, which the tests of the runtime pass too. Without the long
/// rows of crashes: those do not depend on the mode. The runtime is built alone here, so without the feature `otel`.
const RACTOR_MODES: [&str; 3] = [
    "ractor-async-trait",
    "ractor-cluster",
    "ractor-async-trait,ractor-cluster",
];
const NOT_IN_MODES: [&str; 2] = ["crash::", "faults::"];
/// The variable that tells the tests that the feature `otel` must be off.
const UNTRACED: &str = "ASYNQ_TEST_UNTRACED";

/// Number of tests of a program that run at once, for each processor. Most tests wait, for a server or for a time, rather than
/// compute: on two processors the whole takes half the time that it takes with one test for each.
const TESTS_PER_PROCESSOR: usize = 4;
/// The variable by which the test harness is told how many.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// Runs everything; or, given arguments for the test programs, only these. The last line of output is the total.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let mut report = Report::default();
    let mut tools = Vec::new();
    report.check("prerequisites", || {
        let (found, errors) = prerequisites::provide(workspace);
        tools = found;
        Outcome::of(&errors.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>())
    });

    let targets: &[&str] = &["--lib", "--bins", "--tests"];
    report.tests("unit and integration tests", || {
        cargo_test(workspace, &tools, targets, args)
    });
    if args.is_empty() {
        for mode in RACTOR_MODES {
            report.tests(&format!("runtime with {mode}"), || ractor_mode(workspace, mode));
        }
        report.tests("doc tests", || cargo_test(workspace, &tools, &["--doc"], args));
        examples(workspace, &tools, &mut report);
    }

    println!("{}\n\n{}", report.summary(), report.total());
    Ok(report.exit_code())
}

fn cargo_test(workspace: &Workspace, tools: &[Tool], targets: &[&str], args: &[String]) -> (Outcome, Counts) {
    let mut cargo = workspace.cargo();
    cargo
        .args(["test", "--no-fail-fast"])
        .args(workspace.selection())
        .args(targets);
    cargo.arg("--").args(args).envs(variables(tools));
    counted(&mut cargo)
}

fn ractor_mode(workspace: &Workspace, mode: &str) -> (Outcome, Counts) {
    let mut cargo = workspace.cargo();
    cargo.args([
        "test",
        "--no-fail-fast",
        "--package",
        "asynq-actors",
        "--lib",
        "--tests",
    ]);
    cargo.args(["--features", mode, "--"]).env(UNTRACED, "1");
    cargo.args(NOT_IN_MODES.iter().flat_map(|name| ["--skip", name]));
    counted(&mut cargo)
}

fn counted(cargo: &mut Command) -> (Outcome, Counts) {
    if env::var_os(TEST_THREADS).is_none() {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        cargo.env(TEST_THREADS, (processors * TESTS_PER_PROCESSOR).to_string());
    }
    let mut counts = Counts::default();
    let end = run::run_reading(cargo, STEP_LIMIT, |line| {
        run::write_out(line);
        if let Some(result) = Counts::parse(&String::from_utf8_lossy(line)) {
            counts += result;
        }
    });
    (end.into(), counts)
}

/// Builds all examples, then runs each as a program.
fn examples(workspace: &Workspace, tools: &[Tool], report: &mut Report) {
    let examples = workspace.targets(&TargetKind::Example);
    if examples.is_empty() {
        return;
    }
    let mut programs = Vec::new();
    report.check("build of the examples", || {
        let mut cargo = workspace.cargo();
        cargo
            .args([
                "build",
                "--keep-going",
                "--examples",
                "--message-format",
                "json-render-diagnostics",
            ])
            .args(workspace.selection());
        let end = run::run_reading(&mut cargo, STEP_LIMIT, |line| programs.extend(example_program(line)));
        end.into()
    });
    for example in examples {
        report.tests(&format!("example {}", example.name), || {
            let Some((_, program)) = programs.iter().find(|(name, _)| *name == example.name) else {
                return (Outcome::Failed("not built".to_owned()), Counts::default());
            };
            // Examples are run as a newcomer runs them: with nothing set up.
            let mut command = Command::new(program);
            command
                .current_dir(&workspace.root)
                .env_remove("REDIS_URL")
                // The web server would run until Ctrl-C.
                .env("WEB_ADDR", "127.0.0.1:0")
                .env("WEB_SECONDS", "3")
                .envs(variables(tools));
            match run::run(&mut command, EXAMPLE_LIMIT).into() {
                Outcome::Passed => (Outcome::Passed, Counts::PASSED),
                failure => (failure, Counts::FAILED),
            }
        });
    }
}

/// The name and the path of an example, if that is what a line of Cargo's messages tells.
fn example_program(line: &[u8]) -> Option<(String, PathBuf)> {
    let Some(Ok(Message::CompilerArtifact(artifact))) = Message::parse_stream(line).next() else {
        return None;
    };
    let program = artifact
        .executable
        .filter(|_| artifact.target.is_kind(TargetKind::Example))?;
    Some((artifact.target.name, program.into()))
}

fn variables(tools: &[Tool]) -> impl Iterator<Item = (&'static str, &PathBuf)> {
    tools.iter().map(|tool| (tool.variable, &tool.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of Cargo about a program it has built, shortened to what is read.
    fn artifact(kind: &str, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"path+file:///asynq#0.1.0","manifest_path":"/asynq/Cargo.toml",
            "target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"quickstart","src_path":"/asynq/quickstart.rs",
            "edition":"2024","doc":false,"doctest":false,"test":false}},"profile":{{"opt_level":"0","debuginfo":1,
            "debug_assertions":true,"overflow_checks":true,"test":false}},"features":[],"filenames":[],
            "executable":{executable},"fresh":true}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn the_programs_of_examples_are_found_in_cargos_messages() {
        let built = artifact("example", r#""/target/debug/examples/quickstart""#);
        let expected = (
            "quickstart".to_owned(),
            PathBuf::from("/target/debug/examples/quickstart"),
        );
        assert_eq!(example_program(built.as_bytes()), Some(expected));
        for other in [
            artifact("example", "null"),
            artifact("bin", r#""/target/debug/quickstart""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
            "text that is no message".to_owned(),
        ] {
            assert_eq!(example_program(other.as_bytes()), None, "{other}");
        }
    }
}
