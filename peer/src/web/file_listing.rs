//! The list of a link's files as guests see it: one folder at a time, a page of it. No I/O.

use crate::engine::guest_links::GuestFile;

/// Rows of a page: what a phone draws at once, and what fits the address of a choice.
const PAGE_ROWS: usize = 500;

/// A row of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListingRow<'a> {
    /// A folder, with its path, and the files below it.
    Folder { path: &'a str, count: usize, bytes: u64 },
    /// A file, with its name within the folder.
    File { file: &'a GuestFile, name: &'a str },
}

/// A page of one folder.
#[derive(Debug)]
pub(super) struct FileListing<'a> {
    /// The folder, without a slash at its end; empty for the uppermost.
    pub(super) folder: &'a str,
    /// The rows of this page.
    pub(super) rows: Vec<ListingRow<'a>>,
    /// The number of this page, from 1, and of the last one.
    pub(super) page: usize,
    pub(super) last_page: usize,
}

impl<'a> FileListing<'a> {
    /// Returns a page of a folder; the nearest if there is no such page. Folders come first.
    pub(super) fn new(files: &'a [GuestFile], folder: &'a str, page: usize) -> Self {
        let (mut folders, mut rows): (Vec<ListingRow<'a>>, Vec<ListingRow<'a>>) = Default::default();
        for file in files {
            let Some(below) = below_folder(file.name.as_str(), folder) else { continue };
            let Some((first, _)) = below.split_once('/') else {
                rows.push(ListingRow::File { file, name: below });
                continue;
            };
            let path = &file.name.as_str()[..file.name.as_str().len() - below.len() + first.len()];
            match folders.last_mut() {
                Some(ListingRow::Folder { path: last, count, bytes }) if *last == path => {
                    *count += 1;
                    *bytes = bytes.saturating_add(file.size);
                }
                // The files are in the order of their names, so that those of one folder follow each other, but for
                // names that sort between it and its slash.
                _ => match folders
                    .iter_mut()
                    .find(|row| matches!(row, ListingRow::Folder { path: known, .. } if *known == path))
                {
                    Some(ListingRow::Folder { count, bytes, .. }) => {
                        *count += 1;
                        *bytes = bytes.saturating_add(file.size);
                    }
                    _ => folders.push(ListingRow::Folder { path, count: 1, bytes: file.size }),
                },
            }
        }
        folders.append(&mut rows);
        let last_page = folders.len().div_ceil(PAGE_ROWS).max(1);
        let page = page.clamp(1, last_page);
        let rows = folders.into_iter().skip((page - 1) * PAGE_ROWS).take(PAGE_ROWS).collect();
        Self { folder, rows, page, last_page }
    }
}

/// Returns the files that were chosen, by number or as whole folders; all of them if nothing was.
pub(super) fn chosen_files<'a>(files: &'a [GuestFile], fields: &[(String, String)]) -> Vec<&'a GuestFile> {
    let values = |name: &'static str| fields.iter().filter(move |(key, _)| key == name).map(|(_, value)| value);
    let numbers: std::collections::HashSet<u32> = values("f").filter_map(|value| value.parse().ok()).collect();
    let folders: Vec<&String> = values("d").collect();
    if values("f").next().is_none() && folders.is_empty() {
        return files.iter().collect();
    }
    let is_chosen = |file: &&GuestFile| {
        numbers.contains(&file.number)
            || folders.iter().any(|folder| below_folder(file.name.as_str(), folder).is_some())
    };
    files.iter().filter(is_chosen).collect()
}

/// Returns the rest of a name behind a folder; `None` if it isn't below it.
fn below_folder<'a>(name: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() { Some(name) } else { name.strip_prefix(folder)?.strip_prefix('/') }
}

/// Returns the folders that lead to a folder, each with its path and its name.
pub(super) fn folder_trail(folder: &str) -> Vec<(&str, &str)> {
    let ends = folder.match_indices('/').map(|(at, _)| at).chain((!folder.is_empty()).then_some(folder.len()));
    ends.map(|end| (&folder[..end], folder[..end].rsplit('/').next().unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use shared::ContentHash;

    use super::*;

    fn files(names: &[&str]) -> Vec<GuestFile> {
        let file = |(number, name): (u32, &&str)| GuestFile {
            number,
            name: name.parse().unwrap(),
            size: 10,
            mtime_ns: 0,
            crc: 0,
            hash: ContentHash::of(b""),
            is_delivered: false,
        };
        (0..).zip(names).map(file).collect()
    }

    fn rows(files: &[GuestFile], folder: &str) -> Vec<String> {
        let text = |row: &ListingRow<'_>| match row {
            ListingRow::Folder { path, count, bytes } => format!("{path}/ {count} {bytes}"),
            ListingRow::File { file, name } => format!("{} {name}", file.number),
        };
        FileListing::new(files, folder, 1).rows.iter().map(text).collect()
    }

    #[test]
    fn a_folder_shows_what_is_in_it() {
        let files = files(&["a/b/c", "a/b/d", "a/e", "a.txt", "a/z", "f"]);
        assert_eq!(rows(&files, ""), ["a/ 4 40", "3 a.txt", "5 f"]);
        assert_eq!(rows(&files, "a"), ["a/b/ 2 20", "2 e", "4 z"]);
        assert_eq!(rows(&files, "a/b"), ["0 c", "1 d"]);
        assert_eq!(rows(&files, "a/"), [""; 0]);
        assert_eq!(folder_trail("a/b"), [("a", "a"), ("a/b", "b")]);
        assert_eq!(folder_trail(""), []);
    }

    #[test]
    fn a_choice_is_of_files_and_of_folders() {
        let files = files(&["a/b", "ab", "c/d", "e"]);
        let chosen = |query: &str| {
            let fields = super::super::http_text::form_fields(query);
            chosen_files(&files, &fields).iter().map(|file| file.number).collect::<Vec<_>>()
        };
        assert_eq!(chosen(""), [0, 1, 2, 3]);
        assert_eq!(chosen("f=3&d=a"), [0, 3]);
        assert_eq!(chosen("f=99"), [0; 0]);
        assert_eq!(chosen("d=c%2Fd"), [0; 0]);
    }

    #[test]
    fn many_files_come_in_pages() {
        let names: Vec<String> = (0..1200).map(|number| format!("{number:04}")).collect();
        let files = files(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for (page, got, rows) in [(0, 1, 500), (1, 1, 500), (3, 3, 200), (9, 3, 200)] {
            let listing = FileListing::new(&files, "", page);
            assert_eq!((listing.page, listing.last_page, listing.rows.len()), (got, 3, rows));
        }
    }
}
