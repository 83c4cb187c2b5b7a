use std::collections::BTreeMap;

use asynq::{
    ActorState, PublishedTree, TaskState, TreeNode,
    info::{GroupInfo, SchedulerEntry, ServerInfo, ServerStatus, WorkerInfo},
    names::{GroupKey, QueueName, TaskId},
};
use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyCode};

use super::*;
use crate::{
    dash::{
        model::{Acted, Data, Event, Gone, List},
        sample::{
            answer, answer_queues, answer_tasks, app, at, findings, findings_read, open_tasks, outage, press, queue,
            tasks, type_text,
        },
    },
    redact,
};

/// Draws the state on a screen of a size, and returns its lines.
fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    app.size = (width, height);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(app, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..width {
            let symbol = buffer[(x, y)].symbol();
            if skip == 0 {
                line.push_str(symbol);
                skip = Span::raw(symbol).width().max(1);
            }
            skip -= 1;
        }
        line.trim_end().to_owned()
    };
    (0..height).map(row).collect()
}

fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[track_caller]
fn assert_has(lines: &[String], text: &str) {
    assert!(has(lines, text), "{text:?} is not on the screen:\n{}", lines.join("\n"));
}

fn two_queues(app: &mut App) {
    let mut mail = queue("mail", 12, 3);
    (mail.processed, mail.failed, mail.latency) = (200, 3, std::time::Duration::from_secs(75));
    (mail.processed_total, mail.memory_usage) = (1000, Some(12_345));
    let mut low = queue("low", 0, 0);
    low.paused = true;
    answer_queues(app, vec![low.clone(), mail.clone()]);
    (mail.timestamp, mail.processed_total) = (at(8), 1080);
    app.now = at(8);
    answer_queues(app, vec![low, mail]);
}

#[test]
fn queues_at_80_by_24() {
    let mut app = app();
    two_queues(&mut app);
    let lines = screen(&mut app, 80, 24);
    assert!(
        lines[0].starts_with("asynq prod (redis://127.0.0.1:6379/0) > queues"),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines[1],
        "  Queue ^  State   Size  Latency  Processed  Failed  Errors  Tasks/s  Throughput"
    );
    assert_eq!(
        lines[2],
        "> low      PAUSED     0       0s          0       0       -        -"
    );
    assert_eq!(
        lines[3],
        "  mail     RUN       15    1m15s        200       3   1.50%     10.0  █"
    );
    assert!(lines[23].starts_with("? help"), "{}", lines[23]);
}

#[test]
fn queues_on_a_wide_screen_show_all_states() {
    let mut app = app();
    two_queues(&mut app);
    let lines = screen(&mut app, 170, 40);
    for title in [
        "Memory",
        "active",
        "pending",
        "aggregating",
        "scheduled",
        "retry",
        "archived",
        "completed",
    ] {
        assert!(lines[1].contains(title), "{title}: {}", lines[1]);
    }
    assert!(lines[3].contains("12.3 kB") && lines[3].ends_with('█'), "{}", lines[3]);
    let lines = screen(&mut app, 120, 40);
    assert!(
        lines[1].contains("pending") && !lines[1].contains("Memory"),
        "{}",
        lines[1]
    );
}

#[test]
fn queues_at_40_by_12() {
    let mut app = app();
    two_queues(&mut app);
    let lines = screen(&mut app, 40, 12);
    assert_eq!(lines[1], "  Queue ^  State   Size  Latency  Failed");
    assert_eq!(lines[3], "  mail     RUN       15    1m15s       3");
}

#[tokio::test]
async fn findings_stand_above_the_queues() {
    let mut app = app();
    two_queues(&mut app);
    app.update(findings_read(findings().await), at(8));
    let lines = screen(&mut app, 80, 24);
    let text = "critical: queue \"default\": no running server takes from it; 1 task pending";
    assert!(lines[1].starts_with("! ") && has(&lines, &text[..60]), "{lines:#?}");
    type_text(&mut app, ":findings");
    press(&mut app, KeyCode::Enter);
    answer(&mut app, Data::Findings(findings().await));
    let lines = screen(&mut app, 80, 24);
    assert_has(&lines, "no running server takes from it");
    assert_has(&lines, "      asynq server list");
}

