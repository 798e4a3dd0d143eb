//! Search for the profile's secret key in everything that is hashed to be shared: in a text with other words, an
//! archive, a disk image. A compressed or encoded key isn't found.

use memchr::memmem::Finder;

/// A search for one line of a key in bytes that come in pieces, in order.
#[derive(Debug)]
pub(in crate::engine) struct KeySearch<'a> {
    finder: Option<Finder<'a>>,
    /// The end of the previous bytes, in which the key may begin.
    tail: Vec<u8>,
}

impl<'a> KeySearch<'a> {
    /// Builds a search for `key`; without a key it finds nothing.
    pub(in crate::engine) fn new(key: Option<&'a str>) -> Self {
        let finder = key.filter(|key| !key.is_empty()).map(|key| Finder::new(key.as_bytes()));
        Self { finder, tail: Vec::new() }
    }

    /// Forgets the previous bytes: the next ones don't follow them.
    pub(super) fn restart(&mut self) {
        self.tail.clear();
    }

    /// True if the key ends in these bytes, wherever it begins.
    pub(super) fn finds_in(&mut self, bytes: &[u8]) -> bool {
        let Some(finder) = &self.finder else { return false };
        let overlap = finder.needle().len() - 1;
        // Only the joint of two pieces is copied: a key across it has at most `overlap` bytes on each side.
        self.tail.extend_from_slice(&bytes[..overlap.min(bytes.len())]);
        let found = finder.find(&self.tail).is_some() || finder.find(bytes).is_some();
        if bytes.len() >= overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - overlap..]);
        } else {
            // A piece shorter than the key extends the tail: the key may span several of them.
            self.tail.drain(..self.tail.len().saturating_sub(overlap));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_found_wherever_pieces_end(before in 0_usize..40, after in 0_usize..40, piece in 1_usize..50) {
            let key = "ABCDEFGHIJKLMNOP";
            let mut whole = vec![b'A'; before];
            whole.extend_from_slice(key.as_bytes());
            whole.resize(whole.len() + after, b'x');
            let mut search = KeySearch::new(Some(key));
            let found = whole.chunks(piece).filter(|piece| search.finds_in(piece)).count();
            prop_assert!(found > 0);
            whole[before + 7] = b'!';
            let mut search = KeySearch::new(Some(key));
            prop_assert!(!whole.chunks(piece).any(|piece| search.finds_in(piece)));
            prop_assert!(!KeySearch::new(None).finds_in(&whole));
        }
    }
}
