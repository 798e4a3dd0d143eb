//! Before the first byte: where each file goes, what is there already, and whether there is room.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use shared::FileName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Account, Reporter};
use crate::engine::fetch::destination::{DiskPlacement, Placement, Vacancy};
use crate::engine::fetch::naming::folded;
use crate::engine::fetch::partial::{held_bytes, remove_outdated};
use crate::engine::fetch::resolve::{Resolved, Wanted};
use crate::engine::fetch::writer::{EarlierRounds, Order};
use crate::engine::fetch::{Asked, FetchEvent, Report, Request};
use crate::engine::{Error, Shortage, blocking};
use crate::sys::{Folder, FolderObstacle, FreeRoom};

/// Groups for a stream stay in memory until they are verified.
const STREAMED_GROUP_BYTES: u64 = 64 << 20;
/// Files whose places are looked at before anything is said of them.
const LOOKED_AT_ONCE: usize = 1024;
/// Of a file that is there already; what is hashed in no time isn't told of.
const TOLD_BYTES: u64 = 32 << 20;

/// What is left to be fetched, and what was settled already.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) orders: Vec<Order>,
    /// Files that are being hashed again at their source: where they go is decided when that is done.
    pub(super) later: Vec<Wanted>,
    /// Where they then go.
    pub(super) disk: Option<Box<DiskPlacement>>,
    pub(super) account: Account,
    /// Why nothing can be fetched.
    pub(super) hindrance: Option<Error>,
}

/// Decides for each file where it goes; those that are there already or can't go anywhere are settled here.
pub(super) async fn place(
    request: &Request,
    resolved: Resolved,
    account: Account,
    report: Reporter<'_>,
    cancel: &CancellationToken,
) -> Placed {
    let placement = Placement::prepare(request, &resolved);
    let mut placed = Placed { account, ..Placed::default() };
    let Resolved { wanted, folders, missing, .. } = resolved;
    for (name, error) in missing {
        placed.account.fail(name.clone(), 0, Some(Asked::for_text(name)), error, report);
    }
    match placement {
        Ok(Placement::Stream) => placed.stream(wanted, report),
        Ok(Placement::Disk(disk)) => {
            report_alike(&wanted, report);
            let (later, wanted) = wanted.into_iter().partition(|file| file.stat.stale);
            placed.later = later;
            if let Err(error) = placed.settle_on_disk(disk, wanted, folders, report, cancel).await {
                placed.hindrance.get_or_insert(error);
            }
        }
        Err(error) => {
            for Wanted { stat, local, .. } in wanted {
                let again = Asked { text: stat.name.as_str().to_owned(), local: Some(local) };
                placed.account.break_off(again.text.clone(), stat.size, Some(again), &error, report);
            }
            placed.hindrance = Some(error);
        }
    }
    placed
}

impl Placed {
    fn stream(&mut self, wanted: Vec<Wanted>, report: Reporter<'_>) {
        for Wanted { stat, layout, .. } in wanted {
            if layout.group_bytes() <= STREAMED_GROUP_BYTES {
                let (told_as, earlier) = (self.account.next_number(), EarlierRounds::default());
                self.orders.push(Order { stat, layout, spot: None, told_as, earlier });
            } else {
                let why = "it is too large to be verified in memory: fetch it to a file".to_owned();
                self.account.fail(stat.name.as_str().to_owned(), stat.size, None, Error::Usage(why), report);
            }
        }
    }

    /// Decides where files go.
    pub(super) async fn settle_on_disk(
        &mut self,
        disk: Box<DiskPlacement>,
        wanted: Vec<Wanted>,
        folders: Vec<FileName>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let disk = self.look_at_all(disk, wanted, report, cancel).await?;
        check_room(&self.orders)?;
        if self.orders.is_empty() && folders.is_empty() {
            self.disk = Some(disk);
            return Ok(());
        }
        let count = folders.len();
        // A file that takes the path of a folder of others would keep all of those out.
        let colliding = if self.orders.is_empty() { Vec::new() } else { disk.colliding_folders() };
        let made = blocking(move || {
            let (_, disk) = make_folders(disk, colliding)?;
            make_folders(disk, folders)
        });
        let (failed, disk) = made.await?;
        self.disk = Some(disk);
        self.account.add_folders(count - failed.len());
        for (name, error) in failed {
            self.account.fail(name.as_str().to_owned(), 0, None, error, report);
        }
        Ok(())
    }