#[test]
fn an_outage_is_shown_in_place() {
    let mut app = app();
    two_queues(&mut app);
    app.update(Event::Tick, at(16));
    outage(&mut app);
    app.update(Event::Tick, at(28));
    let lines = screen(&mut app, 100, 24);
    let last = text::clock(at(8));
    assert_eq!(
        lines[1],
        format!("! no answer for 12s, last data from {last}; trying again (connection refused)")
    );
    assert_has(&lines, "mail");
}

#[tokio::test]
async fn tasks_of_a_state() {
    let mut app = app();
    open_tasks(&mut app, 3, TaskState::Retry).await;
    type_text(&mut app, " ");
    let lines = screen(&mut app, 100, 24);
    assert_eq!(lines[1], "RUN  size 10  latency 0s  processed 0  failed 0");
    assert_eq!(
        lines[2],
        "active:0 pending:7 aggregating:0 scheduled:0 [retry:3] archived:0 completed:0"
    );
    assert_eq!(
        lines[3],
        "   ID   Type        Next run  Retried  Last error     Payload"
    );
    assert_eq!(
        lines[4],
        "  *id1  email:send     in 3m     0/25  smtp: timeout  {\"user_id\":1}"
    );
    assert_eq!(
        lines[5],
        ">  id2  email:send     in 3m     0/25  smtp: timeout  {\"user_id\":2}"
    );
    assert_has(&lines, "1 marked  showing 1-3 of 3");
    let lines = screen(&mut app, 40, 12);
    assert!(lines[1].contains("[retry:3]"), "{}", lines[1]);
    assert!(lines[3].contains("id1") && lines[3].contains("in 3m"), "{}", lines[3]);
}

#[tokio::test]
async fn groups_come_before_their_tasks() {
    let mut app = app();
    open_tasks(&mut app, 0, TaskState::Aggregating).await;
    let group = GroupInfo {
        group: GroupKey::new("vip").unwrap(),
        size: 4,
        in_sets: 2,
    };
    let queue = Some(Box::new(queue("default", 0, 0)));
    answer(
        &mut app,
        Data::Tasks {
            queue,
            list: List::Groups(vec![group]),
        },
    );
    let lines = screen(&mut app, 80, 24);
    assert_has(&lines, "> vip       4                 2");
    press(&mut app, KeyCode::Enter);
    assert_eq!(app.titles().last().unwrap(), "default, group vip");
}

#[tokio::test]
async fn a_task_shows_its_data_laid_out_or_raw() {
    let mut app = app();
    open_tasks(&mut app, 1, TaskState::Retry).await;
    press(&mut app, KeyCode::Enter);
    let mut task = tasks(1, TaskState::Retry).await.remove(0);
    task.result = Some(b"\x81\xa2id\xcd\x03\xea".as_slice().into());
    task.headers.insert("trace".to_owned(), "abc\u{1b}[31m".to_owned());
    answer(&mut app, Data::Task(Box::new(task.clone())));
    let lines = screen(&mut app, 80, 40);
    assert_has(&lines, "Type:         email:send");
    assert_has(&lines, "Header:       trace: abc\\u{1b}[31m");
    assert_has(&lines, "Payload (JSON, 13 B)");
    assert_has(&lines, "  \"user_id\": 1");
    assert_has(&lines, "Result (MessagePack, 7 B)");
    assert_has(&lines, "  \"id\": 1002");
    type_text(&mut app, "r");
    let lines = screen(&mut app, 80, 40);
    assert_has(&lines, "{\"user_id\":1}");
    assert_has(&lines, "\\x81\\xa2id\\xcd\\x03\\xea");

    app.place.redaction = redact::types(&["email:*".to_owned()]);
    let lines = screen(&mut app, 80, 40);
    assert_has(&lines, "Payload (redacted)");
    assert!(!has(&lines, "user_id") && !has(&lines, "x81"), "{lines:#?}");
}

