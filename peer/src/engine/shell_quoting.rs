//! Quoting of words in commands that are printed for pasting into a shell.

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
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
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
}
