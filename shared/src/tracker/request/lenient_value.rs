//! JSON values as clients in different languages write them: numbers as text, whole numbers as fractions, booleans as
//! 1.
//!
//! A number beyond the range of a double (`1e400`, or 400 digits) is kept as text, since it may be a password.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// 2^53: up to it, a double represents every whole number exactly.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// A JSON value, parsed only as far as a request needs it. An object becomes an `M`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum LenientValue<'a, M = IgnoredAny> {
    #[default]
    Null,
    Bool(bool),
    Unsigned(u64),
    /// A number that is negative or written as a fraction.
    Float(f64),
    /// A number beyond the range of a double, as written.
    OutOfRange(&'a str),
    Text(Cow<'a, str>),
    List,
    Object(M),
}

/// The error for a value of another type than expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongType;

/// The error for a string with an unpaired surrogate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotUnicode;

impl<'a, M: Deserialize<'a>> LenientValue<'a, M> {
    /// Parses a value that is known to be valid JSON.
    pub(super) fn read(raw: &'a RawValue) -> Result<Self, NotUnicode> {
        let text = raw.get();
        serde_json::from_str(text).or_else(|_| {
            // On valid JSON the parser fails only for a number out of range and for an unpaired surrogate.
            let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
            if is_number { Ok(Self::OutOfRange(text)) } else { Err(NotUnicode) }
        })
    }
}

impl<'a, M> LenientValue<'a, M> {
    /// Returns a text, or a number as text; `None` for null.
    pub(super) fn into_text(self) -> Result<Option<Cow<'a, str>>, WrongType> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::OutOfRange(number) => Ok(Some(number.into())),
            Self::Unsigned(number) => Ok(Some(number.to_string().into())),
            Self::Float(number) => Ok(Some(number.to_string().into())),
            Self::Bool(_) | Self::List | Self::Object(_) => Err(WrongType),
        }
    }

    /// Returns a whole number from 0 on in any notation; `None` for null and empty text.
    pub(super) fn unsigned(&self) -> Result<Option<u64>, WrongType> {
        match self {
            Self::Null => Ok(None),
            Self::Unsigned(number) => Ok(Some(*number)),
            Self::Float(number) => exact_unsigned(*number).map(Some),
            Self::Text(text) => match text.trim() {
                "" => Ok(None),
                text => parse_unsigned(text).map(Some),
            },
            Self::Bool(_) | Self::OutOfRange(_) | Self::List | Self::Object(_) => Err(WrongType),
        }
    }

    /// Returns a boolean in any notation; `None` for null and empty text.
    pub(super) fn boolean(&self) -> Result<Option<bool>, WrongType> {
        match self {
            Self::Null => Ok(None),
            Self::Bool(flag) => Ok(Some(*flag)),
            Self::Unsigned(number @ (0 | 1)) => Ok(Some(*number == 1)),
            Self::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "" => Ok(None),
                // "sim" and "não" are Portuguese, the language of the exercise.
                "true" | "1" | "yes" | "sim" => Ok(Some(true)),
                "false" | "0" | "no" | "nao" | "não" => Ok(Some(false)),
                _ => Err(WrongType),
            },
            Self::Unsigned(_) | Self::Float(_) | Self::OutOfRange(_) | Self::List | Self::Object(_) => Err(WrongType),
        }
    }
}

fn parse_unsigned(text: &str) -> Result<u64, WrongType> {
    // As an integer first: a double rounds whole numbers above 2^53.
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    // Rust also parses words such as "inf" as floating-point numbers.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    text.parse().ok().filter(|_| is_number).ok_or(WrongType).and_then(exact_unsigned)
}

fn exact_unsigned(number: f64) -> Result<u64, WrongType> {
    let is_exact = number.fract() == 0.0 && (0.0..=MAX_EXACT_INTEGER).contains(&number);
    // The cast is exact: the number is whole and at most 2^53.
    if is_exact { Ok(number as u64) } else { Err(WrongType) }
}

