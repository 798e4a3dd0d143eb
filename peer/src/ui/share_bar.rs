//! The progress bar of hashing files to be shared.

use std::time::Instant;

use indicatif::MultiProgress;
use localization::tr;
use serde_json::json;
use shared::names::name_encoding;

use super::CommandOutput;
use super::bar_screen::bars_on_terminal;
use super::command_output::TerminalBarsGuard;
use super::human_format::format_size;
use super::progress_bar::ByteProgressBar;
use super::progress_steps::ProgressSteps;
use crate::engine::share::ShareEvent;

/// The progress display of a share command.
#[derive(Debug)]
pub struct ShareBar {
    output: CommandOutput,
    active: Option<ActiveShareBar>,
    name: String,
    bytes: u64,
    to_hash: u64,
    steps: ProgressSteps,
}

/// The bar and its claim on the terminal. Fields are dropped in order: the bar must go first.
#[derive(Debug)]
struct ActiveShareBar {
    bar: ByteProgressBar,
    _terminal: TerminalBarsGuard,
}

impl ShareBar {
    /// Creates a display that shows nothing yet.
    pub fn new(output: &CommandOutput) -> Self {
        let steps = ProgressSteps::new(Instant::now());
        Self { output: output.clone(), active: None, name: String::new(), bytes: 0, to_hash: 0, steps }
    }

    /// Handles an event. Fails with the I/O error of standard output.
    pub fn handle_event(&mut self, event: &ShareEvent<'_>) -> std::io::Result<()> {
        match event {
            ShareEvent::Found { to_hash, .. } => self.found(*to_hash),
            ShareEvent::Hashing { name, .. } => {
                self.name = name_encoding::display_name(name.as_str()).into_owned();
                if let Some(shown) = &self.active {
                    shown.bar.set_label(&self.name);
                }
            }
            ShareEvent::Hashed(bytes) => self.hashed(*bytes),
            ShareEvent::Shared { share, .. } if self.output.is_json() => {
                let (name, hash) = (share.name.as_str(), share.hash.to_string());
                self.output
                    .print_object("share", &json!({ "name": name, "size": share.version.size, "hash": hash }))?;
            }
            ShareEvent::Shared { .. } => {}
        }
        Ok(())
    }

    /// Removes the bar.
    pub fn end(self) {
        drop(self.active);
    }

    fn found(&mut self, to_hash: u64) {
        self.to_hash = to_hash;
        // Files with a hash on record are not hashed again, so there may be nothing to show.
        if !self.output.is_animated() || to_hash == 0 {
            return;
        }
        match &self.active {
            Some(shown) => shown.bar.set_size(to_hash),
            None => {
                let bars = MultiProgress::with_draw_target(bars_on_terminal());
                let terminal = TerminalBarsGuard::new(&bars);
                let bar = ByteProgressBar::new(&bars, self.output.theme(), &self.name, to_hash);
                // What was hashed before the bar was there is no part of its rate.
                bar.reset_to(self.bytes, Instant::now());
                self.active = Some(ActiveShareBar { bar, _terminal: terminal });
            }
        }
    }

    fn hashed(&mut self, bytes: u64) {
        self.bytes += bytes;
        let now = Instant::now();
        if let Some(shown) = &self.active {
            shown.bar.set_bytes(self.bytes, now);
        }
        if self.output.is_stepwise()
            && let Some(percent) = self.steps.next_step(self.bytes, self.to_hash, now)
        {
            let (bytes, size) = (format_size(self.bytes), format_size(self.to_hash));
            self.output.note(&tr!("{percent} %: {bytes} of {size} hashed", percent, bytes, size));
        }
    }
}
