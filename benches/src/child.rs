//! A contestant as a child process.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::contestant::Params;

/// Longest time between two lines of a contestant.
const PATIENCE: Duration = Duration::from_secs(300);
/// Time for its end.
const END: Duration = Duration::from_secs(20);

/// The call of a contestant: the program and the words in front of the work.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) words: Vec<String>,
}

/// A running contestant. Killed when dropped.
pub(crate) struct Contest {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Contest {
    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(program: &Program, work: &str, params: &Params) -> Result<Self> {
        let mut child = Command::new(&program.path)
            .args(&program.words)
            .arg(work)
            .arg(serde_json::to_string(params)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", program.path.display()))?;
        let mut contest = Self {
            input: child.stdin.take().context("a piped input")?,
            output: BufReader::new(child.stdout.take().context("a piped output")?).lines(),
            child,
        };
        contest.until("ready").await?;
        Ok(contest)
    }

    /// The process id.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("the contestant has ended")
    }

    /// Lets it begin.
    pub(crate) async fn go(&mut self) -> Result<()> {
        self.input.write_all(b"go\n").await?;
        Ok(self.input.flush().await?)
    }

    /// Waits for a line that begins with a word, and returns the rest of it. Others are passed over.
    pub(crate) async fn until(&mut self, word: &str) -> Result<String> {
        loop {
            let line = timeout(PATIENCE, self.output.next_line()).await;
            let Some(line) = line.with_context(|| format!("no `{word}` within {PATIENCE:?}"))?? else {
                let status = timeout(END, self.child.wait())
                    .await
                    .context("its output ended, and it runs on")??;
                bail!("ended with {status} instead of `{word}`");
            };
            if let Some(rest) = line.strip_prefix(word) {
                return Ok(rest.trim().to_owned());
            }
        }
    }

    /// Ends its input, and waits for its end. One that goes on is killed.
    pub(crate) async fn stop(self) {
        let Self {
            mut child,
            input,
            output,
        } = self;
        drop((input, output));
        if timeout(END, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}
