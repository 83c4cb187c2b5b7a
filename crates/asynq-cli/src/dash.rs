//! The dashboard: everything on the whole screen.
//!
//! [`App`](app::App) is the state, which changes only by events and asks for reads and acts as values; `view` draws it. Both
//! know no terminal and no Redis. The loop here joins them: no key waits for Redis.

mod app;
mod fetch;
mod input;
mod keys;
mod model;
mod overlay;
mod pages;
#[cfg(test)]
mod sample;
mod terminal;
mod text;
mod view;

use std::{io::IsTerminal as _, time::Duration};

use chrono::Utc;

use self::{
    app::App,
    fetch::Fetcher,
    model::{Event, Request},
    terminal::{Screen, Signalled, Signals, TerminalEvents},
};
use crate::{
    cli::Global,
    error::{CliError, Result},
};

/// Interval at which durations on the screen are brought up to date, and a read without an answer is looked after.
const TICK: Duration = Duration::from_secs(1);

/// Most waiting events of the terminal that are carried out before the screen is drawn.
const MOST_AT_ONCE: usize = 256;

/// Returns the keys of the dashboard as text.
pub(crate) fn manual() -> String {
    keys::manual()
}

/// Shows the dashboard until the user leaves it.
///
/// # Errors
/// [`Status::Usage`](crate::error::Status::Usage) without a terminal; if Redis cannot be reached at the start; if the
/// terminal cannot be read or written.
pub(crate) async fn run(global: &Global, refresh: Duration) -> Result<()> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(
            CliError::usage("the dashboard needs a terminal, and stdin or stdout is none")
                .hint("`asynq stats --watch 2s` shows the numbers without one."),
        );
    }
    let settings = global.settings()?;
    let session = global.connect().await?;
    let contexts = settings.file.contexts.keys().cloned().collect();
    let mut app = App::new(model::Place::of(&session), contexts, refresh, Utc::now());
    let mut fetcher = Fetcher::new(session, global.clone(), settings.file);
    let mut signals = Signals::new()?;
    let mut screen = Screen::open()?;
    let mut events = TerminalEvents::listen();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (width, height) = screen.size()?;
    let mut requests = app.update(Event::Resized(width, height), Utc::now());
    // Whatever the terminal does: the reads and acts outlive it.
    let ended = async {
        let mut is_stopped = false;
        loop {
            for request in requests.drain(..) {
                match request {
                    Request::Quit => return Ok(()),
                    Request::Redraw => screen.clear()?,
                    Request::Fetch(fetch) => fetcher.start(fetch),
                }
            }
            if !is_stopped {
                screen.draw(|frame| view::draw(&app, frame))?;
            }
            let event = tokio::select! {
                signal = signals.next() => match signal {
                    Signalled::End => Event::Signalled,
                    Signalled::Stop => {
                        screen.leave();
                        is_stopped = true;
                        terminal::stop();
                        continue;
                    }
                    Signalled::Continue => {
                        screen.take_again()?;
                        is_stopped = false;
                        let (width, height) = screen.size()?;
                        Event::Resized(width, height)
                    }
                },
                event = events.next() => match event? {
                    Some(event) => event,
                    None => continue,
                },
                event = fetcher.next() => event,
                _ = ticks.tick() => Event::Tick,
            };
            requests = app.update(event, Utc::now());
            // Keys may come faster than a screen is drawn.
            for _ in 0..MOST_AT_ONCE {
                match events.waiting()? {
                    Some(event) => requests.extend(app.update(event, Utc::now())),
                    None => break,
                }
            }
        }
    }
    .await;
    let Err(error) = ended else { return Ok(()) };
    drop(screen);
    // A terminal that was closed says so by a signal too.
    let is_closed = app.is_leaving() || tokio::time::timeout(TICK, signals.ended()).await.is_ok();
    while app.acting.is_some() {
        tokio::select! {
            () = signals.ended() => break,
            event = fetcher.next() => drop(app.update(event, Utc::now())),
        }
    }
    match is_closed {
        true => Ok(()),
        false => Err(error),
    }
}
