//! `--watch`: a listing again and again.

use std::time::Duration;

use crate::{
    error::Result,
    output::{Output, begin_anew},
    report,
};

/// Runs a listing at each interval, until Ctrl-C. On a terminal each one takes the place of the former. An error is shown below
/// the last listing, and the next turn tries again.
///
/// # Errors
/// If the first turn fails, or nobody reads the output any more.
pub(crate) async fn repeat(interval: Duration, out: Output, mut run: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let mut turns = tokio::time::interval(interval);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut first = true;
    let mut last_error = String::new();
    // One wait for all turns: a Ctrl-C between two waits would be lost.
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            _ = &mut interrupted => return Ok(()),
            _ = turns.tick() => {}
        }
        if out.is_on_terminal() {
            begin_anew();
        }
        let turn = tokio::select! {
            _ = &mut interrupted => return Ok(()),
            turn = run() => turn,
        };
        match turn {
            Err(error) if first || error.reader_gone => return Err(error),
            Err(error) if error.message == last_error => {}
            Err(error) => {
                report(&error);
                last_error = error.message;
            }
            Ok(()) => {
                // A listing that is empty now has written nothing.
                out.text("")?;
                last_error.clear();
            }
        }
        first = false;
    }
}
