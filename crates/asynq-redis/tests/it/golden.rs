//! Golden bytes: stored tasks are those of Go, to the byte, apart from our own `x:` fields.

use std::{collections::BTreeMap, time::Duration};

use asynq_core::raw::RawValue;
use asynq_testing::request::{queue, request};
use bytes::Bytes;

use crate::support::{Bench, DONE, settlement};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A hash without our own fields.
async fn task(bench: &mut Bench, key: &str) -> BTreeMap<String, Bytes> {
    match bench.client.raw_state().await.remove(key) {
        Some(RawValue::Hash(fields)) => fields.into_iter().filter(|(name, _)| !name.starts_with("x:")).collect(),
        other => panic!("{key}: {other:?}"),
    }
}

fn fields(expected: &[(&str, &[u8])]) -> BTreeMap<String, Bytes> {
    expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value)))
        .collect()
}

/// layout.md#task-hash, the observed example.
#[tokio::test]
async fn an_enqueued_task_is_that_of_go() {
    let mut bench = Bench::start().await;
    bench.enqueue(vec![request("default", "a1").payload("p")]).await;
    let msg = hex("0a 01 74 12 01 70 1a 02 61 31 22 07 64656661756c74 28 19 40 88 0e");
    let nanos = asynq_core::clock::unix_nanos(bench.clock.now()).to_string();
    assert_eq!(nanos.len(), 19);
    let expected = fields(&[
        ("msg", &msg),
        ("state", b"pending"),
        ("pending_since", nanos.as_bytes()),
    ]);
    assert_eq!(task(&mut bench, "asynq:{default}:t:a1").await, expected);
    let state = bench.client.raw_state().await;
    assert_eq!(state["asynq:{default}:pending"], RawValue::List(vec!["a1".into()]));
    assert_eq!(state["asynq:queues"], RawValue::Set([Bytes::from("default")].into()));
    assert_eq!(state.len(), 3);
}

/// layout.md#task-hash and layout.md#unique-locks: one of each kind, with the lock's name, value and life.
#[tokio::test]
async fn unique_scheduled_and_grouped_tasks_are_those_of_go() {
    let mut bench = Bench::start().await;
    let ttl = Duration::from_secs(3600);
    bench
        .enqueue(vec![
            request("q", "u").payload("p").unique(ttl),
            request("q", "s").at(bench.after(60)).unique(ttl),
            request("q", "g").group("grp"),
        ])
        .await;
    let lock = "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a";
    let unique = task(&mut bench, "asynq:{q}:t:u").await;
    assert_eq!(unique["unique_key"], lock);
    assert_eq!(
        unique.keys().collect::<Vec<_>>(),
        ["msg", "pending_since", "state", "unique_key"]
    );
    assert_eq!(bench.raw(&["GET", lock]).await.text(), "u");
    let life = bench.client.ttl(lock).await.unwrap();
    assert!((3590..=3600).contains(&life), "{life}");

    let scheduled = task(&mut bench, "asynq:{q}:t:s").await;
    assert_eq!(scheduled.keys().collect::<Vec<_>>(), ["msg", "state", "unique_key"]);
    assert_eq!(
        (&scheduled["state"], &scheduled["unique_key"]),
        (&"scheduled".into(), &"asynq:{q}:unique:t:".into())
    );
    let due = bench.secs() + 60;
    assert_eq!(
        bench.raw(&["ZSCORE", "asynq:{q}:scheduled", "s"]).await.text(),
        due.to_string()
    );
    let life = bench.client.ttl("asynq:{q}:unique:t:").await.unwrap();
    assert!((3650..=3660).contains(&life), "{life}");

    let grouped = task(&mut bench, "asynq:{q}:t:g").await;
    assert_eq!(grouped.keys().collect::<Vec<_>>(), ["group", "msg", "state"]);
    assert_eq!(
        (&grouped["group"], &grouped["state"]),
        (&"grp".into(), &"aggregating".into())
    );
    let state = bench.client.raw_state().await;
    assert_eq!(state["asynq:{q}:groups"], RawValue::Set([Bytes::from("grp")].into()));
    assert_eq!(
        state["asynq:{q}:g:grp"],
        RawValue::ZSet(vec![("g".into(), bench.secs())])
    );
}

/// layout.md#messages: a completed message has its time in field 13, and Go reads it.
#[tokio::test]
async fn a_completed_task_is_that_of_go() {
    let mut bench = Bench::start().await;
    bench.enqueue(vec![request("q", "id1").retention(3600)]).await;
    let taken = bench.take_in("q").await;
    let answer = bench.exchange_in(&queue("q"), vec![settlement(&taken, DONE)], 0).await;
    assert!(answer.settled[0].is_ok());
    let mut msg = hex("0a01741a036964312201712819 40880e 60901c 68").to_vec();
    let mut at = bench.secs().cast_unsigned();
    while at > 0x7f {
        msg.push(u8::try_from(at & 0x7f).unwrap() | 0x80);
        at >>= 7;
    }
    msg.push(u8::try_from(at).unwrap());
    assert_eq!(
        task(&mut bench, "asynq:{q}:t:id1").await,
        fields(&[("msg", &msg), ("state", b"completed")])
    );
    let state = bench.client.raw_state().await;
    assert_eq!(
        state["asynq:{q}:completed"],
        RawValue::ZSet(vec![("id1".into(), bench.secs() + 3600)])
    );
}
