//! The translations of `tracker`, and the language of a run.

use std::ffi::OsString;

use arguments::{chosen_language, early_value};
use localization::{Catalogue, Language, compiled_translations, use_catalogue};

/// The texts of `tracker` in Portuguese.
static TEXTS: Catalogue = compiled_translations!();

/// Returns the texts of `tracker` in Portuguese.
pub const fn translations() -> &'static Catalogue {
    &TEXTS
}

/// Lets all crates of the program find their translations.
pub fn use_translations() {
    use_catalogue!(&TEXTS);
    arguments::use_library_translations();
    certs::use_translations();
}

/// Returns the language of a run with these words: that of `--lang`, of the configuration file, or of the locale.
pub fn language_of(words: &[OsString]) -> Language {
    chosen_language(words, || {
        // Whatever is wrong with the file is reported later, when the settings are read from it.
        let text = std::fs::read_to_string(early_value(words, "--config")?).ok()?;
        text.parse::<toml::Table>().ok()?.get("lang")?.as_str()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arguments::map_texts;
    use clap::CommandFactory;
    use translation_check::{UsedText, source_texts, translation_faults};

    use super::super::TrackerArgs;

    #[test]
    fn every_text_is_translated() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut texts = source_texts(&folder.join("src"));
        texts.extend(source_texts(&folder.join("tests")));
        map_texts(TrackerArgs::command(), &mut |context, text| {
            texts.push(UsedText::plain("the command line", context, text));
            text.to_owned()
        });
        let faults = translation_faults(&texts, &folder.join("translations/pt_BR"));
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
