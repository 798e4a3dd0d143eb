//! A counter for each of many keys.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Counts by key. A key with nothing takes no memory: an IPv6 network has no end of addresses.
#[derive(Debug)]
pub(crate) struct KeyedCounter<K>(HashMap<K, usize>);

impl<K: Hash + Eq> KeyedCounter<K> {
    pub(crate) fn get(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, key: K, amount: usize) {
        if amount > 0 {
            *self.0.entry(key).or_default() += amount;
        }
    }

    pub(crate) fn subtract(&mut self, key: &K, amount: usize)
    where
        K: Clone,
    {
        if let Entry::Occupied(mut count) = self.0.entry(key.clone()) {
            *count.get_mut() -= amount;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
impl<K> KeyedCounter<K> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn sum(&self) -> usize {
        self.0.values().sum()
    }
}

impl<K> Default for KeyedCounter<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}
