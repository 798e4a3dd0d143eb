//! Selection of a tracker when none was given and none was used before.

use std::fmt::Write;

use localization::tr;
use shared::Fingerprint;
use shared::safe_text::safe_line;

use super::context::CommandContext;
use super::questions::{ask_line, can_ask};
use super::tracker_confirmation::{TrackerChoice, confirm_tracker, key_advice, key_rows, pasted_key};
use crate::engine::Error;
use crate::engine::tracker_discovery::{self, DiscoveredTrackers};
use crate::engine::tracker_key::TrackerKeyPolicy;
use crate::net::discovery::{AnnouncedTracker, DiscoveryResult, Reachability};
use crate::net::tracker::TrackerAddress;
use crate::profile::Profile;

/// Largest number of unproved trackers shown; the others are counted.
const MAX_UNPROVED_SHOWN: usize = 4;
/// Largest number of characters shown of an announced name.
const MAX_NAME_CHARS: usize = 32;
/// Attempts of the user to answer.
const MAX_ATTEMPTS: usize = 3;

/// Returns the given tracker, the one used last, or one found on the network. Its key is confirmed, so that a password
/// may be sent to it. `again` is the command line that hints tell the user to run again.
pub(super) async fn tracker_for_password(
    context: &CommandContext,
    profile: &Profile,
    again: &str,
) -> Result<TrackerAddress, Error> {
    let choice = match context.known_tracker(profile)? {
        Some(address) => TrackerChoice { address, announced: None, policy: context.key_policy },
        None => select_tracker(context, again).await?,
    };
    confirm_tracker(context, profile, &choice, again).await?;
    Ok(choice.address)
}

/// Returns the only tracker of this network, the one that the user chooses, or one on this machine. `again` is the
/// command line that an error suggests to run with a tracker given.
async fn select_tracker(context: &CommandContext, again: &str) -> Result<TrackerChoice, Error> {
    let policy = context.key_policy;
    let here = || TrackerChoice { address: TrackerAddress::on_this_machine(), announced: None, policy };
    if context.no_mdns {
        return Ok(here());
    }
    context.output.note(&tr!("no tracker is known yet: looking for one on this network"));
    let wanted = match policy {
        TrackerKeyPolicy::Only(key) => Some(key),
        TrackerKeyPolicy::Ask | TrackerKeyPolicy::AcceptNew => None,
    };
    // Without multicast a tracker on this machine may still answer.
    let found = tracker_discovery::discover(wanted).await.unwrap_or_else(|why| {
        context.output.warning(&why.to_string());
        DiscoveredTrackers::NotFound
    });
    match found {
        // A tracker on this machine may run without announcing itself.
        DiscoveredTrackers::NotFound if here().address.is_listening().await => Ok(here()),
        DiscoveredTrackers::NotFound => {
            Err(Error::NoTracker { seconds: tracker_discovery::LISTEN_DURATION.as_secs(), key: wanted })
        }
        DiscoveredTrackers::One(one) => {
            Ok(TrackerChoice { address: one.tracker_address(), announced: Some(one.fingerprint), policy })
        }
        DiscoveredTrackers::Several(heard) if can_ask(context) => ask_which_tracker(context, &heard).await,
        DiscoveredTrackers::Several(heard) => Err(Error::Usage(selection_help(&heard, again))),
    }
}

/// Lets the user choose a tracker. All keys are shown, so that the choice also confirms the key.
async fn ask_which_tracker(context: &CommandContext, heard: &DiscoveryResult) -> Result<TrackerChoice, Error> {
    let last = proved_trackers(heard).len();
    let mut question = question(heard);
    for _ in 0..MAX_ATTEMPTS {
        let Some(line) = ask_line(context, &question).await? else { break };
        match SelectionAnswer::parse(&line, heard) {
            Some(SelectionAnswer::Listed(one)) => return Ok(choice_of(one)),
            Some(SelectionAnswer::Key(key)) => return find_by_key(key).await,
            None => question = format!("{} ", tr!("Please give a number from 1 to {last}, or\npaste the line:", last)),
        }
    }
    Err(Error::Usage(tr!("no tracker was chosen: give a number from 1 to {last}, or --tracker", last)))
}

