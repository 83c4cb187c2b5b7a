//! The terminal: the screen, which is restored on every way out, and what the user does.

use std::{
    io,
    mem::ManuallyDrop,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::{
        cursor,
        event::{self, KeyEventKind},
        execute, terminal,
    },
    layout::Rect,
};
use tokio::sync::mpsc;

use super::model::Event;
use crate::error::{CliError, Result, with_causes};

fn failed(error: &io::Error) -> CliError {
    CliError::failure(format!("cannot use the terminal: {}", with_causes(error)))
}

/// The screen. Dropping it restores the terminal; so does a panic, before it writes its message.
///
/// The drop of ratatui's own would write to stderr, and panic, once the terminal has gone.
pub(crate) struct Screen(ManuallyDrop<DefaultTerminal>);

/// A panic has restored the terminal. Done twice, it would move the cursor back to the first line of the message.
static RESTORED: AtomicBool = AtomicBool::new(false);

impl Screen {
    pub(crate) fn open() -> Result<Self> {
        let opened = ratatui::try_init().map_err(|error| {
            ratatui::restore();
            failed(&error)
        })?;
        let screen = Self(ManuallyDrop::new(opened));
        // That of ratatui, which restores the rest and writes the message.
        let restore = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let _ = execute!(io::stdout(), event::DisableBracketedPaste, cursor::Show);
            RESTORED.store(true, Ordering::Relaxed);
            restore(panic);
        }));
        execute!(io::stdout(), event::EnableBracketedPaste).map_err(|error| failed(&error))?;
        Ok(screen)
    }

    /// Returns the width and the height.
    pub(crate) fn size(&self) -> Result<(u16, u16)> {
        let size = self.0.size().map_err(|error| failed(&error))?;
        Ok((size.width, size.height))
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.0.draw(draw).map(drop).map_err(|error| failed(&error))
    }

    /// Gives the terminal back for a time.
    pub(crate) fn leave(&mut self) {
        let _ = execute!(io::stdout(), event::DisableBracketedPaste, cursor::Show);
        let _ = ratatui::try_restore();
    }

    /// Takes the terminal again after [`leave`](Self::leave), or after another program had it.
    pub(crate) fn take_again(&mut self) -> Result<()> {
        terminal::enable_raw_mode().map_err(|error| failed(&error))?;
        execute!(
            io::stdout(),
            terminal::EnterAlternateScreen,
            event::EnableBracketedPaste
        )
        .map_err(|error| failed(&error))?;
        self.clear()
    }

    /// Forgets what the terminal shows.
    pub(crate) fn clear(&mut self) -> Result<()> {
        // `clear` would ask the terminal for the place of the cursor, whose answer the thread of the keys may take.
        let (width, height) = self.size()?;
        self.0
            .resize(Rect::new(0, 0, width, height))
            .map_err(|error| failed(&error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if RESTORED.load(Ordering::Relaxed) {
            return;
        }
        // Nobody is left to tell if the terminal has gone.
        let _ = execute!(io::stdout(), event::DisableBracketedPaste, cursor::Show);
        let _ = ratatui::try_restore();
    }
}

/// Interval at which the thread that reads the terminal looks whether it is still needed.
const POLL: Duration = Duration::from_millis(100);

/// The keys and other events of the terminal, read by a thread of its own, as a terminal cannot be read without waiting.
pub(crate) struct TerminalEvents {
    events: mpsc::UnboundedReceiver<io::Result<event::Event>>,
    ended: Arc<AtomicBool>,
}

impl TerminalEvents {
    pub(crate) fn listen() -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let ended = Arc::new(AtomicBool::new(false));
        let is_ended = Arc::clone(&ended);
        std::thread::spawn(move || {
            while !is_ended.load(Ordering::Relaxed) {
                let event = match event::poll(POLL) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let is_last = event.is_err();
                if sender.send(event).is_err() || is_last {
                    return;
                }
            }
        });
        Self { events, ended }
    }

    /// Waits for the next event; `None` for one without a meaning here.
    ///
    /// # Errors
    /// If the terminal cannot be read.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>> {
        match self.events.recv().await {
            Some(event) => Ok(meaning(event.map_err(|error| failed(&error))?)),
            None => Err(CliError::failure("the terminal has gone")),
        }
    }

    /// Returns the next event that has happened already.
    ///
    /// # Errors
    /// If the terminal cannot be read.
    pub(crate) fn waiting(&mut self) -> Result<Option<Event>> {
        while let Ok(event) = self.events.try_recv() {
            let event = meaning(event.map_err(|error| failed(&error))?);
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }
}

fn meaning(event: event::Event) -> Option<Event> {
    match event {
        event::Event::Key(key) if key.kind != KeyEventKind::Release => Some(Event::Key(key)),
        event::Event::Paste(text) => Some(Event::Pasted(text)),
        event::Event::Resize(width, height) => Some(Event::Resized(width, height)),
        _ => None,
    }
}

impl Drop for TerminalEvents {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The effect of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signalled {
    End,
    /// The program is to stop for a time.
    Stop,
    /// The program goes on after a stop.
    Continue,
}

/// Stops this program until it is told to go on.
#[cfg(unix)]
pub(crate) fn stop() {
    // It goes on at once if that fails.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
}

/// Does nothing: there is no such stop here.
#[cfg(not(unix))]
pub(crate) fn stop() {}

/// The signals that end, stop or continue the program.
#[cfg(unix)]
pub(crate) struct Signals([tokio::signal::unix::Signal; 5]);

#[cfg(unix)]
impl Signals {
    pub(crate) fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen =
            |kind| signal(kind).map_err(|error| CliError::failure(format!("cannot wait for signals: {error}")));
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
            listen(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))?,
            listen(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
        ]))
    }

    /// Waits for a signal.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next(&mut self) -> Signalled {
        let [interrupt, terminate, hangup, stop, go_on] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => Signalled::End,
            _ = terminate.recv() => Signalled::End,
            _ = hangup.recv() => Signalled::End,
            _ = stop.recv() => Signalled::Stop,
            _ = go_on.recv() => Signalled::Continue,
        }
    }

    /// Waits for a signal that ends the program.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn ended(&mut self) {
        while self.next().await != Signalled::End {}
    }
}

/// The signals that end the program.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self)
    }

    /// Waits for Ctrl-C from outside.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next(&mut self) -> Signalled {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signalled::End
    }

    /// Waits for a signal that ends the program.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn ended(&mut self) {
        self.next().await;
    }
}
