//! The plan of a follow: compares what the source lists, what it says was removed, what is on record and what is on the
//! disk, and decides what is done. Pure: the disk is looked at through [`FollowedDisk`], and only where something differs.
//!
//! | the source | on record | on the disk | what is done |
//! |---|---|---|---|
//! | lists the recorded content | | | nothing: a file that was changed or removed here stays so |
//! | lists other content | a file | as recorded | it is replaced |
//! | lists other content | a file | changed | the local file is kept under another name, and the new one placed |
//! | lists other content | a file or none | nothing | it is placed |
//! | lists a file | none | the same content | it goes on record as found: it is never removed |
//! | lists a file | none | other content | as for a changed one |
//! | says removed | a placed file | as recorded | it is moved to its new name, or removed; or the user is asked |
//! | says removed | a file | changed, or found | it stays, and goes off the record |
//! | neither | | | nothing: absence says nothing |
//!
//! A removal that many would regret is asked about: of more than [`MAX_REMOVALS`] files, or more than half of those on
//! record, removals of the last minutes included.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use shared::{ContentHash, FileName};

use crate::engine::Error;
use crate::profile::{FollowRecord, RecordedFile, RemovalConsent};
use crate::sys::{FileStamp, LocalEntry};

/// Files that are removed together without a question.
pub(super) const MAX_REMOVALS: usize = 100;

/// The source's word: names below the folder.
#[derive(Debug, Clone, Default)]
pub(super) struct ListedState {
    /// The files that it lists, and their contents.
    pub(super) files: BTreeMap<FileName, ContentHash>,
    /// The names of which it says that they were removed. One that is listed isn't.
    pub(super) removed: BTreeSet<FileName>,
}

/// The rules of one comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct FollowRules {
    /// True if what the source removed is removed here.
    pub(super) deletes: bool,
    /// Removals of the last minutes.
    pub(super) recent_removals: usize,
}

/// The copy on the disk. A look may fail, which ends the comparison.
pub(super) trait FollowedDisk {
    /// Returns what has this name.
    fn look(&mut self, name: &FileName) -> Result<LocalEntry, Error>;

    /// Hashes the file of this name; `None` if it can't be read.
    fn hash(&mut self, name: &FileName) -> Result<Option<ContentHash>, Error>;
}

/// The decisions of a comparison, in the order in which they are carried out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FollowPlan {
    /// Changes of the records alone; `None` removes one.
    pub(super) records: Vec<(FileName, Option<FollowRecord>)>,
    /// Placed files that get other names: from, to.
    pub(super) moves: Vec<(FileName, FileName, RecordedFile)>,
    /// Placed files that are removed.
    pub(super) removals: Vec<(FileName, RecordedFile)>,
    /// Those of them to which the user agreed; they don't count as recent.
    pub(super) confirmed: usize,
    /// The number of placed files about whose removal the user is asked.
    pub(super) asked: usize,
    /// Files that are fetched.
    pub(super) fetches: Vec<PlannedFetch>,
    /// Files in whose place is something that is no file, or a file of another spelling.
    pub(super) obstructed: Vec<FileName>,
}

/// A file that is fetched and placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedFetch {
    pub(super) name: FileName,
    /// The file that it may replace. Any other that is there is kept under another name.
    pub(super) replaces: Option<FileStamp>,
}

/// A placed file that the source removed, and its record.
type GoneFile<'a> = (&'a FileName, &'a FollowRecord, RecordedFile);

/// The disk's word on a recorded file.
enum RecordedState {
    Missing,
    /// It is the recorded one, perhaps with another time.
    Own(FileStamp, RecordedFile),
    /// It is another file.
    Foreign,
    Obstructed,
}

