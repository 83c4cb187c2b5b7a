//! Measures Asynq for Rust beside its peers and the bare scripts. `cargo xtask bench` builds and runs it;
//! `docs/performance.md` says what is measured, and how.
//!
//! With `ours` or `bare` as the first word the program is a contestant, see [`mod@contestant`].

mod bare;
mod child;
mod contestant;
mod layout;
mod measure;
mod ours;
mod peers;
mod plan;
mod procfs;
mod proxy;
mod report;
mod run;
mod stats;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ended = match words.first().map(String::as_str) {
        Some(side @ ("ours" | "bare")) => contestant(side, &words[1..]),
        _ => run::run(&run::Options::parse()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn contestant(side: &str, words: &[String]) -> Result<()> {
    let [work, params] = words else {
        anyhow::bail!("usage: asynq-bench {side} WORK JSON")
    };
    let params = serde_json::from_str(params).context("the parameters")?;
    match side {
        "ours" => ours::run(work, params),
        _ => bare::run(work, &params),
    }
}
