use std::ops::ControlFlow;

use certs::Identity;

use super::super::{AdmittedGuest, remove_link};
use super::*;
use crate::engine::guest_links::{LinkRequest, make_link};
use crate::profile::Profile;

struct Case {
    home: tempfile::TempDir,
    profile: Profile,
    links: GuestLinks,
    guest: AdmittedGuest,
}

fn case() -> Case {
    let home = tempfile::tempdir().unwrap();
    let profile = Profile::open(&home.path().join("profile")).unwrap();
    let identity = Identity::generate().unwrap();
    let request = LinkRequest {
        paths: Vec::new(),
        folder: Some(home.path().join("in/box")),
        max_bytes: 100,
        is_once: false,
        has_chat: false,
        lifetime: Duration::from_secs(60),
        pid: None,
    };
    let made = make_link(&profile, &identity, &request, &mut |_| ControlFlow::Continue(())).unwrap();
    let links = GuestLinks::new(profile.clone(), &identity, None);
    Case { home, profile, links, guest: AdmittedGuest { link: made.link, session: None } }
}

fn announced(name: &str, size: u64, key: Option<&str>, offset: u64) -> UploadAnnouncement {
    UploadAnnouncement { name: name.into(), size, key: key.map(str::to_owned), offset }
}

impl Case {
    fn folder(&self) -> FolderHandle {
        FolderHandle::open(&self.home.path().join("in/box")).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.folder().names().unwrap();
        names.sort();
        names
    }

    fn begin(&self, announced: &UploadAnnouncement) -> Result<UploadWriter, GuestUploadError> {
        self.links.begin_upload(&self.guest, announced)
    }

    fn put(&self, announced: &UploadAnnouncement, bytes: &[u8]) -> PlacedUpload {
        let mut writer = self.begin(announced).unwrap();
        writer.write(bytes).unwrap();
        assert!(writer.is_complete());
        writer.finish().unwrap()
    }
}

#[test]
fn an_upload_goes_on_where_it_was_and_replaces_nothing() {
    let case = case();
    File::create(case.home.path().join("in/box/a.txt")).unwrap().write_all(b"mine").unwrap();
    let begin = announced("a.txt", 6, Some("k"), 0);
    case.begin(&begin).unwrap().write(b"abc").unwrap();
    assert_eq!(case.links.upload_offset(&case.guest, &begin).unwrap(), 3);
    assert!(matches!(case.begin(&announced("a.txt", 6, Some("k"), 4)), Err(GuestUploadError::WrongOffset(3))));
    let placed = case.put(&announced("a.txt", 6, Some("k"), 2), b"cdef");
    assert_eq!((placed.name.as_str(), placed.hash), ("a (1).txt", ContentHash::of(b"abcdef")));
    assert_eq!(case.names(), ["a (1).txt", "a.txt"]);
    // Whoever didn't hear the answer asks again.
    for outcome in [case.begin(&begin).map(drop), case.links.upload_offset(&case.guest, &begin).map(drop)] {
        assert!(matches!(outcome, Err(GuestUploadError::Complete(again)) if again == placed));
    }
    assert_eq!(case.put(&announced("a.txt", 1, None, 0), b"x").name, "a (2).txt");
    assert_eq!(case.put(&announced("a.txt", 1, None, 0), b"y").name, "a (3).txt", "without a mark it is another");
    assert_eq!(case.put(&announced("empty", 0, None, 0), b"").hash, ContentHash::of(b""));
}

/// A process that ends between the record of an upload and its rename.
fn end_before_the_rename(case: &Case, name: &str) -> UploadAnnouncement {
    let upload = announced(name, 3, Some("k"), 0);
    let mut writer = case.begin(&upload).unwrap();
    writer.write(b"abc").unwrap();
    assert!(case.profile.complete_guest_upload(&writer.upload, (name, 3), &ContentHash::of(b"abc")).unwrap());
    upload
}

#[test]
fn an_upload_that_was_cut_off_before_its_rename_is_placed_once() {
    let case = case();
    let asked = end_before_the_rename(&case, "asked.txt");
    let sent = end_before_the_rename(&case, "sent.txt");
    // The name may be another file's by now.
    File::create(case.home.path().join("in/box/sent.txt")).unwrap();
    for upload in [asked, sent] {
        let outcomes = [case.links.upload_offset(&case.guest, &upload).map(drop), case.begin(&upload).map(drop)];
        for outcome in outcomes {
            let Err(GuestUploadError::Complete(placed)) = outcome else { panic!("{outcome:?}") };
            assert_eq!((placed.size, placed.hash), (3, ContentHash::of(b"abc")));
        }
    }
    assert_eq!(case.names(), ["asked.txt", "sent (1).txt", "sent.txt"]);
    end_before_the_rename(&case, "alone.txt");
    remove_link(&case.profile, &case.guest.link).unwrap();
    assert_eq!(case.names(), ["alone.txt", "asked.txt", "sent (1).txt", "sent.txt"]);
}

#[test]
fn a_complete_upload_keeps_its_file_when_its_part_is_begun_anew() {
    let case = case();
    let upload = announced("a", 3, None, 0);
    let mut writer = case.begin(&upload).unwrap();
    writer.write(b"abc").unwrap();
    assert!(case.profile.complete_guest_upload(&writer.upload, ("a", 3), &ContentHash::of(b"abc")).unwrap());
    let mut again = case.begin(&upload).unwrap();
    again.write(b"x").unwrap();
    assert_eq!(case.names().last().unwrap(), "a");
    remove_link(&case.profile, &case.guest.link).unwrap();
    assert_eq!(case.names(), ["a"], "the unfinished one is nobody's");
}

