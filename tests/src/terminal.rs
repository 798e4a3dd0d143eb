//! A process in a pseudo-terminal.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::{Invocation, Outcome, PATIENCE, Process, Screen};

/// A process whose standard input, output and error are one terminal.
pub struct Terminal {
    process: Process,
    columns: u16,
    ours: File,
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
        let screen = Box::new(ours.try_clone().expect("a descriptor can be doubled"));
        let process = Process::watch_streams(what, child, Some(keyboard), Some(screen), None);
        Self { process, columns, ours }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.process.write(keys);
    }

    /// Waits until what is typed is no longer shown. No event tells that, so it is looked at again and again.
    ///
    /// # Panics
    /// When that doesn't come.
    #[track_caller]
    pub fn wait_until_secret(&self) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while tcgetattr(&self.ours).expect("a terminal").local_modes.contains(LocalModes::ECHO) {
            assert!(std::time::Instant::now() < deadline, "what is typed is shown all the time");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// What a person sees now.
    pub fn screen(&self) -> Screen {
        Screen::after(&self.process.said(), self.columns)
    }

    /// Waits until a person sees what `is_right` looks for.
    ///
    /// # Panics
    /// When it doesn't come.
    #[track_caller]
    pub fn wait_for_screen(&self, wanted: &str, is_right: impl Fn(&Screen) -> bool) -> Screen {
        self.process
            .wait_until(wanted, |said| Some(Screen::after(said, self.columns)).filter(|screen| is_right(screen)))
    }

    /// Waits until `text` stands on the screen.
    ///
    /// # Panics
    /// When it doesn't come.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> Screen {
        self.wait_for_screen(&format!("{text:?} on the screen"), |screen| screen.text().contains(text))
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
        let columns = self.columns;
        let outcome = self.process.finish();
        let screen = Screen::after(&outcome.out(), columns);
        (outcome, screen)
    }
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
