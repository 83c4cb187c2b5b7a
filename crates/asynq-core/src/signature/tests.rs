use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::{
    info::TaskInfo,
    message::TaskMessage,
    names::{QueueName, TaskId},
    task_state::TaskState,
};

#[test]
fn errors_of_go_programs() {
    for (error, expected) in [
        ("context deadline exceeded", "context deadline exceeded"),
        (
            "read tcp 10.0.0.7:53412->10.0.0.2:6379: i/o timeout",
            "read tcp <addr>-><addr>: i/o timeout",
        ),
        (
            "dial tcp [::1]:5432: connect: connection refused",
            "dial tcp <addr>: connect: connection refused",
        ),
        (
            "dial tcp [fe80::1%eth0]:80: connect: no route to host",
            "dial tcp <addr>: connect: no route to host",
        ),
        (
            "dial tcp: lookup api.example.com on 127.0.0.53:53: no such host",
            "dial tcp: lookup api.example.com on <addr>: no such host",
        ),
        (
            r#"Get "https://api.example.com/v1/users/42?key=a": net/http: request canceled (Client.Timeout exceeded)"#,
            r#"Get "<str>": net/http: request canceled (Client.Timeout exceeded)"#,
        ),
        (
            "task id 6ba7b810-9dad-11d1-80b4-00c04fd430c8: not found",
            "task id <uuid>: not found",
        ),
        (
            "runtime error: index out of range [5] with length 3",
            "runtime error: index out of range [<n>] with length <n>",
        ),
        (
            "runtime error: invalid memory address or nil pointer dereference\n\tgoroutine 17 [running]:\n\t0xc0000b2f40",
            "runtime error: invalid memory address or nil pointer dereference goroutine <n> [running]: <id>",
        ),
        (
            "json: cannot unmarshal string into Go struct field User.age of type int",
            "json: cannot unmarshal string into Go struct field User.age of type int",
        ),
        ("took 1m30.5s, limit 250ms", "took <dur>, limit <dur>"),
        ("took 1.5µs of 2h0m0s", "took <dur> of <dur>"),
        (
            "pq: duplicate key value violates unique constraint \"users_email_key\"",
            "pq: duplicate key value violates unique constraint \"users_email_key\"",
        ),
        (
            "Error 1062: Duplicate entry 'ann@example.com' for key 'users.email'",
            "Error <n>: Duplicate entry '<str>' for key 'users.email'",
        ),
        (
            "rpc error: code = Unavailable desc = connection error: desc = \"transport: 10.1.2.3:50051\"",
            "rpc error: code = Unavailable desc = connection error: desc = \"<str>\"",
        ),
        (
            "token expired at 2026-11-29T13:46:41.123456Z",
            "token expired at <time>",
        ),
        ("expired at 2026-11-29 13:46:41.123 +0000 UTC", "expired at <time>"),
        ("2026/11/29 13:46:41 upstream failed", "<time> upstream failed"),
        ("date 2026-11-29 is in the past", "date <time> is in the past"),
        ("at 13:46:41 the job was killed", "at <time> the job was killed"),
        (
            "unexpected status 503 (attempt 3/5)",
            "unexpected status <n> (attempt <n>/<n>)",
        ),
        ("can't open it, it's locked", "can't open it, it's locked"),
    ] {
        assert_eq!(signature(error), expected, "{error}");
    }
}

