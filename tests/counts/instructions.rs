//! Instructions that Redis takes for a task, as callgrind counts them; the same to some percent on each machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use asynq_core::{
    Connector as _, Storage, Task, TaskOptions,
    broker::{EnqueueRequest, Env, LeasedTask, Outcome, Settlement, Want},
    compose::compose,
    names::QueueName,
};
use asynq_redis::RedisConnectionType;
use asynq_testing::RedisServer;

/// Above the measured thousands of instructions of a task by as much: releases of Redis and compilers differ.
const SLACK: f64 = 1.10;

struct Counted {
    server: RedisServer,
    storage: Arc<dyn Storage>,
    counts: tempfile::TempDir,
    dumps: usize,
}

/// `None`, with a line that says why, where there is no valgrind.
async fn start() -> Option<Counted> {
    let runs = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--help").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !runs("valgrind") || !runs("vgdb") {
        println!("skipped: the instructions of Redis cannot be counted without valgrind and vgdb");
        return None;
    }
    let counts = tempfile::tempdir().unwrap();
    let dir = counts.path();
    let redis = std::env::var("ASYNQ_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let program = dir.join("redis-server");
    let text = format!(
        "#!/bin/sh\nexec valgrind --tool=callgrind --vgdb-prefix={dir}/vgdb --callgrind-out-file={dir}/counts \
         --log-file={dir}/log '{redis}' \"$@\"\n",
        dir = dir.display(),
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let server = RedisServer::builder().binary(program).args(["--hz", "1"]).start().await;
    let storage = RedisConnectionType::single(server.url())
        .unwrap()
        .connect(Env::default())
        .await
        .unwrap();
    Some(Counted {
        server,
        storage,
        counts,
        dumps: 0,
    })
}

fn requests(count: usize) -> Vec<Arc<EnqueueRequest>> {
    let task = Task::new("bench:noop", &[b'x'; 100]).unwrap();
    let options = TaskOptions::new();
    let made = (0..count).map(|_| Arc::new(compose(&task, &options, &Env::default()).unwrap()));
    made.collect()
}

impl Counted {
    /// Instructions since the last time.
    fn instructions(&mut self) -> f64 {
        let dir = self.counts.path();
        let mut dump = Command::new("vgdb");
        dump.arg(format!("--pid={}", self.server.pid().unwrap()));
        dump.arg(format!("--vgdb-prefix={}/vgdb", dir.display())).arg("dump");
        dump.stdout(Stdio::null()).stderr(Stdio::null());
        assert!(dump.status().unwrap().success());
        self.dumps += 1;
        summary(&dir.join(format!("counts.{}", self.dumps)))
    }

    async fn enqueue(&self, count: usize) {
        for answer in self.storage.enqueue(&requests(count)).await {
            answer.unwrap();
        }
    }

    /// Enqueues tasks with a lock each.
    async fn enqueue_unique(&self, count: usize) {
        let options = TaskOptions::new().unique_ttl(Duration::from_secs(3600));
        let request = |number: usize| {
            let task = Task::new("bench:unique", format!("{number:0100}").as_bytes()).unwrap();
            Arc::new(compose(&task, &options, &Env::default()).unwrap())
        };
        let requests: Vec<_> = (0..count).map(request).collect();
        for answer in self.storage.enqueue(&requests).await {
            answer.unwrap();
        }
    }

    /// Takes some tasks and ends them; whether there were fewer than one call takes.
    async fn exchange_all(&self) -> bool {
        let want = Want {
            queue: QueueName::default(),
            max: 200,
        };
        let taken = self.storage.exchange(&self.storage.begin(), &[], &[want]).await.leased;
        let is_last = taken.len() < 200;
        self.exchange(taken, 0).await;
        is_last
    }

    /// Ends what is held and takes as many.
    async fn exchange(&self, held: Vec<LeasedTask>, count: usize) -> Vec<LeasedTask> {
        let settle: Vec<_> = held
            .into_iter()
            .map(|task| Settlement {
                lease: task.lease,
                message: task.message,
                outcome: Outcome::Done { retain: true },
                run: None,
            })
            .collect();
        let want = Want {
            queue: QueueName::default(),
            max: u32::try_from(count).unwrap(),
        };
        let answer = self.storage.exchange(&self.storage.begin(), &settle, &[want]).await;
        assert!(answer.settled.iter().all(Result::is_ok));
        assert_eq!(answer.leased.len(), count);
        answer.leased
    }
}

fn summary(file: &Path) -> f64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("summary: "));
    line.unwrap().trim().parse().unwrap()
}

/// One server for all of them: it starts slowly.
#[tokio::test]
async fn redis_takes_no_more_instructions_for_a_task_than_it_did() {
    let _alone = crate::work::ALONE.lock().await;
    let Some(mut counted) = start().await else {
        return;
    };
    let mut costs = Vec::new();
    counted.enqueue(100).await;
    for (size, calls, limit) in [(1, 100, 58.0), (10, 20, 26.7), (100, 6, 24.5)] {
        counted.instructions();
        for _ in 0..calls {
            counted.enqueue(size).await;
        }
        costs.push(("enqueue", size, counted.instructions(), calls, limit));
    }
    counted.enqueue(2000).await;
    for (size, calls, limit) in [(5, 40, 83.7), (40, 10, 60.7), (200, 4, 58.6)] {
        let mut held = counted.exchange(Vec::new(), size).await;
        held = counted.exchange(held, size).await;
        counted.instructions();
        for _ in 0..calls {
            held = counted.exchange(held, size).await;
        }
        costs.push(("exchange", size, counted.instructions(), calls, limit));
        // Those at the end are left; they are few.
    }
    while !counted.exchange_all().await {}
    // They succeed without retention too, but not in the plain part of the script.
    counted.enqueue_unique(1000).await;
    let (size, calls) = (40, 20);
    let mut held = counted.exchange(Vec::new(), size).await;
    held = counted.exchange(held, size).await;
    counted.instructions();
    for _ in 0..calls {
        held = counted.exchange(held, size).await;
    }
    costs.push(("exchange of unique tasks", size, counted.instructions(), calls, 99.6));
    counted.storage.close().await;
    let mut over = Vec::new();
    for (name, size, instructions, calls, limit) in costs {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let each = instructions / (size * calls) as f64 / 1000.0;
        println!("{name} of {size}: {each:.1} thousand instructions for a task");
        if each > limit * SLACK {
            over.push(format!(
                "{name} of {size}: {each:.1}, the limit is {:.1}",
                limit * SLACK
            ));
        }
    }
    assert!(over.is_empty(), "{over:?}");
}
