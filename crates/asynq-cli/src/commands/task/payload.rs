//! Payloads on the command line.

use std::{io::Read as _, path::PathBuf};

use clap::Args;

use crate::error::{CliError, Result};

/// A payload: a text, or the bytes of a file.
#[derive(Clone, Debug, Args)]
pub(crate) struct Payload {
    /// Payload of the task.
    #[arg(short = 'l', long, allow_hyphen_values = true, conflicts_with = "payload_file")]
    payload: Option<String>,
    /// File with the payload; `-` reads it from stdin.
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
}

impl Payload {
    /// Returns its bytes, if one is given.
    ///
    /// # Errors
    /// [`Status::Usage`](crate::error::Status::Usage) if the file cannot be read.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>> {
        let Some(file) = &self.payload_file else {
            return Ok(self.payload.clone().map(String::into_bytes));
        };
        let bytes = if file.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        } else {
            std::fs::read(file)
        };
        bytes
            .map(Some)
            .map_err(|error| CliError::usage(format!("cannot read the payload from {}: {error}", file.display())))
    }
}
