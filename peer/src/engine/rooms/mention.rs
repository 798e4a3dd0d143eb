//! Calls of a user by name in a message: `@bob`.

use shared::UserName;

/// Returns true if `text` calls `user`. The case of letters doesn't count; what only begins or ends with the name is
/// another word.
pub fn is_mentioned(text: &str, user: &UserName) -> bool {
    let name = user.as_str();
    text.match_indices('@').any(|(at, _)| {
        let is_word_before = text[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        let rest = &text[at + 1..];
        // By `get`, as the name's length may end inside a character of the text.
        let is_called = rest.get(..name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name));
        // A full stop or a dash may end the sentence as well as be a part of a longer name.
        let goes_on = rest.get(name.len()..).is_some_and(|behind| {
            behind.trim_start_matches(['.', '-', '_']).starts_with(|c: char| c.is_alphanumeric())
        });
        is_called && !is_word_before && !goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_itself_is_a_call() {
        let bob: UserName = "bob".parse().unwrap();
        for text in ["@bob", "hi @Bob!", "(@bob)", "@bob. Come", "@bob: lunch?", "@bobby and @bob", "ask @bob - now"] {
            assert!(is_mentioned(text, &bob), "{text}");
        }
        for text in ["", "@", "bob", "@bobby", "me@bob", "@bob-2", "@bob.smith", "@bö", "@bo"] {
            assert!(!is_mentioned(text, &bob), "{text}");
        }
    }
}
