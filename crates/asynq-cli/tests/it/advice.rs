//! Commands that the program and its documents suggest: the program understands them.

use std::process::Command;

use asynq::TaskState;
use asynq_testing::{RedisServer, request::request};

use crate::support::Fixture;

/// Returns the words of a command, as a shell reads them.
fn words(command: &str) -> Vec<String> {
    let script = format!("set -- {command}\nprintf '%s\\0' \"$@\"");
    let out = Command::new("bash").arg("-c").arg(script).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// The form of each command that a finding suggests, for a queue whose name a shell could take for something else.
#[tokio::test]
async fn the_commands_of_findings_are_understood() {
    let fixture = Fixture::on(RedisServer::start().await).await;
    let odd = "-q'a\"b {c}";
    fixture.enqueue_many(odd, "t", 1).await;
    fixture.inspector().pause_queue(odd).await.unwrap();
    let queue = asynq::findings::quote(odd);
    for command in [
        format!("asynq doctor -- {queue}"),
        format!("asynq doctor --fix -- {queue}"),
        "asynq stats".to_owned(),
        "asynq server list".to_owned(),
        "asynq cron list".to_owned(),
        format!("asynq queue inspect -- {queue}"),
        format!("asynq queue unpause -- {queue}"),
        format!("asynq task list --queue={queue} --state=archived"),
        format!("asynq task list --queue={queue} --state=aggregating --group={queue}"),
        format!(
            "asynq task search {}",
            asynq::findings::quote(r#"queue="-q'a\"b {c}" state=retry error~"x""#)
        ),
    ] {
        let words = words(&command);
        assert_eq!(words[0], "asynq");
        let ended = fixture.asynq(["--yes"]).args(&words[1..]).run().await;
        assert_eq!(ended.status, 0, "{command}: {}{}", ended.stdout, ended.stderr);
    }
}

/// The findings of a Redis with some faults suggest commands that are among the forms above.
#[tokio::test]
async fn a_suggested_command_can_be_run_as_it_is() {
    let fixture = Fixture::start().await;
    for number in 0..50 {
        let task = request("storm", &format!("t{number}"));
        fixture.put(task, TaskState::Retry).await;
    }
    let mut redis = fixture.redis.client().await;
    redis.ok(&["SADD", "asynq:queues", "stale"]).await;
    redis.ok(&["ZADD", "asynq:{stale}:lease", "9", "nobody"]).await;
    let findings = fixture.asynq(["findings"]).json().await;
    let findings = findings.as_array().unwrap();
    let mut tried = Vec::new();
    for finding in findings {
        let words = words(finding["command"].as_str().unwrap());
        if words[0] == "asynq" {
            let ended = fixture.asynq(["--yes"]).args(&words[1..]).run().await;
            assert!(matches!(ended.status, 0 | 1), "{words:?}: {}", ended.stderr);
            tried.push(words[1..3].join(" "));
        }
    }
    tried.sort();
    assert_eq!(tried, ["doctor --fix", "task search"], "{findings:?}");
}

/// Every command of the tree is in one of two lists: those that only look, and those that act, which are refused where
/// nothing may be changed (`hands.rs`).
#[tokio::test]
async fn every_command_either_looks_or_is_known_to_act() {
    const LOOKS: &[&str] = &[
        "audit",
        "completions",
        "context list",
        "cron history",
        "cron list",
        "cron next",
        "dash",
        "findings",
        "group list",
        "man",
        "mcp",
        "queue history",
        "queue inspect",
        "queue list",
        "server list",
        "stats",
        "task count",
        "task follow",
        "task inspect",
        "task list",
        "task search",
        "top",
        "tree",
        "web password",
        "web token",
    ];
    let fixture = Fixture::on(RedisServer::start().await).await;
    let reference = fixture.bare(["markdown"]).ok().await;
    let commands: Vec<&str> = reference
        .lines()
        .filter_map(|line| {
            line.trim_start_matches('#')
                .trim()
                .strip_prefix("`asynq ")?
                .strip_suffix('`')
        })
        .collect();
    let leaves = commands.iter().filter(|command| {
        let below = format!("{command} ");
        !commands.iter().any(|other| other.starts_with(&below))
    });
    let mut acts: Vec<String> = crate::hands::ACTS.iter().map(|words| words.join(" ")).collect();
    for leaf in leaves {
        let is_act = acts
            .iter()
            .any(|act| act == leaf || act.starts_with(&format!("{leaf} ")));
        assert_ne!(
            LOOKS.contains(leaf),
            is_act,
            "`asynq {leaf}` must be in one of the two lists"
        );
        acts.retain(|act| act != leaf && !act.starts_with(&format!("{leaf} ")));
    }
    assert_eq!(acts, Vec::<String>::new(), "acts of commands that do not exist");
}

/// A command is suggested for the Redis at hand, so that it does not go to another one.
#[tokio::test]
async fn suggested_commands_go_to_the_same_redis() {
    let fixture = Fixture::start().await;
    let mut redis = fixture.redis.client().await;
    redis.ok(&["SADD", "asynq:queues", "stale"]).await;
    redis.ok(&["ZADD", "asynq:{stale}:lease", "9", "nobody"]).await;
    redis.ok(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let (url, port) = (fixture.redis.url(), fixture.redis.port());
    fixture.write_home(".asynq.yaml", &format!("contexts:\n  the prod:\n    uri: {url}\n"));
    let shown = fixture.bare(["--context", "the prod", "findings"]).ok().await;
    assert!(
        shown.contains("asynq --context='the prod' doctor --fix stale"),
        "{shown}"
    );
    let set = format!("redis-cli -h 127.0.0.1 -p {port} CONFIG SET maxmemory-policy noeviction");
    assert!(shown.contains(&set), "{shown}");
}
