//! Patterns with wildcards, as a shell has them.

use globset::{GlobBuilder, GlobMatcher};
use shared::names::matching_key;

/// A pattern with wildcards. As in a shell, `*` and `?` stop at a slash and `**` doesn't.
#[derive(Debug)]
pub(super) struct NamePattern {
    /// The text before the first wildcard, which every matching name starts with in this spelling.
    pub(super) prefix: String,
    /// Whole components before the first wildcard.
    pub(super) depth: usize,
    exact: CharGlob,
    /// The same pattern for names as they are displayed, in one normal form.
    alike: CharGlob,
}

/// A glob whose `?` matches a whole character, while the library's matches a byte.
#[derive(Debug)]
struct CharGlob {
    /// The distinct non-ASCII characters of the pattern, sorted.
    wide: Vec<char>,
    matcher: GlobMatcher,
}

/// Parses a text with wildcards; `None` for a text without.
pub(super) fn parse_pattern(text: &str) -> Option<NamePattern> {
    let first = text.find(['*', '?', '[', '{'])?;
    let before = &text[..first];
    let (prefix, depth) = (before.to_owned(), before.matches('/').count());
    Some(NamePattern { prefix, depth, exact: CharGlob::new(text)?, alike: CharGlob::new(&matching_key(text))? })
}

impl NamePattern {
    /// True if it matches a name or one of its folders: a folder stands for everything in it.
    pub(super) fn matches_any_level(&self, name: &str) -> bool {
        self.matches(name) || name.match_indices('/').any(|(slash, _)| self.matches(&name[..slash]))
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.exact.is_match(name) || self.alike.is_match(&matching_key(name))
    }
}

impl CharGlob {
    /// The byte for every character that the pattern doesn't have. Control characters occur in no name, so neither it
    /// nor the bytes below it, which stand for the pattern's own characters, can be confused.
    const OTHER: char = '\u{1f}';

    fn new(text: &str) -> Option<Self> {
        let mut wide: Vec<char> = text.chars().filter(|c| !c.is_ascii()).collect();
        wide.sort_unstable();
        wide.dedup();
        // One byte below `OTHER` per character: those beyond that number can't be told apart.
        wide.truncate(usize::try_from(u32::from(Self::OTHER)).map_or(0, |count| count - 1));
        let narrow = to_single_bytes(&wide, text);
        // A backslash is an ordinary character of names.
        let glob = GlobBuilder::new(&narrow).literal_separator(true).backslash_escape(false).build().ok()?;
        Some(Self { wide, matcher: glob.compile_matcher() })
    }

    fn is_match(&self, name: &str) -> bool {
        if name.is_ascii() {
            self.matcher.is_match(name)
        } else {
            self.matcher.is_match(to_single_bytes(&self.wide, name))
        }
    }
}

/// Maps the text to one byte per character.
fn to_single_bytes(wide: &[char], text: &str) -> String {
    let narrow = |c: char| match wide.binary_search(&c) {
        _ if c.is_ascii() => c,
        Ok(place) => u8::try_from(place + 1).map_or(CharGlob::OTHER, char::from),
        Err(_) => CharGlob::OTHER,
    };
    text.chars().map(narrow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        let matches = |text: &str, name: &str| parse_pattern(text).unwrap().matches(name);
        assert!(matches("*.pdf", "a.pdf"));
        assert!(!matches("*.pdf", "docs/a.pdf"));
        assert!(matches("docs/**/*.pdf", "docs/x/y/a.pdf"));
        assert!(matches("docs/[ab]?.txt", "docs/a1.txt"));
        let brings = |text: &str, name: &str| parse_pattern(text).unwrap().matches_any_level(name);
        assert!(brings("*", "docs/x/a.pdf") && brings("d*/x", "docs/x/a.pdf") && !brings("*.pdf", "docs/a.pdf"));
        let deep = parse_pattern("docs/sub/x*").unwrap();
        assert_eq!((deep.prefix.as_str(), deep.depth), ("docs/sub/x", 2));
        assert!(matches("caf?.txt", "caf\u{e9}.txt") && !matches("caf?.txt", "cafab.txt"));
        assert!(matches("[\u{e0}-\u{ea}]*", "\u{ea}a") && !matches("?", "\u{65e5}\u{672c}"));
        // Whatever the normal form is on either side.
        assert!(matches("caf\u{e9}*", "cafe\u{301}.txt") && matches("caf?.txt", "cafe\u{301}.txt"));
        assert!(matches("S\u{e3}o/*", "Sa\u{303}o/a.txt") && matches("cafe\u{301}*", "caf\u{e9}.txt"));
        let other = parse_pattern("S\u{e3}o/*").unwrap();
        assert_eq!((other.prefix.as_str(), other.depth), ("S\u{e3}o/", 1));
        assert!(parse_pattern("report.pdf").is_none());
    }
}
