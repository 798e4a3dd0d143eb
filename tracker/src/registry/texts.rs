//! How much memory is taken by texts that are on their way: those of lists that have changed while somebody is still
//! reading them, and those that were made for one asker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// The bytes of all counted texts that somebody has. An account may be part of another one.
#[derive(Debug, Clone, Default)]
pub(super) struct Account(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    within: Option<Account>,
}

/// A text that may be counted, from some moment on until nobody has it any more.
#[derive(Debug)]
pub(super) struct Text {
    text: Box<[u8]>,
    counted_in: OnceLock<Account>,
}

struct Shared(Arc<Text>);

impl Account {
    /// An account whose texts are counted in `whole` as well.
    pub(super) fn within(whole: &Self) -> Self {
        Self(Arc::new(Counts { bytes: AtomicUsize::new(0), within: Some(whole.clone()) }))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Whether somebody else has this account, or a text that is counted in it.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// A text that is counted from its beginning.
    pub(super) fn counted(&self, text: Vec<u8>) -> Bytes {
        let (text, bytes) = Text::new(text);
        text.count_in(self);
        bytes
    }

    fn each(&self, change: impl Fn(&AtomicUsize) -> usize) {
        let mut next = Some(self);
        while let Some(Self(counts)) = next {
            change(&counts.bytes);
            next = counts.within.as_ref();
        }
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
            account.each(|bytes| bytes.fetch_add(self.text.len(), Ordering::Relaxed));
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
        if let Some(account) = self.counted_in.get() {
            account.each(|bytes| bytes.fetch_sub(self.text.len(), Ordering::Relaxed));
        }
    }
}
