//! The translations of a crate, compiled into it.

use std::borrow::Cow;

use tr::Translator;

use crate::{Language, current_language};

/// A text with its translation.
#[derive(Debug)]
pub struct CatalogueEntry {
    /// Tells texts apart that are equal in English.
    pub context: Option<&'static str>,
    /// The English text; of a plural, its singular.
    pub text: &'static str,
    /// The translation; of a plural, the singular and the plural.
    pub forms: &'static [&'static str],
}

/// Translations into Portuguese, in the order of context and text.
#[derive(Debug)]
pub struct Catalogue {
    entries: &'static [CatalogueEntry],
}

impl Catalogue {
    /// Wraps entries that are in order; [`crate::compile_translations`] writes them.
    pub const fn new(entries: &'static [CatalogueEntry]) -> Self {
        Self { entries }
    }

    /// Returns the translation into Portuguese; `None` if there is none.
    pub fn find(&self, context: Option<&str>, text: &str) -> Option<&'static str> {
        self.entry(context, text)?.forms.first().copied()
    }

    /// Returns the text in the current language; the text itself if it isn't translated.
    pub fn translate<'a>(&self, text: &'a str) -> &'a str {
        match current_language() {
            Language::English => text,
            Language::Portuguese => self.find(None, text).unwrap_or(text),
        }
    }

    fn entry(&self, context: Option<&str>, text: &str) -> Option<&'static CatalogueEntry> {
        let place = self.entries.binary_search_by(|entry| (entry.context, entry.text).cmp(&(context, text)));
        place.ok().and_then(|place| self.entries.get(place))
    }

    /// Returns the form for a number: Brazilian Portuguese has the singular for 0 and 1 (`plural=(n > 1)`).
    fn form(&self, n: u64, context: Option<&str>, text: &str) -> Option<&'static str> {
        let forms = self.entry(context, text)?.forms;
        forms.get(usize::from(n > 1)).copied()
    }
}

/// Looks up the texts of a crate for `tr!`.
#[derive(Debug)]
pub struct CatalogueTranslator(&'static Catalogue);

impl CatalogueTranslator {
    /// Looks them up in this catalogue.
    pub const fn new(catalogue: &'static Catalogue) -> Self {
        Self(catalogue)
    }
}

impl Translator for CatalogueTranslator {
    fn translate<'a>(&'a self, string: &'a str, context: Option<&'a str>) -> Cow<'a, str> {
        let found = match current_language() {
            Language::English => None,
            Language::Portuguese => self.0.find(context, string),
        };
        Cow::Borrowed(found.unwrap_or(string))
    }

    fn ntranslate<'a>(&'a self, n: u64, singular: &'a str, plural: &'a str, context: Option<&'a str>) -> Cow<'a, str> {
        let found = match current_language() {
            Language::English => None,
            Language::Portuguese => self.0.form(n, context, singular),
        };
        Cow::Borrowed(found.unwrap_or(if n == 1 { singular } else { plural }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{in_language, tr};

    #[test]
    fn a_plural_has_the_form_of_its_number() {
        const SORTED: &[CatalogueEntry] = &[
            CatalogueEntry { context: None, text: "one", forms: &["um"] },
            CatalogueEntry { context: None, text: "{n} file", forms: &["{n} arquivo", "{n} arquivos"] },
            CatalogueEntry { context: Some("number"), text: "one", forms: &["1"] },
        ];
        static CATALOGUE: Catalogue = Catalogue::new(SORTED);
        crate::use_catalogue!(&CATALOGUE);
        let said = || {
            let files = |n: usize| tr!("{n} file" | "{n} files" % n);
            [files(0), files(1), files(2), tr!("one"), tr!("number" => "one"), tr!("unknown {it}", it = 7)]
        };
        assert_eq!(said(), ["0 files", "1 file", "2 files", "one", "one", "unknown 7"]);
        let translated = in_language(Language::Portuguese, said);
        assert_eq!(translated, ["0 arquivo", "1 arquivo", "2 arquivos", "um", "1", "unknown 7"]);
    }
}
