//! The command: measures the rows in rounds and shows the results.

use std::{
    collections::BTreeMap,
    fs,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use crate::{
    child::Program,
    measure::{Known, Programs, ROUND_TRIP, Sample, measure},
    peers::{self, Peer},
    plan::{Contestant, FULL_LOAD, Row, is_quick, rows},
    procfs,
    report::Results,
};

/// Measures Asynq for Rust beside its peers and the bare scripts, each on a Redis of its own.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
pub(crate) struct Options {
    /// Ours, Go and the bare scripts only, fewer rows and fewer tasks: about two minutes
    #[arg(long)]
    quick: bool,
    /// Measure only rows whose name contains this, or that are of the section; several, separated by commas
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Measure only contestants whose name contains this; several, separated by commas
    #[arg(long, value_name = "NAME")]
    contestants: Option<String>,
    /// Number of rounds, in each of which all contestants take their turn
    #[arg(long, value_name = "N")]
    pairs: Option<usize>,
    /// Begin no round that would not end within so many minutes
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables to this file, in Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Measure nothing: show the figures of this file, which `--json` wrote
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Divide all numbers of tasks by this
    #[arg(long, value_name = "N", default_value_t = 1)]
    divide: u64,
    /// Show the rows, and measure nothing
    #[arg(long)]
    list: bool,
}

/// Rounds of a full run and of a quick one.
const PAIRS: usize = 5;
const QUICK_PAIRS: usize = 1;

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(file) = &options.from {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        return show(&serde_json::from_str(&text)?, options);
    }
    let rows = selected(options);
    if options.list {
        let mut out = std::io::stdout().lock();
        for row in &rows {
            let names: Vec<String> = row.contestants.iter().map(|contestant| contestant.name()).collect();
            // A reader that has seen enough, such as `head`, is no error.
            let _ = writeln!(out, "{:<24} {:<44} {}", row.id, row.title, names.join(", "));
        }
        return Ok(());
    }
    ensure!(!rows.is_empty(), "no row has such a name: `--list` shows them");
    let own = std::env::current_exe().context("the path of this program")?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .context("a target directory")?
        .to_owned();
    let mut results = Results::default();
    let peers = build_peers(&rows, &target, &mut results);
    let programs = Programs {
        own: Program {
            path: own,
            words: Vec::new(),
        },
        peers,
    };
    results.about = about(options);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(rounds(&rows, options, &programs, &mut results));
    show(&results, options)?;
    let failures: usize = results.lines.iter().map(|line| line.failures.len()).sum();
    ensure!(failures == 0, "{failures} measurements failed");
    Ok(())
}

/// The rows that are asked for.
fn selected(options: &Options) -> Vec<Row> {
    let matches = |patterns: &Option<String>, names: &[&str]| {
        let mut patterns = patterns.iter().flat_map(|patterns| patterns.split(','));
        let contains = |name: &&str, pattern: &str| name.to_lowercase().contains(&pattern.to_lowercase());
        patterns.any(|pattern| names.iter().any(|name| contains(name, pattern)))
    };
    let mut rows = rows(options.quick);
    rows.retain(|row| options.only.is_none() || matches(&options.only, &[&row.id, row.section]));
    for row in &mut rows {
        if options.contestants.is_some() {
            row.contestants
                .retain(|contestant| matches(&options.contestants, &[&contestant.name()]));
        } else if options.quick {
            row.contestants.retain(|contestant| is_quick(*contestant));
        }
        row.params.n = row.params.n.div_ceil(options.divide.max(1));
        row.few = row.few.div_ceil(options.divide.max(1));
        row.fill = row.fill.div_ceil(options.divide.max(1));
    }
    rows.retain(|row| !row.contestants.is_empty());
    rows
}

/// Builds the peers that some row has.
fn build_peers(rows: &[Row], target: &Path, results: &mut Results) -> BTreeMap<Peer, Program> {
    let mut programs = BTreeMap::new();
    for peer in peers::ALL {
        if !rows
            .iter()
            .any(|row| row.contestants.contains(&Contestant::Peer(*peer)))
        {
            continue;
        }
        eprintln!("building {}", peer.name());
        match runs_on(*peer).and_then(|()| peer.build(target)) {
            Ok(program) => {
                programs.insert(*peer, program);
            }
            Err(reason) => {
                eprintln!("{} is absent: {reason:#}", peer.name());
                results.absent.push((peer.name().to_owned(), format!("{reason:#}")));
            }
        }
    }
    programs
}

