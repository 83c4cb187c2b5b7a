//! Completions: what a shell offers for an argument.

use std::{path::Path, time::Duration};

use clap::Args;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use crate::{
    address::Redis,
    cli::Global,
    error::{CliError, Result},
    hands::Hands,
    output::Output,
    session::Session,
    settings::{File, Target},
};

/// Longest time to ask Redis for names while somebody waits at the shell.
const PATIENCE: Duration = Duration::from_millis(800);

/// The shells that are known.
const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "elvish", "powershell"];

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Shell to set up.
    #[arg(value_parser = SHELLS)]
    shell: String,
}

impl Completions {
    pub(crate) fn run(&self, _global: &Global) -> Result<()> {
        let shells = clap_complete::env::Shells::builtins();
        let shell = shells
            .completer(&self.shell)
            .ok_or_else(|| CliError::usage(format!("unknown shell {:?}", self.shell)))?;
        let mut script = Vec::new();
        shell.write_registration("COMPLETE", "asynq", "asynq", "asynq", &mut script)?;
        // In any form of output: it is for the shell.
        Output::default().text(String::from_utf8_lossy(&script))
    }
}

/// Completes names of queues.
pub(crate) fn queues() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &std::ffi::OsStr| {
        let typed = typed.to_string_lossy();
        names()
            .unwrap_or_default()
            .into_iter()
            .filter(|name| name.starts_with(&*typed) && is_plain(name))
            .map(CompletionCandidate::new)
            .collect()
    })
}

/// Returns whether a shell takes a name as it is. Shells put what is offered on their line unquoted, so a name that somebody
/// chose could be run as a command.
fn is_plain(name: &str) -> bool {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "_-./:@%+,".contains(char);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(is_plain)
}

/// Completes names of contexts.
pub(crate) fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &std::ffi::OsStr| {
        let typed = typed.to_string_lossy();
        let file = File::find(None).map(|(file, _)| file).unwrap_or_default();
        file.contexts
            .into_keys()
            .filter(|name| name.starts_with(&*typed) && is_plain(name))
            .map(CompletionCandidate::new)
            .collect()
    })
}

/// The names of the queues on the Redis that the command line so far, the environment and the configuration name.
fn names() -> Option<Vec<String>> {
    let words = joined(std::env::args().skip_while(|word| word != "--").skip(1));
    let flag = |names: [&str; 2]| value_of(&words, names);
    let (file, _) = File::find(flag(["--config", "--config"]).as_ref().map(Path::new)).ok()?;
    let given = Redis {
        uri: flag(["-u", "--uri"]),
        db: flag(["-n", "--db"]).and_then(|db| db.parse().ok()),
        ..Redis::default()
    };
    let context = flag(["-c", "--context"]);
    let target = Target::choose(given, context.as_deref(), Redis::from_env().ok()?, &file).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    runtime.block_on(async {
        let open = Session::open(target, Hands::reader(), Output::default(), PATIENCE);
        let session = tokio::time::timeout(PATIENCE, open).await.ok()?.ok()?;
        let queues = tokio::time::timeout(PATIENCE, session.inspector.queues())
            .await
            .ok()?
            .ok()?;
        Some(queues.iter().map(ToString::to_string).collect())
    })
}

/// Joins what bash has split: it takes `:` and `=` for words of their own.
fn joined(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut goes_on = false;
    for word in words {
        let is_joint = matches!(word.as_str(), ":" | "=");
        match joined.last_mut() {
            Some(last) if is_joint || goes_on => last.push_str(&word),
            _ => joined.push(word),
        }
        goes_on = is_joint;
    }
    joined
}

/// The value of a flag among the words of a command line: `-u VALUE`, `--uri VALUE` or `--uri=VALUE`.
fn value_of(words: &[String], names: [&str; 2]) -> Option<String> {
    words.iter().enumerate().find_map(|(at, word)| {
        if names.contains(&word.as_str()) {
            return words.get(at + 1).cloned();
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_bash_has_split_are_joined() {
        let words = ["asynq", "--uri", "=", "redis", ":", "//h", ":", "1", "queue", "ls"];
        let joined = joined(words.into_iter().map(str::to_owned));
        assert_eq!(joined, ["asynq", "--uri=redis://h:1", "queue", "ls"]);
    }

    #[test]
    fn names_that_a_shell_would_run_are_not_offered() {
        assert!(is_plain("mail:low/eu-1"));
        for name in ["$(touch /tmp/x)", "a;b", "a b", "`id`", "-f", "a\nb", "\u{1b}[31m", ""] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn flags_before_the_cursor_are_read() {
        let words: Vec<String> = ["asynq", "-u", "a:1", "--db=2", "queue", "pause"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(value_of(&words, ["-u", "--uri"]).as_deref(), Some("a:1"));
        assert_eq!(value_of(&words, ["-n", "--db"]).as_deref(), Some("2"));
        assert_eq!(value_of(&words, ["-c", "--context"]), None);
    }
}
