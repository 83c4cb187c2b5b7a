//! A chromedriver with the browser that it starts.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// The variables with the paths of the programs, which `cargo xtask test` sets.
const DRIVER: (&str, &str) = ("ASYNQ_CHROMEDRIVER", "chromedriver");
const BROWSER: (&str, &str) = ("ASYNQ_CHROMIUM", "chromium");

/// Longest time in which chromedriver tells its port.
const START: Duration = Duration::from_secs(120);

/// A chromedriver on a port of its own. When it is dropped, or this process ends in whatever way, it ends with the browser that it has
/// started.
#[derive(Debug)]
pub(crate) struct Driver {
    port: u16,
    child: Child,
    guard: Child,
    folder: TempDir,
}

impl Driver {
    /// Starts it.
    ///
    /// # Panics
    /// If there is no such program, or it does not come up.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("asynq-browser-")
            .tempdir()
            .unwrap_or_else(|error| panic!("no folder for the browser: {error}"));
        let program = chosen(DRIVER);
        let log = File::create(log_in(folder.path())).unwrap();
        let mut child = Command::new(&program)
            .arg("--port=0")
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // The browser belongs to this group too.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot run {}: {error}; `cargo xtask test` installs it, and {} names another one",
                    program.display(),
                    DRIVER.0
                )
            });
        // When this process ends, the guard's input ends too. It is in no group that somebody else could kill.
        let script = r#"read _; kill -s KILL -- "-$1"; rm -rf "$2""#;
        let guard = Command::new("sh")
            .args(["-c", script, "sh", &child.id().to_string()])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let mut driver = Self {
            port: 0,
            child,
            guard,
            folder,
        };
        let (ports, port) = mpsc::channel();
        // It reads until the end, so that the driver is never held up.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let told = line.strip_prefix("ChromeDriver was started successfully on port ");
                if let Some(port) = told.and_then(|port| port.trim_end_matches('.').parse().ok()) {
                    let _ = ports.send(port);
                }
            }
        });
        driver.port = port
            .recv_timeout(START)
            .unwrap_or_else(|_| panic!("{} does not start\n{}", program.display(), driver.log()));
        driver
    }

    /// The URL at which it answers.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A folder of this browser alone.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The text that it has written for people.
    pub(crate) fn log(&self) -> String {
        fs::read(log_in(self.folder.path()))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The number of the group is free only after the second wait. The guard removes the folder.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = self.child.wait();
    }
}

/// The path of the browser.
pub(crate) fn browser() -> PathBuf {
    chosen(BROWSER)
}

/// The program that a variable names, else one in the search path.
fn chosen((variable, name): (&str, &str)) -> PathBuf {
    let path = || {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders)
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    };
    std::env::var_os(variable)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(path)
        .unwrap_or_else(|| {
            panic!("there is no {name}: `cargo xtask test` installs it, and {variable} names one elsewhere")
        })
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("chromedriver.log")
}
