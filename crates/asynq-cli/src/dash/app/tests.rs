use super::*;
use crate::dash::{
    model::{Deed, Gone, List, Look, Seen},
    sample::{
        answer, answer_queues, answer_tasks, app, at, control, findings, findings_read, look, open_tasks, outage,
        place, press, queue, tasks, type_text,
    },
};

fn notice(app: &App) -> &str {
    app.notice
        .as_ref()
        .map(|notice| notice.text.as_str())
        .unwrap_or_default()
}

fn confirm(app: &App) -> &Confirm {
    match &app.overlay {
        Some(Overlay::Confirm(confirm)) => confirm,
        other => panic!("no question: {other:?}"),
    }
}

fn names(app: &App) -> Vec<String> {
    match &app.page().content {
        Content::Queues(queues) => queues.rows.iter().map(|row| row.queue.to_string()).collect(),
        other => panic!("not the queues: {other:?}"),
    }
}

fn key(id: &str) -> TaskKey {
    TaskKey {
        queue: "default".to_owned(),
        id: id.to_owned(),
    }
}

#[test]
fn the_first_read_is_of_queues_and_findings() {
    let mut app = App::new(place(), Vec::new(), Duration::from_secs(8), at(0));
    let requests = app.update(Event::Resized(80, 24), at(0));
    let turn = 1;
    let look = Look::Queues;
    assert_eq!(
        requests,
        [
            Request::Fetch(Fetch::Look { turn, look }),
            Request::Fetch(Fetch::Findings { switch: 0 })
        ]
    );
}

#[test]
fn reads_follow_each_other_at_the_interval_and_never_pile_up() {
    let mut app = app();
    assert_eq!(app.update(Event::Tick, at(30)), [], "the first read has no answer yet");
    app.now = at(31);
    answer_queues(&mut app, vec![]);
    let requests = app.update(Event::Tick, at(32));
    assert_eq!(look(&requests), Some(&Look::Queues));
    answer_queues(&mut app, vec![]);
    assert_eq!(app.update(Event::Tick, at(39)), []);
    assert_eq!(look(&app.update(Event::Tick, at(40))), Some(&Look::Queues));
}

#[test]
fn an_answer_for_another_page_is_ignored() {
    let mut app = app();
    let turn = app.turn();
    type_text(&mut app, ":servers");
    assert_eq!(look(&press(&mut app, KeyCode::Enter)), Some(&Look::Servers));
    let answer = Ok(Data::Servers {
        servers: vec![],
        workers: vec![],
    });
    app.update(Event::Looked { turn, answer }, at(1));
    assert_eq!(app.page().read_at, None);
}

#[test]
fn an_outage_is_told_and_tried_again_and_keys_go_on() {
    let mut app = app();
    answer_queues(&mut app, vec![queue("a", 1, 0), queue("b", 2, 0)]);
    assert_eq!(app.silent_since(), None);
    app.update(Event::Tick, at(8));
    outage(&mut app);
    assert_eq!(app.silent_since(), Some(at(8)));
    press(&mut app, KeyCode::Down);
    assert_eq!(app.page().cursor, 1, "a key does its work");
    assert_eq!(
        look(&app.update(Event::Tick, at(9))),
        Some(&Look::Queues),
        "it is tried again after a second"
    );
    outage(&mut app);
    // Another page does not make Redis answer.
    press(&mut app, KeyCode::Enter);
    app.update(Event::Tick, at(20));
    assert_eq!(app.silent_since(), Some(at(8)));
    answer_tasks(&mut app, vec![]);
    assert_eq!((app.silent_since(), app.page().read_at), (None, Some(at(20))));
}

#[test]
fn a_slow_read_is_told_after_two_seconds() {
    let mut app = app();
    app.update(Event::Tick, at(1));
    assert_eq!(app.silent_since(), None);
    app.update(Event::Tick, at(2));
    assert_eq!(app.silent_since(), Some(at(0)));
}

