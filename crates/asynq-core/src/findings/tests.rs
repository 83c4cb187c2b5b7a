use std::{collections::BTreeMap, process::Command, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::{
    error::PoisonKind,
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, ServerStatus, TaskInfo},
    message::TaskMessage,
    names::{GroupKey, TaskId},
    task_state::TaskState,
    tree::{ActorState, PublishedTree, ServerIdentity, TreeNode},
};

fn now() -> DateTime<Utc> {
    "2026-11-29T12:00:00Z".parse().unwrap()
}

fn ago(secs: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(secs)
}

fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

fn queue() -> QueueFacts {
    QueueFacts::empty(QueueName::new("q").unwrap(), now())
}

fn server(server_id: &str) -> ServerInfo {
    ServerInfo {
        host: "h".into(),
        pid: 7,
        server_id: server_id.into(),
        concurrency: 1,
        queues: BTreeMap::from([("q".to_owned(), 1)]),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: ago(100),
        active_worker_count: 0,
    }
}

fn tree(server_id: &str, handles: Option<&[&str]>, aggregates: bool) -> PublishedTree {
    let node = |name: &str| TreeNode::new(name, ActorState::Running, ago(100));
    let mut root = node("system");
    root.handles = handles.map(|patterns| patterns.iter().map(|pattern| (*pattern).to_owned()).collect());
    let mut maintenance = node("maintenance");
    if aggregates {
        maintenance.children.push(node("aggregator"));
    }
    root.children.push(maintenance);
    PublishedTree::new(&ServerIdentity::from(&server(server_id)), root)
}

/// Facts about one queue that a Go server takes from.
fn facts(queue: QueueFacts) -> Facts {
    Facts {
        now: now(),
        queues: vec![QueueReading::new(queue)],
        servers: Some(vec![server("s")]),
        ..Facts::default()
    }
}

fn judged(facts: &Facts) -> Vec<Finding> {
    judge(facts, &FindingsOptions::new())
}

