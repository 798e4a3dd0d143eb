//! What a line that was written means: something to say, or a command. Pure.

use std::path::PathBuf;

use super::text::age;

/// Messages of the past that are shown when it isn't said how many.
const FURTHER_BACK: usize = 50;
/// So many at most, at once.
pub(super) const MOST_BACK: usize = 1000;

/// A command of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slash {
    /// Fetch a file: by its number in what was listed or offered, or by name; without, the last one offered.
    Get(Option<String>),
    Offer(Vec<PathBuf>),
    /// The other one's files, those that start with this.
    Files(String),
    Who,
    Search(String),
    /// Further back.
    History(Back),
    /// Break off a fetch: by the number or the name of the file; without, the only one.
    Stop(Option<String>),
    Accept,
    Ignore,
    Unignore,
    Quit,
    Help,
}

/// How far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// So many messages.
    Messages(usize),
    /// So many milliseconds.
    Age(i64),
}

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Nothing,
    Text(String),
    Command(Slash),
    /// No such command, or not so: what is wrong.
    Mistake(String),
}

/// Every command: its name, what follows it, what it does.
pub(super) const COMMANDS: [(&str, &str, &str); 12] = [
    ("/get", "N|NAME", "fetch a file that was offered or listed"),
    ("/stop", "[N|NAME]", "stop a download; /get resumes it"),
    ("/offer", "PATH…", "let them fetch a file"),
    ("/files", "[START]", "what they share"),
    ("/who", "", "who is there"),
    ("/search", "WORDS", "search messages"),
    ("/history", "[N|AGE]", "look further back: so many messages, or 2d"),
    ("/accept", "", "take what this person writes; so does an answer"),
    ("/ignore", "", "ignore this person (same as `peer block`)"),
    ("/unignore", "", "no longer ignore this person"),
    ("/help", "", "this"),
    ("/quit", "", "leave; so does Ctrl-D"),
];

/// A name, which may have blanks in it; in quotes as a shell has them where it begins with one.
fn name(rest: &str) -> Option<String> {
    let is_quoted = rest.starts_with(['\'', '"']);
    let mut words = if is_quoted { words(rest) } else { Vec::new() };
    let quoted = words.pop().filter(|_| words.is_empty()).map(|word| word.text);
    Some(quoted.unwrap_or_else(|| rest.to_owned())).filter(|name| !name.is_empty())
}

/// What `line` means; `//` at its start is one `/` to say.
pub(super) fn parse(line: &str) -> Line {
    let text = line.trim();
    if text.is_empty() {
        return Line::Nothing;
    }
    if let Some(literal) = text.strip_prefix("//") {
        return Line::Text(format!("/{literal}"));
    }
    if !text.starts_with('/') {
        return Line::Text(line.trim_end().to_owned());
    }
    let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let needs = |what: &str| Line::Mistake(format!("{command} wants {what}"));
    Line::Command(match command {
        "/get" => Slash::Get(name(rest)),
        "/offer" => {
            let paths: Vec<PathBuf> = words(rest).into_iter().map(|word| PathBuf::from(word.text)).collect();
            if paths.is_empty() {
                return needs("the path of a file");
            }
            Slash::Offer(paths)
        }
        "/files" => Slash::Files(rest.to_owned()),
        "/who" => Slash::Who,
        "/search" if rest.is_empty() => return needs("words to look for"),
        "/search" => Slash::Search(rest.to_owned()),
        "/history" => match back(rest) {
            Some(back) => Slash::History(back),
            None => return needs("a number of messages, or an age such as 12h or 2d"),
        },
        "/stop" => Slash::Stop(name(rest)),
        "/accept" => Slash::Accept,
        "/ignore" => Slash::Ignore,
        "/unignore" => Slash::Unignore,
        "/quit" | "/exit" => Slash::Quit,
        "/help" => Slash::Help,
        other => {
            return Line::Mistake(format!("there is no {other}: /help shows what there is, // says a line with /"));
        }
    })
}

fn back(text: &str) -> Option<Back> {
    if text.is_empty() {
        return Some(Back::Messages(FURTHER_BACK));
    }
    match text.parse::<usize>() {
        Ok(count) => (count > 0).then(|| Back::Messages(count.min(MOST_BACK))),
        Err(_) => age(text).ok().map(Back::Age),
    }
}

/// A word of a command: without quotes, and where it begins with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) start: usize,
}

/// The words of a command as a shell has them: blanks part them, quotes and `\` keep blanks.
pub(super) fn words(line: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut open: Option<Word> = None;
    let mut quote = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, ' ' | '\t') => {
                words.extend(open.take());
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = chars.next().map_or('\\', |(_, next)| next);
                open.get_or_insert_with(|| Word { text: String::new(), start: at }).text.push(next);
                continue;
            }
            (_, c) => {
                open.get_or_insert_with(|| Word { text: String::new(), start: at }).text.push(c);
                continue;
            }
        }
        open.get_or_insert_with(|| Word { text: String::new(), start: at });
    }
    words.extend(open);
    words
}

/// A word as [`words`] reads it back.
pub(super) fn quoted(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if matches!(c, ' ' | '\t' | '"' | '\'' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Line {
        Line::Text(text.to_owned())
    }

    #[test]
    fn lines_mean() {
        assert_eq!(parse("  \n "), Line::Nothing);
        assert_eq!(parse("hi there "), text("hi there"));
        assert_eq!(parse("  indented"), text("  indented"));
        assert_eq!(parse("//etc/hosts"), text("/etc/hosts"));
        assert_eq!(parse("/get"), Line::Command(Slash::Get(None)));
        assert_eq!(parse("/get  my report.pdf "), Line::Command(Slash::Get(Some("my report.pdf".to_owned()))));
        assert_eq!(parse("/search  olá mundo"), Line::Command(Slash::Search("olá mundo".to_owned())));
        let paths = ["a b", "c d", "e"].map(PathBuf::from).to_vec();
        assert_eq!(parse(r#"/offer "a b" c\ d e"#), Line::Command(Slash::Offer(paths)));
        assert_eq!(parse("/history"), Line::Command(Slash::History(Back::Messages(FURTHER_BACK))));
        assert_eq!(parse("/history 9999999"), Line::Command(Slash::History(Back::Messages(MOST_BACK))));
        assert_eq!(parse("/history 2h"), Line::Command(Slash::History(Back::Age(7_200_000))));
        assert_eq!(parse("/stop"), Line::Command(Slash::Stop(None)));
        for wrong in ["/offer", "/search ", "/nosuch", "/", "/Get x", "/history 0", "/history x"] {
            assert!(matches!(parse(wrong), Line::Mistake(_)), "{wrong}");
        }
    }

    #[test]
    fn every_command_is_understood() {
        for (name, argument, _) in COMMANDS {
            let line = if argument.is_empty() { name.to_owned() } else { format!("{name} 2") };
            assert!(matches!(parse(&line), Line::Command(_)), "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_one_word(word in "\\PC{1,12}") {
            let read = words(&format!("x {} y", quoted(&word)));
            prop_assert_eq!(read.len(), 3);
            prop_assert_eq!(&read[1].text, &word);
        }

        #[test]
        fn no_line_is_too_odd(line: String) {
            let _ = parse(&line);
        }
    }
}
