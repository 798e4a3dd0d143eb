//! Forwarding of Ctrl-C to a view, when the terminal turns it into SIGINT.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::view_input::{InputAction, ViewInput};

/// The view that handles Ctrl-C, if any. While it listens, SIGINT doesn't end the process.
#[derive(Debug, Clone, Default)]
pub struct InterruptForwarder(Arc<Mutex<Option<mpsc::WeakSender<ViewInput>>>>);

impl InterruptForwarder {
    /// Forwards Ctrl-C as a key, as long as another owner of `keys` exists.
    pub(super) fn forward_to(&self, keys: &mpsc::Sender<ViewInput>) {
        // Weak: after the view has ended, Ctrl-C has to end the process again.
        *self.0.lock() = Some(keys.downgrade());
    }

    /// Forwards a Ctrl-C; returns false if no view listens.
    pub fn forward(&self) -> bool {
        let keys = self.0.lock();
        let keys = keys.as_ref().and_then(mpsc::WeakSender::upgrade);
        // A full queue means a view that hangs: then the signal ends the process as if there were none.
        keys.is_some_and(|keys| keys.try_send(ViewInput(InputAction::Interrupt)).is_ok())
    }
}
