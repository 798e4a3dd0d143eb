//! Detection of hyperlinks in text. Pure.

use std::ops::Range;
use std::sync::Arc;

/// The schemes of detected links.
const SCHEMES: [&str; 3] = ["https://", "http://", "ftp://"];
/// The longest link in bytes; longer ones fail in some browsers.
const MAX_LINK_BYTES: usize = 2083;
/// Characters that end a sentence or enclose a link, so at its end they don't belong to it.
const TRAILING: &[char] = &[
    '.', ',', ';', ':', '!', '?', '"', '\'', '*', '…', '’', '”', '»', '。', '、', '，', '；', '：', '！', '？', '」',
    '』', '】', '）', '》',
];
/// A closing bracket at the end belongs to the link only if the link contains its opening bracket.
const BRACKETS: [(char, char); 3] = [('(', ')'), ('[', ']'), ('{', '}')];

/// A detected link: its byte range in the text, and its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HyperlinkMatch {
    pub(super) range: Range<usize>,
    /// Printable ASCII.
    pub(super) target: Arc<str>,
}

/// Returns the links in a line.
pub(super) fn find_hyperlinks(line: &str) -> Vec<HyperlinkMatch> {
    let mut links = Vec::new();
    let mut from = 0;
    while let Some((start, scheme)) = next_scheme(line, from) {
        let end = start + end_of(&line[start..]);
        // Past the scheme in any case: one without a link would be found again and again.
        from = end.max(start + scheme);
        if end <= start + scheme {
            continue;
        }
        links.extend(target_of(&line[start..end], scheme).map(|target| HyperlinkMatch { range: start..end, target }));
    }
    links
}

/// Returns the position of the next link and the length of its scheme. A scheme inside a word is ignored.
fn next_scheme(line: &str, from: usize) -> Option<(usize, usize)> {
    let bytes = line.as_bytes();
    let is_scheme = |at: usize, scheme: &str| {
        bytes.get(at..at + scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    let begins = |at: &usize| !line[..*at].ends_with(|before: char| before.is_ascii_alphanumeric());
    let places = line[from..].match_indices(['h', 'H', 'f', 'F']).map(|(at, _)| from + at).filter(begins);
    places
        .filter_map(|at| SCHEMES.into_iter().find(|scheme| is_scheme(at, scheme)).map(|scheme| (at, scheme.len())))
        .next()
}

/// Returns the end of the link with which a text begins.
fn end_of(text: &str) -> usize {
    // Quotes and angle brackets enclose links in running text.
    let is_outside = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '`');
    let mut link = &text[..text.find(is_outside).unwrap_or(text.len())];
    while let Some(last) = link.chars().next_back() {
        let opened = BRACKETS.iter().find(|(_, close)| *close == last);
        let is_trailing = match opened {
            Some((open, close)) => link.matches(*close).count() > link.matches(*open).count(),
            None => TRAILING.contains(&last),
        };
        if !is_trailing {
            break;
        }
        link = &link[..link.len() - last.len_utf8()];
    }
    link.len()
}

/// Returns the link in printable ASCII, which every terminal accepts; `None` if it is too long.
fn target_of(link: &str, scheme: usize) -> Option<Arc<str>> {
    let mut target = link[..scheme].to_ascii_lowercase();
    for byte in link[scheme..].bytes() {
        match byte {
            b'!'..=b'~' => target.push(char::from(byte)),
            // As RFC 3987 has it: the bytes of UTF-8, each percent-encoded.
            other => target.push_str(&format!("%{other:02X}")),
        }
    }
    (target.len() <= MAX_LINK_BYTES).then(|| target.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn targets(text: &str) -> Vec<String> {
        find_hyperlinks(text).into_iter().map(|link| link.target.to_string()).collect()
    }

    #[test]
    fn a_link_is_all_of_it_and_nothing_else() {
        for (text, target) in [
            ("https://en.wikipedia.org/wiki/Rust_(linguagem)", "https://en.wikipedia.org/wiki/Rust_(linguagem)"),
            ("(https://en.wikipedia.org/wiki/Rust_(linguagem)).", "https://en.wikipedia.org/wiki/Rust_(linguagem)"),
            ("see (http://a.example/x), or", "http://a.example/x"),
            ("[this](http://a.example/x)", "http://a.example/x"),
            ("http://[::1]:8000/x[1]!", "http://[::1]:8000/x[1]"),
            ("HTTPS://A.example/X", "https://A.example/X"),
            ("<ftp://a.example/x>", "ftp://a.example/x"),
            ("\"http://a.example/x\"", "http://a.example/x"),
            ("見てhttps://a.example/日本。", "https://a.example/%E6%97%A5%E6%9C%AC"),
            ("https://web.example/http://a.example/", "https://web.example/http://a.example/"),
            ("http://a.example/?q=a&b=c#d;e", "http://a.example/?q=a&b=c#d;e"),
        ] {
            assert_eq!(targets(text), [target], "{text}");
        }
        for text in ["https://", "http://.", "xhttp://a.example", "example.org", "http:/a", ""] {
            assert_eq!(targets(text), [""; 0], "{text}");
        }
        assert_eq!(targets("http://a.example http://b.example"), ["http://a.example", "http://b.example"]);
        assert_eq!(targets(&format!("http://{}", "x".repeat(MAX_LINK_BYTES))), [""; 0]);
    }

    proptest! {
        #[test]
        fn every_target_is_harmless(text in "(https?://|[)(.]|\\PC){0,20}") {
            let mut before = 0;
            for HyperlinkMatch { range, target } in find_hyperlinks(&text) {
                prop_assert!(before <= range.start && text.get(range.clone()).is_some());
                prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
                before = range.end;
            }
        }
    }
}
