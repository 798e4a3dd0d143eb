//! Ctrl-C where the terminal makes a signal of it and a view decides what it means.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::keys::{Key, Press};

/// The view that hears of Ctrl-C, if there is one: then it ends nothing by itself.
#[derive(Debug, Clone, Default)]
pub struct Interrupts(Arc<Mutex<Option<mpsc::WeakSender<Key>>>>);

impl Interrupts {
    /// Has Ctrl-C told as a key, for as long as somebody else has the sender and listens.
    pub(super) fn become_keys(&self, keys: &mpsc::Sender<Key>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys.downgrade());
    }

    /// Tells the view; false when there is none, or it listens no more.
    pub fn tell(&self) -> bool {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = keys.as_ref().and_then(mpsc::WeakSender::upgrade);
        keys.is_some_and(|keys| keys.try_send(Key(Press::Interrupt)).is_ok())
    }
}
