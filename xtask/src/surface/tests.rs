use std::fs;

use tempfile::TempDir;

use super::*;
use crate::workspace;

#[test]
fn users_can_name_what_they_see_and_are_shown_no_other_crate() {
    let breaches = breaches(&workspace::root()).unwrap();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// A look that finds nothing would be no look.
#[test]
fn the_surface_of_the_workspace_is_all_looked_at() {
    let root = workspace::root();
    let library = Library::read(&root, CRATES).unwrap();
    let surface = Surface::of(&library, FACADE);
    let has = |place: &str, name: &str| {
        surface.items.contains(&Def {
            place: place.split("::").map(str::to_owned).collect(),
            name: name.to_owned(),
        })
    };
    assert!(has("asynq_core::task", "Task") && has("asynq_core::names", "QueueName"));
    assert!(has("asynq_actors::system::builder", "AsynqSystemBuilder") && has("asynq::server", "Server"));
    assert!(has("asynq_redis::connection_type", "RedisConnectionType"));
    assert!(!has("asynq_actors::table", "Table"));
    let seen = surface.seen();
    assert!(seen.len() > 500, "{}", seen.len());
    let examples = seen.iter().filter(|seen| seen.docs.contains("```"));
    assert!(examples.count() > 30);
}

/// Returns what is found where the facade is made of this one crate.
fn found(facade: &str, inner: &str) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    for (name, text) in [("asynq", facade), ("asynq_core", inner)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("lib.rs"), text).unwrap();
    }
    let crates = [("asynq", "asynq"), ("asynq_core", "asynq_core")];
    let library = Library::read(folder.path(), &crates).unwrap();
    Surface::of(&library, "asynq").breaches()
}

const INNER: &str = "
    mod deep { pub struct Lost; pub struct Kept; pub type Answer = Result<Kept, Lost>; }
    pub mod open { pub use crate::deep::{Kept, Lost}; }
    pub use deep::Kept;
";

#[test]
fn a_type_that_a_signature_shows_is_missed() {
    for part in [
        "pub fn f() -> Option<deep::Lost> { None }",
        "pub fn f(_: impl Fn(&crate::deep::Lost)) {}",
        "pub struct Shape { pub lost: deep::Lost }",
        "pub enum Shape { Lost(deep::Lost) }",
        "pub struct Shape; impl Shape { pub fn f(self) -> deep::Lost { deep::Lost } }",
        "pub struct Shape; impl From<deep::Lost> for Shape { fn from(_: deep::Lost) -> Shape { Shape } }",
        "pub struct Shape; impl std::ops::Deref for Shape { type Target = deep::Lost; fn deref(&self) -> &deep::Lost { loop {} } }",
        "pub trait Shape { fn f(&self, _: deep::Lost); }",
        "pub trait Shape { type T: Into<deep::Lost>; }",
        "pub const Shape: Option<deep::Lost> = None;",
        "pub fn f() -> deep::Answer { loop {} }",
        "type Alias = deep::Answer; pub fn f() -> Alias { loop {} }",
        "use deep::Lost as Other; pub fn f(_: Other) {}",
    ] {
        let inner = format!("{INNER}{part}");
        let found = found("pub use asynq_core::{Kept, f, Shape};", &inner);
        assert!(
            matches!(&found[..], [one] if one.contains("asynq_core::deep::Lost")),
            "{part}: {found:?}"
        );
    }
}

#[test]
fn what_has_a_path_or_is_not_shown_is_not_missed() {
    for (facade, part) in [
        ("pub use asynq_core::{f, open};", "pub fn f(_: deep::Lost) {}"),
        (
            "pub use asynq_core::f; pub mod all { pub use asynq_core::open::*; }",
            "pub fn f(_: deep::Lost) {}",
        ),
        (
            "pub use asynq_core::{f, open::Lost as Renamed};",
            "pub fn f(_: deep::Lost) {}",
        ),
        ("pub use asynq_core::f;", "pub fn f() { let _ = deep::Lost; }"),
        ("pub use asynq_core::f;", "pub fn f(_: std::fmt::Error) {}"),
        ("pub use asynq_core::Shape;", "pub struct Shape { lost: deep::Lost }"),
        (
            "pub use asynq_core::Shape;",
            "pub struct Shape; impl Shape { pub(crate) fn f(_: deep::Lost) {} }",
        ),
        (
            "pub use asynq_core::Shape;",
            "pub struct Shape; impl Shape { #[doc(hidden)] pub fn f(_: deep::Lost) {} }",
        ),
        ("", "pub fn f(_: deep::Lost) {}"),
    ] {
        let found = found(facade, &format!("{INNER}{part}"));
        assert!(found.is_empty(), "{facade} {part}: {found:?}");
    }
}

#[test]
fn an_example_that_shows_another_crate_is_found() {
    let example = |line: &str| format!("/// Says.\n/// ```\n/// {line}\n/// ```\npub fn f() {{}}");
    let facade = "pub use asynq_core::f;";
    assert_eq!(found(facade, &example("use asynq_core::f;")).len(), 1);
    assert_eq!(found(facade, &example("# use asynq_core as asynq;")).len(), 0);
    assert_eq!(found(facade, &example("use asynq::f;")).len(), 0);
    assert_eq!(found("", &example("use asynq_core::f;")).len(), 0);
    let module = "//! ```\n//! asynq_core::f();\n//! ```\npub fn f() {}";
    assert_eq!(found("pub mod all { pub use asynq_core::*; }", module).len(), 1);
    let method = "pub struct Shape; impl Shape { /// ```\n /// asynq_core::f();\n /// ```\n pub fn f() {} }";
    assert_eq!(found("pub use asynq_core::Shape;", method).len(), 1);
}
