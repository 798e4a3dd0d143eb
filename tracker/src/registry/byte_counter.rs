//! How much memory is taken by texts that are on their way: those of lists that have changed while somebody is still
//! reading them, and those that were made for one asker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// The bytes of all counted texts that somebody has. An account may be part of another one.
#[derive(Debug, Clone, Default)]
pub(super) struct ByteCounter(Arc<CounterState>);

#[derive(Debug, Default)]
struct CounterState {
    bytes: AtomicUsize,
    parent: Option<ByteCounter>,
}

/// A text that may be counted, from some moment on until nobody has it any more.
#[derive(Debug)]
pub(super) struct CountedText {
    text: Box<[u8]>,
    counted_in: OnceLock<ByteCounter>,
}

struct SharedText(Arc<CountedText>);

impl ByteCounter {
    /// An account whose texts are counted in `whole` as well.
    pub(super) fn nested_in(whole: &Self) -> Self {
        Self(Arc::new(CounterState { bytes: AtomicUsize::new(0), parent: Some(whole.clone()) }))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Whether somebody else has this account, or a text that is counted in it.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// A text that is counted from its beginning.
    pub(super) fn counted_text(&self, text: Vec<u8>) -> Bytes {
        let (text, bytes) = CountedText::new(text);
        text.count_in(self);
        bytes
    }

    fn update_all(&self, change: impl Fn(&AtomicUsize) -> usize) {
        let mut next = Some(self);
        while let Some(Self(counts)) = next {
            change(&counts.bytes);
            next = counts.parent.as_ref();
        }
    }
}

impl CountedText {
    /// The text, not counted yet, and what everybody gets of it.
    pub(super) fn new(text: Vec<u8>) -> (Arc<Self>, Bytes) {
        let text = Arc::new(Self { text: text.into_boxed_slice(), counted_in: OnceLock::new() });
        (Arc::clone(&text), Bytes::from_owner(SharedText(text)))
    }

    /// From now on it is counted; in one account only, and once.
    pub(super) fn count_in(&self, counter: &ByteCounter) {
        if self.counted_in.get().is_none() && self.counted_in.set(counter.clone()).is_ok() {
            counter.update_all(|bytes| bytes.fetch_add(self.text.len(), Ordering::Relaxed));
        }
    }
}

impl AsRef<[u8]> for SharedText {
    fn as_ref(&self) -> &[u8] {
        &self.0.text
    }
}

impl Drop for CountedText {
    fn drop(&mut self) {
        if let Some(account) = self.counted_in.get() {
            account.update_all(|bytes| bytes.fetch_sub(self.text.len(), Ordering::Relaxed));
        }
    }
}