#[test]
fn errors_of_rust_programs() {
    for (error, expected) in [
        ("deadline has elapsed", "deadline has elapsed"),
        ("Connection refused (os error 111)", "Connection refused (os error <n>)"),
        (
            "invalid type: string \"abc 12\", expected u64 at line 1 column 14",
            "invalid type: string \"<str>\", expected u<n> at line <n> column <n>",
        ),
        (
            "missing field `user_id` at line 1 column 2",
            "missing field `user_id` at line <n> column <n>",
        ),
        (
            "missing field `name` at line 1 column 2",
            "missing field `name` at line <n> column <n>",
        ),
        (
            "error sending request for url (http://10.0.0.9:8080/hook/7f3c2a9e): operation timed out",
            "error sending request for url (http://<addr>/hook/<id>): operation timed out",
        ),
        (
            "called `Result::unwrap()` on an `Err` value: Os { code: 2, kind: NotFound, message: \"No such file\" }",
            "called `<str>` on an `Err` value: Os { code: <n>, kind: NotFound, message: \"<str>\" }",
        ),
        (
            "index out of bounds: the len is 3 but the index is 99",
            "index out of bounds: the len is <n> but the index is <n>",
        ),
        (r#"body: {\"error\":\"no user 5\"}"#, r#"body: {\"error\":\"<str>\"}"#),
        ("balance -12.50 below 1,000", "balance <n> below <n>"),
        ("file of 15MiB above 1.5MiB", "file of <n>MiB above <n>MiB"),
        (
            "user42 has no order 01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "user<n> has no order <id>",
        ),
        (
            "commit 88dc85a is gone, req_8f3a9c too",
            "commit <id> is gone, req_<id> too",
        ),
        ("peer 2001:db8::8a2e:370:7334 left", "peer <addr> left"),
        ("std::io::Error in a::b", "std::io::Error in a::b"),
        ("256.1.1.1 and 1.2.3.4.5", "<addr> and <n>"),
        ("  spaces\t\r\n and\u{0} more  ", "spaces and more"),
        ("ünïcode 7 Fehler №5 日本5", "ünïcode <n> Fehler №<n> 日本<n>"),
        ("", ""),
    ] {
        assert_eq!(signature(error), expected, "{error}");
    }
}

#[test]
fn a_long_error_has_a_short_signature() {
    let text = signature(&"word 1 ".repeat(10_000));
    assert!(text.len() <= MAX_SIGNATURE && text.ends_with('…'), "{text}");
    assert_eq!(signature(&text), text);
    let wide = signature(&"日".repeat(200));
    assert!(wide.len() <= MAX_SIGNATURE && wide.ends_with("日…"), "{wide}");
    assert_eq!(signature(&"a".repeat(MAX_SIGNATURE)).len(), MAX_SIGNATURE);
}

/// Texts that make careless rules look at the same part again and again. The bound is thousands of times above what
/// is measured.
#[test]
fn no_text_takes_long() {
    for part in [
        "\"", "'", "\\\"", "[", "1h", "1.1h", "1:", "::", "1.", "-1", "a1", "0x", "<", "'a 1",
    ] {
        let text = part.repeat(1_000_000 / part.len());
        let began = Instant::now();
        for _ in 0..10 {
            assert!(signature(&text).len() <= MAX_SIGNATURE);
        }
        assert!(began.elapsed().as_secs() < 20, "{part}: {:?}", began.elapsed());
    }
}

#[test]
fn the_literal_part_stands_in_the_error() {
    let of = |error: &str| literal_part(&signature(error), error).to_owned();
    assert_eq!(of("read tcp 10.0.0.7:1->10.0.0.2:6379: i/o timeout"), ": i/o timeout");
    assert_eq!(of("12"), "");
    // The white space of the signature is not that of the error.
    assert_eq!(of("two  words 5 end"), "end");
}

proptest! {
    #[test]
    fn a_signature_is_its_own_signature(text in r#"([ -~]|\PC|[0-9:.\[\]'"`\\ ]|[a-f0-9:-]{1,8}|'[a-z ]{0,4}'|\n){0,120}"#) {
        let once = signature(&text);
        prop_assert!(once.len() <= MAX_SIGNATURE);
        prop_assert_eq!(signature(&once), once);
    }

    #[test]
    fn no_digit_is_left(text in r"[ -~]{0,200}") {
        let text = signature(&text);
        prop_assert!(!text.bytes().any(|byte| byte.is_ascii_digit()), "{}", text);
    }

    #[test]
    fn values_make_no_difference(a in 0_u64.., b in 0_u64.., ip in any::<[u8; 4]>(), port: u16, id in any::<u128>()) {
        let error = |n: u64, ip: [u8; 4], port: u16, id: u128| {
            let [w, x, y, z] = ip;
            let id = uuid::Uuid::from_u128(id | 1 << 64);
            format!("user {n} at {w}.{x}.{y}.{z}:{port} ({id}) failed after {n}ms")
        };
        prop_assert_eq!(signature(&error(a, ip, port, id)), signature(&error(b, [127, 0, 0, 1], 6379, 5)));
    }
}

fn task(id: &str, error: &str, failed_at: i64) -> TaskInfo {
    let message = TaskMessage {
        error_msg: error.to_owned(),
        last_failed_at: failed_at,
        ..TaskMessage::default()
    };
    let (queue, id) = (QueueName::new("q").unwrap(), TaskId::new(id).unwrap());
    TaskInfo::from_message(&queue, &id, &message, TaskState::Retry, None, None)
}

#[test]
fn tasks_are_counted_by_signature() {
    let mut tally = Tally::default();
    for (id, error, at) in [
        ("a", "user 1 not found", 30),
        ("b", "user 22 not found", 10),
        ("c", "timeout", 5),
        ("d", "user 333 not found", 20),
        ("d", "user 333 not found", 20),
        ("e", "", 0),
    ] {
        tally.add(&task(id, error, at));
    }
    let queue = QueueName::new("q").unwrap();
    let gone = TaskId::new("gone").unwrap();
    tally.add(&TaskInfo::damaged(
        &queue,
        &gone,
        TaskState::Retry,
        crate::error::PoisonKind::NoHash,
    ));
    let found = tally.finish(9);
    assert_eq!((found.looked_at, found.without_error, found.unreadable), (6, 1, 1));
    assert_eq!((found.different, found.is_complete()), (2, false));
    let top = &found.top[0];
    assert_eq!((top.signature.as_str(), top.count), ("user <n> not found", 3));
    assert_eq!((top.first.as_str(), top.last.as_str()), ("b", "a"));
    assert_eq!(top.example, "user 1 not found");
    assert_eq!(
        found.to_string(),
        "of the first 6 tasks looked at, of 9:\n       3  user <n> not found\n       1  timeout\n"
    );
}

#[test]
fn only_the_most_frequent_signatures_are_told() {
    let mut tally = Tally::default();
    for n in 0..u8::try_from(MAX_TOP + 5).unwrap() {
        tally.add(&task(&format!("t{n}"), &format!("error {}", char::from(b'a' + n)), 1));
    }
    let found = tally.finish(25);
    assert_eq!(
        (found.top.len(), found.different, found.is_complete()),
        (MAX_TOP, 25, true)
    );
    assert_eq!(found.top[0].signature, "error a");
    assert!(found.to_string().starts_with("all 25 tasks looked at:"));
}