impl<'de, M: Deserialize<'de>> Deserialize<'de> for LenientValue<'de, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientValueVisitor(PhantomData))
    }
}

struct LenientValueVisitor<M>(PhantomData<M>);

impl<'de, M: Deserialize<'de>> Visitor<'de> for LenientValueVisitor<M> {
    type Value = LenientValue<'de, M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(LenientValue::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(LenientValue::Bool(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(LenientValue::Unsigned(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        // Negative numbers come here, which no field takes: that a double rounds them doesn't matter.
        Ok(u64::try_from(number).map_or(LenientValue::Float(number as f64), LenientValue::Unsigned))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(LenientValue::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(LenientValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        // A text with escapes is unescaped into the parser's own buffer, which the next text overwrites.
        Ok(LenientValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        // serde_json fails on a list that is not read to its end.
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(LenientValue::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        M::deserialize(MapAccessDeserializer::new(map)).map(LenientValue::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> LenientValue<'_> {
        LenientValue::read(serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn numbers_beyond_all_bounds_are_numbers() {
        let digits = "9".repeat(400);
        for huge in ["1e400", "-1e400", "1E999", digits.as_str()] {
            assert_eq!(read(huge), LenientValue::OutOfRange(huge));
            assert_eq!((read(huge).unsigned(), read(huge).boolean()), (Err(WrongType), Err(WrongType)), "{huge}");
            assert_eq!(read(huge).into_text(), Ok(Some(huge.into())));
        }
        assert_eq!(read("[1e400, {\"a\": 1e400}]"), LenientValue::List);
        assert_eq!(LenientValue::<IgnoredAny>::read(serde_json::from_str("\"\\ud800\"").unwrap()), Err(NotUnicode));
    }

    #[test]
    fn whole_numbers_however_they_are_written() {
        for one in ["1024", "1024.0", "\"1024\"", "\" 1024\\n\"", "\"1024.0\"", "1.024e3", "\"1024.\"", "1024.000"] {
            assert_eq!(read(one).unsigned(), Ok(Some(1024)), "{one}");
        }
        for none in ["null", "\"\"", "\"  \""] {
            assert_eq!(read(none).unsigned(), Ok(None), "{none}");
        }
        for wrong in ["1.5", "-1", "-1.0", "\"-1\"", "1e300", "\"inf\"", "\"1 KB\"", "\"0x10\"", "true", "[1]", "{}"] {
            assert_eq!(read(wrong).unsigned(), Err(WrongType), "{wrong}");
        }
        assert_eq!(read("18446744073709551615").unsigned(), Ok(Some(u64::MAX)));
        assert_eq!(read("18446744073709551616").unsigned(), Err(WrongType));
        assert_eq!(read("-0.0").unsigned(), Ok(Some(0)));
    }

    #[test]
    fn texts_and_flags() {
        let text = |json| read(json).into_text().map(|text| text.map(Cow::into_owned));
        assert_eq!(text("\"a\\u00e9\""), Ok(Some("aé".to_owned())));
        assert_eq!(
            (text("12345"), text("-1"), text("null")),
            (Ok(Some("12345".into())), Ok(Some("-1".into())), Ok(None))
        );
        assert_eq!((text("true"), text("[]"), text("{\"a\":[{}]}")), (Err(WrongType), Err(WrongType), Err(WrongType)));
        for (yes, no) in [("true", "false"), ("1", "0"), ("\"True\"", "\"NO\""), ("\"sim\"", "\"não\"")] {
            assert_eq!((read(yes).boolean(), read(no).boolean()), (Ok(Some(true)), Ok(Some(false))));
        }
        assert_eq!(
            (read("\"\"").boolean(), read("2").boolean(), read("\"maybe\"").boolean()),
            (Ok(None), Err(WrongType), Err(WrongType))
        );
    }
}
