//! Names of new accounts: their syntax, suggestions in place of unusable names, and the claims that keep look-alike
//! names apart.
//!
//! # Claims
//!
//! Two accounts must not be mistaken for one another, so an account claims more than its exact name. Each claim is a
//! key of one [`NameClaimKind`], and a key belongs to one account:
//!
//! | kind | key | claimed by `Bob.1` |
//! |---|---|---|
//! | `case` | the name in lower case | `bob.1` |
//! | `look` | each reading of the name | `bobl`, `bobi` |
//!
//! A *reading* is the skeleton of the name in the sense of UTS 39, restricted to the characters of user names. It is
//! computed in this order:
//!
//! 1. `.`, `_` and `-`, one or several in a row, are removed, except that between two digits they become a `.`: `v1-2`
//!    is not `v12`. Between two characters that look like digits (`l`, `i` and `o` included) both readings count, as in
//!    `vl-2`;
//! 2. each `1` and each capital `I` is read as `l` and as `i`;
//! 3. letters become lower case, and `0` becomes `o`;
//! 4. `m` becomes `rn`, and `w` becomes `vv`.
//!
//! So `a11ce` and `aIice` claim a key of `alice`. `iara` claims no key of `lara`, but `Iara` does. Only the first
//! [`MAX_AMBIGUOUS_CHARS`] ambiguous characters are read in both ways independently. All others are read in the first
//! way, or all in the second, so a name has at most 32 readings.

mod reserved_words;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use localization::tr;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::UserName;
use crate::limits::MAX_USER_NAME_BYTES;
use crate::names::NameError;
use crate::safe_text::safe_line;

pub use reserved_words::{is_reserved, speaker_label};

/// The largest number appended to a name to make an alternative.
const MAX_NAME_SUFFIX: u32 = 9;
/// Number of ambiguous characters in one name that are read in both ways independently.
pub const MAX_AMBIGUOUS_CHARS: usize = 4;

/// A name that a new account may have. Older accounts may have names that break its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUserName(UserName);

/// The reason why a name can't be used, and a name to use instead. `Display` says both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNameError {
    reason: UserNameFault,
    suggestion: Option<NewUserName>,
}

/// A reason why a name can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UserNameFault {
    Syntax(NameError),
    /// The first character is `.`, `_` or `-`.
    BadFirstChar,
    ConsecutiveDots,
    /// It is a word of our own.
    Reserved,
}

/// The kind of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameClaimKind {
    /// The name in lower case.
    Case,
    /// A reading of the name.
    Skeleton,
}

/// A claim of an account. No two accounts have the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameClaim {
    /// The rule that made the key.
    pub kind: NameClaimKind,
    /// The lower-case name or one reading, by `kind`.
    pub key: String,
}

impl NewUserName {
    /// Returns the name.
    pub const fn as_user_name(&self) -> &UserName {
        &self.0
    }

    /// Returns a valid name like `text`: accents are removed, and blanks become dots. Returns `None` if nothing is
    /// left, as for a name in another script. The name may be taken.
    pub fn suggested_for(text: &str) -> Option<Self> {
        // In an e-mail address, the part before the `@` names the person.
        let before_at = text.split_once('@').map(|(person, _)| person);
        // `@ana` has nothing before its `@`.
        before_at.and_then(suggest_name).or_else(|| suggest_name(text))
    }
}

impl TryFrom<UserName> for NewUserName {
    type Error = UserNameError;

    fn try_from(name: UserName) -> Result<Self, UserNameError> {
        match find_fault(&name) {
            None => Ok(Self(name)),
            Some(reason) => Err(UserNameError::new(reason, name.as_str())),
        }
    }
}

impl FromStr for NewUserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        text.parse::<UserName>()?.try_into()
    }
}

impl UserNameError {
    /// Makes the error of a text that is not a user name.
    pub(crate) fn of_syntax(text: &str, why: NameError) -> Self {
        Self::new(UserNameFault::Syntax(why), text)
    }

    /// Returns the reason.
    pub(crate) const fn reason(&self) -> &UserNameFault {
        &self.reason
    }

    /// Replaces the suggestion.
    #[must_use]
    pub fn with_suggestion(self, instead: Option<NewUserName>) -> Self {
        Self { suggestion: instead, ..self }
    }

    /// Returns a valid name to use instead.
    pub fn suggestion(&self) -> Option<&UserName> {
        self.suggestion.as_ref().map(NewUserName::as_user_name)
    }

