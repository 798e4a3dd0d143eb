//! The list of a link's files as guests see it: one folder at a time, a page of it. No I/O.

use std::collections::{HashMap, HashSet};

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
        let mut places: HashMap<&str, usize> = HashMap::new();
        for file in files {
            let Some(below) = below_folder(file.name.as_str(), folder) else { continue };
            let Some((first, _)) = below.split_once('/') else {
                rows.push(ListingRow::File { file, name: below });
                continue;
            };
            let path = &file.name.as_str()[..file.name.as_str().len() - below.len() + first.len()];
            // Not the last folder alone: names that sort between a folder and its slash part its files.
            let place = *places.entry(path).or_insert_with(|| {
                folders.push(ListingRow::Folder { path, count: 0, bytes: 0 });
                folders.len() - 1
            });
            if let ListingRow::Folder { count, bytes, .. } = &mut folders[place] {
                *count += 1;
                *bytes = bytes.saturating_add(file.size);
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
    let numbers: HashSet<u32> = values("f").filter_map(|value| value.parse().ok()).collect();
    let folders: HashSet<&str> = values("d").map(String::as_str).collect();
    if values("f").next().is_none() && folders.is_empty() {
        return files.iter().collect();
    }
    let is_chosen = |file: &&GuestFile| {
        numbers.contains(&file.number)
            || folders.contains("")
            // The few folders above a file, rather than the many that a request may name.
            || file.name.as_str().match_indices('/').any(|(end, _)| folders.contains(&file.name.as_str()[..end]))
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
    fn each_folder_has_one_row_however_many_there_are() {
        let names: Vec<String> =
            (0..20_000).flat_map(|number| ["", ".x"].map(|end| format!("{number:05}{end}/f"))).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        // Not in their order: the files of a folder don't follow each other.
        names.rotate_left(1);
        let files = files(&names);
        assert_eq!(FileListing::new(&files, "", 1).last_page, 80);
        assert_eq!(rows(&files, "").len(), PAGE_ROWS);
        let query: String = (0..10_000).map(|number| format!("d={number}&")).collect();
        assert_eq!(chosen_files(&files, &super::super::http_text::form_fields(&query)).len(), 0);
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
        assert_eq!(chosen("d="), [0, 1, 2, 3]);
        assert_eq!((chosen("d=a%2F"), chosen("d=ab"), chosen("d=c&d=a")), (vec![], vec![], vec![0, 2]));
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