#[test]
fn a_refused_read_is_no_outage() {
    let mut app = app();
    let answer = Err(Trouble {
        text: "queue not found".to_owned(),
        is_outage: false,
    });
    let turn = app.turn();
    app.update(Event::Looked { turn, answer }, at(1));
    assert_eq!(
        (app.silent_since(), app.page().fault.as_deref()),
        (None, Some("queue not found"))
    );
    answer_queues(&mut app, vec![]);
    assert_eq!(app.page().fault, None);
}

#[test]
fn queues_are_sorted_by_a_digit_and_the_cursor_stays_at_its_queue() {
    let mut app = app();
    let mut failing = queue("b", 5, 0);
    (failing.processed, failing.failed) = (10, 5);
    answer_queues(&mut app, vec![queue("a", 9, 0), failing, queue("c", 7, 0)]);
    assert_eq!(names(&app), ["a", "b", "c"]);
    press(&mut app, KeyCode::Down);
    type_text(&mut app, "3");
    assert_eq!(
        (names(&app), app.page().cursor),
        (["a", "c", "b"].map(str::to_owned).to_vec(), 2)
    );
    type_text(&mut app, "3");
    assert_eq!(names(&app), ["b", "c", "a"]);
    type_text(&mut app, "7");
    assert_eq!(names(&app), ["b", "a", "c"], "by the share of failures");
    type_text(&mut app, "o");
    assert_eq!(names(&app), ["a", "c", "b"]);
    // The next read keeps the order and the cursor.
    answer_queues(&mut app, vec![queue("a", 0, 0), queue("b", 0, 0), queue("c", 0, 0)]);
    assert_eq!(
        (names(&app), app.page().cursor),
        (["a", "b", "c"].map(str::to_owned).to_vec(), 1)
    );
}

#[test]
fn each_column_can_be_sorted_by() {
    let mut app = app();
    answer_queues(&mut app, vec![queue("a", 1, 3), queue("b", 2, 1)]);
    let mut orders = Vec::new();
    for _ in SortBy::ALL {
        let Content::Queues(queues) = &app.page().content else {
            panic!()
        };
        orders.push((queues.sort.by, names(&app)[0].clone()));
        type_text(&mut app, "s");
    }
    assert_eq!(orders.iter().map(|(by, _)| *by).collect::<Vec<_>>(), SortBy::ALL);
    let first = |by| orders.iter().find(|order| order.0 == by).unwrap().1.as_str();
    assert_eq!(first(SortBy::Tasks(TaskState::Pending)), "b");
    assert_eq!(first(SortBy::Tasks(TaskState::Retry)), "a");
}

#[test]
fn the_throughput_is_that_between_two_reads() {
    let mut app = app();
    let read = |app: &mut App, seconds, total| {
        let mut info = queue("a", 0, 0);
        (info.timestamp, info.processed_total) = (at(seconds), total);
        answer_queues(app, vec![info]);
    };
    for (seconds, total) in [(0, 100), (10, 150), (20, 150), (30, 10), (40, 30)] {
        read(&mut app, seconds, total);
    }
    let Content::Queues(queues) = &app.page().content else {
        panic!()
    };
    assert_eq!(queues.rates["a"].all(), [5.0, 0.0, 2.0], "cleared counters say nothing");
    answer_queues(&mut app, vec![]);
    let Content::Queues(queues) = &app.page().content else {
        panic!()
    };
    assert!(queues.rates.is_empty(), "a queue that has gone is forgotten");
}

