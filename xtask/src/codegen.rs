//! Generates the Rust code of `proto/asynq.proto`, with no `protoc` and nothing written unless asked.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use prost_build::{Config, Module};

/// The schema, from the root of the workspace.
const SCHEMA: &str = "proto/asynq.proto";

/// The protobuf package of the schema.
const PACKAGE: &str = "asynq";

/// The generated code, from the root of the workspace.
const GENERATED: &str = "proto/src/generated/asynq.rs";

const HEADER: &str =
    "// Generated from proto/asynq.proto by `cargo xtask codegen`: change the schema, not this file.\n\n";

/// Writes the generated code.
pub(crate) fn write(root: &Path) -> Result<()> {
    let path = root.join(GENERATED);
    fs::write(&path, generate(root)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Fails, with the first line that differs, if the committed code is not what the schema generates.
pub(crate) fn check(root: &Path) -> Result<()> {
    let path = root.join(GENERATED);
    let committed = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let generated = generate(root)?;
    let difference = first_difference(&committed, &generated);
    ensure!(
        difference.is_none(),
        "{GENERATED} is not what {SCHEMA} generates: run `cargo xtask codegen`\n{}",
        difference.unwrap_or_default(),
    );
    Ok(())
}

fn generate(root: &Path) -> Result<String> {
    let schema = root.join(SCHEMA);
    let include = schema.parent().context("the schema has no folder")?;
    let descriptors = protox::Compiler::new([include])?
        .include_source_info(true)
        .include_imports(true)
        .open_file(&schema)?
        .file_descriptor_set();

    // `generate` returns the code instead of writing it, so that checking leaves the tree alone. It has to see the imported
    // files, of which one type is used: the crate has it without the other well-known ones.
    let requests = descriptors
        .file
        .into_iter()
        .map(|file| (Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let code = Config::new()
        .bytes(["."])
        .btree_map(["."])
        .extern_path(".google.protobuf.Timestamp", "crate::Timestamp")
        .generate(requests)?
        .remove(&Module::from_protobuf_package_name(PACKAGE))
        .with_context(|| format!("{SCHEMA} has no package {PACKAGE}"))?;
    Ok(format!("{HEADER}{code}"))
}

/// The first line in which two texts differ, shown from both; none if they are equal.
fn first_difference(committed: &str, generated: &str) -> Option<String> {
    if committed == generated {
        return None;
    }
    let (mut old, mut new) = (committed.lines(), generated.lines());
    for number in 1.. {
        let (left, right) = (old.next(), new.next());
        if left != right {
            let show = |line: Option<&str>| line.map_or("(end of file)".to_owned(), str::to_owned);
            return Some(format!(
                "line {number}\n  committed: {}\n  generated: {}",
                show(left),
                show(right)
            ));
        }
        if left.is_none() {
            break;
        }
    }
    Some("the lines are equal, their ends are not".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_committed_code_is_what_the_schema_generates() {
        check(&workspace::root()).unwrap();
    }

    #[test]
    fn a_difference_is_shown_with_its_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(
            first_difference("a\nb\n", "a\nc\n").unwrap(),
            "line 2\n  committed: b\n  generated: c"
        );
        assert_eq!(
            first_difference("a\n", "a\nb\n").unwrap(),
            "line 2\n  committed: (end of file)\n  generated: b"
        );
        assert!(first_difference("a\n", "a\r\n").is_some());
    }
}
