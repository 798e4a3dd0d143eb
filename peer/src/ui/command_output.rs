//! Standard output and standard error, and the capabilities of the terminal behind them.
//!
//! Everything printed goes through here, so that lines never break into a bar or a view that has the terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use indicatif::MultiProgress;
use localization::tr;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};
use shared::safe_text::{safe_json, safe_styled};

use super::{LinePriority, TerminalTheme};
use crate::sys::{ControlEchoGuard, is_stderr_journal, job_control};

/// The value of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` or `TERM=dumb` says otherwise.
    Auto,
    /// Also when the output is not a terminal.
    Always,
    /// Never.
    Never,
}

/// The command line's output options.
#[derive(Debug, Clone, Copy)]
pub struct OutputOptions {
    /// NDJSON on standard output instead of text.
    pub json: bool,
    /// Only data and errors.
    pub quiet: bool,
    /// Plain lines in sequence; nothing is redrawn.
    pub plain: bool,
    /// The value of `--color`.
    pub color: ColorChoice,
}

/// A handle to standard output and standard error. Cheap to clone.
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
    /// A JSON object printed by [`CommandOutput::close`].
    deferred: Mutex<Option<(String, Value)>>,
}

impl CommandOutput {
    /// Reads the terminal's properties and the environment once.
    pub fn new(options: OutputOptions) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = arguments::is_color_forbidden();
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        // A convention of programs used with screen readers.
        let accessible = std::env::var_os("ACCESSIBLE").is_some_and(|value| !value.is_empty() && value != "0");
        let plain = options.plain || accessible || dumb;
        let color = |terminal: bool| match options.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !plain && !no_color,
        };
        let options = OutputOptions { plain, ..options };
        // Bars go to standard error, so that standard output can be redirected.
        let is_shown = err && !options.quiet && !options.json;
        let (animated, stepwise) = (is_shown && !options.plain, is_shown && options.plain);
        let (color_out, color_err, last) = (color(out), color(err), Mutex::default());
        Self {
            settings: Arc::new(OutputSettings { options, color_out, color_err, animated, stepwise, deferred: last }),
        }
    }

    /// True if data is printed as NDJSON.
    pub fn is_json(&self) -> bool {
        self.settings.options.json
    }

    /// True if bars may be drawn on standard error.
    pub fn is_animated(&self) -> bool {
        self.settings.animated
    }

    /// True if progress is printed in steps, a line each.
    pub fn is_stepwise(&self) -> bool {
        self.settings.stepwise
    }

    /// True if nothing may be redrawn: no views, no bars.
    pub fn is_plain(&self) -> bool {
        self.settings.options.plain
    }

    /// True if notes are suppressed.
    pub fn is_quiet(&self) -> bool {
        self.settings.options.quiet
    }

    /// Returns the theme of a view on standard output.
    pub fn theme(&self) -> TerminalTheme {
        TerminalTheme::new(self.settings.color_out)
    }

    /// Prints a line of data, with control characters made visible so that it can't move the cursor. Fails with the I/O
    /// error of standard output; `BrokenPipe` if its reader is gone.
    pub fn print_data(&self, line: &str) -> io::Result<()> {
        self.print_line(&safe_styled(line))
    }

    fn print_line(&self, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()?;
        // The write went through, so the terminal doesn't stop this process now and SIGTERM can end it in order.
        job_control::clear_stopped();
        Ok(())
    }

    /// Writes control sequences for the terminal itself, unescaped. Fails as [`CommandOutput::print_data`].
    pub fn write_raw(&self, bytes: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes.as_bytes())?;
        out.flush()
    }

    /// Prints a JSON object of data: `{"v":1,"type":kind,…fields}`. Fails as [`CommandOutput::print_data`].
    pub fn print_object(&self, kind: &str, fields: &Value) -> io::Result<()> {
        let mut object = Map::new();
        object.insert("v".to_owned(), 1.into());
        object.insert("type".to_owned(), kind.into());
        if let Value::Object(fields) = fields {
            object.extend(fields.clone());
        }
        // JSON escapes C0 controls by itself; the rest (C1, bidi) is escaped too, as the line may be seen on
        // a terminal.
        self.print_line(&safe_json(Value::Object(object).to_string()))
    }

    /// Keeps a JSON object for [`CommandOutput::close`]: it is the last line, even after an error's object.
    pub fn defer_object(&self, kind: &str, fields: Value) {
        *self.deferred() = Some((kind.to_owned(), fields));
    }

    /// Prints the deferred object. Fails as [`CommandOutput::print_data`].
    pub fn close(&self) -> io::Result<()> {
        let last = self.deferred().take();
        last.map_or(Ok(()), |(kind, fields)| self.print_object(&kind, &fields))
    }

    fn deferred(&self) -> MutexGuard<'_, Option<(String, Value)>> {
        self.settings.deferred.lock()
    }

    /// Prints a line for people on standard error, unless `--quiet` is given.
    pub fn note(&self, line: &str) {
        if !self.settings.options.quiet {
            write_stderr_line(LinePriority::Info, line);
        }
    }

    /// Prints an error on standard error.
    pub fn error(&self, message: &str) {
        write_stderr_line(LinePriority::Error, &format!("{} {message}", self.label("1;31", &tr!("error:"))));
    }

    /// Prints a warning on standard error, even with `--quiet`.
    pub fn warning(&self, message: &str) {
        write_stderr_line(LinePriority::Warning, &format!("{} {message}", self.label("1;33", &tr!("warning:"))));
    }

    fn label(&self, style: &str, word: &str) -> String {
        if self.settings.color_err { format!("\u{1b}[{style}m{word}\u{1b}[0m") } else { word.to_owned() }
    }

    /// Prints a prompt on standard error, without a line end.
    pub fn prompt(&self, text: &str) {
        let mut err = io::stderr().lock();
        let _ = err.write_all(safe_styled(text).as_bytes()).and_then(|()| err.flush());
    }

    /// Returns `text` in dim style if standard output shows colour.
    pub fn dim(&self, text: &str) -> String {
        if self.settings.color_out { format!("\u{1b}[2m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Returns `text` in bold if standard output shows colour.
    pub fn bold(&self, text: &str) -> String {
        if self.settings.color_out { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The part of the program that draws on the terminal now.
#[derive(Debug)]
enum TerminalOwner {
    Free,
    /// A view; lines for standard error are held for it.
    View(Vec<String>),
    /// Bars, which are cleared while a line is printed and redrawn below it.
    Bars(MultiProgress),
}

static TERMINAL_OWNER: Mutex<TerminalOwner> = Mutex::new(TerminalOwner::Free);

fn terminal_owner() -> MutexGuard<'static, TerminalOwner> {
    TERMINAL_OWNER.lock()
}

/// Prints a line on standard error, or holds it for the view that has the terminal; control characters are made
/// visible. Deadlocks if called while bars are suspended.
pub(super) fn write_stderr_line(priority: LinePriority, line: &str) {
    let line = safe_styled(line);
    let line = if is_stderr_journal() { priority.mark(&line).into() } else { line };
    // A closed standard error has no reader left to inform.
    let write = || {
        let _ = writeln!(io::stderr().lock(), "{line}");
        job_control::clear_stopped();
    };
    // Still locked while the line is written, or a view could take the terminal in the middle of it.
    match &mut *terminal_owner() {
        TerminalOwner::View(held) => held.push(line.into_owned()),
        TerminalOwner::Bars(bars) => bars.suspend(write),
        TerminalOwner::Free => write(),
    }
}

/// Starts to hold lines for a view that takes the terminal.
pub(super) fn hold_stderr() {
    let mut terminal = terminal_owner();
    // A view that resumes keeps the lines held so far.
    if !matches!(*terminal, TerminalOwner::View(_)) {
        *terminal = TerminalOwner::View(Vec::new());
    }
}

/// Returns the lines held so far, and removes them.
pub(super) fn take_held_lines() -> Vec<String> {
    if let TerminalOwner::View(held) = &mut *terminal_owner() { std::mem::take(held) } else { Vec::new() }
}

/// Marks the terminal as free and prints the lines held so far.
pub(super) fn release_stderr() {
    // The lock is released first: printing takes it again.
    let had = std::mem::replace(&mut *terminal_owner(), TerminalOwner::Free);
    if let TerminalOwner::View(held) = had {
        for line in held {
            write_stderr_line(LinePriority::Info, &line);
        }
    }
}

/// Reserves the terminal for bars until it is dropped.
#[derive(Debug)]
pub(super) struct TerminalBarsGuard {
    /// An echoed `^C` behind a bar of full width would wrap into a row that is never cleared.
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

/// Standard error for the log: each drop prints one record, held while a view has the terminal.
#[derive(Debug)]
pub struct LogWriter {
    record: Vec<u8>,
    priority: LinePriority,
}

impl LogWriter {
    /// Creates a writer for one record of this priority.
    pub const fn new(priority: LinePriority) -> Self {
        Self { record: Vec::new(), priority }
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.record.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.record);
        if !text.is_empty() {
            write_stderr_line(self.priority, text.trim_end_matches('\n'));
        }
    }
}
