//! `asynq dash`, in a terminal.

use std::time::Duration;

use asynq::{AsynqSystem, Crash, ServerConfig, Task, TaskState, inspect::Cursor, redis::RedisConnectionType};
use asynq_testing::{RedisServer, request::request};

use crate::{
    support::{Fixture, eventually},
    terminal::Terminal,
};

const ENTER: &str = "\r";
const ESC: &str = "\u{1b}";

fn open(fixture: &Fixture, words: &[&str]) -> Terminal {
    let words: Vec<&str> = ["dash", "--refresh", "1s"].iter().chain(words).copied().collect();
    Terminal::open(fixture, &words, 100, 30)
}

/// Returns the line of the screen that contains a text.
fn line<'s>(screen: &'s str, text: &str) -> Option<&'s str> {
    screen.lines().find(|line| line.contains(text))
}

/// Presses Esc, and waits for what it shows again.
fn escape(terminal: &mut Terminal, until: &str) {
    terminal.press(ESC);
    terminal.wait_for(until);
}

/// Four tasks of the queue `mail` that wait for a retry, and seven pending ones of the queue `low`.
async fn mail() -> Fixture {
    let fixture = Fixture::start().await;
    for number in 1..=4 {
        let task = request("mail", &format!("m{number}"))
            .task_type("email:send")
            .payload(format!(r#"{{"user_id":{number}}}"#));
        fixture.put(task, TaskState::Retry).await;
    }
    fixture.enqueue_many("low", "l", 7).await;
    fixture
}

#[tokio::test]
async fn a_walk_through_queues_and_tasks() {
    let fixture = mail().await;
    let inspector = fixture.inspector();
    let mut terminal = open(&fixture, &["--actor", "ann"]);
    let screen = terminal.wait_for("mail");
    assert!(screen.starts_with("asynq redis://127.0.0.1:"), "{screen}");
    let order = |first: &'static str, second: &'static str| {
        move |screen: &str| match (screen.find(first), screen.find(second)) {
            (Some(first), Some(second)) => first < second,
            _ => false,
        }
    };
    terminal.wait("sorted by name", order(" low ", " mail "));
    // By size: seven before four, then the other way round.
    terminal.press("3");
    terminal.wait_for("Size v");
    terminal.press("3");
    let screen = terminal.wait("sorted by size", order(" mail ", " low "));
    assert!(screen.contains("Size ^"), "{screen}");

    // The cursor has stayed at `low`.
    assert!(line(&screen, " low ").unwrap().starts_with("> "), "{screen}");
    terminal.press("k\r");
    terminal.wait_for("queues > mail");
    terminal.press("llll");
    terminal.wait_for("[retry:4]");
    let screen = terminal.wait_for("showing 1-4 of 4");
    let row = line(&screen, "m1").unwrap();
    for text in ["> ", "email:send", " in ", "boom", "{\"user_id\":1}"] {
        assert!(row.contains(text), "{text}: {row}");
    }

    terminal.press("/payload.user_id=3 oops=1\r");
    let screen = terminal.wait_for("query, character 19: expected");
    let caret = line(&screen, "^").unwrap();
    assert_eq!(caret.trim_end().len(), "/payload.user_id=3 o".len(), "{screen}");
    terminal.press("\u{15}payload.user_id=3\r");
    let screen = terminal.wait_for("page 1: 1 task, looked at 4");
    assert!(
        line(&screen, "m3").is_some() && line(&screen, "m2").is_none(),
        "{screen}"
    );
    terminal.press(ENTER);
    let screen = terminal.wait_for("Payload (JSON, 13 B)");
    for text in ["  \"user_id\": 3", "Last error:   boom", "Retried:      1 of", "Runs ("] {
        assert!(screen.contains(text), "{text}: {screen}");
    }
    terminal.press("r");
    terminal.wait_for("{\"user_id\":3}");
    escape(&mut terminal, "filter: payload.user_id=3");
    escape(&mut terminal, "showing 1-4 of 4");

    terminal.press("   ");
    let screen = terminal.wait_for("3 marked");
    assert!(
        line(&screen, "*m1").is_some() && line(&screen, "*m4").is_none(),
        "{screen}"
    );
    terminal.press("R");
    let screen = terminal.wait_for("run 3 tasks?");
    assert!(line(&screen, "on redis://127.0.0.1:").is_some(), "{screen}");
    terminal.press("smtp is back\ry\r");
    terminal.wait_for("3 tasks made pending");
    terminal.wait_for("[retry:1]");
    let info = inspector.get_queue_stats("mail").await.unwrap();
    assert_eq!((info.pending, info.retry), (3, 1));
    let trail = inspector.audit_trail(Cursor::default(), 10).await.unwrap().items;
    let actor = trail[0].actor.as_ref().unwrap();
    assert_eq!(
        (
            trail.len(),
            trail[0].act.as_str(),
            actor.name.as_str(),
            actor.reason.as_str()
        ),
        (3, "run_task", "ann", "smtp is back")
    );

    escape(&mut terminal, "Throughput");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    terminal.wait_restored();
}

#[tokio::test]
async fn a_queue_is_paused_and_one_is_deleted_by_its_name() {
    let fixture = mail().await;
    let inspector = fixture.inspector();
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" mail ");
    terminal.press("GP");
    terminal.wait_for("pause queue mail?");
    terminal.press("\ry\r");
    let screen = terminal.wait_for("PAUSED");
    assert!(line(&screen, "PAUSED").unwrap().contains(" mail "), "{screen}");
    assert!(inspector.get_queue_stats("mail").await.unwrap().paused);

    terminal.press("gD");
    terminal.wait_for("with its 7 tasks");
    terminal.press("\ry\r");
    terminal.wait_for("type low to confirm, or Esc");
    terminal.press("\u{15}low\r");
    terminal.wait_for("deleted queue \"low\"");
    let names = inspector.queues().await.unwrap();
    assert_eq!(names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["mail"]);
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    terminal.wait_restored();
}

/// On several threads, as the waits for the screen block the one of the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_shows_in_the_tree() {
    let fixture = Fixture::start().await;
    let often = Duration::from_millis(100);
    let config = ServerConfig::new()
        .heartbeat_interval(often)
        .delayed_task_check_interval(often);
    let system = AsynqSystem::builder(RedisConnectionType::single(fixture.redis.url()).unwrap())
        .config(config)
        .handler(async |_: Task| Ok(()))
        .spawn()
        .await
        .unwrap();
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for("asynq redis://");
    terminal.press(":tree\r");
    let restarts = |screen: &str| -> Option<(String, u64)> {
        let mut words = line(screen, " forwarder ")?.split_whitespace();
        words.next();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    terminal.wait("the forwarder", |screen| {
        restarts(screen) == Some(("running".to_owned(), 0))
    });
    assert!(system.crash_actor("maintenance/forwarder", Crash::Panic));
    let screen = terminal.wait("the restart", |screen| {
        restarts(screen).is_some_and(|(state, count)| state == "running" && count >= 1)
    });
    assert!(line(&screen, " forwarder ").unwrap().contains("crashed"), "{screen}");
    terminal.press("jjjjj");
    terminal.wait_for("last failure: crashed on request");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    system.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_show_what_runs_and_a_run_is_cancelled() {
    let fixture = Fixture::start().await;
    let config = ServerConfig::new().heartbeat_interval(Duration::from_millis(100));
    let system = AsynqSystem::builder(RedisConnectionType::single(fixture.redis.url()).unwrap())
        .config(config)
        .handler(|_: Task| std::future::pending())
        .spawn()
        .await
        .unwrap();
    fixture.enqueue(request("default", "endless").task_type("export")).await;
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" default ");
    terminal.press(":servers\r");
    let screen = terminal.wait("the run", |screen| {
        line(screen, " endless ").is_some_and(|row| row.contains(" export ") && row.contains(" in "))
    });
    assert!(screen.contains(" active "), "{screen}");
    terminal.press("C");
    let screen = terminal.wait_for("there is no task under the cursor");
    assert!(!screen.contains("Confirm"), "a server is no task: {screen}");
    terminal.press("jC");
    terminal.wait_for("cancel 1 task?");
    terminal.press("too long\ry\r");
    terminal.wait_for("asked to cancel 1 task");
    let inspector = fixture.inspector();
    eventually("the task is retried", async || {
        let task = inspector.get_task_info("default", "endless").await.unwrap();
        task.state == TaskState::Retry && task.last_error == "context canceled"
    })
    .await;
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    system.shutdown().await;
}

#[tokio::test]
async fn every_state_and_page_is_shown() {
    let fixture = Fixture::filled().await;
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" a:b{c}/ü ");
    terminal.press(ENTER);
    terminal.wait_for("queues > a:b{c}/ü");
    terminal.press("l");
    terminal.wait_for(">  id/with blank ü");
    terminal.press(ENTER);
    terminal.wait_for("ID:           id/with blank ü");
    escape(&mut terminal, "showing 1-1 of 1");
    escape(&mut terminal, "> a:b{c}/ü");

    terminal.press("j\r");
    for (state, texts) in [
        ("active", ["active ", "email:send"]),
        ("pending", ["pending ", "email:send"]),
        ("aggregating", ["g ", " 1 "]),
        ("scheduled", ["scheduled ", " in "]),
        ("retry", ["retry ", "boom"]),
        ("archived", ["archived ", "boom"]),
        ("completed", ["completed ", "{\"ok\":true}"]),
    ] {
        let screen = terminal.wait(state, |screen| {
            screen.contains(&format!("[{state}:")) && !screen.contains("Reading.")
        });
        let row = screen.lines().find(|line| line.starts_with("> ")).unwrap();
        assert!(texts.iter().all(|text| row.contains(text)), "{state}: {row}");
        terminal.press("l");
    }
    terminal.wait_for("[active:1]");
    terminal.press("ll");
    terminal.wait_for("2 groups");
    terminal.press(ENTER);
    terminal.wait_for("> default, group g");
    terminal.wait_for("aggregating  email:send");

    for (page, text) in [
        ("findings", "> findings"),
        ("redis", "Eviction                    noeviction"),
        ("schedulers", "No entries."),
        ("tree", "No trees."),
        ("servers", "No running servers."),
        ("queues", "PAUSED"),
    ] {
        terminal.press(&format!(":{page}\r"));
        terminal.wait_for(text);
    }
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[tokio::test]
async fn an_outage_freezes_no_key_and_ends_by_itself() {
    let redis = RedisServer::builder().persistent().start().await;
    let fixture = Fixture::on(redis).await;
    fixture.enqueue_many("mail", "m", 2).await;
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" mail ");
    fixture.redis.kill();
    let screen = terminal.wait_for("no answer for ");
    let outage = line(&screen, "no answer for ").unwrap();
    assert!(
        outage.contains("last data from ") && outage.contains("trying again"),
        "{outage}"
    );
    assert!(screen.contains(" mail "), "the last data stay: {screen}");
    // All without an answer of Redis.
    terminal.press("?");
    terminal.wait_for("Help: j k scroll, Esc closes");
    escape(&mut terminal, "Throughput");
    terminal.press(":servers\r");
    terminal.wait_for("no data yet");
    escape(&mut terminal, "last data from ");
    fixture.redis.restart().await;
    terminal.wait("an end of the outage", |screen| {
        !screen.contains("no answer") && screen.contains(" mail ")
    });

    // One that does not answer, and does not close its connections.
    fixture.redis.pause();
    terminal.wait_for("no answer for ");
    terminal.press("3");
    terminal.wait_for("Size v");
    fixture.redis.resume();
    terminal.wait("an end of the silence", |screen| !screen.contains("no answer"));
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    terminal.wait_restored();
}

