//! The command line: global flags and the tree of commands.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, Parser, Subcommand};
use tokio::sync::OnceCell;

use crate::{
    address::{Addresses, Redis},
    commands::{
        audit, bench, complete, context, cron, dash, doctor, findings, group, mcp, pages, queue, server, stats, task,
        top, tree, web,
    },
    error::{CliError, Result},
    go::duration_argument,
    hands::Hands,
    output::{Form, Output},
    session::Session,
    settings::{File, Target},
    watch,
};

/// Look at queues and tasks of Asynq, in Go and in Rust, and act on them.
#[derive(Debug, Parser)]
#[command(name = "asynq", version = concat!("version ", env!("CARGO_PKG_VERSION")), propagate_version = false, max_term_width = 100)]
#[command(
    after_help = "Exit statuses: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused, 5 no connection to Redis."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The flags that every command has.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    #[command(flatten)]
    connection: ConnectionFlags,
    #[command(flatten)]
    act: ActFlags,
    /// The form of the output.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "ASYNQ_OUTPUT",
        hide_env = true,
        help_heading = "Output"
    )]
    pub(crate) output: Form,
    /// Repeat a listing at this interval, until Ctrl-C. At least 100ms.
    #[arg(long, global = true, value_name = "DURATION", value_parser = watch_argument, help_heading = "Output")]
    watch: Option<Duration>,
    /// The session, once the command has connected.
    #[arg(skip)]
    session: Arc<OnceCell<Session>>,
}

/// Shortest interval of `--watch`.
const SHORTEST_WATCH: Duration = Duration::from_millis(100);

fn watch_argument(text: &str) -> Result<Duration, String> {
    match duration_argument(text)? {
        interval if interval < SHORTEST_WATCH => Err("an interval is at least 100ms".to_owned()),
        interval => Ok(interval),
    }
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
struct ConnectionFlags {
    /// Configuration file. Default: `.asynq.yaml`, `.yml`, `.json` or `.toml` in the home directory.
    #[arg(long, global = true, value_name = "FILE", env = "ASYNQ_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// Context of the configuration file.
    #[arg(short = 'c', long, global = true, value_name = "NAME", add = complete::contexts())]
    context: Option<String>,
    /// Redis as `host:port`, or as a URI: `redis://`, `rediss://`, `redis-socket://`, `redis-sentinel://`.
    /// Default: `127.0.0.1:6379`.
    #[arg(short, long, global = true)]
    uri: Option<String>,
    /// Number of the Redis database. Default: 0.
    #[arg(short = 'n', long, global = true, value_name = "NUMBER")]
    db: Option<u32>,
    /// User of Redis (ACL).
    #[arg(short = 'U', long, global = true)]
    username: Option<String>,
    /// Password of Redis. Other users of this machine can see it here; ASYNQ_PASSWORD hides it.
    #[arg(short, long, global = true, allow_hyphen_values = true)]
    password: Option<String>,
    /// Connect to a Redis Cluster.
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cluster: Option<bool>,
    /// Some nodes of the cluster, with commas. Default: `127.0.0.1:7000` to `:7005`.
    #[arg(
        long = "cluster_addrs",
        alias = "cluster-addrs",
        global = true,
        value_name = "ADDRESSES"
    )]
    cluster_addrs: Option<String>,
    /// Use TLS.
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls: Option<bool>,
    /// Use TLS, and expect this name in the certificate of the server.
    #[arg(long = "tls_server", alias = "tls-server", global = true, value_name = "NAME")]
    tls_server: Option<String>,
    /// Accept any certificate. Whoever stands between may read and change everything.
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure: Option<bool>,
    /// Longest time to connect.
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = duration_argument)]
    connect_timeout: Duration,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Acts")]
struct ActFlags {
    /// Confirm without a question.
    #[arg(short, long, global = true, env = "ASYNQ_YES", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    yes: bool,
    /// Reason for the act, for the audit trail.
    #[arg(long, global = true, value_name = "TEXT", env = "ASYNQ_REASON", hide_env = true)]
    reason: Option<String>,
    /// Name of the operator in the audit trail. Default: the user of this machine.
    #[arg(long, global = true, value_name = "NAME", env = "ASYNQ_ACTOR", hide_env = true)]
    actor: Option<String>,
    /// Refuse to change anything.
    #[arg(long, global = true, env = "ASYNQ_READ_ONLY", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    read_only: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at queues, pause and delete them.
    #[command(subcommand)]
    Queue(queue::Command),
    /// Look at tasks, find them and act on them.
    #[command(subcommand)]
    Task(Box<task::Command>),
    /// Look at servers.
    #[command(subcommand)]
    Server(server::Command),
    /// Look at periodic tasks.
    #[command(subcommand)]
    Cron(cron::Command),
    /// Look at groups.
    #[command(subcommand)]
    Group(group::Command),
    /// Show the numbers of all queues, of today, and of Redis.
    Stats(stats::Stats),
    /// Show what needs attention, and what to do about it.
    Findings(findings::Findings),
    /// Prove that the data of the queues fit together, and repair them.
    Doctor(doctor::Doctor),
    /// Show who changed what.
    Audit(audit::Audit),
    /// Show the task types by rate, failures and run time.
    Top(top::Top),
    /// Show the supervision trees of the running servers.
    Tree(tree::Tree),
    /// Look at everything on the whole screen.
    Dash(dash::Dash),
    /// Serve the inspector to language models, on stdin and stdout (Model Context Protocol).
    Mcp(mcp::Mcp),
    /// Serve the web server: a JSON API, metrics and health checks.
    Web(Box<web::Web>),
    /// Load a queue with tasks, drain it, and report the throughput.
    Bench(bench::Bench),
    /// Show the contexts of the configuration file.
    #[command(subcommand)]
    Context(context::Command),
    /// Print how to set up completions for a shell.
    Completions(complete::Completions),
    /// Write the manual pages.
    Man(pages::Man),
    /// Print the reference of all commands as Markdown.
    #[command(hide = true)]
    Markdown,
    /// Print the version.
    #[command(hide = true)]
    Version,
}

