//! What one user shares: at most one file of each name, and the list's JSON text once somebody asked for it.

use std::collections::BTreeMap;
use std::mem;

use serde::Serialize;
use shared::FileName;
use shared::limits::FILES_PER_USER;
use shared::tracker::{FilesMode, HashText, SharedFile};

/// One user's files, by name.
#[derive(Debug, Clone, Default)]
pub struct Files {
    by_name: BTreeMap<FileName, Attributes>,
    /// The JSON list of all of them, until something changes.
    text: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attributes {
    size: u64,
    hash: HashText,
}

/// More than [`FILES_PER_USER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyFiles;

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a FileName,
    size: u64,
    hash: &'a HashText,
}

impl Files {
    /// Those files; of several with one name the last counts.
    pub fn from_list(list: Vec<SharedFile>) -> Self {
        let by_name =
            list.into_iter().map(|SharedFile { name, size, hash }| (name, Attributes { size, hash })).collect();
        Self { by_name, text: None }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Makes the text now, where it costs nobody anything.
    pub fn prepare_text(&mut self) {
        self.text();
    }

    /// Changes these files by `other`, which is left with what is no longer needed. Says whether anything changed.
    pub(super) fn apply(&mut self, mode: FilesMode, other: &mut Self) -> Result<bool, TooManyFiles> {
        match mode {
            FilesMode::Replace if other.len() > FILES_PER_USER => return Err(TooManyFiles),
            FilesMode::Replace if self.by_name == other.by_name => return Ok(false),
            FilesMode::Replace => {
                mem::swap(self, other);
                return Ok(true);
            }
            FilesMode::Add => {
                let new = other.by_name.keys().filter(|name| !self.by_name.contains_key(*name)).count();
                if self.len() + new > FILES_PER_USER {
                    return Err(TooManyFiles);
                }
            }
            FilesMode::Remove => {}
        }
        let mut changed = false;
        for (name, attributes) in mem::take(&mut other.by_name) {
            changed |= match mode {
                FilesMode::Remove => self.by_name.remove(&name).is_some(),
                FilesMode::Add | FilesMode::Replace if self.by_name.get(&name) == Some(&attributes) => false,
                FilesMode::Add | FilesMode::Replace => {
                    self.by_name.insert(name, attributes);
                    true
                }
            };
        }
        if changed {
            self.text = None;
        }
        Ok(changed)
    }

    /// The JSON list of all files, ordered by name.
    pub(super) fn text(&mut self) -> &[u8] {
        let by_name = &self.by_name;
        self.text.get_or_insert_with(|| list_text(entries(by_name)))
    }

    /// The JSON list of the files of this name and this hash; `None` when there is no such file.
    pub(super) fn matching_text(&self, name: Option<&FileName>, hash: Option<&HashText>) -> Option<Vec<u8>> {
        let mut found = entries(&self.by_name)
            .filter(|entry| name.is_none_or(|name| name == entry.name) && hash.is_none_or(|hash| hash == entry.hash))
            .peekable();
        found.peek()?;
        Some(list_text(found))
    }
}

fn entries(by_name: &BTreeMap<FileName, Attributes>) -> impl Iterator<Item = Entry<'_>> {
    by_name.iter().map(|(name, Attributes { size, hash })| Entry { name, size: *size, hash })
}

fn list_text<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<u8> {
    let mut text = vec![b'['];
    for entry in entries {
        if text.len() > 1 {
            text.push(b',');
        }
        super::listing::push_json(&mut text, &entry);
    }
    text.push(b']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: impl IntoIterator<Item = String>, size: u64) -> Files {
        let hash = HashText::new("h").unwrap();
        let file = |name: String| SharedFile { name: name.parse().unwrap(), size, hash: hash.clone() };
        Files::from_list(names.into_iter().map(file).collect())
    }

    fn named(names: &[&str], size: u64) -> Files {
        files(names.iter().map(|name| (*name).to_owned()), size)
    }

    fn text(files: &mut Files) -> String {
        String::from_utf8(files.text().to_vec()).unwrap()
    }

    #[test]
    fn replace_add_remove() {
        let mut mine = Files::default();
        assert_eq!(text(&mut mine), "[]");
        assert_eq!(mine.apply(FilesMode::Replace, &mut named(&["b", "a", "b"], 1)), Ok(true));
        assert_eq!(text(&mut mine), r#"[{"name":"a","size":1,"hash":"h"},{"name":"b","size":1,"hash":"h"}]"#);
        assert_eq!(mine.apply(FilesMode::Replace, &mut named(&["a", "b"], 1)), Ok(false));
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["b", "c"], 2)), Ok(true));
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["c"], 2)), Ok(false));
        assert_eq!(mine.len(), 3);
        assert_eq!(mine.apply(FilesMode::Remove, &mut named(&["a", "c", "zz"], 0)), Ok(true));
        assert_eq!(mine.apply(FilesMode::Remove, &mut named(&["zz"], 0)), Ok(false));
        assert_eq!(text(&mut mine), r#"[{"name":"b","size":2,"hash":"h"}]"#);
        assert_eq!(mine.apply(FilesMode::Replace, &mut Files::default()), Ok(true));
        assert!(mine.is_empty());
    }

    #[test]
    fn the_bound_is_exact_and_beyond_it_nothing_changes() {
        let all = || (0..FILES_PER_USER).map(|i| i.to_string());
        let mut mine = files(all(), 1);
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["new"], 1)), Err(TooManyFiles));
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["7"], 2)), Ok(true));
        assert_eq!(mine.apply(FilesMode::Remove, &mut named(&["8"], 0)), Ok(true));
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["new"], 1)), Ok(true));
        assert_eq!(mine.len(), FILES_PER_USER);
        let mut more = files(all().chain(["new".to_owned()]), 1);
        assert_eq!(mine.apply(FilesMode::Replace, &mut more), Err(TooManyFiles));
    }
}
