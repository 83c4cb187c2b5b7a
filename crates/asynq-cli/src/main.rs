//! The program `asynq`: looks at queues and tasks of Asynq, in Go and in Rust, and acts on them.

mod address;
mod cli;
mod commands;
mod dash;
mod error;
mod go;
mod hands;
mod interrupt;
mod mcp;
mod output;
mod redact;
mod session;
mod settings;
mod shown;
mod watch;

use std::{io::Write as _, process::ExitCode};

use anstyle::AnsiColor;
use clap::{CommandFactory as _, Parser as _};

use self::{cli::Cli, error::CliError};

fn main() -> ExitCode {
    // Asked by a shell for completions, it answers and ends here.
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and versions are errors too, with status 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(cli.command.run(cli.global)),
        Err(error) => Err(CliError::failure(format!("cannot start the runtime: {error}"))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.reader_gone => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            error.status.into()
        }
    }
}

/// Tells an error, and what to do about it. Nobody is left to tell if stderr is closed.
fn report(error: &CliError) {
    let red = AnsiColor::Red.on_default().bold();
    let mut stderr = anstream::stderr().lock();
    let _ = writeln!(stderr, "{red}error{red:#}: {}", output::lines(&error.message));
    if let Some(hint) = &error.hint {
        let _ = writeln!(stderr, "{}", output::lines(hint));
    }
}
