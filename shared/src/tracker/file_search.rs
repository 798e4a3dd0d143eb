//! `FIND`: search for files of present users by hash or by words in their names.
//!
//! The words of a text are its runs of letters and digits, in lower case and composed form (NFC). A name matches if
//! each search word is the beginning of one of its words; accents and normal forms don't matter. `rel 2024` and
//! `relatório` find `Relatorio final-2024.pdf`; `port` doesn't find `report`. In scripts without blanks between words,
//! each character of a name is a word.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;

use super::HashText;
use crate::limits::{MAX_FILE_NAME_BYTES, MAX_FIND_WORDS};
use crate::names::to_nfc;
use crate::text_serde::deserialize_text;
use crate::{FileName, UserName};

/// A search, for one page of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindRequest {
    /// The hash or the words to match.
    pub criterion: FindCriterion,
    /// Most files to return; the tracker has a bound of its own too.
    pub limit: Option<usize>,
    /// The `next` of the page before; `None` for the first page.
    pub cursor: Option<FindCursor>,
}

/// The criterion of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindCriterion {
    /// The file's hash.
    Hash(HashText),
    /// Words in the file's name.
    Words(SearchWords),
}

/// The words of a search, 1 to [`MAX_FIND_WORDS`]. A name must match all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchWords(Vec<String>);

/// The last file of a page. Its text form is `USER/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FindCursor {
    /// The user who shares it.
    pub user: UserName,
    /// Its name.
    pub name: FileName,
}

/// The reply to `FIND`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindReply {
    /// Found files, ordered by user and name.
    pub files: Vec<FoundFile>,
    /// The cursor of the next page; `None` if there are no more files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<FindCursor>,
}

/// A file found by `FIND`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundFile {
    /// The user who shares it.
    pub user: UserName,
    /// Its name.
    pub name: FileName,
    /// Size in bytes.
    pub size: u64,
    /// The hash it is registered with.
    pub hash: HashText,
}

/// Returns the words of a text: its runs of letters and digits, in lower case and composed form.
pub fn search_words(text: &str) -> impl Iterator<Item = String> + use<> {
    let mut lower = String::with_capacity(text.len());
    push_lower(&mut lower, text);
    // Neither folded nor segmented: these words travel, and each version of a tracker compares in its own way.
    word_runs(&to_nfc(&lower)).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Appends `text` in the form in which words are compared: lower case, without accents.
pub fn push_folded(folded: &mut String, text: &str) {
    // ASCII has no accents, so both passes over normal forms would change nothing.
    if text.is_ascii() {
        return push_lower(folded, text);
    }
    let mut lower = String::with_capacity(text.len());
    push_lower(&mut lower, text);
    // Composing again makes a remaining accent part of its letter, whatever the original form was.
    folded.extend(lower.nfd().filter(|c| !is_accent(*c)).nfc());
}

/// Returns true for combining diacritics of Latin, Greek and Cyrillic letters.
const fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// Appends `text` in lower case, ready for [`segment_words`].
pub fn push_lower(lower: &mut String, text: &str) {
    if text.is_ascii() {
        let begin = lower.len();
        lower.push_str(text);
        lower[begin..].make_ascii_lowercase();
        return;
    }
    // Lower case comes before splitting: `İ` becomes two characters, and the second is not a letter. Final sigma
    // becomes an ordinary one, since a search word may end inside a word of the name.
    lower.extend(text.chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c }));
}

/// Returns the words of a text made by [`push_lower`] or [`push_folded`]. In scripts without blanks, each character is
/// a word.
pub fn segment_words(lower: &str) -> impl Iterator<Item = &str> {
    word_runs(lower).flat_map(|run| {
        let mut rest = run;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let end = if is_unspaced_script(first) {
                // Vowel signs and accents belong to the character before them.
                let behind = first.len_utf8();
                rest[behind..].find(|c| !is_mark(c)).map_or(rest.len(), |marks| behind + marks)
            } else {
                rest.find(is_unspaced_script).unwrap_or(rest.len())
            };
            let (word, behind) = rest.split_at(end);
            rest = behind;
            Some(word)
        })
    })
}

