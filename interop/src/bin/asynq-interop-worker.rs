//! A server of ours in a process of its own, which speaks the lines of the Go program's `serve`: see
//! `interop/go/README.md`. Its output is `ready`, `start`, `end`, `stopped` and `closed`; it ends at `shutdown`
//! on its input, at the end of that, and on TERM.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use asynq::{
    AsynqSystem, Exit, Result, RetryDelay, ServerConfig, Task,
    error::{BoxError, Error},
    redis::RedisConnectionType,
};
use asynq_interop::{GoEvent, is_failure, obey};
use clap::Parser;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Stdout, stdin, stdout},
    sync::{Mutex, watch},
    time::sleep,
};
use tracing::Level;

/// Runs an `AsynqSystem` whose handler does what the payload says. All times are in milliseconds.
#[derive(Debug, Parser)]
struct Args {
    /// The Redis, as a URL.
    #[arg(long)]
    redis: RedisUrl,
    /// The queues and their priorities, as a JSON object.
    #[arg(long)]
    queues: Option<Queues>,
    /// Strict priority.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value_t)]
    strict: bool,
    /// Number of tasks that run at once.
    #[arg(long)]
    concurrency: Option<usize>,
    /// The pause when all queues are empty and Redis cannot wake us.
    #[arg(long)]
    task_check_interval: Option<Millis>,
    /// Interval at which due tasks are looked for.
    #[arg(long)]
    delayed_check_interval: Option<Millis>,
    /// Time for which running tasks may go on after a shutdown began.
    #[arg(long)]
    shutdown_timeout: Option<Millis>,
    /// The same delay before every retry.
    #[arg(long)]
    retry_delay_ms: Option<Millis>,
    /// Interval at which tasks of dead servers are looked for.
    #[arg(long)]
    recoverer_interval: Option<Millis>,
    /// Time for which a lease must have been over before its task is taken from its owner.
    #[arg(long)]
    recover_grace: Option<Millis>,
    /// Interval at which leases are extended.
    #[arg(long)]
    heartbeat_interval: Option<Millis>,
    /// Level of the log on standard error.
    #[arg(long, default_value_t = Level::ERROR)]
    log_level: Level,
}

/// A URL that has been looked at: a mistake is one of the command line.
#[derive(Clone, Debug)]
struct RedisUrl(RedisConnectionType);

impl std::str::FromStr for RedisUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        RedisConnectionType::single(url).map(Self)
    }
}

#[derive(Clone, Debug)]
struct Queues(BTreeMap<String, i32>);

impl std::str::FromStr for Queues {
    type Err = serde_json::Error;

    fn from_str(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json).map(Self)
    }
}

#[derive(Clone, Copy, Debug)]
struct Millis(Duration);

impl std::str::FromStr for Millis {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl Args {
    fn config(&self) -> ServerConfig {
        /// Changes what was given, and leaves the defaults.
        fn given<T: Clone>(
            config: ServerConfig,
            value: &Option<T>,
            set: impl FnOnce(ServerConfig, T) -> ServerConfig,
        ) -> ServerConfig {
            match value.clone() {
                Some(value) => set(config, value),
                None => config,
            }
        }
        let config = ServerConfig::new()
            .strict_priority(self.strict)
            .is_failure(is_failure());
        let config = given(config, &self.queues, |config, Queues(queues)| config.queues(queues));
        let config = given(config, &self.concurrency, ServerConfig::concurrency);
        let config = given(config, &self.retry_delay_ms, |config, Millis(delay)| {
            config.retry_delay(RetryDelay::new(move |_, _, _| delay))
        });
        type Setter = fn(ServerConfig, Duration) -> ServerConfig;
        let times: [(_, Setter); 6] = [
            (self.task_check_interval, ServerConfig::task_check_interval),
            (self.delayed_check_interval, ServerConfig::delayed_task_check_interval),
            (self.shutdown_timeout, ServerConfig::shutdown_timeout),
            (self.recoverer_interval, ServerConfig::recoverer_interval),
            (self.recover_grace, ServerConfig::recover_grace),
            (self.heartbeat_interval, ServerConfig::heartbeat_interval),
        ];
        times.into_iter().fold(config, |config, (time, set)| {
            given(config, &time, |config, Millis(time)| set(config, time))
        })
    }
}

/// The standard output, a line for each event.
#[derive(Debug)]
struct Teller(Mutex<Stdout>);

impl Teller {
    /// Returns when the line is written: what the handler does next comes after it, even for a reader who
    /// outlives this process. Safe to give up: a line is written whole or not at all.
    async fn tell(&self, event: &GoEvent) -> Result<(), BoxError> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut stdout = self.0.lock().await;
        stdout.write_all(&line).await?;
        Ok(stdout.flush().await?)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_max_level(args.log_level)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match serve(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("asynq-interop-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: &Args) -> Result<(), BoxError> {
    let teller = Arc::new(Teller(Mutex::new(stdout())));
    // The line "ready" comes first.
    let (ready, is_ready) = watch::channel(false);
    let events = Arc::clone(&teller);
    let system = AsynqSystem::builder(args.redis.0.clone())
        .config(args.config())
        .handler(move |task: Task| {
            let (events, mut is_ready) = (Arc::clone(&events), is_ready.clone());
            async move {
                // An error means that this program is ending.
                let _ = is_ready.wait_for(|ready| *ready).await;
                let tell = |event: GoEvent| {
                    let events = Arc::clone(&events);
                    async move {
                        if let Err(error) = events.tell(&event).await {
                            tracing::error!(%error, "nobody listens");
                        }
                    }
                };
                obey(&task, tell).await
            }
        })
        .spawn()
        .await?;
    system.ping().await?;
    visible(&system).await?;
    let hear = async {
        teller.tell(&GoEvent::Ready).await?;
        ready.send_replace(true);
        obey_lines(&system, &teller).await
    };
    let exit = tokio::select! {
        // Signals are listened for before anybody is told that we are ready.
        biased;
        exit = system.run_until_signal() => exit?,
        heard = hear => {
            let exit = system.shutdown().await;
            heard?;
            exit
        }
    };
    match exit {
        Exit::Stopped => teller.tell(&GoEvent::Closed).await,
        Exit::Failed(error) => Err(error.to_string().into()),
        other => Err(format!("the system ended as {other:?}").into()),
    }
}

/// Waits until other processes can see the server and cancel its tasks; `spawn` does not.
async fn visible(system: &AsynqSystem) -> Result<(), Error> {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    loop {
        let tree = system.tree();
        let subscriber = tree.as_ref().and_then(|tree| tree.find(&["maintenance", "subscriber"]));
        let hears = subscriber.is_some_and(|node| node.note.as_deref() == Some("listening"));
        if hears
            && system
                .storage()
                .await?
                .servers()
                .await?
                .iter()
                .any(|server| server.pid == pid)
        {
            return Ok(());
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// Returns at `shutdown`, and at the end of the input.
async fn obey_lines(system: &AsynqSystem, teller: &Teller) -> Result<(), BoxError> {
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "stop" => {
                system.stop_fetching();
                teller.tell(&GoEvent::Stopped).await?;
            }
            "shutdown" => return Ok(()),
            other => eprintln!("asynq-interop-worker: unknown line {other:?}"),
        }
    }
    Ok(())
}
