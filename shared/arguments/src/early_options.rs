//! Options that count before the command line is parsed: help and errors already have a language.

use std::ffi::{OsStr, OsString};

use localization::Language;

/// Chooses the language of a run: that of `--lang`, of the configuration file, or of the locale.
///
/// With `--json` everything is for programs, and English.
pub fn chosen_language(words: &[OsString], configured: impl FnOnce() -> Option<Language>) -> Language {
    if has_early_flag(words, "--json") {
        return Language::English;
    }
    let named = early_value(words, "--lang").and_then(|name| name.to_str()?.parse().ok());
    named.or_else(configured).unwrap_or_else(|| Language::from_locale(|name| std::env::var(name).ok()))
}

/// Returns the value of a long option, the last of several, as far as it can be known before parsing.
pub fn early_value<'a>(words: &'a [OsString], option: &str) -> Option<&'a OsStr> {
    let mut found = None;
    let mut rest = options(words);
    while let Some(word) = rest.next() {
        if word == option {
            found = rest.next();
        } else if let Some(value) = word.to_str().and_then(|word| word.strip_prefix(option)?.strip_prefix('=')) {
            found = Some(OsStr::new(value));
        }
    }
    found
}

/// Returns true if a flag is given, as far as that can be known before parsing.
pub fn has_early_flag(words: &[OsString], flag: &str) -> bool {
    options(words).any(|word| word == flag)
}

/// Returns the words that may be options: those before `--`.
fn options(words: &[OsString]) -> impl Iterator<Item = &OsStr> {
    words.iter().skip(1).map(OsString::as_os_str).take_while(|word| *word != "--")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn the_language_is_known_before_parsing() {
        let chosen = |line| chosen_language(&words(line), || Some(Language::Portuguese));
        assert_eq!(chosen("peer list"), Language::Portuguese);
        assert_eq!(chosen("peer --lang en list"), Language::English);
        assert_eq!(chosen("peer list --lang=pt-BR --lang=en"), Language::English);
        assert_eq!(chosen("peer list --lang"), Language::Portuguese);
        assert_eq!(chosen("peer list --lang klingon"), Language::Portuguese, "clap says what is wrong");
        assert_eq!(chosen("peer chat bob -- --lang en"), Language::Portuguese);
        assert_eq!(chosen("peer --lang pt --json list"), Language::English);
        assert_eq!(chosen_language(&words("peer --lang pt_BR.UTF-8"), || None), Language::Portuguese);
    }

    #[test]
    fn a_value_is_the_last_one() {
        assert_eq!(early_value(&words("peer --home a --home=b=c"), "--home"), Some(OsStr::new("b=c")));
        assert_eq!(early_value(&words("peer --homely a"), "--home"), None);
        assert!(has_early_flag(&words("peer x --no-config"), "--no-config"));
        assert!(!has_early_flag(&words("peer -- --no-config"), "--no-config"));
    }
}
