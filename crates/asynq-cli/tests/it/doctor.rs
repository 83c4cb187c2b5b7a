//! `asynq doctor` on a queue that is broken in every way that the guide to operating queues lists.

use asynq::TaskState;
use asynq_testing::{Resp, request::request};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{Fixture, PATIENCE, interrupt};

/// A key of the queue.
fn key(suffix: &str) -> String {
    format!("asynq:{{q}}:{suffix}")
}

/// A task in a state. Its neighbours make the containers that a damage empties.
async fn put(fixture: &Fixture, id: &str, state: TaskState) {
    fixture.put(request("q", id), state).await;
}

/// Breaks the queue in every way of which a repair is known, and returns the repairs. The order matters: a server
/// takes the tasks of all states but pending before anything is pending.
async fn break_everything(fixture: &Fixture) -> Vec<&'static str> {
    for (id, state) in [
        ("leaseless", TaskState::Active),
        ("unlisted", TaskState::Completed),
        ("contradicts", TaskState::Archived),
        ("twice", TaskState::Scheduled),
        ("grouped", TaskState::Aggregating),
        ("unsince", TaskState::Pending),
        ("unusable", TaskState::Pending),
    ] {
        put(fixture, id, state).await;
    }
    let mut raw = fixture.redis.client().await;
    // An id without a task.
    raw.ok(&["ZADD", &key("retry"), "5", "dangling"]).await;
    // Data that cannot be used.
    raw.ok(&["HSET", &key("t:unusable"), "msg", "no message"]).await;
    // A task in no container.
    raw.ok(&["ZREM", &key("completed"), "unlisted"]).await;
    // A task in several containers.
    raw.ok(&["ZADD", &key("retry"), "5", "twice"]).await;
    // A state that contradicts the container.
    raw.ok(&["HSET", &key("t:contradicts"), "state", "retry"]).await;
    // A missing and a stale lease.
    raw.ok(&["DEL", &key("lease")]).await;
    raw.ok(&["ZADD", &key("lease"), "5", "stale"]).await;
    // A wrong `pending_since`.
    raw.ok(&["HDEL", &key("t:unsince"), "pending_since"]).await;
    // A group that is not in its index, and an empty one that is.
    raw.ok(&["DEL", &key("groups")]).await;
    raw.ok(&["SADD", &key("groups"), "empty"]).await;
    // A lock whose task is gone.
    raw.ok(&["SET", &key("unique:t:"), "gone"]).await;
    // The wrong lifetime of a counter.
    raw.ok(&["SET", &key("processed:2026-01-01"), "7"]).await;
    // A queue that is not in the index of queues.
    raw.ok(&["SREM", "asynq:queues", "q"]).await;
    vec![
        "remove the id",
        "move the data to quarantine",
        "list the task as completed",
        // Of the task in two containers, and of the container that its state contradicts.
        "keep the task only as scheduled",
        "keep the task only as scheduled",
        "set the state to archived",
        "add a lease that has ended",
        "remove the lease",
        "set pending_since to the present time",
        "add the group to the index",
        "remove the group from the index",
        "remove the lock",
        "let the counter end in 90 days",
        "add the queue to the index",
    ]
}

fn details(diagnoses: &[Value]) -> Vec<&str> {
    let mut details: Vec<&str> = diagnoses.iter().map(|one| one["detail"].as_str().unwrap()).collect();
    details.sort_unstable();
    details
}

#[tokio::test]
async fn a_queue_broken_in_every_way_is_repaired() {
    let fixture = Fixture::start().await;
    let mut expected = break_everything(&fixture).await;
    expected.sort_unstable();
    let before = fixture.redis.client().await.raw_state().await;

    // A look tells everything and changes nothing.
    let look = fixture.asynq(["doctor", "q", "-o", "ndjson"]).run().await;
    assert_eq!(look.status, 1, "{look:?}");
    assert_eq!(details(&look.ndjson()), expected, "{:#?}", look.ndjson());
    assert!(
        look.stderr.contains(&format!("{} breaches found", expected.len())),
        "{}",
        look.stderr
    );
    assert!(look.stderr.contains("`asynq doctor --fix`"), "{}", look.stderr);
    let diagnoses = look.ndjson();
    assert_eq!(details(&diagnoses), expected, "{diagnoses:#?}");
    for diagnosis in &diagnoses {
        assert_eq!(
            (&diagnosis["queue"], &diagnosis["result"]),
            (&"q".into(), &"can_be_repaired".into())
        );
        for field in ["breach", "effect", "cause", "repair"] {
            assert!(!diagnosis[field].as_str().unwrap().is_empty(), "{diagnosis}");
        }
    }
    assert_eq!(fixture.redis.client().await.raw_state().await, before);

    // A repair needs a confirmation.
    let refused = fixture.asynq(["doctor", "q", "--fix"]).fails(4).await;
    assert!(
        refused.contains("Repair the data of queue q at redis://127.0.0.1:"),
        "{refused}"
    );
    assert_eq!(fixture.redis.client().await.raw_state().await, before);
    let read_only = fixture
        .asynq(["doctor", "q", "--fix", "--yes", "--read-only"])
        .fails(4)
        .await;
    assert!(read_only.contains("read-only"), "{read_only}");
    assert_eq!(fixture.redis.client().await.raw_state().await, before);

    let words = [
        "doctor", "q", "--fix", "--yes", "--actor", "ann", "--reason", "ticket 7",
    ];
    let text = fixture.asynq(words).ok().await;
    // The task that is left in one container no longer contradicts the other.
    expected.dedup();
    for remedy in &expected {
        assert!(text.contains(&format!("    repaired: {remedy}\n")), "{remedy}: {text}");
    }
    let sums = format!(": {0} breaches, {0} repaired, 0 left", expected.len());
    assert!(text.lines().last().unwrap().contains(&sums), "{text}");

    // Nothing is wrong any more, and the tasks are there.
    let text = fixture.asynq(["doctor"]).ok().await;
    assert!(
        text.starts_with("1 queue, ") && text.ends_with(": 0 breaches\n"),
        "{text}"
    );
    assert_eq!(fixture.asynq(["doctor"]).json().await, serde_json::json!([]));
    let inspector = fixture.inspector();
    for (id, state) in [
        ("leaseless", TaskState::Active),
        ("unlisted", TaskState::Completed),
        ("contradicts", TaskState::Archived),
        ("twice", TaskState::Scheduled),
        ("grouped", TaskState::Aggregating),
        ("unsince", TaskState::Pending),
    ] {
        assert_eq!(inspector.get_task_info("q", id).await.unwrap().state, state, "{id}");
    }
    let trail = fixture.asynq(["audit", "--by", "ann"]).json().await;
    let changed: u64 = trail
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["changed"].as_u64().unwrap())
        .sum();
    assert_eq!(changed, expected.len() as u64, "{trail}");
    assert_eq!(
        (&trail[0]["act"], &trail[0]["actor"]["reason"]),
        (&"doctor_fix".into(), &"ticket 7".into())
    );
}

