//! A bar for hashing what is to be shared.

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;
use shared::safe_text::safe_line;

use super::Output;
use super::bar_style::style;
use crate::engine::share::ShareEvent;

/// Shows files being hashed.
#[derive(Debug)]
pub struct ShareBar {
    output: Output,
    bar: ProgressBar,
}

impl ShareBar {
    /// Nothing is shown yet.
    pub fn new(output: &Output) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden()).with_style(style(false));
        Self { output: output.clone(), bar }
    }

    /// Takes an event.
    ///
    /// # Errors
    /// As standard output says.
    pub fn show(&mut self, event: &ShareEvent<'_>) -> std::io::Result<()> {
        match event {
            ShareEvent::Found { to_hash, .. } => {
                if self.output.is_animated() && *to_hash > 0 {
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                self.bar.set_length(*to_hash);
            }
            ShareEvent::Hashing { name, .. } => self.bar.set_prefix(safe_line(name.as_str()).into_owned()),
            ShareEvent::Hashed(bytes) => self.bar.inc(*bytes),
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
        self.bar.finish_and_clear();
    }
}
