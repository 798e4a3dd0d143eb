//! How much memory is taken by texts that are on their way: those of lists that have changed while somebody is still
//! reading them, and those that were made for one asker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// The bytes of all counted texts that somebody has.
#[derive(Debug, Clone, Default)]
pub(super) struct Account(Arc<AtomicUsize>);

/// A text that may be counted, from some moment on until nobody has it any more.
#[derive(Debug)]
pub(super) struct Text {
    text: Box<[u8]>,
    counted_in: OnceLock<Account>,
}

struct Shared(Arc<Text>);

impl Account {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A text that is counted from its beginning.
    pub(super) fn counted(&self, text: Vec<u8>) -> Bytes {
        let (text, bytes) = Text::new(text);
        text.count_in(self);
        bytes
    }
}

impl Text {
    /// The text, not counted yet, and what everybody gets of it.
    pub(super) fn new(text: Vec<u8>) -> (Arc<Self>, Bytes) {
        let text = Arc::new(Self { text: text.into_boxed_slice(), counted_in: OnceLock::new() });
        (Arc::clone(&text), Bytes::from_owner(Shared(text)))
    }

    /// From now on it is counted; in one account only, and once.
    pub(super) fn count_in(&self, account: &Account) {
        if self.counted_in.get().is_none() && self.counted_in.set(account.clone()).is_ok() {
            account.0.fetch_add(self.text.len(), Ordering::Relaxed);
        }
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.text
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        if let Some(Account(bytes)) = self.counted_in.get() {
            bytes.fetch_sub(self.text.len(), Ordering::Relaxed);
        }
    }
}
