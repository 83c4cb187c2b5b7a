//! asynqmon, the web server of Go's users.

use serde::Deserialize;

use crate::process::{PATIENCE, Process, parse};

/// asynqmon in a process of its own, with the settings of its program. Killed when dropped.
#[derive(Debug)]
pub struct Asynqmon {
    address: String,
    _process: Process,
}

#[derive(Deserialize)]
struct Serving {
    address: String,
}

impl Asynqmon {
    /// Starts it on the Redis at `host:port`, with more arguments, such as `--read-only`.
    ///
    /// # Panics
    /// If the program cannot be built or started.
    pub async fn start(redis: &str, args: &[&str]) -> Self {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut process = Process::start("asynqmon", redis, &args).await;
        let Some(line) = process.line(PATIENCE).await else {
            panic!("asynqmon does not start\n{}", process.complaints());
        };
        let Serving { address } = parse(&line);
        Self {
            address,
            _process: process,
        }
    }

    /// The `host:port` at which it answers.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}
