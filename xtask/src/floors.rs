//! The floors of the house: which crate may know which. `ARCHITECTURE.md` says why.
//!
//! Only what is built for users counts: dependencies of tests are free.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata};

/// A crate of the product.
struct Room {
    name: &'static str,
    /// It may depend on crates of lower floors only.
    floor: u8,
    /// Crates that must not come in, not even through others.
    never: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room {
        name: "asynq-proto",
        floor: 0,
        never: &["prost-build", "protox", "ractor", "redis", "tokio"],
    },
    Room {
        name: "asynq-core",
        floor: 1,
        never: &["ractor", "redis"],
    },
    Room {
        name: "asynq-actors",
        floor: 2,
        never: &["redis"],
    },
    Room {
        name: "asynq-redis",
        floor: 2,
        never: &["ractor"],
    },
    Room {
        name: "asynq-memory",
        floor: 2,
        never: &["ractor", "redis"],
    },
    Room {
        name: "asynq-query",
        floor: 2,
        never: &["ractor", "redis"],
    },
    Room {
        name: "asynq-testing",
        floor: 2,
        never: &["ractor", "redis"],
    },
    Room {
        name: "asynq-macros",
        floor: 3,
        never: &["ractor", "redis", "tokio"],
    },
    Room {
        name: FACADE,
        floor: 3,
        never: &[],
    },
    Room {
        name: "asynq-cli",
        floor: APPS,
        never: &[],
    },
    Room {
        name: "asynq-web",
        floor: APPS,
        never: &[],
    },
];

/// The crate that users depend on.
const FACADE: &str = "asynq";

/// The floor of the programs, which use the facade only, as any user does.
const APPS: u8 = 4;

/// Edges within a floor.
const SIDEWAYS: &[(&str, &str)] = &[(FACADE, "asynq-macros"), ("asynq-cli", "asynq-web")];

/// Crates that are not part of the product: they may know all, and none may know them.
const TOOLS: &[&str] = &["asynq-bench", "asynq-interop", "asynq-tests", "shop", "xtask"];

/// The crates and who depends on whom, by name.
struct House {
    members: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

/// Every edge that the floors do not allow, in words.
pub(crate) fn breaches(metadata: &Metadata) -> Vec<String> {
    House::of(metadata).breaches()
}

impl House {
    fn of(metadata: &Metadata) -> Self {
        let name = |id| metadata[id].name.to_string();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            let built = node.deps.iter().filter(|dep| {
                dep.dep_kinds
                    .iter()
                    .any(|kind| kind.kind != DependencyKind::Development)
            });
            edges
                .entry(name(&node.id))
                .or_default()
                .extend(built.map(|dep| name(&dep.pkg)));
        }
        Self {
            members: metadata.workspace_members.iter().map(name).collect(),
            edges,
        }
    }

    fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        for member in self.members.iter().filter(|member| !TOOLS.contains(&member.as_str())) {
            let Some(room) = ROOMS.iter().find(|room| room.name == member) else {
                breaches.push(format!(
                    "{member} has no floor: give it one in xtask/src/floors.rs and in ARCHITECTURE.md"
                ));
                continue;
            };
            let known = self.known_by(member).filter(|known| self.members.contains(*known));
            breaches.extend(known.filter_map(|known| room.refuses(known)));
            for banned in room.never {
                if let Some(path) = self.path(member, banned) {
                    breaches.push(format!("{member} must not bring in {banned}: {}", path.join(" -> ")));
                }
            }
        }
        breaches
    }

    fn known_by(&self, name: &str) -> impl Iterator<Item = &str> {
        self.edges.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The shortest way from one crate to another.
    fn path<'a>(&'a self, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
        let mut reached_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = VecDeque::from([from]);
        while let Some(name) = open.pop_front() {
            if name == to {
                let mut path = vec![name];
                while let Some(before) = path.last().and_then(|name| reached_from.get(name)) {
                    path.push(before);
                }
                path.reverse();
                return Some(path);
            }
            for known in self.known_by(name) {
                if known != from && !reached_from.contains_key(known) {
                    reached_from.insert(known, name);
                    open.push_back(known);
                }
            }
        }
        None
    }
}

