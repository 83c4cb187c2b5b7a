//! The queues of a shop, with something of everything: tasks of a Go producer and of ours in all states, servers of both, schedulers,
//! statistics of the past, an audit trail, and texts that would like to be HTML.

mod past;
mod payloads;
pub(crate) mod work;

use std::{collections::HashMap, sync::Arc, time::Duration};

use asynq::{
    AsynqSystem, Client, HandlerActorSpec, Inspector, ServerConfig, Task, TaskOptions, TaskState,
    inspector::Actor,
    redis::{RedisBroker, RedisConnectionType},
    scheduler::PeriodicTaskConfig,
};
use asynq_interop::{GoClient, GoScheduler, GoTask, ServerProcess};
use asynq_testing::RedisServer;
use asynq_web::Web;
use chrono::{TimeDelta, Utc};
use tokio::time::{Instant, sleep};

use crate::{
    browser::PATIENCE,
    site::{Site, users},
};

/// A queue of the Go producer whose name would run a script, if it were HTML.
pub(crate) const HOSTILE: &str = "<img src=x onerror=alert(1)>";

/// A text that would run a script, if it were HTML.
pub(crate) const SCRIPT: &str = "<script>alert('xss')</script><b>not bold</b>";

const HOUR: Duration = Duration::from_secs(3600);

/// The shop. All of it ends with its value.
pub(crate) struct Shop {
    pub(crate) inspector: Inspector,
    pub(crate) client: Client,
    _systems: Vec<AsynqSystem>,
    pub(crate) go_client: GoClient,
    _go_server: ServerProcess,
    _go_scheduler: GoScheduler,
    // After all that uses it.
    pub(crate) redis: RedisServer,
}

