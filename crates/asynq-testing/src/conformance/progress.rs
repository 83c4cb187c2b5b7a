//! Progress of runs, as their handlers report it: a field of our own in the task hash.

use asynq_core::{
    Progress,
    broker::LeasedTask,
    inspect::{ListFilter, PageRequest},
    progress::MAX_PROGRESS_NOTE,
};

use super::kit::*;

fn progress(fx: &Fixture, percent: u8, note: &str) -> Progress {
    Progress {
        percent,
        note: note.into(),
        at: fx.now(),
    }
}

async fn write(fx: &Fixture, task: &LeasedTask, percent: u8) {
    fx.storage
        .write_progress(&task.lease, progress(fx, percent, "n"))
        .await
        .unwrap();
}

async fn shown(fx: &Fixture) -> Option<u8> {
    let info = fx.storage.task_info(&queue(Q), &id("a")).await.unwrap();
    let filter = ListFilter::State(info.state);
    let page = fx.storage.list_tasks(&queue(Q), &filter, PageRequest::default()).await;
    assert_eq!(page.unwrap().tasks[0].progress, info.progress);
    info.progress.map(|progress| progress.percent)
}

/// One field of our own, which Go neither lists nor clears; the last one counts, and all that was told
/// is shown.
pub(super) async fn progress_is_a_field_of_our_own(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    assert_eq!(shown(fx).await, None);
    for (percent, note) in [(0, ""), (50, "half\n\u{0}ü"), (100, "all")] {
        let told = progress(fx, percent, note);
        fx.storage.write_progress(&task.lease, told.clone()).await.unwrap();
        let info = fx.storage.task_info(&queue(Q), &id("a")).await.unwrap();
        assert_eq!(info.progress, Some(told));
        assert_eq!(shown(fx).await, Some(percent));
        fx.advance(1);
    }
    let names = ["msg", "state", "x:enq", "x:progress", "x:take"];
    assert_eq!(fx.raw().await.task("a").names(), names);
    fx.settled(&task, DONE).await;
    assert!(!fx.raw().await.has_task("a"));
}

/// It shows until the next run begins: that one begins without.
pub(super) async fn progress_is_of_one_run(fx: &Fixture) {
    let task = fx.running(request(Q, "a").retention(60)).await;
    write(fx, &task, 70).await;
    fx.settled(&task, retry(fx.now())).await;
    assert_eq!(shown(fx).await, Some(70));
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    assert_eq!(shown(fx).await, Some(70));
    let task = fx.take_one().await;
    assert_eq!(shown(fx).await, None);
    write(fx, &task, 99).await;
    fx.settled(&task, DONE).await;
    assert_eq!(shown(fx).await, Some(99));
}

/// differences.md#results-of-lost-tasks, rules.md#fenced-settle: only while the task is active and ours.
pub(super) async fn progress_is_written_only_while_the_task_is_ours(fx: &Fixture) {
    for (n, outcome) in outcomes(fx.after(60)).into_iter().enumerate() {
        let task = fx.running(request(Q, &format!("id{n}")).retention(60)).await;
        fx.settled(&task, outcome).await;
        let before = fx.raw().await;
        let answer = fx.storage.write_progress(&task.lease, progress(fx, 1, "")).await;
        assert!(matches!(answer, Err(SettleError::NotOurs)), "{answer:?}");
        before.assert_same(&fx.raw().await);
    }
}

/// Values beyond the limits are refused and change nothing.
pub(super) async fn progress_beyond_the_limits_is_refused(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    let longest = "x".repeat(MAX_PROGRESS_NOTE);
    fx.storage
        .write_progress(&task.lease, progress(fx, 100, &longest))
        .await
        .unwrap();
    let before = fx.raw().await;
    for bad in [progress(fx, 101, ""), progress(fx, 1, &format!("{longest}x"))] {
        let answer = fx.storage.write_progress(&task.lease, bad).await;
        assert!(
            matches!(answer, Err(SettleError::Broker(BrokerError::Refused { .. }))),
            "{answer:?}"
        );
    }
    before.assert_same(&fx.raw().await);
}

/// rules.md#damage-stays-local: a field that is something else hides nothing but itself.
pub(super) async fn a_progress_that_cannot_be_read_is_none(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    for damage in [
        &b""[..],
        b"50",
        b"\xff",
        br#"{"percent":101,"note":"","at":"2026-05-14T10:00:00Z"}"#,
    ] {
        fx.edit(|state| set_field(state, "a", "x:progress", Some(Bytes::from_static(damage))))
            .await;
        assert_eq!(shown(fx).await, None);
    }
    write(fx, &task, 5).await;
    assert_eq!(shown(fx).await, Some(5));
}
