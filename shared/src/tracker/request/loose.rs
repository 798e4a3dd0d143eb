//! Values as clients in different languages write them: numbers as text, whole numbers as fractions, yes as 1.
//!
//! A number beyond what a double holds (`1e400`, or 400 digits) is a number all the same, and stays as it is written.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Up to here every whole number is exact as a fraction: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A JSON value, read only as far as a request needs it; an object becomes an `M`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Loose<'a, M = IgnoredAny> {
    #[default]
    Null,
    Flag(bool),
    Whole(u64),
    /// Negative, or written as a fraction.
    Number(f64),
    /// Beyond what a double holds.
    Huge(&'a str),
    Text(Cow<'a, str>),
    List,
    Object(M),
}

/// A value that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit;

/// A string with half of a surrogate pair in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotUnicode;

impl<'a, M: Deserialize<'a>> Loose<'a, M> {
    /// Reads a value that is known to be JSON.
    pub(super) fn read(raw: &'a RawValue) -> Result<Self, NotUnicode> {
        let text = raw.get();
        serde_json::from_str(text).or_else(|_| {
            // Nothing else can be wrong with a number, nor with anything else but a string.
            let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
            if is_number { Ok(Self::Huge(text)) } else { Err(NotUnicode) }
        })
    }
}

impl<'a, M> Loose<'a, M> {
    /// Returns the text, or the number as text; `None` for null.
    pub(super) fn into_text(self) -> Result<Option<Cow<'a, str>>, Unfit> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Huge(number) => Ok(Some(number.into())),
            Self::Whole(number) => Ok(Some(number.to_string().into())),
            Self::Number(number) => Ok(Some(number.to_string().into())),
            Self::Flag(_) | Self::List | Self::Object(_) => Err(Unfit),
        }
    }

    /// Returns a whole number from 0 on, however it is written; `None` for null and for an empty text.
    pub(super) fn whole(&self) -> Result<Option<u64>, Unfit> {
        match self {
            Self::Null => Ok(None),
            Self::Whole(number) => Ok(Some(*number)),
            Self::Number(number) => exact(*number).map(Some),
            Self::Text(text) => match text.trim() {
                "" => Ok(None),
                text => whole_in(text).map(Some),
            },
            Self::Flag(_) | Self::Huge(_) | Self::List | Self::Object(_) => Err(Unfit),
        }
    }

    /// Returns yes or no, however it is written; `None` for null and for an empty text.
    pub(super) fn flag(&self) -> Result<Option<bool>, Unfit> {
        match self {
            Self::Null => Ok(None),
            Self::Flag(flag) => Ok(Some(*flag)),
            Self::Whole(number @ (0 | 1)) => Ok(Some(*number == 1)),
            Self::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "" => Ok(None),
                "true" | "1" | "yes" | "sim" => Ok(Some(true)),
                "false" | "0" | "no" | "nao" | "não" => Ok(Some(false)),
                _ => Err(Unfit),
            },
            Self::Whole(_) | Self::Number(_) | Self::Huge(_) | Self::List | Self::Object(_) => Err(Unfit),
        }
    }
}

fn whole_in(text: &str) -> Result<u64, Unfit> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    // Rust also reads words such as "inf" as numbers.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    text.parse().ok().filter(|_| is_number).ok_or(Unfit).and_then(exact)
}

fn exact(number: f64) -> Result<u64, Unfit> {
    let is_exact = number.fract() == 0.0 && (0.0..=EXACT).contains(&number);
    if is_exact { Ok(number as u64) } else { Err(Unfit) }
}

impl<'de, M: Deserialize<'de>> Deserialize<'de> for Loose<'de, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue(PhantomData))
    }
}

struct AnyValue<M>(PhantomData<M>);

impl<'de, M: Deserialize<'de>> Visitor<'de> for AnyValue<M> {
    type Value = Loose<'de, M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Loose::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Loose::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Loose::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(number).map_or(Loose::Number(number as f64), Loose::Whole))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Loose::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Loose::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Loose::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        M::deserialize(MapAccessDeserializer::new(map)).map(Loose::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Loose<'_> {
        Loose::read(serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn numbers_beyond_all_bounds_are_numbers() {
        let digits = "9".repeat(400);
        for huge in ["1e400", "-1e400", "1E999", digits.as_str()] {
            assert_eq!(read(huge), Loose::Huge(huge));
            assert_eq!((read(huge).whole(), read(huge).flag()), (Err(Unfit), Err(Unfit)), "{huge}");
            assert_eq!(read(huge).into_text(), Ok(Some(huge.into())));
        }
        assert_eq!(read("[1e400, {\"a\": 1e400}]"), Loose::List);
        assert_eq!(Loose::<IgnoredAny>::read(serde_json::from_str("\"\\ud800\"").unwrap()), Err(NotUnicode));
    }

    #[test]
    fn whole_numbers_however_they_are_written() {
        for one in ["1024", "1024.0", "\"1024\"", "\" 1024\\n\"", "\"1024.0\"", "1.024e3", "\"1024.\"", "1024.000"] {
            assert_eq!(read(one).whole(), Ok(Some(1024)), "{one}");
        }
        for none in ["null", "\"\"", "\"  \""] {
            assert_eq!(read(none).whole(), Ok(None), "{none}");
        }
        for wrong in ["1.5", "-1", "-1.0", "\"-1\"", "1e300", "\"inf\"", "\"1 KB\"", "\"0x10\"", "true", "[1]", "{}"] {
            assert_eq!(read(wrong).whole(), Err(Unfit), "{wrong}");
        }
        assert_eq!(read("18446744073709551615").whole(), Ok(Some(u64::MAX)));
        assert_eq!(read("18446744073709551616").whole(), Err(Unfit));
        assert_eq!(read("-0.0").whole(), Ok(Some(0)));
    }

    #[test]
    fn texts_and_flags() {
        let text = |json| read(json).into_text().map(|text| text.map(Cow::into_owned));
        assert_eq!(text("\"a\\u00e9\""), Ok(Some("aé".to_owned())));
        assert_eq!(
            (text("12345"), text("-1"), text("null")),
            (Ok(Some("12345".into())), Ok(Some("-1".into())), Ok(None))
        );
        assert_eq!((text("true"), text("[]"), text("{\"a\":[{}]}")), (Err(Unfit), Err(Unfit), Err(Unfit)));
        for (yes, no) in [("true", "false"), ("1", "0"), ("\"True\"", "\"NO\""), ("\"sim\"", "\"não\"")] {
            assert_eq!((read(yes).flag(), read(no).flag()), (Ok(Some(true)), Ok(Some(false))));
        }
        assert_eq!(
            (read("\"\"").flag(), read("2").flag(), read("\"maybe\"").flag()),
            (Ok(None), Err(Unfit), Err(Unfit))
        );
    }
}
