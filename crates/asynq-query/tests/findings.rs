//! The searches that findings suggest are queries, and find the tasks that they are about.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use asynq_core::{
    TaskInfo, TaskMessage, TaskState,
    findings::{Facts, FindingsOptions, QueueFacts, QueueReading, judge},
    info::{ServerInfo, ServerStatus},
    names::{QueueName, TaskId},
    tree::{ActorState, PublishedTree, ServerIdentity, TreeNode},
};
use asynq_query::{Query, Verdict};
use chrono::Utc;

/// Returns the query in a suggested command, as a shell hands it over.
fn query_of(command: &str) -> Query {
    let word = command
        .strip_prefix("asynq task search '")
        .unwrap_or_else(|| panic!("{command}"));
    let query = word.strip_suffix('\'').unwrap().replace(r"'\''", "'");
    query.parse().unwrap_or_else(|error| panic!("{query}: {error}"))
}

#[test]
fn suggested_searches_find_the_tasks_of_their_finding() {
    let names = [
        "low",
        "my queue",
        "日本",
        "a:b/c#d",
        "{}",
        "a\"b\\c",
        "it's (x) or y=1,2",
        "-x",
    ];
    let errors = [
        "dial tcp 10.0.0.7:80: i/o timeout",
        r#"say "\hi\" 5 to C:\dir and 'x y'"#,
        "17",
        "no  double   spaces 5",
        "(a or b) and not c=1, d~/e/ 5",
    ];
    let now = Utc::now();
    for (name, error) in names.into_iter().flat_map(|name| errors.map(|error| (name, error))) {
        let queue = QueueName::new(name).unwrap();
        let message = TaskMessage {
            r#type: "pay \"x\"".to_owned(),
            error_msg: error.to_owned(),
            ..TaskMessage::default()
        };
        let task = |nth: usize| {
            let id = TaskId::new(format!("t{nth}")).unwrap();
            TaskInfo::from_message(&queue, &id, &message, TaskState::Retry, None, None)
        };
        let mut reading = QueueReading::new(QueueFacts::empty(queue.clone(), now));
        reading.retry = (0..50).map(task).collect();
        let server = ServerInfo {
            host: "h".into(),
            pid: 7,
            server_id: "s".into(),
            concurrency: 1,
            queues: BTreeMap::from([(name.to_owned(), 1)]),
            strict_priority: false,
            status: ServerStatus::Active,
            start_time: now,
            active_worker_count: 0,
        };
        let mut tree = TreeNode::new("system", ActorState::Running, now);
        tree.handles = Some(vec!["mail".to_owned()]);
        let mut facts = Facts::default();
        facts.now = now;
        facts.trees = vec![PublishedTree::new(&ServerIdentity::from(&server), tree)];
        facts.servers = Some(vec![server]);
        facts.queues = vec![reading];
        let found = judge(&facts, &FindingsOptions::new());
        let kinds: Vec<_> = found.iter().map(|finding| finding.kind.name()).collect();
        assert_eq!(kinds, ["unhandled_types", "retry_storm"]);
        for finding in &found {
            let query = query_of(&finding.command);
            let verdict = query.evaluate(&facts.queues[0].retry[0], now);
            assert_eq!(verdict, Verdict::Match, "{name:?}, {error:?}: {}", finding.command);
        }
    }
}
