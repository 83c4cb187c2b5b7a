use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(secs: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(secs, 0).unwrap()
}

fn read(text: &str) -> TaskOptions {
    TaskOptions::from_go_strings([text])
}

/// layout.md#option-texts: each option in Go's own text, in one order.
#[test]
fn every_option_has_gos_text() {
    let options = TaskOptions::new()
        .header("k", "<v>")
        .header("a", "1")
        .group("g")
        .retention(Duration::from_secs(7200))
        .process_at(at(1_778_727_845))
        .unique_ttl(Duration::from_secs(3600))
        .deadline(at(1_778_036_645))
        .timeout(Duration::from_secs(90))
        .task_id("x")
        .queue("q")
        .max_retry(3);
    let expected = [
        "MaxRetry(3)",
        "Queue(\"q\")",
        "TaskID(\"x\")",
        "Timeout(1m30s)",
        "Deadline(Wed May  6 03:04:05 UTC 2026)",
        "Unique(1h0m0s)",
        "ProcessAt(Thu May 14 03:04:05 UTC 2026)",
        "Retention(2h0m0s)",
        "Group(\"g\")",
        "Header([\"a\",\"1\"])",
        "Header([\"k\",\"\\u003cv\\u003e\"])",
    ];
    assert_eq!(options.to_go_strings(), expected);
    assert_eq!(TaskOptions::from_go_strings(expected), options);
    let later = TaskOptions::new().process_in(Duration::from_secs(600));
    assert_eq!(later.to_go_strings(), ["ProcessIn(10m0s)"]);
    assert!(TaskOptions::new().to_go_strings().is_empty());
}

/// layout.md#option-texts, values checked with Go.
#[test]
fn durations_are_written_as_go_writes_them() {
    for (nanos, text) in [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1\u{b5}s"),
        (1_500_000, "1.5ms"),
        (999_999_999, "999.999999ms"),
        (1_000_000_000, "1s"),
        (60_000_000_000, "1m0s"),
        (7_203_005_000_000, "2h0m3.005s"),
        (86_400_000_000_000, "24h0m0s"),
        (i64::MAX.unsigned_abs(), "2562047h47m16.854775807s"),
    ] {
        assert_eq!(write_duration(Duration::from_nanos(nanos)), text);
        assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)));
    }
    assert_eq!(write_duration(Duration::MAX), "2562047h47m16.854775807s");
}