#[tokio::test]
async fn marked_tasks_are_run_after_a_question() {
    let mut app = app();
    open_tasks(&mut app, 5, TaskState::Retry).await;
    type_text(&mut app, "   ");
    assert_eq!(app.page().cursor, 3);
    type_text(&mut app, "R");
    let question = confirm(&app);
    assert_eq!(question.title, "run 3 tasks");
    assert_eq!(
        question.lines,
        [
            "on prod (redis://127.0.0.1:6379/0)",
            "of queue default",
            "  id1",
            "  id2",
            "  id3"
        ]
    );
    type_text(&mut app, "smtp is back");
    press(&mut app, KeyCode::Enter);
    press(&mut app, KeyCode::Enter);
    assert_eq!(confirm(&app).fault.as_deref(), Some("type y to confirm, or Esc"));
    type_text(&mut app, "y");
    let requests = press(&mut app, KeyCode::Enter);
    let seen = Seen {
        state: TaskState::Retry,
        since: Some(at(-60)),
    };
    let deed = Deed::Tasks {
        verb: Verb::Run,
        tasks: ["id1", "id2", "id3"].map(|id| (key(id), seen)).to_vec(),
    };
    let reason = "smtp is back".to_owned();
    assert_eq!(requests, [Request::Fetch(Fetch::Act { deed, reason })]);

    // Another act waits for this one.
    type_text(&mut app, "R");
    assert!(app.overlay.is_none());
    assert_eq!(notice(&app), "run 3 tasks: still under way");
    let acted = Acted {
        text: "2 tasks made pending, 1 not: task id3: gone".to_owned(),
        failed: true,
        done: vec![key("id1"), key("id2")],
        gone: Gone::Nothing,
    };
    let requests = app.update(Event::Acted(acted), at(1));
    assert!(look(&requests).is_some(), "what it changed is read at once");
    let Content::Tasks(page) = &app.page().content else {
        panic!()
    };
    assert_eq!(
        page.marks.keys().collect::<Vec<_>>(),
        [&key("id3")],
        "what failed stays marked"
    );
}

#[tokio::test]
async fn a_question_tells_of_marks_that_are_not_on_the_page() {
    let mut app = app();
    open_tasks(&mut app, 3, TaskState::Retry).await;
    type_text(&mut app, "a");
    answer_tasks(&mut app, tasks(2, TaskState::Retry).await);
    type_text(&mut app, "R");
    assert!(
        confirm(&app)
            .lines
            .contains(&"1 marked task is not on this page".to_owned())
    );
}

#[tokio::test]
async fn a_question_that_does_not_fit_can_only_be_cancelled() {
    let mut app = app();
    open_tasks(&mut app, 1, TaskState::Retry).await;
    type_text(&mut app, "R");
    for size in [(40, 8), (20, 5), (19, 40)] {
        app.size = size;
        press(&mut app, KeyCode::Enter);
        assert_eq!(type_text(&mut app, "y"), []);
        assert_eq!(press(&mut app, KeyCode::Enter), []);
        assert!(!confirm(&app).at_answer && confirm(&app).reason.text().is_empty());
    }
    app.size = (40, 12);
    press(&mut app, KeyCode::Enter);
    type_text(&mut app, "y");
    assert_eq!(press(&mut app, KeyCode::Enter).len(), 1);
}

#[test]
fn a_name_that_cannot_be_typed_is_typed_as_it_is_shown() {
    let mut app = app();
    answer_queues(&mut app, vec![queue("a\u{1b}b", 2, 1)]);
    type_text(&mut app, "D");
    press(&mut app, KeyCode::Enter);
    type_text(&mut app, "a\\u{1b}b");
    assert_eq!(press(&mut app, KeyCode::Enter).len(), 1);
}

#[tokio::test]
async fn esc_changes_nothing() {
    let mut app = app();
    open_tasks(&mut app, 1, TaskState::Retry).await;
    type_text(&mut app, "D");
    assert_eq!(confirm(&app).title, "delete 1 task");
    assert!(confirm(&app).lines.contains(&"This cannot be undone.".to_owned()));
    press(&mut app, KeyCode::Enter);
    type_text(&mut app, "y");
    assert_eq!(press(&mut app, KeyCode::Esc), []);
    assert!(app.overlay.is_none() && app.acting.is_none());
}

#[tokio::test]
async fn a_reason_is_asked_for_where_it_is_required() {
    let mut app = app();
    app.place.hands.require_reason = true;
    open_tasks(&mut app, 1, TaskState::Retry).await;
    type_text(&mut app, "A");
    press(&mut app, KeyCode::Tab);
    type_text(&mut app, "y");
    assert_eq!(press(&mut app, KeyCode::Enter), []);
    assert_eq!(confirm(&app).fault.as_deref(), Some("a reason is required here"));
    type_text(&mut app, "why");
    press(&mut app, KeyCode::Enter);
    assert_eq!(press(&mut app, KeyCode::Enter).len(), 1);
}

