//! Words as a shell reads them: quoted in commands that are printed for pasting, split in what the user types.
//!
//! Not shlex: completion needs the place of each word, a line that is being typed ends in the middle of one, and shlex
//! quotes every letter outside ASCII.

/// Joins words so that a shell takes each of them as one, and the program none as an option.
pub fn shell_quote(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| quote_word(word)).collect::<Vec<_>>().join(" ");
    // One `--` protects all operands behind it.
    if words.iter().any(|word| word.starts_with('-')) { format!("-- {quoted}") } else { quoted }
}

fn quote_word(word: &str) -> String {
    // No `~` here, and no `=` in front (zsh): both are expanded.
    let is_plain = |c: char| c.is_alphanumeric() || "._-+/,:@%=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) && !word.starts_with('=') {
        return word.to_owned();
    }
    single_quoted(word)
}

/// Puts a word in single quotes, whether it needs them or not.
pub fn single_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A word with its quotes removed, and the byte of the line at which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellWord {
    pub text: String,
    pub start: usize,
}

/// Splits a line into words as a shell does: blanks separate, quotes and `\` protect.
pub fn split_words(line: &str) -> Vec<ShellWord> {
    let mut words: Vec<ShellWord> = Vec::new();
    let mut open: Option<ShellWord> = None;
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
            // Inside single quotes a backslash is an ordinary character, as in a shell.
            (None | Some('"'), '\\') => {
                // At the end of a line that is still being typed it protects nothing yet, and stays.
                let next = chars.next().map_or('\\', |(_, next)| next);
                open.get_or_insert_with(|| ShellWord { text: String::new(), start: at }).text.push(next);
                continue;
            }
            (_, c) => {
                open.get_or_insert_with(|| ShellWord { text: String::new(), start: at }).text.push(c);
                continue;
            }
        }
        // A quote begins a word even without a character inside.
        open.get_or_insert_with(|| ShellWord { text: String::new(), start: at });
    }
    words.extend(open);
    words
}

/// Escapes a word so that [`split_words`] returns it unchanged.
pub fn escape_word(word: &str) -> String {
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

    #[test]
    fn whatever_a_word_is_it_is_one_and_no_option() {
        for (these, expected) in [
            (&["bob", "a.txt"][..], "bob a.txt"),
            (&["bob", "it's $(mine)"], r"bob 'it'\''s $(mine)'"),
            (&["-x", "a b"], "-- -x 'a b'"),
            (&["bob", "-rf"], "-- bob -rf"),
            (&["bob", "-r f"], "-- bob '-r f'"),
            (&["bob", ""], "bob ''"),
        ] {
            assert_eq!(shell_quote(these), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_one_word(word in "\\PC{1,12}") {
            let read = split_words(&format!("x {} y", escape_word(&word)));
            prop_assert_eq!(read.len(), 3);
            prop_assert_eq!(&read[1].text, &word);
        }
    }
}
