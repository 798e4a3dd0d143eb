//! Tests of the library against real files.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;

use super::super::share_access::NoRooms;
use super::super::share_access::tests::{NamedMembers, requester};
use super::*;
use crate::engine::share::{RefreshOutcome, refresh, share};
use crate::profile::Audience;

fn put(path: &Path, content: &[u8]) {
    File::create(path).unwrap().write_all(content).unwrap();
}

fn library_of(profile: Profile) -> ShareLibrary {
    ShareLibrary::new(profile, Arc::new(NoRooms), Arc::default())
}

#[tokio::test]
async fn who_may_not_have_a_file_learns_no_more_than_of_one_that_is_not_there() {
    let home = tempfile::tempdir().unwrap();
    let profile = Profile::open(&home.path().join("home")).unwrap();
    let (lab, rooms) = (RoomId::from_bytes([1; 16]), Arc::new(NamedMembers::default()));
    let file = home.path().join("slides");
    put(&file, &vec![7; 3 << 20]);
    std::fs::create_dir_all(home.path().join("docs/empty")).unwrap();
    let share_with = |audience: &Audience, paths: &[PathBuf]| {
        share(&profile, audience, paths, None, &mut |_| ControlFlow::Continue(())).unwrap();
    };
    let for_lab = Audience::Room(lab);
    share_with(&for_lab, &[file.clone(), home.path().join("docs")]);
    let name: FileName = "slides".parse().unwrap();
    let hash = profile.share(&for_lab, &name).unwrap().unwrap().hash;
    let library = ShareLibrary::new(profile.clone(), rooms.clone(), Arc::default());
    let (bob, mallory) = (requester("bob"), requester("mallory"));
    let answers = async |by: &FileRequester, room, hash: ContentHash, name: &FileName| {
        let get = GroupRequest { hash, name: Some(name.clone()), groups: vec![(0, 1)] };
        let opened = library.open(by, [get].into(), 1 << 20, 1 << 20).await.unwrap().0.remove(0);
        [
            format!("{:?}", library.stat(by, room, name.clone()).await.map(|_| ())),
            format!("{:?}", library.list(by, room, String::new(), String::new(), true).await.unwrap()),
            format!("{:?}", library.folders(by, room, String::new(), String::new()).await.unwrap()),
            format!("{:?}", library.folder_times(by, room, String::new(), String::new()).await.unwrap()),
            format!("{:?}", library.manifest(by, hash, None).await.map(|_| ())),
            format!("{:?}", library.have(by, hash, Some(name.clone())).await.map(|_| ())),
            format!("{:?}", opened.map(|_| ())),
        ]
    };
    let (nothing, nowhere) = (ContentHash::of(b"nothing"), "nowhere".parse().unwrap());
    let unknown = answers(&mallory, None, nothing, &nowhere).await;
    let told = |answers: &[String; 7]| answers.iter().zip(&unknown).filter(|(one, other)| one != other).count();
    rooms.join(lab, &bob);
    for room in [None, Some(lab)] {
        assert_eq!(told(&answers(&bob, room, hash, &name).await), 7);
        assert_eq!(answers(&mallory, room, hash, &name).await, unknown);
    }
    assert_eq!(told(&answers(&bob, Some(RoomId::from_bytes([2; 16])), hash, &name).await), 3, "by the hash alone");
    // Nor has the key of another, or a client that knows no rooms.
    for other in
        [FileRequester { key: mallory.key, ..bob.clone() }, FileRequester { knows_rooms: false, ..bob.clone() }]
    {
        assert_eq!(answers(&other, None, hash, &name).await, unknown);
    }
    // A version that he was told of is not his for ever.
    rooms.leave(lab, &bob);
    assert_eq!(answers(&bob, None, hash, &name).await, unknown);
    // What everybody may have as well stays open to everybody.
    share_with(&Audience::Everybody, std::slice::from_ref(&file));
    assert_eq!(told(&answers(&mallory, None, hash, &name).await), 5, "not the folders");
    assert_eq!(told(&answers(&mallory, Some(lab), hash, &name).await), 3);
}

#[tokio::test]
async fn many_who_ask_for_a_manifest_share_one() {
    let home = tempfile::tempdir().unwrap();
    let profile = Profile::open(&home.path().join("home")).unwrap();
    let file = home.path().join("film");
    put(&file, &vec![7; 3 << 20]);
    share(&profile, &Audience::Everybody, &[file], None, &mut |_| ControlFlow::Continue(())).unwrap();
    let hash = profile.share(&Audience::Everybody, &"film".parse().unwrap()).unwrap().unwrap().hash;
    let library = library_of(profile);
    let mut answers = Vec::new();
    for user in ["alice", "bob"] {
        answers.push(library.manifest(&requester(user), hash, None).await.unwrap().1);
    }
    assert_eq!(answers[0].len(), 3 * 32);
    assert_eq!(answers[0].as_ptr(), answers[1].as_ptr());
}