#[tokio::test]
async fn a_dead_redis_does_not_hold_the_program() {
    let fixture = mail().await;
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" mail ");
    fixture.redis.kill();
    terminal.wait_for("no answer for ");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    terminal.wait_restored();
}

#[tokio::test]
async fn signals_and_ctrl_c_restore_the_terminal() {
    let fixture = mail().await;
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" mail ");
    terminal.terminate();
    assert_eq!(terminal.end(), 0);
    terminal.wait_restored();

    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" mail ");
    terminal.press("\u{3}");
    assert_eq!(terminal.end(), 0);
    terminal.wait_restored();
}

#[tokio::test]
async fn ctrl_l_draws_a_screen_anew() {
    let fixture = mail().await;
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" mail ");
    terminal.scribble();
    terminal.press("\u{c}");
    terminal.wait("the screen", |screen| {
        screen.contains(" mail ") && !screen.contains("scribbled")
    });
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[tokio::test]
async fn a_stop_gives_the_terminal_back_for_a_time() {
    let fixture = mail().await;
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" mail ");
    terminal.signal("-TSTP");
    terminal.wait_stopped();
    terminal.wait_restored();
    terminal.signal("-CONT");
    terminal.wait_for(" mail ");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    terminal.wait_restored();
}

#[tokio::test]
async fn a_closed_window_ends_the_program() {
    let fixture = mail().await;
    let terminal = open(&fixture, &[]);
    terminal.wait_for(" mail ");
    let status = terminal.close("?");
    assert!(status.success(), "{status:?}");
}