    fn new(reason: UserNameFault, text: &str) -> Self {
        let suggestion = match reason {
            // A valid form of the word is the word again, or looks like it.
            UserNameFault::Reserved => with_number(text, 2).parse().ok(),
            _ => NewUserName::suggested_for(text),
        };
        Self { reason, suggestion }
    }
}

impl From<NewUserName> for UserName {
    fn from(name: NewUserName) -> Self {
        name.0
    }
}

impl fmt::Display for UserNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.suggestion {
            Some(NewUserName(name)) => f.write_str(&tr!("{why}: use {name}, for example", why = self.reason, name)),
            None => {
                f.write_str(&tr!("{why}: use letters from a to z, digits, and _ . - between them", why = self.reason))
            }
        }
    }
}

impl std::error::Error for UserNameError {}

impl fmt::Display for UserNameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(NameError::Empty) => f.write_str(&tr!("a name can't be empty")),
            Self::Syntax(NameError::TooLong { limit }) => {
                f.write_str(&tr!("a name has at most {limit} characters", limit))
            }
            Self::Syntax(NameError::ForbiddenChar(' ')) => f.write_str(&tr!("a name can't contain a space")),
            Self::Syntax(NameError::ForbiddenChar(c)) if is_combining_mark(*c) => {
                f.write_str(&tr!("a name can't contain accents"))
            }
            Self::Syntax(NameError::ForbiddenChar(c)) => {
                let mut bytes = [0; 4];
                let text: &str = c.encode_utf8(&mut bytes);
                // A blank or an invisible character can't be recognized, so its code is shown.
                let is_shown_as_it_is = !c.is_whitespace() && safe_line(text) == text;
                if is_shown_as_it_is {
                    f.write_str(&tr!("a name can't contain {character}", character = text))
                } else {
                    let code = format!("U+{:04X}", u32::from(*c));
                    f.write_str(&tr!("a name can't contain the character {code}", code))
                }
            }
            Self::Syntax(other) => write!(f, "{other}"),
            Self::BadFirstChar => f.write_str(&tr!("a new name begins with a letter or a digit")),
            Self::ConsecutiveDots => f.write_str(&tr!("a new name has no two dots in a row")),
            Self::Reserved => f.write_str(&tr!("that name is reserved")),
        }
    }
}

impl NameClaimKind {
    /// Returns the kind's stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Case => "case",
            Self::Skeleton => "look",
        }
    }
}

/// Returns the name as the last operand of a command to be pasted into a shell, after `--` if it would be taken for an
/// option.
pub fn shell_operand(name: &UserName) -> Cow<'_, str> {
    if name.as_str().starts_with('-') { format!("-- {name}").into() } else { name.as_str().into() }
}

/// Returns the claims of an account with this name.
pub fn name_claims(name: &UserName) -> Vec<NameClaim> {
    let case = NameClaim { kind: NameClaimKind::Case, key: name.as_str().to_ascii_lowercase() };
    let look = skeletons(name.as_str()).into_iter().map(|key| NameClaim { kind: NameClaimKind::Skeleton, key });
    std::iter::once(case).chain(look).collect()
}

/// Returns alternatives to `name`: a valid form of it, that form in lower case (hard to mistake for others), and both
/// with numbers. They may be taken.
pub fn suggest_alternatives(name: &UserName) -> Vec<NewUserName> {
    let Some(NewUserName(wanted)) = NewUserName::suggested_for(name.as_str()) else { return Vec::new() };
    let mut spellings = vec![wanted.to_string(), wanted.as_str().to_ascii_lowercase()];
    // A name in lower case has only one spelling.
    spellings.dedup();
    let numbered = (2..=MAX_NAME_SUFFIX).flat_map(|number| spellings.iter().map(move |name| with_number(name, number)));
    let all = spellings.iter().cloned().chain(numbered);
    all.filter_map(|name| name.parse().ok()).collect()
}

/// Appends `number`, shortening the name if necessary. A dash separates it from a digit at the end of the name.
fn with_number(name: &str, number: u32) -> String {
    // `bob1` with a 2 would read as `bob12`.
    let dash = if name.ends_with(|last: char| last.is_ascii_digit()) { "-" } else { "" };
    let number = format!("{dash}{number}");
    // User names are ASCII, so every index is a character boundary.
    let kept = name.get(..MAX_USER_NAME_BYTES - number.len()).unwrap_or(name);
    format!("{kept}{number}")
}