/// Compares, and decides.
///
/// # Errors
/// The error of a look at the disk.
pub(super) fn plan_follow(
    source: &ListedState,
    records: &BTreeMap<FileName, FollowRecord>,
    rules: FollowRules,
    disk: &mut dyn FollowedDisk,
) -> Result<FollowPlan, Error> {
    let mut plan = FollowPlan::default();
    for (name, hash) in &source.files {
        plan.add_listed(name, hash, records.get(name), disk)?;
    }
    let mut gone = Vec::new();
    for (name, record) in records.iter().filter(|(name, _)| !source.files.contains_key(*name)) {
        if !source.removed.contains(name) || !rules.deletes {
            plan.withdraw_question(name, record);
            continue;
        }
        match recorded_state(name, record, disk)? {
            RecordedState::Own(stamp, file) if file.is_placed && stamp == stamp_of(&file) => {
                gone.push((name, record, file));
            }
            // Nothing of ours is there any more, or it never was ours. A new time alone may be somebody's work as well.
            _ => plan.records.push((name.clone(), None)),
        }
    }
    plan.add_moves(source, records, &mut gone, disk)?;
    plan.add_removals(&gone, records.len(), rules.recent_removals);
    Ok(plan)
}

impl FollowPlan {
    fn add_listed(
        &mut self,
        name: &FileName,
        hash: &ContentHash,
        record: Option<&FollowRecord>,
        disk: &mut dyn FollowedDisk,
    ) -> Result<(), Error> {
        let Some(record) = record else { return self.add_unknown(name, hash, disk) };
        // With a pending content, the file may have been placed before a stop: only the disk tells.
        if record.pending.is_none() && record.file.is_some_and(|file| file.hash == *hash) {
            self.withdraw_question(name, record);
            return Ok(());
        }
        match recorded_state(name, record, disk)? {
            RecordedState::Own(stamp, file) if file.hash == *hash => {
                // As after a stop between the placing and its record.
                self.records.push((name.clone(), Some(record_of(stamp, file))));
            }
            RecordedState::Own(stamp, _) => self.fetch(name, Some(stamp)),
            RecordedState::Missing => self.fetch(name, None),
            RecordedState::Foreign => return self.add_unknown(name, hash, disk),
            RecordedState::Obstructed => self.obstructed.push(name.clone()),
        }
        Ok(())
    }

    /// Adds a listed file in whose place is none, or one that the follow doesn't know.
    fn add_unknown(&mut self, name: &FileName, hash: &ContentHash, disk: &mut dyn FollowedDisk) -> Result<(), Error> {
        match disk.look(name)? {
            LocalEntry::Missing => self.fetch(name, None),
            LocalEntry::Other => self.obstructed.push(name.clone()),
            // It wasn't put there by the follow, which therefore never removes it.
            LocalEntry::File(stamp) if disk.hash(name)?.as_ref() == Some(hash) => {
                let file = RecordedFile { size: stamp.size, mtime_ns: stamp.mtime_ns, hash: *hash, is_placed: false };
                self.records.push((name.clone(), Some(record_of(stamp, file))));
            }
            LocalEntry::File(_) => self.fetch(name, None),
        }
        Ok(())
    }

    fn fetch(&mut self, name: &FileName, replaces: Option<FileStamp>) {
        self.fetches.push(PlannedFetch { name: name.clone(), replaces });
    }

    /// Takes back a question about a file that is to stay.
    fn withdraw_question(&mut self, name: &FileName, record: &FollowRecord) {
        if record.consent != RemovalConsent::Unasked {
            self.records
                .push((name.clone(), Some(FollowRecord { consent: RemovalConsent::Unasked, ..record.clone() })));
        }
    }