#[tokio::test]
async fn nothing_changes_where_nothing_may() {
    let read_only: fn(&mut App) = |app| app.place.hands.read_only = true;
    let protected: fn(&mut App) = |app| app.place.hands.protected = Some("prod".to_owned());
    for (forbid, text) in [
        (read_only, "this is read-only"),
        (protected, "context \"prod\" is protected"),
    ] {
        let mut app = app();
        forbid(&mut app);
        answer_queues(&mut app, vec![queue("default", 1, 1)]);
        for keys in ["P", "D"] {
            type_text(&mut app, keys);
            assert!(
                app.overlay.is_none() && notice(&app).starts_with(text),
                "{keys}: {}",
                notice(&app)
            );
            app.notice = None;
        }
        open_tasks(&mut app, 2, TaskState::Retry).await;
        for keys in ["R", "A", "D", "C"] {
            type_text(&mut app, keys);
            assert!(
                app.overlay.is_none() && notice(&app).starts_with(text),
                "{keys}: {}",
                notice(&app)
            );
            app.notice = None;
        }
    }
}

#[tokio::test]
async fn an_impossible_act_is_refused_before_a_question() {
    for (state, keys, text) in [
        (TaskState::Archived, "A", "task id1 is archived: it cannot be archived"),
        (TaskState::Pending, "R", "task id1 is pending: it cannot be run"),
        (
            TaskState::Active,
            "D",
            "task id1 is active: it cannot be deleted; C cancels it",
        ),
        (
            TaskState::Retry,
            "C",
            "task id1 is retry, and only active tasks can be cancelled",
        ),
    ] {
        let mut app = app();
        open_tasks(&mut app, 1, state).await;
        type_text(&mut app, keys);
        assert_eq!((notice(&app), app.overlay.is_none()), (text, true));
    }
    let mut app = app();
    open_tasks(&mut app, 1, TaskState::Active).await;
    type_text(&mut app, "C");
    assert_eq!(confirm(&app).title, "cancel 1 task");
}

#[test]
fn a_queue_is_deleted_by_its_name() {
    let mut app = app();
    answer_queues(&mut app, vec![queue("mail", 2, 1)]);
    type_text(&mut app, "D");
    assert_eq!(confirm(&app).title, "delete queue mail");
    assert!(confirm(&app).lines.contains(&"with its 3 tasks".to_owned()));
    press(&mut app, KeyCode::Enter);
    type_text(&mut app, "y");
    assert_eq!(press(&mut app, KeyCode::Enter), []);
    control(&mut app, 'u');
    type_text(&mut app, "mail");
    let requests = press(&mut app, KeyCode::Enter);
    let deed = Deed::DeleteQueue {
        queue: "mail".to_owned(),
        force: true,
    };
    let reason = String::new();
    assert_eq!(requests, [Request::Fetch(Fetch::Act { deed, reason })]);
}

#[tokio::test]
async fn more_than_a_thousand_tasks_need_the_name_of_the_queue() {
    let mut app = app();
    open_tasks(&mut app, 1001, TaskState::Retry).await;
    type_text(&mut app, "aR");
    assert_eq!(
        (confirm(&app).title.as_str(), confirm(&app).expected.as_str()),
        ("run 1001 tasks", "default")
    );
}

#[test]
fn a_queue_is_paused_and_resumed() {
    let mut app = app();
    answer_queues(&mut app, vec![queue("mail", 0, 0)]);
    type_text(&mut app, "P");
    assert_eq!(confirm(&app).title, "pause queue mail");
    press(&mut app, KeyCode::Esc);
    let mut paused = queue("mail", 0, 0);
    paused.paused = true;
    answer_queues(&mut app, vec![paused]);
    type_text(&mut app, "P");
    assert_eq!(confirm(&app).title, "resume queue mail");
}

