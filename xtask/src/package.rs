//! Checks that the crates can be published as they stand: their manifests, and the files that Cargo would pack.

use std::process::{Command, Stdio};
use std::time::Duration;

use cargo_metadata::{DependencyKind, Package};

use crate::prerequisites::Version;
use crate::report::Outcome;
use crate::run;
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Files that go with the code of a crate.
const LICENCES: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT"];

/// The oldest Cargo that packs several crates of one workspace that depend on each other and are not published yet.
const OLDEST_CARGO: Version = Version(1, 90);

/// Packs every crate that may be published, without building it, after a look at its manifest.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    let found = breaches(workspace);
    if !found.is_empty() {
        return Outcome::of(&found);
    }
    check_packing(workspace, || workspace.cargo())
}

fn check_packing(workspace: &Workspace, cargo: impl Fn() -> Command) -> Outcome {
    if let Some(version) = version(cargo())
        && version < OLDEST_CARGO
    {
        return Outcome::Skipped(format!(
            "cargo {version} cannot pack crates that depend on each other, {OLDEST_CARGO} or newer can"
        ));
    }
    // What the workspace was built with is on this machine, so the registry is asked only if that is not enough.
    match pack(workspace, cargo(), &["--offline"]) {
        Outcome::Passed => Outcome::Passed,
        _ => pack(workspace, cargo(), &[]),
    }
}

fn version(mut cargo: Command) -> Option<Version> {
    let output = cargo.arg("--version").stdin(Stdio::null()).output().ok()?;
    Version::parse(&String::from_utf8_lossy(&output.stdout))
}

fn pack(workspace: &Workspace, mut cargo: Command, args: &[&str]) -> Outcome {
    cargo
        .args(["package", "--quiet", "--no-verify", "--allow-dirty"])
        .args(args);
    for member in published(workspace) {
        cargo.args(["--package", &member.name]);
    }
    run::run(&mut cargo, LIMIT).into()
}

fn published(workspace: &Workspace) -> impl Iterator<Item = &Package> {
    workspace.members().into_iter().filter(|member| is_published(member))
}

pub(crate) fn is_published(member: &Package) -> bool {
    // None: to every registry; an empty list: to no registry.
    member.publish.as_ref().is_none_or(|registries| !registries.is_empty())
}

/// Returns what is missing in the manifests, in words.
fn breaches(workspace: &Workspace) -> Vec<String> {
    let names: Vec<&str> = published(workspace).map(|member| member.name.as_str()).collect();
    let mut breaches = Vec::new();
    for member in published(workspace) {
        let is_file = |name: &str| member.manifest_path.with_file_name(name).is_file();
        let mut lacks = |what: &str| breaches.push(format!("{} is published and lacks {what}", member.name));
        if member.description.is_none() {
            lacks("a description");
        }
        if member.license.is_none() {
            lacks("a licence");
        }
        if !member.readme.as_ref().is_some_and(|readme| is_file(readme.as_str())) {
            lacks("a README");
        }
        for licence in LICENCES.iter().filter(|name| !is_file(name)) {
            lacks(licence);
        }
        if !(1..=5).contains(&member.keywords.len()) {
            lacks("one to five keywords");
        }
        if !(1..=5).contains(&member.categories.len()) {
            lacks("one to five categories");
        }
        for dependency in member
            .dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some())
        {
            // A dependency of tests without a version is left out of what is published.
            let left_out = dependency.kind == DependencyKind::Development && dependency.req.comparators.is_empty();
            if !left_out && !names.contains(&dependency.name.as_str()) {
                lacks(&format!("{}, which is not published", dependency.name));
            } else if !left_out && dependency.req.comparators.is_empty() {
                lacks(&format!("a version of {}", dependency.name));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::workspace;

    /// Checks with a Cargo of that version, which packs or does not.
    fn packed_by(version: &str, packs: bool) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let cargo = folder.path().join("cargo");
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && echo 'cargo {version} (0123abcd 2025-09-18)' && exit\n{packs}\n"
        );
        std::fs::write(&cargo, script).unwrap();
        std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
        let workspace = Workspace::load(workspace::root()).unwrap();
        check_packing(&workspace, || Command::new(&cargo))
    }

    #[test]
    fn a_cargo_that_is_too_old_is_told_and_is_no_failure() {
        for (version, shown) in [("1.88.0", "1.88"), ("1.89.2", "1.89"), ("0.99.0", "0.99")] {
            let Outcome::Skipped(why) = packed_by(version, false) else {
                panic!("{version} was not skipped");
            };
            assert_eq!(
                why,
                format!("cargo {shown} cannot pack crates that depend on each other, 1.90 or newer can")
            );
        }
    }

    #[test]
    fn a_cargo_that_is_new_enough_packs() {
        for version in ["1.90.0", "1.90.0-nightly", "1.95.1", "2.0.0", "of my own"] {
            assert!(matches!(packed_by(version, true), Outcome::Passed), "{version}");
            assert!(matches!(packed_by(version, false), Outcome::Failed(_)), "{version}");
        }
    }

    #[test]
    fn the_crates_of_the_library_can_be_published_and_no_others() {
        let workspace = Workspace::load(workspace::root()).unwrap();
        let breaches = breaches(&workspace);
        assert!(breaches.is_empty(), "{}", breaches.join("\n"));
        let mut names: Vec<&str> = published(&workspace).map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "asynq",
                "asynq-actors",
                "asynq-core",
                "asynq-macros",
                "asynq-memory",
                "asynq-proto",
                "asynq-query",
                "asynq-redis",
                "asynq-web"
            ]
        );
    }

    #[test]
    fn what_a_manifest_lacks_is_told() {
        let mut workspace = Workspace::load(workspace::root()).unwrap();
        let core = workspace
            .metadata
            .packages
            .iter_mut()
            .find(|package| package.name == "asynq-core")
            .unwrap();
        core.description = None;
        core.keywords.clear();
        core.publish = None;
        let proto = core
            .dependencies
            .iter_mut()
            .find(|dependency| dependency.name == "asynq-proto")
            .unwrap();
        proto.req = cargo_metadata::semver::VersionReq::STAR;
        assert_eq!(
            breaches(&workspace),
            [
                "asynq-core is published and lacks a description",
                "asynq-core is published and lacks one to five keywords",
                "asynq-core is published and lacks a version of asynq-proto"
            ]
        );
        let packages = &mut workspace.metadata.packages;
        packages
            .iter_mut()
            .find(|package| package.name == "asynq-proto")
            .unwrap()
            .publish = Some(Vec::new());
        let breaches = breaches(&workspace);
        let told = "asynq-core is published and lacks asynq-proto, which is not published";
        assert!(breaches.iter().any(|breach| breach == told), "{breaches:?}");
    }
}