/// Returns true if the names are equal apart from the case of letters.
pub fn is_same_ignoring_case(one: &UserName, other: &UserName) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

fn suggest_name(text: &str) -> Option<NewUserName> {
    let mut name = String::new();
    // NFKD splits a letter from its accents, and full-width or ligature forms into ASCII letters.
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)) {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c),
            // Leading ones are dropped: a new name begins with a letter or a digit.
            '_' | '-' if !name.is_empty() => name.push(c),
            '.' | '/' | '\\' | '@' | ',' | ':' => push_separator(&mut name),
            c if c.is_whitespace() => push_separator(&mut name),
            c => name.push_str(ascii_spelling(c)),
        }
        // One character may have added two letters, so the limit may be passed by one.
        if name.len() >= MAX_USER_NAME_BYTES {
            name.truncate(MAX_USER_NAME_BYTES);
            break;
        }
    }
    // `UserName::new` rather than `parse`, whose error would compute a suggestion in turn.
    let name = UserName::new(name.trim_end_matches(['.', '_', '-'])).ok()?;
    find_fault(&name).is_none().then_some(NewUserName(name))
}

fn find_fault(name: &UserName) -> Option<UserNameFault> {
    if !name.as_str().starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Some(UserNameFault::BadFirstChar);
    }
    if name.as_str().contains("..") {
        return Some(UserNameFault::ConsecutiveDots);
    }
    is_reserved(name).then_some(UserNameFault::Reserved)
}

fn push_separator(name: &mut String) {
    // A new name has neither a dot at its beginning nor two in a row.
    if !name.is_empty() && !name.ends_with('.') {
        name.push('.');
    }
}

/// Returns the ASCII spelling of letters that NFKD doesn't decompose, and an empty text for other characters.
const fn ascii_spelling(c: char) -> &'static str {
    match c {
        'ß' => "ss",
        'ẞ' => "SS",
        'æ' => "ae",
        'Æ' => "AE",
        'œ' => "oe",
        'Œ' => "OE",
        'ø' => "o",
        'Ø' => "O",
        'đ' | 'ð' => "d",
        'Đ' | 'Ð' => "D",
        'ł' => "l",
        'Ł' => "L",
        'ı' => "i",
        'þ' => "th",
        'Þ' => "Th",
        'ħ' => "h",
        'Ħ' => "H",
        _ => "",
    }
}

fn skeletons(name: &str) -> Vec<String> {
    let mut readings: Vec<String> = [0, 1].into_iter().flat_map(|rest| skeletons_choosing(name, rest)).collect();
    // A name of separators only, such as `_`, has no reading. It must not claim the empty key.
    readings.retain(|text| !text.is_empty());
    // Without characters beyond the bound, both ways give the same readings.
    readings.sort();
    readings.dedup();
    readings
}

/// Returns the readings of `name` in which the ambiguous characters beyond [`MAX_AMBIGUOUS_CHARS`] are all read in way
/// `rest`, 0 or 1.
fn skeletons_choosing(name: &str, rest: usize) -> Vec<String> {
    let (mut readings, mut ambiguous) = (vec![String::new()], 0);
    let mut before = None;
    for (at, c) in name.char_indices() {
        let small = c.to_ascii_lowercase();
        let mut bytes = [0; 4];
        let itself = [&*small.encode_utf8(&mut bytes)];
        let read: &[&str] = match c {
            // Several separators in a row count as one.
            '.' | '_' | '-' if name.get(..at).is_some_and(|text| text.ends_with(is_separator)) => &[""],
            '.' | '_' | '-' => {
                let next = name.get(at..).and_then(|text| text.chars().find(|c| !is_separator(*c)));
                separator_skeletons(before, next)
            }
            '1' | 'I' => &["l", "i"],
            '0' => &["o"],
            // Replacing the wide letter by its look-alike pair lets `modern` and `modem` meet in one key.
            'm' | 'M' => &["rn"],
            'w' | 'W' => &["vv"],
            _ => &itself,
        };
        // A run of separators is judged by the characters on both sides of it.
        if !is_separator(c) {
            before = Some(c);
        }
        if let [first, second] = read
            && ambiguous < MAX_AMBIGUOUS_CHARS
        {
            ambiguous += 1;
            readings = readings.iter().flat_map(|text| [format!("{text}{first}"), format!("{text}{second}")]).collect();
        } else if let Some(read) = read.get(rest).or(read.first()) {
            readings.iter_mut().for_each(|text| text.push_str(read));
        }
    }
    readings
}

