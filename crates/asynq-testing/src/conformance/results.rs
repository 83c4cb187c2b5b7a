//! Results that handlers write (transitions.md#write-a-result).

use super::kit::*;

/// transitions.md#write-a-result: any bytes, into the hash; the answer is their number; a second write replaces
/// the first.
pub(super) async fn a_result_is_written_into_the_hash(fx: &Fixture) {
    let task = fx.running(request(Q, "a").retention(60)).await;
    for result in [vec![0, 255, 10], Vec::new(), b"end".to_vec()] {
        let written = fx
            .storage
            .write_result(&task.lease, result.clone().into())
            .await
            .unwrap();
        assert_eq!(written, result.len());
        assert_eq!(fx.raw().await.task("a").bytes("result").as_deref(), Some(&result[..]));
    }
    assert_eq!(
        fx.raw().await.task("a").names(),
        ["msg", "result", "state", "x:enq", "x:take"]
    );
}

/// layout.md#task-hash: a result survives failure, retry and completion, and is shown.
pub(super) async fn a_result_survives_retry_and_completion(fx: &Fixture) {
    let task = fx.running(request(Q, "a").retention(60)).await;
    fx.storage.write_result(&task.lease, bytes("r")).await.unwrap();
    fx.settled(&task, retry(fx.now())).await;
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    let task = fx.take_one().await;
    fx.settled(&task, DONE).await;
    let info = fx.storage.task_info(&queue(Q), &id("a")).await.unwrap();
    assert_eq!((info.state, info.result), (TaskState::Completed, Some(bytes("r"))));
}

/// differences.md#results-of-lost-tasks: a result is written only while the task is active and ours; a task
/// that is gone is never made anew.
pub(super) async fn a_result_is_written_only_while_the_task_is_ours(fx: &Fixture) {
    let write = async |task: &asynq_core::broker::LeasedTask| {
        let before = fx.raw().await;
        let answer = fx.storage.write_result(&task.lease, bytes("r")).await;
        assert!(matches!(answer, Err(SettleError::NotOurs)), "{answer:?}");
        before.assert_same(&fx.raw().await);
    };
    for (n, outcome) in outcomes(fx.after(60)).into_iter().enumerate() {
        let task = fx.running(request(Q, &format!("id{n}")).retention(60)).await;
        fx.settled(&task, outcome).await;
        write(&task).await;
    }
}
