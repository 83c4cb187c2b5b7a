//! Pictures of the web pages, and their weight: tests of `asynq-web` that are ignored otherwise, since they check nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::prerequisites;
use crate::run;
use crate::workspace::Workspace;

/// Longest time that it may take, with its build.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// The folder of the pictures that README and docs show.
const DOCS: &str = "docs/images";

/// Arguments of `screenshots`.
#[derive(Args)]
pub(crate) struct Screenshots {
    /// The folder for the pictures; `screenshots` in the target folder by default
    folder: Option<PathBuf>,
    /// Write those that README and docs show into `docs/images` too
    #[arg(long)]
    docs: bool,
    /// Only pages whose name begins with this text, such as `queue`
    #[arg(long, default_value = "")]
    only: String,
}

/// Makes pictures of all pages.
pub(crate) fn screenshots(workspace: &Workspace, wanted: &Screenshots) -> Result<ExitCode> {
    let folder = match &wanted.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => workspace.metadata.target_directory.join("screenshots").into(),
    };
    let docs = wanted.docs.then(|| workspace.root.join(DOCS));
    let mut variables = vec![("ASYNQ_SCREENSHOTS", folder.as_path())];
    variables.extend(docs.as_deref().map(|docs| ("ASYNQ_SCREENSHOTS_DOCS", docs)));
    variables.push(("ASYNQ_SCREENSHOTS_ONLY", Path::new(&wanted.only)));
    let code = ignored(workspace, &[], "screenshots::pictures_of_all_pages", &variables)?;
    println!("the pictures are in {}", folder.display());
    Ok(code)
}

/// Prints the weight of all pages and the time until they are shown, beside those of asynqmon. The program is built with
/// optimizations, as asynqmon is.
pub(crate) fn weight(workspace: &Workspace) -> Result<ExitCode> {
    ignored(workspace, &["--release"], "weight::pages_beside_those_of_asynqmon", &[])
}

/// Runs an ignored test of the browser.
fn ignored(workspace: &Workspace, args: &[&str], test: &str, variables: &[(&str, &Path)]) -> Result<ExitCode> {
    let (tools, errors) = prerequisites::provide(workspace);
    for error in errors {
        eprintln!("{error:#}");
    }
    let mut cargo = workspace.cargo();
    cargo
        .args(["test", "--package", "asynq-web", "--test", "browser"])
        .args(args)
        .args(["--", "--ignored", "--exact", "--nocapture", test])
        .envs(tools.iter().map(|tool| (tool.variable, &tool.path)))
        .envs(variables.iter().copied());
    let end = run::run(&mut cargo, LIMIT)?;
    ensure!(end.success(), "{test}: {}", end.failure());
    Ok(ExitCode::SUCCESS)
}