#[tokio::test]
async fn a_long_text_scrolls_to_its_end() {
    let mut app = app();
    open_tasks(&mut app, 1, TaskState::Retry).await;
    press(&mut app, KeyCode::Enter);
    let mut task = tasks(1, TaskState::Retry).await.remove(0);
    let numbers: Vec<u32> = (0..100).collect();
    task.payload = serde_json::to_vec(&numbers).unwrap().into();
    answer(&mut app, Data::Task(Box::new(task)));
    assert!(!has(&screen(&mut app, 80, 24), "  99"));
    type_text(&mut app, "G");
    assert_has(&screen(&mut app, 80, 24), "  99");
    type_text(&mut app, "k");
    type_text(&mut app, "jjj");
    assert_has(&screen(&mut app, 80, 24), "  99");
}

#[tokio::test]
async fn a_large_payload_is_kept_and_shown_in_part() {
    let mut app = app();
    open_tasks(&mut app, 1, TaskState::Retry).await;
    let mut large = tasks(1, TaskState::Retry).await.remove(0);
    // Two bytes each after the first: every even number of bytes ends inside a character.
    large.payload = format!("a{}", "é".repeat(50_000)).into_bytes().into();
    answer_tasks(&mut app, vec![large.clone()]);
    let Content::Tasks(page) = &app.page().content else {
        panic!()
    };
    assert_eq!((page.rows[0].payload.len(), page.sizes[0].0), (4096, 100_001));
    assert_has(&screen(&mut app, 100, 24), "aéééé");
    press(&mut app, KeyCode::Enter);
    answer(&mut app, Data::Task(Box::new(large.clone())));
    let lines = screen(&mut app, 100, 24);
    assert_has(&lines, "Payload (raw, 100.0 kB)");
    assert_has(&lines, "aéééé");
    type_text(&mut app, "G");
    assert_has(&screen(&mut app, 100, 24), "and 34466 more bytes");
    let Content::Task(page) = &app.page().content else {
        panic!()
    };
    assert_eq!(page.task.as_ref().unwrap().payload.len(), 64 << 10);

    // What was laid out is for these data only.
    large.payload = b"42".as_slice().into();
    answer(&mut app, Data::Task(Box::new(large)));
    assert_has(&screen(&mut app, 100, 24), "Payload (JSON, 2 B)");
}

#[test]
fn only_servers_in_sight_are_laid_out() {
    let mut app = app();
    type_text(&mut app, ":servers");
    press(&mut app, KeyCode::Enter);
    let Data::Servers { servers, workers } = server_and_worker() else {
        panic!()
    };
    let several = (0..100).map(|number| {
        let mut worker = workers[0].clone();
        worker.task_id = TaskId::new(format!("run{number}")).unwrap();
        worker
    });
    let workers = several.collect();
    answer(&mut app, Data::Servers { servers, workers });
    assert_has(&screen(&mut app, 100, 24), "> web1:7 active");
    type_text(&mut app, "G");
    let lines = screen(&mut app, 100, 24);
    assert_has(&lines, ">   run99");
    assert!(has(&lines, "run80") && !has(&lines, "run70"), "{lines:#?}");
    type_text(&mut app, "g");
    assert_has(&screen(&mut app, 100, 24), "> web1:7 active");
}

fn server_and_worker() -> Data {
    let server = ServerInfo {
        host: "web1".to_owned(),
        pid: 7,
        server_id: "s-1".to_owned(),
        concurrency: 10,
        queues: BTreeMap::from([("mail".to_owned(), 3)]),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: at(-3600),
        active_worker_count: 1,
    };
    let worker = WorkerInfo {
        host: "web1".to_owned(),
        pid: 7,
        server_id: "s-1".to_owned(),
        task_id: TaskId::new("id1").unwrap(),
        task_type: "email:send".to_owned(),
        payload: b"42".as_slice().into(),
        queue: QueueName::new("mail").unwrap(),
        start_time: at(-12),
        deadline: at(60),
    };
    Data::Servers {
        servers: vec![server],
        workers: vec![worker],
    }
}

#[test]
fn servers_show_what_they_run() {
    let mut app = app();
    type_text(&mut app, ":servers");
    press(&mut app, KeyCode::Enter);
    answer(&mut app, server_and_worker());
    let lines = screen(&mut app, 100, 24);
    assert_has(&lines, "> web1:7 active  1 of 10      1h ago         mail=3  s-1");
    assert_has(&lines, "    id1          email:send  12s ago  in 1m  mail    42");
    type_text(&mut app, "jC");
    assert_has(&screen(&mut app, 100, 24), "cancel 1 task?");
}