#[test]
fn texts_are_quoted_as_go_quotes_them() {
    for (text, quoted) in [
        ("", r#""""#),
        ("a\"b\\c'`", r#""a\"b\\c'`""#),
        ("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
        ("\0\x1b\x7f", r#""\x00\x1b\x7f""#),
        ("é日😀", "\"é日😀\""),
        (
            "\u{85}\u{a0}\u{ad}\u{200b}\u{feff}",
            r#""\u0085\u00a0\u00ad\u200b\ufeff""#,
        ),
        ("\u{e000}\u{10ffff}\u{e0001}", r#""\ue000\U0010ffff\U000e0001""#),
        ("\u{fffd}\u{301}", "\"\u{fffd}\u{301}\""),
    ] {
        assert_eq!(quote(text), quoted);
        assert_eq!(unquote(quoted).as_deref(), Some(text));
    }
}

#[test]
fn what_go_unquotes_is_unquoted() {
    for (quoted, text) in [
        (r#""\101\x41\u0041""#, Some("AAA")),
        (r#""\xe6\x97\xa5""#, Some("日")),
        ("`a\\n\r`", Some("a\\n")),
        ("'a'", Some("a")),
        (r"'\''", Some("'")),
        (r#""\xff""#, None),
        ("'ab'", None),
        ("''", None),
        (r#""\'""#, None),
        (r#""a"b""#, None),
        ("\"a\nb\"", None),
        (r#""\400""#, None),
        (r#""\ud800""#, None),
        (r#""\q""#, None),
        (r#""\x4""#, None),
        (r#""\xé""#, None),
        ("\"", None),
        ("a", None),
        ("é\"", None),
        ("", None),
    ] {
        assert_eq!(unquote(quoted).as_deref(), text, "{quoted}");
    }
}

#[test]
fn times_are_read_as_go_reads_them() {
    let second = 1_778_036_645;
    for text in [
        "Wed May  6 03:04:05 UTC 2026",
        "Wed May 6 03:04:05 UTC 2026",
        "sun   MAY    06   3:04:05   UTC   2026",
        "Wed May  6 03:04:05 GMT 2026",
    ] {
        assert_eq!(read_time(text), Some(at(second)), "{text}");
    }
    let later = at(second) + chrono::TimeDelta::nanoseconds(120_000_000);
    assert_eq!(read_time("Wed May  6 03:04:05.12 UTC 2026"), Some(later));
    for text in [
        "",
        "Wed",
        "Wex May  6 03:04:05 UTC 2026",
        "Wed Mai  6 03:04:05 UTC 2026",
        "Wed May 32 03:04:05 UTC 2026",
        "Wed Feb 29 03:04:05 UTC 2026",
        "Wed May  6 24:04:05 UTC 2026",
        "Wed May  6 03:4:05 UTC 2026",
        "Wed May  6 03:04:60 UTC 2026",
        "Wed May  6 03:04:05 UTC 226",
        "Wed May  6 03:04:05 UTC 20260",
        "Wed May  6 03:04:05 CET 2026",
        "Wed May  6 03:04:05 UTC +026",
        "Wé May  6 03:04:05 UTC 2026",
    ] {
        assert_eq!(read_time(text), None, "{text}");
    }
    assert_eq!(write_time(&at(253_402_300_800)), "Sat Jan  1 00:00:00 UTC 10000");
    assert_eq!(write_time(&at(-62_167_219_201)), "Fri Dec 31 23:59:59 UTC -0001");
    assert_eq!(write_time(&at(-62_135_596_800)), "Mon Jan  1 00:00:00 UTC 0001");
}

#[test]
fn what_cannot_be_read_is_left_out() {
    for text in [
        "",
        "Queue",
        "Queue(",
        "Queue)\"q\"(",
        "Queue(q)",
        "Queue(\"a)b\")",
        "queue(\"q\")",
        "Timeout(-5s)",
        "Timeout(5)",
        "MaxRetry(x)",
        "MaxRetry(4294967296)",
        "MaxRetry(99999999999999999999)",
        "Deadline(now)",
        "Header([\"k\"])",
        "Header([\"k\",\"v\",\"w\"])",
        "Header({})",
        "Unknown(1)",
    ] {
        assert_eq!(read(text), TaskOptions::new(), "{text}");
    }
    assert_eq!(read("MaxRetry(-3)").max_retry, Some(0));
    assert_eq!(read("MaxRetry(+3) and more").max_retry, Some(3));
    let twice = TaskOptions::from_go_strings(["Queue(\"a\")", "Queue(\"b\")", "Queue(x)"]);
    assert_eq!(twice, TaskOptions::new().queue("b"));
}

/// Characters that Go's JSON escapes.
#[test]
fn headers_are_written_as_json_for_html() {
    assert_eq!(
        write_header("<k>&", "\"\\\x08\x0c\n\r\t\x01\x7f\u{2028}\u{2029}é😀/'"),
        "Header([\"\\u003ck\\u003e\\u0026\",\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\x7f\\u2028\\u2029é😀/'\"])"
    );
}

proptest! {
    #[test]
    fn what_was_quoted_is_read(text in any::<String>()) {
        prop_assert_eq!(unquote(&quote(&text)), Some(text));
    }

    #[test]
    fn what_was_written_is_read(secs in 0_i64..200_000_000_000, nanos in any::<i64>(), value in "[^)]*") {
        let span = Duration::from_nanos(nanos.unsigned_abs().min(i64::MAX.unsigned_abs()));
        let options = TaskOptions::new().queue(value.clone()).group(value.clone()).header(value.clone(), value);
        let options = options.deadline(at(secs)).process_at(at(secs)).timeout(span).unique_ttl(span).retention(span);
        prop_assert_eq!(TaskOptions::from_go_strings(options.to_go_strings()), options);
    }

    #[test]
    fn nothing_panics(text in any::<String>(), name in "(Queue|MaxRetry|Timeout|Deadline|Header|TaskID)") {
        let _ = (read(&text), read(&format!("{name}({text})")));
        let _ = (unquote(&text), read_time(&text), unquote(&format!("\"\\{text}\"")));
    }

    #[test]
    fn no_time_panics(text in "(Mon|sun|é) ?(Jan|Feb)? {0,2}[0-9]{0,3} [0-9]{0,2}:?[0-9é]{0,3}:[0-9]{2}[.,]?[0-9]{0,12} (UTC|GMT|CET) [0-9]{3,5}") {
        let _ = read_time(&text);
    }
}