#[tokio::test]
async fn a_query_filters_and_esc_ends_the_filter() {
    let mut app = app();
    open_tasks(&mut app, 3, TaskState::Retry).await;
    type_text(&mut app, "/  type=x and colour=red");
    assert_eq!(press(&mut app, KeyCode::Enter), []);
    let Some(Overlay::Filter {
        fault: Some((place, _)),
        input,
    }) = &app.overlay
    else {
        panic!()
    };
    assert!(input.text()[*place..].starts_with("colour"), "{place}");
    control(&mut app, 'u');
    type_text(&mut app, "payload.user_id=2");
    let requests = press(&mut app, KeyCode::Enter);
    let Some(Look::Tasks { scope, size, .. }) = look(&requests) else {
        panic!()
    };
    let query = scope.query().unwrap();
    assert_eq!(
        (query.as_str(), *size),
        ("queue=\"default\" state=retry (payload.user_id=2)", 16)
    );
    let requests = press(&mut app, KeyCode::Esc);
    let Some(Look::Tasks { scope, .. }) = look(&requests) else {
        panic!()
    };
    assert_eq!((scope.filter.as_ref(), scope.state), (None, Some(TaskState::Retry)));
}

#[tokio::test]
async fn a_search_goes_on_where_it_ended_and_back() {
    use asynq::inspect::Cursor;
    let mut app = app();
    answer_queues(&mut app, vec![]);
    type_text(&mut app, "/state=retry");
    press(&mut app, KeyCode::Enter);
    let tasks = tasks(1, TaskState::Retry).await;
    let more = Some(Cursor(Some("here".to_owned())));
    let list = |next| List::Tasks {
        tasks: tasks.clone(),
        next,
        looked_at: 10,
        undecided: 0,
    };
    answer(
        &mut app,
        Data::Tasks {
            queue: None,
            list: list(more.clone()),
        },
    );
    let from = |requests: &[Request]| match look(requests) {
        Some(Look::Tasks { from, .. }) => from.clone(),
        _ => panic!("no search"),
    };
    assert_eq!(Some(from(&type_text(&mut app, "n"))), more);
    answer(
        &mut app,
        Data::Tasks {
            queue: None,
            list: list(None),
        },
    );
    assert_eq!(type_text(&mut app, "n"), [], "the search is complete");
    assert_eq!(from(&type_text(&mut app, "p")), Cursor::default());
}

#[tokio::test]
async fn lists_have_pages() {
    let mut app = app();
    open_tasks(&mut app, 16, TaskState::Pending).await;
    let mut info = queue("default", 20, 0);
    info.timestamp = at(1);
    let list = List::Tasks {
        tasks: tasks(16, TaskState::Pending).await,
        next: None,
        looked_at: 0,
        undecided: 0,
    };
    answer(
        &mut app,
        Data::Tasks {
            queue: Some(Box::new(info)),
            list,
        },
    );
    let page = |requests: &[Request]| match look(requests) {
        Some(Look::Tasks { page, .. }) => Some(*page),
        _ => None,
    };
    assert_eq!(page(&type_text(&mut app, "p")), None);
    assert_eq!(page(&type_text(&mut app, "n")), Some(2));
    assert_eq!(page(&type_text(&mut app, "n")), None);
    assert_eq!(page(&type_text(&mut app, "p")), Some(1));
}

#[tokio::test]
async fn states_wrap_and_marks_go_with_their_list() {
    let mut app = app();
    open_tasks(&mut app, 2, TaskState::Active).await;
    type_text(&mut app, " ");
    let state = |requests: &[Request]| match look(requests) {
        Some(Look::Tasks { scope, .. }) => scope.state,
        _ => None,
    };
    assert_eq!(state(&press(&mut app, KeyCode::Left)), Some(TaskState::Completed));
    assert_eq!(state(&type_text(&mut app, "l")), Some(TaskState::Active));
    let Content::Tasks(page) = &app.page().content else {
        panic!()
    };
    assert!(page.marks.is_empty());
}

#[tokio::test]
async fn enter_and_esc_walk_to_a_task_and_back() {
    let mut app = app();
    open_tasks(&mut app, 3, TaskState::Retry).await;
    press(&mut app, KeyCode::Down);
    assert_eq!(look(&press(&mut app, KeyCode::Enter)), Some(&Look::Task(key("id2"))));
    assert_eq!(app.titles(), ["queues", "default", "task id2 in default"]);
    press(&mut app, KeyCode::Esc);
    press(&mut app, KeyCode::Esc);
    assert_eq!(press(&mut app, KeyCode::Esc), [], "the first page stays");
    assert_eq!(app.titles(), ["queues"]);
}