/// Returns true for characters of scripts without blanks between words: Thai, Lao, Myanmar, Khmer, Kana and Han.
const fn is_unspaced_script(c: char) -> bool {
    // Hangul is not among them, since Korean has blanks. Planes 2 and 3 are set aside for Han as a whole.
    matches!(
        c,
        '\u{e01}'..='\u{e30}'
            | '\u{e81}'..='\u{eb0}'
            | '\u{1000}'..='\u{102a}'
            | '\u{1780}'..='\u{17b3}'
            | '\u{3041}'..='\u{3096}'
            | '\u{30a1}'..='\u{30fa}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{ff66}'..='\u{ff9d}'
            | '\u{20000}'..='\u{3fffd}'
    )
}

/// Returns true for vowel signs and accents of such scripts.
const fn is_mark(c: char) -> bool {
    is_accent(c)
        || matches!(
            c,
            '\u{e31}'..='\u{e3a}'
                | '\u{e47}'..='\u{e4e}'
                | '\u{eb1}'..='\u{ece}'
                | '\u{102b}'..='\u{103e}'
                | '\u{17b4}'..='\u{17d3}'
                | '\u{3099}'..='\u{309c}'
                | '\u{ff9e}'..='\u{ff9f}'
        )
}

/// Returns the runs of letters and digits.
fn word_runs(lower: &str) -> impl Iterator<Item = &str> {
    // An accent without a composed form doesn't end a word.
    let words = lower.split(|c: char| !c.is_alphanumeric() && !is_accent(c));
    words.filter(|word| word.chars().any(|c| c.is_alphanumeric() && !is_accent(c)))
}

impl SearchWords {
    /// Returns the words of `text`, or `None` if there are none, more than [`MAX_FIND_WORDS`], or `text` is longer than
    /// a file name.
    pub fn new(text: &str) -> Option<Self> {
        // A longer text matches no name, and isn't worth the work of folding it.
        if text.len() > MAX_FILE_NAME_BYTES {
            return None;
        }
        // One word more than allowed shows that there are too many.
        let words: Vec<String> = search_words(text).take(MAX_FIND_WORDS + 1).collect();
        (1..=MAX_FIND_WORDS).contains(&words.len()).then_some(Self(words))
    }

    /// Iterates over the words.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Iterates over the words as they are compared with names: folded, and segmented like names.
    pub fn folded(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|word| {
            let mut folded = String::with_capacity(word.len());
            push_folded(&mut folded, word);
            // Segmented like names: in a script without blanks, each character must begin a word.
            segment_words(&folded).map(str::to_owned).collect::<Vec<_>>()
        })
    }

    /// Returns true if each search word is the beginning of a word of `name`.
    pub fn matches(&self, name: &FileName) -> bool {
        let mut folded = String::new();
        push_folded(&mut folded, name.as_str());
        let in_name: Vec<&str> = segment_words(&folded).collect();
        self.folded().all(|word| in_name.iter().any(|other| other.starts_with(&word)))
    }
}

impl fmt::Display for SearchWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl fmt::Display for FindCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name as it is sent and not as displayed, which would be the cursor of another file.
        write!(f, "{}/{}", self.user, self.name.as_str())
    }
}

impl FromStr for FindCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A user name has no slash, so the first one ends it.
        let parse = || {
            let (user, name) = text.split_once('/')?;
            Some(Self { user: user.parse().ok()?, name: name.parse().ok()? })
        };
        parse().ok_or("it is not the \"next\" of a reply to FIND")
    }
}

impl Serialize for FindCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

