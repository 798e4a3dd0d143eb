//! The bell, and what some terminals make a notification of.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use shared::UntrustedText;

use crate::engine::Me;
use crate::engine::chat::Standing;
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
        let words = UntrustedText::from("wants to talk");
        let (from, text) = match event {
            Event::Received { from, message, .. } => (from, &message.text),
            // It came behind what they wrote.
            Event::Request { from } => (from, &words),
            _ => return Ok(()),
        };
        let is_heard = std::io::stdout().is_terminal() && !output.is_quiet() && !output.is_json();
        if !is_heard || self.rang.is_some_and(|rang| rang.elapsed() < PAUSE) {
            return Ok(());
        }
        // Whoever isn't accepted calls once.
        let is_request = matches!(me.profile.standing(from), Ok(Standing::Request(_)));
        if is_request != matches!(event, Event::Request { .. }) {
            return Ok(());
        }
        self.rang = Some(Instant::now());
        if !me.profile.rings().unwrap_or(false) {
            return Ok(());
        }
        output.raw(&Notifications::here().call(from, text))
    }
}
