//! A bar for hashing what is to be shared.

use std::time::Instant;

use indicatif::MultiProgress;
use serde_json::json;
use shared::names::stand_in;

use super::Output;
use super::bar::Bar;
use super::bar_screen::bars_on_terminal;
use super::output::BarsOnTerminal;
use super::steps::Steps;
use super::text::size;
use crate::engine::share::ShareEvent;

/// Shows files being hashed.
#[derive(Debug)]
pub struct ShareBar {
    output: Output,
    shown: Option<Shown>,
    name: String,
    bytes: u64,
    to_hash: u64,
    steps: Steps,
}

/// The bar, and what it is drawn on; the bar ends first.
#[derive(Debug)]
struct Shown {
    bar: Bar,
    _terminal: BarsOnTerminal,
}

impl ShareBar {
    /// Nothing is shown yet.
    pub fn new(output: &Output) -> Self {
        let steps = Steps::new(Instant::now());
        Self { output: output.clone(), shown: None, name: String::new(), bytes: 0, to_hash: 0, steps }
    }

    /// Takes an event.
    ///
    /// # Errors
    /// As standard output says.
    pub fn show(&mut self, event: &ShareEvent<'_>) -> std::io::Result<()> {
        match event {
            ShareEvent::Found { to_hash, .. } => self.found(*to_hash),
            ShareEvent::Hashing { name, .. } => {
                self.name = stand_in::shown(name.as_str()).into_owned();
                if let Some(shown) = &self.shown {
                    shown.bar.set_label(&self.name);
                }
            }
            ShareEvent::Hashed(bytes) => self.hashed(*bytes),
            ShareEvent::Shared { share, .. } if self.output.is_json() => {
                let (name, hash) = (share.name.as_str(), share.hash.to_string());
                self.output.object("share", &json!({ "name": name, "size": share.id.size, "hash": hash }))?;
            }
            ShareEvent::Shared { .. } => {}
        }
        Ok(())
    }

    /// Takes the bar away.
    pub fn end(self) {
        drop(self.shown);
    }

    fn found(&mut self, to_hash: u64) {
        self.to_hash = to_hash;
        if !self.output.is_animated() || to_hash == 0 {
            return;
        }
        match &self.shown {
            Some(shown) => shown.bar.set_size(to_hash),
            None => {
                let bars = MultiProgress::with_draw_target(bars_on_terminal());
                let terminal = BarsOnTerminal::new(&bars);
                let bar = Bar::new(&bars, self.output.look(), &self.name, to_hash);
                bar.begin_at(self.bytes, Instant::now());
                self.shown = Some(Shown { bar, _terminal: terminal });
            }
        }
    }

    fn hashed(&mut self, bytes: u64) {
        self.bytes += bytes;
        let now = Instant::now();
        if let Some(shown) = &self.shown {
            shown.bar.set_bytes(self.bytes, now);
        }
        if self.output.is_stepwise()
            && let Some(percent) = self.steps.reach(self.bytes, self.to_hash, now)
        {
            self.output.note(&format!("{percent} %: {} of {} hashed", size(self.bytes), size(self.to_hash)));
        }
    }
}
