//! Words that several commands print, and the answers that they understand.

use localization::{Language, current_language, tr};

use crate::engine::chat::MessageState;
use crate::engine::share::ShareFreshness;
use crate::profile::SendState;

/// Returns a message's state in a word.
pub(super) fn message_state_words(state: MessageState) -> String {
    match state {
        MessageState::Waiting => tr!("state of a message" => "waiting"),
        MessageState::Sent => tr!("state of a message" => "sent"),
        MessageState::Stored => tr!("state of a message" => "stored"),
        MessageState::Received => tr!("state of a message" => "received"),
        MessageState::Failed => tr!("state of a message" => "failed"),
        MessageState::Expired => tr!("state of a message" => "expired"),
        MessageState::Dropped => tr!("state of a message" => "dropped"),
    }
}

/// Returns the state of a send in a word.
pub(super) fn send_state_words(state: SendState) -> String {
    match state {
        SendState::Waiting => tr!("state of a send" => "waiting"),
        SendState::Done => tr!("state of a send" => "done"),
        SendState::Declined => tr!("state of a send" => "declined"),
        SendState::Ended => tr!("state of a send" => "ended"),
        SendState::Failed => tr!("state of a send" => "failed"),
    }
}

/// Returns the remark after a listed file: why it can't be fetched, or not as it was hashed.
pub(super) fn freshness_remark(state: &ShareFreshness, is_private: bool) -> String {
    match state {
        _ if is_private => {
            format!("  {}", tr!("(never given to anybody: it belongs to an account's folder or holds a key)"))
        }
        ShareFreshness::Fresh | ShareFreshness::Touched => String::new(),
        ShareFreshness::Changed { .. } => format!("  {}", tr!("(changed since it was hashed)")),
        ShareFreshness::Missing => format!("  {}", tr!("(not there)")),
        ShareFreshness::Unreadable(why) => format!("  {}", tr!("(can't be read: {why})", why)),
    }
}

/// Joins names of which one is meant: `bob or eve`.
pub(super) fn any_of(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.join(&format!(" {} ", tr!("between two names" => "or")))
}

/// Joins what belongs together: `a, b and c`.
pub(super) fn all_of(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => tr!("{first} and {last}", first = first.join(", "), last),
    }
}

/// Returns true for a yes, in any case. An English one counts in each language, for the fingers of those who use several.
pub(super) fn is_yes(answer: &str) -> bool {
    let answer = answer.to_lowercase();
    let is_of_language = match current_language() {
        Language::English => false,
        Language::Portuguese => matches!(&*answer, "s" | "sim"),
    };
    is_of_language || matches!(&*answer, "y" | "yes")
}

#[cfg(test)]
mod tests {
    use localization::in_language;

    use super::*;

    #[test]
    fn a_yes_is_one_in_the_language_of_the_question() {
        for answer in ["y", "Y", "yes", "Yes", "YES"] {
            assert!(Language::ALL.into_iter().all(|language| in_language(language, || is_yes(answer))), "{answer}");
        }
        for answer in ["s", "S", "sim", "Sim", "SIM"] {
            assert!(in_language(Language::Portuguese, || is_yes(answer)), "{answer}");
            assert!(!is_yes(answer), "{answer}");
        }
        for answer in ["", "n", "no", "não", "nao", "sy", "é"] {
            assert!(Language::ALL.into_iter().all(|language| !in_language(language, || is_yes(answer))), "{answer}");
        }
    }

    #[test]
    fn names_are_joined_as_people_say_them() {
        assert_eq!(any_of(&["bob"]), "bob");
        assert_eq!(any_of(&["bob", "eve"]), "bob or eve");
        let all = |items: &[&str]| all_of(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
        assert_eq!(all(&[]), "");
        assert_eq!(all(&["a"]), "a");
        assert_eq!(all(&["a", "b", "c"]), "a, b and c");
    }
}
