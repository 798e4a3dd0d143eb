//! First contact with a tracker: the user confirms its key before a password is sent.

use std::sync::Arc;

use localization::{Language, current_language, tr};
use shared::Fingerprint;

use super::context::CommandContext;
use super::questions::{ask_line, can_ask};
use crate::engine::tracker_key::{TrackerKeyCheck, TrackerKeyPolicy};
use crate::engine::{Error, NoticeHandler};
use crate::net::tracker::TrackerAddress;
use crate::profile::Profile;

/// Returns the advice how to compare a key, and why. No line is longer than 40 columns.
pub(super) fn key_advice() -> String {
    tr!("Only the right tracker may get your\npassword. When it started, it printed\nits key after --tracker-key. \
         Compare:\nlook there, or ask whoever runs it.")
}

/// The user's answer to a shown key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyAnswer {
    Yes,
    No,
    Key(Fingerprint),
    Unclear,
}

/// A tracker that a password is to be sent to.
#[derive(Debug)]
pub(super) struct TrackerChoice {
    /// The address to connect to.
    pub(super) address: TrackerAddress,
    /// The fingerprint that was announced on the network for this address.
    pub(super) announced: Option<Fingerprint>,
    /// The expected fingerprint, or how an unknown one is treated.
    pub(super) policy: TrackerKeyPolicy,
}

/// Makes sure that the tracker's key is confirmed, and asks the user if it isn't. `again` is the command line that the
/// error suggests where nobody can be asked. Fails with [`Error::TrackerKeyUnconfirmed`],
/// [`Error::TrackerKeyMismatch`], [`Error::TrackerKeyDeclined`], and the errors of
/// [`TrackerKeyCheck::unconfirmed_key`].
pub(super) async fn confirm_tracker(
    context: &CommandContext,
    profile: &Profile,
    choice: &TrackerChoice,
    again: &str,
) -> Result<(), Error> {
    let TrackerChoice { address, announced, policy } = choice;
    let check = TrackerKeyCheck { profile, address, announced: *announced, policy: *policy };
    let Some(key) = check.unconfirmed_key(&context.notify()).await? else { return Ok(()) };
    let address = address.to_string();
    if !can_ask(context) {
        return Err(Error::TrackerKeyUnconfirmed { address, fingerprint: key, again: again.to_owned() });
    }
    let mut question = question(&address, &key);
    loop {
        match ask_line(context, &question).await?.as_deref().map_or(KeyAnswer::No, parse_answer) {
            KeyAnswer::Yes => break,
            // Pasting the right key confirms it as well as a yes.
            KeyAnswer::Key(given) if given == key => break,
            KeyAnswer::Key(expected) => return Err(Error::TrackerKeyMismatch { address, expected, presented: key }),
            KeyAnswer::No => return Err(Error::TrackerKeyDeclined { address }),
            KeyAnswer::Unclear => question = format!("{} ", tr!("Please answer yes or no, or paste\nthe key:")),
        }
    }
    // The user has just seen the key: no further notice.
    let in_silence: NoticeHandler = Arc::new(|_| {});
    check.confirm(key, &in_silence)
}

/// Finds a key in pasted text: the key in groups or in one piece, or the line that the tracker printed.
pub(super) fn pasted_key(text: &str) -> Option<Fingerprint> {
    let whole: String = text.split_whitespace().collect();
    let in_line = || text.split(|c: char| c.is_whitespace() || c == '=').find_map(|word| word.parse().ok());
    whole.parse().ok().or_else(in_line)
}

/// Formats a key in two rows of two groups, to compare by eye.
pub(super) fn key_rows(key: &Fingerprint) -> String {
    let text = key.to_string();
    let quarters: Vec<&str> = (0..4).filter_map(|quarter| text.get(quarter * 16..(quarter + 1) * 16)).collect();
    quarters.chunks(2).map(|row| format!("  {}\n", row.join(" "))).collect()
}

/// Returns the question; no line is longer than 40 columns.
fn question(address: &str, key: &Fingerprint) -> String {
    let (greeting, label) = (tr!("First contact with the tracker"), tr!("Its key is"));
    let (rows, advice) = (key_rows(key), key_advice());
    let question = tr!("Is it the same key? [yes/no/paste it]");
    format!("{greeting}\n  {address}\n{label}\n{rows}{advice}\n{question} ")
}

fn parse_answer(text: &str) -> KeyAnswer {
    // A lone `y` is not enough: an answer by habit must not confirm a key.
    let is_portuguese = current_language() == Language::Portuguese;
    match &*text.trim().to_lowercase() {
        "yes" => KeyAnswer::Yes,
        "no" | "n" => KeyAnswer::No,
        "sim" if is_portuguese => KeyAnswer::Yes,
        "não" | "nao" if is_portuguese => KeyAnswer::No,
        _ => pasted_key(text).map_or(KeyAnswer::Unclear, KeyAnswer::Key),
    }
}

#[cfg(test)]
mod tests {
    use localization::in_language;

    use super::*;

    #[test]
    fn answers() {
        let key = Fingerprint::from_bytes([0xab; 32]);
        let line = format!("  peer register NAME --tracker 10.0.0.2:8000 --tracker-key {key}\n");
        let joined = format!("--tracker-key={key}");
        let upper = key.to_string().to_uppercase();
        for pasted in [&key.to_string(), &key_rows(&key), &line, &joined, &upper] {
            assert_eq!(parse_answer(pasted), KeyAnswer::Key(key), "{pasted}");
        }
        for yes in ["yes\n", "Yes", " YES \r\n"] {
            assert_eq!(parse_answer(yes), KeyAnswer::Yes);
        }
        for no in ["no\n", " No \r\n", "n\n"] {
            assert_eq!(parse_answer(no), KeyAnswer::No);
        }
        // One key pressed by habit is no consent.
        for unclear in ["", "\n", "y\n", "1\n", "ab\n", &key.to_string()[1..]] {
            assert_eq!(parse_answer(unclear), KeyAnswer::Unclear, "{unclear:?}");
        }
    }

    #[test]
    fn answers_in_portuguese() {
        let answer = |text: &str| in_language(Language::Portuguese, || parse_answer(text));
        for yes in ["sim\n", "Sim", "yes"] {
            assert_eq!(answer(yes), KeyAnswer::Yes, "{yes}");
        }
        for no in ["não\n", "NÃO", "nao", "n", "no"] {
            assert_eq!(answer(no), KeyAnswer::No, "{no}");
        }
        for unclear in ["s\n", "y", "", "si"] {
            assert_eq!(answer(unclear), KeyAnswer::Unclear, "{unclear:?}");
        }
        assert_eq!(parse_answer("sim"), KeyAnswer::Unclear);
    }

    #[test]
    fn the_question_fits_into_a_narrow_terminal() {
        let question = question("192.168.100.200:8000", &Fingerprint::from_bytes([0xab; 32]));
        assert!(question.lines().all(|line| line.chars().count() <= 40), "{question}");
        assert!(question.lines().count() <= 12, "{question}");
    }
}
