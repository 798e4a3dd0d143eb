//! Lists with a bound: from a longer list, one element more than the bound is kept to show that it is too long.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// At most `MOST` + 1 elements of a list. With `MOST` + 1, the list was longer than `MOST`.
pub(super) struct BoundedList<T, const MOST: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for BoundedList<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedListVisitor(PhantomData))
    }
}

/// The visitor that reads a [`BoundedList`].
pub(super) struct BoundedListVisitor<T, const MOST: usize>(pub(super) PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for BoundedListVisitor<T, MOST> {
    type Value = BoundedList<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() <= MOST {
            match elements.next_element()? {
                Some(element) => kept.push(element),
                None => return Ok(BoundedList(kept)),
            }
        }
        // serde_json fails on a list that is not read to its end; the rest takes no memory.
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(BoundedList(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_shows_it_and_no_more() {
        let kept = |text: &str| serde_json::from_str::<BoundedList<u8, 3>>(text).map(|list| list.0).ok();
        assert_eq!(kept("[]"), Some(vec![]));
        assert_eq!(kept("[1,2,3]"), Some(vec![1, 2, 3]));
        assert_eq!(kept("[1,2,3,4]"), Some(vec![1, 2, 3, 4]));
        let long = format!("[{}{{}}]", "7,".repeat(1000));
        assert_eq!(kept(&long), Some(vec![7; 4]));
        for wrong in ["[1,2,3,4,5,]", "[1,", "{}", "7", "[\"x\"]"] {
            assert_eq!(kept(wrong), None, "{wrong}");
        }
    }
}
