//! The locale's charset, to decode input that isn't UTF-8. Pure, except for [`locale`].

/// A charset for bytes that aren't UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// UTF-8 or unknown: such bytes become replacement characters.
    Utf8,
    /// ISO 8859-1.
    Latin1,
    /// ISO 8859-15.
    Latin9,
}

/// Returns the locale for character types, as the C library determines it: the first of the variables that is set.
pub(super) fn locale() -> String {
    // An empty one counts as unset (locale(7)).
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default()
}

impl Charset {
    /// Returns the charset of a locale. Unsupported multi-byte charsets count as unknown: replacement characters are
    /// better than wrong letters.
    pub(super) fn of_locale(locale: &str) -> Self {
        // As glibc compares charsets, `ISO-8859-15`, `iso8859-15` and `iso885915` are one.
        let name: String = locale.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
        let number = name.split_once("iso8859").map(|(_, rest)| {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            &rest[..digits]
        });
        match number {
            Some("1") => Self::Latin1,
            Some("15") => Self::Latin9,
            // glibc's `@euro` locales without a charset (`de_DE@euro`) use ISO 8859-15.
            None if name.ends_with("euro") && !name.contains("utf8") => Self::Latin9,
            None if !locale.contains('.') && is_western(locale) => Self::Latin1,
            _ => Self::Utf8,
        }
    }

    /// Decodes bytes that aren't UTF-8; `None` if the charset is unknown.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::Utf8 => None,
            Self::Latin1 => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            Self::Latin9 => Some(bytes.iter().map(|byte| latin9(*byte)).collect()),
        }
    }

    /// Decodes text in which UTF-8 and the charset may be mixed; replacement characters stand for undecodable bytes.
    pub(super) fn decode_lossy(self, bytes: &[u8]) -> String {
        let part = |chunk: std::str::Utf8Chunk<'_>| match chunk.invalid() {
            [] => chunk.valid().to_owned(),
            wrong => format!("{}{}", chunk.valid(), self.decode(wrong).unwrap_or_else(|| "\u{fffd}".to_owned())),
        };
        bytes.utf8_chunks().map(part).collect()
    }
}

/// True if the C library uses ISO 8859-1 for a locale such as `pt_BR` that names no charset.
fn is_western(locale: &str) -> bool {
    const LANGUAGES: [&str; 16] =
        ["ca", "da", "de", "en", "es", "eu", "fi", "fr", "gl", "is", "it", "nb", "nl", "nn", "pt", "sv"];
    locale.split_once('_').is_some_and(|(language, _)| LANGUAGES.contains(&language))
}

const fn latin9(byte: u8) -> char {
    // The eight bytes in which ISO 8859-15 differs from ISO 8859-1.
    match byte {
        0xa4 => '€',
        0xa6 => 'Š',
        0xa8 => 'š',
        0xb4 => 'Ž',
        0xb8 => 'ž',
        0xbc => 'Œ',
        0xbd => 'œ',
        0xbe => 'Ÿ',
        other => other as char,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales_name_their_charset() {
        for (locale, charset) in [
            ("pt_BR.ISO-8859-1", Charset::Latin1),
            ("pt_BR.iso88591", Charset::Latin1),
            ("de_DE@euro", Charset::Latin9),
            ("pt_BR", Charset::Latin1),
            ("ja_JP", Charset::Utf8),
            ("C", Charset::Utf8),
            ("fr_FR.ISO8859-15", Charset::Latin9),
            ("de_DE.UTF-8@euro", Charset::Utf8),
            ("et_EE.ISO-8859-10", Charset::Utf8),
            ("ja_JP.eucJP", Charset::Utf8),
            ("C", Charset::Utf8),
            ("", Charset::Utf8),
        ] {
            assert_eq!(Charset::of_locale(locale), charset, "{locale}");
        }
        assert_eq!(Charset::Latin1.decode_lossy(b"caf\xe9 \xc3\xa9"), "café é");
        assert_eq!(Charset::Utf8.decode_lossy(b"caf\xe9!"), "caf\u{fffd}!");
    }
}