#[tokio::test]
async fn what_no_repair_is_safe_for_is_left_and_the_status_says_so() {
    let fixture = Fixture::start().await;
    put(&fixture, "a", TaskState::Archived).await;
    let mut raw = fixture.redis.client().await;
    // A wrong number in a counter.
    raw.ok(&["SET", &key("failed"), "9"]).await;
    let ended = fixture.asynq(["doctor", "--fix", "--yes"]).run().await;
    assert_eq!(ended.status, 1);
    assert!(ended.stderr.contains("1 breach left as it is"), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("    left: the right number is not known"),
        "{}",
        ended.stdout
    );
    // A key of the wrong type, and what cannot be repaired because of it.
    raw.ok(&["SET", &key("retry"), "somebody's data"]).await;
    raw.ok(&["ZADD", &key("scheduled"), "5", "dang\u{1b}[31mling"]).await;
    let ended = fixture.asynq(["doctor", "--fix", "--yes"]).run().await;
    assert_eq!(ended.status, 1);
    assert!(ended.stderr.contains("3 breaches left as they are"), "{}", ended.stderr);
    let text = ended.stdout;
    assert!(text.contains("    left: asynq:{q}:retry has the wrong type"), "{text}");
    assert!(text.contains("dang\\u{1b}[31mling"), "{text}");
    // Once the wrong key is gone by hand, the rest is repaired.
    raw.ok(&["DEL", &key("retry"), &key("failed")]).await;
    let text = fixture.asynq(["doctor", "--fix", "--yes"]).ok().await;
    assert!(text.contains("repaired: remove the id"), "{text}");
    fixture.asynq(["doctor"]).ok().await;
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_not_whole() {
    let fixture = Fixture::start().await;
    assert!(
        fixture
            .asynq(["doctor"])
            .ok()
            .await
            .starts_with("0 queues, 0 ids and keys: 0 breaches")
    );
    let ended = fixture.asynq(["doctor", "nowhere"]).run().await;
    assert_eq!(ended.status, 3, "{ended:?}");
    assert!(
        ended.stderr.contains("queue \"nowhere\" does not exist"),
        "{}",
        ended.stderr
    );
    assert_eq!(fixture.asynq(["doctor", " "]).run().await.status, 2);
}

async fn damage_many(raw: &mut Resp, count: usize) {
    let mut words = vec!["ZADD".to_owned(), key("scheduled")];
    (0..count).for_each(|number| words.extend(["5".to_owned(), format!("x{number}")]));
    raw.ok(&words).await;
}

#[tokio::test]
async fn ctrl_c_stops_between_two_steps_and_tells_what_is_done() {
    let fixture = Fixture::start().await;
    put(&fixture, "a", TaskState::Pending).await;
    let mut raw = fixture.redis.client().await;
    damage_many(&mut raw, 20_000).await;
    let mut child = fixture.asynq(["doctor", "--fix", "--yes"]).spawn();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
    };
    let first = next().await.unwrap();
    assert!(first.starts_with("queue q: "), "{first}");
    interrupt(&child);
    let mut last = first;
    while let Some(line) = next().await {
        last = line;
    }
    let errors = crate::support::read_all(child.stderr.as_mut().unwrap()).await;
    assert_eq!(child.wait().await.unwrap().code(), Some(1), "{errors}");
    assert!(errors.contains("stopped before the end"), "{errors}");
    // The sums are what was done, and the audit trail agrees.
    let repaired: u64 = last
        .split(", ")
        .find_map(|part| part.strip_suffix(" repaired"))
        .unwrap()
        .parse()
        .unwrap();
    let left = raw.ok(&["ZCARD", &key("scheduled")]).await.int().unsigned_abs();
    assert_eq!(repaired + left, 20_000, "{last}");
    assert!(left > 0, "{last}");
    let trail = fixture.asynq(["audit", "--limit", "0"]).json().await;
    let changed: u64 = trail
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["changed"].as_u64().unwrap())
        .sum();
    assert_eq!(changed, repaired);
}
