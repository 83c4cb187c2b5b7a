//! A scheduler of ours in a process of its own.

use std::{ffi::OsStr, path::PathBuf};

use tokio::{sync::mpsc, task::JoinSet};

use crate::process::{PATIENCE, Process};

/// A tick that a scheduler enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldTick {
    /// Number of the scheduler, with which it was started.
    pub by: usize,
    /// Due time, Unix seconds.
    pub at: i64,
    /// The id of its task.
    pub task: String,
}

/// A running `asynq-interop-scheduler`. Killed when dropped.
#[derive(Debug)]
pub struct SchedulerProcess {
    process: Process,
    reader: JoinSet<()>,
}

impl SchedulerProcess {
    /// Starts it on the Redis at this URL, and waits until it is ready. What it enqueues is told under
    /// this number.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(
        program: impl AsRef<OsStr>,
        url: &str,
        spec: &str,
        by: usize,
        tell: mpsc::UnboundedSender<ToldTick>,
    ) -> Self {
        let mut process = Process::of_ours(&PathBuf::from(program.as_ref()), url, &[format!("--spec={spec}")]);
        let mut lines = process.take_output();
        let (ready, mut is_ready) = mpsc::unbounded_channel();
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                match line.split(' ').collect::<Vec<_>>()[..] {
                    ["ready"] => drop(ready.send(())),
                    ["tick", at, task] => {
                        let at = at.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"));
                        let task = task.to_owned();
                        // A test that has ended hears nothing.
                        let _ = tell.send(ToldTick { by, at, task });
                    }
                    _ => panic!("the scheduler said {line:?}"),
                }
            }
        });
        let came_up = tokio::time::timeout(PATIENCE, is_ready.recv()).await;
        assert!(
            matches!(came_up, Ok(Some(()))),
            "the scheduler did not come up\n{}",
            process.complaints()
        );
        Self { process, reader }
    }

    /// SIGKILL. Returns when it is gone and all that it said is told.
    pub async fn kill(mut self) {
        self.process.kill().await;
        self.all_told().await;
    }

    /// Ends it in order.
    ///
    /// # Panics
    /// If it does not end, or not well.
    pub async fn shutdown(self) {
        let Self { process, mut reader } = self;
        process.finish().await;
        while reader.join_next().await.is_some() {}
    }

    async fn all_told(&mut self) {
        while self.reader.join_next().await.is_some() {}
    }
}
