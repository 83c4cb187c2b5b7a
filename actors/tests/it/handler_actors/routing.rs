//! Routing: the handler that runs a task, and tasks that have none.

use std::time::Duration;

use asynq_actors::AsynqSystem;
use asynq_core::{Error, ServerConfig, Task, TaskState, UnknownTask};
use asynq_memory::MemoryStore;
use tokio::sync::mpsc;

use super::kit::{House, Stage, breathe, config, env, task};

#[tokio::test(start_paused = true)]
async fn the_longest_pattern_wins_and_the_plain_handler_has_the_rest() {
    let (all, short, long) = (Stage::new(), Stage::new(), Stage::new());
    let (ran, mut runs) = mpsc::unbounded_channel();
    let plain = move |task: Task| {
        let _ = ran.send(task.get_type().to_owned());
        std::future::ready(Ok(()))
    };
    let house = House::with(
        config(),
        [short.spec("email"), long.spec("email:welcome"), all.spec("e")],
        |builder| builder.handler(plain),
    )
    .await;
    for (task_type, stage) in [
        ("email", Some(&short)),
        ("emails", Some(&short)),
        ("email:send", Some(&short)),
        ("email:welcome", Some(&long)),
        ("email:welcome:again", Some(&long)),
        ("export", Some(&all)),
        ("image", None),
    ] {
        let done = house.enqueue(task(task_type, task_type)).await;
        house.until_done(&done).await;
        match stage {
            Some(stage) => assert_eq!(stage.deeds("start").pop().unwrap().order, task_type),
            None => assert_eq!(runs.try_recv().unwrap(), task_type),
        }
    }
    assert_eq!([all, short, long].map(|stage| stage.deeds("start").len()), [1, 3, 2]);
    assert!(runs.try_recv().is_err());
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_type_fails_as_in_go() {
    let stage = Stage::new();
    let house = House::open([stage.spec("known")]).await;
    let unknown = house.enqueue(task("unknown", "").with_max_retry(1)).await;
    let failed = house.until(&unknown, TaskState::Retry).await;
    let text = "handler not found for task \"unknown\"";
    assert_eq!((failed.last_error.as_str(), failed.retried), (text, 1));
    assert_eq!(house.until(&unknown, TaskState::Archived).await.last_error, text);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_type_is_given_back_for_who_knows_it() {
    // A plain handler that routes by itself says so in the same way.
    let router = |task: Task| async move {
        Err(Error::HandlerNotFound {
            task_type: task.get_type().to_owned(),
        })
    };
    for with_plain in [false, true] {
        let (ours, theirs) = (Stage::new(), Stage::new());
        let config = config().unknown_task(UnknownTask::GiveBack);
        let house = House::with(config.clone(), [ours.spec("known")], |builder| {
            if with_plain { builder.handler(router) } else { builder }
        })
        .await;
        let unknown = house.enqueue(task("unknown", "ok").with_max_retry(0)).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        let back = house.info(&unknown).await.unwrap();
        assert_eq!(back.retried, 0, "no retry is used up");
        assert_eq!(back.last_error, "handler not found for task \"unknown\"");
        let other = House::on(house.store.clone(), config, [theirs.spec("unknown")], |builder| builder).await;
        theirs.until(1, "start").await;
        house.until_done(&unknown).await;
        other.close().await;
        house.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_specs_are_refused_with_all_their_faults() {
    let stage = Stage::new();
    let (zero, year) = (Duration::ZERO, Duration::from_secs(366 * 24 * 3600));
    let error = AsynqSystem::builder(MemoryStore::new())
        .config(ServerConfig::new().concurrency(0))
        .handler_actor(stage.spec("a").instances(0).concurrency(0).suspend_after(0))
        .handler_actor(
            stage
                .spec("a")
                .rate_limit(0, zero)
                .kill_after(zero)
                .start_within(zero)
                .stop_within(year),
        )
        .handler_actor(stage.spec(" "))
        .handler_actor(stage.spec("b").instances(1001))
        .spawn()
        .await
        .unwrap_err();
    let Error::Config(error) = error else { panic!("{error}") };
    let told: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "concurrency must be 1 to 1000000, not 0",
            "handler_actor \"a\": instances must be 1 to 1000, not 0",
            "handler_actor \"a\": concurrency must be 1 to 10000, not 0",
            "handler_actor \"a\": suspend_after must be 1 to 1000, not 0",
            "handler_actor \"a\": tasks of rate_limit must be 1 to 1000000, not 0",
            "handler_actor \"a\": per of rate_limit must be 1ms to 86400s, not 0ns",
            "handler_actor \"a\": kill_after must be 10ms to 86400s, not 0ns",
            "handler_actor \"a\": stop_within must be 0ns to 3600s, not 31622400s",
            "handler_actor \"a\": start_within must be 1ms to 3600s, not 0ns",
            "handler_actor \"a\": asynq: multiple registrations for a",
            "handler_actor \" \": asynq: invalid pattern",
            "handler_actor \"b\": instances must be 1 to 1000, not 1001",
        ]
    );
    assert_eq!(stage.starts(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_killed_by_its_path_whatever_its_pattern() {
    let stage = Stage::new();
    let house = House::open([stage.spec("email:send").instances(2), stage.spec("img/resize")]).await;
    for path in [
        "work/handlers/email:send#1",
        "work/handlers/img/resize#0",
        "work/handlers/img%2Fresize#0",
    ] {
        assert!(house.system.kill_actor(path), "{path}");
        breathe().await;
        breathe().await;
    }
    assert!(!house.system.kill_actor("work/handlers/img"));
    let names: Vec<_> = house
        .node(&[])
        .children
        .into_iter()
        .map(|child| (child.name, child.restarts))
        .collect();
    let expected = [("email:send#0", 0), ("email:send#1", 1), ("img/resize#0", 2)];
    assert_eq!(names, expected.map(|(name, restarts)| (name.to_owned(), restarts)));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn handlers_stand_in_the_tree_only_where_there_are_some() {
    let house = House::with(config(), [], |builder| {
        builder.handler(|_task: Task| std::future::ready(Ok(())))
    })
    .await;
    let work = house.system.tree().unwrap().find(&["work"]).unwrap().clone();
    assert_eq!(work.find(&["handlers"]), None);
    house.close().await;
    let stage = Stage::new();
    let system = AsynqSystem::builder(MemoryStore::new())
        .env(env())
        .handler_actor(stage.spec("t"))
        .spawn()
        .await
        .unwrap();
    let names: Vec<_> = system
        .tree()
        .unwrap()
        .find(&["work"])
        .unwrap()
        .children
        .iter()
        .map(|c| c.name.clone())
        .collect();
    assert_eq!(
        names,
        ["heartbeater", "syncer", "statistician", "handlers", "processor"]
    );
    system.shutdown().await;
}