/// The only finding there is.
fn one(facts: &Facts) -> Finding {
    let mut found = judged(facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn none(facts: &Facts) {
    assert_eq!(judged(facts), []);
}

fn task(nth: usize, task_type: &str, error: &str) -> TaskInfo {
    let message = TaskMessage {
        r#type: task_type.to_owned(),
        error_msg: error.to_owned(),
        last_failed_at: 1_700_000_000,
        ..TaskMessage::default()
    };
    let queue = QueueName::new("q").unwrap();
    TaskInfo::from_message(&queue, &id(&format!("t{nth}")), &message, TaskState::Retry, None, None)
}

#[test]
fn a_quiet_queue_needs_nothing() {
    none(&facts(queue()));
    none(&Facts::default());
    let mut busy = queue();
    (busy.pending, busy.active, busy.leases, busy.retry) = (5, 10, 10, 3);
    busy.pending_since = Some(ago(5));
    busy.first_lease = Some((id("a"), ago(-20)));
    none(&facts(busy));
}

#[test]
fn a_queue_without_a_server_is_found_after_a_minute() {
    let waiting = |secs| {
        let mut queue = queue();
        (queue.pending, queue.pending_since) = (3, Some(ago(secs)));
        Facts {
            servers: Some(Vec::new()),
            ..facts(queue)
        }
    };
    none(&waiting(59));
    let found = one(&waiting(60));
    assert_eq!((found.severity, found.kind.name()), (Severity::Critical, "no_consumer"));
    assert_eq!(
        found.to_string(),
        "queue \"q\": no running server takes from it; 3 tasks pending, the next one since 2026-11-29T11:59:00Z"
    );
    assert_eq!(found.command, "asynq server list");
    // Not the age of the next task too, which has the same cause.
    one(&waiting(3600));

    // A server that is ending, or that takes from another queue, is none. An unknown list of servers tells nothing.
    let mut other = waiting(60);
    for change in [
        |server: &mut ServerInfo| server.status = ServerStatus::Stopped,
        |server: &mut ServerInfo| server.status = ServerStatus::Closed,
        |server: &mut ServerInfo| server.queues = BTreeMap::from([("p".to_owned(), 1)]),
    ] {
        let mut server = server("s");
        change(&mut server);
        other.servers = Some(vec![server]);
        assert_eq!(one(&other).kind.name(), "no_consumer");
    }
    other.servers = None;
    none(&other);

    // Delayed tasks that nobody forwards, and a pending task that does not say since when.
    let mut late = queue();
    late.late = 2;
    let mut late = facts(late);
    late.servers = Some(Vec::new());
    assert!(one(&late).to_string().contains("0 tasks pending, 2 tasks late"));
    let mut silent = waiting(0);
    silent.queues[0].facts.pending_since = None;
    one(&silent);
}

#[test]
fn an_old_pending_task_is_found_after_ten_minutes() {
    let waiting = |secs| {
        let mut queue = queue();
        (queue.pending, queue.pending_since) = (3, Some(ago(secs)));
        facts(queue)
    };
    none(&waiting(599));
    let found = one(&waiting(600));
    assert_eq!(
        (found.severity, found.kind.name()),
        (Severity::Warning, "oldest_pending")
    );
    assert_eq!(
        found.to_string(),
        "queue \"q\": the next task has been pending for 10 min 0 s (since 2026-11-29T11:50:00Z); 3 tasks pending"
    );
    assert_eq!(found.command, "asynq queue inspect q");
    // The pause is the cause.
    let mut paused = waiting(600);
    paused.queues[0].facts.pause = Some(Pause { since: Some(ago(700)) });
    none(&paused);
}

#[test]
fn fifty_retries_after_the_same_error_are_a_storm() {
    let storm = |same: usize| {
        let mut queue = queue();
        queue.retry = 1_000_000;
        let mut facts = facts(queue);
        let error = |nth: usize| format!("user {nth} not found in 10.0.0.{}:80", nth % 200);
        facts.queues[0].retry = (0..same).map(|nth| task(nth, "t", &error(nth))).collect();
        let others = (same..150).map(|nth| task(nth, "t", &format!("other {}", "x".repeat(nth))));
        facts.queues[0].retry.extend(others);
        facts
    };
    none(&storm(49));
    let found = one(&storm(50));
    assert_eq!((found.severity, found.kind.name()), (Severity::Critical, "retry_storm"));
    assert_eq!(
        found.to_string(),
        "queue \"q\": 50 tasks wait for their retry after the same error, of the first 150 looked at of 1000000: user \
         <n> not found in <addr>"
    );
    assert_eq!(
        found.command,
        r#"asynq task search 'queue="q" state=retry error~"not found in"'"#
    );
    assert!(judge(&storm(50), &FindingsOptions::new().retry_storm(51)).is_empty());
}

#[test]
fn a_jump_of_the_failure_rate_is_found() {
    let runs = |today: [u64; 2], yesterday: [u64; 2]| {
        let mut queue = queue();
        queue.runs = [today, yesterday].map(|[failed, processed]| DayRuns { processed, failed });
        facts(queue)
    };
    // By ten points, to twice the rate, of a hundred runs, and compared with some.
    none(&runs([14, 100], [5, 100]));
    let found = one(&runs([15, 100], [5, 100]));
    assert_eq!((found.severity, found.kind.name()), (Severity::Warning, "failure_jump"));
    assert_eq!(
        found.to_string(),
        "queue \"q\": 15.0 % of the runs of today failed (15 of 100), and 5.0 % of those of yesterday (5 of 100)"
    );
    none(&runs([59, 100], [30, 100]));
    one(&runs([60, 100], [30, 100]));
    none(&runs([99, 99], [0, 100]));
    none(&runs([100, 100], [0, 0]));
    // More failed than ran, as damaged counters say.
    one(&runs([1000, 100], [0, 1]));
}

#[test]
fn a_pause_of_an_hour_is_found() {
    let paused = |since: Option<DateTime<Utc>>, pending| {
        let mut queue = queue();
        (queue.pause, queue.pending) = (Some(Pause { since }), pending);
        facts(queue)
    };
    none(&paused(Some(ago(3599)), 1));
    let found = one(&paused(Some(ago(3600)), 1));
    assert_eq!((found.severity, found.kind.name()), (Severity::Warning, "paused_long"));
    assert_eq!(
        found.to_string(),
        "queue \"q\": paused since 2026-11-29T11:00:00Z; 1 task waiting"
    );
    assert_eq!(found.command, "asynq queue unpause q");
    assert_eq!(one(&paused(None, 0)).severity, Severity::Notice);
}

#[test]
fn a_group_that_waits_is_found_sooner_if_nobody_aggregates() {
    let group = |name: &str, secs| GroupFacts {
        group: GroupKey::new(name).unwrap(),
        size: 4,
        since: Some(ago(secs)),
    };
    let grouped = |secs, trees: Vec<PublishedTree>| {
        let mut queue = queue();
        (queue.groups, queue.some_groups) = (300, vec![group("young", 10), group("old", secs)]);
        Facts { trees, ..facts(queue) }
    };
    // A server of Go, which may aggregate.
    none(&grouped(1799, Vec::new()));
    let found = one(&grouped(1800, Vec::new()));
    assert_eq!((found.severity, found.kind.name()), (Severity::Warning, "stuck_group"));
    assert_eq!(
        found.to_string(),
        "queue \"q\": 4 tasks wait in group \"old\" since 2026-11-29T11:30:00Z; 1 such groups of 2 looked at of 300"
    );
    assert_eq!(
        found.command,
        "asynq task list --queue=q --state=aggregating --group=old"
    );
    // A server of ours that aggregates, and one that does not.
    none(&grouped(1799, vec![tree("s", None, true)]));
    assert!(
        one(&grouped(1800, vec![tree("s", None, true)]))
            .to_string()
            .contains("although")
    );
    none(&grouped(1799, vec![tree("s", None, false)]));
    let found = one(&grouped(1800, vec![tree("s", None, false)]));
    assert_eq!(found.severity, Severity::Critical);
    assert!(
        found
            .to_string()
            .contains("no running server of the queue aggregates groups")
    );
    // One of Go beside it.
    let mut mixed = grouped(1800, vec![tree("s", None, false)]);
    mixed.servers = Some(vec![server("s"), server("go")]);
    assert_eq!(one(&mixed).severity, Severity::Warning);
}

#[test]
fn leases_and_active_tasks_must_fit() {
    let mut late = queue();
    (late.active, late.leases, late.ended_leases) = (3, 3, 2);
    late.first_lease = Some((id("a"), ago(300)));
    let found = one(&facts(late));
    assert_eq!((found.severity, found.kind.name()), (Severity::Warning, "orphans"));
    assert_eq!(
        found.to_string(),
        "queue \"q\": 2 tasks of dead servers not recovered; the lease of a ended at 2026-11-29T11:55:00Z"
    );
    assert_eq!(found.command, "asynq doctor --fix q");

    let mut unleased = queue();
    (unleased.active, unleased.leases, unleased.unleased) = (3, 3, vec![id("a")]);
    unleased.stale_leases = vec![id("b")];
    let found = judged(&facts(unleased));
    let kinds: Vec<_> = found.iter().map(|found| (found.severity, found.kind.name())).collect();
    assert_eq!(
        kinds,
        [
            (Severity::Critical, "active_without_lease"),
            (Severity::Notice, "stale_leases")
        ]
    );
    assert_eq!(
        found[0].to_string(),
        "queue \"q\": at least 1 task active without a lease (3 active, 3 leases), for example a"
    );
    // More than the sample shows.
    let mut counted = queue();
    (counted.active, counted.leases) = (3000, 500);
    let found = one(&facts(counted));
    assert!(matches!(
        found.kind,
        FindingKind::ActiveWithoutLease { at_least: 2500, .. }
    ));
    let mut counted = queue();
    (counted.active, counted.leases) = (500, 501);
    assert_eq!(one(&facts(counted)).kind.name(), "stale_leases");
}

#[test]
fn a_quarantine_and_a_full_archive_are_found() {
    let mut queue_ = queue();
    queue_.quarantined = 1;
    let found = one(&facts(queue_));
    assert_eq!(
        found.to_string(),
        "queue \"q\": 1 task damaged and put aside in quarantine"
    );
    assert_eq!(found.command, "asynq doctor q");

    let archive = |archived, days: i64| {
        let mut queue = queue();
        (queue.archived, queue.first_archived) = (archived, Some(ago(days * 24 * 3600)));
        facts(queue)
    };
    none(&archive(8999, 82));
    let found = one(&archive(9000, 1));
    assert_eq!(
        (found.severity, found.kind.name()),
        (Severity::Notice, "archive_near_limit")
    );
    assert!(found.to_string().contains("9000 tasks archived of at most 9999"));
    one(&archive(1, 83));
}

#[test]
fn the_settings_of_redis_and_its_memory_are_judged() {
    let redis = |policy: &str, used, limit| Facts {
        storage: vec![StorageFacts {
            eviction_policy: Some(policy.to_owned()),
            used_memory: Some(used),
            max_memory: limit,
            ..StorageFacts::default()
        }],
        ..facts(queue())
    };
    none(&redis("noeviction", 799, Some(1000)));
    none(&redis("noeviction", 1 << 40, None));
    let found = one(&redis("noeviction", 800, Some(1000)));
    assert_eq!(
        (found.severity, found.kind.name()),
        (Severity::Warning, "memory_near_limit")
    );
    assert_eq!(one(&redis("noeviction", 950, Some(1000))).severity, Severity::Critical);
    let mut found = redis("allkeys-lru", 0, None);
    found.storage[0].node = Some("10.0.0.1:7000".to_owned());
    let found = one(&found);
    assert_eq!(
        (found.severity, found.kind.name()),
        (Severity::Critical, "eviction_policy")
    );
    assert_eq!(
        found.to_string(),
        "Redis 10.0.0.1:7000 has maxmemory-policy allkeys-lru and may delete tasks when its memory is full; set it to \
         noeviction"
    );
    assert_eq!(
        found.command,
        "redis-cli -h 10.0.0.1 -p 7000 CONFIG SET maxmemory-policy noeviction"
    );
}

#[test]
fn a_clock_that_is_wrong_by_a_second_is_found() {
    let skew = |millis: i64, within: u64| Facts {
        storage: vec![StorageFacts {
            clock: Some(ClockFacts {
                server: now() + TimeDelta::milliseconds(millis),
                host: now(),
                within: Duration::from_millis(within),
            }),
            ..StorageFacts::default()
        }],
        ..facts(queue())
    };
    none(&skew(999, 0));
    none(&skew(-999, 0));
    none(&skew(5000, 4001));
    let found = one(&skew(-5000, 10));
    assert_eq!((found.severity, found.kind.name()), (Severity::Warning, "clock_skew"));
    assert_eq!(
        found.to_string(),
        "the clock of Redis is 5 s behind that of this host, within 10 ms"
    );
    assert!(one(&skew(1000, 0)).to_string().contains("1 s ahead of that"));
    assert_eq!(one(&skew(30_000, 0)).severity, Severity::Critical);
}

#[test]
fn types_without_a_handler_are_found_if_all_servers_are_known() {
    let with = |trees: Vec<PublishedTree>| {
        let mut facts = facts(queue());
        facts.queues[0].pending = vec![task(0, "mail:a", ""), task(1, "pay", ""), task(2, "mail:b", "")];
        facts.queues[0].retry = vec![task(3, "pay", "x"), task(4, "image", "")];
        let (gone, queue) = (id("gone"), QueueName::new("q").unwrap());
        let damaged = TaskInfo::damaged(&queue, &gone, TaskState::Retry, PoisonKind::NoHash);
        facts.queues[0].retry.push(damaged);
        facts.trees = trees;
        facts
    };
    none(&with(vec![tree("s", Some(&["mail:", "pay", "im"]), false)]));
    let found = one(&with(vec![tree("s", Some(&["mail:"]), false)]));
    assert_eq!(
        (found.severity, found.kind.name()),
        (Severity::Critical, "unhandled_types")
    );
    assert_eq!(
        found.to_string(),
        "queue \"q\": no running server handles 3 tasks of 5 looked at, of type \"pay\" (2), \"image\" (1)"
    );
    assert_eq!(found.command, r#"asynq task search 'queue="q" type="pay"'"#);
    // A server of Go, one that decides by itself, and one of another queue.
    none(&with(Vec::new()));
    none(&with(vec![tree("s", None, false)]));
    none(&with(vec![tree("other", Some(&["mail:"]), false)]));
    // Two servers share the types.
    let mut two = with(vec![
        tree("s", Some(&["mail:"]), false),
        tree("r", Some(&["pay", "image"]), false),
    ]);
    two.servers = Some(vec![server("s"), server("r")]);
    none(&two);
    two.servers = Some(vec![server("s"), server("r"), server("go")]);
    two.trees.pop();
    none(&two);
}

fn entry(id: &str, spec: &str) -> SchedulerEntry {
    SchedulerEntry {
        id: id.to_owned(),
        spec: spec.to_owned(),
        task_type: "report".to_owned(),
        payload: bytes::Bytes::from_static(b"1"),
        options: vec![r#"Queue("low")"#.to_owned()],
        next: None,
        prev: None,
    }
}

fn reading(entry_id: &str, spec: &str, events: &[i64]) -> EntryReading {
    let event = |secs: &i64| SchedulerEnqueueEvent {
        task_id: id(&format!("{entry_id}{secs}")),
        enqueued_at: ago(*secs),
    };
    EntryReading::new(entry(entry_id, spec), events.iter().map(event).collect())
}

#[test]
fn entries_that_enqueue_each_for_itself_are_found() {
    let with = |entries: Vec<EntryReading>| Facts {
        entries,
        ..facts(queue())
    };
    // One tick, two tasks.
    let found = one(&with(vec![
        reading("a", "* * * * *", &[0, 60]),
        reading("b", "* * * * *", &[1, 61]),
    ]));
    assert_eq!(
        (found.severity, found.kind.name()),
        (Severity::Warning, "repeated_entry")
    );
    assert_eq!(
        found.to_string(),
        "2 scheduler entries enqueue \"report\" at \"* * * * *\", each for itself: tasks b1 and a0 at \
         2026-11-29T11:59:59Z"
    );
    assert_eq!(found.command, "asynq cron list");
    // Two phases of one period.
    one(&with(vec![
        reading("a", "@every 60s", &[0, 60]),
        reading("b", "@every 60s", &[20, 80]),
    ]));
    // Schedulers of ours share the ticks, in any zone; one of them may be late.
    none(&with(vec![
        reading("a", "* * * * *", &[0, 180]),
        reading("b", "* * * * *", &[55, 120]),
    ]));
    none(&with(vec![
        reading("a", "0 9,10 * * *", &[0]),
        reading("b", "0 9,10 * * *", &[3600]),
    ]));
    // The same entry, an unknown spec, no events.
    none(&with(vec![reading("a", "* * * * *", &[0, 1])]));
    none(&with(vec![reading("a", "bad", &[0]), reading("b", "bad", &[0])]));
    none(&with(vec![
        reading("a", "* * * * *", &[]),
        reading("b", "* * * * *", &[]),
    ]));
}

#[test]
fn only_entries_that_are_registered_several_times_are_read() {
    let mut entries: Vec<_> = (0..100).map(|nth| entry(&format!("a{nth}"), "* * * * *")).collect();
    entries.push(entry("single", "@every 1s"));
    let read: Vec<_> = repeated_entries(&entries)
        .iter()
        .map(|entry| entry.id.clone())
        .collect();
    assert_eq!(read, ["a0", "a1", "a2", "a3"]);
    let many: Vec<_> = (0..200)
        .map(|nth| entry(&format!("e{nth}"), &format!("@every {}s", nth % 50 + 1)))
        .collect();
    assert_eq!(repeated_entries(&many).len(), 80);
    assert!(same_entry(&entries[0], &entries[1]) && !same_entry(&entries[0], &entries[100]));
}

#[test]
fn what_cannot_be_read_is_told_and_the_most_serious_is_first() {
    let mut archived = queue();
    (archived.archived, archived.unleased, archived.quarantined) = (9000, vec![id("a")], 2);
    let mut facts = facts(archived);
    facts.unread.push(Unread {
        queue: Some(QueueName::new("p").unwrap()),
        part: "it",
        error: "no answer within 5s".to_owned(),
    });
    let findings = Findings::of(&facts, 3, &FindingsOptions::new());
    let kinds: Vec<_> = findings.iter().map(|found| found.kind.name()).collect();
    assert_eq!(
        kinds,
        ["active_without_lease", "quarantine", "unreadable", "archive_near_limit"]
    );
    assert_eq!((findings.queues, findings.left_out, findings.at), (2, 3, now()));
    let text = findings.to_string();
    assert!(text.contains("warning: queue \"p\": it cannot be read: no answer within 5s\n    asynq doctor p\n"));
    assert!(text.ends_with("4 findings in 2 queues; 3 queues were left out"));
}

/// Returns the words of a command, as a shell reads them.
fn words(shell: &str, command: &str) -> Vec<String> {
    let script = format!("printf '%s\\0' {command}");
    let out = Command::new(shell).arg("-c").arg(script).output().unwrap();
    assert!(out.status.success(), "{command}");
    let out = String::from_utf8(out.stdout).unwrap();
    let mut words: Vec<_> = out.split('\0').map(str::to_owned).collect();
    words.pop();
    words
}

#[test]
fn a_shell_reads_the_names_as_they_are() {
    for name in [
        "low",
        "my queue",
        "日本 ü",
        "a:b/c#d",
        "{a},*?[x]",
        "$HOME `id` $(id)",
        "it's",
        "a\"b\\c",
        "-x",
        "--",
        "~root",
        "a;b|c&d>e<f!g",
        "=x",
        "%d",
    ] {
        let mut paused = QueueFacts::empty(QueueName::new(name).unwrap(), now());
        paused.pause = Some(Pause { since: None });
        (paused.quarantined, paused.groups) = (1, 1);
        paused.some_groups = vec![GroupFacts {
            group: GroupKey::new(name).unwrap(),
            size: 1,
            since: Some(ago(3600)),
        }];
        let found = judged(&facts(paused));
        let command = |kind: &str| {
            let found = found.iter().find(|found| found.kind.name() == kind).unwrap();
            words("sh", &found.command)
        };
        let mut expected = vec!["asynq", "queue", "unpause", name];
        if name.starts_with('-') {
            expected.insert(3, "--");
        }
        assert_eq!(command("paused_long"), expected);
        assert_eq!(command("quarantine")[2..], expected[3..]);
        assert_eq!(command("stuck_group")[5], format!("--group={name}"));
    }
    assert_eq!(quote(""), "''");
    assert_eq!(quote("a\nb\u{1b}[31m'\\\u{85}9"), r"$'a\012b\033[31m\047\134\302\2059'");
    assert_eq!(quote("a\u{202e}b"), r"$'a\342\200\256b'");
}

/// A shell that does not know `$'..'` must not run a part of a name.
#[test]
fn no_shell_runs_a_part_of_a_name() {
    for name in [
        "a\n';echo run #",
        "\t'`echo run`'",
        "\u{1b}\\';echo run;'",
        "\u{202e}$(echo run)",
    ] {
        for shell in ["sh", "bash"] {
            let read = words(shell, &format!("asynq queue unpause {}", quote(name)));
            assert_eq!(read.len(), 4, "{shell}: {read:?}");
            assert!(shell == "sh" || read[3] == name, "{read:?}");
        }
    }
}

#[test]
fn thresholds_out_of_range_count_as_the_nearest() {
    let options = FindingsOptions::new()
        .sample(1000)
        .at_once(0)
        .max_queues(0)
        .retry_storm(0)
        .failure_jump(f64::NAN)
        .memory_share(7.0)
        .archive_tasks(1 << 40)
        .archive_age(Duration::MAX)
        .clock_skew(Duration::MAX)
        .queue_timeout(Duration::ZERO);
    assert_eq!((options.sample, options.at_once, options.max_queues), (200, 1, 1));
    assert_eq!(options.queue_timeout, Duration::from_millis(10));
    let mut full = queue();
    (full.archived, full.first_archived) = (9_999, Some(ago(90 * 24 * 3600)));
    assert_eq!(judge(&facts(full), &options).len(), 1);
    assert!(judge(&facts(queue()), &options).is_empty());
}
