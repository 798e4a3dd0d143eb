//! A text for whoever reads it later: in the language of a terminal, or in English for a program.

use std::fmt;
use std::ops::Deref;

use localization::{Language, current_language, in_english, in_language};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is formatted in every language at once, because its readers aren't known yet: the same event goes to a
/// terminal here, to other processes with a language of their own, and as JSON to programs.
///
/// It is read, printed and serialized in the language that is current at that moment. A deserialized text is in one
/// language, in which it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TranslatedText {
    english: String,
    /// `None` if it is the same as in English.
    portuguese: Option<String>,
}

impl TranslatedText {
    /// Formats a text, once in each language.
    pub fn new(format: impl Fn() -> String) -> Self {
        let english = in_english(&format);
        let portuguese = in_language(Language::Portuguese, &format);
        Self { portuguese: (portuguese != english).then_some(portuguese), english }
    }

    /// Returns whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.english.is_empty()
    }

    /// Returns the bytes of the text in all languages.
    pub fn stored_len(&self) -> usize {
        self.english.len() + self.portuguese.as_ref().map_or(0, String::len)
    }

    /// Keeps the text of a value, for instance of an error.
    pub fn of(value: &impl fmt::Display) -> Self {
        Self::new(|| value.to_string())
    }
}

/// A text without translations, for instance of the system.
impl From<String> for TranslatedText {
    fn from(text: String) -> Self {
        Self { english: text, portuguese: None }
    }
}

impl From<&str> for TranslatedText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// The text in the current language.
impl Deref for TranslatedText {
    type Target = str;

    fn deref(&self) -> &str {
        match current_language() {
            Language::English => &self.english,
            Language::Portuguese => self.portuguese.as_ref().unwrap_or(&self.english),
        }
    }
}

impl fmt::Display for TranslatedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for TranslatedText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for TranslatedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_has_a_language() {
        let word = || if current_language() == Language::English { "gone" } else { "sumiu" };
        let inner = TranslatedText::new(|| word().to_owned());
        let text = TranslatedText::new(|| format!("({inner})"));
        let written = |language| {
            in_language(language, || (text.to_string(), text.len(), serde_json::to_string(&text).unwrap_or_default()))
        };
        assert_eq!(written(Language::English), ("(gone)".to_owned(), 6, "\"(gone)\"".to_owned()));
        assert_eq!(written(Language::Portuguese), ("(sumiu)".to_owned(), 7, "\"(sumiu)\"".to_owned()));
        let read: TranslatedText = serde_json::from_str("\"(sumiu)\"").unwrap_or_else(|_| "".into());
        assert_eq!(in_english(|| read.to_string()), "(sumiu)");
        assert_eq!(TranslatedText::of(&7), TranslatedText::from("7"));
    }
}
