//! A process that stood still while the answer to its take was on its way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use asynq_actors::{AsynqSystem, Exit};
use asynq_core::{Connector as _, QueueName, ServerConfig, Task};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};

use crate::env;

const TASKS: usize = 20;

async fn system(store: &MemoryStore, faults: &Faults, runs: &Arc<AtomicUsize>) -> AsynqSystem {
    let runs = Arc::clone(runs);
    AsynqSystem::builder(FaultyConnector::new(store.clone(), faults.clone()))
        .env(env())
        .config(ServerConfig::new().concurrency(TASKS))
        .handler(move |_: Task| {
            runs.fetch_add(1, Ordering::Relaxed);
            std::future::ready(asynq_core::Result::Ok(()))
        })
        .spawn()
        .await
        .unwrap()
}

/// Tasks without any retry: the first failure that is counted archives them.
#[tokio::test(start_paused = true)]
async fn an_answer_that_came_late_costs_no_task_its_run() {
    for (pause, another) in [5, 31, 32, 70, 200]
        .into_iter()
        .flat_map(|pause| [(pause, false), (pause, true)])
    {
        let (store, faults, runs) = (MemoryStore::new(), Faults::new(), Arc::new(AtomicUsize::new(0)));
        let paused = system(&store, &faults, &runs).await;
        faults.called(Op::Exchange, 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // As long as it stands still it neither reads nor recovers.
        for op in [Op::Exchange, Op::Expired, Op::ExtendLeases] {
            faults.always(op, Fault::HoldReply);
        }
        for _ in 0..TASKS {
            let task = Task::new("t", b"").unwrap().with_max_retry(0);
            let task = task.with_retention(Duration::from_secs(3600));
            paused.client().enqueue(task).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(runs.load(Ordering::Relaxed), 0);
        let other = match another {
            true => Some(system(&store, &Faults::new(), &runs).await),
            false => None,
        };
        tokio::time::sleep(Duration::from_secs(pause - 1)).await;
        faults.clear();
        faults.release();
        tokio::time::sleep(Duration::from_secs(130)).await;

        let look = store.connect(env()).await.unwrap();
        let info = look.queue_info(&QueueName::default()).await.unwrap();
        assert_eq!(
            (info.completed, info.archived),
            (TASKS as u64, 0),
            "{pause} s, {another}"
        );
        assert_eq!(info.failed_total, 0, "{pause} s, {another}: a failure was counted");
        assert_eq!(runs.load(Ordering::Relaxed), TASKS, "{pause} s, {another}: run once");
        for system in other.into_iter().chain([paused]) {
            assert_eq!(system.shutdown().await, Exit::Stopped);
        }
    }
}
