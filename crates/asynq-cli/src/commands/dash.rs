//! `asynq dash`.

use std::time::Duration;

use clap::Args;

use crate::{
    cli::Global,
    dash,
    error::{CliError, Result},
    go::duration_argument,
};

/// Shortest interval of `--refresh`, as in Go.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = dash::manual())]
pub(crate) struct Dash {
    /// Interval at which the numbers are read again. At least 1s.
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = duration_argument)]
    refresh: Duration,
}

impl Dash {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        if self.refresh < SHORTEST_REFRESH {
            return Err(CliError::usage("--refresh cannot be less than 1s"));
        }
        dash::run(global, self.refresh).await
    }
}
