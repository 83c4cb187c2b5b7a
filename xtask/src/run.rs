//! Runs programs with a time limit, and leaves none of their processes behind.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Longest time that output may go on after the program itself has ended.
const GRACE: Duration = Duration::from_secs(2);

/// The process group that runs now, for the signal handler; 0 for none.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// The end of a program.
#[derive(Debug)]
pub(crate) enum End {
    Exited(ExitStatus),
    /// It was still running at its time limit, and was killed with all its processes.
    TimedOut(Duration),
}

impl End {
    pub(crate) fn success(&self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }

    /// Returns what to tell people about a program that did not succeed.
    pub(crate) fn failure(&self) -> String {
        match self {
            Self::Exited(status) => status.to_string(),
            Self::TimedOut(limit) => format!("killed after {limit:?}"),
        }
    }
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    let words = command.get_args().map(|arg| {
        let arg = arg.to_string_lossy();
        let quote = arg.is_empty() || arg.contains([' ', '"', '$', '*']);
        if quote { format!("'{arg}'") } else { arg.into_owned() }
    });
    [name].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end, showing all its output.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<End> {
    run_reading(command, limit, write_out)
}

/// Shows a line of output.
pub(crate) fn write_out(line: &[u8]) {
    let mut out = std::io::stdout().lock();
    // A reader that went away, as `head` does, must not end the tests.
    let _ = out.write_all(line).and_then(|()| out.flush());
}

enum Event {
    Line(Vec<u8>),
    EndOfOutput,
    Exited,
}

/// Runs a command to its end, handing each line of its standard output, with its line end, to `each`.
///
/// Standard input is empty and standard error is ours. Whatever processes the command leaves behind are killed.
pub(crate) fn run_reading(command: &mut Command, limit: Duration, mut each: impl FnMut(&[u8])) -> Result<End> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let group = Pid::from_child(&child);
    RUNNING.store(group.as_raw_pid(), Ordering::SeqCst);

    let (events, received) = mpsc::channel();
    let output = child.stdout.take().context("the output is piped")?;
    let lines = events.clone();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
            if lines.send(Event::Line(std::mem::take(&mut line))).is_err() {
                return;
            }
        }
        let _ = lines.send(Event::EndOfOutput);
    });
    thread::spawn(move || {
        // The child is seen to end and stays a zombie, so that its number, which names the group, is not given
        // away yet.
        let seen = waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let _ = seen.map(|_| events.send(Event::Exited));
    });

    let mut deadline = started + limit;
    let (mut reading, mut exited, mut timed_out) = (true, false, false);
    while reading || !exited {
        match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Line(line)) => each(&line),
            Ok(Event::EndOfOutput) => reading = false,
            Ok(Event::Exited) => {
                exited = true;
                deadline = Instant::now() + GRACE;
            }
            Err(RecvTimeoutError::Timeout) if exited => {
                eprintln!("killing the processes that {} left behind", shown(command));
                break;
            }
            Err(RecvTimeoutError::Timeout) => {
                timed_out = true;
                kill(group);
                deadline = Instant::now() + GRACE;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Processes left behind that do not hold the output are as little welcome as those that do.
    kill(group);
    RUNNING.store(0, Ordering::SeqCst);
    let status = child.wait()?;
    Ok(if timed_out {
        End::TimedOut(limit)
    } else {
        End::Exited(status)
    })
}

/// Kills a process group. That it is gone already is fine.
fn kill(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
}

/// Makes an interrupt end what we run too: a program in a process group of its own does not get the terminal's
/// signals.
pub(crate) fn end_children_on_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        if let Some(group) = Pid::from_raw(RUNNING.load(Ordering::SeqCst)) {
            kill(group);
        }
        #[expect(clippy::exit, reason = "the signal asks for just that")]
        std::process::exit(130);
    })
    .context("cannot handle signals")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    fn output(script: &str, limit: Duration) -> (End, String) {
        let mut text = Vec::new();
        let end = run_reading(&mut shell(script), limit, |line| text.extend_from_slice(line)).unwrap();
        (end, String::from_utf8(text).unwrap())
    }

    #[test]
    fn all_output_is_read_and_the_exit_status_is_told() {
        let (end, text) = output("echo one; printf two; exit 3", LONG);
        assert_eq!(text, "one\ntwo");
        assert!(!end.success());
        assert_eq!(end.failure(), "exit status: 3");
        assert!(output("true", LONG).0.success());
    }

    /// Runs a script that starts `sleep`, and comes back when all its processes are gone.
    ///
    /// They hold our pipe as their standard error, so its end is theirs.
    fn until_gone(script: &str, limit: Duration) -> End {
        let started = Instant::now();
        let (mut held, holder) = pipe().unwrap();
        let end = run(shell(script).stderr(holder), limit).unwrap();
        held.read_to_end(&mut Vec::new()).unwrap();
        assert!(started.elapsed() < LONG, "`sleep` was not killed");
        end
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let end = until_gone("sleep 600 & wait", Duration::from_millis(300));
        assert!(matches!(end, End::TimedOut(_)), "{end:?}");
        assert_eq!(end.failure(), "killed after 300ms");
    }

    #[test]
    fn processes_left_behind_do_not_hold_us_up_and_are_killed() {
        assert!(until_gone("sleep 600 &", LONG).success());
        // The same with an output of its own, so that nothing is waited for.
        assert!(until_gone("sleep 600 >/dev/null &", LONG).success());
    }

    #[test]
    fn a_missing_program_is_an_error() {
        run(&mut Command::new("asynq-no-such-program"), LONG).unwrap_err();
    }

    #[test]
    fn commands_are_shown_as_they_would_be_typed() {
        let mut command = Command::new("/usr/local/bin/cargo");
        command.args(["test", "a name", ""]);
        assert_eq!(shown(&command), "cargo test 'a name' ''");
    }
}
