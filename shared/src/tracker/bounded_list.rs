//! Lists with a bound: a few bytes of text become many of memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// At most `MOST` + 1 elements of a list. With `MOST` + 1, the list was longer than `MOST`; the rest is skipped.
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
        let kept = read_elements(&mut elements, MOST + 1)?;
        // serde_json fails on a list that is not read to its end; the rest takes no memory.
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(BoundedList(kept))
    }
}

/// Reads a list of at most `MOST` elements, and nothing behind them.
///
/// # Errors
/// When it is longer, or what is wrong with it.
pub(super) fn short_list<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(ShortListVisitor::<T, MOST>(PhantomData))
}

struct ShortListVisitor<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for ShortListVisitor<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let kept = read_elements(&mut elements, MOST + 1)?;
        if kept.len() > MOST {
            return Err(A::Error::custom(format_args!("a list has more than {MOST} entries")));
        }
        Ok(kept)
    }
}

fn read_elements<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(
    elements: &mut A,
    at_most: usize,
) -> Result<Vec<T>, A::Error> {
    let mut kept = Vec::new();
    // The bound is looked at before the next element is parsed, which would take memory.
    while kept.len() < at_most
        && let Some(element) = elements.next_element()?
    {
        kept.push(element);
    }
    Ok(kept)
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

    #[test]
    fn a_list_ends_at_its_bound() {
        let read = |text: &str| short_list::<_, u8, 3>(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read("[]").unwrap(), Vec::<u8>::new());
        assert_eq!(read("[1,2,3]").unwrap(), [1, 2, 3]);
        assert!(read("[1,2,3,4]").unwrap_err().to_string().contains("more than 3 entries"));
        // What comes behind is not read.
        assert!(read("[1,2,3,4,,,").unwrap_err().to_string().contains("more than 3 entries"));
        assert!(read("7").unwrap_err().to_string().contains("a list of at most 3 entries"));
    }
}
