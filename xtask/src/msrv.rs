//! The oldest Rust that builds the workspace: every crate declares it, and no dependency asks for more.

use std::collections::BTreeSet;

use cargo_metadata::Metadata;
use cargo_metadata::semver::Version;

/// The oldest Rust that is supported.
const MSRV: Version = Version::new(1, 88, 0);

/// Every crate that does not fit, in words.
pub(crate) fn breaches(metadata: &Metadata) -> Vec<String> {
    let members: BTreeSet<_> = metadata.workspace_members.iter().collect();
    let crates = metadata.packages.iter().map(|package| {
        let name = format!("{} {}", package.name, package.version);
        (name, members.contains(&package.id), package.rust_version.as_ref())
    });
    crates
        .filter_map(|(name, member, declared)| breach(&name, member, declared))
        .collect()
}

fn breach(name: &str, member: bool, declared: Option<&Version>) -> Option<String> {
    match declared {
        Some(version) if member && *version != MSRV => Some(format!("{name} declares Rust {version}, not {MSRV}")),
        Some(version) if *version > MSRV => Some(format!("{name} needs Rust {version}, and {MSRV} has to do")),
        None if member => Some(format!(
            "{name} does not declare Rust {MSRV}: `rust-version.workspace = true`"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{self, Workspace};

    #[test]
    fn no_crate_needs_a_newer_rust() {
        let workspace = Workspace::load(workspace::root()).unwrap();
        let breaches = breaches(&workspace.metadata);
        assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    }

    #[test]
    fn dependencies_may_be_older_or_silent() {
        assert_eq!(breach("old", false, Some(&Version::new(1, 56, 0))), None);
        assert_eq!(breach("same", false, Some(&MSRV)), None);
        assert_eq!(breach("silent", false, None), None);
        assert!(breach("new", false, Some(&Version::new(1, 89, 0))).is_some());
    }

    #[test]
    fn members_declare_just_this_rust() {
        assert_eq!(breach("asynq", true, Some(&MSRV)), None);
        assert!(breach("asynq", true, Some(&Version::new(1, 85, 0))).is_some());
        assert!(breach("asynq", true, None).is_some());
    }
}
