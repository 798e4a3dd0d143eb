//! Last lines for the user after a view has ended.

use localization::tr;

use super::super::common_words::all_of;
use super::super::context::CommandContext;
use crate::engine::{Error, LocalUser};

/// The reason why a view ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExitReason {
    /// The user left with a command or at the end of input.
    Left,
    /// The user interrupted the view, or the terminal is gone.
    Interrupted,
}

/// The end of a view: its reason and the lines to print.
#[derive(Debug)]
#[must_use]
pub(in crate::commands) struct ViewExit {
    pub(super) reason: ExitReason,
    /// One line each, printed after the terminal is restored.
    pub(super) notes: Vec<String>,
}

/// Prints the notes of a view that has ended. Fails with [`Error::Interrupted`] if the view was interrupted.
pub(in crate::commands) fn report_exit(context: &CommandContext, ended: &ViewExit) -> Result<(), Error> {
    ended.notes.iter().for_each(|line| context.output.note(line));
    match ended.reason {
        ExitReason::Left => Ok(()),
        ExitReason::Interrupted => Err(Error::Interrupted),
    }
}

/// Describes the whole outbox, old messages included, for the case that no node is left to deliver it.
pub(super) fn queued_summary(me: &LocalUser) -> Option<String> {
    // Only a courtesy at the exit: a profile that can't be read gives no summary.
    let waiting = me.profile.queued_counts().unwrap_or_default();
    let each: Vec<(usize, &str)> = waiting.iter().map(|one| (one.count, one.user.as_str())).collect();
    queued_words(waiting.iter().map(|one| one.count).sum(), &each)
}

/// Describes `count` queued messages; `each` holds the number of them for every recipient.
pub(super) fn queued_words(count: usize, each: &[(usize, &str)]) -> Option<String> {
    if count == 0 {
        return None;
    }
    Some(match each {
        [] => tr!("1 message is queued: it is sent while `peer serve` or `peer chat` runs"
            | "{n} messages are queued: they are sent while `peer serve` or `peer chat` runs" % count),
        [(_, user)] => tr!(
            "1 message for {user} is queued: it is sent while `peer serve` or `peer chat` runs"
                | "{n} messages for {user} are queued: they are sent while `peer serve` or `peer chat` runs" % count,
            user
        ),
        each if each.len() <= MAX_NAMED => {
            let named = |(count, user): &(usize, &str)| tr!("{count} for {user}", count, user);
            let recipients = all_of(&each.iter().map(named).collect::<Vec<_>>());
            tr!(
                "{count} messages ({recipients}) are queued: they are sent while `peer serve` or `peer chat` runs",
                count,
                recipients
            )
        }
        each => tr!(
            "{count} messages for {people} people are queued: they are sent while `peer serve` or `peer chat` runs",
            count,
            people = each.len()
        ),
    })
}

/// Largest number of recipients that are named.
const MAX_NAMED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_counted_and_named() {
        let each = |users: &[&'static str]| users.iter().map(|user| (2, *user)).collect::<Vec<_>>();
        let said = |count, users: &[&'static str]| queued_words(count, &each(users)).unwrap();
        assert_eq!(queued_words(0, &[]), None);
        assert!(said(2, &["bob"]).starts_with("2 messages for bob are queued:"));
        assert!(said(4, &["bob", "eve"]).starts_with("4 messages (2 for bob and 2 for eve) are queued:"));
        assert!(said(10, &["a", "b", "c", "d", "e"]).starts_with("10 messages for 5 people are queued:"));
        assert!(queued_words(1, &[]).unwrap().starts_with("1 message is queued:"));
    }
}
