//! Values for the tests of the dashboard.

use std::time::Duration;

use asynq::{
    Client, Inspector, Task, TaskInfo, TaskState, findings::Findings, info::QueueInfo, memory::MemoryStore,
    names::QueueName,
};
use chrono::TimeDelta;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    app::App,
    model::{Data, Event, Fetch, List, Look, Place, Request, Time, Trouble},
};
use crate::hands::Hands;

pub(crate) fn at(seconds: i64) -> Time {
    Time::from_timestamp(1_780_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
}

pub(crate) fn queue(name: &str, pending: u64, retry: u64) -> QueueInfo {
    let mut queue = QueueInfo::empty(QueueName::new(name).unwrap(), at(0));
    (queue.pending, queue.retry) = (pending, retry);
    queue
}

/// Tasks `id1` and so on of the queue `default`, shown in a state.
pub(crate) async fn tasks(count: usize, state: TaskState) -> Vec<TaskInfo> {
    let client = Client::new(MemoryStore::new()).await.unwrap();
    let mut tasks = Vec::new();
    for number in 1..=count {
        let payload = format!(r#"{{"user_id":{number}}}"#);
        let task = Task::new("email:send", payload.as_bytes())
            .unwrap()
            .with_task_id(format!("id{number}"));
        let mut task = client.enqueue(task).await.unwrap();
        task.state = state;
        (task.state_since, task.next_process_at) = (Some(at(-60)), Some(at(180)));
        task.last_error = "smtp: timeout".to_owned();
        tasks.push(task);
    }
    tasks
}

pub(crate) fn place() -> Place {
    Place {
        name: "prod (redis://127.0.0.1:6379/0)".to_owned(),
        hands: Hands {
            actor: "ann".to_owned(),
            ..Hands::default()
        },
        ..Place::default()
    }
}

/// The dashboard as it starts, after its first requests.
pub(crate) fn app() -> App {
    let mut app = App::new(
        place(),
        vec!["prod".to_owned(), "staging".to_owned()],
        Duration::from_secs(8),
        at(0),
    );
    app.update(Event::Resized(80, 24), at(0));
    app
}

pub(crate) fn press(app: &mut App, code: KeyCode) -> Vec<Request> {
    let now = app.now;
    app.update(Event::Key(code.into()), now)
}

/// Presses the keys of a text one after the other, and returns the requests of the last one.
pub(crate) fn type_text(app: &mut App, text: &str) -> Vec<Request> {
    text.chars()
        .map(|char| press(app, KeyCode::Char(char)))
        .last()
        .unwrap_or_default()
}

pub(crate) fn control(app: &mut App, char: char) -> Vec<Request> {
    let now = app.now;
    app.update(
        Event::Key(KeyEvent::new(KeyCode::Char(char), KeyModifiers::CONTROL)),
        now,
    )
}

/// Answers the last read.
pub(crate) fn answer(app: &mut App, data: Data) {
    let (turn, now) = (app.turn(), app.now);
    app.update(Event::Looked { turn, answer: Ok(data) }, now);
}

pub(crate) fn outage(app: &mut App) {
    let (turn, now) = (app.turn(), app.now);
    let answer = Err(Trouble {
        text: "connection refused".to_owned(),
        is_outage: true,
    });
    app.update(Event::Looked { turn, answer }, now);
}

pub(crate) fn answer_queues(app: &mut App, queues: Vec<QueueInfo>) {
    answer(
        app,
        Data::Queues {
            queues,
            unread: Vec::new(),
            left_out: 0,
        },
    );
}

/// Opens the queue `default` at a state with some tasks.
pub(crate) async fn open_tasks(app: &mut App, count: usize, state: TaskState) {
    answer_queues(app, vec![queue("default", 7, count as u64)]);
    press(app, KeyCode::Enter);
    let wanted = TaskState::ALL.iter().position(|other| *other == state).unwrap();
    for _ in 0..wanted {
        press(app, KeyCode::Right);
    }
    answer_tasks(app, tasks(count, state).await);
}

pub(crate) fn answer_tasks(app: &mut App, tasks: Vec<TaskInfo>) {
    let queue = Some(Box::new(queue("default", 7, tasks.len() as u64)));
    let list = List::Tasks {
        tasks,
        next: None,
        looked_at: 0,
        undecided: 0,
    };
    answer(app, Data::Tasks { queue, list });
}

/// Returns the read among some requests.
pub(crate) fn look(requests: &[Request]) -> Option<&Look> {
    requests.iter().find_map(|request| match request {
        Request::Fetch(Fetch::Look { look, .. }) => Some(look),
        _ => None,
    })
}

/// The answer of a read of findings, before any switch to another context.
pub(crate) fn findings_read(findings: Findings) -> Event {
    Event::FindingsRead {
        switch: 0,
        answer: Ok(findings),
    }
}

/// The findings of a queue that no server takes from.
pub(crate) async fn findings() -> Findings {
    let storage = MemoryStore::new();
    let client = Client::new(storage.clone()).await.unwrap();
    client.enqueue(Task::new("email:send", b"42").unwrap()).await.unwrap();
    let inspector = Inspector::connect(storage).await.unwrap();
    let options = asynq::findings::FindingsOptions::new().unserved_after(Duration::ZERO);
    inspector.findings_with(&options).await.unwrap()
}
