//! Which tracker, when none was named and none was used before.

use std::fmt::Write;

use shared::Fingerprint;
use shared::safe_text::safe_line;

use super::Context;
use super::first_contact::{self, ADVICE, TrackerChoice, answer, can_ask, pasted_key};
use crate::engine::Error;
use crate::engine::neighbourhood::{self, Discovered};
use crate::engine::tracker_key::KeyPolicy;
use crate::net::discovery::{AnnouncedTracker, Neighbourhood, Reachability};
use crate::net::tracker::TrackerAddress;

/// Silent trackers that are shown; the others are counted.
const SILENT_SHOWN: usize = 4;
/// Characters of an announced name that are shown: a tracker calls itself no more than that.
const NAME_SHOWN: usize = 32;
/// Attempts to answer.
const ATTEMPTS: usize = 3;

/// The one tracker of this network, or the one that is chosen; else one on this machine. `again` is the command that
/// asks, for whoever is to run it again with a tracker named.
pub(super) async fn tracker(context: &Context, again: &str) -> Result<TrackerChoice, Error> {
    let policy = context.key_policy;
    let here = || TrackerChoice { address: TrackerAddress::on_this_machine(), announced: None, policy };
    if context.no_mdns {
        return Ok(here());
    }
    context.output.note("no tracker is known yet: looking for one on this network");
    let wanted = match policy {
        KeyPolicy::Only(key) => Some(key),
        KeyPolicy::Ask | KeyPolicy::AcceptNew => None,
    };
    let found = neighbourhood::look(wanted).await.unwrap_or_else(|why| {
        context.output.warning(&why.to_string());
        Discovered::Nobody
    });
    match found {
        Discovered::Nobody if here().address.takes_connections().await => Ok(here()),
        Discovered::Nobody => Err(Error::NoTracker { seconds: neighbourhood::LISTEN_FOR.as_secs(), key: wanted }),
        Discovered::One(AnnouncedTracker { address, fingerprint, .. }) => {
            Ok(TrackerChoice { address: address.into(), announced: Some(fingerprint), policy })
        }
        Discovered::Several(heard) if can_ask(context) => chosen(context, &heard).await,
        Discovered::Several(heard) => Err(Error::Usage(listed(&heard, again))),
    }
}

/// The one that the person at the terminal chooses. To choose it is to say that its key is the right one: all keys are
/// shown.
async fn chosen(context: &Context, heard: &Neighbourhood) -> Result<TrackerChoice, Error> {
    let last = present(heard).len();
    let mut question = question(heard);
    for _ in 0..ATTEMPTS {
        let Some(line) = answer(context, &question).await? else { break };
        match Chosen::of(&line, heard) {
            Some(Chosen::Shown(one)) => return Ok(with_key(one)),
            Some(Chosen::Key(key)) => return looked_for(key).await,
            None => question = format!("Please give a number from 1 to {last}, or\npaste the line: "),
        }
    }
    Err(Error::Usage(format!("no tracker was chosen: give a number from 1 to {last}, or --tracker")))
}

/// Looks once more, for one key: what else is announced may have kept it off the list.
async fn looked_for(key: Fingerprint) -> Result<TrackerChoice, Error> {
    match neighbourhood::look(Some(key)).await {
        Ok(Discovered::One(one)) => Ok(with_key(&one)),
        _ => {
            Err(Error::Usage(format!("no tracker with the key {key} answers on this network: name it with --tracker")))
        }
    }
}

fn with_key(one: &AnnouncedTracker) -> TrackerChoice {
    let policy = KeyPolicy::Only(one.fingerprint);
    TrackerChoice { address: one.address.into(), announced: None, policy }
}

/// What somebody chose.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chosen<'a> {
    Shown(&'a AnnouncedTracker),
    /// One that isn't shown, or doesn't answer.
    Key(Fingerprint),
}

impl<'a> Chosen<'a> {
    fn of(line: &str, heard: &'a Neighbourhood) -> Option<Self> {
        let here = present(heard);
        if let Some(key) = pasted_key(line) {
            let shown = here.into_iter().find(|tracker| tracker.fingerprint == key);
            return Some(shown.map_or(Self::Key(key), Self::Shown));
        }
        let number: usize = line.trim().parse().ok()?;
        here.get(number.checked_sub(1)?).map(|one| Self::Shown(one))
    }
}

/// Those that can be chosen: somebody there has the announced key.
fn present(heard: &Neighbourhood) -> Vec<&AnnouncedTracker> {
    heard.trackers.iter().filter(|tracker| tracker.reachability == Reachability::Proved).collect()
}

fn absent(heard: &Neighbourhood) -> Vec<&AnnouncedTracker> {
    heard.trackers.iter().filter(|tracker| tracker.reachability != Reachability::Proved).collect()
}

