//! Each act of Go's program and of ours, on two copies of the same keys: the same answer, and the same keys after it.

use std::collections::BTreeMap;

use asynq_core::raw::{RawState, RawValue};
use asynq_testing::{Resp, view::diff};
use bytes::Bytes;
use chrono::Utc;

use super::go;
use crate::support::{Fixture, PATIENCE};

/// Largest distance of a time from now that counts as now, in seconds.
const NOW: i64 = 300;

/// Copies all keys of database 0 into another, in the place of those that are there.
async fn copy_into(client: &mut Resp, database: &str) {
    client.ok(&["SELECT", database]).await;
    client.ok(&["FLUSHDB"]).await;
    client.ok(&["SELECT", "0"]).await;
    for key in client.keys().await {
        let words: [&[u8]; 5] = [b"COPY", &key, &key, b"DB", database.as_bytes()];
        client.ok(&words).await;
    }
}

/// The keys of a database, without what Go does not know: our own keys and fields, and the moment of writing.
async fn state_of(client: &mut Resp, database: &str) -> RawState {
    client.ok(&["SELECT", database]).await;
    let mut state = client.raw_state().await;
    state.retain(|key, _| !key.contains("}:x:") && !key.starts_with("asynq:x:"));
    let now = Utc::now().timestamp();
    for (key, value) in &mut state {
        match value {
            // A pause is the moment, and a task that enters these sets is scored by it. Other scores were there before.
            RawValue::String(text) if key.ends_with(":paused") => {
                let at = std::str::from_utf8(text).unwrap().parse::<i64>().unwrap();
                assert!((now - at).abs() < NOW, "{key}: {at}");
                *text = Bytes::from_static(b"now");
            }
            RawValue::ZSet(members) if key.ends_with(":archived") || key.contains("}:g:") => {
                for (_, score) in members.iter_mut().filter(|(_, score)| (now - score).abs() < NOW) {
                    *score = 0;
                }
                members.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
            }
            RawValue::Hash(fields) => {
                fields.retain(|name, _| !name.starts_with("x:"));
                forget_known(fields);
            }
            _ => {}
        }
    }
    state
}

/// Removes the fields of a task in which we differ from Go on purpose; see docs/wire-format/differences.md.
fn forget_known(fields: &mut BTreeMap<String, Bytes>) {
    // We write it whenever a task becomes pending, and remove it when the task no longer is. Go does neither in an act.
    fields.remove("pending_since");
    // Go leaves it with a task that has left its group.
    if fields.get("state").is_some_and(|state| state != "aggregating") {
        fields.remove("group");
    }
}

#[tokio::test]
async fn all_acts_are_gos() {
    let fixture = Fixture::filled().await;
    let mut client = fixture.redis.client().await;
    let one = |act, id| ["task", act, "--queue", "default", "--id", id];
    let all = |act, state| ["task", act, "-q", "default", "-s", state];
    let mut acts: Vec<Vec<&str>> = Vec::new();
    for id in ["pending", "scheduled", "retry", "aggregating", "grouped-2"] {
        acts.push(one("archive", id).to_vec());
    }
    for id in ["scheduled", "retry", "archived", "aggregating"] {
        acts.push(one("run", id).to_vec());
    }
    for id in ["pending", "scheduled", "retry", "archived", "completed", "aggregating"] {
        acts.push(one("delete", id).to_vec());
    }
    for state in ["pending", "scheduled", "retry"] {
        acts.push(all("archiveall", state).to_vec());
    }
    for state in ["pending", "scheduled", "retry", "archived", "completed"] {
        acts.push(all("deleteall", state).to_vec());
    }
    for state in ["scheduled", "retry", "archived"] {
        acts.push(all("runall", state).to_vec());
    }
    for act in ["archiveall", "deleteall", "runall"] {
        acts.push([all(act, "aggregating").as_slice(), &["--group", "g"]].concat());
    }
    acts.push(vec!["queue", "pause", "default"]);
    acts.push(vec!["queue", "resume", "low"]);
    acts.push(vec!["queue", "unpause", "low"]);
    acts.push(vec!["queue", "rm", "low", "--force"]);
    let new = [
        "task",
        "enqueue",
        "--type_name",
        "new:task",
        "--payload",
        r#"{"n":1}"#,
        "--id",
        "new",
        "--queue",
        "low",
    ];
    for options in [
        [].as_slice(),
        &["--retry", "3", "--timeout", "1m", "--retention", "1h"],
        &["--deadline", "2036-05-14T03:04:05Z", "--unique", "10m"],
        &["--process_at", "2036-05-14T03:04:05Z"],
        &["--group", "g9"],
    ] {
        acts.push([new.as_slice(), options].concat());
    }
    let mut wrong = Vec::new();
    for act in acts {
        copy_into(&mut client, "1").await;
        copy_into(&mut client, "2").await;
        let gos = go(&fixture, &[&["--db", "1"], act.as_slice()].concat()).await;
        let ours = fixture.asynq(["--db", "2", "--yes"]).args(&act).run().await;
        if (ours.status, &ours.stdout) != (0, &gos.stdout) || gos.status != 0 {
            wrong.push(format!("{act:?}: Go's answer and ours:\n{gos:?}\n{ours:?}"));
        }
        let before = state_of(&mut client, "0").await;
        let (mut gos, ours) = (state_of(&mut client, "1").await, state_of(&mut client, "2").await);
        if act[1] == "rm" {
            // Go leaves the pause of a queue that is deleted, so the next one of its name would begin paused.
            assert!(gos.remove("asynq:{low}:paused").is_some(), "Go no longer leaves it");
        }
        assert!(!diff(&before, &gos).is_empty(), "{act:?} changed nothing");
        let differing = diff(&gos, &ours);
        if !differing.is_empty() {
            wrong.push(format!("{act:?}: Go (left), ours (right)\n{}", differing.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn a_cancel_is_the_message_of_gos() {
    let fixture = Fixture::filled().await;
    let mut client = fixture.redis.client().await;
    client.ok(&["SUBSCRIBE", "asynq:cancel"]).await;
    let words = ["task", "cancel", "active", "unknown"];
    let gos = go(&fixture, &words).await.ok();
    let ours = fixture.asynq(words).args(["--yes"]).run().await;
    assert_eq!((ours.status, ours.stdout), (0, gos));
    let mut messages = Vec::new();
    for _ in 0..4 {
        let message = tokio::time::timeout(PATIENCE, client.reply())
            .await
            .unwrap()
            .unwrap()
            .array();
        messages.push(message[2].text());
    }
    assert_eq!(messages, ["active", "unknown", "active", "unknown"]);
}