#[test]
fn what_a_link_takes_is_bounded_and_parts_go_with_it() {
    let case = case();
    case.begin(&announced("a", 60, Some("k"), 0)).unwrap();
    assert!(matches!(case.begin(&announced("b", 41, None, 0)), Err(GuestUploadError::OverQuota(40))));
    let asked = case.links.upload_offset(&case.guest, &announced("b", 41, Some("l"), 0));
    assert!(matches!(asked, Err(GuestUploadError::OverQuota(40))), "told before a byte is sent");
    assert!(matches!(case.begin(&announced("b", u64::MAX, None, 0)), Err(GuestUploadError::NoSpace)));
    case.put(&announced("b", 4, None, 0), b"kept");
    assert_eq!(case.names().len(), 2);
    remove_link(&case.profile, &case.guest.link).unwrap();
    assert_eq!(case.names(), ["b"]);
}

#[test]
fn an_upload_of_unknown_size_counts_by_what_came() {
    let case = case();
    let mut writer = case.begin(&announced("a", 90, None, 0)).unwrap();
    writer.write(b"abc").unwrap();
    assert_eq!(writer.finish().unwrap().size, 3);
    let mut writer = case.begin(&announced("b", 97, None, 0)).unwrap();
    writer.write(b"abc").unwrap();
    writer.abandon().unwrap();
    assert_eq!(case.names(), ["a"]);
    case.begin(&announced("c", 97, None, 0)).unwrap();
}

#[test]
fn names_stay_in_the_folder_and_are_seen() {
    let case = case();
    for name in ["", ".", "..", "a/b", "../a", "/etc/passwd", ".bashrc", "\0", &"x".repeat(256), "a\u{202e}b"] {
        let outcome = case.begin(&announced(name, 1, None, 0));
        assert!(matches!(outcome, Err(GuestUploadError::Name(_))), "{name:?}");
    }
    std::os::unix::fs::symlink("/etc/passwd", case.home.path().join("in/box/link")).unwrap();
    assert_eq!(case.put(&announced("link", 1, None, 0), b"x").name, "link (1)");
    let long = "é".repeat(127);
    assert_eq!(case.put(&announced(&long, 1, None, 0), b"x").name, long);
    assert_eq!(case.put(&announced("con\n.txt", 1, None, 0), b"x").name, "con␊.txt");
}

#[test]
fn a_cancelled_upload_leaves_nothing_and_a_complete_one_stays() {
    let case = case();
    let film = announced("film", 90, Some("k"), 0);
    case.begin(&film).unwrap().write(b"abc").unwrap();
    for _ in 0..2 {
        case.links.cancel_upload(&case.guest, &film).unwrap();
        assert_eq!((case.names().len(), case.profile.guest_uploads(case.guest.link.number).unwrap().len()), (0, 0));
    }
    assert_eq!(case.links.upload_offset(&case.guest, &film).unwrap(), 0, "its bytes are free");
    let kept = announced("kept", 4, Some("k"), 0);
    case.put(&kept, b"kept");
    case.links.cancel_upload(&case.guest, &kept).unwrap();
    assert_eq!(case.names(), ["kept"]);
    assert!(matches!(case.links.upload_offset(&case.guest, &kept), Err(GuestUploadError::Complete(_))));
    let hidden = case.links.cancel_upload(&case.guest, &announced(".bashrc", 1, None, 0));
    assert!(matches!(hidden, Err(GuestUploadError::Name(_))));
}

#[test]
fn what_runs_when_its_link_ends_leaves_nothing() {
    let case = case();
    let begin = |name: &str| case.begin(&announced(name, 3, Some("k"), 0)).unwrap();
    let (mut writing, mut finishing) = (begin("writing"), begin("finishing"));
    writing.write(b"a").unwrap();
    finishing.write(b"abc").unwrap();
    remove_link(&case.profile, &case.guest.link).unwrap();
    // A part that was made at that very moment.
    for writer in [&writing, &finishing] {
        case.folder().open_or_create(&writer.upload.part).unwrap();
    }
    writing.looked_at -= LOOK_INTERVAL;
    assert!(matches!(writing.write(b"b"), Err(GuestUploadError::Ended)));
    assert!(matches!(finishing.finish(), Err(GuestUploadError::Ended)));
    assert!(matches!(case.begin(&announced("next", 3, None, 0)), Err(GuestUploadError::Ended)));
    assert_eq!(case.names(), [""; 0]);
    assert_eq!(case.profile.guest_uploads(case.guest.link.number).unwrap(), []);
}

#[test]
fn an_upload_that_fails_at_its_end_can_be_given_up() {
    let case = case();
    let mut writer = case.begin(&announced("a", 90, Some("k"), 0)).unwrap();
    writer.write(b"abc").unwrap();
    // The rename has nothing to rename.
    case.folder().remove(&writer.upload.part).unwrap();
    assert!(writer.finish_or_abandon().is_err());
    assert_eq!(case.profile.guest_uploads(case.guest.link.number).unwrap(), [], "its bytes are free");
}

#[test]
fn a_link_without_a_folder_says_so() {
    let mut case = case();
    case.guest.link.folder = None;
    let upload = announced("a", 1, None, 0);
    assert!(matches!(case.begin(&upload), Err(GuestUploadError::NoFolder)));
    assert!(matches!(case.links.upload_offset(&case.guest, &upload), Err(GuestUploadError::NoFolder)));
}
