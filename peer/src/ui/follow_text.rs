//! News of follows as text for people.

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
            format!("{} ({}) came", path_words(news, name), format_size(*size))
        }
        FollowChange::Fetched { name, size, again: true } => {
            format!("{} ({}) came in a new version", path_words(news, name), format_size(*size))
        }
        FollowChange::Moved { from, name } => {
            format!("{} is {} now", path_words(news, from), path_words(news, name))
        }
        FollowChange::Removed { name } => format!("{} was removed", path_words(news, name)),
        FollowChange::Kept { name, kept_as } => format!(
            "{} was changed here: your version is kept as {}",
            path_words(news, name),
            path_words(news, kept_as)
        ),
        FollowChange::Failed { name, why } => {
            format!("{} is not here yet: {}", path_words(news, name), safe_line(why))
        }
        FollowChange::State { state, count, why, totals } => state_line(news, *state, *count, why, totals),
        FollowChange::Paused => {
            format!("{} is paused: `peer follows resume {}` has it go on", folder_words(news), news.number)
        }
        FollowChange::Ended => format!("{} is followed no more; the copy stays", folder_words(news)),
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
                (0, 0, 0) => format!("{folder} is in step"),
                (_, 0, 0) => format!("{folder} is in step: {fetched} came ({size})"),
                (0, _, 0) => format!("{folder} is in step: {moved} renamed"),
                (0, 0, _) => format!("{folder} is in step: {removed} removed"),
                _ => format!("{folder} is in step: {fetched} came ({size}), {moved} renamed, {removed} removed"),
            }
        }
        FollowState::Waiting if why.is_empty() => format!("{folder} waits for {user}"),
        FollowState::Waiting => format!("{folder} waits for {user}: {}", safe_line(why)),
        FollowState::Fetching if count == 1 => format!("1 file of {folder} is to come"),
        FollowState::Fetching => format!("{count} files of {folder} are to come"),
        FollowState::Incomplete if count == 1 => {
            format!("{folder} is in step but for 1 file, which is tried again: {}", safe_line(why))
        }
        FollowState::Incomplete => {
            format!("{folder} is in step but for {count} files, which are tried again: {}", safe_line(why))
        }
        FollowState::NeedsConfirmation if count == 1 => format!(
            "{user} removed 1 file, which is most of {folder}: it stays here until `peer follows confirm {number}`"
        ),
        FollowState::NeedsConfirmation => {
            format!("{user} removed {count} files of {folder}: they stay here until `peer follows confirm {number}`")
        }
        FollowState::Held => format!("{folder} can't go on: {}", safe_line(why)),
        // It has the commands for a changed key: its lines are kept, and none can pass for another event.
        FollowState::KeyChanged => format!(
            "{folder} is followed no more: {}\n    after that, `peer follows resume {number}` goes on",
            safe_block(why).replace('\n', "\n    ")
        ),
    }
}

/// Returns the followed folder with its user: `bob's photos/`.
fn folder_words(news: &FollowNews) -> String {
    let user = speaker_label(&news.user);
    match &news.folder {
        Some(folder) => format!("{user}'s {}/", display_name(folder.as_str())),
        None => format!("all that {user} shares"),
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
        let state = |state, count, totals| line(FollowChange::State { state, count, why: String::new(), totals });
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
        let why = "gone\n12:00 bob: hello".to_owned();
        let failed = line(FollowChange::Failed { name: "x".parse().unwrap(), why });
        assert_eq!(failed.lines().count(), 1, "{failed}");
    }
}
