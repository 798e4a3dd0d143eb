//! FIND: which present users share a file of this hash, or files with these words in their names.
//!
//! The words of a text are its runs of letters and digits, in lower case and composed form (NFC). A name matches when each
//! word asked for is the beginning of one of the name's words, whatever their accents and normal forms: `rel 2024` and
//! `relatório` find `Relatorio final-2024.pdf`, `port` doesn't find `report`. Of scripts that write no blanks between words
//! each character is a word of a name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;

use super::HashText;
use crate::limits::{MAX_FILE_NAME_BYTES, MAX_FIND_WORDS};
use crate::names::to_nfc;
use crate::{FileName, UserName};

/// What to find, one page of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindRequest {
    /// By what.
    pub criterion: FindCriterion,
    /// At most this many files; the tracker has its own bound too.
    pub limit: Option<usize>,
    /// Go on behind this file: the `next` of the page before.
    pub cursor: Option<FindCursor>,
}

/// By what to find a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindCriterion {
    /// The file's hash.
    Hash(HashText),
    /// Words in the file's name.
    Words(SearchWords),
}

/// 1 to [`MAX_FIND_WORDS`] words, all of which a name must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchWords(Vec<String>);

/// The last file of a page: `USER/NAME` as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FindCursor {
    /// Whose.
    pub user: UserName,
    /// Which.
    pub name: FileName,
}

/// To `FIND`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindReply {
    /// Ordered by user and name.
    pub files: Vec<FoundFile>,
    /// The cursor of the next page, when there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<FindCursor>,
}

/// One file that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundFile {
    /// Who shares it.
    pub user: UserName,
    /// Under which name.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// Its hash.
    pub hash: HashText,
}

/// The words of a text: its runs of letters and digits, in lower case and composed form.
pub fn search_words(text: &str) -> impl Iterator<Item = String> + use<> {
    let mut lower = String::with_capacity(text.len());
    push_lower(&mut lower, text);
    word_runs(&to_nfc(&lower)).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Appends `text` to `folded` in the form in which words are compared: in lower case and without accents.
pub fn push_folded(folded: &mut String, text: &str) {
    if text.is_ascii() {
        return push_lower(folded, text);
    }
    let mut lower = String::with_capacity(text.len());
    push_lower(&mut lower, text);
    // Composed again: an accent that is kept is part of its letter in all forms alike.
    folded.extend(lower.nfd().filter(|c| !is_accent(*c)).nfc());
}

/// A diacritic of Latin, Greek or Cyrillic letters that is written apart from them.
const fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// Appends `text` to `lower` as it is before it is cut into words with [`segment_words`].
pub fn push_lower(lower: &mut String, text: &str) {
    if text.is_ascii() {
        let begin = lower.len();
        lower.push_str(text);
        lower[begin..].make_ascii_lowercase();
        return;
    }
    // In lower case before it is cut: İ becomes two characters, of which the second is no letter. And a sigma is a
    // sigma wherever it stands.
    lower.extend(text.chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c }));
}

/// The words of a text that [`push_lower`] or [`push_folded`] made, cut where a name may be found: also around each
/// character of a script without blanks.
pub fn segment_words(lower: &str) -> impl Iterator<Item = &str> {
    word_runs(lower).flat_map(|run| {
        let mut rest = run;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let end = if is_unspaced_script(first) {
                // With the accents that belong to it.
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

/// A character of a script that writes no blanks between words: Thai to Myanmar, Khmer, Kana, Han.
const fn is_unspaced_script(c: char) -> bool {
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

/// A vowel sign or an accent of such a script.
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

/// The runs of letters and digits of such a text.
fn word_runs(lower: &str) -> impl Iterator<Item = &str> {
    // An accent without a composed form ends no word.
    let words = lower.split(|c: char| !c.is_alphanumeric() && !is_accent(c));
    words.filter(|word| word.chars().any(|c| c.is_alphanumeric() && !is_accent(c)))
}

impl SearchWords {
    /// The words of `text`; `None` when there are none, more than [`MAX_FIND_WORDS`], or the text is longer than a name.
    pub fn new(text: &str) -> Option<Self> {
        if text.len() > MAX_FILE_NAME_BYTES {
            return None;
        }
        let words: Vec<String> = search_words(text).take(MAX_FIND_WORDS + 1).collect();
        (1..=MAX_FIND_WORDS).contains(&words.len()).then_some(Self(words))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Each of them in the form in which words are compared, and cut as those of names are.
    pub fn folded(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|word| {
            let mut folded = String::with_capacity(word.len());
            push_folded(&mut folded, word);
            segment_words(&folded).map(str::to_owned).collect::<Vec<_>>()
        })
    }

    /// Whether each of them begins a word of `name`.
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
        write!(f, "{}/{}", self.user, self.name.as_str())
    }
}

impl FromStr for FindCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A user name has no slash, so that the first one ends it.
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

impl<'de> Deserialize<'de> for FindCursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

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
