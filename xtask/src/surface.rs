//! The public surface of the facade: all of it has a path that begins with `asynq::`, and examples show no other
//! crate.
//!
//! Reads the sources of the facade and of the crates that it is made of, follows `pub use` and `pub mod` from
//! its root, and looks at the signatures and the documentation of what it comes to. Every feature counts as on.
//!
//! Limits: names in the arguments of a macro that makes items count as items, but what the macro writes for
//! them is not seen. The names of types have a small letter in them.

pub(crate) mod library;
mod signature;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use self::library::{Def, Library, Place, Target};
use self::signature::Seen;

/// The crate that users depend on, as it is called in paths.
const FACADE: &str = "asynq";

/// The crates that the facade is made of, and their folders.
pub(crate) const CRATES: &[(&str, &str)] = &[
    (FACADE, "src"),
    ("asynq_actors", "actors/src"),
    ("asynq_core", "crates/asynq-core/src"),
    ("asynq_macros", "crates/asynq-macros/src"),
    ("asynq_memory", "crates/asynq-memory/src"),
    ("asynq_proto", "proto/src"),
    ("asynq_query", "crates/asynq-query/src"),
    ("asynq_redis", "crates/asynq-redis/src"),
];

/// Every type that users see and cannot name, and every example that shows them another crate, in words.
pub(crate) fn breaches(root: &Path) -> Result<Vec<String>> {
    Ok(Surface::of(&Library::read(root, CRATES)?, FACADE).breaches())
}

/// All that has a path through the facade.
struct Surface<'a> {
    library: &'a Library,
    modules: BTreeSet<Place>,
    items: BTreeSet<Def>,
}

impl<'a> Surface<'a> {
    fn of(library: &'a Library, facade: &str) -> Self {
        let mut surface = Self {
            library,
            modules: BTreeSet::new(),
            items: BTreeSet::new(),
        };
        surface.enter(vec![facade.to_owned()]);
        surface
    }

    /// Adds what is public in a module.
    fn enter(&mut self, place: Place) {
        if !self.modules.insert(place.clone()) {
            return;
        }
        for name in self.library.public_names(&place) {
            match self.library.find(&place, &[name]) {
                Some(Target::Module(inner)) => self.enter(inner),
                Some(Target::Item(def)) => drop(self.items.insert(def)),
                None => {}
            }
        }
        for glob in self.library.public_globs(&place) {
            if let Some(Target::Module(inner)) = self.library.find(&place, &glob) {
                self.enter(inner);
            }
        }
    }

    /// Returns what users see, all of it.
    fn seen(&self) -> Vec<Seen> {
        let modules = self.modules.iter().flat_map(|place| self.library.module_docs(place));
        let items = self.items.iter().flat_map(|def| signature::of_item(self.library, def));
        let impls = signature::of_impls(self.library, &self.items);
        modules.chain(items).chain(impls).collect()
    }

    fn breaches(&self) -> Vec<String> {
        let mut breaches = BTreeSet::new();
        for seen in self.seen() {
            for path in &seen.paths {
                for def in self.library.behind(&seen.place, path) {
                    if !self.items.contains(&def) {
                        breaches.insert(format!(
                            "{} shows {def}, which has no path in `{FACADE}`: re-export it, or hide what shows it",
                            seen.what
                        ));
                    }
                }
            }
            for line in foreign_lines(&seen.docs) {
                breaches.insert(format!(
                    "an example of {} shows users another crate: `{line}`",
                    seen.what
                ));
            }
        }
        breaches.into_iter().collect()
    }
}

/// The lines of examples that show a crate of which users do not know.
fn foreign_lines(docs: &str) -> Vec<&str> {
    let mut code = false;
    let mut found = Vec::new();
    for line in docs.lines().map(str::trim) {
        if line.starts_with("```") {
            code = !code;
            continue;
        }
        // Of a hidden line nothing is shown.
        let hidden = line == "#" || line.starts_with("# ");
        let foreign = || CRATES.iter().any(|(name, _)| *name != FACADE && line.contains(name));
        if code && !hidden && foreign() {
            found.push(line);
        }
    }
    found
}

#[cfg(test)]
mod tests;
