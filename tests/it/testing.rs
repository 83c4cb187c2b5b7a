//! The users' test kit, used as a user would.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use asynq::{
    AsynqSystem, Connector as _, Env, RetryDelay,
    client::Client,
    clock::Clock,
    config::{ClientConfig, ServerConfig, UnknownTask},
    entropy::Entropy,
    error::{BrokerError, EnqueueError, Error, Result, TaskError},
    memory::MemoryStore,
    serve_mux::ServeMux,
    task::{Run, Task, TaskInfo, TaskOptions, TaskState},
    testing::{End, EnqueueFault, TestKit},
};
use asynq_core::{
    broker::{Tick, Ticked},
    periodic::EntryKey,
};
use asynq_testing::request::{queue, request};
use chrono::{DateTime, TimeDelta};

const MINUTE: Duration = Duration::from_secs(60);

fn task(task_type: &str) -> Task {
    Task::new(task_type, b"payload").unwrap()
}

/// Returns what an assertion says when it fails.
fn failure(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("the assertion holds");
    panic.downcast_ref::<String>().expect("a formatted message").clone()
}

async fn ok(_: Task) -> Result<()> {
    Ok(())
}

#[tokio::test]
async fn all_that_is_said_of_an_enqueued_task_is_checked() {
    let kit = TestKit::new().await;
    kit.assert_nothing_enqueued();
    let deadline = kit.now() + TimeDelta::hours(2);
    let full = Task::new("full", br#"{"a":1,"b":[2]}"#)
        .unwrap()
        .with_options(
            TaskOptions::new()
                .queue("q")
                .task_id("id-1")
                .max_retry(3)
                .header("k", "v"),
        )
        .with_timeout(MINUTE)
        .with_deadline(deadline)
        .with_retention(2 * MINUTE)
        .with_unique_ttl(3 * MINUTE)
        .with_process_in(4 * MINUTE);
    kit.client().enqueue(full).await.unwrap();
    kit.client().enqueue(task("plain")).await.unwrap();
    kit.client().add_to_group(task("grouped"), "g").await.unwrap();

    let found = kit.assert_enqueued("full").once();
    let at = kit.now() + 4 * MINUTE;
    found
        .clone()
        .payload(br#"{"a":1,"b":[2]}"#)
        .queue("q")
        .id("id-1")
        .max_retry(3)
        .header("k", "v")
        .timeout(MINUTE)
        .deadline(deadline)
        .retention(2 * MINUTE)
        .unique_ttl(3 * MINUTE)
        .delayed_by(4 * MINUTE)
        .process_at(at);
    kit.assert_enqueued("plain").at_once().queue("default");
    kit.assert_enqueued("grouped").group("g");
    kit.assert_not_enqueued("other");
    assert_eq!(kit.enqueued().len(), 3);

    // Each statement can fail.
    let wrong: [(&str, &dyn Fn()); 15] = [
        ("payload", &|| drop(found.clone().payload("x"))),
        ("queue", &|| drop(found.clone().queue("default"))),
        ("id", &|| drop(found.clone().id("id-2"))),
        ("max retry", &|| drop(found.clone().max_retry(4))),
        ("header", &|| drop(found.clone().header("k", "w"))),
        ("timeout", &|| drop(found.clone().timeout(2 * MINUTE))),
        ("deadline", &|| drop(found.clone().deadline(deadline + MINUTE))),
        ("retention", &|| drop(found.clone().retention(MINUTE))),
        ("unique TTL", &|| drop(found.clone().unique_ttl(MINUTE))),
        ("delay", &|| drop(found.clone().delayed_by(4 * MINUTE + MINUTE / 60))),
        ("time", &|| drop(found.clone().process_at(at + MINUTE / 60))),
        ("no delay", &|| drop(found.clone().at_once())),
        ("group", &|| drop(found.clone().group("g"))),
        ("a rule", &|| drop(found.clone().matching("a rule", |_| false))),
        ("instead of 2", &|| drop(found.clone().times(2))),
    ];
    for (what, statement) in wrong {
        let said = failure(statement);
        assert!(
            said.contains(what) && said.contains("\"full\" id-1 in q"),
            "{what}: {said}"
        );
    }
}

#[tokio::test]
async fn json_payloads_are_compared_by_value() {
    let kit = TestKit::new().await;
    let spaced = Task::new("t", br#"{ "b": 2, "a": 1 }"#).unwrap();
    kit.client().enqueue(spaced).await.unwrap();
    let value = |a| std::collections::BTreeMap::from([("a", a), ("b", 2)]);
    kit.assert_enqueued("t").json(&value(1));
    let said = failure(|| drop(kit.assert_enqueued("t").json(&value(7))));
    assert!(said.contains(r#"JSON payload {"a":7,"b":2}"#), "{said}");
}

#[tokio::test]
async fn failures_show_what_is_there() {
    let kit = TestKit::new().await;
    let said = failure(|| drop(kit.assert_enqueued("a")));
    assert_eq!(said, "no enqueued task with type \"a\"\nnothing is enqueued");
    kit.client()
        .enqueue_in(task("b").with_task_id("1"), MINUTE)
        .await
        .unwrap();
    let all = "enqueued:\n  \"b\" 1 in default, payload \"payload\", at ";
    for said in [
        failure(|| drop(kit.assert_enqueued("a"))),
        failure(|| kit.assert_not_enqueued("b")),
        failure(|| kit.assert_nothing_enqueued()),
    ] {
        assert!(said.contains(all) && said.contains("(in 60s)"), "{said}");
    }
}

#[tokio::test]
async fn a_task_is_enqueued_until_it_is_taken() {
    let kit = TestKit::new().await;
    kit.client().enqueue(task("a")).await.unwrap();
    let fails = |_: Task| async { Err(Error::other("no")) };
    let ran = kit.run_one(&fails).await.unwrap();
    assert!(matches!(ran.end, End::Retried { .. }), "{ran:?}");
    kit.assert_nothing_enqueued();
    let stats = kit.inspector().get_queue_stats("default").await.unwrap();
    assert_eq!((stats.retry, stats.failed), (1, 1));
}

#[tokio::test]
async fn the_clock_stands_until_it_is_moved() {
    let kit = TestKit::new().await;
    kit.client().enqueue_in(task("later"), MINUTE).await.unwrap();
    kit.advance(MINUTE - Duration::from_secs(1)).await;
    assert!(kit.run_one(&ok).await.is_none());
    kit.advance(Duration::from_secs(1)).await;
    assert!(kit.run_one(&ok).await.unwrap().end.is_done());
    assert!(kit.run_one(&ok).await.is_none());
}

#[tokio::test]
async fn clients_of_the_code_under_test_live_in_the_kits_time() {
    let kit = TestKit::new().await;
    kit.advance(Duration::from_secs(86_400)).await;
    let client = Client::new(kit.connector()).await.unwrap();
    client.enqueue_in(task("later"), MINUTE).await.unwrap();
    kit.assert_enqueued("later").delayed_by(MINUTE);
    assert!(kit.run_one(&ok).await.is_none());
    kit.advance(MINUTE).await;
    assert!(kit.run_one(&ok).await.unwrap().end.is_done());
}

#[tokio::test(start_paused = true)]
async fn on_tokios_time_sleeps_move_the_clock_and_advance_wakes_sleepers() {
    let kit = TestKit::on_tokio_time().await;
    kit.client().enqueue_in(task("later"), MINUTE).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    assert!(kit.run_one(&ok).await.unwrap().end.is_done());
    let sleeper = tokio::time::sleep(MINUTE);
    kit.advance(MINUTE).await;
    assert!(futures::FutureExt::now_or_never(sleeper).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_task_ends_its_run() {
    let kit = TestKit::on_tokio_time().await;
    kit.client().enqueue(task("slow").with_timeout(MINUTE)).await.unwrap();
    let started = kit.now();
    let hangs = |_: Task| std::future::pending::<Result<()>>();
    let ran = kit.run_one(&hangs).await.unwrap();
    assert!(
        matches!(
            ran.end,
            End::Retried {
                error: Error::DeadlineExceeded,
                ..
            }
        ),
        "{ran:?}"
    );
    assert!(kit.now() - started >= TimeDelta::seconds(60));
}

#[tokio::test]
async fn draining_runs_what_handlers_enqueue_and_tells_the_ends_in_order() {
    let kit = TestKit::new().await;
    kit.client().enqueue(task("first")).await.unwrap();
    kit.client().enqueue(task("bad").with_max_retry(0)).await.unwrap();
    let client = kit.client().clone();
    let handler = move |task: Task| {
        let client = client.clone();
        async move {
            match task.get_type() {
                "first" => client.enqueue(self::task("second")).await.map(drop),
                "bad" => Err(Error::other("bad")),
                _ => Ok(()),
            }
        }
    };
    let ran = kit.drain(&handler).await;
    let ends: Vec<_> = ran
        .iter()
        .map(|ran| (ran.task.task_type.as_str(), ran.end.is_done()))
        .collect();
    assert_eq!(ends, [("first", true), ("bad", false), ("second", true)]);
    assert!(matches!(&ran[1].end, End::Archived { error } if error.to_string() == "bad"));
    kit.assert_nothing_enqueued();
}

#[tokio::test]
async fn each_way_to_fail_an_enqueue_is_what_it_says_and_lasts_for_one() {
    let kit = TestKit::new().await;
    kit.fail_next_enqueue(EnqueueFault::Refused);
    let refused = kit.client().enqueue(task("a")).await.unwrap_err();
    assert!(
        matches!(refused, Error::Broker(BrokerError::OutOfMemory)),
        "{refused:?}"
    );
    kit.assert_nothing_enqueued();

    kit.fail_next_enqueue(EnqueueFault::TimedOut);
    kit.fail_next_enqueue(EnqueueFault::AnswerLost);
    for (id, arrives) in [("1", 0), ("2", 1)] {
        let unknown = kit.client().enqueue(task("a").with_task_id(id)).await.unwrap_err();
        let Error::Enqueue(EnqueueError::Unknown { id: unknown }) = unknown else {
            panic!("{unknown:?}");
        };
        assert_eq!(unknown.as_str(), id);
        assert_eq!(kit.enqueued().len(), arrives);
    }
    kit.client().enqueue(task("a")).await.unwrap();
    assert_eq!(kit.drain(&ok).await.len(), 2);
}

#[tokio::test]
async fn the_servers_settings_reach_the_run() {
    struct Limit(u32);
    let config = ServerConfig::new()
        .state(Limit(7))
        .unknown_task(UnknownTask::GiveBack)
        .retry_delay(RetryDelay::new(|_, _, _| MINUTE));
    let kit = TestKit::new().await.server_config(&config).unwrap();
    let seen = Arc::new(AtomicU32::new(0));
    let mut mux = ServeMux::new();
    let told = Arc::clone(&seen);
    mux.handle_func("known", move |task: Task| {
        let limit = task.context().and_then(|run| run.states().get::<Limit>());
        told.store(limit.map_or(0, |limit| limit.0), Ordering::Relaxed);
        Err(Error::other("no"))
    });
    kit.client().enqueue(task("known")).await.unwrap();
    kit.client().enqueue(task("unknown")).await.unwrap();
    let ran = kit.drain(&mux).await;
    assert_eq!(seen.load(Ordering::Relaxed), 7);
    assert!(matches!(ran[0].end, End::Retried { at, .. } if at == kit.now() + MINUTE));
    assert!(matches!(ran[1].end, End::Snoozed { .. }), "{ran:?}");
}

#[tokio::test]
async fn messages_and_results_have_the_limits_of_a_server_and_a_client() {
    let config = ServerConfig::new().max_message_bytes(2000);
    let kit = TestKit::new().await.server_config(&config).unwrap();
    let large = || Task::new("large", &vec![b'x'; 16 << 20]).unwrap();
    let refused = kit.client().enqueue(large()).await;
    let Err(Error::Invalid(TaskError::TooLarge { field, limit, got })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((field, limit), ("message size", 16 << 20));
    assert!(got > limit);
    kit.assert_nothing_enqueued();
    let roomy = ClientConfig::new().max_message_bytes(32 << 20);
    let client = Client::with_config(kit.connector(), roomy).await.unwrap();
    client.enqueue(large()).await.unwrap();
    let ran = kit.run_one(&|task: Task| async move {
        let run = task.context().expect("inside a run");
        let refused = run.write_result(vec![b'x'; 2001]).await.unwrap_err();
        assert_eq!(refused.to_string(), "result of 2001 is above the limit of 2000");
        run.write_result(vec![b'x'; 2000]).await.map(drop)
    });
    assert!(ran.await.expect("what is stored is run").end.is_done());
}

/// Ends in each way there is, by the type of the task.
async fn any_end(task: Task) -> Result<()> {
    match task.get_type() {
        "fails" | "last" => Err(Error::other("failed")),
        "skips" => Err(Error::skip_retry("skipped")),
        "revokes" => Err(Error::revoke("revoked")),
        "snoozes" => Err(Error::snooze(MINUTE)),
        "panics" => panic!("at the disco"),
        "result" => {
            let run = task.context().expect("inside a run");
            run.set_progress(50, "half").await?;
            run.write_result("result").await.map(drop)
        }
        _ => Ok(()),
    }
}

const ENDS: [&str; 8] = [
    "done", "fails", "last", "skips", "revokes", "snoozes", "panics", "result",
];

async fn enqueue_each(client: &Client) {
    for task_type in ENDS {
        let retries = if task_type == "last" { 0 } else { 5 };
        let task = task(task_type).with_task_id(task_type).with_max_retry(retries);
        client.enqueue(task.with_retention(MINUTE)).await.unwrap();
    }
}

fn config() -> ServerConfig {
    ServerConfig::new()
        .concurrency(1)
        .retry_delay(RetryDelay::new(|_, _, _| MINUTE))
}

/// The runs without their moments, and without their server, which the kit has not.
fn runs_of(info: &TaskInfo) -> impl PartialEq + std::fmt::Debug + use<> {
    let of = |run: &Run| {
        (
            run.outcome,
            run.retried,
            run.missing_before,
            run.error.clone(),
            run.started <= run.ended,
        )
    };
    let runs = info.runs.as_ref();
    runs.map(|runs| runs.recorded.iter().map(of).collect::<Vec<_>>())
}

/// Returns what is to be equal: all but the moments.
fn kept(info: &TaskInfo) -> impl PartialEq + std::fmt::Debug + use<> {
    let progress = info.progress.as_ref().map(|p| (p.percent, p.note.clone()));
    let retry_at = info.next_process_at.filter(|_| info.state == TaskState::Retry);
    (
        (
            info.state,
            info.retried,
            info.last_error.clone(),
            info.last_failed_at.is_some(),
        ),
        (
            info.result.clone(),
            progress,
            retry_at.is_some(),
            info.completed_at.is_some(),
        ),
        runs_of(info),
    )
}

#[tokio::test(start_paused = true)]
async fn every_end_leaves_what_a_server_would_leave() {
    let store = MemoryStore::new();
    let env = Env {
        clock: Clock::tokio(),
        entropy: Entropy::seeded(1),
    };
    let client = Client::new(store.clone()).await.unwrap();
    enqueue_each(&client).await;
    let (begun, mut runs) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |task: Task| {
        let begun = begun.clone();
        async move {
            begun.send(()).expect("the test waits for it");
            any_end(task).await
        }
    };
    let system = AsynqSystem::builder(store.clone())
        .env(env.clone())
        .config(config())
        .handler(handler);
    let system = system.spawn().await.unwrap();
    for _ in ENDS {
        runs.recv().await.unwrap();
    }
    system.drain().await;
    let theirs = asynq::inspector::Inspector::new(Arc::new(store.open(env)));

    let kit = TestKit::on_tokio_time().await.server_config(&config()).unwrap();
    enqueue_each(kit.client()).await;
    assert_eq!(kit.drain(&any_end).await.len(), ENDS.len());
    let ours = kit.inspector();

    for id in ENDS {
        let theirs = theirs.get_task_info("default", id).await;
        let ours = ours.get_task_info("default", id).await;
        match id {
            "revokes" => assert!(theirs.is_err() && ours.is_err(), "{theirs:?} {ours:?}"),
            _ => assert_eq!(kept(&ours.unwrap()), kept(&theirs.unwrap()), "{id}"),
        }
    }
}

/// The ticks of periodic tasks are recorded, and told to fail, as other enqueues are.
#[tokio::test]
async fn the_task_of_a_tick_is_an_enqueued_task() {
    let kit = TestKit::new().await;
    let storage = kit.connector().connect(Env::default()).await.unwrap();
    let entry = EntryKey::new("default", "* * * * *", "UTC", &task("t"), &TaskOptions::new());
    let tick = |secs: i64| Tick {
        entry: entry.clone(),
        at: DateTime::from_timestamp(1_800_000_000 + secs, 0).unwrap(),
        gap: Duration::ZERO,
        keep: MINUTE,
        by: "s".into(),
        on_conflict: asynq_core::OnConflict::Skip,
        decide: true,
    };
    let new = || request("q", "a").token(7).build();
    kit.fail_next_enqueue(EnqueueFault::Refused);
    let refused = storage.enqueue_tick(new(), &tick(0)).await;
    assert!(
        matches!(refused, Err(EnqueueError::Broker(BrokerError::OutOfMemory))),
        "{refused:?}"
    );
    kit.fail_next_enqueue(EnqueueFault::TimedOut);
    kit.fail_next_enqueue(EnqueueFault::AnswerLost);
    for arrives in [false, true] {
        let lost = storage.enqueue_tick(new(), &tick(0)).await;
        assert!(
            matches!(lost, Err(EnqueueError::Broker(BrokerError::Ambiguous { .. }))),
            "{lost:?}"
        );
        assert_eq!(kit.enqueued().len(), usize::from(arrives));
    }
    let again = storage.enqueue_tick(new(), &tick(0)).await;
    assert!(matches!(again, Ok(Ticked::Enqueued(_))), "{again:?}");
    let other = storage.enqueue_tick(request("q", "b").build(), &tick(0)).await;
    assert!(matches!(other, Ok(Ticked::Taken { .. })), "{other:?}");
    kit.assert_enqueued("t").queue("q");
    assert_eq!(kit.enqueued().len(), 1);
    let last = storage.last_ticks(&[(queue("q"), entry.clone())]).await.remove(0);
    assert_eq!(last.unwrap().unwrap().instant(), tick(0).at);
}
