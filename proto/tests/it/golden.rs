//! Golden vectors: bytes written by the Go task queue, read and written again.

use std::collections::BTreeMap;
use std::fmt::Debug;

use asynq_proto::{
    Message, NEVER, SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskMessage, Timestamp, WorkerInfo,
};

/// Go's bytes decode to the message, and the message encodes to Go's bytes.
#[track_caller]
fn both_directions<M: Message + Default + PartialEq + Debug>(golden: &str, message: &M) {
    assert_eq!(&decode::<M>(golden), message);
    assert_eq!(hex(&message.encode_to_vec()), golden);
}

#[track_caller]
fn decode<M: Message + Default>(golden: &str) -> M {
    M::decode(unhex(golden).as_slice()).expect("Go's bytes decode")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "hex comes in pairs of digits");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits"))
        .collect()
}

fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos })
}

#[test]
fn a_plain_task() {
    both_directions(
        concat!(
            "0a0a656d61696c3a73656e64120e7b22757365725f6964223a34327d1a2437633161653065322d366630322d346136612d39643462",
            "2d326636643264316630613131220764656661756c74281940880e",
        ),
        &TaskMessage {
            r#type: "email:send".into(),
            payload: r#"{"user_id":42}"#.into(),
            id: "7c1ae0e2-6f02-4a6a-9d4b-2f6d2d1f0a11".into(),
            queue: "default".into(),
            retry: 25,
            timeout: 1800,
            ..TaskMessage::default()
        },
    );
}

#[test]
fn a_task_with_every_field() {
    both_directions(
        concat!(
            "0a01741201701a03696431220171280330023a04626f6f6d403c48e4e2cfaa0652336173796e713a7b717d3a756e697175653a743a",
            "38333837386339313137313333383930326530666530666239376138633437615881e2cfaa0660901c68b2e2cfaa067201677a060a",
            "016b120176",
        ),
        &TaskMessage {
            r#type: "t".into(),
            payload: "p".into(),
            id: "id1".into(),
            queue: "q".into(),
            retry: 3,
            retried: 2,
            error_msg: "boom".into(),
            timeout: 60,
            deadline: 1_700_000_100,
            unique_key: "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a".into(),
            last_failed_at: 1_700_000_001,
            retention: 3600,
            completed_at: 1_700_000_050,
            group_key: "g".into(),
            headers: BTreeMap::from([("k".into(), "v".into())]),
        },
    );
}

#[test]
fn a_task_with_an_empty_payload() {
    both_directions(
        "0a01741a03696431220171",
        &TaskMessage {
            r#type: "t".into(),
            id: "id1".into(),
            queue: "q".into(),
            ..TaskMessage::default()
        },
    );
}

#[test]
fn a_task_with_a_negative_timeout() {
    both_directions(
        "0a01741a016922017140fbffffffffffffffff01",
        &TaskMessage {
            r#type: "t".into(),
            id: "i".into(),
            queue: "q".into(),
            timeout: -5,
            ..TaskMessage::default()
        },
    );
}

/// Go writes the key and the value of a map entry even when they are empty, and we leave them out: other bytes, same message.
#[test]
fn a_task_with_an_empty_header() {
    let message = TaskMessage {
        r#type: "t".into(),
        id: "i".into(),
        queue: "q".into(),
        timeout: -5,
        headers: BTreeMap::from([(String::new(), String::new())]),
        ..TaskMessage::default()
    };
    assert_eq!(
        decode::<TaskMessage>("0a01741a016922017140fbffffffffffffffff017a040a001200"),
        message
    );

    let ours = hex(&message.encode_to_vec());
    assert_eq!(ours, "0a01741a016922017140fbffffffffffffffff017a00");
    assert_eq!(decode::<TaskMessage>(&ours), message);
}

#[test]
fn a_server() {
    both_directions(
        "0a016810071a0173200a2a0b0a0764656661756c7410013a06616374697665420b0880e2cfaa0610959aef3a",
        &ServerInfo {
            host: "h".into(),
            pid: 7,
            server_id: "s".into(),
            concurrency: 10,
            queues: BTreeMap::from([("default".into(), 1)]),
            strict_priority: false,
            status: "active".into(),
            start_time: at(1_700_000_000, 123_456_789),
            active_worker_count: 0,
        },
    );
}

#[test]
fn a_worker() {
    both_directions(
        "0a016810071a017322036964312a01743201703a017142060880e2cfaa064a060888f0cfaa06",
        &WorkerInfo {
            host: "h".into(),
            pid: 7,
            server_id: "s".into(),
            task_id: "id1".into(),
            task_type: "t".into(),
            task_payload: "p".into(),
            queue: "q".into(),
            start_time: at(1_700_000_000, 0),
            deadline: at(1_700_001_800, 0),
        },
    );
}

#[test]
fn a_scheduler_entry_that_never_enqueued() {
    both_directions(
        concat!(
            "0a026531120a406576657279203330731a01742201702a0a517565756528227122292a0b4d617852657472792833293206089ee2cf",
            "aa063a0b088092b8c398feffffff01",
        ),
        &SchedulerEntry {
            id: "e1".into(),
            spec: "@every 30s".into(),
            task_type: "t".into(),
            task_payload: "p".into(),
            enqueue_options: vec![r#"Queue("q")"#.into(), "MaxRetry(3)".into()],
            next_enqueue_time: at(1_700_000_030, 0),
            prev_enqueue_time: Some(NEVER),
        },
    );
}

#[test]
fn a_scheduler_enqueue_event() {
    both_directions(
        "0a036964311208089ee2cfaa061005",
        &SchedulerEnqueueEvent {
            task_id: "id1".into(),
            enqueue_time: at(1_700_000_030, 5),
        },
    );
}
