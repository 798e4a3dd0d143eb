//! Texts about a fetch: its events, its files and its summary.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use localization::tr;
use shared::names::name_encoding::display_name;
use shared::names::numbered_component;
use shared::safe_text::{safe_line, safe_path};
use shared::{FileName, UserName};

use super::human_format::{format_size, short_duration, silent_words, slow_words, transfer_rate};
use crate::engine::fetch::{FetchEvent, FetchSummary};

/// The shortest fetch for which a rate is shown.
const MIN_RATED_TIME: Duration = Duration::from_millis(100);

/// Returns the line that is printed about an event, for those that have no display of their own.
pub(super) fn event_line(event: &FetchEvent<'_>) -> Option<String> {
    Some(match event {
        FetchEvent::AwaitingRehash { name } => {
            tr!("{name} changed or grew at the source and is being hashed again there…", name = display_name(name))
        }
        FetchEvent::AwaitingReader { path } => {
            tr!("waiting for a reader of {path} (Ctrl-C ends)", path = safe_line(&path.to_string_lossy()))
        }
        FetchEvent::OutdatedRemoved { name } => {
            let name = display_name(name.as_str());
            tr!("{name} changed at its source since: what was kept of it is removed", name)
        }
        FetchEvent::ContentChanged { name } => {
            tr!("{name} changed at its source meanwhile: fetching it anew", name = display_name(name.as_str()))
        }
        FetchEvent::SourceJoined { user } => tr!("{user} has the same and is asked as well", user),
        FetchEvent::SourceReturned { user } => tr!("{user} is back", user),
        FetchEvent::SourceLost { user, why } => {
            tr!("{user} went offline ({why}); retrying (Ctrl-C stops, nothing is lost)", user, why = safe_line(why))
        }
        FetchEvent::Silent { user, time } => {
            tr!("{what}; retrying (Ctrl-C stops, nothing is lost)", what = silent_words(user, *time))
        }
        FetchEvent::Slow { user, slowdown, seeks } => slow_words(user, *slowdown, *seeks),
        _ => return None,
    })
}

/// Returns the line about a file of which members of a room share different versions.
pub(super) fn version_line(name: &FileName, owner: &UserName, others: &[UserName]) -> String {
    let others: Vec<&str> = others.iter().map(UserName::as_str).collect();
    let (name, first) = (display_name(name.as_str()), others.first().copied().unwrap_or_default());
    tr!(
        "{name} is not the same everywhere: {owner}'s is the newest and comes, not that of {others}; \
         for another, name its owner (`peer fetch {first} …`)",
        name,
        owner,
        others = others.join(", "),
        first
    )
}

/// Returns what is said of a fetch that took `elapsed`; `unfinished` files are left because it ended early.
pub(super) fn summary_parts(summary: &FetchSummary, unfinished: usize, elapsed: Duration) -> Vec<String> {
    let mut parts = Vec::new();
    let fetched = summary.done + summary.renamed;
    if fetched > 0 {
        let (amount, time) = (format_size(summary.placed_fetched), short_duration(elapsed));
        parts.push(if elapsed < MIN_RATED_TIME {
            // The rate of a shorter fetch would measure the handshake.
            tr!(
                "{n} file fetched and verified, {size} in {time}"
                    | "{n} files fetched and verified, {size} in {time}" % fetched,
                size = amount,
                time
            )
        } else {
            tr!(
                "{n} file fetched and verified, {size} in {time} ({rate})"
                    | "{n} files fetched and verified, {size} in {time} ({rate})" % fetched,
                size = amount,
                time,
                rate = transfer_rate(summary.placed_fetched, elapsed)
            )
        });
        if summary.placed_resumed > 0 {
            parts.push(tr!("{size} from before", size = format_size(summary.placed_resumed)));
        }
    }
    if summary.renamed > 0 {
        parts.push(tr!("{n} file renamed" | "{n} files renamed" % summary.renamed));
    }
    if summary.skipped > 0 {
        parts.push(tr!("{n} file there already" | "{n} files there already" % summary.skipped));
    }
    if summary.folders > 0 {
        parts.push(tr!("{n} empty folder" | "{n} empty folders" % summary.folders));
    }
    let failed = summary.failed.saturating_sub(unfinished);
    // The failure of the only file is the command's own error.
    if failed > 0 && summary.total() > 1 {
        parts.push(tr!("{n} file failed" | "{n} files failed" % failed));
    }
    // Without anything else to tell, the error of the fetch says it.
    if unfinished > 0 && !parts.is_empty() {
        parts.push(tr!("{n} file not fetched" | "{n} files not fetched" % unfinished));
    }
    parts
}

pub(super) fn done_line(path: &Path, size: u64) -> String {
    format!("{} ({})", path_text(path), format_size(size))
}

/// Returns the line about a file at `path` whose own name, `name`, it could not have.
pub(super) fn renamed_line(path: &Path, name: &str, size: u64) -> String {
    let (place, size) = (path_text(path), format_size(size));
    match taken_name(path) {
        Some(taken) => tr!("{path} ({size}; the name {name} was taken)", path = place, size, name = safe_line(&taken)),
        None => tr!("{path} ({size}; the name {name} can't be used here)", path = place, size, name),
    }
}

pub(super) fn skipped_line(path: &Path) -> String {
    tr!("{path} is there already", path = path_text(path))
}

/// Returns a path as people write it, without a leading `./`.
fn path_text(path: &Path) -> String {
    let path = path.strip_prefix(".").unwrap_or(path);
    safe_path(path)
}

/// Returns the name that was taken, if `path` got a number because of it.
fn taken_name(path: &Path) -> Option<String> {
    let given = path.file_name().and_then(OsStr::to_str)?;
    let at = given.rfind(" (")?;
    let (digits, rest) = given[at + 2..].split_once(')')?;
    let wanted = format!("{}{rest}", &given[..at]);
    (numbered_component(&wanted, digits.parse().ok()?) == given).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_which_name_was_taken() {
        let taken = |path: &str| taken_name(Path::new(path));
        assert_eq!(taken("a/r (1).pdf").as_deref(), Some("r.pdf"));
        assert_eq!(taken("x (2) (10)").as_deref(), Some("x (2)"));
        assert_eq!(taken("a/r.pdf"), None);
        assert_eq!(taken("r (one).pdf"), None);
    }
}