/// Makes sure that Redis has the commands of a peer.
fn runs_on(peer: Peer) -> Result<()> {
    let printed = redis_printed();
    let (major, minor) = peer.oldest_redis();
    ensure!(
        peers::redis_version(&printed).is_none_or(|version| version >= (major, minor)),
        "it needs Redis {major}.{minor} or newer, in place of {printed}"
    );
    Ok(())
}

/// Measures all rows once a round, and in each row all contestants in turn.
async fn rounds(rows: &[Row], options: &Options, programs: &Programs, results: &mut Results) {
    let pairs = options.pairs.unwrap_or(if options.quick { QUICK_PAIRS } else { PAIRS });
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    for pair in 1..=pairs {
        let limit = options
            .minutes
            .map(|minutes| Duration::from_secs_f64(minutes.max(0.0) * 60.0));
        if pair > 1 && limit.is_some_and(|limit| began.elapsed() + longest > limit) {
            eprintln!("no round {pair} of {pairs}: it would take too long");
            break;
        }
        let round = Instant::now();
        for row in rows.iter().filter(|row| pair <= row.most) {
            for contestant in &row.contestants {
                if let Contestant::Peer(peer) = contestant
                    && !programs.peers.contains_key(peer)
                {
                    continue;
                }
                progress(pair, pairs, row, *contestant, began);
                let known = Known {
                    batch: results.known(&row.id, Contestant::OURS, Sample::batch),
                    full_load: results.known(FULL_LOAD, *contestant, Sample::rate),
                };
                let measured = measure(row, *contestant, programs, known).await;
                let line = results.line(row, *contestant);
                match measured {
                    Ok(sample) => line.samples.push(Sample { pair, ..sample }),
                    Err(error) => {
                        eprintln!("\n{} by {}: {error:#}", row.id, contestant.name());
                        line.failures.push(format!("{error:#}"));
                    }
                }
            }
        }
        longest = longest.max(round.elapsed());
    }
    eprintln!("\nmeasured for {:.1} minutes", began.elapsed().as_secs_f64() / 60.0);
}

/// Shows what is measured now, over what was shown before where that can be done.
fn progress(pair: usize, pairs: usize, row: &Row, contestant: Contestant, began: Instant) {
    let seconds = began.elapsed().as_secs();
    let line = format!(
        "{:>3}:{:02} round {pair} of {pairs}: {} by {}",
        seconds / 60,
        seconds % 60,
        row.id,
        contestant.name()
    );
    let mut errors = std::io::stderr().lock();
    let _ = if errors.is_terminal() {
        write!(errors, "\r{line:<76}").and_then(|()| errors.flush())
    } else {
        writeln!(errors, "{line}")
    };
}

/// Text that a program prints.
fn says(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|error| format!("{program}: {error}"))
}

/// Text that the Redis that is measured prints as its version.
fn redis_printed() -> String {
    let server = std::env::var("ASYNQ_REDIS_SERVER").ok().filter(|name| !name.is_empty());
    says(server.as_deref().unwrap_or("redis-server"), &["--version"])
}

/// The machine, versions and the command.
fn about(options: &Options) -> Vec<(String, String)> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let sources = env!("CARGO_MANIFEST_DIR");
    let words = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let mut about = vec![
        (
            "when".to_owned(),
            chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
        ),
        (
            "command".to_owned(),
            format!("cargo xtask bench {words}").trim().to_owned(),
        ),
        ("machine".to_owned(), format!("{cores} cores, {}", procfs::processor())),
        ("system".to_owned(), says("uname", &["-sr"])),
        (
            "commit".to_owned(),
            says("git", &["-C", sources, "describe", "--always", "--dirty"]),
        ),
        ("Redis".to_owned(), redis_printed()),
        ("Go".to_owned(), says("go", &["version"])),
        ("Rust".to_owned(), says("rustc", &["--version"])),
        ("round trip of the proxy".to_owned(), format!("{ROUND_TRIP:?} added")),
    ];
    if cfg!(debug_assertions) {
        about.push((
            "build".to_owned(),
            "without optimizations: the figures mean nothing".to_owned(),
        ));
    }
    if options.quick {
        about.push((
            "quick".to_owned(),
            "few tasks and rounds: to find large changes".to_owned(),
        ));
    }
    about
}

fn show(results: &Results, options: &Options) -> Result<()> {
    println!("{}", results.text());
    let files = [
        (&options.json, serde_json::to_string_pretty(results)?),
        (&options.markdown, results.markdown()),
    ];
    for (file, text) in files {
        if let Some(file) = file {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}
