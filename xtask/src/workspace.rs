//! The workspace as Cargo sees it, and Cargo as its commands call it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package, Target, TargetKind};

/// Features that change the traits of ractor, and so break code written for the other mode. They have check
/// rows of their own and are off in every build of the whole workspace, where all other features are on.
const MODES: &[&str] = &["ractor-async-trait", "ractor-cluster"];

pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) metadata: Metadata,
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

impl Workspace {
    /// Asks Cargo about the workspace: every dependency that this machine would build, with all features on.
    pub(crate) fn load(root: PathBuf) -> Result<Self> {
        let metadata = MetadataCommand::new()
            .cargo_path(cargo_path())
            .current_dir(&root)
            .features(CargoOpt::AllFeatures)
            .other_options(["--filter-platform".to_owned(), host(&root)?])
            .exec()
            .context("cargo cannot read the workspace")?;
        Ok(Self { root, metadata })
    }

    /// Cargo, to be run in the workspace.
    pub(crate) fn cargo(&self) -> Command {
        cargo(&self.root)
    }

    pub(crate) fn members(&self) -> Vec<&Package> {
        self.metadata.workspace_packages()
    }

    /// The targets of a kind in all members.
    pub(crate) fn targets(&self, kind: &TargetKind) -> Vec<&Target> {
        self.members()
            .into_iter()
            .flat_map(|member| &member.targets)
            .filter(|target| target.is_kind(kind.clone()))
            .collect()
    }

    /// The selection for a build of the whole workspace. All its builds use the same one, so that they share
    /// their results.
    pub(crate) fn selection(&self) -> Vec<String> {
        let mut selection = vec!["--workspace".to_owned()];
        for member in self.members() {
            for feature in member.features.keys().filter(|name| !MODES.contains(&name.as_str())) {
                selection.push("--features".to_owned());
                selection.push(format!("{}/{feature}", member.name));
            }
        }
        selection
    }
}

fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(cargo_path());
    cargo.current_dir(root);
    // What Cargo tells the program it runs, here this one, is not for the builds below it: build scripts that
    // watch these variables would run again each time the commands take turns with a plain `cargo`.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_a_package) {
            cargo.env_remove(name);
        }
    }
    if in_ci() {
        cargo.env("CARGO_INCREMENTAL", "0");
    }
    cargo
}

fn describes_a_package(variable: &str) -> bool {
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_CRATE_",
        "CARGO_BIN_",
        "CARGO_PRIMARY_",
    ]
    .iter()
    .any(|prefix| variable.starts_with(prefix))
}

/// Returns whether this is a run of continuous integration.
fn in_ci() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}

fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// The target triple of this machine.
fn host(root: &Path) -> Result<String> {
    let output = cargo(root).arg("-vV").output().context("cargo does not run")?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .context("`cargo -vV` names no host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_of_the_whole_workspace_leave_the_modes_of_ractor_out() {
        let workspace = Workspace::load(root()).unwrap();
        let selection = workspace.selection();
        assert!(selection.iter().any(|word| word == "asynq/redis"), "{selection:?}");
        assert!(!selection.iter().any(|word| word.contains("ractor")), "{selection:?}");
    }

    #[test]
    fn what_describes_xtask_is_not_handed_down() {
        assert!(describes_a_package("CARGO_PKG_VERSION"));
        assert!(describes_a_package("CARGO_MANIFEST_DIR"));
        assert!(!describes_a_package("CARGO_HOME"));
        assert!(!describes_a_package("CARGO_TARGET_DIR"));
    }
}
