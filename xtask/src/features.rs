//! Feature rows: which sets of features each crate is checked with, alone and not as a part of the workspace, where other
//! crates would turn on what it forgot to ask for.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::Package;

type Features = BTreeMap<String, Vec<String>>;

/// The rows of a crate, as lists of features: none, each one alone, all. Rows that come to the same are one row.
pub(crate) fn rows(package: &Package) -> Vec<Vec<String>> {
    rows_of(&package.features)
}

fn rows_of(features: &Features) -> Vec<Vec<String>> {
    let all: Vec<String> = features.keys().cloned().collect();
    let single = all.iter().map(|feature| vec![feature.clone()]);
    let mut seen = BTreeSet::new();
    [Vec::new()]
        .into_iter()
        .chain(single)
        .chain([all.clone()])
        .filter(|row| seen.insert(turned_on(features, row)))
        .collect()
}

/// All that a row turns on, directly or not. The feature `default` is only a name for what it contains.
fn turned_on(features: &Features, row: &[String]) -> BTreeSet<String> {
    let mut on = BTreeSet::new();
    let mut open = row.to_vec();
    while let Some(feature) = open.pop() {
        if on.insert(feature.clone()) {
            open.extend(features.get(&feature).into_iter().flatten().cloned());
        }
    }
    on.remove("default");
    on
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(features: [(&str, &[&str]); N]) -> Vec<String> {
        let owned = |(name, on): (&str, &[&str])| (name.to_owned(), on.iter().map(|&on| on.to_owned()).collect());
        rows_of(&features.into_iter().map(owned).collect())
            .into_iter()
            .map(|row| row.join("+"))
            .collect()
    }

    #[test]
    fn a_crate_without_features_has_one_row() {
        assert_eq!(rows([]), [""]);
        assert_eq!(rows([("default", &[])]), [""]);
    }

    #[test]
    fn none_each_and_all() {
        assert_eq!(
            rows([
                ("default", &[]),
                ("ractor-async-trait", &["ractor/async-trait"]),
                ("ractor-cluster", &["ractor/cluster"]),
            ]),
            [
                "",
                "ractor-async-trait",
                "ractor-cluster",
                "default+ractor-async-trait+ractor-cluster"
            ]
        );
    }

    #[test]
    fn rows_that_come_to_the_same_are_one() {
        assert_eq!(
            rows([("default", &["json"]), ("json", &["dep:serde_json"])]),
            ["", "default"]
        );
        assert_eq!(
            rows([("redis", &["dep:redis"]), ("tls", &["redis", "dep:rustls"])]),
            ["", "redis", "tls"]
        );
    }
}