impl Room {
    /// Returns why this crate must not know another crate of the workspace, if so.
    fn refuses(&self, known: &str) -> Option<String> {
        if SIDEWAYS.contains(&(self.name, known)) {
            return None;
        }
        let name = self.name;
        let Some(other) = ROOMS.iter().find(|room| room.name == known) else {
            return Some(format!("{name} must not know {known}, which is no part of the product"));
        };
        if other.floor >= self.floor {
            return Some(format!(
                "{name} on floor {} must not know {known} on floor {}",
                self.floor, other.floor
            ));
        }
        (self.floor == APPS && known != FACADE).then(|| format!("{name} must use {FACADE} only, and not {known}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{self, Workspace};

    /// The breaches of a house with these crates and what they know. Names that begin with `asynq` are members.
    fn breaches<const N: usize>(edges: [(&str, &[&str]); N]) -> Vec<String> {
        let owned = |name: &&str| (*name).to_owned();
        let edges: BTreeMap<String, BTreeSet<String>> = edges
            .iter()
            .map(|(name, known)| (owned(name), known.iter().map(owned).collect()))
            .collect();
        let members = edges
            .keys()
            .filter(|name| name.starts_with("asynq") || *name == "xtask")
            .cloned()
            .collect();
        House { members, edges }.breaches()
    }

    #[test]
    fn the_workspace_keeps_its_floors() {
        let workspace = Workspace::load(workspace::root()).unwrap();
        let breaches = super::breaches(&workspace.metadata);
        assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    }

    #[test]
    fn dependencies_of_tests_are_not_seen_and_others_are() {
        let workspace = Workspace::load(workspace::root()).unwrap();
        let house = House::of(&workspace.metadata);
        let known: Vec<&str> = house.known_by("xtask").collect();
        assert!(known.contains(&"protox"), "{known:?}");
        assert!(!known.contains(&"tempfile"), "{known:?}");
    }

    #[test]
    fn the_planned_house_stands() {
        let planned: [(&str, &[&str]); 13] = [
            ("asynq-proto", &["prost"]),
            ("asynq-core", &["asynq-proto", "tokio"]),
            ("asynq-actors", &["asynq-core", "ractor"]),
            ("asynq-redis", &["asynq-core", "asynq-proto", "redis"]),
            ("asynq-memory", &["asynq-core"]),
            ("asynq-query", &["asynq-core", "winnow"]),
            ("asynq-testing", &["asynq-core"]),
            ("asynq-macros", &["syn"]),
            (
                "asynq",
                &[
                    "asynq-actors",
                    "asynq-core",
                    "asynq-macros",
                    "asynq-memory",
                    "asynq-query",
                    "asynq-redis",
                ],
            ),
            ("asynq-web", &["asynq", "axum"]),
            ("asynq-cli", &["asynq", "asynq-web"]),
            ("asynq-interop", &["asynq", "asynq-redis"]),
            ("xtask", &["protox"]),
        ];
        assert_eq!(breaches(planned), [""; 0]);
    }

    #[test]
    fn knowing_a_higher_floor_is_a_breach() {
        assert_eq!(
            breaches([("asynq-core", &["asynq-redis"]), ("asynq-redis", &[])]),
            ["asynq-core on floor 1 must not know asynq-redis on floor 2"]
        );
    }

    #[test]
    fn knowing_a_sibling_is_a_breach() {
        assert_eq!(
            breaches([("asynq-actors", &["asynq-memory"]), ("asynq-memory", &[])]),
            ["asynq-actors on floor 2 must not know asynq-memory on floor 2"]
        );
        assert_eq!(
            breaches([("asynq-web", &["asynq-cli"]), ("asynq-cli", &[])]),
            ["asynq-web on floor 4 must not know asynq-cli on floor 4"]
        );
    }

    #[test]
    fn apps_use_the_facade_only() {
        assert_eq!(
            breaches([
                ("asynq-cli", &["asynq", "asynq-redis"]),
                ("asynq", &[]),
                ("asynq-redis", &[])
            ]),
            ["asynq-cli must use asynq only, and not asynq-redis"]
        );
    }

    #[test]
    fn a_banned_crate_is_found_behind_others() {
        assert_eq!(
            breaches([
                ("asynq-core", &["pool"]),
                ("pool", &["client", "log"]),
                ("client", &["redis"])
            ]),
            ["asynq-core must not bring in redis: asynq-core -> pool -> client -> redis"]
        );
    }

    #[test]
    fn tools_are_no_part_of_the_product() {
        assert_eq!(
            breaches([("asynq-core", &["xtask"]), ("xtask", &[])]),
            ["asynq-core must not know xtask, which is no part of the product"]
        );
    }

    #[test]
    fn a_new_crate_needs_a_floor() {
        assert_eq!(
            breaches([("asynq-cellar", &[])]),
            ["asynq-cellar has no floor: give it one in xtask/src/floors.rs and in ARCHITECTURE.md"]
        );
    }
}
