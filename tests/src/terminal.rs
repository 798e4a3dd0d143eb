//! A process in a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::{Invocation, Outcome, Process, Screen, poll_until};

/// A process whose standard input, output and error are one terminal.
pub struct Terminal {
    process: Process,
    screen: Arc<Mutex<Screen>>,
    ours: File,
    /// Whatever reads what the process prints ends with this.
    watched: OwnedFd,
}

/// What the process prints, shown on the screen on its way; what it asks the terminal is answered.
struct Shown {
    from: File,
    answers: File,
    /// Ends when nobody watches any more.
    watched: OwnedFd,
    screen: Arc<Mutex<Screen>>,
    /// The beginning of a character whose end has not come yet.
    begun: Vec<u8>,
}

impl Terminal {
    pub(crate) fn start(invocation: &Invocation, columns: u16, rows: u16) -> Self {
        let (ours, theirs) = open(columns, rows);
        let mut command = invocation.command_with_terminal();
        let stream = || Stdio::from(theirs.try_clone().expect("a descriptor can be doubled"));
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let what = format!("{invocation}   (terminal, {columns} columns)");
        let child = command.spawn().unwrap_or_else(|why| panic!("{what}: {why}"));
        // Both hold the other side open, and with it our reading side.
        drop((theirs, command));
        let keyboard = Box::new(ours.try_clone().expect("a descriptor can be doubled"));
        let double = || ours.try_clone().expect("a descriptor can be doubled");
        let screen = Arc::new(Mutex::new(Screen::new(columns, rows)));
        let (is_watched, watched) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("there are pipes left");
        let shown =
            Shown { from: double(), answers: double(), watched: is_watched, screen: screen.clone(), begun: Vec::new() };
        let process = Process::watch_streams(what, child, Some(keyboard), Some(Box::new(shown)), None);
        Self { process, screen, ours, watched }
    }

    /// Presses keys; their bytes need be no text.
    pub fn press(&mut self, keys: &(impl AsRef<[u8]> + ?Sized)) {
        self.process.write(keys);
    }

    /// Waits until what is typed is no longer shown.
    ///
    /// # Panics
    /// When that doesn't come.
    #[track_caller]
    pub fn wait_until_secret(&self) {
        let is_shown = || tcgetattr(&self.ours).expect("a terminal").local_modes.contains(LocalModes::ECHO);
        poll_until(|| (!is_shown()).then_some(()), || "what is typed is shown all the time".to_owned());
    }

    /// Gives the terminal another size.
    ///
    /// # Panics
    /// When the system doesn't want to.
    pub fn resize(&self, columns: u16, rows: u16) {
        // What comes from now on is drawn on a screen of that size.
        lock(&self.screen).resize(columns, rows);
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.ours, size).expect("it has a size");
    }

    /// Whether keys are shown and lines edited by the system, as a shell wants it.
    ///
    /// # Panics
    /// When it is no terminal.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.ours).expect("a terminal").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Waits until the terminal is as a shell wants it.
    ///
    /// # Panics
    /// When that doesn't come.
    #[track_caller]
    pub fn wait_until_cooked(&self) {
        poll_until(
            || self.is_cooked().then_some(()),
            || format!("the terminal stays raw\n{}\n{}", self.screen().visible(), self.process.threads()),
        );
    }

    /// What a person sees now.
    pub fn screen(&self) -> Screen {
        lock(&self.screen).clone()
    }

    /// Waits until a person sees what `is_right` looks for.
    ///
    /// # Panics
    /// When it doesn't come.
    #[track_caller]
    pub fn wait_for_screen(&self, wanted: &str, is_right: impl Fn(&Screen) -> bool) -> Screen {
        self.process.wait_until_elsewhere(wanted, || {
            let screen = lock(&self.screen);
            is_right(&screen).then(|| screen.clone())
        })
    }

    /// Waits until `text` stands on the screen.
    ///
    /// # Panics
    /// When it doesn't come.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> Screen {
        self.wait_for_screen(&format!("{text:?} on the screen"), |screen| screen.text().contains(text))
    }

    /// The window is closed, or the connection to it lost: nobody is on our side any more. Waits for the end of the
    /// process.
    ///
    /// # Panics
    /// When that doesn't come.
    #[track_caller]
    pub fn hang_up(self) -> Outcome {
        let Self { process, ours, watched, .. } = self;
        drop((ours, watched));
        process.finish()
    }

    /// The process in it.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Waits for the process's end; all it said is in `stdout`.
    ///
    /// # Panics
    /// When that doesn't come.
    #[track_caller]
    pub fn finish(self) -> (Outcome, Screen) {
        let outcome = self.process.finish();
        let screen = lock(&self.screen).clone();
        (outcome, screen)
    }
}

impl Read for Shown {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut ready = [PollFd::new(&self.from, PollFlags::IN), PollFd::new(&self.watched, PollFlags::IN)];
        while let Err(Errno::INTR) = poll(&mut ready, None) {}
        if ready[0].revents().is_empty() {
            return Ok(0);
        }
        let len = self.from.read(buffer)?;
        self.begun.extend_from_slice(&buffer[..len]);
        let whole = match std::str::from_utf8(&self.begun) {
            Ok(text) => text.len(),
            Err(why) if why.error_len().is_none() => why.valid_up_to(),
            Err(_) => self.begun.len(),
        };
        let text = String::from_utf8_lossy(&self.begun[..whole]).into_owned();
        self.begun.drain(..whole);
        let mut screen = lock(&self.screen);
        screen.feed(&text);
        for _ in 0..screen.take_questions() {
            write!(self.answers, "\u{1b}[{};{}R", screen.cursor_row() + 1, screen.cursor_column() + 1)?;
        }
        Ok(len)
    }
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(columns: u16, rows: u16) -> (File, OwnedFd) {
    let ours =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("there are terminals left");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("the terminal is ours");
    let name = ptsname(&ours, Vec::new()).expect("the terminal has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("the terminal opens");
    tcsetwinsize(&theirs, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
        .expect("it has a size");
    (ours.into(), theirs)
}
