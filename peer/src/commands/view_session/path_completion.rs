//! Completion of a path that the user types in a view.

use std::path::{Path, PathBuf};

use shared::names::matching_key;

use crate::ui::ViewUpdate;

/// Largest number of paths to show.
const MAX_PATHS: usize = 200;

/// Returns the paths that begin with `start`; `~` is the home folder.
pub(super) async fn complete_path(start: String) -> ViewUpdate {
    // A network folder may take seconds to list.
    let listed = tokio::task::spawn_blocking(move || {
        let paths = list_matching(&start);
        ViewUpdate::Paths { start, paths }
    });
    listed.await.unwrap_or_else(|failure| ViewUpdate::Problem(failure.to_string()))
}

/// Replaces a leading `~` by the home folder.
pub(super) fn expand_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

fn list_matching(start: &str) -> Vec<String> {
    let (folder, name) = start.rsplit_once('/').map_or(("", start), |(folder, name)| (&start[..=folder.len()], name));
    let place = if folder.is_empty() { PathBuf::from(".") } else { expand_home(Path::new(folder)) };
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let key = matching_key(name);
    let begins = |entry: &str| entry.starts_with(name) || matching_key(entry).starts_with(&*key);
    // The shell's habit as well: hidden files only after a typed dot.
    let fits = |entry: &str| begins(entry) && (name.starts_with('.') || !entry.starts_with('.'));
    let mut paths: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            // What isn't UTF-8 can't stand in the line.
            let found = entry.file_name().into_string().ok().filter(|found| fits(found))?;
            // Also for a link to a folder: the next completion goes on inside.
            let end = if entry.path().is_dir() { "/" } else { "" };
            Some(format!("{folder}{found}{end}"))
        })
        .collect();
    paths.sort();
    paths.truncate(MAX_PATHS);
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_end_with_a_slash_and_hidden_files_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["report.pdf", "readme", ".hidden"] {
            std::fs::File::create(folder.path().join(name)).unwrap();
        }
        std::fs::create_dir(folder.path().join("releases")).unwrap();
        let at = folder.path().to_str().unwrap();
        let listed = |start: &str| list_matching(&format!("{at}/{start}"));
        assert_eq!(listed("re"), ["readme", "releases/", "report.pdf"].map(|name| format!("{at}/{name}")));
        assert_eq!(listed(".h"), [format!("{at}/.hidden")]);
        assert_eq!(listed("").len(), 3);
        assert!(listed("nothing").is_empty());
    }
}
