//! Lists in replies, read only so far: a few bytes of text become many of memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a list of at most `MAX` entries.
///
/// # Errors
/// That it is longer, or what is wrong with it.
pub(super) fn reply_list<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(ReplyListVisitor::<T, MAX>(PhantomData))
}

struct ReplyListVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ReplyListVisitor<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            if entries.len() >= MAX {
                return Err(A::Error::custom(format_args!("a list has more than {MAX} entries")));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_at_its_bound() {
        let read = |text: &str| reply_list::<_, u8, 3>(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read("[]").unwrap(), Vec::<u8>::new());
        assert_eq!(read("[1,2,3]").unwrap(), [1, 2, 3]);
        assert!(read("[1,2,3,4]").unwrap_err().to_string().contains("more than 3 entries"));
        // What comes behind is not read.
        assert!(read("[1,2,3,4,,,").unwrap_err().to_string().contains("more than 3 entries"));
        assert!(read("7").unwrap_err().to_string().contains("a list of at most 3 entries"));
    }
}