/// Returns the readings of a separator between two characters. It keeps numbers apart, and possible numbers in one of
/// two readings.
fn separator_skeletons(before: Option<char>, next: Option<char>) -> &'static [&'static str] {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    // Capitals count although `L` looks like no digit: a reading ignores the case of letters.
    let is_like_digit = |c: Option<char>| is_digit(c) || c.is_some_and(|c| "lioLIO".contains(c));
    if is_digit(before) && is_digit(next) {
        &["."]
    } else if is_like_digit(before) && is_like_digit(next) {
        &["", "."]
    } else {
        &[""]
    }
}

const fn is_separator(c: char) -> bool {
    matches!(c, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    fn clash(one: &str, other: &str) -> bool {
        let (one, other) = (name_claims(&name(one)), name_claims(&name(other)));
        one.iter().any(|claim| other.contains(claim))
    }

    #[test]
    fn names_that_can_be_taken_for_one_another_clash() {
        for (one, others) in [
            ("bob", &["Bob", "BOB", "b0b", "bob.", ".bob", "b.o.b", "bob_", "-bob", "B0B"][..]),
            ("alice", &["a1ice", "aIice", "al1ce", "a11ce", "AL1CE", "AIICE", "a-lice", "allce1"][..7]),
            ("bill", &["B1LL", "bi11", "BI1l", "biIl", "bil1", "b.1.1.l"][..5]),
            ("maria", &["rnaria", "Maria", "RNaria", "r.naria", "MAR1A"]),
            ("william", &["vvilliam", "VVilliam", "wi11iarn", "Wllliam"][..3]),
            ("maria.silva", &["mariasilva", "maria_silva", "Maria-Silva"]),
            ("iara", &["1ara", "Iara", "IARA"]),
            ("lara", &["1ara", "Iara", "LARA"]),
            ("v1-2", &["v1.2", "V1_2", "vl-2", "vI.2", "v1--2", "v1._2"]),
            ("aluno1-1", &["alunol-1", "aluno1-l", "alunoI_I", "aluno1.-1"]),
            ("paulo.oliveira", &["paulooliveira", "paul0.oliveira", "paulo-0liveira"]),
            ("vw", &["vvv", "wv", "V-W"]),
            ("mrn", &["rnm", "rnrn", "mm"]),
            ("iiiiiii", &["1iiiiii", "1IIIIII", "I1I1I1I"]),
            ("lllllll", &["1IIIIII", "I1I1I1I"]),
        ] {
            for other in others {
                assert!(clash(one, other) && clash(other, one), "{one} and {other}");
            }
        }
    }

    #[test]
    fn names_that_only_resemble_each_other_don_t() {
        for (one, other) in [
            ("iara", "lara"),
            ("ila", "lia"),
            ("ana", "anna"),
            ("aluno1", "aluno2"),
            ("aluno1", "aluno11"),
            ("aluno-1-1", "aluno-11"),
            ("u1.11", "u11.1"),
            ("p10", "p01"),
            ("user0", "user1"),
            ("mara", "maria"),
            ("bob", "bob2"),
        ] {
            assert!(!clash(one, other), "{one} and {other}");
        }
    }

    #[test]
    fn the_claims_of_a_name() {
        let keys = |text: &str| -> Vec<(&str, String)> {
            name_claims(&name(text)).into_iter().map(|claim| (claim.kind.as_str(), claim.key)).collect()
        };
        let of = |kind: &'static str, key: &str| (kind, key.to_owned());
        assert_eq!(keys("Bob.1"), [of("case", "bob.1"), of("look", "bobi"), of("look", "bobl")]);
        assert_eq!(keys("-"), [of("case", "-")]);
        assert_eq!(keys(&"1".repeat(32)).len(), 1 + (2 << MAX_AMBIGUOUS_CHARS));
    }

    #[test]
    fn names_of_new_accounts() {
        for good in ["a", "0", "alice", "A.b-c_9", "a-", "a.", &"x".repeat(32)] {
            assert_eq!(good.parse::<NewUserName>().unwrap().as_user_name().as_str(), good);
        }
        for (bad, why) in [
            ("-x", UserNameFault::BadFirstChar),
            ("..", UserNameFault::BadFirstChar),
            ("a..b", UserNameFault::ConsecutiveDots),
        ] {
            assert!(bad.parse::<UserName>().is_ok());
            assert_eq!(bad.parse::<NewUserName>().unwrap_err().reason, why);
        }
    }

    #[test]
    fn names_for_somebody_whose_own_is_taken() {
        let all = |text: &str| -> Vec<String> {
            suggest_alternatives(&name(text)).into_iter().map(|name| name.as_user_name().to_string()).collect()
        };
        assert_eq!(all("Iara")[..4], ["Iara", "iara", "Iara2", "iara2"]);
        assert_eq!(all("joao")[..3], ["joao", "joao2", "joao3"]);
        assert_eq!(all("aluno1")[..2], ["aluno1", "aluno1-2"]);
        assert_eq!(all("-x")[..2], ["x", "x2"]);
        assert_eq!(all(&"x".repeat(32))[1], format!("{}2", "x".repeat(31)));
        assert_eq!(all("..").len(), 0);
        assert!(!clash("aluno1", "aluno1-2") && !clash("aluno12", "aluno1-2") && !clash("lara", "iara2"));
    }

    #[test]
    fn a_name_that_looks_like_an_option_is_kept_from_being_one() {
        assert_eq!(shell_operand(&name("bob")), "bob");
        assert_eq!(shell_operand(&name("--help")), "-- --help");
    }

    #[test]
    fn what_is_offered_for_a_name_that_can_t_be_used() {
        let long = "Pedro de Alcântara Francisco António João".to_owned();
        for (text, offered) in [
            ("João", Some("Joao")),
            ("Maria Silva", Some("Maria.Silva")),
            ("  José   da Silva Júnior ", Some("Jose.da.Silva.Junior")),
            ("ana@ufx.br", Some("ana")),
            ("@ana", Some("ana")),
            ("Müller-Lüdenscheidt", Some("Muller-Ludenscheidt")),
            ("Søren Straße", Some("Soren.Strasse")),
            ("Łukasz", Some("Lukasz")),
            ("ｂｏｂ", Some("bob")),
            ("--help", Some("help")),
            ("a..b", Some("a.b")),
            ("d'Artagnan!", Some("dArtagnan")),
            ("bob\u{202e}", Some("bob")),
            ("c:\\users\\ana", Some("c.users.ana")),
            (&long, Some("Pedro.de.Alcantara.Francisco.Ant")),
            ("Иван", None),
            ("李雷", None),
            ("..", None),
            ("", None),
        ] {
            let name = NewUserName::suggested_for(text).map(|name| name.as_user_name().to_string());
            assert_eq!(name.as_deref(), offered, "{text:?}");
        }
    }

    #[test]
    fn an_error_names_the_reason_and_another_name() {
        let said = |text: &str| text.parse::<NewUserName>().unwrap_err().to_string();
        assert_eq!(said("João"), "a name can't contain ã: use Joao, for example");
        assert_eq!(said("dan smith"), "a name can't contain a space: use dan.smith, for example");
        assert_eq!(said("-x"), "a new name begins with a letter or a digit: use x, for example");
        assert_eq!(said("a\u{202e}b"), "a name can't contain the character U+202E: use ab, for example");
        assert_eq!(said("a\tb"), "a name can't contain the character U+0009: use a.b, for example");
        assert_eq!(said("Joa\u{303}o"), "a name can't contain accents: use Joao, for example");
        assert_eq!(said(""), "a name can't be empty: use letters from a to z, digits, and _ . - between them");
    }

    proptest! {
        #[test]
        fn whatever_is_offered_would_do(text in "(\\PC|[ ._@-]|[a-zA-Z0-9é]){0,50}") {
            if let Some(offered) = NewUserName::suggested_for(&text) {
                let again: NewUserName = offered.as_user_name().as_str().parse().unwrap();
                prop_assert_eq!(again, offered);
            }
        }

        #[test]
        fn a_name_clashes_with_itself_in_any_case(text in "[A-Za-z0-9][A-Za-z0-9_.-]{0,31}") {
            for other in [text.to_ascii_lowercase(), text.to_ascii_uppercase()] {
                prop_assert!(clash(&text, &other));
            }
            prop_assert!(name_claims(&name(&text)).len() <= 1 + (2 << MAX_AMBIGUOUS_CHARS));
        }
    }
}
