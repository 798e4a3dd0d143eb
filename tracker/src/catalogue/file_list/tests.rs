use std::collections::BTreeMap;

use proptest::prelude::*;
use shared::tracker::SearchWords;

use super::*;

fn files(names: impl IntoIterator<Item = String>, size: u64) -> FileList {
    let hash = HashText::new("h").unwrap();
    let file = |name: String| SharedFile { name: name.parse().unwrap(), size, hash: hash.clone() };
    FileList::from_list(names.into_iter().map(file).collect())
}

fn named(names: &[&str], size: u64) -> FileList {
    files(names.iter().map(|name| (*name).to_owned()), size)
}

fn text(files: &FileList) -> String {
    String::from_utf8(files.text().collect::<Vec<_>>().concat()).unwrap()
}

/// Returns whether anything changed.
fn change(files: &mut FileList, mode: FilesMode, by: &FileList) -> Result<bool, FileListError> {
    let after = files.with_changes(mode, by)?;
    let is_changed = after.is_some();
    *files = after.unwrap_or_else(|| files.clone());
    Ok(is_changed)
}

#[test]
fn replace_add_remove() {
    let mut mine = FileList::default();
    assert_eq!(text(&mine), "[]");
    assert_eq!(change(&mut mine, FilesMode::Replace, &named(&["b", "a", "b"], 1)), Ok(true));
    assert_eq!(text(&mine), r#"[{"name":"a","size":1,"hash":"h"},{"name":"b","size":1,"hash":"h"}]"#);
    assert_eq!(change(&mut mine, FilesMode::Replace, &named(&["a", "b"], 1)), Ok(false));
    assert_eq!(change(&mut mine, FilesMode::Add, &named(&["b", "c"], 2)), Ok(true));
    assert_eq!(change(&mut mine, FilesMode::Add, &named(&["c"], 2)), Ok(false));
    assert_eq!(mine.len(), 3);
    assert_eq!(change(&mut mine, FilesMode::Remove, &named(&["a", "c", "zz"], 0)), Ok(true));
    assert_eq!(change(&mut mine, FilesMode::Remove, &named(&["zz"], 0)), Ok(false));
    assert_eq!(text(&mine), r#"[{"name":"b","size":2,"hash":"h"}]"#);
    assert_eq!(change(&mut mine, FilesMode::Replace, &FileList::default()), Ok(true));
    assert!(mine.is_empty());
    assert_eq!(change(&mut mine, FilesMode::Add, &named(&["x"], 1)), Ok(true));
    assert_eq!(change(&mut mine, FilesMode::Remove, &named(&["x"], 1)), Ok(true));
    assert_eq!((mine.len(), mine.bytes(), text(&mine).as_str()), (0, 0, "[]"));
}

#[test]
fn matching_files_are_listed_up_to_a_bound_and_counted() {
    let mine = files((0..MAX_FILES_LISTED + 5).map(|i| i.to_string()), 1);
    let hash = HashText::new("h").unwrap();
    let all = mine.matching(None, Some(&hash), true).unwrap();
    let list: Vec<SharedFile> = serde_json::from_slice(&all.text).unwrap();
    assert_eq!((list.len(), all.listed, all.count), (MAX_FILES_LISTED, MAX_FILES_LISTED, MAX_FILES_LISTED + 5));
    let counted = mine.matching(None, Some(&hash), false).unwrap();
    assert_eq!((&counted.text[..], counted.listed, counted.count), (&b"[]"[..], 0, MAX_FILES_LISTED + 5));
    let name = "7".parse().unwrap();
    assert_eq!(mine.matching(Some(&name), Some(&hash), true).unwrap().count, 1);
    assert_eq!(mine.matching(Some(&name), HashText::new("x").as_ref(), true), None);
}

#[test]
fn what_changes_little_shares_nearly_everything_with_its_copies() {
    let mut mine = files((0..10_000).map(|i| format!("{i:05}")), 1);
    let copy = mine.clone();
    assert!(mine.is_copy_of(&copy));
    for (mode, name) in [(FilesMode::Add, "05000"), (FilesMode::Add, "new"), (FilesMode::Remove, "00007")] {
        assert_eq!(change(&mut mine, mode, &named(&[name], 2)), Ok(true));
    }
    assert!(!mine.is_copy_of(&copy));
    let shared = mine.chunks.iter().filter(|chunk| copy.chunks.iter().any(|other| Arc::ptr_eq(chunk, other))).count();
    assert!(
        shared + 4 >= mine.chunks.len() && mine.chunks.len() >= 10_000 / MAX_FILES,
        "{shared} of {}",
        mine.chunks.len()
    );
    assert_eq!((copy.len(), mine.len()), (10_000, 10_000));
}

#[test]
fn a_small_change_in_many_places_is_known_to_be_much_work() {
    let mine = files((0..20_000).map(|i| format!("{i:05}")), 1);
    let (here, everywhere) =
        (named(&["10000", "new"], 2), files((0..20_000).step_by(400).map(|i| format!("{i:05}")), 2));
    for mode in [FilesMode::Add, FilesMode::Remove] {
        assert!(mine.effort(mode, &here) < mine.bytes() / 10);
        assert!(mine.effort(mode, &everywhere) > mine.bytes() / 2);
    }
    assert!(mine.effort(FilesMode::Replace, &mine) >= mine.bytes());
    assert_eq!(mine.effort(FilesMode::Replace, &here), 0);
}

#[test]
fn names_of_nothing_but_short_words_take_a_bounded_multiple_of_their_bytes() {
    let words =
        |number: usize| (0..200).map(|i| format!("{:02}", (number * 7 + i * i) % 97)).collect::<Vec<_>>().join(" ");
    for letters in [|text: String| text, |text: String| text.replace(|c: char| c.is_ascii_digit(), "é")] {
        let name = |number: usize| format!("{number:05} {}", letters(words(number)).split_at(240).0);
        let names: Vec<String> = (0..2000).map(name).collect();
        let in_all: usize = names.iter().map(String::len).sum();
        let mine = files(names, 1);
        assert!(mine.bytes() < 5 * in_all + 2000 * 100, "{} of {in_all}", mine.bytes());
    }
}

/// Returns all results, searched in pieces of this effort.
fn found(files: &FileList, wanted: &FindCriterion, after: Option<&FileName>, effort: usize) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), after.cloned());
    loop {
        let mut left = effort;
        let (found, stopped) = files.find(&FileQuery::new(wanted), after.as_ref(), usize::MAX, &mut left);
        all.extend(found.into_iter().map(|file| file.name.as_str().to_owned()));
        match stopped {
            Some(name) => after = Some(name),
            None => return all,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_happened_it_is_found_as_by_a_look_at_every_file(
        steps in proptest::collection::vec((0..3_u8, 1..1500_usize, proptest::collection::vec(("[ab]{1,2} [ab]c?", 0..3_u8), 1..60)), 1..5),
        query in "[ab]{1,2}( [abc])?", hash in 0..3_u8, after in proptest::option::of("[ab] [ab]"), effort in 1..2000_usize,
    ) {
        let (mut mine, mut model) = (FileList::default(), BTreeMap::new());
        for (mode, count, list) in steps {
            let mode = [FilesMode::Replace, FilesMode::Add, FilesMode::Remove][usize::from(mode)];
            let file = |(i, (name, hash)): (usize, (String, u8))| {
                let name = format!("{name} {}", i % 900).parse().unwrap();
                SharedFile { name, size: 1, hash: HashText::new(&hash.to_string()).unwrap() }
            };
            let list: Vec<SharedFile> = list.into_iter().cycle().take(count).enumerate().map(file).collect();
            if mode == FilesMode::Replace {
                model.clear();
            }
            for file in &list {
                match mode {
                    FilesMode::Remove => drop(model.remove(&file.name)),
                    FilesMode::Add | FilesMode::Replace => drop(model.insert(file.name.clone(), file.clone())),
                }
            }
            change(&mut mine, mode, &FileList::from_list(list)).unwrap();
        }
        let all: Vec<SharedFile> = model.into_values().collect();
        prop_assert_eq!(&mine.to_list(), &all);
        prop_assert_eq!(serde_json::from_str::<Vec<SharedFile>>(&text(&mine)).unwrap(), all.clone());
        prop_assert_eq!(mine.len(), all.len());
        let pieces = |files: &FileList| files.pieces().map(|(digest, _)| digest).collect::<Vec<_>>();
        let again = mine.pieces().map(|(_, text)| serde_json::from_slice(&[b"[", &*text, b"]"].concat()).unwrap());
        let again = FileList::from_pieces(again.collect::<Vec<_>>().into_iter().rev().collect());
        prop_assert!(mine.with_changes(FilesMode::Replace, &again).unwrap().is_none());
        prop_assert!(pieces(&again).len() <= pieces(&mine).len());
        prop_assert!(mine.chunks.iter().all(|chunk| (1..=MAX_FILES).contains(&chunk.len())));
        let after: Option<FileName> = after.map(|name| name.parse().unwrap());
        let (hash, words) = (HashText::new(&hash.to_string()).unwrap(), SearchWords::new(&query).unwrap());
        let is_behind = |file: &&SharedFile| after.as_ref().is_none_or(|after| file.name > *after);
        let names = |wanted: &dyn Fn(&SharedFile) -> bool| -> Vec<String> {
            all.iter().filter(is_behind).filter(|file| wanted(file)).map(|file| file.name.as_str().to_owned()).collect()
        };
        let (by_hash, by_words) = (names(&|file| file.hash == hash), names(&|file| words.matches(&file.name)));
        prop_assert_eq!(found(&mine, &FindCriterion::Hash(hash.clone()), after.as_ref(), effort), by_hash);
        prop_assert_eq!(found(&mine, &FindCriterion::Words(words.clone()), after.as_ref(), effort), by_words);
        let count = all.iter().filter(|file| file.hash == hash).count();
        prop_assert_eq!(mine.matching(None, Some(&hash), false).map_or(0, |found| found.count), count);
    }
}

#[test]
fn the_bound_is_exact_and_beyond_it_nothing_changes() {
    let all = || (0..MAX_FILES_PER_USER).map(|i| i.to_string());
    let mut mine = files(all(), 1);
    assert_eq!(change(&mut mine, FilesMode::Add, &named(&["new"], 1)), Err(FileListError::TooMany));
    assert_eq!(change(&mut mine, FilesMode::Add, &named(&["7"], 2)), Ok(true));
    assert_eq!(change(&mut mine, FilesMode::Remove, &named(&["8"], 0)), Ok(true));
    assert_eq!(change(&mut mine, FilesMode::Add, &named(&["new"], 1)), Ok(true));
    assert_eq!(mine.len(), MAX_FILES_PER_USER);
    let more = files(all().chain(["new".to_owned()]), 1);
    assert_eq!(change(&mut mine, FilesMode::Replace, &more), Err(FileListError::TooMany));
}