fn tree() -> Data {
    let mut processor = TreeNode::new("processor", ActorState::Restarting, at(-5));
    processor.restarts = 2;
    processor.last_failure = Some("boom\u{7}".to_owned());
    let mut tree = TreeNode::new("system", ActorState::Running, at(-3600));
    tree.children.push(processor);
    Data::Trees(vec![PublishedTree {
        host: "web1".to_owned(),
        pid: 7,
        server_id: "s-1".to_owned(),
        tree,
    }])
}

#[test]
fn trees_show_restarts_and_failures() {
    let mut app = app();
    type_text(&mut app, ":tree");
    press(&mut app, KeyCode::Enter);
    answer(&mut app, tree());
    let lines = screen(&mut app, 100, 24);
    assert_has(&lines, "> web1:7:s-1   running            0");
    assert_has(&lines, "    processor  RESTARTING         2");
    assert_has(&lines, "boom\\u{7}");
    type_text(&mut app, "j");
    assert_has(&screen(&mut app, 100, 24), "last failure: boom\\u{7}");
}

#[test]
fn schedulers_tell_the_next_runs_in_words() {
    let mut app = app();
    type_text(&mut app, ":schedulers");
    press(&mut app, KeyCode::Enter);
    answer(&mut app, entries());
    let lines = screen(&mut app, 120, 24);
    assert_has(&lines, "> @every 1h  report  in 3m     -");
    assert_has(&lines, "(in 3m), ");
    assert_has(&lines, "(in 2h3m)");
}

fn entries() -> Data {
    Data::Schedulers(vec![SchedulerEntry {
        id: "e-1".to_owned(),
        spec: "@every 1h".to_owned(),
        task_type: "report".to_owned(),
        payload: b"".as_slice().into(),
        options: vec!["Queue(\"low\")".to_owned()],
        next: Some(at(180)),
        prev: None,
    }])
}

#[tokio::test]
async fn a_refused_query_has_a_caret_below_its_fault() {
    let mut app = app();
    open_tasks(&mut app, 1, TaskState::Retry).await;
    type_text(&mut app, "/type=x and colour=red");
    press(&mut app, KeyCode::Enter);
    let lines = screen(&mut app, 80, 24);
    let at = lines.iter().position(|line| line.starts_with("/type=x")).unwrap();
    assert_eq!(lines[at], "/type=x and colour=red");
    assert_eq!(lines[at + 1], "            ^");
    assert!(
        lines[at + 2].starts_with("query, character 12: expected"),
        "{}",
        lines[at + 2]
    );
}

#[tokio::test]
async fn a_question_names_its_target() {
    let mut app = app();
    open_tasks(&mut app, 2, TaskState::Retry).await;
    type_text(&mut app, "aD");
    let lines = screen(&mut app, 80, 24);
    for text in [
        "Confirm, Esc cancels",
        "delete 2 tasks?",
        "on prod (redis://127.0.0.1:6379/0)",
        "of queue default",
        "id2",
        "This cannot be undone.",
        "Reason:",
        "Type y to confirm:",
    ] {
        assert_has(&lines, text);
    }
    let lines = screen(&mut app, 40, 12);
    assert_has(&lines, "delete 2 tasks?");
    assert_has(&lines, "Type y to confirm:");
    let lines = screen(&mut app, 40, 8);
    assert_has(&lines, "Make the terminal larger");
    assert!(!has(&lines, "Type y"), "{lines:#?}");
}

#[test]
fn a_notice_is_newer_than_the_act_under_way() {
    let mut app = app();
    app.acting = Some("run 3 tasks".to_owned());
    assert_has(&screen(&mut app, 80, 24), "run 3 tasks: under way");
    type_text(&mut app, "q");
    assert_has(
        &screen(&mut app, 80, 24),
        "! run 3 tasks: still under way; quit again to leave it unfinished",
    );
}

#[test]
fn read_only_is_shown() {
    let mut app = app();
    app.place.hands.read_only = true;
    assert_has(&screen(&mut app, 80, 24), "[read-only]");
}

