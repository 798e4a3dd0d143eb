use super::*;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use shared::UserName;

use super::zero_holes::{HOLE_BYTES, is_zero, merge_block};
use crate::engine::fetch::FileOutcome;

struct Case {
    home: tempfile::TempDir,
    from: UserName,
    content: Vec<u8>,
    stat: FileStat,
    layout: GroupLayout,
    manifest: Manifest,
}

fn case(bytes: usize) -> Case {
    let content: Vec<u8> = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let layout = GroupLayout::of(bytes as u64).unwrap();
    let values =
        (0..layout.group_count()).map(|group| layout.chaining_value(group, slice(&content, &layout, group))).collect();
    let stat = FileStat {
        mtime: 1_000_000,
        executable: true,
        ..FileStat::new("x".parse().unwrap(), ContentHash::of(&content), &layout)
    };
    let (home, from) = (tempfile::tempdir().unwrap(), "bob".parse().unwrap());
    Case { home, from, content, stat, layout, manifest: Manifest::new(values) }
}

fn slice<'a>(content: &'a [u8], layout: &GroupLayout, group: u32) -> &'a [u8] {
    let start = usize::try_from(layout.offset(group)).unwrap();
    &content[start..start + usize::try_from(layout.group_len(group)).unwrap()]
}

impl Case {
    fn spot(&self, name: &str) -> FileTarget {
        FileTarget::alone(self.home.path(), name, self.from.clone())
    }

    fn open(&self, name: &str) -> Result<PartialFile, Error> {
        let zeros = ZeroRuns::default();
        let known = (self.layout.group_count() > 1).then_some((&self.manifest, &zeros));
        PartialFile::open(&self.spot(name), &self.stat, self.layout, known, &mut |_| {})
    }

