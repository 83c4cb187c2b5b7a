//! The payloads of the shop's tasks.

/// Numbers that a double cannot hold.
pub(crate) const NUMBERS: &str =
    r#"{"order":9007199254740993,"amount":12345678901234567890.12,"rate":1e400,"zero":-0.0,"price":10.00}"#;

/// A text that is neither JSON nor MessagePack.
pub(crate) const TEXT: &str = "sku;name;price\n4711;Kettle <b>steel</b>;29.90\n4712;\"Lamp, desk\";18.00\n";

pub(crate) fn receipt(order: u64) -> String {
    format!(
        r#"{{"order":{order},"to":"customer-{order}@example.com","template":"receipt","lines":[{{"sku":"4711","quantity":1,"price":"29.90"}},{{"sku":"4712","quantity":2,"price":"18.00"}}],"gift":false,"note":null}}"#
    )
}

pub(crate) fn charge(order: u64, end: &str) -> String {
    format!(r#"{{"order":{order},"amount":"65.90","currency":"EUR","card":"tok_{order}","test":"{end}"}}"#)
}

pub(crate) fn reader(number: u64) -> String {
    format!(r#"{{"reader":"reader-{number}@example.com"}}"#)
}

pub(crate) fn image(number: u64) -> String {
    format!(
        r#"{{"key":"products/{}/front.jpg","sizes":[320,640,1280]}}"#,
        7_310 + number
    )
}

/// A map with numbers, a text and bytes.
pub(crate) fn message_pack() -> Vec<u8> {
    let entries = [
        ("supplier", rmpv::Value::from("acme")),
        ("rows", rmpv::Value::from(1_204_331_u64)),
        ("largest", rmpv::Value::from(u64::MAX)),
        ("checksum", rmpv::Value::from(vec![0xde_u8, 0xad, 0xbe, 0xef])),
        ("html", rmpv::Value::from("<script>alert(3)</script>")),
    ];
    let map = entries.into_iter().map(|(key, value)| (rmpv::Value::from(key), value));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(map.collect())).unwrap();
    bytes
}

/// Bytes that are no text.
pub(crate) fn bytes() -> Vec<u8> {
    (0..=255).rev().chain([0xff, 0xfe, 0xc0, 0xc1]).collect()
}

/// A JSON of 1 MiB.
pub(crate) fn mebibyte() -> Vec<u8> {
    let mut json = String::from(r#"{"supplier":"acme","products":["#);
    let mut number = 0;
    while json.len() < (1 << 20) - 120 {
        json.push_str(&format!(
            r#"{{"sku":"{number:06}","name":"Kettle <em>{number}</em>","price":"29.90"}},"#
        ));
        number += 1;
    }
    json.push_str(r#"{"sku":"last"}]}"#);
    json.into_bytes()
}
