//! Results that handlers write.

use std::time::Duration;

use asynq_actors::AsynqSystem;
use asynq_core::{Connector as _, Task, TaskState};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::env;

const SECOND: Duration = Duration::from_secs(1);

/// Large results travel apart from small ones, so only their answers tell what came first.
#[tokio::test(start_paused = true)]
async fn a_result_that_was_given_up_on_does_not_replace_a_later_one() {
    let (store, faults) = (MemoryStore::new(), Faults::new());
    let (told, mut given_up) = mpsc::unbounded_channel();
    let handler = move |task: Task| {
        let told = told.clone();
        async move {
            let context = task.context().unwrap();
            let first = timeout(SECOND, context.write_result("first")).await;
            told.send(first.is_err()).unwrap();
            context.write_result("second").await.map(drop)
        }
    };
    faults.next(Op::WriteResult, Fault::Hang);
    let system = AsynqSystem::builder(FaultyConnector::new(store.clone(), faults.clone()))
        .env(env())
        .handler(handler);
    let system = system.spawn().await.unwrap();
    let task = Task::new("t", b"").unwrap().with_retention(60 * SECOND);
    let info = system.client().enqueue(task).await.unwrap();
    assert!(given_up.recv().await.unwrap());
    sleep(SECOND).await;
    assert_eq!(faults.hanging(Op::WriteResult), 1, "it is still on its way");
    assert_eq!(faults.calls(Op::WriteResult), 1, "the second one waits for its turn");
    faults.release();
    let storage = store.connect(env()).await.unwrap();
    let done = async {
        loop {
            let info = storage.task_info(&info.queue, &info.id).await.unwrap();
            if info.state == TaskState::Completed {
                return info;
            }
            sleep(SECOND / 10).await;
        }
    };
    let done = timeout(60 * SECOND, done).await.unwrap();
    assert_eq!(done.result.as_deref(), Some(&b"second"[..]));
    system.shutdown().await;
}
