//! Counters for the memory of texts that are being sent: replaced lists that somebody still reads, and texts made
//! for one requester.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// The bytes of all live counted texts. A counter may be nested in another one, which then counts them as well.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByteCounter(Arc<CounterState>);

#[derive(Debug, Default)]
struct CounterState {
    bytes: AtomicUsize,
    parent: Option<ByteCounter>,
}

/// A text that can be counted from some moment on until its last owner drops it.
#[derive(Debug)]
pub(crate) struct CountedText {
    text: Box<[u8]>,
    counted_in: OnceLock<ByteCounter>,
}

struct SharedText(Arc<CountedText>);

impl ByteCounter {
    /// Creates a counter whose texts are counted in `whole` as well.
    pub(crate) fn nested_in(whole: &Self) -> Self {
        Self(Arc::new(CounterState { bytes: AtomicUsize::new(0), parent: Some(whole.clone()) }))
    }

    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: for a quota a figure may be a moment old.
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// True if a counter or a counted text elsewhere refers to this counter.
    pub(crate) fn is_shared(&self) -> bool {
        // Texts and nested counters hold a reference each.
        Arc::strong_count(&self.0) > 1
    }

    /// Creates a text that is counted from the start.
    pub(crate) fn counted_text(&self, text: Vec<u8>) -> Bytes {
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
    /// Creates an uncounted text, and the shared bytes that replies hold.
    pub(crate) fn new(text: Vec<u8>) -> (Arc<Self>, Bytes) {
        let text = Arc::new(Self { text: text.into_boxed_slice(), counted_in: OnceLock::new() });
        (Arc::clone(&text), Bytes::from_owner(SharedText(text)))
    }

    /// Counts the text until it is freed. Only the first call has an effect.
    pub(crate) fn count_in(&self, counter: &ByteCounter) {
        // `set` decides between two threads: the bytes are added once.
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
        // The last reply that holds the bytes may be dropped on any thread, without the registry's lock: hence atomics.
        if let Some(account) = self.counted_in.get() {
            account.update_all(|bytes| bytes.fetch_sub(self.text.len(), Ordering::Relaxed));
        }
    }
}