fn connect(number: u64, context: &str) -> Request {
    Request::Fetch(Fetch::Connect {
        number,
        context: context.to_owned(),
    })
}

fn connected(number: u64, answer: Result<Place, String>) -> Event {
    Event::Connected { number, answer }
}

fn named(name: &str) -> Place {
    Place {
        name: name.to_owned(),
        ..place()
    }
}

#[test]
fn the_last_context_asked_for_wins() {
    let mut app = app();
    type_text(&mut app, ":context staging");
    press(&mut app, KeyCode::Enter);
    type_text(&mut app, ":context prod");
    assert_eq!(press(&mut app, KeyCode::Enter), [connect(2, "prod")]);
    assert_eq!(app.update(connected(1, Ok(named("staging"))), at(1)), []);
    assert_eq!(app.update(connected(1, Err("refused".to_owned())), at(1)), []);
    assert_eq!(app.connecting.as_deref(), Some("prod"));
    app.update(connected(2, Ok(named("prod 2"))), at(2));
    assert_eq!((app.place.name.as_str(), &app.connecting), ("prod 2", &None));
}

#[test]
fn a_switch_waits_until_nothing_is_typed() {
    let mut app = app();
    answer_queues(&mut app, vec![queue("mail", 1, 1)]);
    type_text(&mut app, ":context staging");
    press(&mut app, KeyCode::Enter);
    type_text(&mut app, "/q");
    assert_eq!(app.update(connected(1, Ok(named("staging"))), at(1)), []);
    assert_eq!(type_text(&mut app, "qPq"), [], "letters of the query, and no commands");
    assert!(app.place.name.starts_with("prod"));
    let requests = press(&mut app, KeyCode::Esc);
    assert_eq!(requests[0], Request::Fetch(Fetch::Switch(1)));
    assert_eq!(app.place.name, "staging");
}

#[tokio::test]
async fn findings_of_the_former_context_are_ignored() {
    let mut app = app();
    type_text(&mut app, ":context staging");
    press(&mut app, KeyCode::Enter);
    app.update(connected(1, Ok(named("staging"))), at(1));
    app.update(findings_read(findings().await), at(2));
    assert!(app.findings.is_none());
}

#[test]
fn the_context_stays_while_an_act_is_under_way() {
    let mut app = app();
    app.acting = Some("run 3 tasks".to_owned());
    type_text(&mut app, ":context staging");
    assert_eq!(press(&mut app, KeyCode::Enter), []);
    assert_eq!(
        (notice(&app), app.connecting.is_none()),
        ("run 3 tasks: still under way, the context stays", true)
    );
}

#[test]
fn a_signal_ends_the_program_with_its_act() {
    let mut app = app();
    assert_eq!(app.update(Event::Signalled, at(0)), [Request::Quit]);
    app.acting = Some("delete queue mail".to_owned());
    assert_eq!(app.update(Event::Signalled, at(0)), []);
    assert!(notice(&app).starts_with("delete queue mail: still under way, the program ends with it"));
    assert_eq!(
        app.update(Event::Signalled, at(1)),
        [Request::Quit],
        "the second one leaves"
    );
    let acted = Acted {
        text: "deleted".to_owned(),
        failed: false,
        done: vec![],
        gone: Gone::Nothing,
    };
    assert_eq!(app.update(Event::Acted(acted), at(2)), [Request::Quit]);
}

