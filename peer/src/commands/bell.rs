//! The bell, and what some terminals make a notification of.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::engine::Me;
use crate::engine::event::Event;
use crate::ui::{Notifications, Output};

/// Between two calls: whoever writes a hundred times a second calls no louder than others.
const PAUSE: Duration = Duration::from_secs(1);

/// Calls for attention when somebody writes.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rang: Option<Instant>,
}

impl Bell {
    /// Rings if this is a message, and where somebody may hear it and wants to.
    ///
    /// # Errors
    /// As standard output says.
    pub(super) fn hear(&mut self, output: &Output, me: &Me, event: &Event) -> std::io::Result<()> {
        let Event::Received { from, message, .. } = event else { return Ok(()) };
        let is_heard = std::io::stdout().is_terminal() && !output.is_quiet() && !output.is_json();
        if !is_heard || self.rang.is_some_and(|rang| rang.elapsed() < PAUSE) {
            return Ok(());
        }
        self.rang = Some(Instant::now());
        if !me.profile.rings().unwrap_or(false) {
            return Ok(());
        }
        output.raw(&Notifications::here().call(from, &message.text))
    }
}
