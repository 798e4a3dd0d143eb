//! The translations of `peer`, and the language of a run.

use std::ffi::OsString;
use std::path::Path;

use arguments::{chosen_language, early_value, has_early_flag};
use localization::{Catalogue, Language, compiled_translations, use_catalogue};

use super::config_file::configured_language;

/// The texts of `peer` in Portuguese.
pub(super) static TEXTS: Catalogue = compiled_translations!();

/// Lets all crates of the program find their translations.
pub(super) fn use_translations() {
    use_catalogue!(&TEXTS);
    arguments::use_library_translations();
    certs::use_translations();
}

/// Returns the language of a run with these words.
pub(super) fn language_of(words: &[OsString]) -> Language {
    // Before the parsing, whose help and errors are in that language already.
    chosen_language(words, || {
        if has_early_flag(words, "--no-config") {
            return None;
        }
        let of_environment = std::env::var_os("VIZINHO_HOME");
        let home = early_value(words, "--home").or(of_environment.as_deref()).filter(|home| !home.is_empty());
        configured_language(home.map(Path::new))
    })
}

#[cfg(test)]
mod tests {
    use arguments::map_texts;
    use clap::CommandFactory;
    use translation_check::{UsedText, source_texts, translation_faults};
    use unicode_width::UnicodeWidthStr;

    use super::super::args::CliArgs;
    use super::*;
    use crate::engine::doctor::CheckName;

    #[test]
    fn every_text_is_translated() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut texts = source_texts(&folder.join("src"));
        map_texts(CliArgs::command(), &mut |context, text| {
            texts.push(UsedText::plain("the command line", context, text));
            text.to_owned()
        });
        let faults = translation_faults(&texts, &folder.join("translations/pt_BR"));
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn words_in_columns_fit() {
        let bars = ["verifying", "verified", "waiting", "stalled"].map(|word| ("bar", word));
        let subjects = CheckName::ALL.iter().map(|check| ("doctor", check.as_str()));
        for (context, word) in bars.into_iter().chain(subjects) {
            let translation = TEXTS.find(Some(context), word).unwrap();
            assert!(translation.width() <= 10, "{translation:?}");
        }
    }
}
