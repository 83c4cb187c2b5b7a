use asynq_core::{TaskId, TaskMessage, error::PoisonKind, progress::Progress};
use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;

fn now() -> DateTime<Utc> {
    "2026-11-29T12:00:00Z".parse().unwrap()
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// A task of the queue `critical` that waits for its retry and has a JSON payload.
fn task() -> TaskInfo {
    let message = TaskMessage {
        r#type: "email:send".to_owned(),
        payload: br#"{"user_id":1002,"plan":"pro","active":true,"tags":["a","b c"],"note":null,"at":"2026-01-02"}"#[..]
            .into(),
        headers: [("trace".to_owned(), "abc".to_owned())].into(),
        retry: 25,
        retried: 4,
        error_msg: "dial tcp 10.0.0.1: i/o Timeout".to_owned(),
        last_failed_at: (now() - TimeDelta::hours(2)).timestamp(),
        timeout: 1800,
        group_key: "daily".to_owned(),
        ..TaskMessage::default()
    };
    let id = TaskId::new("t-1").unwrap();
    let due = Some(now() + TimeDelta::minutes(5));
    TaskInfo::from_message(&queue("critical"), &id, &message, TaskState::Retry, due, None)
}

fn verdict(query: &str, task: &TaskInfo) -> Verdict {
    let query = Query::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    query.evaluate(task, now())
}

fn refused(query: &str) -> String {
    Query::parse(query).unwrap_err().to_string()
}

#[test]
fn each_field_is_compared_with_its_kind_of_value() {
    let matching = [
        r#"state=retry type^=email: retried>3 error~"timeout" age>1h payload.user_id=1002 queue=critical"#,
        "state=archived,retry",
        "state!=pending",
        "id=t-1",
        "id=x,t-1",
        "id!=x",
        "id$=-1",
        "type=email:send",
        "type=\"email:send\"",
        "type~SEND",
        "type~/^email:(send|read)$/",
        "type!~/^EMAIL/",
        "type~/^EMAIL/i",
        "error!~refused",
        "group=daily",
        "header.trace=abc",
        "header.other=\"\"",
        "retried=4 retried!=5 retried<=4 retried>=4 retried<5",
        "retried=1,2,4",
        "max_retry=25",
        "size>50 size<1kB",
        "age=2h age<3h age>=1h59m",
        "timeout=30m",
        "retention=0s",
        "last_failed_at>now-3h last_failed_at<2026-11-29T10:00:01Z last_failed_at>2026-11-28",
        "next_process_at<now+10m next_process_at>now",
        "orphaned=false damaged=false orphaned!=true",
        "payload~'\"plan\":\"pro\"'",
        "payload^={ payload$=}",
        "payload.plan=pro payload.plan='pro' payload.plan!=free payload.plan^=p payload.plan~PRO",
        "payload.active=true payload.active!=false",
        "payload.tags[1]='b c' payload.tags[2]=null",
        "payload.note=null payload.missing=null payload.user_id!=null",
        "payload.user_id>1000 payload.user_id<=1002.0 payload.user_id!=1003",
        "payload.user_id!='1002'",
        "payload.at>2026-01-01 payload.at<'2026-02'",
        "payload.user_id~00",
        "not state=pending",
        "state=pending or queue=critical",
        "not (state=pending or queue=low)",
        "!id=x and id=t-1",
    ];
    for query in matching {
        assert_eq!(verdict(query, &task()), Verdict::Match, "{query}");
        assert_eq!(verdict(&format!("not ({query})"), &task()), Verdict::NoMatch, "{query}");
    }
}

#[test]
fn what_is_not_known_is_neither_true_nor_false() {
    let mut pending = task();
    pending.state = TaskState::Active;
    pending.state_since = None;
    for query in [
        "age>1h",
        "completed_at<now",
        "deadline>now",
        "progress>5",
        "result.x=1",
        "payload.plan>5",
        "payload.tags~x",
        "payload.active<5",
        "payload.note>5",
    ] {
        assert_eq!(verdict(query, &pending), Verdict::Undecided, "{query}");
        assert_eq!(
            verdict(&format!("not {query}"), &pending),
            Verdict::Undecided,
            "{query}"
        );
        assert_eq!(
            verdict(&format!("{query} id=other"), &pending),
            Verdict::NoMatch,
            "{query}"
        );
        assert_eq!(
            verdict(&format!("{query} or id=t-1"), &pending),
            Verdict::Match,
            "{query}"
        );
        assert_eq!(
            verdict(&format!("{query} id=t-1"), &pending),
            Verdict::Undecided,
            "{query}"
        );
    }
    let mut text = task();
    text.payload = Bytes::from_static(b"hello");
    assert_eq!(verdict("payload.user_id!=5", &text), Verdict::Undecided);
    assert_eq!(verdict("payload=hello", &text), Verdict::Match);
}

#[test]
fn of_a_damaged_task_only_its_place_is_known() {
    let id = TaskId::new("t-1").unwrap();
    let damaged = TaskInfo::damaged(&queue("critical"), &id, TaskState::Retry, PoisonKind::Undecodable);
    assert_eq!(
        verdict("damaged=true id=t-1 queue=critical state=retry", &damaged),
        Verdict::Match
    );
    for query in [
        "type=x",
        "type!=x",
        "retried=0",
        "payload=''",
        "orphaned=false",
        "age>1h",
    ] {
        assert_eq!(verdict(query, &damaged), Verdict::Undecided, "{query}");
    }
}

#[test]
fn progress_and_results_are_found() {
    let mut done = task();
    done.state = TaskState::Completed;
    done.completed_at = Some(now() - TimeDelta::minutes(1));
    done.state_since = done.completed_at;
    done.result = Some(Bytes::from_static(br#"{"rows":12}"#));
    done.progress = Some(Progress {
        percent: 40,
        note: String::new(),
        at: now(),
    });
    assert_eq!(
        verdict("progress=40 result.rows>=12 result~rows age=1m completed_at<now", &done),
        Verdict::Match
    );
}

#[test]
fn a_value_or_operator_that_does_not_suit_its_field_is_refused() {
    let refusals = [
        ("colour=red", "character 1: expected a field: id, queue, type"),
        ("state=done", "character 7: expected a state: active, pending"),
        (
            "state~re",
            "character 6: expected = or != behind this field, found \"~\"",
        ),
        ("retried>many", "character 9: expected a number, found \"many\""),
        (
            "retried^=1",
            "character 8: expected = != < <= > or >= behind this field, found \"^=\"",
        ),
        (
            "retried>1,2",
            "character 11: expected one value behind this operator, found \"2\"",
        ),
        (
            "age>1",
            "character 5: expected a duration such as 90s, 1h30m or 2d, found \"1\"",
        ),
        ("deadline>soon", "character 10: expected a time such as 2026-11-29"),
        ("size>big", "character 6: expected a number of bytes"),
        (
            "orphaned=maybe",
            "character 10: expected true or false, found \"maybe\"",
        ),
        ("orphaned=true,false", "character 15: expected one value"),
        (
            "type>a",
            "character 5: expected = != ^= $= ~ or !~ behind this field, found \">\"",
        ),
        ("id.x=1", "character 1: expected an operator behind id;"),
        (
            "header=1",
            "character 1: expected the name of one header, as header.NAME",
        ),
        (
            "header.a.b=1",
            "character 1: expected the name of one header, as header.NAME",
        ),
        (
            "error~/(/",
            "character 7: expected a regular expression that is valid (error: unclosed group)",
        ),
        (
            r"error~/\w{500}{500}/",
            "character 7: expected a regular expression that is valid (it compiles to more than",
        ),
        ("payload.x>1,2", "character 13: expected one value"),
    ];
    for (query, expected) in refusals {
        let refusal = refused(query);
        assert!(refusal.contains(expected), "{query}: {refusal}");
    }
    let many = vec!["id=1"; MAX_CONDITIONS + 1].join(" ");
    assert!(refused(&many).contains("at most 100 conditions"));
}

#[test]
fn queues_and_states_that_cannot_match_are_known_before_the_search() {
    let can = |query: &str, name: &str, state| {
        Query::parse(query).unwrap().evaluate_all(&queue(name), state) != Verdict::NoMatch
    };
    assert!(can("state=retry queue^=crit type=x", "critical", TaskState::Retry));
    assert!(!can("state=retry queue^=crit type=x", "critical", TaskState::Pending));
    assert!(!can("state=retry queue^=crit type=x", "low", TaskState::Retry));
    assert!(can("state=retry or type=x", "low", TaskState::Pending));
    assert!(!can("not (state=retry or type=x)", "low", TaskState::Retry));
    assert!(can("not (state=retry and type=x)", "low", TaskState::Retry));
    assert!(Query::everything().evaluate_all(&queue("low"), TaskState::Active) == Verdict::Match);
    let all = |query: &str| {
        Query::parse(query)
            .unwrap()
            .evaluate_all(&queue("low"), TaskState::Retry)
    };
    assert_eq!(all("state=retry queue=low,high"), Verdict::Match);
    assert_eq!(all("state=retry type=x"), Verdict::Undecided);
    assert_eq!(all("state=retry or type=x"), Verdict::Match);
}

#[test]
fn everything_matches_and_an_empty_text_does_not_mean_it() {
    assert_eq!(Query::everything().evaluate(&task(), now()), Verdict::Match);
    assert_eq!(Query::everything().to_string(), "");
    assert!(Query::parse("  ").is_err());
    assert_eq!(Query::parse(" id=1  ").unwrap().to_string(), "id=1");
}

proptest! {
    /// No text panics, and a refusal points into the text.
    #[test]
    fn any_text_is_read_or_refused(text in r#"([a-z_.=~!^$<>,'"/\\()\[\] 0-9é]|state=|payload|and |or |not ){0,40}"#) {
        match Query::parse(&text) {
            Ok(query) => drop(query.evaluate(&task(), now())),
            Err(error) => prop_assert!(error.position <= text.chars().count()),
        }
    }

    /// A value in quotes is found, whatever is in it.
    #[test]
    fn any_text_can_be_quoted(text in ".{0,20}") {
        let mut task = task();
        task.last_error.clone_from(&text);
        let quoted = text.replace('\\', r"\\").replace('"', r#"\""#);
        for operator in ["=", "^=", "$=", "~"] {
            let query = format!("error{operator}\"{quoted}\"");
            prop_assert_eq!(verdict(&query, &task), Verdict::Match, "{}", query);
        }
    }
}

#[derive(Debug)]
struct Only {
    queue: &'static str,
    hidden: &'static str,
}

impl Scope for Only {
    fn has_queue(&self, queue: &str) -> bool {
        queue == self.queue
    }

    fn hides_data(&self, queue: &str, task_type: &str) -> bool {
        assert_eq!(queue, self.queue);
        task_type == self.hidden
    }
}

#[test]
fn a_scope_bounds_queues_and_data() {
    let within = |text: &str, queue, hidden| {
        let query = Query::parse(text).unwrap().within(Arc::new(Only { queue, hidden }));
        assert_eq!(query.to_string(), text);
        query
    };
    let task = task();
    for (text, queue, hidden, expected) in [
        ("payload.user_id=1002", "critical", "", Verdict::Match),
        ("payload.user_id=1002", "default", "", Verdict::NoMatch),
        ("state=retry", "default", "", Verdict::NoMatch),
        ("payload.user_id=1002", "critical", "email:send", Verdict::Undecided),
        ("not payload.user_id=1002", "critical", "email:send", Verdict::Undecided),
        ("payload~1002", "critical", "email:send", Verdict::Undecided),
        ("result!~1002", "critical", "email:send", Verdict::Undecided),
        ("payload~1002 or state=retry", "critical", "email:send", Verdict::Match),
        ("state=retry", "critical", "email:send", Verdict::Match),
    ] {
        assert_eq!(within(text, queue, hidden).evaluate(&task, now()), expected, "{text}");
    }
    let all = |name: &str| within("state=retry", "critical", "").evaluate_all(&queue(name), TaskState::Retry);
    assert_eq!((all("critical"), all("default")), (Verdict::Match, Verdict::NoMatch));
}
