//! Circles of imports: files of a crate that need each other. A file that is in none can be read and changed
//! with the files below it in mind alone.
//!
//! A file needs another one where it imports an item of it, or names one by a path; an import that hands an
//! item on (`pub use`, `pub(crate) use`) is no need. Modules within a file belong to it, and tests count for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use crate::surface::{CRATES, library::Library};

/// Circles that are right, by their modules, each with the reason.
const RIGHT: &[(&[&str], &str)] = &[(
    &[
        "asynq_actors::work::handlers::handle_task",
        "asynq_actors::work::handlers::incarnation",
        "asynq_actors::work::handlers::pool",
    ],
    "a task, the actor that has it and the pool that lent it shake hands",
)];

/// Every circle that is not known to be right, and every known one that is none any more, in words.
pub(crate) fn breaches(root: &Path) -> Result<Vec<String>> {
    Ok(of(&Library::read(root, CRATES)?.needs(), RIGHT))
}

fn of(needs: &BTreeMap<String, BTreeSet<String>>, right: &[(&[&str], &str)]) -> Vec<String> {
    let found = circles(needs);
    let names = |circle: &BTreeSet<String>| {
        circle
            .iter()
            .map(|file| format!("`{file}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let known: Vec<BTreeSet<String>> = right
        .iter()
        .map(|(circle, _)| circle.iter().map(|&file| file.to_owned()).collect())
        .collect();
    let new = found.iter().filter(|circle| !known.contains(circle));
    let gone = known.iter().filter(|circle| !found.contains(circle));
    new.map(|circle| {
        format!(
            "{} need each other: move what one of them has in the wrong place",
            names(circle)
        )
    })
    .chain(gone.map(|circle| format!("{} are no circle any more: strike it off the list", names(circle))))
    .collect()
}

/// The largest sets of files of which each needs each, directly or through others.
fn circles(needs: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = needs.keys().map(|file| (file, reached(needs, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, all) in &reached {
        let back = all
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|all| all.contains(file)));
        let circle: BTreeSet<String> = back.map(|&file| file.clone()).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// The files that one needs, directly or through others.
fn reached<'n>(needs: &'n BTreeMap<String, BTreeSet<String>>, file: &String) -> BTreeSet<&'n String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = needs.get(file).into_iter().flatten().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(needs.get(file).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_files_of_the_workspace_need_each_other_without_a_reason() {
        assert_eq!(breaches(&crate::workspace::root()).unwrap(), Vec::<String>::new());
    }

    fn needs_of(files: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join("src").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Library::read(root.path(), &[("c", "src")]).unwrap().needs()
    }

    #[test]
    fn files_that_need_each_other_are_found_however_they_name_it() {
        let needs = needs_of(&[
            ("lib.rs", "mod a; mod b; mod low; pub use a::A; pub use b::B;"),
            (
                "a.rs",
                "use crate::B; mod below; pub(crate) use below::Below; pub struct A(B);",
            ),
            ("a/below.rs", "use super::A; pub struct Below(A);"),
            ("b.rs", "use crate::low; pub struct B(low::Low, super::a::Below);"),
            ("low.rs", "pub struct Low; #[cfg(test)] mod tests { use crate::B; }"),
        ]);
        let circle = ["c::a", "c::a::below", "c::b"];
        let found = circles(&needs);
        assert_eq!(found, [circle.map(str::to_owned).into()]);
        let said = of(&needs, &[]);
        assert_eq!(
            said,
            ["`c::a`, `c::a::below`, `c::b` need each other: move what one of them has in the wrong place"]
        );
        assert!(of(&needs, &[(&circle, "on purpose")]).is_empty());
    }

    #[test]
    fn an_item_that_is_handed_on_makes_no_circle_and_a_list_does_not_outlive_its_circle() {
        let needs = needs_of(&[
            ("lib.rs", "mod a; pub(crate) use a::A; pub struct Root;"),
            (
                "a.rs",
                "use crate::Root; pub struct A(Root); mod inner { use super::A; pub struct Inner(A); }",
            ),
        ]);
        assert!(of(&needs, &[]).is_empty(), "{needs:?}");
        let said = of(&needs, &[(&["c", "c::a"], "once")]);
        assert_eq!(said, ["`c`, `c::a` are no circle any more: strike it off the list"]);
    }
}
