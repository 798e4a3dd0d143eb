//! News of follows as text for people.

use localization::tr;
use shared::FileName;
use shared::account_name::speaker_label;
use shared::names::name_encoding::display_name;
use shared::safe_text::{safe_block, safe_line};

use super::human_format::format_size;
use crate::engine::follow_news::{FollowChange, FollowNews, FollowState, FollowTotals};

/// Returns a change as one line, for whoever watches this follow alone.
pub fn follow_change_line(news: &FollowNews) -> String {
    match &news.change {
        FollowChange::Fetched { name, size, again: false } => {
            tr!("{name} ({size}) came", name = path_words(news, name), size = format_size(*size))
        }
        FollowChange::Fetched { name, size, again: true } => {
            tr!("{name} ({size}) came in a new version", name = path_words(news, name), size = format_size(*size))
        }
        FollowChange::Moved { from, name } => {
            tr!("{from} is {name} now", from = path_words(news, from), name = path_words(news, name))
        }
        FollowChange::Removed { name } => tr!("{name} was removed", name = path_words(news, name)),
        FollowChange::Kept { name, kept_as } => tr!(
            "{name} was changed here: your version is kept as {kept_as}",
            name = path_words(news, name),
            kept_as = path_words(news, kept_as)
        ),
        FollowChange::Failed { name, why } => {
            tr!("{name} is not here yet: {why}", name = path_words(news, name), why = safe_line(why))
        }
        FollowChange::State { state, count, why, totals } => state_line(news, *state, *count, why, totals),
        FollowChange::Paused => {
            let (folder, number) = (folder_words(news), news.number);
            tr!("{folder} is paused: `peer follows resume {number}` has it go on", folder, number)
        }
        FollowChange::Ended => tr!("{folder} is followed no more; the copy stays", folder = folder_words(news)),
    }
}

/// Returns a change as one line, for whoever watches all that happens; `None` for the many small ones.
pub(super) fn follow_line(news: &FollowNews) -> Option<String> {
    let is_told = match &news.change {
        FollowChange::Kept { .. } | FollowChange::Paused | FollowChange::Ended => true,
        FollowChange::State { state: FollowState::InStep, totals, .. } => *totals != FollowTotals::default(),
        FollowChange::State { state, .. } => !matches!(state, FollowState::Waiting | FollowState::Fetching),
        FollowChange::Fetched { .. }
        | FollowChange::Moved { .. }
        | FollowChange::Removed { .. }
        | FollowChange::Failed { .. } => false,
    };
    is_told.then(|| follow_change_line(news))
}

fn state_line(news: &FollowNews, state: FollowState, count: usize, why: &str, totals: &FollowTotals) -> String {
    let (folder, number) = (folder_words(news), news.number);
    let user = speaker_label(&news.user);
    match state {
        FollowState::InStep => {
            let FollowTotals { fetched, bytes, moved, removed } = totals;
            let size = format_size(*bytes);
            match (fetched, moved, removed) {
                (0, 0, 0) => tr!("{folder} is in step", folder),
                (n, 0, 0) => tr!(
                    "{folder} is in step: {n} came ({size})" | "{folder} is in step: {n} came ({size})" % *n,
                    folder,
                    size
                ),
                (0, n, 0) => {
                    tr!("{folder} is in step: {n} renamed" | "{folder} is in step: {n} renamed" % *n, folder)
                }
                (0, 0, n) => {
                    tr!("{folder} is in step: {n} removed" | "{folder} is in step: {n} removed" % *n, folder)
                }
                _ => tr!(
                    "{folder} is in step: {fetched} came ({size}), {moved} renamed, {removed} removed",
                    folder,
                    fetched,
                    size,
                    moved,
                    removed
                ),
            }
        }
        FollowState::Waiting if why.is_empty() => tr!("{folder} waits for {user}", folder, user),
        FollowState::Waiting => tr!("{folder} waits for {user}: {why}", folder, user, why = safe_line(why)),
        FollowState::Fetching => {
            tr!("1 file of {folder} is to come" | "{n} files of {folder} are to come" % count, folder)
        }
        FollowState::Incomplete => tr!(
            "{folder} is in step but for 1 file, which is tried again: {why}"
                | "{folder} is in step but for {n} files, which are tried again: {why}" % count,
            folder,
            why = safe_line(why)
        ),
        FollowState::NeedsConfirmation => tr!(
            "{user} removed 1 file, which is most of {folder}: it stays here until `peer follows confirm {number}`"
                | "{user} removed {n} files of {folder}: they stay here until `peer follows confirm {number}`" % count,
            user,
            folder,
            number
        ),
        FollowState::Held => tr!("{folder} can't go on: {why}", folder, why = safe_line(why)),
        // It has the commands for a changed key: its lines are kept, and none can pass for another event.
        FollowState::KeyChanged => tr!(
            "{folder} is followed no more: {why}\n    after that, `peer follows resume {number}` goes on",
            folder,
            why = safe_block(why).replace('\n', "\n    "),
            number
        ),
    }
}

/// Returns the followed folder with its user: `bob's photos/`.
fn folder_words(news: &FollowNews) -> String {
    let user = speaker_label(&news.user);
    match &news.folder {
        Some(folder) => {
            let folder = display_name(folder.as_str());
            tr!("{user}'s {folder}", user, folder = format_args!("{folder}/"))
        }
        None => tr!("all that {user} shares", user),
    }
}

/// Returns a name as it lies below the folder that was named with `-o`.
fn path_words(news: &FollowNews, name: &FileName) -> String {
    match &news.folder {
        Some(folder) => format!("{}/{}", display_name(folder.last_component()), name.display()),
        None => name.display().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(change: FollowChange) -> String {
        let (user, folder) = ("bob".parse().unwrap(), Some("my/photos".parse().unwrap()));
        follow_change_line(&FollowNews { number: 2, user, folder, change })
    }

    #[test]
    fn changes_are_lines() {
        let name: FileName = "a/b.jpg".parse().unwrap();
        let fetched = |again| FollowChange::Fetched { name: name.clone(), size: 1500, again };
        assert_eq!(line(fetched(false)), "photos/a/b.jpg (1.50 kB) came");
        assert_eq!(line(fetched(true)), "photos/a/b.jpg (1.50 kB) came in a new version");
        let state = |state, count, totals| line(FollowChange::State { state, count, why: "".into(), totals });
        assert_eq!(state(FollowState::InStep, 0, FollowTotals::default()), "bob's my/photos/ is in step");
        let totals = FollowTotals { fetched: 3, bytes: 2000, moved: 1, removed: 0 };
        assert_eq!(
            state(FollowState::InStep, 0, totals),
            "bob's my/photos/ is in step: 3 came (2.00 kB), 1 renamed, 0 removed"
        );
        let asked = state(FollowState::NeedsConfirmation, 120, FollowTotals::default());
        assert!(asked.ends_with("they stay here until `peer follows confirm 2`"), "{asked}");
    }

    #[test]
    fn what_others_say_stays_in_its_line() {
        let why = "gone\n12:00 bob: hello".into();
        let failed = line(FollowChange::Failed { name: "x".parse().unwrap(), why });
        assert_eq!(failed.lines().count(), 1, "{failed}");
    }
}