impl Shop {
    /// Opens it, and waits until its tasks are in the states that they stay in.
    pub(crate) async fn open() -> Self {
        let redis = RedisServer::start().await;
        let connection = || RedisConnectionType::single(redis.url()).unwrap();
        let client = Client::new(connection()).await.unwrap();
        let inspector = Inspector::connect(connection()).await.unwrap();
        past::write(&redis).await;

        let web = system(
            connection(),
            ServerConfig::new()
                .concurrency(10)
                .queues([("default", 6), ("payments", 3), ("images", 1)]),
        )
        .handler_actor(HandlerActorSpec::new("payment:", || (work::Cashier, ())).instances(2))
        .periodic(PeriodicTaskConfig::new(
            "@every 20s",
            task("cache:warm", r#"{"region":"eu"}"#),
        ))
        .periodic(
            PeriodicTaskConfig::new(
                "CRON_TZ=Europe/Berlin 30 4 * * *",
                task("report:build", r#"{"report":"sales","of":"yesterday"}"#),
            )
            .options(TaskOptions::new().queue("reports")),
        )
        .periodic(PeriodicTaskConfig::new(
            "0 9 * * 1-5",
            task("email:digest", r#"{"list":"weekdays"}"#).with_unique_ttl(HOUR),
        ))
        .spawn()
        .await
        .unwrap();
        let office = system(
            connection(),
            ServerConfig::new()
                .concurrency(4)
                .queues([("reports", 2), ("newsletter", 1)]),
        )
        .spawn()
        .await
        .unwrap();
        let go_server = ServerProcess::go(&redis.address())
            .queues([("inventory", 5), ("default", 1)])
            .concurrency(5)
            .start()
            .await;
        let mut go_scheduler = GoScheduler::start(&redis.address(), Duration::from_secs(2)).await;
        let sync = GoTask::new("inventory:sync")
            .payload(r#"{"warehouse":"north"}"#)
            .queue("inventory");
        // Registered twice, as by a deployment of two machines.
        for _ in 0..2 {
            go_scheduler.register("@every 1m", &sync).await;
        }

        let go_client = GoClient::start(&redis.address()).await;
        let mut shop = Self {
            inspector,
            client,
            _systems: vec![web, office],
            go_client,
            _go_server: go_server,
            _go_scheduler: go_scheduler,
            redis,
        };
        shop.act_before().await;
        shop.enqueue_ours().await;
        shop.enqueue_go().await;
        shop.settle().await;
        shop.act_after().await;
        shop.age().await;
        shop
    }

    /// Serves its pages, open to all.
    pub(crate) async fn site(&self) -> Site {
        self.site_with(|web| web).await
    }

    /// Serves its pages to users with passwords.
    pub(crate) async fn site_with_users(&self) -> Site {
        self.site_with(|web| web.authenticate(users())).await
    }

    /// Serves its pages with these settings.
    pub(crate) async fn site_with(&self, settings: impl FnOnce(Web) -> Web) -> Site {
        let connection = RedisConnectionType::single(self.redis.url()).unwrap();
        let broker = RedisBroker::new(connection).await.unwrap();
        Site::serve(settings(Web::of_redis(Arc::new(broker)))).await
    }

    /// Enqueues a task, which must be accepted.
    pub(crate) async fn enqueue(&self, task: Task, options: TaskOptions) -> String {
        let info = self.client.enqueue_with(task, options).await.unwrap();
        info.id.to_string()
    }

    /// Acts of operators on queues that have no tasks yet.
    async fn act_before(&self) {
        let options = || TaskOptions::new().process_in(HOUR).task_id("first");
        for queue in ["reports", "images"] {
            self.enqueue(task("report:build", "{}"), options().queue(queue)).await;
        }
        let inspector = self.acting_as("operator", "the warehouse moves this weekend");
        inspector.pause_queue("reports").await.unwrap();
        inspector.pause_queue("images").await.unwrap();
        inspector.unpause_queue("images").await.unwrap();
        for queue in ["reports", "images"] {
            inspector.delete_task(queue, "first").await.unwrap();
        }
    }

    async fn enqueue_ours(&self) {
        let none = TaskOptions::new;
        let kept = || none().retention(24 * HOUR);
        for number in 0..30 {
            let order = 48_100 + number;
            let id = |kind: &str| format!("{kind}-{order}");
            let receipt = payloads::receipt(order);
            self.enqueue(task("email:send", &receipt), kept().task_id(id("receipt")))
                .await;
            if number % 5 == 0 {
                let charge = task("payment:charge", &payloads::charge(order, "declined"));
                self.enqueue(charge, none().queue("payments").task_id(id("charge")))
                    .await;
            }
            if number % 3 == 0 {
                let charge = task("payment:charge", &payloads::charge(order, "ok"));
                self.enqueue(charge, kept().queue("payments").task_id(id("paid"))).await;
            }
            if number % 4 == 0 {
                let reminder = task("email:reminder", &receipt);
                let delay = Duration::from_secs(900 * (number + 1));
                self.enqueue(reminder, none().process_in(delay).task_id(id("reminder")))
                    .await;
            }
            let report = task("report:build", &format!(r#"{{"report":"stock","page":{number}}}"#));
            self.enqueue(report, none().queue("reports").task_id(id("report")))
                .await;
            for group in ["readers:eu", "readers:us", "<b>readers</b>"] {
                if number < 12 || group == "readers:eu" {
                    let news = task("newsletter:add", &payloads::reader(number));
                    self.enqueue(news, none().queue("newsletter").group(group)).await;
                }
            }
        }
        for number in 0..3 {
            let resize = task("image:resize", &payloads::image(number));
            let options = none().queue("images").task_id(format!("photo-{}", 7_310 + number));
            self.enqueue(resize, options.timeout(2 * HOUR)).await;
        }
        // It crashes its actor.
        let refund = task("payment:refund", &payloads::charge(48_117, "crash"));
        self.enqueue(refund, none().queue("payments").task_id("refund-48117").max_retry(10))
            .await;
        // Errors with HTML, archived at once.
        let broken = task("payment:charge", &payloads::charge(48_118, "html"))
            .with_header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .with_header("x-note", SCRIPT);
        self.enqueue(broken, none().queue("payments").task_id("charge-html").max_retry(0))
            .await;
        for (id, payload) in [
            ("exact-numbers", payloads::NUMBERS.as_bytes().to_vec()),
            ("message-pack", payloads::message_pack()),
            ("plain-text", payloads::TEXT.as_bytes().to_vec()),
            ("raw-bytes", payloads::bytes()),
            ("one-mebibyte", payloads::mebibyte()),
            ("no-payload", Vec::new()),
        ] {
            let import = Task::new("import:catalog", &payload).unwrap();
            self.enqueue(import, none().queue("imports").task_id(id)).await;
        }
        let unique = task("import:prices", r#"{"supplier":"acme"}"#).with_unique_ttl(6 * HOUR);
        self.enqueue(unique, none().queue("imports").task_id("unique-prices"))
            .await;
    }

    async fn enqueue_go(&mut self) {
        for number in 0..20 {
            let order = format!(r#"{{"do":"result","data":"reserved {number} items","warehouse":"north"}}"#);
            let reserve = GoTask::new("inventory:reserve").payload(order).queue("inventory");
            self.go_client
                .enqueue(&reserve.id(&format!("reserve-{number}")).retention_ms(3_600_000 * 24))
                .await;
        }
        for number in 0..6 {
            let failing =
                format!(r#"{{"do":"fail","error":"warehouse north: connection refused (attempt {number})"}}"#);
            let ship = GoTask::new("inventory:ship")
                .payload(failing)
                .queue("inventory")
                .max_retry(25);
            self.go_client.enqueue(&ship.id(&format!("ship-{number}"))).await;
        }
        for number in 0..40 {
            let index = GoTask::new("search:index").payload(format!(r#"{{"product":{number}}}"#));
            let index = index.queue("search-index").id(&format!("product-{number}"));
            self.go_client.enqueue(&index).await;
        }
        for (id, delay) in [("hostile", 0), ("hostile-later", 7_200_000)] {
            let headers = [("<i>header</i>", SCRIPT), ("tenant", "shop-eu")];
            let mut hostile = GoTask::new("<u>type</u>")
                .payload(format!(
                    r#"{{"html":"{}","price":12345678901234567890.123}}"#,
                    "<img src=x onerror=alert(2)>"
                ))
                .queue(HOSTILE)
                .id(id);
            for (name, value) in headers {
                hostile = hostile.header(name, value);
            }
            if delay > 0 {
                hostile = hostile.process_in_ms(delay);
            }
            self.go_client.enqueue(&hostile).await;
        }
    }

    /// Waits until the tasks are in the states that they stay in.
    async fn settle(&self) {
        let wanted = HashMap::from([
            (("default", TaskState::Completed), 30),
            (("payments", TaskState::Completed), 10),
            (("payments", TaskState::Retry), 7),
            (("payments", TaskState::Archived), 1),
            (("images", TaskState::Active), 3),
            (("inventory", TaskState::Completed), 20),
            (("inventory", TaskState::Retry), 6),
        ]);
        let deadline = Instant::now() + PATIENCE;
        let mut missing = wanted;
        while !missing.is_empty() {
            let mut still = HashMap::new();
            for ((queue, state), count) in missing {
                let listed = self.inspector.list_tasks(queue, state, 1, 100).await;
                if listed.map_or(0, |tasks| tasks.len()) < count {
                    still.insert((queue, state), count);
                }
            }
            missing = still;
            assert!(Instant::now() < deadline, "missing: {missing:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes some things old, since findings are about things that have been so for a while.
    async fn age(&self) {
        let mut redis = self.redis.client().await;
        let since = |ago: TimeDelta| Utc::now() - ago;
        for (queue, id, ago) in [
            ("imports", "exact-numbers", TimeDelta::minutes(47)),
            ("search-index", "product-0", TimeDelta::hours(5)),
            ("reports", "report-48100", TimeDelta::hours(3)),
            (HOSTILE, "hostile", TimeDelta::minutes(9)),
        ] {
            let nanos = since(ago).timestamp_nanos_opt().unwrap().to_string();
            let key = format!("asynq:{{{queue}}}:t:{id}");
            redis.ok(&["HSET", &key, "pending_since", &nanos]).await;
        }
        let paused = since(TimeDelta::hours(3)).timestamp().to_string();
        redis.ok(&["SET", "asynq:{reports}:paused", &paused]).await;
    }

    /// Acts of operators on tasks.
    async fn act_after(&self) {
        let inspector = self.acting_as("operator", "the bank is down until noon");
        for order in [48_100, 48_105] {
            inspector
                .archive_task("payments", &format!("charge-{order}"))
                .await
                .unwrap();
        }
        let inspector = self.acting_as("deploy", SCRIPT);
        inspector.run_task("default", "reminder-48100").await.unwrap();
        inspector.delete_task("reports", "report-48101").await.unwrap();
        let inspector = self.acting_as("admin", "");
        inspector
            .update_task_payload(
                "default",
                "reminder-48104",
                br#"{"order":48104,"to":"customer-48104@example.com","template":"reminder"}"#,
            )
            .await
            .unwrap();
    }

    fn acting_as(&self, name: &str, reason: &str) -> Inspector {
        self.inspector.acting_as(Actor::new(name).with_reason(reason)).unwrap()
    }
}

fn system(connection: RedisConnectionType, config: ServerConfig) -> asynq::AsynqSystemBuilder {
    AsynqSystem::builder(connection).config(config).handler(work::work)
}

fn task(kind: &str, payload: &str) -> Task {
    Task::new(kind, payload.as_bytes()).unwrap()
}