#[tokio::test]
async fn what_was_described_of_a_log_can_be_had_after_it_was_hashed_again() {
    let home = tempfile::tempdir().unwrap();
    let profile = Profile::open(&home.path().join("home")).unwrap();
    let (file, name, alice) = (home.path().join("log"), "log".parse().unwrap(), requester("alice"));
    put(&file, &vec![7; 3 << 20]);
    share(&profile, &Audience::Everybody, std::slice::from_ref(&file), None, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    let (stale, recorded) =
        (Arc::new(StaleShares::default()), profile.share(&Audience::Everybody, &name).unwrap().unwrap());
    let library = ShareLibrary::new(profile.clone(), Arc::new(NoRooms), stale.clone());
    File::options().append(true).open(&file).unwrap().write_all(b"more").unwrap();
    assert_eq!(library.stat(&alice, None, name.clone()).await.unwrap_err().0, PeerErrorCode::Stale);
    stale.note_refreshed(&name, Instant::now(), RefreshOutcome::Done);
    let described = library.stat(&alice, None, name.clone()).await.unwrap();
    assert!(matches!(described, PeerReply::Stat(stat) if stat.hash == recorded.hash));
    refresh(&profile, &recorded, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_ne!(profile.share(&Audience::Everybody, &name).unwrap().unwrap().hash, recorded.hash);
    assert_eq!(library.manifest(&alice, recorded.hash, None).await.unwrap().1.len(), 3 * 32);
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_nobody_from_another() {
    let home = tempfile::tempdir().unwrap();
    let profile = Profile::open(&home.path().join("home")).unwrap();
    let disks = ["a", "b"].map(|name| home.path().join(name));
    for disk in &disks {
        std::fs::create_dir(disk).unwrap();
        put(&disk.join("film"), b"film");
    }
    share(&profile, &Audience::Everybody, &disks, None, &mut |_| ControlFlow::Continue(())).unwrap();
    let slots = Arc::new(DiskSlots::with_disks(DISK_SLOTS, disks.to_vec()));
    let library = ShareLibrary { disk_slots: slots.clone(), ..library_of(profile) };
    let library = Arc::new(library);
    let user = |number: usize| -> UserName { format!("user{number}").parse().unwrap() };
    let at_a = slots.of_path(&disks[0].join("film"));
    let hanging: Vec<_> = (0..DISK_SLOTS.total).map(|number| at_a.try_acquire(&user(number / 4)).unwrap()).collect();
    let ask = |number: usize, name: &'static str| {
        let library = library.clone();
        async move { library.stat(&requester(user(number).as_str()), None, name.parse().unwrap()).await }
    };
    // As many as there are slots of all disks, twice.
    let mut waiting: JoinSet<_> = (0..2 * LOOKUP_SLOTS.total).map(|number| ask(number / 2, "a/film")).collect();
    assert!(ask(1000, "b/film").await.is_ok());
    assert!(ask(0, "b/film").await.is_ok(), "nor those who wait");
    assert!(waiting.try_join_next().is_none());
    drop(hanging);
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_lookup_that_nobody_waits_for_keeps_its_slot_while_its_thread_runs() {
    let home = tempfile::tempdir().unwrap();
    let library = library_of(Profile::open(&home.path().join("home")).unwrap());
    let alice = requester("alice");
    let (disk, answers) = std::sync::mpsc::channel::<()>();
    let answers = std::sync::Mutex::new(answers);
    let mut asked = Box::pin(library.look(&alice, None, move |_, _| {
        let _ = answers.lock().unwrap().recv();
        Ok(())
    }));
    tokio::select! {
        biased;
        _ = &mut asked => panic!("the disk hangs"),
        () = std::future::ready(()) => {}
    }
    drop(asked);
    let others: Vec<_> = (1..LOOKUP_SLOTS.per_key).map(|_| library.lookup_slots.try_acquire(&alice.user)).collect();
    assert!(others.iter().all(Option::is_some) && library.lookup_slots.try_acquire(&alice.user).is_none());
    drop(disk);
    library.lookup_slots.acquire(&alice.user).await;
}