/// Every page with data and every overlay, on every small size.
#[tokio::test]
async fn no_size_is_too_small() {
    let mut apps = Vec::new();
    for state in TaskState::ALL {
        let mut app = app();
        open_tasks(&mut app, 3, state).await;
        apps.push(app);
    }
    for (command, data) in [
        (":servers", server_and_worker()),
        (":tree", tree()),
        (":schedulers", entries()),
        (":findings", Data::Findings(findings().await)),
        (
            ":redis",
            Data::Redis {
                servers: vec![(None, Ok(BTreeMap::from([("role".to_owned(), "master".to_owned())])))],
                cluster: None,
            },
        ),
    ] {
        let mut app = app();
        type_text(&mut app, command);
        press(&mut app, KeyCode::Enter);
        answer(&mut app, data);
        apps.push(app);
    }
    for keys in ["", "?", ":abc", "/type=x", "P", "D", "\n"] {
        let mut app = app();
        two_queues(&mut app);
        app.update(findings_read(findings().await), at(8));
        app.update(Event::Tick, at(16));
        outage(&mut app);
        type_text(&mut app, keys);
        apps.push(app);
    }
    let mut failed = app();
    type_text(&mut failed, "/type==x");
    press(&mut failed, KeyCode::Enter);
    let acted = Acted {
        text: "nothing".to_owned(),
        failed: true,
        done: vec![],
        gone: Gone::Nothing,
    };
    failed.update(Event::Acted(acted), at(1));
    apps.push(failed);
    for mut app in apps {
        for width in [1, 2, 5, 11, 13, 40] {
            for height in [1, 2, 3, 5, 7, 12] {
                screen(&mut app, width, height);
            }
        }
    }
}

#[tokio::test]
async fn a_narrow_header_names_the_page() {
    let mut app = app();
    open_tasks(&mut app, 1, TaskState::Retry).await;
    assert!(screen(&mut app, 80, 24)[0].starts_with("asynq prod (redis://127.0.0.1:6379/0) > queues > default"));
    assert!(screen(&mut app, 60, 24)[0].starts_with("asynq prod (redis://127.0.0.1:6379/0) > default"));
    app.place.hands.read_only = true;
    assert!(screen(&mut app, 40, 24)[0].starts_with("default [read-only]"));
}

#[test]
fn the_last_throughputs_are_shown_where_there_is_little_room() {
    let mut app = app();
    for read in 0..40 {
        let mut mail = queue("mail", 1, 0);
        // Only the last interval has throughput.
        (mail.timestamp, mail.processed_total) = (at(read), if read == 39 { 9 } else { 0 });
        answer_queues(&mut app, vec![mail]);
    }
    assert!(screen(&mut app, 80, 24)[2].ends_with("________█"));
}

#[test]
fn queues_that_could_not_be_read_are_named() {
    let mut app = app();
    let unread = vec![("bad\u{1b}".to_owned(), "wrong type".to_owned())];
    let data = Data::Queues {
        queues: vec![queue("mail", 1, 0)],
        unread,
        left_out: 3,
    };
    answer(&mut app, data);
    let lines = screen(&mut app, 80, 24);
    assert_eq!(lines[1], "! 3 queues left out: there are too many");
    assert_eq!(lines[2], r#"! queue "bad\u{1b}" cannot be read: wrong type"#);
}

#[tokio::test]
async fn a_finding_about_the_queue_stands_above_its_tasks() {
    let mut app = app();
    open_tasks(&mut app, 1, TaskState::Retry).await;
    app.update(findings_read(findings().await), at(1));
    let lines = screen(&mut app, 100, 24);
    assert!(
        lines[1].starts_with("! ") && lines[1].contains("no running server takes from it"),
        "{}",
        lines[1]
    );
    assert!(lines[2].starts_with("RUN  size"), "{}", lines[2]);
    // That of another queue does not.
    press(&mut app, KeyCode::Esc);
    answer_queues(&mut app, vec![queue("other", 1, 1)]);
    press(&mut app, KeyCode::Enter);
    let lines = screen(&mut app, 100, 24);
    assert!(!has(&lines, "no running server"), "{lines:#?}");
}