/// Searches once more, for one key: other announcements may have kept it off the list.
async fn find_by_key(key: Fingerprint) -> Result<TrackerChoice, Error> {
    match tracker_discovery::discover(Some(key)).await {
        Ok(DiscoveredTrackers::One(one)) => Ok(choice_of(&one)),
        _ => {
            Err(Error::Usage(tr!("no tracker with the key {key} answers on this network: name it with --tracker", key)))
        }
    }
}

fn choice_of(one: &AnnouncedTracker) -> TrackerChoice {
    // The user has seen this key in the list, so that choosing the tracker confirms it.
    let policy = TrackerKeyPolicy::Only(one.fingerprint);
    TrackerChoice { address: one.tracker_address(), announced: None, policy }
}

/// The user's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SelectionAnswer<'a> {
    Listed(&'a AnnouncedTracker),
    /// A tracker that isn't shown, or doesn't answer.
    Key(Fingerprint),
}

impl<'a> SelectionAnswer<'a> {
    fn parse(line: &str, heard: &'a DiscoveryResult) -> Option<Self> {
        let here = proved_trackers(heard);
        if let Some(key) = pasted_key(line) {
            let shown = here.into_iter().find(|tracker| tracker.fingerprint == key);
            return Some(shown.map_or(Self::Key(key), Self::Listed));
        }
        let number: usize = line.trim().parse().ok()?;
        here.get(number.checked_sub(1)?).map(|one| Self::Listed(one))
    }
}

/// Returns the trackers that can be chosen: those that proved to have the announced key.
fn proved_trackers(heard: &DiscoveryResult) -> Vec<&AnnouncedTracker> {
    heard.trackers.iter().filter(|tracker| tracker.reachability == Reachability::Proved).collect()
}

fn unproved_trackers(heard: &DiscoveryResult) -> Vec<&AnnouncedTracker> {
    heard.trackers.iter().filter(|tracker| tracker.reachability != Reachability::Proved).collect()
}

/// Returns the list and the question. Trackers that answer are nearest to the question; no line of ours is longer than
/// 40 columns.
fn question(heard: &DiscoveryResult) -> String {
    let (here, others) = (proved_trackers(heard), unproved_trackers(heard));
    let mut text = String::new();
    for tracker in others.iter().take(MAX_UNPROVED_SHOWN) {
        let why = match tracker.reachability {
            Reachability::Silent => tr!("(no answer)"),
            Reachability::Proved | Reachability::Unproved => tr!("(other key)"),
        };
        // Without a number: only a tracker that proved its key can be chosen.
        write_entry(&mut text, "  -", tracker, &format!(" {why}"));
    }
    if let Some(more @ 1..) = others.len().checked_sub(MAX_UNPROVED_SHOWN) {
        let _ = writeln!(text, "  -  {}", tr!("and {more} more like that", more));
    }
    for (number, tracker) in here.iter().enumerate() {
        write_entry(&mut text, &format!("{:>3}", number + 1), tracker, "");
    }
    let last = here.len();
    let (summary, advice) = (summary(heard), key_advice());
    let question = tr!("Which one? [1-{last}, or paste its line]", last);
    format!("{summary}\n{text}{advice}\n{question} ")
}

fn write_entry(text: &mut String, mark: &str, tracker: &AnnouncedTracker, why: &str) {
    let (name, address) = (shown_name(tracker), tracker.tracker_address());
    let rows = key_rows(&tracker.fingerprint).replace("  ", "     ");
    let _ = write!(text, "{mark}  {name}\n     {address}{why}\n{rows}");
}

/// Returns the announced name for display. It stands next to commands that are pasted into a shell, so every character
/// that a shell or a terminal interprets is replaced.
fn shown_name(tracker: &AnnouncedTracker) -> String {
    let harmless = |c: char| if c.is_alphanumeric() || matches!(c, ' ' | '.' | '-') { c } else { '_' };
    let short: String = tracker.name.chars().take(MAX_NAME_CHARS).map(harmless).collect();
    format!("\"{}\"", safe_line(&short))
}

/// Returns the number of trackers, and why none of them is taken without a question.
fn summary(heard: &DiscoveryResult) -> String {
    let count = heard.trackers.len();
    // Only a forger announces more than the discovery keeps.
    if heard.is_cut_off {
        tr!("more than {count} trackers are announced\nhere: somebody makes them up", count)
    } else if count == 1 {
        tr!("one tracker is announced here, and what\nis announced changes")
    } else {
        tr!("there are {count} trackers on this network", count)
    }
}

