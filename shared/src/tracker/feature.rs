//! Features: extensions of the tracker's protocol that one side announces to the other.

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bounded_list::BoundedList;
use crate::text_enum;

text_enum! {
    /// An extension of the protocol beyond its first version, announced by a tracker or its client.
    ///
    /// A feature's name never changes its meaning: different behaviour gets a new name.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[repr(u8)]
    pub enum Feature {
        /// Tracker: `REGISTER_FILES` keeps the valid files when others are invalid.
        PartialFiles = "partial_files",
        /// Tracker: `WHOIS` finds a name regardless of the case of its letters.
        SimilarNames = "similar_names",
        /// Tracker: distinguishes the processes that use one key, and tells where another one is present.
        Instances = "instances",
        /// `WHOIS` of an account without a key: the tracker answers it, and the client understands the reply.
        KeylessUsers = "keyless_users",
        /// Tracker: keeps rooms. Client: understands the event `room`.
        Rooms = "rooms",
    }
}

/// A set of features. On the wire it is a list of names, and unknown names are ignored.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FeatureSet(u32);

/// Number of names read from one list; the rest is ignored.
const MAX_LISTED_FEATURES: usize = 64;

impl Feature {
    const fn bit(self) -> u32 {
        // A feature beyond the 32nd needs a wider set.
        1 << self as u8
    }
}

impl FeatureSet {
    /// Returns all features that this version knows, which is the set that it announces.
    pub fn all() -> Self {
        Feature::ALL.iter().copied().collect()
    }

    /// Returns true if the set has no feature.
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Returns true if the set has `feature`.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// Adds `feature`.
    pub const fn insert(&mut self, feature: Feature) {
        self.0 |= feature.bit();
    }

    /// Iterates over the features of the set.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.iter().copied().filter(move |feature| self.has(*feature))
    }
}

impl FromIterator<Feature> for FeatureSet {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        let mut set = Self::default();
        features.into_iter().for_each(|feature| set.insert(feature));
        set
    }
}

impl fmt::Debug for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for FeatureSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Feature::as_str))
    }
}

impl<'de> Deserialize<'de> for FeatureSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let BoundedList(items) = BoundedList::<FeatureListItem<'de>, MAX_LISTED_FEATURES>::deserialize(deserializer)?;
        let name = |item: FeatureListItem<'de>| match item {
            FeatureListItem::Name(name) => Feature::from_text(&name),
            FeatureListItem::Other(IgnoredAny) => None,
        };
        // One more than the bound may have been read.
        Ok(items.into_iter().take(MAX_LISTED_FEATURES).filter_map(name).collect())
    }
}

/// An item of a list of features. Items other than names may come from a newer version and are ignored.
#[derive(Deserialize)]
#[serde(untagged)]
enum FeatureListItem<'a> {
    // In this order, in which serde tries them: the other one takes every value.
    Name(#[serde(borrow)] std::borrow::Cow<'a, str>),
    Other(IgnoredAny),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_list_and_unknown_names() {
        let all = r#"["partial_files","similar_names","instances","keyless_users","rooms"]"#;
        assert_eq!(serde_json::to_string(&FeatureSet::all()).unwrap(), all);
        let read = |text: &str| serde_json::from_str::<FeatureSet>(text).unwrap();
        let partial: FeatureSet = [Feature::PartialFiles].into_iter().collect();
        assert_eq!(read(r#"["warp", 7, {"a": []}, null, "partial_files", "partial_files"]"#), partial);
        assert_eq!(read(r#"["partial\u005ffiles"]"#), partial);
        assert_eq!(read("[]"), FeatureSet::default());
        let long = format!("[{}\"partial_files\"]", "\"x\",".repeat(MAX_LISTED_FEATURES));
        assert_eq!(read(&long), FeatureSet::default());
    }

    #[test]
    fn every_feature_has_a_name_and_a_bit_of_its_own() {
        for feature in Feature::ALL.iter().copied() {
            assert_eq!(Feature::from_text(feature.as_str()), Some(feature));
            assert!(FeatureSet::all().has(feature));
        }
        assert_eq!(FeatureSet::all().iter().count(), Feature::ALL.len());
        assert_eq!(FeatureSet::all().0.count_ones() as usize, Feature::ALL.len());
    }
}
