//! The Go program, built once for each test program.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use rustix::fs::{FlockOperation, flock};

/// The environment variable that names another `go` program.
const GO_ENV: &str = "ASYNQ_GO";

/// The name of the program that is built.
const NAME: &str = "asynq-interop";

/// The path of the program, which is built at the first call. Go's own cache makes that quick if nothing
/// has changed; several test programs wait for each other.
///
/// # Panics
/// If there is no Go, or it does not build: the tests that need it fail, they are not skipped.
pub async fn program() -> &'static Path {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a build ends, and a test waits for it")]
    let built = tokio::task::spawn_blocking(|| PROGRAM.get_or_init(|| build(&go(), &target_dir()))).await;
    match built {
        Ok(Ok(path)) => path,
        Ok(Err(reason)) => panic!("{reason}"),
        Err(failure) => panic!("the build of the Go program was cut off: {failure}"),
    }
}

fn go() -> OsString {
    std::env::var_os(GO_ENV)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "go".into())
}

/// The folder that Cargo builds in: the one above this test program that carries Cargo's mark.
fn target_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        Path::to_owned,
    )
}

fn build(go: &OsStr, target: &Path) -> Result<PathBuf, String> {
    let folder = target.join("interop");
    let lock = fs::create_dir_all(&folder).and_then(|()| File::create(folder.join("build.lock")));
    let lock = lock.map_err(|error| format!("cannot write to {}: {error}", folder.display()))?;
    // Held until the file is closed.
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| format!("cannot lock the build: {error}"))?;

    let program = folder.join(NAME);
    let output = Command::new(go)
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("go"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!(
                "cannot run {}: {error}; tests beside Go asynq need Go 1.24 or later: install it, or name the \
                 program in {GO_ENV}",
                go.display()
            )
        })?;
    if output.status.success() {
        return Ok(program);
    }
    Err(format!(
        "the Go program does not build ({}); its modules come from the Go module proxy, or from Go's cache on a \
         machine that had them before:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_go_is_told_what_to_do() {
        let reason = build(OsStr::new("/nonexistent/go"), &target_dir()).unwrap_err();
        assert!(reason.contains("need Go 1.24 or later"), "{reason}");
        assert!(reason.contains(GO_ENV), "{reason}");
    }

    #[test]
    fn a_failed_build_shows_what_go_said() {
        let folder = tempfile::tempdir().unwrap();
        let reason = build(OsStr::new("false"), folder.path()).unwrap_err();
        assert!(reason.contains("does not build"), "{reason}");
    }

    #[tokio::test]
    async fn the_program_is_built_and_knows_its_usage() {
        let output = Command::new(program().await).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("serve"));
    }
}
