//! What a wish looks for: words, a hash, or a pattern.

use std::iter::Peekable;
use std::str::CharIndices;

use localization::tr;
use shared::limits::{MAX_FILE_NAME_BYTES, MAX_FIND_WORDS};
use shared::names::name_encoding::display_name;
use shared::tracker::{FindCriterion, FoundFile, SearchWords, push_folded, search_words};
use shared::{ContentHash, FileName};

use crate::engine::Error;
use crate::engine::name_pattern::{NamePattern, parse_pattern};

/// Characters that make a text a pattern.
const WILDCARDS: [char; 4] = ['*', '?', '[', '{'];

/// A search that the tracker can be asked for, and what it can't tell apart.
#[derive(Debug)]
pub struct WishQuery {
    criterion: FindCriterion,
    pattern: Option<WishPattern>,
}

/// A pattern for names without regard to case and accents.
#[derive(Debug)]
struct WishPattern {
    glob: NamePattern,
    /// True if it is for the whole name, with its folders, and not for the last component.
    is_whole: bool,
}

impl WishQuery {
    /// Reads what the user wrote: a hash, words as for `peer find`, or a pattern with `*`, `?`, `[…]` or `{…}`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the tracker can't be asked for it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if let Ok(hash) = text.parse::<ContentHash>() {
            return Ok(Self { criterion: FindCriterion::Hash(hash.into()), pattern: None });
        }
        let words = |text: &str| SearchWords::new(text).map(FindCriterion::Words);
        if !text.contains(WILDCARDS) {
            let none = || {
                Error::Usage(tr!(
                    "give 1 to {limit} words of letters and digits, a pattern such as 'debian*.iso', or one hash",
                    limit = MAX_FIND_WORDS
                ))
            };
            return Ok(Self { criterion: words(text).ok_or_else(none)?, pattern: None });
        }
        let quoted = format!("{text:?}");
        let no_pattern = || {
            Error::Usage(tr!(
                "{text} is no pattern: `*`, `?`, `[a-z]` and `{choice}` are known",
                text = quoted,
                choice = "{a,b}"
            ))
        };
        if text.len() > MAX_FILE_NAME_BYTES {
            return Err(no_pattern());
        }
        let mut folded = String::new();
        push_folded(&mut folded, text);
        let glob = parse_pattern(&folded).ok_or_else(no_pattern)?;
        let fixed = fixed_words(&folded);
        let criterion = words(&fixed.join(" ")).ok_or_else(|| {
            Error::Usage(tr!(
                "{text} fixes the beginning of no word, for which the tracker could be asked: 'debian*' and '*.iso' do, \
                 and `peer wish WORD` finds names that have a word that begins so",
                text = quoted
            ))
        })?;
        Ok(Self { criterion, pattern: Some(WishPattern { glob, is_whole: text.contains('/') }) })
    }

    /// Returns the search for the tracker, which may find more.
    pub const fn criterion(&self) -> &FindCriterion {
        &self.criterion
    }

    /// Returns whether a file that the tracker found is looked for.
    pub fn matches(&self, file: &FoundFile) -> bool {
        // Compared again: a tracker may list what nobody asked for.
        let is_found = match &self.criterion {
            FindCriterion::Hash(hash) => file.hash == *hash,
            FindCriterion::Words(words) => words.matches(&file.name),
        };
        is_found && self.pattern.as_ref().is_none_or(|pattern| pattern.matches(&file.name))
    }
}

impl WishPattern {
    fn matches(&self, name: &FileName) -> bool {
        // As the name is shown to the user, who wrote the pattern.
        let shown = display_name(name.as_str());
        let part = if self.is_whole { &*shown } else { shown.rsplit('/').next().unwrap_or(&shown) };
        let mut folded = String::new();
        push_folded(&mut folded, part);
        self.glob.matches(&folded)
    }
}

/// Returns the words whose beginning a pattern fixes, the longest first, as many as a search takes.
fn fixed_words(pattern: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, run) in literal_runs(pattern).into_iter().enumerate() {
        // Behind a wildcard a word may have begun already.
        let is_open = number > 0;
        let begun = if is_open { run.find(|c: char| !c.is_alphanumeric()).unwrap_or(run.len()) } else { 0 };
        words.extend(search_words(&run[begun..]));
    }
    // The longest words find the fewest files.
    words.sort_by_key(|word| std::cmp::Reverse(word.chars().count()));
    words.truncate(MAX_FIND_WORDS);
    words
}

