//! The flags and aliases that Go's program is documented to have: ours has them all, so that scripts go on working.

use crate::support::Fixture;

/// A command of Go's program, and its flags: each a name and its short form, which may be empty.
type Command = (&'static [&'static str], &'static [(&'static str, &'static str)]);

const QUEUE: (&str, &str) = ("queue", "q");
const ID: (&str, &str) = ("id", "i");
const STATE: (&str, &str) = ("state", "s");
const GROUP: (&str, &str) = ("group", "g");
const PAGE: (&str, &str) = ("page", "");
const SIZE: (&str, &str) = ("size", "");

/// All commands that have flags. Those of the first one are flags of every command.
const COMMANDS: [Command; 16] = [
    (
        &[],
        &[
            ("config", ""),
            ("uri", "u"),
            ("db", "n"),
            ("password", "p"),
            ("username", "U"),
            ("cluster", ""),
            ("cluster_addrs", ""),
            ("tls", ""),
            ("tls_server", ""),
            ("insecure", ""),
            ("version", ""),
            ("help", "h"),
        ],
    ),
    (&["stats"], &[("json", "")]),
    (&["dash"], &[("refresh", "")]),
    (&["queue", "history"], &[("days", "x")]),
    (&["queue", "remove"], &[("force", "f")]),
    (&["task", "list"], &[QUEUE, STATE, GROUP, PAGE, SIZE]),
    (&["task", "inspect"], &[QUEUE, ID]),
    (&["task", "run"], &[QUEUE, ID]),
    (&["task", "archive"], &[QUEUE, ID]),
    (&["task", "delete"], &[QUEUE, ID]),
    (
        &["task", "enqueue"],
        &[
            ("type_name", "t"),
            ("payload", "l"),
            ("retry", "r"),
            QUEUE,
            ID,
            ("timeout", "d"),
            ("deadline", ""),
            ("unique", ""),
            ("process_at", ""),
            ("process_in", ""),
            ("retention", ""),
            GROUP,
        ],
    ),
    (&["task", "runall"], &[QUEUE, STATE, GROUP]),
    (&["task", "archiveall"], &[QUEUE, STATE, GROUP]),
    (&["task", "deleteall"], &[QUEUE, STATE, GROUP]),
    (&["cron", "history"], &[PAGE, SIZE]),
    (&["group", "list"], &[QUEUE]),
];

/// Commands by their other names, and those that have them.
const ALIASES: [[&[&str]; 2]; 10] = [
    [&["queue", "ls"], &["queue", "list"]],
    [&["queue", "unpause"], &["queue", "resume"]],
    [&["queue", "rm"], &["queue", "remove"]],
    [&["queue", "delete"], &["queue", "remove"]],
    [&["task", "ls"], &["task", "list"]],
    [&["task", "rm"], &["task", "delete"]],
    [&["task", "remove"], &["task", "delete"]],
    [&["server", "ls"], &["server", "list"]],
    [&["cron", "ls"], &["cron", "list"]],
    [&["group", "ls"], &["group", "list"]],
];

#[tokio::test]
async fn every_flag_of_go_is_there() {
    let fixture = Fixture::start().await;
    for (words, flags) in COMMANDS {
        let help = fixture.bare(words).args(["--help"]).ok().await;
        for (name, short) in flags {
            let is_there = help.lines().any(|line| {
                // More short forms than Go's are fine.
                let (has, rest) = match line.trim_start().split_once("--") {
                    Some((before, rest)) => (short.is_empty() || before == format!("-{short}, "), rest),
                    None => return false,
                };
                let rest = rest.strip_prefix(name);
                has && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '[']))
            });
            assert!(is_there, "asynq {words:?} has no --{name} ({short:?}):\n{help}");
        }
    }
}

#[tokio::test]
async fn every_alias_of_go_is_there() {
    let fixture = Fixture::start().await;
    let help = async |words: &[&str]| fixture.bare(words).args(["--help"]).ok().await;
    for [alias, words] in ALIASES {
        assert_eq!(help(alias).await, help(words).await, "{alias:?}");
    }
    let version = fixture.bare(["version"]).ok().await;
    assert_eq!(
        fixture.bare(["--version"]).ok().await.split(' ').next(),
        version.split(' ').next()
    );
}
