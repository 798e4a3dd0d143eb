//! Lower-case hexadecimal, the text form of fingerprints, hashes and ids.

use std::fmt;

use localization::tr;

/// The error for text that is not the hexadecimal form of the expected number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HexError {
    /// Number of digits expected.
    pub digits: usize,
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tr!("expected exactly {n} hexadecimal digits", n = self.digits))
    }
}

impl std::error::Error for HexError {}

/// Returns `bytes` as lower-case digits.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Parses `N` bytes from digits of either case.
///
/// # Errors
/// Returns [`HexError`] unless `text` is exactly `2 * N` hexadecimal digits.
pub fn decode<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let error = HexError { digits: N * 2 };
    // Work on bytes: `from_str_radix` would accept a sign, and slicing the text could split a character.
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(error);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0]).ok_or(error)? << 4 | nibble(pair[1]).ok_or(error)?;
    }
    Ok(bytes)
}

/// Parses any number of bytes; `None` unless `text` is an even number of hexadecimal digits.
pub fn decode_all(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| Some(nibble(pair[0])? << 4 | nibble(pair[1])?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Implements hexadecimal `Display`, `FromStr`, `Debug` and serde for a newtype over a byte array.
macro_rules! hex_text {
    ($type:ident, $bytes:literal) => {
        impl $type {
            /// Returns the raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Wraps raw bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&$crate::hex::encode(&self.0))
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::hex::HexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::hex::decode(text).map(Self)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        $crate::text_serde::deserialize_text!($type);
    };
}

pub(crate) use hex_text;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        assert_eq!(encode(&[0x00, 0x9f, 0xff]), "009fff");
        assert_eq!(decode::<3>("009FfF"), Ok([0x00, 0x9f, 0xff]));
        for wrong in ["", "00", "009ff", "009fff0", "00 fff", "+09fff", "é9fff"] {
            assert_eq!(decode::<3>(wrong), Err(HexError { digits: 6 }), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_length_round_trips(bytes: Vec<u8>) {
            prop_assert_eq!(decode_all(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn round_trip(bytes: [u8; 16]) {
            prop_assert_eq!(decode::<16>(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = decode::<8>(&text);
            let _ = decode_all(&text);
        }
    }
}