/// Returns what stands before the first wildcard of a pattern, and behind each one. What stands between brackets or braces is
/// not fixed; they are read as `globset` does, without escapes.
fn literal_runs(pattern: &str) -> Vec<&str> {
    let (mut runs, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    let mut chars = pattern.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let is_fixed = depth == 0;
        match c {
            '*' | '?' => {}
            '[' => skip_class(&mut chars),
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if is_fixed {
            runs.push(&pattern[begin..at]);
        }
        begin = chars.peek().map_or(pattern.len(), |(next, _)| *next);
    }
    runs.push(&pattern[begin..]);
    runs
}

/// Passes over the rest of a class and its closing bracket.
fn skip_class(chars: &mut Peekable<CharIndices<'_>>) {
    chars.next_if(|(_, c)| matches!(c, '!' | '^'));
    // A bracket in the first place is one of the class.
    chars.next();
    chars.find(|(_, c)| *c == ']');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str) -> FoundFile {
        FoundFile {
            user: "alice".parse().unwrap(),
            name: name.parse().unwrap(),
            size: 3,
            hash: ContentHash::of(name.as_bytes()).into(),
        }
    }

    fn matches(query: &str, name: &str) -> bool {
        let query = WishQuery::parse(query).unwrap();
        // Whatever matches is found by the tracker, which is asked for the words alone.
        if let (FindCriterion::Words(words), Some(pattern)) = (query.criterion(), &query.pattern) {
            let name = name.parse().unwrap();
            assert!(!pattern.matches(&name) || words.matches(&name), "{words} doesn't find {name:?}");
        }
        query.matches(&file(name))
    }

    #[test]
    fn patterns_are_for_the_last_component_unless_they_have_a_slash() {
        assert!(matches("debian*.iso", "debian-13.iso") && matches("debian*.iso", "isos/Debian-13.ISO"));
        assert!(!matches("debian*.iso", "debian-13.iso.torrent") && !matches("debian*.iso", "mydebian-13.iso"));
        assert!(matches("isos/*.iso", "isos/a.iso") && !matches("isos/*.iso", "other/isos/a.iso"));
        assert!(matches("*.iso", "a.iso") && matches("caf\u{e9}*", "Cafe\u{301} central.txt"));
        assert!(matches("report-{a,b}.pd?", "report-b.pdf") && !matches("report-{a,b}.pd?", "report-c.pdf"));
        assert!(matches("[rR]elat\u{f3}rio*.pdf", "relatorio 3.pdf"));
    }

    #[test]
    fn words_and_hashes_are_those_of_find() {
        assert!(matches("annual rep", "Annual report 2024.pdf") && !matches("port", "report"));
        let hash = ContentHash::of(b"x").to_string();
        assert!(matches(&hash, "x") && !matches(&hash, "y"));
    }

    #[test]
    fn only_what_begins_a_word_is_asked_for() {
        let fixed = |pattern: &str| {
            let mut words = fixed_words(pattern);
            words.sort();
            words.join(" ")
        };
        assert_eq!(fixed("debian*.iso"), "debian iso");
        assert_eq!(fixed("*bian-13.iso"), "13 iso");
        assert_eq!(fixed("a[b-d]ef-g{x,y-z}h i"), "a g i");
        assert_eq!(fixed("*x?y*"), "");
        assert_eq!(fixed("docs/**/plan*"), "docs plan");
        assert_eq!(fixed("x{a,{b,c}}iso.txt"), "txt x");
        assert_eq!(fixed("a[]b].c[!]d]e.f[^]]g.h"), "a c f h");
        assert_eq!(fixed("a{[}],b}c.d"), "a d");
        for wrong in ["*", "*debian*", "[", "?", "...", "", " "] {
            assert!(WishQuery::parse(wrong).is_err(), "{wrong:?}");
        }
        let error = WishQuery::parse("*debian*").unwrap_err().to_string();
        assert!(error.contains("fixes the beginning of no word"), "{error}");
    }

    /// A pattern, and a name that it matches unless a slash is in the way.
    fn pattern_and_name() -> impl Strategy<Value = (String, String)> {
        let pair = |(pattern, name): (&str, &str)| (pattern.to_owned(), name.to_owned());
        let literals = ["a", "xy", ".", "-", " ", "/", ",", "]", "!", "\\", "\u{e9}"].map(|text| (text, text));
        let wildcards = [("?", "a"), ("?", "."), ("*", ""), ("*", "xy"), ("*", ".a"), ("**/", "a/")];
        let classes =
            [("[]x]", "]"), ("[]x]", "x"), ("[!]x]", "a"), ("[^]]", "a"), ("[a-x]", "b"), ("[}{,]", "}"), ("[[]", "[")];
        let one = prop::sample::select([&literals[..], &wildcards, &classes].concat()).prop_map(pair);
        let join = |pairs: Vec<(String, String)>| pairs.into_iter().unzip::<String, String, Vec<_>, Vec<_>>();
        let joined = move |pairs| {
            let (patterns, names) = join(pairs);
            (patterns.concat(), names.concat())
        };
        let nested = one.prop_recursive(3, 12, 3, move |inner| {
            let branch = prop::collection::vec(inner, 1..3).prop_map(joined);
            (prop::collection::vec(branch, 1..3), any::<prop::sample::Index>()).prop_map(move |(branches, chosen)| {
                let (patterns, names) = join(branches);
                (format!("{{{}}}", patterns.join(",")), chosen.get(&names).clone())
            })
        });
        prop::collection::vec(nested, 1..6).prop_map(joined)
    }

    proptest! {
        #[test]
        fn the_tracker_finds_whatever_a_pattern_matches((pattern, name) in pattern_and_name()) {
            let is_wish = pattern.contains(WILDCARDS) && WishQuery::parse(&pattern).is_ok();
            if is_wish && name.parse::<FileName>().is_ok() {
                matches(&pattern, &name);
            }
        }
    }
}
