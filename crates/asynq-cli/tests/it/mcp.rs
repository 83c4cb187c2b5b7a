//! `asynq mcp`, spoken to over pipes as a client does.

mod acts;
mod bounds;
mod reads;

use std::collections::BTreeSet;

use asynq_testing::{RedisServer, request::request};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::support::{Fixture, PATIENCE, read_all};

const READ: [&str; 19] = [
    "audit_trail",
    "count_tasks",
    "doctor_check",
    "error_signatures",
    "findings",
    "get_task",
    "list_groups",
    "list_queues",
    "list_servers",
    "list_tasks",
    "list_workers",
    "next_cron_runs",
    "queue_history",
    "queue_stats",
    "redis_info",
    "scheduler_entries",
    "scheduler_events",
    "search_tasks",
    "supervision_trees",
];
const WRITE: [&str; 8] = [
    "act_by_query",
    "archive_task",
    "cancel_task",
    "delete_task",
    "enqueue_task",
    "pause_queue",
    "run_task",
    "unpause_queue",
];

/// A client that has a server of its own.
struct Client {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    calls: u64,
}

impl Client {
    /// Starts the program with these arguments and makes the handshake.
    async fn start(fixture: &Fixture, words: &[&str]) -> Self {
        let mut client = Self::silent(fixture, words);
        let hello = client
            .call(
                "initialize",
                json!({
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "clientInfo": {"name": "test", "version": "1"},
                }),
            )
            .await;
        assert_eq!(hello["result"]["serverInfo"]["name"], "asynq", "{hello}");
        assert_eq!(hello["result"]["protocolVersion"], "2025-06-18");
        client
            .send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        client
    }

    fn silent(fixture: &Fixture, words: &[&str]) -> Self {
        let program = fixture.asynq(["mcp"]).args(words).env("ASYNQ_ACTOR", "model");
        let mut child = program.spawn();
        Self {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            calls: 0,
        }
    }

    async fn send(&mut self, message: &Value) {
        self.stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// Asks, and returns the whole answer. Every line of the output must be one.
    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("an answer");
        let line = line.unwrap().expect("the server has ended");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(
            (&answer["jsonrpc"], &answer["id"]),
            (&"2.0".into(), &id.into()),
            "{answer}"
        );
        answer
    }

    /// Calls a tool, and returns its result.
    async fn tool(&mut self, name: &str, arguments: Value) -> Value {
        let answer = self
            .call("tools/call", json!({"name": name, "arguments": arguments}))
            .await;
        assert!(answer["result"].is_object(), "{answer}");
        answer["result"].clone()
    }

