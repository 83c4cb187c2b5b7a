//! Findings of an inspector over whole systems, and the errors of tasks.

use std::{sync::Arc, time::Duration};

use asynq::{
    AsynqSystem, Client, Inspector, ServeMux, ServerConfig, Task, TaskState,
    error::{BrokerError, Error},
    inspector::{Aggregators, FindingKind, Findings, FindingsOptions, Severity, SignatureLimits},
    memory::MemoryStore,
    redis::RedisConnectionType,
    scheduler::{PeriodicTaskConfig, SchedulerConfig},
};
use asynq_core::{Clock, Connector, Env, Storage};
use asynq_testing::{
    RedisServer,
    faulty::{Fault, Faults, Op},
    request::queue,
};
use tokio::time::timeout;

/// Several times what anything here takes.
const SOON: Duration = Duration::from_secs(60);

fn names(findings: &Findings) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.kind.name()).collect()
}

/// The findings, as soon as they are these.
async fn until(inspector: &Inspector, options: &FindingsOptions, expected: &[&str]) -> Findings {
    let seen = async {
        loop {
            let found = inspector.findings_with(options).await.unwrap();
            if names(&found) == expected {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, seen)
        .await
        .unwrap_or_else(|_| panic!("never {expected:?}"))
}

fn mux(patterns: &[&str]) -> ServeMux {
    let mut mux = ServeMux::new();
    for pattern in patterns {
        mux.handle_async_func(pattern, |_| async { Ok(()) });
    }
    mux
}

/// On Redis: no server, then one without a handler for a type and without an aggregator, then one with both.
#[tokio::test]
async fn an_operator_is_led_from_one_finding_to_the_next() {
    let redis = RedisServer::start().await;
    let connection = || RedisConnectionType::single(redis.url()).unwrap();
    let client = Client::new(connection()).await.unwrap();
    let inspector = Inspector::connect(connection()).await.unwrap();
    // What waits at all waits for too long.
    let options = FindingsOptions::new()
        .unserved_after(Duration::ZERO)
        .group_after(Duration::ZERO)
        .clock_skew(SOON);
    assert!(inspector.findings().await.unwrap().is_empty());
    client.enqueue(Task::new("pay:card", b"1").unwrap()).await.unwrap();
    let found = until(&inspector, &options, &["no_consumer"]).await;
    assert_eq!(found.findings[0].severity, Severity::Critical);

    // A task of this type fails at this server, and waits for its retry.
    let server = async |patterns: &[&str]| {
        let config = ServerConfig::new()
            .concurrency(1)
            .heartbeat_interval(Duration::from_millis(200));
        let mut builder = AsynqSystem::builder(connection()).config(config).handler(mux(patterns));
        if patterns.len() > 1 {
            builder = builder
                .aggregator(|_: String, tasks: Vec<Task>| async move { Task::new("mail:all", tasks[0].get_payload()) });
        }
        builder.spawn().await.unwrap()
    };
    let first = server(&["mail:"]).await;
    let found = until(&inspector, &options, &["unhandled_types"]).await;
    let FindingKind::UnhandledTypes { types, tasks: 1, .. } = &found.findings[0].kind else {
        panic!("{found}")
    };
    assert_eq!((types[0].task_type.as_str(), types[0].count), ("pay:card", 1));
    assert!(found.findings[0].command.contains(r#"type="pay:card""#), "{found}");

    client
        .add_to_group(Task::new("mail:one", b"1").unwrap(), "daily")
        .await
        .unwrap();
    let found = until(&inspector, &options, &["unhandled_types", "stuck_group"]).await;
    let FindingKind::StuckGroup {
        aggregators, size: 1, ..
    } = &found.findings[1].kind
    else {
        panic!("{found}")
    };
    assert_eq!(*aggregators, Aggregators::None);
    first.shutdown().await;

    let second = server(&["mail:", "pay:"]).await;
    // The group waits for its grace period, which is no matter where a server aggregates.
    let options = options.group_after(Duration::from_secs(1800));
    until(&inspector, &options, &[]).await;
    second.shutdown().await;
}

/// A handler that decides by itself, and a mux with a handler for other types, handle everything as far as is known.
#[tokio::test]
async fn a_server_publishes_the_types_it_handles_if_they_are_known() {
    let published = async |storage: &MemoryStore, system: AsynqSystem| {
        let inspector = Inspector::connect(storage.clone()).await.unwrap();
        let shown = async {
            loop {
                if let Some(tree) = inspector.trees().await.unwrap().pop() {
                    return tree.tree.handles;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let handles = timeout(SOON, shown).await.unwrap();
        system.shutdown().await;
        handles
    };
    let start = async |handler: Box<dyn FnOnce(asynq::AsynqSystemBuilder) -> asynq::AsynqSystemBuilder>| {
        let storage = MemoryStore::new();
        let builder = handler(AsynqSystem::builder(storage.clone()));
        let system = builder.spawn().await.unwrap();
        published(&storage, system).await
    };
    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    assert_eq!(
        start(Box::new(|b| b.handler(mux(&["b", "a:"])))).await,
        texts(&["a:", "b"])
    );
    assert_eq!(
        start(Box::new(|b| b.handler(Arc::new(mux(&["a"]))))).await,
        texts(&["a"])
    );
    assert_eq!(start(Box::new(|b| b.handler(|_: Task| async { Ok(()) }))).await, None);
    let mut otherwise = mux(&["a"]);
    otherwise.otherwise(|_: Task| async { Ok(()) });
    assert_eq!(start(Box::new(|b| b.handler(otherwise))).await, None);
    let numbered: Vec<_> = (0..201).map(|n| format!("p{n}")).collect();
    let many = mux(&numbered.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(start(Box::new(|b| b.handler(many))).await, None);
    let long = "x".repeat(17 << 10);
    let long = mux(&[&long]);
    assert_eq!(start(Box::new(|b| b.handler(long))).await, None);
}

/// Samples of tasks are read only where a rule needs them: if all servers of the queue tell the types that they handle, or if
/// there may be a storm of retries.
#[tokio::test]
async fn samples_are_read_only_where_they_can_tell_something() {
    let store = MemoryStore::new();
    let storage = store.connect(Env::default()).await.unwrap();
    let faults = Faults::new();
    let client = Client::new(store.clone()).await.unwrap();
    let task = |queue: &str| Task::new("t", b"1").unwrap().with_queue(queue);
    // The first two are served, the second by a server that does not tell its types. One task each fails.
    for name in ["told", "untold", "unserved"] {
        client.enqueue(task(name)).await.unwrap();
    }
    let mut failing = ServeMux::new();
    failing.handle_async_func("t", |_| async { Err(Error::other("no")) });
    let config = |name: &str| ServerConfig::new().queues([(name.to_owned(), 1)]);
    let told = AsynqSystem::builder(store.clone())
        .config(config("told"))
        .handler(failing)
        .spawn()
        .await
        .unwrap();
    let untold = AsynqSystem::builder(store.clone())
        .config(config("untold"))
        .handler(|_: Task| async { Err(Error::other("no")) })
        .spawn()
        .await
        .unwrap();
    let plain = Inspector::connect(store.clone()).await.unwrap();
    let inspector = Inspector::new(Arc::new(faults.around(storage)) as Arc<dyn Storage>);
    let both_failed = async {
        loop {
            let (told, untold) = (
                plain.get_queue_stats("told").await,
                plain.get_queue_stats("untold").await,
            );
            if told.unwrap().retry == 1 && untold.unwrap().retry == 1 && plain.trees().await.unwrap().len() == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, both_failed).await.unwrap();
    let reads = async |options: FindingsOptions| {
        let before = ["told", "untold", "unserved"].map(|name| faults.for_queue(&queue(name)).calls(Op::ScanTasks));
        inspector.findings_with(&options).await.unwrap();
        let after = ["told", "untold", "unserved"].map(|name| faults.for_queue(&queue(name)).calls(Op::ScanTasks));
        [0, 1, 2].map(|nth| after[nth] - before[nth])
    };
    assert_eq!(reads(FindingsOptions::new()).await, [1, 0, 0]);
    assert_eq!(reads(FindingsOptions::new().retry_storm(1)).await, [1, 1, 0]);
    told.shutdown().await;
    untold.shutdown().await;
}

/// One queue that hangs, one that fails and a list of servers that cannot be read are marked; the rest is judged.
#[tokio::test(start_paused = true)]
async fn a_part_that_cannot_be_read_is_marked_and_the_rest_is_judged() {
    let store = MemoryStore::new();
    let storage = store.connect(Env::default()).await.unwrap();
    let faults = Faults::new();
    let client = Client::new(store).await.unwrap();
    for name in ["a", "hangs", "refuses", "z"] {
        client
            .enqueue(Task::new("t", b"1").unwrap().with_queue(name))
            .await
            .unwrap();
    }
    let faulty: Arc<dyn Storage> = Arc::new(faults.around(storage));
    let inspector = Inspector::new(faulty);
    faults.for_queue(&queue("hangs")).always(Op::QueueFacts, Fault::Hang);
    faults
        .for_queue(&queue("refuses"))
        .always(Op::QueueFacts, Fault::unavailable());
    let options = FindingsOptions::new().unserved_after(Duration::ZERO).at_once(2);
    let found = inspector.findings_with(&options).await.unwrap();
    let told = |found: &Findings| {
        let told = found.iter().map(|found| {
            let queue = found.queue.as_ref().map_or("-", |queue| queue.as_str());
            format!("{} {queue}", found.kind.name())
        });
        told.collect::<Vec<_>>()
    };
    let marked = [
        "no_consumer a",
        "no_consumer z",
        "unreadable hangs",
        "unreadable refuses",
    ];
    assert_eq!((told(&found), found.queues), (marked.map(str::to_owned).to_vec(), 4));
    assert!(found.to_string().contains("no answer within 5s"), "{found}");

    // Nothing is known of the servers: no queue counts as unserved.
    faults.clear();
    for op in [Op::Servers, Op::Trees, Op::SchedulerEntries, Op::StorageFacts] {
        faults.always(op, Fault::unavailable());
    }
    let found = inspector.findings_with(&options).await.unwrap();
    assert_eq!(told(&found), ["unreadable -"; 4].map(str::to_owned));
    faults.clear();
    faults.always(Op::Queues, Fault::unavailable());
    assert!(inspector.findings().await.is_err());
}

/// Each scheduler of ours registers the entry, and one of them enqueues the task of a tick: no finding. With different
/// names each of them enqueues it.
#[tokio::test(start_paused = true)]
async fn schedulers_of_one_name_do_not_repeat_an_entry() {
    for (of, expected) in [(["a", "a"], &[][..]), (["a", "b"], &["repeated_entry"])] {
        let (storage, clock) = (MemoryStore::new(), Clock::tokio());
        let mut systems = Vec::new();
        for name in of {
            let task = PeriodicTaskConfig::new("@every 10s", Task::new("t", b"").unwrap());
            let env = Env {
                clock: clock.clone(),
                ..Env::default()
            };
            let builder = AsynqSystem::builder(storage.clone())
                .env(env)
                .scheduler(SchedulerConfig::new().name(name))
                .periodic(task)
                .handler(|_: Task| async { Ok(()) });
            systems.push(builder.spawn().await.unwrap());
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        tokio::time::sleep(Duration::from_secs(120)).await;
        let inspector = Inspector::new(systems[0].storage().await.unwrap());
        let entries = inspector.list_scheduler_entries().await.unwrap();
        assert_eq!(entries.len(), 2);
        let mut events = 0;
        for entry in &entries {
            let listed = inspector.list_scheduler_enqueue_events(&entry.id, 1, 100).await;
            events += listed.unwrap().len();
        }
        assert!(events >= 10, "{events}");
        assert_eq!(names(&inspector.findings().await.unwrap()), expected);
        for system in systems {
            system.shutdown().await;
        }
    }
}

/// The answer says how many of how many tasks were looked at, and none counts twice.
#[tokio::test(start_paused = true)]
async fn errors_are_grouped_by_their_signature() {
    let system = AsynqSystem::builder(MemoryStore::new())
        .handler(|task: Task| async move {
            let text = String::from_utf8_lossy(task.get_payload()).into_owned();
            Err(Error::other(text))
        })
        .spawn()
        .await
        .unwrap();
    let client = system.client();
    for n in 0..450 {
        let error = match n % 3 {
            0 => format!("user {n} not found"),
            1 => format!("dial tcp 10.0.0.{n}:80: i/o timeout"),
            _ => format!("read tcp 10.0.0.{n}:80: i/o timeout"),
        };
        let task = Task::new("t", error.as_bytes()).unwrap();
        client
            .enqueue(task.with_max_retry(u32::from(n % 3 == 0)))
            .await
            .unwrap();
    }
    let inspector = Inspector::new(system.storage().await.unwrap());
    let ended = async {
        loop {
            let stats = inspector.get_queue_stats("default").await.unwrap();
            if stats.retry + stats.archived == 450 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, ended).await.unwrap();
    // No retry runs meanwhile.
    system.drain().await;
    let of = async |states: &[TaskState], budget| inspector.error_signatures("default", states, budget).await.unwrap();
    let both = [TaskState::Retry, TaskState::Archived, TaskState::Retry];
    let all = of(&both, u32::MAX).await;
    let top: Vec<_> = all
        .top
        .iter()
        .map(|found| (found.signature.as_str(), found.count))
        .collect();
    let timeouts = ["dial tcp <addr>: i/o timeout", "read tcp <addr>: i/o timeout"].map(|text| (text, 150));
    assert_eq!(top, [timeouts[0], timeouts[1], ("user <n> not found", 150)]);
    assert_eq!((all.looked_at, all.total, all.is_complete()), (450, 450, true));
    let first = &all.top[0];
    assert!(first.first_failed_at <= first.last_failed_at && first.first != first.last);

    let some = of(&both, 160).await;
    assert_eq!((some.looked_at, some.total, some.different), (160, 450, 3));
    assert!(
        some.to_string()
            .starts_with("of the first 160 tasks looked at, of 450:\n")
    );
    assert_eq!(of(&[TaskState::Retry], 0).await.looked_at, 1);
    let none = of(&[TaskState::Pending], 10).await;
    assert_eq!((none.looked_at, none.total, none.top.len()), (0, 0, 0));

    for (states, queue) in [
        (&[TaskState::Aggregating][..], "default"),
        (&[TaskState::Retry], "never"),
    ] {
        match inspector.error_signatures(queue, states, 10).await {
            Err(Error::Broker(BrokerError::GroupRequired { .. } | BrokerError::QueueNotFound { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(inspector.error_signatures(" ", &both, 10).await.is_err());
    system.shutdown().await;
}

/// Errors are counted within limits, and the answer tells how far it came.
#[tokio::test]
async fn errors_of_large_tasks_are_counted_within_limits() {
    let store = MemoryStore::new();
    let client = Client::new(store.clone()).await.unwrap();
    let inspector = Inspector::connect(store).await.unwrap();
    for nth in 0..20 {
        let task = Task::new("t", &vec![b'x'; 300 << 10]).unwrap().with_process_in(SOON);
        let task = task.with_task_id(format!("{nth:02}"));
        client.enqueue(task).await.unwrap();
        inspector.archive_task("default", &format!("{nth:02}")).await.unwrap();
    }
    let looked_at = async |limits: SignatureLimits| {
        let errors = inspector
            .error_signatures_within("default", &[TaskState::Archived], &limits)
            .await
            .unwrap();
        assert_eq!((errors.total, errors.is_complete()), (20, errors.looked_at == 20));
        errors.looked_at
    };
    assert_eq!(looked_at(SignatureLimits::default()).await, 20);
    let few = looked_at(SignatureLimits::default().bytes(2 << 20)).await;
    assert!((6..12).contains(&few), "{few}");
    let step = looked_at(SignatureLimits::default().time(Duration::ZERO)).await;
    assert!((3..5).contains(&step), "{step}");
    assert_eq!(looked_at(SignatureLimits::default().tasks(3)).await, 3);
}
