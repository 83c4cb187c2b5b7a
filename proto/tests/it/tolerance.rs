//! Messages that a reader accepts, and those that it refuses.

use asynq_proto::{Message as _, ServerInfo, TaskMessage};

const PLAIN: &[u8] = b"\x0a\x01t\x1a\x03id1\x22\x01q";

fn plain() -> TaskMessage {
    TaskMessage {
        r#type: "t".into(),
        id: "id1".into(),
        queue: "q".into(),
        ..TaskMessage::default()
    }
}

#[test]
fn no_bytes_are_the_default_message() {
    assert_eq!(TaskMessage::decode(&b""[..]).unwrap(), TaskMessage::default());
    assert!(TaskMessage::default().encode_to_vec().is_empty());
}

/// A varint, eight bytes, a string and four bytes, under numbers that no version of the schema has used.
#[test]
fn unknown_fields_are_skipped() {
    let unknown = b"\x80\x01\x07\x89\x01\x01\x02\x03\x04\x05\x06\x07\x08\x92\x01\x03new\x9d\x01\x01\x02\x03\x04";
    for stored in [[unknown, PLAIN].concat(), [PLAIN, unknown].concat()] {
        let message = TaskMessage::decode(stored.as_slice()).unwrap();
        assert_eq!(message, plain());
        assert_eq!(message.encode_to_vec(), PLAIN);
    }
}

#[test]
fn the_order_of_fields_and_map_entries_does_not_matter() {
    let mut expected = plain();
    expected.headers.insert("a".into(), "1".into());
    expected.headers.insert("b".into(), "2".into());
    let (a, b) = (b"\x7a\x06\x0a\x01a\x12\x011", b"\x7a\x06\x12\x012\x0a\x01b");
    for stored in [[a, b, PLAIN].concat(), [PLAIN, b, a].concat()] {
        assert_eq!(TaskMessage::decode(stored.as_slice()).unwrap(), expected);
    }
}

#[test]
fn strings_that_are_not_utf_8_are_refused() {
    for stored in [
        &b"\x0a\x01\xff"[..],             // type
        b"\x1a\x02\xc3\x28",              // id
        b"\x3a\x01\x80",                  // error_msg
        b"\x7a\x06\x0a\x01\xff\x12\x01v", // the key of a header
        b"\x7a\x06\x0a\x01k\x12\x01\xff", // the value of a header
    ] {
        TaskMessage::decode(stored).unwrap_err();
    }
}

#[test]
fn a_payload_is_any_bytes() {
    let all: Vec<u8> = (0..=255).collect();
    let message = TaskMessage {
        payload: all.clone().into(),
        ..plain()
    };
    let read = TaskMessage::decode(message.encode_to_vec().as_slice()).unwrap();
    assert_eq!(read.payload, all);
}

#[test]
fn every_truncation_is_refused_or_a_shorter_message() {
    let whole = TaskMessage {
        payload: "payload".into(),
        retry: 25,
        timeout: -5,
        headers: [("k".into(), "v".into())].into(),
        ..plain()
    }
    .encode_to_vec();
    for end in 0..whole.len() {
        if let Ok(part) = TaskMessage::decode(&whole[..end]) {
            assert_eq!(part.encode_to_vec(), &whole[..end], "cut at {end}");
        }
    }
}

#[test]
fn garbage_is_refused() {
    for stored in [
        &b"garbage"[..],
        b"\x00\x00",                                         // field number 0
        b"\x0a\xff\xff\xff\xff\x0f",                         // a string of 4 GiB that is not there
        b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // a varint of eleven bytes
        b"\x12",                                             // a key without its value
        b"\x08\x01",                                         // `type` as a number
    ] {
        TaskMessage::decode(stored).unwrap_err();
    }
    ServerInfo::decode(&b"\x42\x01\xff"[..]).unwrap_err();
}
