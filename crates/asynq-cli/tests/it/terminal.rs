//! The program in a terminal: its screen as text, and keys for it.

use std::{
    io::{Read as _, Write},
    num::NonZero,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

use crate::support::{Fixture, PATIENCE};

/// The program `asynq` in a terminal of its own.
pub(crate) struct Terminal {
    screen: Arc<Screen>,
    keys: Box<dyn Write + Send>,
    child: Program,
    /// Closing it hangs up.
    master: Box<dyn MasterPty + Send>,
    reading: thread::JoinHandle<()>,
    /// The settings of the terminal before the program.
    settings: String,
}

/// The screen, with a signal for each change.
struct Screen {
    parser: Mutex<vt100::Parser>,
    changed: Condvar,
    /// The window is to be closed.
    closed: AtomicBool,
}

/// Time for which a wait goes on without a change of the screen.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Terminal {
    /// Starts the program with these arguments, after those that name the Redis, on a screen of that size.
    pub(crate) fn open(fixture: &Fixture, words: &[&str], columns: u16, rows: u16) -> Self {
        Self::open_with(fixture, words, &[], columns, rows)
    }

    /// [`open`](Self::open) with variables in the environment.
    pub(crate) fn open_with(fixture: &Fixture, words: &[&str], env: &[(&str, &str)], columns: u16, rows: u16) -> Self {
        let size = PtySize {
            rows,
            cols: columns,
            ..PtySize::default()
        };
        let pty = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_asynq"));
        command.env_clear();
        command.env("HOME", fixture.home.path());
        command.env("TERM", "xterm-256color");
        command.env("TZ", "UTC");
        for (name, value) in env {
            command.env(name, value);
        }
        command.cwd(fixture.home.path());
        command.args(["--uri", &fixture.redis.url()]);
        command.args(words);
        let settings = settings(&*pty.master);
        let child = pty.slave.spawn_command(command).unwrap();
        drop(pty.slave);
        let (height, width) = (NonZero::new(rows).unwrap(), NonZero::new(columns).unwrap());
        let screen = Arc::new(Screen {
            parser: Mutex::new(vt100::Parser::new(height, width, 0)),
            changed: Condvar::new(),
            closed: AtomicBool::new(false),
        });
        let (mut output, shown) = (pty.master.try_clone_reader().unwrap(), Arc::clone(&screen));
        let reading = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The reading ends with an error when the program has ended.
            while !shown.closed.load(Ordering::Relaxed)
                && let Ok(count @ 1..) = output.read(&mut bytes)
            {
                shown.parser.lock().unwrap().process(&bytes[..count]);
                shown.changed.notify_all();
            }
        });
        Self {
            screen,
            keys: pty.master.take_writer().unwrap(),
            child: Program(child),
            master: pty.master,
            reading,
            settings,
        }
    }

    /// The text on the screen, a line each, without blanks at the ends.
    pub(crate) fn text(&self) -> String {
        self.screen.parser.lock().unwrap().screen().contents()
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until the screen is as wanted, and returns it.
    ///
    /// # Panics
    /// If it is not after [`PATIENCE`].
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if is_there(&text) {
                return text;
            }
            assert!(Instant::now() < end, "not on the screen: {what}\n{text}");
            self.wait_for_change();
        }
    }

    /// Waits for a change of the screen, or a short time: the end of the program changes nothing.
    fn wait_for_change(&self) {
        let parser = self.screen.parser.lock().unwrap();
        drop(self.screen.changed.wait_timeout(parser, LOOK_AGAIN).unwrap());
    }

    /// Waits for a text on the screen.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Changes the size of the screen.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = PtySize {
            rows,
            cols: columns,
            ..PtySize::default()
        };
        let mut screen = self.screen.parser.lock().unwrap();
        screen.set_size(NonZero::new(rows).unwrap(), NonZero::new(columns).unwrap());
        self.master.resize(size).unwrap();
    }

    /// Writes over the screen, as another program would.
    pub(crate) fn scribble(&self) {
        let mut screen = self.screen.parser.lock().unwrap();
        screen.process(b"\x1b[2J\x1b[5;5Hscribbled");
    }

    /// Returns whether a colour is on the screen.
    pub(crate) fn has_colours(&self) -> bool {
        let parser = self.screen.parser.lock().unwrap();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        let mut cells = cells.filter_map(|(row, column)| screen.cell(row, column));
        cells.any(|cell| (cell.fgcolor(), cell.bgcolor()) != (vt100::Color::Default, vt100::Color::Default))
    }

    /// Sends SIGTERM to the program.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal, as the argument of `kill`, to the program.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.0.process_id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the program is stopped.
    ///
    /// # Panics
    /// If it is not after [`PATIENCE`].
    #[track_caller]
    pub(crate) fn wait_stopped(&self) {
        let id = self.child.0.process_id().unwrap().to_string();
        self.wait("a stop", |_| {
            let shown = std::process::Command::new("ps")
                .args(["-o", "stat=", "-p", &id])
                .output();
            String::from_utf8_lossy(&shown.unwrap().stdout).starts_with('T')
        });
    }

    /// Closes the window after these keys, which must change the screen, and waits for the end of the program.
    ///
    /// # Panics
    /// If the program does not end.
    #[track_caller]
    pub(crate) fn close(mut self, keys: &str) -> ExitStatus {
        self.screen.closed.store(true, Ordering::Relaxed);
        self.press(keys);
        let Self {
            screen,
            mut child,
            keys,
            master,
            reading,
            ..
        } = self;
        reading.join().unwrap();
        drop((keys, master));
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the program does not end");
            let parser = screen.parser.lock().unwrap();
            drop(screen.changed.wait_timeout(parser, LOOK_AGAIN).unwrap());
        }
    }

    /// Waits until the terminal is as it was before the program.
    ///
    /// # Panics
    /// If it is not after [`PATIENCE`].
    #[track_caller]
    pub(crate) fn wait_restored(&self) {
        assert_eq!(settings(&*self.master), self.settings);
        self.wait("the former screen", |_| {
            let parser = self.screen.parser.lock().unwrap();
            let screen = parser.screen();
            !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste()
        });
    }

    /// Waits for the end of the program, and returns its status.
    #[track_caller]
    pub(crate) fn end(&mut self) -> u32 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                return status.exit_code();
            }
            assert!(Instant::now() < end, "the program does not end\n{}", self.text());
            self.wait_for_change();
        }
    }
}

fn settings(master: &dyn MasterPty) -> String {
    format!("{:?}", master.get_termios().unwrap())
}

/// The program, which is ended with its terminal.
struct Program(Box<dyn Child + Send + Sync>);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
    }
}
