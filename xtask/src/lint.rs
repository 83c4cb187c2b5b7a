//! Every check that is not a test. All of them are done, whatever the earlier ones find.

use std::ffi::OsStr;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Result;
use cargo_metadata::Message;
use cargo_metadata::diagnostic::{Diagnostic, DiagnosticLevel};

use crate::report::{Outcome, Report};
use crate::run;
use crate::workspace::Workspace;
use crate::{carry, circles, codegen, features, floors, msrv, package, surface, tidy};

/// Longest time that one command may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let mut report = Report::default();
    report.check("house rules", || match tidy::breaches(workspace) {
        Ok(breaches) => Outcome::of(&breaches),
        Err(error) => Outcome::from(Err::<(), _>(error)),
    });
    report.check("floors", || Outcome::of(&floors::breaches(&workspace.metadata)));
    report.check("what users carry", || match carry::breaches(workspace) {
        Ok(breaches) => Outcome::of(&breaches),
        Err(error) => Outcome::from(Err::<(), _>(error)),
    });
    report.check("what users see", || match surface::breaches(&workspace.root) {
        Ok(breaches) => Outcome::of(&breaches),
        Err(error) => Outcome::from(Err::<(), _>(error)),
    });
    report.check("circles of imports", || match circles::breaches(&workspace.root) {
        Ok(breaches) => Outcome::of(&breaches),
        Err(error) => Outcome::from(Err::<(), _>(error)),
    });
    report.check("oldest Rust", || Outcome::of(&msrv::breaches(&workspace.metadata)));
    report.check("generated code", || codegen::check(&workspace.root).into());
    report.check("format", || subcommand(workspace, "fmt", &["--all", "--check"]));
    report.check("clippy", || {
        let mut args = workspace.selection();
        args.extend(["--all-targets", "--", "-D", "warnings"].map(str::to_owned));
        subcommand(workspace, "clippy", &args)
    });
    report.check("documentation", || {
        let mut cargo = workspace.cargo();
        cargo
            .args(["doc", "--no-deps"])
            .args(workspace.selection())
            .env("RUSTDOCFLAGS", "-D warnings");
        run::run(&mut cargo, LIMIT).into()
    });
    report.check("feature rows", || feature_rows(workspace));
    report.check("packages", || package::check(workspace));
    report.check("dependencies", || {
        subcommand(workspace, "deny", &["check", "bans", "licenses", "sources"])
    });
    println!("{}", report.summary());
    Ok(report.exit_code())
}

/// Runs a subcommand of Cargo that not every machine has.
fn subcommand(workspace: &Workspace, name: &str, args: &[impl AsRef<OsStr>]) -> Outcome {
    if !is_installed(workspace, name) {
        return Outcome::Skipped(format!("`cargo {name}` is not installed"));
    }
    run::run(workspace.cargo().arg(name).args(args), LIMIT).into()
}

fn is_installed(workspace: &Workspace, name: &str) -> bool {
    let mut cargo = workspace.cargo();
    cargo
        .args([name, "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    cargo.status().is_ok_and(|status| status.success())
}

/// Checks each crate alone with each of its feature rows: by clippy with none and with all of them, since it takes twice as
/// long as the compiler, and by the compiler with single ones, which finds what is missing or not used there.
fn feature_rows(workspace: &Workspace) -> Outcome {
    let clippy = is_installed(workspace, "clippy");
    let mut failed = Vec::new();
    for member in workspace.members() {
        // Nobody chooses features of what is not published: that it builds alone is enough.
        let rows = if package::is_published(member) {
            features::rows(member)
        } else {
            vec![Vec::new()]
        };
        let last = rows.len() - 1;
        for (nth, row) in rows.iter().enumerate() {
            let mut cargo = workspace.cargo();
            let clippy = clippy && (nth == 0 || nth == last);
            cargo.arg(if clippy { "clippy" } else { "check" });
            cargo.args(["--quiet", "--package", &member.name, "--no-default-features"]);
            if !row.is_empty() {
                cargo.args(["--features", &row.join(",")]);
            }
            cargo.args(["--message-format", "json"]);
            if clippy {
                // As the step before, so that its results are of use.
                cargo.args(["--", "-D", "warnings"]);
            }
            let shown = run::shown(&cargo);
            println!("$ {shown}");
            if let Outcome::Failed(why) = without_warnings(&mut cargo) {
                failed.push(format!("{shown}: {why}"));
            }
        }
    }
    Outcome::of(&failed)
}

/// Runs a build of Cargo that tells its messages as JSON; warnings fail it, too. Flags that turn them into errors would build all
/// dependencies anew.
fn without_warnings(cargo: &mut Command) -> Outcome {
    let mut warnings = 0;
    let end = run::run_reading(cargo, LIMIT, |line| {
        for diagnostic in diagnostics(line) {
            warnings += usize::from(diagnostic.level == DiagnosticLevel::Warning);
            eprint!("{}", diagnostic.rendered.unwrap_or(diagnostic.message));
        }
    });
    match Outcome::from(end) {
        Outcome::Passed if warnings > 0 => Outcome::Failed(format!("{warnings} warnings")),
        outcome => outcome,
    }
}

/// Returns what the compiler says in a line of Cargo's messages.
fn diagnostics(line: &[u8]) -> impl Iterator<Item = Diagnostic> {
    Message::parse_stream(line).filter_map(|message| match message {
        Ok(Message::CompilerMessage(message)) => Some(message.message),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiler_says_is_found_in_cargos_messages() {
        let line = r#"{"reason":"compiler-message","package_id":"path+file:///asynq#0.1.0","manifest_path":"/asynq/Cargo.toml",
            "target":{"kind":["lib"],"crate_types":["lib"],"name":"asynq","src_path":"/asynq/lib.rs","edition":"2024",
            "doc":true,"doctest":true,"test":true},"message":{"rendered":"warning: unused\n","$message_type":"diagnostic",
            "children":[],"code":null,"level":"warning","message":"unused","spans":[]}}"#
            .replace('\n', "");
        let found: Vec<_> = diagnostics(line.as_bytes()).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].level, DiagnosticLevel::Warning);
        assert_eq!(found[0].rendered.as_deref(), Some("warning: unused\n"));
        assert_eq!(diagnostics(br#"{"reason":"build-finished","success":true}"#).count(), 0);
        assert_eq!(diagnostics(b"text that is no message").count(), 0);
    }
}
