//! Standard output and standard error, and what they can take.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::MultiProgress;
use serde_json::{Map, Value};
use shared::safe_text::{safe_json, safe_styled};

use super::TerminalTheme;
use crate::sys::{ControlEchoGuard, job_control};

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR or TERM=dumb says otherwise.
    Auto,
    /// Even off a terminal.
    Always,
    /// Not at all.
    Never,
}

/// What the user asked for.
#[derive(Debug, Clone, Copy)]
pub struct OutputOptions {
    /// NDJSON on standard output instead of text.
    pub json: bool,
    /// Only data and errors.
    pub quiet: bool,
    /// Plain lines, one after another: nothing is drawn again.
    pub plain: bool,
    /// When to use colour.
    pub color: ColorChoice,
}

/// Where text goes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    settings: Arc<OutputSettings>,
}

#[derive(Debug)]
struct OutputSettings {
    options: OutputOptions,
    color_out: bool,
    color_err: bool,
    animated: bool,
    stepwise: bool,
    /// An object that comes after everything else.
    deferred: Mutex<Option<(String, Value)>>,
}

impl CommandOutput {
    /// Looks at the terminal and the environment once.
    pub fn new(options: OutputOptions) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        // What people set who have their terminal read to them.
        let accessible = std::env::var_os("ACCESSIBLE").is_some_and(|value| !value.is_empty() && value != "0");
        let plain = options.plain || accessible || dumb;
        let color = |terminal: bool| match options.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !plain && !no_color,
        };
        let options = OutputOptions { plain, ..options };
        let is_shown = err && !options.quiet && !options.json;
        let (animated, stepwise) = (is_shown && !options.plain, is_shown && options.plain);
        let (color_out, color_err, last) = (color(out), color(err), Mutex::default());
        Self {
            settings: Arc::new(OutputSettings { options, color_out, color_err, animated, stepwise, deferred: last }),
        }
    }

    /// Whether data goes out as NDJSON.
    pub fn is_json(&self) -> bool {
        self.settings.options.json
    }

    /// Whether bars may move on standard error.
    pub fn is_animated(&self) -> bool {
        self.settings.animated
    }

    /// Whether progress is told in steps, a line each.
    pub fn is_stepwise(&self) -> bool {
        self.settings.stepwise
    }

    /// Whether nothing may be drawn again: no views, no bars.
    pub fn is_plain(&self) -> bool {
        self.settings.options.plain
    }

    /// Whether notes are wanted.
    pub fn is_quiet(&self) -> bool {
        self.settings.options.quiet
    }

    /// What a view on standard output may draw with.
    pub fn theme(&self) -> TerminalTheme {
        TerminalTheme::new(self.settings.color_out)
    }

    /// A line of data; whatever is in it, it moves nothing on a terminal.
    ///
    /// # Errors
    /// As standard output says; a closed pipe is `BrokenPipe`.
    pub fn print_data(&self, line: &str) -> io::Result<()> {
        self.print_line(&safe_styled(line))
    }

    fn print_line(&self, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()?;
        job_control::clear_stopped();
        Ok(())
    }

    /// What is for the terminal itself, not for its reader.
    ///
    /// # Errors
    /// As [`CommandOutput::print_data`].
    pub fn write_raw(&self, bytes: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes.as_bytes())?;
        out.flush()
    }

    /// A JSON object of data: `{"v":1,"type":kind,…fields}`.
    ///
    /// # Errors
    /// As [`CommandOutput::print_data`].
    pub fn print_object(&self, kind: &str, fields: &Value) -> io::Result<()> {
        let mut object = Map::new();
        object.insert("v".to_owned(), 1.into());
        object.insert("type".to_owned(), kind.into());
        if let Value::Object(fields) = fields {
            object.extend(fields.clone());
        }
        self.print_line(&safe_json(Value::Object(object).to_string()))
    }

    /// Keeps a JSON object for the end: nothing comes after it, not even what went wrong.
    pub fn defer_object(&self, kind: &str, fields: Value) {
        *self.deferred() = Some((kind.to_owned(), fields));
    }

    /// Says what was kept for the end.
    ///
    /// # Errors
    /// As [`CommandOutput::print_data`].
    pub fn close(&self) -> io::Result<()> {
        let last = self.deferred().take();
        last.map_or(Ok(()), |(kind, fields)| self.print_object(&kind, &fields))
    }

    fn deferred(&self) -> MutexGuard<'_, Option<(String, Value)>> {
        self.settings.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line for people on standard error, unless they want it quiet.
    pub fn note(&self, line: &str) {
        if !self.settings.options.quiet {
            write_stderr_line(line);
        }
    }

    /// An error for people on standard error.
    pub fn error(&self, message: &str) {
        let label = if self.settings.color_err { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
        write_stderr_line(&format!("{label} {message}"));
    }

    /// Something that went wrong and doesn't stop the command, even if it is to be quiet.
    pub fn warning(&self, message: &str) {
        let label = if self.settings.color_err { "\u{1b}[1;33mwarning:\u{1b}[0m" } else { "warning:" };
        write_stderr_line(&format!("{label} {message}"));
    }

    /// A prompt on standard error, without a line end.
    pub fn prompt(&self, text: &str) {
        let mut err = io::stderr().lock();
        let _ = err.write_all(safe_styled(text).as_bytes()).and_then(|()| err.flush());
    }

    /// `text` made dim where standard output shows colour.
    pub fn dim(&self, text: &str) -> String {
        if self.settings.color_out { format!("\u{1b}[2m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// `text` made bold where standard output shows colour.
    pub fn bold(&self, text: &str) -> String {
        if self.settings.color_out { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Who has the terminal.
#[derive(Debug)]
enum TerminalOwner {
    Free,
    /// A view: what standard error would have got is kept for it.
    View(Vec<String>),
    /// Bars, which make way for a line.
    Bars(MultiProgress),
}

static TERMINAL_OWNER: Mutex<TerminalOwner> = Mutex::new(TerminalOwner::Free);

fn terminal_owner() -> MutexGuard<'static, TerminalOwner> {
    TERMINAL_OWNER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line for standard error, or for the view that has the terminal; whatever is in it, it moves nothing there. Not to be
/// called while bars are suspended.
pub(super) fn write_stderr_line(line: &str) {
    let line = safe_styled(line);
    // Nobody is left to tell when standard error is closed.
    let write = || {
        let _ = writeln!(io::stderr().lock(), "{line}");
        job_control::clear_stopped();
    };
    match &mut *terminal_owner() {
        TerminalOwner::View(held) => held.push(line.into_owned()),
        TerminalOwner::Bars(bars) => bars.suspend(write),
        TerminalOwner::Free => write(),
    }
}

/// Holds back what is told: a view takes the terminal.
pub(super) fn hold_stderr() {
    let mut terminal = terminal_owner();
    if !matches!(*terminal, TerminalOwner::View(_)) {
        *terminal = TerminalOwner::View(Vec::new());
    }
}

/// What was held back so far.
pub(super) fn take_held_lines() -> Vec<String> {
    if let TerminalOwner::View(held) = &mut *terminal_owner() { std::mem::take(held) } else { Vec::new() }
}

/// The terminal is free again: what was held back is told.
pub(super) fn release_stderr() {
    let had = std::mem::replace(&mut *terminal_owner(), TerminalOwner::Free);
    if let TerminalOwner::View(held) = had {
        for line in held {
            write_stderr_line(&line);
        }
    }
}

/// Bars have the terminal until this is dropped.
#[derive(Debug)]
pub(super) struct TerminalBarsGuard {
    /// A `^C` behind a bar, which is as wide as the terminal, would take a line that is never taken away again.
    _no_echo: Option<ControlEchoGuard>,
}

impl TerminalBarsGuard {
    pub(super) fn new(bars: &MultiProgress) -> Self {
        *terminal_owner() = TerminalOwner::Bars(bars.clone());
        Self { _no_echo: ControlEchoGuard::suppress() }
    }
}

impl Drop for TerminalBarsGuard {
    fn drop(&mut self) {
        release_stderr();
    }
}

/// Standard error for the log: whole lines, held back while a view has the terminal.
#[derive(Debug, Default)]
pub struct LogWriter(Vec<u8>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        if !text.is_empty() {
            write_stderr_line(text.trim_end_matches('\n'));
        }
    }
}
