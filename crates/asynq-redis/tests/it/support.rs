//! A private server, a broker on it under a clock moved by hand, and a raw client.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    Clock, Connector as _, Entropy, Env, QueueName, SettleError, Storage, Task, TaskOptions,
    broker::{Exchanged, LeasedTask, Outcome, Settlement, Tick, Want},
    inspect::{Breach, Cursor},
    periodic::EntryKey,
};
use asynq_redis::RedisConnectionType;
use asynq_testing::{
    RedisServer, Resp, RespValue,
    request::{self, RequestBuilder},
};
use chrono::{DateTime, Utc};

pub(crate) const DONE: Outcome = Outcome::Done { retain: true };

pub(crate) struct Bench {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    pub(crate) client: Resp,
    pub(crate) server: RedisServer,
}

pub(crate) fn q() -> QueueName {
    request::queue("q")
}

pub(crate) fn key(suffix: &str) -> String {
    format!("asynq:{{q}}:{suffix}")
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::on(RedisServer::start().await).await
    }

    pub(crate) async fn on(server: RedisServer) -> Self {
        let clock = Clock::manual(DateTime::from_timestamp(Utc::now().timestamp(), 250_000_000).unwrap());
        let storage = connect(&server.url(), &clock, 1).await;
        Self {
            storage,
            clock,
            client: server.client().await,
            server,
        }
    }

    pub(crate) fn secs(&self) -> i64 {
        self.clock.now().timestamp()
    }

    pub(crate) fn after(&self, secs: i64) -> DateTime<Utc> {
        self.clock.now() + chrono::TimeDelta::seconds(secs)
    }

    pub(crate) fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// A raw command that must not fail.
    pub(crate) async fn raw(&mut self, words: &[&str]) -> RespValue {
        self.client.ok(words).await
    }

    /// A raw command that gives an integer.
    pub(crate) async fn raw_int(&mut self, words: &[&str]) -> i64 {
        self.raw(words).await.int()
    }

    /// The texts of a list of the queue, from its head.
    pub(crate) async fn list(&mut self, name: &str) -> Vec<String> {
        let items = self.raw(&["LRANGE", &key(name), "0", "-1"]).await.array();
        items.iter().map(RespValue::text).collect()
    }

    /// Microseconds that the server takes, at this moment, for seven thousand commands in a script: about
    /// five thousand where it has a processor to itself. What tests say about the server's work is measured by
    /// this, so that a slow or busy machine fails none. Statistics of commands begin anew.
    pub(crate) async fn yardstick(&mut self) -> u64 {
        const LOOP: &str = "for i = 1, 7000 do redis.call('HSET', KEYS[1], 'field', i) end
            redis.call('DEL', KEYS[1])";
        self.raw(&["CONFIG", "RESETSTAT"]).await;
        self.raw(&["EVAL", LOOP, "1", "yardstick"]).await;
        let info = self.raw(&["INFO", "commandstats"]).await.text();
        self.raw(&["CONFIG", "RESETSTAT"]).await;
        let eval = info
            .lines()
            .find_map(|line| line.strip_prefix("cmdstat_eval:calls=1,usec="));
        eval.unwrap().split(',').next().unwrap().parse().unwrap()
    }

    pub(crate) async fn enqueue(&self, requests: Vec<RequestBuilder>) {
        let batch: Vec<_> = requests.into_iter().map(|request| Arc::new(request.build())).collect();
        for answer in self.storage.enqueue(&batch).await {
            answer.unwrap();
        }
    }

    pub(crate) async fn enqueue_ids(&self, ids: &[&str]) {
        self.enqueue(ids.iter().map(|id| request::request("q", id)).collect())
            .await;
    }

    pub(crate) async fn exchange(&self, settle: Vec<Settlement>, max: u32) -> Exchanged {
        self.exchange_in(&q(), settle, max).await
    }

    pub(crate) async fn exchange_in(&self, queue: &QueueName, settle: Vec<Settlement>, max: u32) -> Exchanged {
        let want = if max == 0 {
            Vec::new()
        } else {
            vec![Want {
                queue: queue.clone(),
                max,
            }]
        };
        self.storage.exchange(&self.storage.begin(), &settle, &want).await
    }

    pub(crate) async fn take(&self, max: u32) -> Vec<LeasedTask> {
        let answer = self.exchange(Vec::new(), max).await;
        assert!(answer.failed.is_empty(), "{:?}", answer.failed);
        answer.leased
    }

    /// Takes the next task of a queue.
    pub(crate) async fn take_in(&self, name: &str) -> LeasedTask {
        self.exchange_in(&request::queue(name), Vec::new(), 1)
            .await
            .leased
            .remove(0)
    }

    pub(crate) async fn settle(&self, task: &LeasedTask, outcome: Outcome) -> Result<(), SettleError> {
        self.exchange_in(&task.lease.queue, vec![settlement(task, outcome)], 0)
            .await
            .settled
            .remove(0)
    }

    /// Writes an outcome that must be written.
    pub(crate) async fn settled(&self, task: &LeasedTask, outcome: Outcome) {
        self.settle(task, outcome).await.unwrap();
    }

    /// All that an audit finds.
    pub(crate) async fn audit(&self, queue: &QueueName) -> Vec<Breach> {
        asynq_testing::conformance::audit(&*self.storage, queue).await.unwrap()
    }

    /// One page of an audit after the other, so that pages are seen too.
    pub(crate) async fn audit_pages(&self, queue: &QueueName) -> usize {
        let (mut pages, mut cursor) = (0, Cursor::default());
        loop {
            pages += 1;
            match self.storage.audit(queue, cursor).await.unwrap().next {
                Some(next) => cursor = next,
                None => return pages,
            }
        }
    }
}