#[test]
fn contexts_are_switched_by_name() {
    let mut app = app();
    answer_queues(&mut app, vec![queue("old", 1, 1)]);
    type_text(&mut app, ":context nowhere");
    assert_eq!(press(&mut app, KeyCode::Enter), []);
    let Some(Overlay::Command { fault: Some(fault), .. }) = &app.overlay else {
        panic!()
    };
    assert_eq!(fault, "contexts are: prod, staging");
    control(&mut app, 'u');
    type_text(&mut app, "context st");
    press(&mut app, KeyCode::Tab);
    let requests = press(&mut app, KeyCode::Enter);
    assert_eq!(requests, [connect(1, "staging")]);
    // A question about the former Redis is not answered for the next one.
    type_text(&mut app, "P");
    assert_eq!((app.overlay.is_none(), notice(&app)), (true, "connecting to staging"));
    let old = app.turn();
    let place = Place {
        name: "staging".to_owned(),
        ..place()
    };
    let requests = app.update(connected(1, Ok(place)), at(2));
    assert_eq!(requests[0], Request::Fetch(Fetch::Switch(1)));
    assert_eq!(
        (look(&requests), app.place.name.as_str()),
        (Some(&Look::Queues), "staging")
    );
    let answer = Ok(Data::Queues {
        queues: vec![queue("old", 1, 1)],
        unread: vec![],
        left_out: 0,
    });
    app.update(Event::Looked { turn: old, answer }, at(2));
    assert!(names(&app).is_empty(), "an answer of the former Redis is ignored");

    type_text(&mut app, ":context prod");
    press(&mut app, KeyCode::Enter);
    app.update(connected(2, Err("cannot connect".to_owned())), at(3));
    assert_eq!((app.place.name.as_str(), notice(&app)), ("staging", "cannot connect"));
}

#[test]
fn unknown_commands_name_the_known_ones() {
    let mut app = app();
    type_text(&mut app, ":quees");
    press(&mut app, KeyCode::Enter);
    let Some(Overlay::Command { fault: Some(fault), .. }) = &app.overlay else {
        panic!()
    };
    assert!(fault.contains("queues, servers, tree"), "{fault}");
    press(&mut app, KeyCode::Esc);
    type_text(&mut app, ":q");
    assert_eq!(press(&mut app, KeyCode::Enter), [Request::Quit]);
}

#[test]
fn q_and_ctrl_c_quit_and_an_act_under_way_is_not_left_at_once() {
    let mut app = app();
    assert_eq!(type_text(&mut app, "q"), [Request::Quit]);
    type_text(&mut app, "/");
    assert_eq!(type_text(&mut app, "q"), [], "a letter of a query");
    assert_eq!(control(&mut app, 'c'), [Request::Quit]);
    app.overlay = None;
    app.acting = Some("run 3 tasks".to_owned());
    assert_eq!(type_text(&mut app, "q"), []);
    assert!(notice(&app).contains("still under way"));
    assert_eq!(type_text(&mut app, "q"), [Request::Quit]);
}

#[test]
fn ctrl_l_draws_and_reads_anew() {
    let mut app = app();
    let requests = control(&mut app, 'l');
    assert_eq!((&requests[0], look(&requests)), (&Request::Redraw, Some(&Look::Queues)));
}

#[test]
fn esc_may_be_followed_at_once() {
    let mut app = app();
    type_text(&mut app, "?");
    let key = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::ALT);
    assert_eq!(app.update(Event::Key(key), at(1)), [Request::Quit]);
    assert!(app.overlay.is_none());
}

#[tokio::test]
async fn the_page_of_a_deleted_task_is_left() {
    let mut app = app();
    open_tasks(&mut app, 2, TaskState::Retry).await;
    press(&mut app, KeyCode::Enter);
    let mut acted = Acted {
        text: "1 task archived".to_owned(),
        failed: false,
        done: vec![key("id1")],
        gone: Gone::Nothing,
    };
    app.update(Event::Acted(acted.clone()), at(1));
    assert_eq!(app.titles().len(), 3);
    acted.gone = Gone::Tasks;
    app.update(Event::Acted(acted.clone()), at(1));
    assert_eq!(app.titles(), ["queues", "default"]);
    acted.gone = Gone::Queue("default".to_owned());
    app.update(Event::Acted(acted), at(1));
    assert_eq!(app.titles(), ["queues"]);
}

#[tokio::test]
async fn pasted_text_goes_where_text_is_typed() {
    let mut app = app();
    answer_queues(&mut app, vec![]);
    app.update(Event::Pasted("qqq".to_owned()), at(0));
    type_text(&mut app, "/state==x");
    press(&mut app, KeyCode::Enter);
    app.update(Event::Pasted(" a\nb".to_owned()), at(0));
    let Some(Overlay::Filter { input, fault }) = &app.overlay else {
        panic!()
    };
    assert_eq!((input.text(), fault), ("state==x ab", &None));
}
