//! The fixture itself: what the other tests take for granted.

use asynq::TaskState;

use crate::support::{Fixture, ODD_QUEUE, eventually, in_secs, read_all};

#[tokio::test]
async fn the_fixture_has_a_task_of_every_state() {
    let fixture = Fixture::filled().await;
    let inspector = fixture.inspector();
    let stats = inspector.get_queue_stats("default").await.unwrap();
    let states = [
        stats.pending,
        stats.active,
        stats.scheduled,
        stats.retry,
        stats.archived,
        stats.completed,
    ];
    assert_eq!((states, stats.aggregating), ([1; 6], 2));
    for state in [
        TaskState::Active,
        TaskState::Retry,
        TaskState::Archived,
        TaskState::Completed,
    ] {
        let info = inspector.get_task_info("default", state.as_str()).await.unwrap();
        assert_eq!(info.state, state);
    }
    let names: Vec<_> = inspector.queues().await.unwrap();
    assert_eq!(
        names.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        [ODD_QUEUE, "default", "low"]
    );
    assert!(inspector.get_queue_stats("low").await.unwrap().paused);
    let many = fixture.client().await;
    let task = asynq::Task::new("t", b"").unwrap().with_process_at(in_secs(60));
    let later = many.enqueue(task).await.unwrap();
    assert_eq!(later.state, TaskState::Scheduled);
}

#[tokio::test]
async fn the_program_runs_in_a_clean_environment() {
    let fixture = Fixture::start().await;
    assert!(fixture.bare(["version"]).ok().await.starts_with("asynq version "));
    assert_eq!(fixture.bare(["--help"]).run().await.status, 0);
    // An environment of its own shows up.
    let error = fixture.bare(["stats"]).env("ASYNQ_OUTPUT", "none").fails(2).await;
    assert!(error.contains("none"), "{error}");
    let mut child = fixture.bare(["--none"]).stdin("").spawn();
    let error = read_all(child.stderr.as_mut().unwrap()).await;
    assert!(error.contains("--none"), "{error}");
    eventually("it ends", async || child.try_wait().unwrap().is_some()).await;
}

#[tokio::test]
async fn many_tasks_are_quickly_there() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("many", "task-", 2500).await;
    let stats = fixture.inspector().get_queue_stats("many").await.unwrap();
    assert_eq!(stats.pending, 2500);
}
