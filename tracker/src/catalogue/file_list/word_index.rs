//! The index of a chunk's names by word: each word once, in order, with the positions of the names that have it.
//!
//! ```text
//! words   2023|2024|final|report        dictionary  the ends of each word and of its positions
//! places  0 3 | 1 | 1 3 | 0 1 2 3
//! ```
//!
//! A word of a name costs two bytes, and its text where it is new: about three times the name at most, whatever the
//! names are made of. So the words of a name need no limit.

use std::collections::HashMap;
use std::mem::size_of_val;

use shared::tracker::{push_folded, segment_words};

use super::MAX_FILES;

/// The effort of looking up one word, its positions apart.
const EFFORT_PER_WORD: usize = 16;

#[derive(Debug)]
pub(super) struct WordIndex {
    words: Box<str>,
    dictionary: Box<[WordEnds]>,
    places: Box<[u16]>,
}

/// The ends of one word and of its positions.
#[derive(Debug, Clone, Copy)]
struct WordEnds {
    word: u32,
    places: u32,
}

/// A set of positions in a chunk, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PositionSet([u64; MAX_FILES / 64]);

impl WordIndex {
    /// Indexes at most [`MAX_FILES`] names.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let (mut lower, mut ends) = (String::new(), Vec::new());
        for name in names {
            push_folded(&mut lower, name);
            ends.push(lower.len());
        }
        let mut words: HashMap<&str, usize> = HashMap::new();
        // Pairs of word number, in the order of first occurrence, and position.
        let (mut found, mut last_place, mut begin) = (Vec::new(), Vec::new(), 0);
        for (place, end) in (0_u16..).zip(ends) {
            for word in segment_words(lower.get(begin..end).unwrap_or_default()) {
                let next = words.len();
                let number = *words.entry(word).or_insert(next);
                if number == next {
                    last_place.push(None);
                }
                // A name may have a word twice but is listed once: positions come in order, so the last one tells.
                if last_place.get(number) != Some(&Some(place)) {
                    last_place[number] = Some(place);
                    found.push((number, place));
                }
            }
            begin = end;
        }
        Self::of(words.into_iter().collect(), &found)
    }

    /// Returns the memory the index takes.
    pub(super) fn bytes(&self) -> usize {
        self.words.len() + size_of_val(&*self.dictionary) + size_of_val(&*self.places)
    }

    /// Returns the positions of names with a word that begins with `prefix`. Looks are subtracted from `effort`.
    pub(super) fn with_prefix(&self, prefix: &str, effort: &mut usize) -> PositionSet {
        let mut places = PositionSet([0; MAX_FILES / 64]);
        // Words with a common prefix are neighbours, and so are their positions.
        let begin = self.first_behind(|word| word < prefix);
        let end = self.first_behind(|word| word < prefix || word.starts_with(prefix));
        let from = |number: usize| number.checked_sub(1).and_then(|before| self.dictionary.get(before));
        let bounds = [begin, end].map(|number| from(number).map_or(0, |ends| ends.places as usize));
        let found = self.places.get(bounds[0]..bounds[1]).unwrap_or_default();
        found.iter().for_each(|place| places.insert(*place));
        *effort = effort.saturating_sub(EFFORT_PER_WORD + found.len());
        places
    }

    /// Returns the number of the first word that is not `before`.
    fn first_behind(&self, before: impl Fn(&str) -> bool) -> usize {
        // By hand: a word begins where the one before it ends, which a search of the slice can't see.
        let (mut low, mut high) = (0, self.dictionary.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if before(self.word(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn word(&self, number: usize) -> &str {
        let begin = number.checked_sub(1).and_then(|before| self.dictionary.get(before));
        let begin = begin.map_or(0, |ends| ends.word as usize);
        let end = self.dictionary.get(number).map_or(0, |ends| ends.word as usize);
        self.words.get(begin..end).unwrap_or_default()
    }

    /// Builds the index from numbered words and from `found`, their positions in order.
    fn of(mut words: Vec<(&str, usize)>, found: &[(usize, u16)]) -> Self {
        // A counting sort: the positions of each word are counted, then filled in.
        words.sort_unstable();
        let mut begins = vec![0; words.len()];
        found.iter().for_each(|(number, _)| begins[*number] += 1);
        let mut text = String::with_capacity(words.iter().map(|(word, _)| word.len()).sum());
        let (mut dictionary, mut places_end) = (Vec::with_capacity(words.len()), 0);
        // The words of one chunk are far from the limit of a u32.
        let end = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        for (word, number) in words {
            text.push_str(word);
            let count = std::mem::replace(&mut begins[number], places_end);
            places_end += count;
            dictionary.push(WordEnds { word: end(text.len()), places: end(places_end) });
        }
        let mut places = vec![0; found.len()].into_boxed_slice();
        for (number, place) in found {
            places[begins[*number]] = *place;
            begins[*number] += 1;
        }
        Self { words: text.into_boxed_str(), dictionary: dictionary.into_boxed_slice(), places }
    }
}

impl PositionSet {
    pub(super) const fn all() -> Self {
        Self([u64::MAX; MAX_FILES / 64])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|some| *some == 0)
    }

    /// Keeps only the positions that are in `others` as well.
    pub(super) fn intersect(&mut self, others: &Self) {
        self.0.iter_mut().zip(&others.0).for_each(|(some, others)| *some &= others);
    }

    /// Returns the positions in order.
    pub(super) fn into_iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_FILES).filter(move |place| self.0[place / 64] >> (place % 64) & 1 == 1)
    }

    fn insert(&mut self, place: u16) {
        if let Some(some) = self.0.get_mut(usize::from(place) / 64) {
            *some |= 1 << (place % 64);
        }
    }
}