    fn write(&self, partial: &mut PartialFile, group: u32) -> WriteOutcome {
        partial.write(group, slice(&self.content, &self.layout, group)).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.home.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn finish(partial: PartialFile) -> (PathBuf, bool) {
    let whole = partial.into_completed();
    whole.apply_metadata().unwrap();
    match whole.move_into_place().unwrap() {
        FileOutcome::Done(path) => (path, false),
        FileOutcome::Renamed(path) => (path, true),
        outcome => panic!("{outcome:?}"),
    }
}

fn content(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn whole_files_get_their_name_and_nothing_else_stays() {
    for (bytes, name) in [(0, "empty"), (10, "-small"), (3 << 20, "large")] {
        let case = case(bytes);
        let mut partial = case.open(name).unwrap();
        let last = case.layout.group_count() - 1;
        for group in 0..last {
            assert_eq!(case.write(&mut partial, group), WriteOutcome::Incomplete);
        }
        assert_eq!(case.write(&mut partial, last), WriteOutcome::Completed);
        let (path, renamed) = finish(partial);
        assert!(!renamed);
        assert_eq!(content(&path), case.content);
        assert_eq!(case.files(), [name]);
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7111, 0o111);
        let age = metadata.modified().unwrap();
        assert_eq!(age.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_000_000);
    }
}

#[test]
fn what_was_written_is_found_again_and_what_rotted_is_not() {
    let case = case((5 << 20) + 9);
    let mut partial = case.open("x").unwrap();
    for group in [0, 2, 5] {
        case.write(&mut partial, group);
    }
    drop(partial);
    let part = case.home.path().join(case.files().iter().find(|name| name.ends_with(".part")).unwrap());
    std::fs::OpenOptions::new().write(true).open(&part).unwrap().write_all_at(b"rot", (2 << 20) + 5).unwrap();
    let mut partial = case.open("x").unwrap();
    assert_eq!(partial.present(), [true, false, false, false, false, true]);
    assert_eq!(partial.present_bytes(), (1 << 20) + 9);
    assert_eq!(case.write(&mut partial, 0), WriteOutcome::Duplicate);
    for group in 1..5 {
        case.write(&mut partial, group);
    }
    assert!(partial.is_complete());
    assert_eq!(content(&finish(partial).0), case.content);
}

#[test]
fn what_lies_in_the_place_of_a_state_is_neither_written_to_nor_in_the_way() {
    for kind in ["hard link", "link", "folder"] {
        let case = case(3 << 20);
        let elsewhere = tempfile::tempdir_in(case.home.path()).unwrap();
        let important = elsewhere.path().join("important");
        File::create(&important).unwrap().write_all(b"important").unwrap();
        let state = case.home.path().join(format!("{}{STATE_SUFFIX}", partial_stem("x", None, &case.stat.hash)));
        match kind {
            "hard link" => std::fs::hard_link(&important, &state).unwrap(),
            "link" => std::os::unix::fs::symlink(&important, &state).unwrap(),
            _ => std::fs::create_dir(&state).unwrap(),
        }
        let mut partial = case.open("x").unwrap();
        case.write(&mut partial, 1);
        drop(partial);
        let mut partial = case.open("x").unwrap();
        assert_eq!(partial.present(), [false, true, false], "{kind}");
        for group in [0, 2] {
            case.write(&mut partial, group);
        }
        assert_eq!(content(&finish(partial).0), case.content);
        assert_eq!(std::fs::read_to_string(&important).unwrap(), "important", "{kind}");
        assert_eq!(state.exists(), kind == "folder");
    }
}

#[test]
fn what_is_left_of_other_versions_goes_and_of_other_people_stays() {
    let (old, new) = (case(3 << 20), case(2 << 20));
    let begin = |from: &str| {
        let case =
            Case { home: tempfile::tempdir_in(new.home.path()).unwrap(), from: from.parse().unwrap(), ..case(3 << 20) };
        let mut partial = case.open("x").unwrap();
        case.write(&mut partial, 0);
        for name in case.files() {
            std::fs::rename(case.home.path().join(&name), new.home.path().join(&name)).unwrap();
        }
        partial
    };
    let left = |new: &Case| new.files().into_iter().filter(|name| name.starts_with(".x.")).count();
    let working = begin("bob");
    assert!(!remove_outdated(&new.spot("x"), &new.stat.hash), "a process works on it");
    drop(working);
    assert!(!remove_outdated(&new.spot("y"), &new.stat.hash), "it is of another file");
    assert!(!remove_outdated(&new.spot("x"), &old.stat.hash), "it is of this version");
    assert_eq!(left(&new), 2);
    assert!(remove_outdated(&new.spot("x"), &new.stat.hash));
    assert_eq!(left(&new), 0);
    drop(begin("carol"));
    assert!(!remove_outdated(&new.spot("x"), &new.stat.hash), "it is somebody else's");
    assert_eq!(left(&new), 2);
}

#[test]
fn a_partial_with_the_tag_of_its_name_is_gone_on_with() {
    let case = case(3 << 20);
    let mut partial = case.open("x").unwrap();
    case.write(&mut partial, 1);
    drop(partial);
    let (plain, tagged) =
        (partial_stem("x", None, &case.stat.hash), partial_stem("x", Some(&PartialTag::of("x")), &case.stat.hash));
    for ending in [PARTIAL_SUFFIX, STATE_SUFFIX] {
        let at = |stem: &str| case.home.path().join(format!("{stem}{ending}"));
        std::fs::rename(at(&plain), at(&tagged)).unwrap();
    }
    assert!(allocated_bytes(&case.spot("x"), &case.stat.hash) > 0);
    let mut partial = case.open("x").unwrap();
    assert_eq!(partial.present(), [false, true, false]);
    for group in [0, 2] {
        case.write(&mut partial, group);
    }
    finish(partial);
    assert_eq!(case.files(), ["x"]);
}

#[test]
fn damaged_states_and_parts_only_cost_time() {
    let case = case(3 << 20);
    let mut partial = case.open("x").unwrap();
    case.write(&mut partial, 0);
    drop(partial);
    let state = case.home.path().join(case.files().iter().find(|name| name.ends_with(".state")).unwrap());
    for len in [0, 5, 41] {
        std::fs::OpenOptions::new().write(true).open(&state).unwrap().set_len(len).unwrap();
        assert_eq!(case.open("x").unwrap().present_bytes(), 1 << 20);
    }
    std::fs::remove_file(&state).unwrap();
    assert_eq!(case.open("x").unwrap().present(), [true, false, false]);
    let part = case.home.path().join(case.files().iter().find(|name| name.ends_with(".part")).unwrap());
    for len in [100, 100 << 20] {
        std::fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(len).unwrap();
        assert_eq!(case.open("x").unwrap().present_bytes(), 0);
        assert_eq!(std::fs::metadata(&part).unwrap().len(), 3 << 20);
    }
}

#[test]
fn a_second_process_is_kept_out() {
    let case = case(10);
    let first = case.open("x").unwrap();
    assert!(matches!(case.open("x"), Err(Error::DestinationInUse(_))));
    first.abandon();
    assert!(case.files().is_empty());
}

#[test]
fn a_name_taken_meanwhile_is_not_lost() {
    let case = case(10);
    let mut partial = case.open("x.pdf").unwrap();
    case.write(&mut partial, 0);
    File::create(case.home.path().join("x.pdf")).unwrap().write_all(b"theirs").unwrap();
    let (path, renamed) = finish(partial);
    assert!(renamed);
    assert_eq!(path.file_name().unwrap(), "x (1).pdf");
    assert_eq!(content(&case.home.path().join("x.pdf")), b"theirs");
}

#[test]
fn the_longest_names_have_room_for_a_partial() {
    let case = case(3 << 20);
    let name = "é".repeat(127) + "x";
    let mut partial = case.open(&name).unwrap();
    for group in 0..3 {
        case.write(&mut partial, group);
    }
    finish(partial);
    assert_eq!(case.files(), [name]);
}

#[test]
fn zeros_become_holes_wherever_they_come_from() {
    use std::os::unix::fs::MetadataExt;

    let mut case = case(20 << 20);
    for group in [1, 2, 5] {
        let start = usize::try_from(case.layout.offset(group)).unwrap();
        case.content[start..start + (1 << 20)].fill(0);
    }
    let groups = 0..case.layout.group_count();
    let values: Vec<_> =
        groups.clone().map(|no| case.layout.chaining_value(no, slice(&case.content, &case.layout, no))).collect();
    case.manifest = Manifest::new(values);
    case.stat.hash = case.manifest.content_hash();
    let zeros = ZeroRuns::from_groups([1, 2, 5]);
    let known = Some((&case.manifest, &zeros));
    let mut open = PartialFile::open(&case.spot("x"), &case.stat, case.layout, known, &mut |_| {}).unwrap();
    for group in groups {
        match group {
            1 | 2 => open.write_zeros(group).unwrap(),
            _ => case.write(&mut open, group),
        };
    }
    let (path, _) = finish(open);
    assert_eq!(std::fs::read(&path).unwrap(), case.content);
    let taken = std::fs::metadata(&path).unwrap().blocks() * 512;
    assert!(taken <= (17 << 20) + 65_536, "{taken}");
}

#[test]
fn zeros_within_a_group_become_holes_over_what_was_there() {
    use std::os::unix::fs::MetadataExt;

    let file = tempfile::tempfile().unwrap();
    let mut bytes = vec![0; 1 << 20];
    bytes[300_000] = 1;
    bytes[(1 << 20) - 1] = 2;
    file.write_all_at(&vec![7; 2 << 20], 0).unwrap();
    write_with_holes(&file, &bytes, 1 << 20).unwrap();
    write_with_holes(&file, &bytes[..100_000], 0).unwrap();
    let mut found = vec![9; 1 << 20];
    file.read_exact_at(&mut found, 1 << 20).unwrap();
    assert!(found == bytes);
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found[..100_000].iter().all(|byte| *byte == 0) && found[100_000..].iter().all(|byte| *byte == 7));
    file.sync_all().unwrap();
    assert!(file.metadata().unwrap().blocks() * 512 <= (1 << 20) + 300_000);
}

#[test]
fn noise_costs_nothing_for_being_looked_at() {
    let noise: Vec<u8> =
        (0..1 << 20).map(|at: u32| u8::try_from(at.wrapping_mul(2_654_435_761) >> 24).unwrap() | 1).collect();
    let runs = noise.chunks(HOLE_BYTES).map(|block| (block.len(), is_zero(block))).fold(Vec::new(), merge_block);
    assert_eq!(runs, [(1 << 20, false)], "it is one write");
}
