//! Ctrl-C where the terminal makes a signal of it and a view decides what it means.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::view_input::{InputAction, ViewInput};

/// The view that hears of Ctrl-C, if there is one: then it ends nothing by itself.
#[derive(Debug, Clone, Default)]
pub struct InterruptForwarder(Arc<Mutex<Option<mpsc::WeakSender<ViewInput>>>>);

impl InterruptForwarder {
    /// Has Ctrl-C told as a key, for as long as somebody else has the sender and listens.
    pub(super) fn forward_to(&self, keys: &mpsc::Sender<ViewInput>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys.downgrade());
    }

    /// Tells the view; false when there is none, or it listens no more.
    pub fn forward(&self) -> bool {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = keys.as_ref().and_then(mpsc::WeakSender::upgrade);
        keys.is_some_and(|keys| keys.try_send(ViewInput(InputAction::Interrupt)).is_ok())
    }
}
