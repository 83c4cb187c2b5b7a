//! House rules that no other tool checks, over every file that version control does not ignore.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use ignore::WalkBuilder;

use crate::{citations::Citations, workspace::Workspace};

/// A file is split by responsibility before it gets longer than this.
const MAX_LINES: usize = 800;

/// The table that says what each outage costs, and which tests hold that.
const OUTAGES: &str = "docs/outages.md";

/// Macros for code that is not done yet, or that was only a look.
const UNFINISHED: &[&str] = &["dbg", "todo", "unimplemented"];

/// First words of a description that asks instead of naming: an item is described by a noun or a verb.
const ASKING: &[&str] = &[
    "How", "What", "When", "Where", "Whether", "Which", "Who", "Whom", "Whose", "Why",
];

/// First folders of paths that exist on one machine only.
const MACHINE_FOLDERS: &[&str] = &["Users", "builds", "home", "root", "work", "workspace"];

/// Every breach of the rules, in words.
pub(crate) fn breaches(workspace: &Workspace) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    let mut functions = BTreeSet::new();
    let citations = Citations::read(&workspace.root)?;
    for entry in WalkBuilder::new(&workspace.root)
        .hidden(false)
        .parents(false)
        .require_git(false)
        .sort_by_file_path(Path::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build()
    {
        let entry = entry.context("cannot list the files")?;
        let path = entry.path();
        let name = path.strip_prefix(&workspace.root).unwrap_or(path).to_string_lossy();
        if !entry.file_type().is_some_and(|kind| kind.is_file()) || name.ends_with(".lock") {
            continue;
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
        // What is not text has no lines to look at.
        if let Ok(text) = String::from_utf8(bytes) {
            breaches.extend(file(&name, &text));
            breaches.extend(citations.dangling(&name, &text));
            if name.ends_with(".rs") {
                functions.extend(functions_in(&text).map(str::to_owned));
            }
        }
    }
    let outages = fs::read_to_string(workspace.root.join(OUTAGES)).with_context(|| format!("cannot read {OUTAGES}"))?;
    breaches.extend(outages_without_test(&outages, &functions));
    breaches.extend(citations.rules_without_test(&functions));
    for member in workspace.members() {
        let text = fs::read_to_string(&member.manifest_path)?;
        breaches.extend(manifest(&member.name, &text)?);
    }
    let root = fs::read_to_string(workspace.root.join("Cargo.toml"))?;
    breaches.extend(profiles(&root)?);
    Ok(breaches)
}

fn file(name: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let generated = name.contains("/generated/");
    let source = name
        .rsplit_once('.')
        .is_some_and(|(_, kind)| ["go", "lua", "rs"].contains(&kind));
    let length = text.lines().count();
    if source && !generated && length > MAX_LINES {
        breaches.push(format!(
            "{name}: {length} lines: split it by responsibility, {MAX_LINES} are the most"
        ));
    }
    let mut described = false;
    for (number, line) in (1..).zip(text.lines()) {
        let description = description(line);
        if name.ends_with(".rs")
            && !generated
            && !described
            && let Some(word) = description.and_then(asking)
        {
            breaches.push(format!(
                "{name}:{number}: begins with `{word}`: say what it is or does, noun or verb first"
            ));
        }
        described = description.is_some();
        if let Some(path) = machine_path(line) {
            breaches.push(format!("{name}:{number}: `{path}` exists on one machine only"));
        }
        if name.ends_with(".rs")
            && !line.trim_start().starts_with("//")
            && let Some(unfinished) = UNFINISHED.iter().find(|name| calls_macro(line, name))
        {
            breaches.push(format!("{name}:{number}: `{unfinished}!` is for code that is not done"));
        }
    }
    breaches
}

/// The text of a documentation comment.
fn description(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
    Some(text.trim_start())
}

/// The first word of a description, if it asks.
fn asking(description: &str) -> Option<&str> {
    let (word, _) = description.split_once(' ')?;
    ASKING.contains(&word).then_some(word)
}

/// The names of the functions in a source.
fn functions_in(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (before, after) = line.split_once("fn ")?;
        let whole = before.is_empty() || before.ends_with(' ');
        let (name, _) = after.split_once('(')?;
        whole.then_some(name)
    })
}

/// Each line of the table of outages names tests in its last column, and these exist.
fn outages_without_test(table: &str, functions: &BTreeSet<String>) -> Vec<String> {
    let mut breaches = Vec::new();
    for (number, line) in (1..).zip(table.lines()) {
        let Some(row) = line.strip_prefix("| **") else { continue };
        let row = row.trim_end();
        let tests = row
            .strip_suffix('|')
            .unwrap_or(row)
            .rsplit('|')
            .next()
            .unwrap_or_default();
        let mut names = tests.split('`').skip(1).step_by(2).peekable();
        if names.peek().is_none() {
            breaches.push(format!("{OUTAGES}:{number}: no test holds this line"));
        }
        for name in names.filter(|name| !functions.contains(*name)) {
            breaches.push(format!("{OUTAGES}:{number}: there is no test `{name}`"));
        }
    }
    breaches
}

/// The absolute path in a line that begins with a machine's own folder.
fn machine_path(line: &str) -> Option<&str> {
    line.match_indices('/')
        .map(|(at, _)| line.split_at(at))
        .find_map(|(before, path)| {
            // Further folders of a relative path, of a URL or of a key do not count.
            let absolute = !before.ends_with(|c: char| c.is_alphanumeric() || "/._-~*+$}{<>]".contains(c));
            let (first, _) = path[1..].split_once('/')?;
            let end = path
                .find(|c: char| c.is_whitespace() || "\"'`)".contains(c))
                .unwrap_or(path.len());
            (absolute && MACHINE_FOLDERS.contains(&first)).then(|| &path[..end])
        })
}

