//! Slots of the disks on which shares lie. A disk that hangs keeps each thread that touches it, so that it may have only
//! a part of them.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | threads that touch one disk | the bounds of its slots, also for each user | the request waits without a thread until one is free; copies on other disks are tried first |
//! | disks that are told apart | the mounted file systems | |

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::UserName;

use crate::engine::fair_slots::{FairSlot, FairSlotBounds, FairSlots};
use crate::sys::mount_points;

/// Time after which the table of mounts is read again.
const TABLE_MAX_AGE: Duration = Duration::from_secs(5);
/// Components of a path that tell disks apart where there is no table, such as `/Volumes/NAME`.
const DISK_COMPONENTS: usize = 3;

/// Slots for each disk, fair between users.
#[derive(Debug)]
pub(super) struct DiskSlots {
    bounds: FairSlotBounds,
    disks: Mutex<MountedDisks>,
}

#[derive(Debug, Default)]
struct MountedDisks {
    /// The longest paths first.
    mounts: Vec<PathBuf>,
    read_at: Option<Instant>,
    slots: HashMap<PathBuf, FairSlots<UserName>>,
}

/// The visit of one request's thread to one disk after another.
#[derive(Debug)]
pub(super) struct DiskVisit<'a> {
    slots: &'a DiskSlots,
    user: &'a UserName,
    state: RefCell<DiskVisitState>,
}

#[derive(Debug, Default)]
struct DiskVisitState {
    held: Option<HeldDisk>,
    /// The folder of the last path, and its disk.
    last: Option<(PathBuf, PathBuf)>,
    /// A disk that was full.
    blocked: Option<PathBuf>,
}

/// A slot of a disk.
#[derive(Debug)]
pub(super) struct HeldDisk {
    disk: PathBuf,
    _slot: FairSlot<UserName>,
}

impl DiskSlots {
    /// Creates slots with these bounds for each disk.
    pub(super) fn new(bounds: FairSlotBounds) -> Self {
        Self { bounds, disks: Mutex::default() }
    }

    /// Returns the slots of the disk on which `path` lies.
    pub(super) fn of_path(&self, path: &Path) -> FairSlots<UserName> {
        self.slots_of(&self.disk_of(path))
    }

    /// Waits for a slot of a disk that was full.
    pub(super) async fn acquire(&self, disk: PathBuf, user: &UserName) -> HeldDisk {
        let slot = self.slots_of(&disk).acquire(user).await;
        HeldDisk { disk, _slot: slot }
    }

    fn slots_of(&self, disk: &Path) -> FairSlots<UserName> {
        let mut disks = self.disks.lock();
        disks.slots.entry(disk.to_owned()).or_insert_with(|| FairSlots::new(self.bounds)).clone()
    }

    fn disk_of(&self, path: &Path) -> PathBuf {
        let mut disks = self.disks.lock();
        if disks.read_at.is_none_or(|read_at| read_at.elapsed() >= TABLE_MAX_AGE) {
            disks.read(mount_points());
        }
        match disks.mounts.iter().find(|mount| path.starts_with(mount)) {
            Some(mount) => mount.clone(),
            None => path.components().take_while(|part| *part != Component::ParentDir).take(DISK_COMPONENTS).collect(),
        }
    }
}

impl MountedDisks {
    fn read(&mut self, mut mounts: Vec<PathBuf>) {
        // The deepest first: a path lies on the innermost mount that holds it.
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.components().count()));
        mounts.dedup();
        // Without a table nothing tells which disks are gone.
        if !mounts.is_empty() {
            self.slots.retain(|disk, _| mounts.contains(disk));
        }
        (self.mounts, self.read_at) = (mounts, Some(Instant::now()));
    }
}

impl<'a> DiskVisit<'a> {
    /// Begins a visit for `user`, with the slot of a disk that was waited for.
    pub(super) fn new(slots: &'a DiskSlots, user: &'a UserName, held: Option<HeldDisk>) -> Self {
        Self { slots, user, state: RefCell::new(DiskVisitState { held, ..DiskVisitState::default() }) }
    }

    /// Goes to the disk on which `path` lies, away from the one before. Returns false if it is full: then nothing there
    /// may be touched.
    pub(super) fn enter(&self, path: &Path) -> bool {
        let mut state = self.state.borrow_mut();
        let folder = path.parent().unwrap_or(path);
        // Files of one folder mostly come in a row: one search of the table does for them.
        let disk = match &state.last {
            Some((last, disk)) if last == folder => disk.clone(),
            _ => self.slots.disk_of(path),
        };
        state.last = Some((folder.to_owned(), disk.clone()));
        if state.held.as_ref().is_some_and(|held| held.disk == disk) {
            return true;
        }
        // First: who holds one disk and asks for another could wait for somebody who does the opposite.
        state.held = None;
        match self.slots.slots_of(&disk).try_acquire(self.user) {
            Some(slot) => state.held = Some(HeldDisk { disk, _slot: slot }),
            None => state.blocked = Some(disk),
        }
        state.held.is_some()
    }

    /// True if a disk was full since the beginning, or since [`DiskVisit::note_found`].
    pub(super) fn is_blocked(&self) -> bool {
        self.state.borrow().blocked.is_some()
    }

    /// Records that all that was looked for was found on other disks.
    pub(super) fn note_found(&self) {
        self.state.borrow_mut().blocked = None;
    }

    /// Ends the visit. Returns the disk to wait for before all is done again.
    pub(super) fn into_blocked(self) -> Option<PathBuf> {
        self.state.into_inner().blocked
    }
}

#[cfg(test)]
impl DiskSlots {
    /// Creates slots for disks at these places, for longer than a test takes.
    pub(super) fn with_disks(bounds: FairSlotBounds, mounts: Vec<PathBuf>) -> Self {
        let slots = Self::new(bounds);
        let mut disks = slots.disks.lock();
        disks.read(mounts);
        disks.read_at = disks.read_at.map(|read_at| read_at + Duration::from_secs(3600));
        drop(disks);
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_on_the_innermost_disk() {
        let bounds = FairSlotBounds { total: 1, per_key: 1 };
        let mounts = ["/", "/mnt", "/mnt/a", "/mnt/b"].map(PathBuf::from);
        let slots = DiskSlots::with_disks(bounds, mounts.to_vec());
        for (path, disk) in [("/mnt/a/x/y", "/mnt/a"), ("/mnt/ab/x", "/mnt"), ("/mnt/b", "/mnt/b"), ("/x", "/")] {
            assert_eq!(slots.disk_of(Path::new(path)), Path::new(disk), "{path}");
        }
        let untold = DiskSlots::with_disks(bounds, Vec::new());
        assert_eq!(untold.disk_of(Path::new("/Volumes/usb/film/a")), Path::new("/Volumes/usb"));
    }

    #[test]
    fn a_full_disk_is_not_touched_and_another_is() {
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        let slots = DiskSlots::with_disks(FairSlotBounds { total: 1, per_key: 1 }, vec![a.into(), b.into()]);
        let (alice, bob): (UserName, UserName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let first = DiskVisit::new(&slots, &alice, None);
        assert!(first.enter(&a.join("x")) && first.enter(&a.join("y/z")));
        let second = DiskVisit::new(&slots, &bob, None);
        assert!(!second.enter(&a.join("x")) && second.is_blocked() && second.enter(&b.join("x")));
        assert!(!first.enter(&b.join("x")), "bob is there");
        assert!(second.enter(&a.join("x")), "and alice left here");
        assert_eq!(second.into_blocked().as_deref(), Some(a));
        first.note_found();
        assert_eq!(first.into_blocked(), None);
    }
}