    /// Turns removals and fetches of the same content into moves.
    fn add_moves(
        &mut self,
        source: &ListedState,
        records: &BTreeMap<FileName, FollowRecord>,
        gone: &mut Vec<GoneFile<'_>>,
        disk: &mut dyn FollowedDisk,
    ) -> Result<(), Error> {
        let mut by_content: HashMap<ContentHash, Vec<usize>> = HashMap::new();
        // Reversed, so that `pop` takes them in the order of their names.
        for (number, (_, _, file)) in gone.iter().enumerate().rev() {
            by_content.entry(file.hash).or_default().push(number);
        }
        let mut moved = BTreeSet::new();
        for fetch in std::mem::take(&mut self.fetches) {
            let old = source.files.get(&fetch.name).and_then(|hash| by_content.get_mut(hash));
            let is_new =
                fetch.replaces.is_none() && records.get(&fetch.name).is_none_or(|record| record.file.is_none());
            let is_free = is_new && old.is_some() && disk.look(&fetch.name)? == LocalEntry::Missing;
            match old.filter(|_| is_free).and_then(Vec::pop) {
                Some(number) => {
                    self.moves.push((gone[number].0.clone(), fetch.name, gone[number].2));
                    moved.insert(number);
                }
                None => self.fetches.push(fetch),
            }
        }
        let mut number = 0;
        gone.retain(|_| {
            number += 1;
            !moved.contains(&(number - 1))
        });
        Ok(())
    }

    /// Decides which of the removals are carried out, and which asked about.
    fn add_removals(&mut self, gone: &[GoneFile<'_>], recorded: usize, recent: usize) {
        let is_given = |record: &FollowRecord| record.consent == RemovalConsent::Given;
        let (given, new): (Vec<&GoneFile<'_>>, Vec<&GoneFile<'_>>) =
            gone.iter().partition(|(_, record, _)| is_given(record));
        // With the recent ones, so that many small removals don't pass unasked.
        let (count, all) = (new.len() + recent, recorded + recent);
        let is_asked = !new.is_empty() && (count > MAX_REMOVALS || count * 2 > all);
        self.confirmed = given.len();
        self.removals = given.iter().map(|(name, _, file)| ((*name).clone(), *file)).collect();
        if !is_asked {
            self.removals.extend(new.iter().map(|(name, _, file)| ((*name).clone(), *file)));
            return;
        }
        self.asked = new.len();
        for (name, record, _) in new {
            if record.consent != RemovalConsent::Asked {
                let asked = FollowRecord { consent: RemovalConsent::Asked, ..(*record).clone() };
                self.records.push(((*name).clone(), Some(asked)));
            }
        }
    }
}

/// Returns the record of a file that is there and about which nothing is asked.
const fn record_of(stamp: FileStamp, file: RecordedFile) -> FollowRecord {
    let file = RecordedFile { size: stamp.size, mtime_ns: stamp.mtime_ns, ..file };
    FollowRecord { file: Some(file), pending: None, consent: RemovalConsent::Unasked }
}

/// Returns the size and time of a recorded file.
const fn stamp_of(file: &RecordedFile) -> FileStamp {
    FileStamp { size: file.size, mtime_ns: file.mtime_ns }
}

/// Looks whether a file of the record is there. A file that was about to be placed counts as placed.
fn recorded_state(name: &FileName, record: &FollowRecord, disk: &mut dyn FollowedDisk) -> Result<RecordedState, Error> {
    let stamp = match disk.look(name)? {
        LocalEntry::Missing => return Ok(RecordedState::Missing),
        LocalEntry::Other => return Ok(RecordedState::Obstructed),
        LocalEntry::File(stamp) => stamp,
    };
    if let Some(file) = record.file.filter(|file| stamp_of(file) == stamp) {
        return Ok(RecordedState::Own(stamp, file));
    }
    // Only its time may be another, or the content that was about to be placed.
    let found = disk.hash(name)?;
    if let Some(file) = record.file.filter(|file| found == Some(file.hash)) {
        return Ok(RecordedState::Own(stamp, file));
    }
    Ok(match record.pending.filter(|pending| found == Some(*pending)) {
        Some(hash) => RecordedState::Own(
            stamp,
            RecordedFile { size: stamp.size, mtime_ns: stamp.mtime_ns, hash, is_placed: true },
        ),
        None => RecordedState::Foreign,
    })
}

#[cfg(test)]
mod tests;