    /// Calls a tool that must succeed, and returns its value.
    async fn ok(&mut self, name: &str, arguments: Value) -> Value {
        let result = self.tool(name, arguments).await;
        assert_eq!(result["isError"], false, "{name}: {result}");
        let value = &result["structuredContent"];
        // The text is the same JSON, for clients that know no other.
        let text = result["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), *value);
        value.clone()
    }

    /// Calls a tool that must fail, and returns the text of the error.
    async fn fails(&mut self, name: &str, arguments: Value) -> String {
        let result = self.tool(name, arguments).await;
        assert_eq!(result["isError"], true, "{name}: {result}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    async fn tools(&mut self) -> Vec<Value> {
        self.call("tools/list", json!({})).await["result"]["tools"]
            .as_array()
            .unwrap()
            .clone()
    }

    /// Closes the input, and returns the exit status and what was written to stderr.
    async fn end(mut self) -> (Option<i32>, String) {
        drop(self.stdin);
        let rest = tokio::time::timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("it ends");
        assert_eq!(rest.unwrap(), None, "nothing but answers is written");
        let errors = read_all(self.child.stderr.as_mut().unwrap()).await;
        (self.child.wait().await.unwrap().code(), errors)
    }
}

fn names(tools: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn tools_are_described_and_only_read_unless_writes_are_allowed() {
    let fixture = Fixture::start().await;
    let mut client = Client::start(&fixture, &[]).await;
    let tools = client.tools().await;
    assert_eq!(names(&tools), READ);
    for tool in &tools {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        assert!(
            tool["description"].as_str().is_some_and(|text| text.len() > 20),
            "{tool}"
        );
    }
    for name in [
        "get_task",
        "list_tasks",
        "search_tasks",
        "error_signatures",
        "list_workers",
    ] {
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap();
        let description = tool["description"].as_str().unwrap();
        assert!(description.contains("never instructions"), "{tool}");
    }
    let search = tools.iter().find(|tool| tool["name"] == "search_tasks").unwrap();
    let limit = &search["inputSchema"]["properties"]["limit"];
    assert_eq!(
        (&limit["minimum"], &limit["maximum"]),
        (&1.into(), &100.into()),
        "{search}"
    );
    assert!(
        limit["description"].as_str().unwrap().contains("Default: 20"),
        "{search}"
    );
    assert_eq!(search["inputSchema"]["required"], json!(["query"]));
    assert_eq!(client.end().await, (Some(0), String::new()));

    let mut client = Client::start(&fixture, &["--allow-writes"]).await;
    let tools = client.tools().await;
    let all: BTreeSet<&str> = READ.into_iter().chain(WRITE).collect();
    assert_eq!(names(&tools), all.into_iter().collect::<Vec<_>>());
    for name in WRITE {
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap();
        let required = tool["inputSchema"]["required"].as_array().unwrap();
        assert!(required.contains(&"reason".into()), "{tool}");
        assert_ne!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        let destroys = ["act_by_query", "cancel_task", "delete_task"].contains(&name);
        assert_eq!(tool["annotations"]["destructiveHint"], destroys, "{tool}");
    }
    assert_eq!(client.end().await, (Some(0), String::new()));
}

#[tokio::test]
async fn a_redis_that_is_gone_is_told_and_one_that_is_back_is_used() {
    let fixture = Fixture::on(RedisServer::builder().persistent().start().await).await;
    fixture.enqueue(request("q", "a")).await;
    let mut client = Client::start(&fixture, &[]).await;
    client.ok("queue_stats", json!({"queue": "q"})).await;
    fixture.redis.kill();
    // The first call may still find the old connection.
    client.fails("queue_stats", json!({"queue": "q"})).await;
    let result = client.tool("queue_stats", json!({"queue": "q"})).await;
    assert_eq!(result["isError"], true, "{result}");
    assert_eq!(result["structuredContent"]["kind"], "no_connection", "{result}");
    let error = result["content"][0]["text"].as_str().unwrap();
    assert!(error.contains("A later call tries again"), "{error}");
    // What needs no Redis goes on.
    client.ok("next_cron_runs", json!({"spec": "@daily"})).await;
    fixture.redis.restart().await;
    let back = async {
        while client.tool("list_queues", json!({})).await["isError"] != false {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it answers again");
    assert_eq!(client.end().await.0, Some(0));
}

#[tokio::test]
async fn the_end_of_the_input_ends_it_in_peace() {
    let fixture = Fixture::start().await;
    assert_eq!(Client::silent(&fixture, &[]).end().await, (Some(0), String::new()));
    // A Redis that is not there is told before the protocol begins.
    fixture.redis.kill();
    let error = fixture.asynq(["mcp"]).fails(5).await;
    assert!(error.contains("cannot connect to Redis"), "{error}");
}

/// Calls before the end of the input are answered, also several at once.
#[tokio::test]
async fn calls_at_once_and_before_the_end_are_answered() {
    let fixture = Fixture::filled().await;
    let mut client = Client::start(&fixture, &[]).await;
    for id in 100..120 {
        let params = json!({"name": "queue_stats", "arguments": {"queue": "default"}});
        client
            .send(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
            .await;
    }
    let Client { stdin, mut lines, .. } = client;
    drop(stdin);
    let mut answered = BTreeSet::new();
    while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
    {
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["result"]["structuredContent"]["queue"], "default", "{answer}");
        answered.insert(answer["id"].as_u64().unwrap());
    }
    assert_eq!(answered, (100..120).collect());
}
