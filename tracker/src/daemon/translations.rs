//! The translations of `tracker`, and the language of a run.

use std::ffi::OsString;

use arguments::{chosen_language, early_value};
use localization::{Catalogue, Language, compiled_translations, use_catalogue};

/// The texts of `tracker` in Portuguese.
pub(super) static TEXTS: Catalogue = compiled_translations!();

/// Lets all crates of the program find their translations.
pub fn use_translations() {
    use_catalogue!(&TEXTS);
    arguments::use_library_translations();
    certs::use_translations();
}

/// Returns the language of a run with these words: that of `--lang`, of the configuration file, or of the locale.
pub fn language_of(words: &[OsString]) -> Language {
    chosen_language(words, || {
        let text = std::fs::read_to_string(early_value(words, "--config")?).ok()?;
        text.parse::<toml::Table>().ok()?.get("lang")?.as_str()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use translation_check::{source_texts, translation_faults};

    #[test]
    fn every_text_is_translated() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let faults = translation_faults(&source_texts(&folder.join("src")), &folder.join("translations/pt_BR"));
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