pub(crate) async fn connect(url: &str, clock: &Clock, seed: u64) -> Arc<dyn Storage> {
    let env = Env {
        clock: clock.clone(),
        entropy: Entropy::seeded(seed),
    };
    RedisConnectionType::single(url).unwrap().connect(env).await.unwrap()
}

/// The text of a script with its parts, to be run as another server would run it, or one that stops half-way.
pub(crate) fn script(name: &str, parts: &[&str]) -> String {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
    let parts = parts.iter().map(|part| dir.join(format!("include/{part}.lua")));
    let files = parts.chain([dir.join(format!("{name}.lua"))]);
    files
        .map(|file| std::fs::read_to_string(file).unwrap() + "\n")
        .collect()
}

/// A tick of one entry, so many seconds from now.
pub(crate) fn tick(bench: &Bench, secs: i64) -> Tick {
    let task = Task::without_payload("t").unwrap();
    Tick {
        entry: EntryKey::new("default", "* * * * *", "UTC", &task, &TaskOptions::new()),
        at: DateTime::from_timestamp(bench.secs() + secs, 0).unwrap(),
        gap: Duration::ZERO,
        keep: Duration::from_secs(3600),
        by: "s".into(),
        on_conflict: asynq_core::OnConflict::Skip,
        decide: true,
    }
}

pub(crate) fn settlement(task: &LeasedTask, outcome: Outcome) -> Settlement {
    Settlement {
        lease: task.lease.clone(),
        message: Arc::clone(&task.message),
        outcome,
        run: None,
    }
}

pub(crate) fn retry(at: DateTime<Utc>) -> Outcome {
    Outcome::Retry {
        at,
        error: "boom".into(),
        is_failure: true,
    }
}

pub(crate) fn archive() -> Outcome {
    Outcome::Archive { error: "boom".into() }
}

pub(crate) fn ids(tasks: &[LeasedTask]) -> Vec<&str> {
    tasks.iter().map(|task| task.message.id.as_str()).collect()
}
