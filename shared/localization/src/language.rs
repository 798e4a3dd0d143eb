//! The language of the process, and which one a user wants.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// A language of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// The language of the texts in the code, and of everything that programs read.
    English,
    /// Brazilian Portuguese.
    Portuguese,
}

/// The error for a name of a language that the programs don't speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLanguage;

impl fmt::Display for UnknownLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not translated: whose language is unknown reads the names.
        f.write_str("the languages are en and pt-BR")
    }
}

impl std::error::Error for UnknownLanguage {}

impl FromStr for Language {
    type Err = UnknownLanguage;

    /// Takes `en`, `pt-BR` and their kin, also in the forms of a locale, as in `pt_BR.UTF-8`.
    fn from_str(text: &str) -> Result<Self, UnknownLanguage> {
        let code = text.split(['.', '@', '_', '-']).next().unwrap_or_default();
        match code.to_ascii_lowercase().as_str() {
            "en" => Ok(Self::English),
            // Of all who read some Portuguese, each prefers this one to English.
            "pt" => Ok(Self::Portuguese),
            _ => Err(UnknownLanguage),
        }
    }
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::Portuguese];

    /// Returns the name by which `--lang` knows it.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Portuguese => "pt-BR",
        }
    }

    /// Returns the sign between the whole and the fraction of a number.
    pub const fn decimal_mark(self) -> char {
        match self {
            Self::English => '.',
            Self::Portuguese => ',',
        }
    }

    /// Chooses by the locale. `variable` returns those of the environment.
    ///
    /// As in POSIX, the first that isn't empty counts of `LC_ALL`, `LC_MESSAGES` and `LANG`. As in GNU gettext, a
    /// `LANGUAGE` with a list goes before them, unless the locale is `C`.
    pub fn from_locale(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set).unwrap_or_default();
        // gettext ignores LANGUAGE in the locale C as well (manual, 2.3.3).
        if ["", "C", "POSIX"].contains(&locale.split('.').next().unwrap_or_default()) {
            return Self::English;
        }
        let preferred = set("LANGUAGE");
        let mut names = preferred.iter().flat_map(|list| list.split(':')).chain([&*locale]);
        names.find_map(|name| name.parse().ok()).unwrap_or(Self::English)
    }
}

static IS_PORTUGUESE: AtomicBool = AtomicBool::new(false);

thread_local! {
    static HERE: Cell<Option<Language>> = const { Cell::new(None) };
}

/// Sets the language of the process.
pub fn set_language(language: Language) {
    IS_PORTUGUESE.store(language == Language::Portuguese, Ordering::Relaxed);
}

/// Returns the language in which a text would be now, on this thread.
pub fn current_language() -> Language {
    let of_process = || if IS_PORTUGUESE.load(Ordering::Relaxed) { Language::Portuguese } else { Language::English };
    HERE.get().unwrap_or_else(of_process)
}

/// Runs `work` with everything that it formats in English: for whatever a program reads.
///
/// The work may not wait for anything: the language is that of the thread meanwhile.
pub fn in_english<T>(work: impl FnOnce() -> T) -> T {
    in_language(Language::English, work)
}

/// Runs `work` with everything that it formats in a language.
pub fn in_language<T>(language: Language, work: impl FnOnce() -> T) -> T {
    /// Puts the former language back, also when the work panics.
    struct Former(Option<Language>);

    impl Drop for Former {
        fn drop(&mut self) {
            HERE.set(self.0);
        }
    }

    let _former = Former(HERE.replace(Some(language)));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)]) -> Language {
        let value =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        Language::from_locale(value)
    }

    #[test]
    fn the_locale_chooses_in_the_order_of_posix() {
        use Language::{English, Portuguese};
        for (variables, expected) in [
            (&[] as &[(&str, &str)], English),
            (&[("LANG", "pt_BR.UTF-8")], Portuguese),
            (&[("LANG", "pt")], Portuguese),
            (&[("LANG", "pt_PT@euro")], Portuguese),
            (&[("LANG", "ptx_BR")], English),
            (&[("LANG", "de_DE.UTF-8")], English),
            (&[("LANG", "C.UTF-8")], English),
            (&[("LANG", "en_US.UTF-8"), ("LC_MESSAGES", "pt_BR.UTF-8")], Portuguese),
            (&[("LANG", "pt_BR.UTF-8"), ("LC_MESSAGES", "en_US.UTF-8")], English),
            (&[("LANG", "pt_BR.UTF-8"), ("LC_ALL", "C")], English),
            (&[("LANG", "pt_BR.UTF-8"), ("LC_ALL", "")], Portuguese),
            (&[("LANG", "en_US.UTF-8"), ("LANGUAGE", "pt_BR:en")], Portuguese),
            (&[("LANG", "pt_BR.UTF-8"), ("LANGUAGE", "en")], English),
            (&[("LANG", "en_US.UTF-8"), ("LANGUAGE", "de:pt")], Portuguese),
            (&[("LANG", "pt_BR.UTF-8"), ("LANGUAGE", "de")], Portuguese),
            (&[("LANG", "C"), ("LANGUAGE", "pt_BR")], English),
            (&[("LANGUAGE", "pt_BR")], English),
        ] {
            assert_eq!(chosen(variables), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_language_has_a_name() {
        for language in Language::ALL {
            assert_eq!(language.tag().parse(), Ok(language));
        }
        assert_eq!("pt_br".parse(), Ok(Language::Portuguese));
        assert_eq!("".parse::<Language>(), Err(UnknownLanguage));
        assert_eq!("português".parse::<Language>(), Err(UnknownLanguage));
    }

    #[test]
    fn a_thread_goes_back_to_its_language_even_after_a_panic() {
        in_language(Language::Portuguese, || {
            assert_eq!(current_language(), Language::Portuguese);
            assert_eq!(in_english(current_language), Language::English);
            assert!(std::panic::catch_unwind(|| in_english(|| panic!("on purpose"))).is_err());
            assert_eq!(current_language(), Language::Portuguese);
            let other = std::thread::spawn(current_language).join();
            assert_eq!(other.unwrap(), Language::English);
        });
    }
}