deserialize_text!(FindCursor);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tracker::{TrackerRequest, parse_request};

    fn golden(find: FindRequest, text: &str) {
        let request = TrackerRequest::Find(find);
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(parse_request(text).request, Ok(request));
    }

    #[test]
    fn golden_requests() {
        let wanted = FindCriterion::Words(SearchWords::new("Final  REPORT.pdf").unwrap());
        let cursor = Some("bob/docs/a b.txt".parse().unwrap());
        golden(
            FindRequest { criterion: wanted, limit: Some(50), cursor },
            r#"{"action":"FIND","name":"final report pdf","limit":50,"cursor":"bob/docs/a b.txt"}"#,
        );
        let wanted = FindCriterion::Hash(HashText::new("abc").unwrap());
        golden(FindRequest { criterion: wanted, limit: None, cursor: None }, r#"{"action":"FIND","hash":"abc"}"#);
    }

    #[test]
    fn golden_reply() {
        let (user, name): (UserName, FileName) = ("bob".parse().unwrap(), "docs/a.txt".parse().unwrap());
        let next = Some(FindCursor { user: user.clone(), name: name.clone() });
        let file = FoundFile { user, name, size: 3, hash: HashText::new("abc").unwrap() };
        let reply = FindReply { files: vec![file], next };
        let text = r#"{"files":[{"user":"bob","name":"docs/a.txt","size":3,"hash":"abc"}],"next":"bob/docs/a.txt"}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<FindReply>(text).unwrap(), reply);
    }

    #[test]
    fn what_can_t_be_found_is_refused() {
        let many = "a ".repeat(MAX_FIND_WORDS + 1);
        for fields in [
            "".to_owned(),
            r#","name":"a","hash":"b""#.to_owned(),
            r#","name":"..""#.to_owned(),
            format!(r#","name":"{many}""#),
            format!(r#","name":"{}""#, "a".repeat(MAX_FILE_NAME_BYTES + 1)),
            r#","name":"a","cursor":"bob""#.to_owned(),
            r#","name":"a","cursor":"b b/x""#.to_owned(),
            r#","name":"a","limit":-1"#.to_owned(),
        ] {
            let text = format!(r#"{{"action":"FIND"{fields}}}"#);
            assert!(parse_request(&text).request.is_err(), "{text}");
        }
    }

    #[test]
    fn each_word_begins_a_word_of_the_name() {
        let name: FileName = "Álbum/Relatório final-2024.PDF".parse().unwrap();
        for (text, expected) in [
            ("final", true),
            ("REL 2024", true),
            ("pdf relatório álbum", true),
            ("álbum/relatório", true),
            ("relatorio album", true),
            ("RELATO\u{301}RIO", true),
            ("elatório", false),
            ("final 2023", false),
        ] {
            assert_eq!(SearchWords::new(text).unwrap().matches(&name), expected, "{text}");
        }
    }

    #[test]
    fn where_no_blanks_are_written_each_character_begins_a_word() {
        let name: FileName = "会议记录2024最终 การประชุม.txt".parse().unwrap();
        for (text, expected) in
            [("会议", true), ("记录", true), ("2024", true), ("记录 2024", true), ("ประชุม", true), ("日本", false)]
        {
            assert_eq!(SearchWords::new(text).unwrap().matches(&name), expected, "{text}");
        }
        assert_eq!(
            SearchWords::new("会议记录").unwrap().to_string(),
            "会议记录",
            "older trackers hear it as it was typed"
        );
    }

    #[test]
    fn words_stay_what_they_are_when_they_are_written_and_read() {
        for (text, name) in [("İSTANBUL", "İstanbul 2024.pdf"), ("ΟΔΟΣ", "οδος.txt"), ("οδός", "ΟΔΌΣ ΣΑΣ.txt")]
        {
            let words = SearchWords::new(text).unwrap();
            assert_eq!(SearchWords::new(&words.to_string()), Some(words.clone()), "{text}");
            assert!(words.matches(&name.parse().unwrap()), "{text} {name}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(text in "[a-zA-Zé0-9 ./-]{1,40}", user in "[A-Za-z0-9_.-]{1,32}", name in "[a-z é]{1,9}(/[a-z]{1,9}){0,3}",
                      limit: Option<u32>) {
            prop_assume!(SearchWords::new(&text).is_some());
            let cursor = FindCursor { user: user.parse().unwrap(), name: name.parse().unwrap() };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor.clone()));
            let limit = limit.map(|limit| usize::try_from(limit).unwrap());
            let find = FindRequest { criterion: FindCriterion::Words(SearchWords::new(&text).unwrap()), limit, cursor: Some(cursor) };
            let text = serde_json::to_string(&TrackerRequest::Find(find.clone())).unwrap();
            prop_assert_eq!(parse_request(&text).request, Ok(TrackerRequest::Find(find)));
        }

        #[test]
        fn hostile_texts_never_panic(text: String) {
            let _ = text.parse::<FindCursor>();
            if let Some(words) = SearchWords::new(&text) {
                prop_assert!(words.iter().count() <= MAX_FIND_WORDS);
                prop_assert_eq!(SearchWords::new(&words.to_string()), Some(words));
            }
        }

        #[test]
        fn a_name_is_found_by_its_own_words(name in "[a-zA-Zé0-9 ._-]{1,30}") {
            let name: Result<FileName, _> = name.parse();
            if let (Ok(name), Some(words)) = (&name, name.as_ref().ok().and_then(|name| SearchWords::new(name.as_str()))) {
                prop_assert!(words.matches(name));
            }
        }
    }
}
