//! Every check that is not a test. All of them are done, whatever the earlier ones find.

use std::ffi::OsStr;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Result;

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

/// Checks each crate alone with each of its feature rows.
fn feature_rows(workspace: &Workspace) -> Outcome {
    // Clippy where it is, so that its results of the step before are of use.
    let clippy = is_installed(workspace, "clippy");
    let mut failed = Vec::new();
    for member in workspace.members() {
        // Nobody chooses features of what is not published: that it builds alone is enough.
        let rows = if package::is_published(member) {
            features::rows(member)
        } else {
            vec![Vec::new()]
        };
        for row in rows {
            let mut cargo = workspace.cargo();
            cargo.arg(if clippy { "clippy" } else { "check" });
            cargo.args(["--quiet", "--package", &member.name, "--no-default-features"]);
            if !row.is_empty() {
                cargo.args(["--features", &row.join(",")]);
            }
            if clippy {
                cargo.args(["--", "-D", "warnings"]);
            }
            let shown = run::shown(&cargo);
            println!("$ {shown}");
            if let Outcome::Failed(why) = Outcome::from(run::run(&mut cargo, LIMIT)) {
                failed.push(format!("{shown}: {why}"));
            }
        }
    }
    Outcome::of(&failed)
}