    /// Looks at every file's place. Of very many files, nothing is kept longer than it is needed.
    async fn look_at_all(
        &mut self,
        mut disk: Box<DiskPlacement>,
        wanted: Vec<Wanted>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) -> Result<Box<DiskPlacement>, Error> {
        self.orders.reserve(wanted.len());
        let mut closed = Vec::new();
        let mut wanted = wanted.into_iter();
        loop {
            let some: Vec<Wanted> = wanted.by_ref().take(LOOKED_AT_ONCE).collect();
            if some.is_empty() {
                self.settle_closed(closed, report)?;
                return if cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(disk) };
            }
            let (tell, mut hashed) = mpsc::unbounded_channel();
            let cancel = cancel.clone();
            let mut looking = std::pin::pin!(blocking(move || Ok(look_at(disk, some, &tell, &cancel))));
            let looked;
            (looked, disk) = loop {
                tokio::select! {
                    biased;
                    Some((name, size, bytes)) = hashed.recv() => {
                        report(FetchEvent::Checking { file: None, name: &name, size, bytes });
                    }
                    looked = &mut looking => break looked?,
                }
            };
            for Looked { vacancy, outdated, wanted: Wanted { stat, layout, local } } in looked {
                if outdated {
                    report(FetchEvent::Outdated { name: &stat.name });
                }
                let (name, size) = (stat.name.as_str().to_owned(), stat.size);
                let again = || Some(Asked { text: stat.name.as_str().to_owned(), local: Some(local.clone()) });
                match vacancy {
                    Ok(Vacancy::Free(spot)) => {
                        let told_as = self.account.next_number();
                        let earlier = EarlierRounds::default();
                        self.orders.push(Order { stat, layout, spot: Some(spot), told_as, earlier });
                    }
                    Ok(Vacancy::Skip(path)) => {
                        if disk.collides(&local) {
                            self.account.remember_arrival(path.clone(), size);
                        }
                        self.account.settle(None, Report::skipped(name, size, path), || None, report);
                    }
                    Err(Error::Closed { folder, obstacle }) => closed.push((name, size, again(), folder, obstacle)),
                    Err(error @ Error::Interrupted) => self.account.break_off(name, size, again(), &error, report),
                    Err(error) => self.account.fail(name, size, again(), error, report),
                }
            }
        }
    }

    /// Settles files that can't be put where they should go: each folder is told of once. Fails when nothing else is left.
    fn settle_closed(&mut self, closed: Vec<ClosedTo>, report: Reporter<'_>) -> Result<(), Error> {
        let mut told: HashSet<PathBuf> = HashSet::new();
        let is_one = closed.windows(2).all(|two| two[0].3 == two[1].3);
        let nothing_else = self.orders.is_empty() && self.later.is_empty() && self.account.first_error().is_none();
        let all = closed.first().filter(|_| is_one && nothing_else).map(|first| (first.3.clone(), first.4));
        for (name, size, again, folder, obstacle) in closed {
            let error = Error::Closed { folder: folder.clone(), obstacle };
            if all.is_none() && told.insert(folder) {
                self.account.fail(name, size, again, error, report);
            } else {
                self.account.break_off(name, size, again, &error, report);
            }
        }
        all.map_or(Ok(()), |(folder, obstacle)| Err(Error::Closed { folder, obstacle }))
    }
}

/// A file that can't be put where it should go: its name and size, how to ask for it again, the folder, and why.
type ClosedTo = (String, u64, Option<Asked>, PathBuf, FolderObstacle);

/// Folders that could not be made, and why.
type Failed = Vec<(FileName, Error)>;

/// What was found where a file should go.
struct Looked {
    vacancy: Result<Vacancy, Error>,
    /// There was something of another version.
    outdated: bool,
    wanted: Wanted,
}

