//! The same command for several names.

use crate::{
    error::{CliError, Result},
    report,
};

/// Does something for each name of some `things`. All are tried. One error is returned as it is; of several names the
/// errors are reported, and the status of the first one is returned.
pub(super) async fn each(names: &[String], things: &str, mut act: impl AsyncFnMut(&str) -> Result<()>) -> Result<()> {
    let mut first = None;
    for name in names {
        match act(name).await {
            Err(error) if names.len() == 1 || error.reader_gone => return Err(error),
            Err(error) => {
                report(&error);
                first.get_or_insert(error.status);
            }
            Ok(()) => {}
        }
    }
    match first {
        None => Ok(()),
        Some(status) => Err(CliError {
            status,
            ..CliError::failure(format!("not all {things} could be handled"))
        }),
    }
}
