//! A scheduler of ours in a process of its own. Its output is `ready`, then `tick <Unix second> <task id>` for
//! each tick that it enqueued; it ends at the end of its input, and on TERM.

use std::{
    io::Write as _,
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use asynq::{
    error::{BoxError, Error, Result},
    redis::RedisConnectionType,
    scheduler::{Scheduler, SchedulerConfig, SchedulerHandle},
    task::Task,
};
use clap::Parser;
use tokio::io::{AsyncReadExt as _, stdin};

/// Runs a scheduler with one entry, for tasks of the type `periodic`.
#[derive(Debug, Parser)]
struct Args {
    /// The Redis, as a URL.
    #[arg(long)]
    redis: String,
    /// The cron spec.
    #[arg(long)]
    spec: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match schedule(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("asynq-interop-scheduler: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn schedule(args: Args) -> Result<(), BoxError> {
    let own: Arc<OnceLock<SchedulerHandle>> = Arc::default();
    let entries = Arc::clone(&own);
    let config = SchedulerConfig::new().post_enqueue(move |answer| {
        let prev = entries.get().and_then(|own| own.entries().first()?.prev);
        if let (Ok(info), Some(tick)) = (answer, prev) {
            say(&format!("tick {} {}", tick.timestamp(), info.id));
        }
    });
    let mut scheduler = Scheduler::new(RedisConnectionType::single(args.redis)?, config).await?;
    scheduler.register(&args.spec, Task::new("periodic", b"")?)?;
    if own.set(scheduler.handle()).is_err() {
        return Err("set before".into());
    }
    scheduler.start().await?;
    scheduler.ping().await?;
    say("ready");
    let system = scheduler.system().ok_or(Error::other("it has ended"))?.clone();
    let ended = async {
        let mut rest = Vec::new();
        stdin().read_to_end(&mut rest).await
    };
    tokio::select! {
        exit = system.run_until_signal() => drop(exit?),
        ended = ended => drop(ended?),
    }
    scheduler.shutdown().await;
    Ok(())
}

/// One write for each line. Nobody listens to a program that is about to end.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| stdout.flush());
}
