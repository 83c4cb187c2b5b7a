//! Limits on what an app carries that depends on the library: the number of crates, and the crates in two versions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::Workspace;

/// Largest number of crates of the facade with its default features, itself, build scripts and macros included.
const MOST: usize = 125;

/// Crates that may be there in two versions: macros of some dependencies are written for the older one.
const TWICE: &[&str] = &["syn"];

/// Every breach, in words.
pub(crate) fn breaches(workspace: &Workspace) -> Result<Vec<String>> {
    Ok(judge(&tree(workspace)?))
}

/// A line for each crate that is built for this machine, as `name version`, often more than once.
fn tree(workspace: &Workspace) -> Result<String> {
    let mut cargo = workspace.cargo();
    cargo.args(["tree", "--package", "asynq", "--edges", "normal,build"]);
    cargo.args(["--prefix", "none", "--no-dedupe", "--format", "{p}"]);
    let output = cargo.output().context("cargo does not run")?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("cargo tree writes other than text")
}

fn judge(tree: &str) -> Vec<String> {
    let mut crates: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            crates.entry(name).or_default().insert(version);
        }
    }
    let mut breaches = Vec::new();
    let count: usize = crates.values().map(BTreeSet::len).sum();
    if count > MOST {
        breaches.push(format!(
            "asynq with its default features is {count} crates, and {MOST} are the most"
        ));
    }
    for (name, versions) in crates {
        if versions.len() > 1 && !TWICE.contains(&name) {
            let versions: Vec<&str> = versions.into_iter().collect();
            breaches.push(format!("{name} is there in several versions: {}", versions.join(", ")));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_library_is_light() {
        let breaches = breaches(&Workspace::load(workspace::root()).unwrap()).unwrap();
        assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    }

    #[test]
    fn too_many_crates_are_counted_each_once() {
        let tree: String = (0..MOST)
            .map(|n| format!("crate{n} v1.0.0\ncrate{n} v1.0.0 (/elsewhere)\n"))
            .collect();
        assert_eq!(judge(&tree), [""; 0]);
        assert_eq!(judge(&format!("{tree}more v1.0.0 (proc-macro)\n")).len(), 1);
    }

    #[test]
    fn a_crate_in_two_versions_is_found() {
        assert_eq!(
            judge("rand v0.8.8\nrand v0.9.5\nsyn v2.0.1\nsyn v3.0.1"),
            ["rand is there in several versions: v0.8.8, v0.9.5"]
        );
    }
}