fn calls_macro(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let whole = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        whole && line[at + name.len()..].starts_with('!')
    })
}

/// A member keeps the lints of the workspace.
fn manifest(name: &str, text: &str) -> Result<Option<String>> {
    let manifest: toml::Table = toml::from_str(text).with_context(|| format!("{name}'s manifest"))?;
    let inherits = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool);
    Ok((inherits != Some(true))
        .then(|| format!("{name} does not keep the lints of the workspace: `[lints] workspace = true`")))
}

/// A panic of a handler is a result that a supervisor acts on, so no profile aborts instead.
fn profiles(text: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = toml::from_str(text).context("the manifest of the workspace")?;
    let profiles = manifest.get("profile").and_then(toml::Value::as_table);
    Ok(profiles
        .into_iter()
        .flatten()
        .filter(|(_, profile)| {
            profile
                .get("panic")
                .is_some_and(|panic| panic.as_str() != Some("unwind"))
        })
        .map(|(name, _)| format!("profile {name} must unwind on panic"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_workspace_keeps_the_house_rules() {
        let breaches = breaches(&Workspace::load(workspace::root()).unwrap()).unwrap();
        assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    }

    /// A path as it must not be written down, not even here.
    fn path(folder: &str, rest: &str) -> String {
        format!("/{folder}/{rest}")
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let path = path("home", "me/asynq");
        for line in [
            format!("see {path}"),
            format!("root = \"{path}\""),
            path.clone(),
            format!("file://localhost:{path}"),
        ] {
            assert_eq!(machine_path(&line), Some(path.as_str()), "{line}");
        }
        assert_eq!(file("docs/start.md", &format!("one\ncd {path}\n")).len(), 1);
    }

    #[test]
    fn other_paths_are_not() {
        for folder in ["src", "usr", "tmp"] {
            assert_eq!(machine_path(&path(folder, "a")), None);
        }
        for before in ["actors/src", "https://example.org", "{prefix}", "..", "~", "$HOME"] {
            let line = format!("{before}{}", path("work", "mod.rs"));
            assert_eq!(machine_path(&line), None, "{line}");
        }
        assert_eq!(machine_path("either/or, and/or"), None);
        assert_eq!(machine_path("a / b"), None);
    }

    #[test]
    fn unfinished_code_is_found() {
        for name in UNFINISHED {
            assert_eq!(file("src/lib.rs", &format!("    {name}!(\"later\");\n")).len(), 1);
            assert_eq!(file("src/lib.rs", &format!("    std::{name}!();\n")).len(), 1);
            assert_eq!(file("src/lib.rs", &format!("// no {name}!() here\n")).len(), 0);
            assert_eq!(file("src/lib.rs", &format!("    my_{name}!();\n")).len(), 0);
            assert_eq!(file("src/lib.rs", &format!("    let {name} = 1;\n")).len(), 0);
            assert_eq!(file("notes.md", &format!("{name}!()\n")).len(), 0);
        }
    }

    #[test]
    fn descriptions_that_ask_are_found() {
        let asks = "    /// Whether it is open.\n    open: bool,\n\n//! How it works.\n";
        assert_eq!(file("src/lib.rs", asks).len(), 2);
        let names = "/// Number of lines.\n/// Which ones: all.\n//\n/// Whatever it takes.\n// Why not?\n";
        assert_eq!(file("src/lib.rs", names).len(), 0);
        assert_eq!(file("src/generated/lib.rs", asks).len(), 0);
        assert_eq!(file("docs/guide.md", asks).len(), 0);
    }

    #[test]
    fn long_sources_are_found() {
        let (fits, long) = ("line\n".repeat(MAX_LINES), "line\n".repeat(MAX_LINES + 1));
        for name in ["src/lib.rs", "lua/done.lua", "interop/main.go"] {
            assert_eq!(file(name, &fits).len(), 0);
            assert_eq!(file(name, &long).len(), 1);
        }
        assert_eq!(file("proto/src/generated/asynq.rs", &long).len(), 0);
        assert_eq!(file("docs/guide.md", &long).len(), 0);
    }

    #[test]
    fn manifests_keep_the_lints() {
        assert_eq!(manifest("a", "[lints]\nworkspace = true").unwrap(), None);
        assert!(
            manifest("a", "[lints.rust]\nunsafe_code = \"allow\"")
                .unwrap()
                .is_some()
        );
        assert!(manifest("a", "[package]").unwrap().is_some());
    }

    #[test]
    fn outages_name_tests_that_exist() {
        let source = "    async fn here() {\n#[test]\nfn there() {}\nlet dyn_fn = also(1);\n";
        let functions = functions_in(source).map(str::to_owned).collect();
        let table = "| what | cost | tests |\n| --- | --- | --- |\n";
        let with = |rows: &str| outages_without_test(&format!("{table}{rows}"), &functions);
        assert_eq!(with("| **a** | none | `here` `there` |\n"), [""; 0]);
        assert_eq!(with("| **a** | `here` | |\n").len(), 1);
        assert_eq!(
            with("| **a** | 3 s | `here` `gone` |\n| **b** | 1 s | `lost` |\n").len(),
            2
        );
    }

    #[test]
    fn profiles_unwind() {
        assert_eq!(
            profiles("[profile.dev]\npanic = \"unwind\"\n[profile.bench]\ninherits = \"release\"").unwrap(),
            [""; 0]
        );
        assert_eq!(
            profiles("[profile.release]\npanic = \"abort\"").unwrap(),
            ["profile release must unwind on panic"]
        );
    }
}
