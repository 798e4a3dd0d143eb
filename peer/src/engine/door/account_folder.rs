//! The folder of an account below the door's: one for each name, whatever the file system makes of letters and dots.

use std::path::{Path, PathBuf};

use shared::UserName;

/// Marks a character that is written in another way.
const ESCAPE: char = '=';

/// The name of an account's folder.
///
/// The tracker compares names byte by byte, and old accounts may differ in letter case alone or consist of dots. So that no
/// two of them share a folder, a capital letter is written as `=` and its small letter, and a dot at either end as `=.`.
/// Names of users have no `=`, so the way back is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFolder(String);

impl AccountFolder {
    /// Returns the folder of this user's account.
    pub fn of(user: &UserName) -> Self {
        let name = user.as_str();
        let last = name.len().saturating_sub(1);
        let mut folder = String::with_capacity(name.len());
        for (at, c) in name.char_indices() {
            if c.is_ascii_uppercase() || (c == '.' && (at == 0 || at == last)) {
                folder.push(ESCAPE);
            }
            folder.push(c.to_ascii_lowercase());
        }
        Self(folder)
    }

    /// Returns its path in the door's folder.
    pub fn below(&self, door: &Path) -> PathBuf {
        door.join(&self.0)
    }

    /// Returns the path for an earlier account of the same name.
    pub(super) fn aside(&self, door: &Path, number: u32) -> PathBuf {
        // No account's folder begins so.
        door.join(format!("~{}-{number}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Component;

    use super::*;

    fn folder(name: &str) -> String {
        AccountFolder::of(&name.parse().unwrap()).0
    }

    #[test]
    fn most_names_are_their_folders() {
        for name in ["bob", "a", "maria.silva", "joao-2", "_x_"] {
            assert_eq!(folder(name), name);
        }
        assert_eq!((folder("Bob"), folder("..")), ("=bob".to_owned(), "=.=.".to_owned()));
        assert_eq!((folder(".a."), folder(".")), ("=.a=.".to_owned(), "=.".to_owned()));
    }

    #[test]
    fn no_two_names_share_a_folder_and_none_leaves_the_door_s() {
        let letters = ["a", "A", "b", "B", ".", "_", "-", "0"];
        let mut names: Vec<String> = vec![String::new()];
        for _ in 0..4 {
            let longer: Vec<String> =
                names.iter().flat_map(|name| letters.iter().map(move |c| format!("{name}{c}"))).collect();
            names.extend(longer);
        }
        names.sort();
        names.dedup();
        let names: Vec<&String> = names.iter().filter(|name| !name.is_empty()).collect();
        // As a file system that ignores case sees them.
        let folders: HashSet<String> = names.iter().map(|name| folder(name).to_lowercase()).collect();
        assert_eq!(folders.len(), names.len());
        for name in &names {
            let path = AccountFolder::of(&name.parse().unwrap()).below(Path::new("door"));
            let parts: Vec<Component<'_>> = path.components().collect();
            assert!(matches!(parts[..], [Component::Normal(_), Component::Normal(_)]), "{name}: {path:?}");
            assert!(!folder(name).starts_with(['.', '~']), "{name}");
        }
    }
}
