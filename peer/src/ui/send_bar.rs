//! The bar of a send: how much of it its receiver has fetched.

use std::time::Instant;

use indicatif::MultiProgress;
use localization::tr;

use super::CommandOutput;
use super::bar_screen::bars_on_terminal;
use super::command_output::TerminalBarsGuard;
use super::human_format::format_size;
use super::progress_bar::ByteProgressBar;
use super::progress_steps::ProgressSteps;

/// The progress display of a send.
#[derive(Debug)]
pub struct SendBar {
    output: CommandOutput,
    label: String,
    size: u64,
    active: Option<ActiveSendBar>,
    steps: ProgressSteps,
}

/// The bar and its claim on the terminal. Fields are dropped in order: the bar must go first.
#[derive(Debug)]
struct ActiveSendBar {
    bar: ByteProgressBar,
    _terminal: TerminalBarsGuard,
}

impl SendBar {
    /// Creates a display that shows nothing yet.
    pub fn new(output: &CommandOutput, label: &str, size: u64) -> Self {
        let (output, label) = (output.clone(), label.to_owned());
        Self { output, label, size, active: None, steps: ProgressSteps::new(Instant::now()) }
    }

    /// Shows how many bytes are on the other side.
    pub fn set_bytes(&mut self, bytes: u64) {
        let now = Instant::now();
        if self.output.is_animated() {
            let active = self.active.get_or_insert_with(|| {
                let bars = MultiProgress::with_draw_target(bars_on_terminal());
                let terminal = TerminalBarsGuard::new(&bars);
                let bar = ByteProgressBar::new(&bars, self.output.theme(), &self.label, self.size);
                ActiveSendBar { bar, _terminal: terminal }
            });
            active.bar.set_bytes(bytes, now);
        } else if self.output.is_stepwise()
            && let Some(percent) = self.steps.next_step(bytes, self.size, now)
        {
            let (bytes, size) = (format_size(bytes), format_size(self.size));
            self.output.note(&tr!("{percent} %: {bytes} of {size} sent", percent, bytes, size));
        }
    }

    /// Removes the bar.
    pub fn end(self) {
        drop(self.active);
    }
}