impl Global {
    /// Reads the configuration, and decides which Redis is meant.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let flags = &self.connection;
        let (file, path) = File::find(flags.config.as_deref())?;
        let given = Redis {
            uri: flags.uri.clone(),
            db: flags.db,
            username: flags.username.clone(),
            password: flags.password.clone(),
            cluster: flags.cluster,
            cluster_addrs: flags.cluster_addrs.clone().map(Addresses::Text),
            tls: flags.tls,
            tls_server: flags.tls_server.clone(),
            insecure: flags.insecure,
        };
        let target = Target::choose(given, flags.context.as_deref(), Redis::from_env()?, &file)?;
        Ok(Settings { file, path, target })
    }

    /// Returns what the user has given for acts on this target.
    pub(crate) fn hands(&self, target: &Target) -> Hands {
        let act = &self.act;
        Hands::new(act.yes, act.reason.clone(), act.read_only, act.actor.clone(), target)
    }

    /// Connects to the Redis that is meant. Later calls return the same session.
    pub(crate) async fn connect(&self) -> Result<Session> {
        let open = || async { self.connect_to(self.settings()?.target).await };
        self.session.get_or_try_init(open).await.cloned()
    }

    /// Connects to a Redis.
    pub(crate) async fn connect_to(&self, target: Target) -> Result<Session> {
        let hands = self.hands(&target);
        Session::open(target, hands, self.out(), self.connection.connect_timeout).await
    }

    pub(crate) fn out(&self) -> Output {
        Output { form: self.output }
    }
}

/// The configuration, and what it comes to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) file: File,
    /// The file that was read.
    pub(crate) path: Option<PathBuf>,
    pub(crate) target: Target,
}

impl Command {
    /// Carries out the command, again and again if it is watched.
    pub(crate) async fn run(self, global: Global) -> Result<()> {
        match global.watch {
            None => self.run_once(&global).await,
            Some(interval) if self.is_listing() => {
                watch::repeat(interval, global.out(), || self.run_once(&global)).await
            }
            Some(_) => Err(CliError::usage(
                "`--watch` is for commands that show something, and this is none",
            )),
        }
    }

    /// Returns whether the command only shows something, and ends by itself.
    fn is_listing(&self) -> bool {
        match self {
            Self::Queue(command) => command.is_listing(),
            Self::Task(command) => command.is_listing(),
            Self::Cron(command) => command.is_listing(),
            Self::Server(_)
            | Self::Group(_)
            | Self::Stats(_)
            | Self::Findings(_)
            | Self::Audit(_)
            | Self::Top(_)
            | Self::Tree(_)
            | Self::Context(_) => true,
            Self::Doctor(_)
            | Self::Dash(_)
            | Self::Mcp(_)
            | Self::Web(_)
            | Self::Bench(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Markdown
            | Self::Version => false,
        }
    }

    async fn run_once(&self, global: &Global) -> Result<()> {
        let ended = self.carry_out(global).await;
        match self.is_listing() {
            true => ended.map_err(CliError::of_reading),
            false => ended,
        }
    }

    async fn carry_out(&self, global: &Global) -> Result<()> {
        match self {
            Self::Queue(command) => command.run(global).await,
            Self::Task(command) => command.run(global).await,
            Self::Server(command) => command.run(global).await,
            Self::Cron(command) => command.run(global).await,
            Self::Group(command) => command.run(global).await,
            Self::Stats(command) => command.run(global).await,
            Self::Findings(command) => command.run(global).await,
            Self::Doctor(command) => command.run(global).await,
            Self::Audit(command) => command.run(global).await,
            Self::Top(command) => command.run(global).await,
            Self::Tree(command) => command.run(global).await,
            Self::Dash(command) => command.run(global).await,
            Self::Mcp(command) => command.run(global).await,
            Self::Web(command) => command.run(global).await,
            Self::Bench(command) => command.run(global).await,
            Self::Context(command) => command.run(global),
            Self::Completions(command) => command.run(global),
            Self::Man(command) => command.run(global),
            Self::Markdown => pages::markdown(global),
            Self::Version => Output::default().text(format!("asynq version {}\n", env!("CARGO_PKG_VERSION"))),
        }
    }
}