/// The list and the question below it, where those that answer are nearest to the question. No line of ours is longer
/// than 40 columns.
fn question(heard: &Neighbourhood) -> String {
    let (here, others) = (present(heard), absent(heard));
    let mut text = String::new();
    for tracker in others.iter().take(SILENT_SHOWN) {
        let why = if tracker.reachability == Reachability::Silent { "no answer" } else { "other key" };
        entry(&mut text, "  -", tracker, &format!(" ({why})"));
    }
    if let Some(more @ 1..) = others.len().checked_sub(SILENT_SHOWN) {
        let _ = writeln!(text, "  -  and {more} more like that");
    }
    for (number, tracker) in here.iter().enumerate() {
        entry(&mut text, &format!("{:>3}", number + 1), tracker, "");
    }
    let last = here.len();
    format!("{}\n{text}{ADVICE}\nWhich one? [1-{last}, or paste its line] ", summary(heard))
}

fn entry(text: &mut String, mark: &str, tracker: &AnnouncedTracker, why: &str) {
    let (name, address) = (shown_name(tracker), TrackerAddress::from(tracker.address));
    let rows = first_contact::rows(&tracker.fingerprint).replace("  ", "     ");
    let _ = write!(text, "{mark}  {name}\n     {address}{why}\n{rows}");
}

/// What it is called by whoever announced it. It stands beside commands that are pasted into a shell: nothing that a
/// shell or a terminal understands is left of it.
fn shown_name(tracker: &AnnouncedTracker) -> String {
    let harmless = |c: char| if c.is_alphanumeric() || matches!(c, ' ' | '.' | '-') { c } else { '_' };
    let short: String = tracker.name.chars().take(NAME_SHOWN).map(harmless).collect();
    format!("\"{}\"", safe_line(&short))
}

/// How many there are, and why none of them is taken without a question.
fn summary(heard: &Neighbourhood) -> String {
    let count = heard.trackers.len();
    if heard.is_cut_off {
        format!("more than {count} trackers are announced\nhere: somebody makes them up")
    } else if count == 1 {
        "one tracker is announced here, and what\nis announced changes".to_owned()
    } else {
        format!("there are {count} trackers on this network")
    }
}

/// The same where nobody can be asked: what to run instead.
fn listed(heard: &Neighbourhood, again: &str) -> String {
    let others = absent(heard);
    let mut text = format!("{}: say which one", summary(heard).replace('\n', " "));
    for tracker in present(heard) {
        let (name, address) = (shown_name(tracker), TrackerAddress::from(tracker.address));
        let key = tracker.fingerprint;
        let _ = write!(text, "\n  {name}\n    peer {again} --tracker {address} --tracker-key {key}");
    }
    if !others.is_empty() {
        let _ = write!(text, "\n{} of them can't be reached, or have another key than is announced:", others.len());
    }
    for tracker in others.iter().take(SILENT_SHOWN) {
        let (name, address) = (shown_name(tracker), TrackerAddress::from(tracker.address));
        let _ = write!(text, "\n  {name} {address} {}", tracker.fingerprint);
    }
    if let Some(more @ 1..) = others.len().checked_sub(SILENT_SHOWN) {
        let _ = write!(text, "\n  and {more} more");
    }
    let _ = write!(text, "\nThe right one has the key in the line that it printed when it started");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> Neighbourhood {
        let one = |n: u8, reachability| AnnouncedTracker {
            fingerprint: Fingerprint::from_bytes([n; 32]),
            address: ([192, 168, 100, n], 8000).into(),
            name: format!("Vizinho\u{1b}[2J$(x)`x`\";'\\#\u{202e} {n}"),
            reachability,
        };
        let mut trackers =
            vec![one(200, Reachability::Proved), one(201, Reachability::Proved), one(1, Reachability::Unproved)];
        trackers.extend((2..30).map(|n| one(n, Reachability::Silent)));
        Neighbourhood { trackers, is_cut_off: false, is_settled: true }
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
        let chosen = |line: &str| Chosen::of(line, &heard);
        assert_eq!(chosen("2\n"), Some(Chosen::Shown(&heard.trackers[1])));
        let line = format!("peer register NAME --tracker x --tracker-key {}", "c8".repeat(32));
        assert_eq!(chosen(&line), Some(Chosen::Shown(&heard.trackers[0])));
        for other in [2, 255] {
            let key = Fingerprint::from_bytes([other; 32]);
            assert_eq!(chosen(&key.to_string()), Some(Chosen::Key(key)), "silent, or not on the list");
        }
        for none in ["", "0", "3", "yes"] {
            assert_eq!(chosen(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_to_be_run_instead_is_told_for_each() {
        let text = listed(&heard(), "register alice");
        let line =
            format!("\n    peer register alice --tracker 192.168.100.200:8000 --tracker-key {}\n", "c8".repeat(32));
        assert!(text.contains(&line) && text.contains("29 of them can't be reached"), "{text}");
        let is_harmless = |c: char| !matches!(c, '\u{1b}' | '$' | '`' | ';' | '\'' | '\\' | '#' | '\u{202e}');
        let names: String = text.lines().filter(|line| line.contains("\"Vizinho_")).collect();
        assert!(!names.is_empty() && names.chars().all(is_harmless), "{text}");
        let cut_off = Neighbourhood { is_cut_off: true, ..heard() };
        assert!(listed(&cut_off, "x").starts_with("more than 31 trackers are announced"));
    }
}