fn look_at(
    mut disk: Box<DiskPlacement>,
    wanted: Vec<Wanted>,
    tell: &mpsc::UnboundedSender<(FileName, u64, u64)>,
    cancel: &CancellationToken,
) -> (Vec<Looked>, Box<DiskPlacement>) {
    let look = |wanted: Wanted| {
        if cancel.is_cancelled() {
            return Looked { vacancy: Err(Error::Interrupted), outdated: false, wanted };
        }
        let mut hashed = |bytes| {
            if wanted.stat.size >= TOLD_BYTES {
                // Nobody listens any more after an interruption.
                let _ = tell.send((wanted.stat.name.clone(), wanted.stat.size, bytes));
            }
            if cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
        };
        let vacancy = disk.look(&wanted, &mut hashed);
        let outdated = matches!(&vacancy, Ok(Vacancy::Free(spot)) if remove_outdated(spot, &wanted.stat.hash));
        Looked { vacancy, outdated, wanted }
    };
    let looked = wanted.into_iter().map(look).collect();
    (looked, disk)
}

/// The destination, and folders with nothing in them; tells which failed.
fn make_folders(mut disk: Box<DiskPlacement>, folders: Vec<FileName>) -> Result<(Failed, Box<DiskPlacement>), Error> {
    disk.make()?;
    let make = |name: FileName| disk.make_folder(&name).err().map(|error| (name, error));
    let failed = folders.into_iter().filter_map(make).collect();
    Ok((failed, disk))
}

/// Tells of names that a system which doesn't tell case or normal forms apart would take for one.
fn report_alike(wanted: &[Wanted], report: Reporter<'_>) {
    let mut seen: HashMap<String, &str> = HashMap::with_capacity(wanted.len());
    for file in wanted {
        let name = file.local.as_str();
        if let Some(one) = seen.insert(folded(name), name)
            && one != name
        {
            report(FetchEvent::Alike { one, other: name });
        }
    }
}

/// Refuses before the first byte what the disks can't hold; what lies below the destination may be on several.
fn check_room(orders: &[Order]) -> Result<(), Error> {
    let mut disks: HashMap<u64, NeededRoom> = HashMap::new();
    // Files of one folder share its path.
    let mut folders: HashMap<String, Option<u64>> = HashMap::new();
    for order in orders {
        let Some(spot) = &order.spot else { continue };
        let known = folders.get(spot.place.below()).copied();
        let device = known.unwrap_or_else(|| {
            let looked = spot.place.free_room();
            let device = looked.as_ref().map(|(room, ..)| room.device);
            if let Some((room, folder, path)) = looked {
                let new = || NeededRoom { room, folder, path, bytes: 0, bytes_with_holes: 0, files: 0 };
                disks.entry(room.device).or_insert_with(new);
            }
            folders.insert(spot.place.below().to_owned(), device);
            device
        });
        if let Some(needed) = device.and_then(|device| disks.get_mut(&device)) {
            let held = if order.layout.groups() > 1 { held_bytes(spot, &order.stat.hash) } else { 0 };
            let add = |sum: u64, bytes: u64| sum.saturating_add(needed.room.taken_by(bytes.saturating_sub(held)));
            needed.bytes = add(needed.bytes, order.stat.data_bytes());
            needed.bytes_with_holes = add(needed.bytes_with_holes, order.stat.size);
            // What is replaced makes room for what replaces it.
            needed.files += u64::from(held == 0 && !spot.replaces());
        }
    }
    disks.into_values().try_for_each(NeededRoom::check)
}

/// The room that a fetch needs on one disk.
struct NeededRoom {
    room: FreeRoom,
    /// A folder there, and its path.
    folder: Arc<Folder>,
    path: PathBuf,
    bytes: u64,
    /// Where holes take room as well.
    bytes_with_holes: u64,
    files: u64,
}

impl NeededRoom {
    fn check(self) -> Result<(), Error> {
        let Self { room, folder, path, bytes, bytes_with_holes, files } = self;
        let shortage = match (room.bytes, room.files) {
            (Some(free), _) if free < bytes => Shortage::Bytes { needed: bytes, free },
            // Only where it matters: to find out, a file is made.
            (Some(free), _) if free < bytes_with_holes && !folder.keeps_holes() => {
                Shortage::Bytes { needed: bytes_with_holes, free }
            }
            (_, Some(free)) if free < files => Shortage::Files { needed: files, free },
            _ => return Ok(()),
        };
        Err(Error::NoRoom { folder: path, shortage })
    }
}
