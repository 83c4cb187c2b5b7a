//! Whether the crates can be published as they stand: what their manifests say, and what Cargo would pack.

use std::time::Duration;

use cargo_metadata::{DependencyKind, Package};

use crate::report::Outcome;
use crate::run;
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Files that go with the code of a crate.
const LICENCES: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT"];

/// Packs every crate that may be published, without building it, after a look at its manifest.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    let found = breaches(workspace);
    if !found.is_empty() {
        return Outcome::of(&found);
    }
    // What the workspace was built with is on this machine, so the registry is asked only if that is not enough.
    match pack(workspace, &["--offline"]) {
        Outcome::Passed => Outcome::Passed,
        _ => pack(workspace, &[]),
    }
}

fn pack(workspace: &Workspace, args: &[&str]) -> Outcome {
    let mut cargo = workspace.cargo();
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
    use super::*;
    use crate::workspace;

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
                "asynq-redis"
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