/// Returns the list for a caller that can't be asked, with the command to run for each tracker.
fn selection_help(heard: &DiscoveryResult, again: &str) -> String {
    let others = unproved_trackers(heard);
    let mut text = tr!("{summary}: say which one", summary = summary(heard).replace('\n', " "));
    for tracker in proved_trackers(heard) {
        let (name, address) = (shown_name(tracker), tracker.tracker_address());
        let key = tracker.fingerprint;
        let _ = write!(text, "\n  {name}\n    peer {again} --tracker {address} --tracker-key {key}");
    }
    if !others.is_empty() {
        let heading = tr!("{n} of them can't be reached, or have another key than is announced:"
            | "{n} of them can't be reached, or have another key than is announced:" % others.len());
        let _ = write!(text, "\n{heading}");
    }
    for tracker in others.iter().take(MAX_UNPROVED_SHOWN) {
        let (name, address) = (shown_name(tracker), tracker.tracker_address());
        let _ = write!(text, "\n  {name} {address} {}", tracker.fingerprint);
    }
    if let Some(more @ 1..) = others.len().checked_sub(MAX_UNPROVED_SHOWN) {
        let _ = write!(text, "\n  {}", tr!("and {more} more", more));
    }
    let _ = write!(text, "\n{}", tr!("The right one has the key in the line that it printed when it started"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> DiscoveryResult {
        let one = |n: u8, reachability| AnnouncedTracker {
            fingerprint: Fingerprint::from_bytes([n; 32]),
            address: ([192, 168, 100, n], 8000).into(),
            places: Vec::new(),
            name: format!("Vizinho\u{1b}[2J$(x)`x`\";'\\#\u{202e} {n}"),
            reachability,
        };
        let mut trackers =
            vec![one(200, Reachability::Proved), one(201, Reachability::Proved), one(1, Reachability::Unproved)];
        trackers.extend((2..30).map(|n| one(n, Reachability::Silent)));
        DiscoveryResult { trackers, is_cut_off: false, is_settled: true }
    }

    #[test]
    fn the_question_shows_the_keys_and_fits_into_a_narrow_terminal() {
        let text = question(&heard());
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        for part in ["there are 31 trackers", "and 25 more", "(other key)", "(no answer)", "c8c8c8c8c8c8c8c8 c8c8"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'));
        let below: Vec<&str> = text.lines().rev().take(13).collect();
        assert!(below.iter().any(|line| line.contains("192.168.100.201:8000")), "nearest to the question: {text}");
    }

    #[test]
    fn a_number_or_a_key_is_a_choice() {
        let heard = heard();
        let chosen = |line: &str| SelectionAnswer::parse(line, &heard);
        assert_eq!(chosen("2\n"), Some(SelectionAnswer::Listed(&heard.trackers[1])));
        let line = format!("peer register NAME --tracker x --tracker-key {}", "c8".repeat(32));
        assert_eq!(chosen(&line), Some(SelectionAnswer::Listed(&heard.trackers[0])));
        for other in [2, 255] {
            let key = Fingerprint::from_bytes([other; 32]);
            assert_eq!(chosen(&key.to_string()), Some(SelectionAnswer::Key(key)), "silent, or not on the list");
        }
        for none in ["", "0", "3", "yes"] {
            assert_eq!(chosen(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_to_be_run_instead_is_told_for_each() {
        let text = selection_help(&heard(), "register alice");
        let line =
            format!("\n    peer register alice --tracker 192.168.100.200:8000 --tracker-key {}\n", "c8".repeat(32));
        assert!(text.contains(&line) && text.contains("29 of them can't be reached"), "{text}");
        let is_harmless = |c: char| !matches!(c, '\u{1b}' | '$' | '`' | ';' | '\'' | '\\' | '#' | '\u{202e}');
        let names: String = text.lines().filter(|line| line.contains("\"Vizinho_")).collect();
        assert!(!names.is_empty() && names.chars().all(is_harmless), "{text}");
        let cut_off = DiscoveryResult { is_cut_off: true, ..heard() };
        assert!(selection_help(&cut_off, "x").starts_with("more than 31 trackers are announced"));
    }
}