#[tokio::test]
async fn read_only_refuses_every_act() {
    let fixture = mail().await;
    let mut terminal = open(&fixture, &["--read-only"]);
    terminal.wait_for(" mail ");
    for key in ["P", "D"] {
        terminal.press(key);
        let screen = terminal.wait_for("! this is read-only, nothing was changed");
        assert!(
            screen.contains("[read-only]") && !screen.contains("Confirm"),
            "{screen}"
        );
        // A page anew shows no notice.
        terminal.press(":queues\r");
        terminal.wait("no notice", |screen| !screen.contains("nothing was changed"));
    }
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[tokio::test]
async fn contexts_are_switched_inside() {
    let fixture = mail().await;
    let other = Fixture::start().await;
    other.enqueue_many("elsewhere", "e", 1).await;
    let file = format!(
        "contexts:\n  other:\n    uri: {}\n    read_only: true\n",
        other.redis.url()
    );
    fixture.write_home(".asynq.yaml", &file);
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" mail ");
    terminal.press(":context ot\t\r");
    let screen = terminal.wait_for(" elsewhere ");
    assert!(screen.starts_with("asynq other (redis://"), "{screen}");
    assert!(screen.contains("[read-only]") && !screen.contains(" mail "), "{screen}");
    terminal.press("P");
    terminal.wait_for("this is read-only");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[tokio::test]
async fn a_protected_context_must_be_named_and_may_ask_for_a_reason() {
    let fixture = mail().await;
    let url = fixture.redis.url();
    let file = format!("contexts:\n  prod:\n    uri: {url}\n    protected: true\n    require_reason: true\n");
    fixture.write_home(".asynq.yaml", &file);
    let mut terminal = open(&fixture, &[]);
    let screen = terminal.wait_for(" mail ");
    assert!(screen.contains("[protected]"), "{screen}");
    terminal.press("P");
    let screen = terminal.wait_for("context \"prod\" is protected");
    assert!(!screen.contains("Confirm"), "{screen}");
    terminal.press(":context prod\r");
    terminal.wait("the context by its name", |screen| {
        screen.contains("connected to prod") && screen.contains(" mail ") && !screen.contains("[protected]")
    });
    terminal.press("P\r");
    terminal.wait_for("a reason is required here");
    terminal.press("maintenance\ry\r");
    terminal.wait_for("PAUSED");
    let trail = fixture.inspector().audit_trail(Cursor::default(), 10).await.unwrap();
    assert_eq!(trail.items[0].actor.as_ref().unwrap().reason, "maintenance");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[tokio::test]
async fn it_fits_into_any_terminal() {
    let fixture = mail().await;
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for("Throughput");
    terminal.resize(40, 12);
    terminal.wait("a narrow screen", |screen| {
        screen.contains("> low") && screen.contains(" mail ") && !screen.contains("Throughput")
    });
    terminal.resize(1, 1);
    terminal.wait("one cell", |screen| {
        !screen.is_empty() && screen.trim().chars().count() == 1
    });
    terminal.resize(20, 5);
    terminal.wait("a small screen", |screen| {
        screen.contains("> low") && screen.lines().count() <= 5
    });
    terminal.resize(80, 24);
    terminal.wait_for("Processed");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[tokio::test]
async fn colours_are_left_out_on_request() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("mail", "m", 1).await;
    fixture.redis.client().await.ok(&["SADD", "asynq:queues", "mail"]).await;
    let mut raw = fixture.redis.client().await;
    // The pending task has waited for long, which is a finding.
    raw.cmd(&["HSET", "asynq:{mail}:t:m000000", "pending_since", "1000000000"])
        .await;
    for (env, colours) in [(&[][..], true), (&[("NO_COLOR", "1")][..], false)] {
        let mut terminal = Terminal::open_with(&fixture, &["dash"], env, 100, 30);
        terminal.wait_for("! critical: queue \"mail\"");
        assert_eq!(terminal.has_colours(), colours);
        terminal.press("q");
        assert_eq!(terminal.end(), 0);
    }
}

#[tokio::test]
async fn a_foreign_text_is_no_command_of_the_terminal() {
    let fixture = Fixture::filled().await;
    let mut terminal = open(&fixture, &[]);
    terminal.wait_for(" low ");
    terminal.press("/type^=evil\r");
    let screen = terminal.wait_for("page 1: 1 task");
    assert!(screen.contains("evil\\u{1b}[31m"), "{screen}");
    terminal.press(ENTER);
    let screen = terminal.wait_for("Payload (bytes, 4 B)");
    assert!(screen.contains("\\xff\\xfe\\x00\\x01"), "{screen}");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[tokio::test]
async fn wrong_use_is_refused() {
    let fixture = Fixture::start().await;
    let text = fixture.asynq(["dash", "--refresh", "999ms"]).fails(2).await;
    assert_eq!(text, "error: --refresh cannot be less than 1s\n");
    let text = fixture.asynq(["dash"]).fails(2).await;
    assert!(text.starts_with("error: the dashboard needs a terminal"), "{text}");
    fixture.redis.kill();
    let mut terminal = open(&fixture, &["--connect-timeout", "300ms"]);
    terminal.wait_for("cannot connect to Redis at");
    assert_eq!(terminal.end(), 5);
}
