//! The fetching of a comparison: in batches, each of which is fetched beside the copy, placed and put on record.

use std::collections::HashMap;
use std::time::Duration;

use shared::{ContentHash, FileName};

use super::follow_plan::PlannedFetch;
use super::follow_round::{FollowRecords, FollowRound};
use super::follow_runner::take_permit;
use super::followed_folder::{FollowedFolder, PlacedCopy};
use super::source_links::SourceListing;
use crate::engine::fetch::{FetchDestination, FetchEvent, FetchRequest, FileOutcome, ListedFile, fetch_listed};
use crate::engine::follow_news::FollowChange;
use crate::engine::sends::accept_policy::MIN_FREE_BYTES;
use crate::engine::unattended_fetch::TransferReporter;
use crate::engine::{Error, ErrorKind, run_blocking};
use crate::profile::{FollowRecord, RecordedFile, RemovalConsent};
use crate::sys::FileStamp;
use crate::util::TranslatedText;

/// Files and bytes that are fetched before they are placed together.
const BATCH_FILES: usize = 500;
const BATCH_BYTES: u64 = 256 << 20;
/// The wait for a user who goes offline in the middle.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);

/// A file on its way: what the plan says, and its name among those that are being fetched.
struct FileOnWay {
    planned: PlannedFetch,
    hash: ContentHash,
    staged: String,
}

/// What came of a file.
enum Arrival {
    /// It is fetched, under this name in the folder for that.
    Fetched {
        staged: String,
        hash: ContentHash,
    },
    Failed(ErrorKind, TranslatedText),
}

impl FollowRound<'_> {
    /// Fetches what is planned.
    pub(super) async fn fetch_all(
        &mut self,
        mut folder: FollowedFolder,
        planned: Vec<PlannedFetch>,
        mut records: FollowRecords,
        mut listing: SourceListing,
    ) -> Result<(), Error> {
        let mut left = planned.len();
        let mut planned = planned.into_iter().peekable();
        while planned.peek().is_some() {
            (self.progress)(left);
            let (mut on_way, mut listed, mut bytes) = (HashMap::new(), Vec::new(), 0);
            while listed.len() < BATCH_FILES && (bytes < BATCH_BYTES || listed.is_empty()) {
                let Some(fetch) = planned.next() else { break };
                let hash = listing.files.get(&fetch.name).map(|stat| stat.hash);
                let staged = hash.map(|hash| staged_name(&fetch.name, &hash));
                let local = staged.as_deref().and_then(|staged| staged.parse().ok());
                let file = local.and_then(|local| listing.take_file(&fetch.name, local));
                let (Some(file), Some(hash), Some(staged)) = (file, hash, staged) else {
                    self.outcome.is_unsettled = true;
                    left -= 1;
                    continue;
                };
                bytes += file.stat.size;
                on_way.insert(file.stat.name.clone(), FileOnWay { planned: fetch, hash, staged });
                listed.push(file);
            }
            left -= listed.len();
            if !listed.is_empty() {
                folder = self.fetch_batch(folder, on_way, listed, &mut records).await?;
            }
        }
        Ok(())
    }

    async fn fetch_batch(
        &mut self,
        folder: FollowedFolder,
        on_way: HashMap<FileName, FileOnWay>,
        listed: Vec<ListedFile>,
        records: &mut FollowRecords,
    ) -> Result<FollowedFolder, Error> {
        let pending: Vec<(FileName, FollowRecord)> = on_way
            .values()
            .map(|FileOnWay { planned, hash, .. }| {
                let file = records.get(&planned.name).and_then(|record| record.file);
                (planned.name.clone(), FollowRecord { file, pending: Some(*hash), consent: RemovalConsent::Unasked })
            })
            .collect();
        // On record before the fetch: a file that a stop leaves without a record would pass for the user's own.
        let (profile, number) = (self.me.profile.clone(), self.follow.number);
        run_blocking(move || {
            Ok(profile.put_follow_records(number, pending.iter().map(|(name, record)| (name, Some(record))))?)
        })
        .await?;
        let turn = tokio::select! {
            () = self.cancel.cancelled() => return Err(Error::Interrupted),
            turn = take_permit(self.fetch_turns) => turn?,
        };
        let (arrivals, error) = self.fetch_listed(&folder, listed).await;
        // Another follow of the same user fetches while this one places what came.
        drop(turn);
        let is_whole = arrivals.len() == on_way.len();
        let folder = self.place_all(folder, on_way, arrivals, records).await?;
        match error {
            // Where each file has an outcome, the error only repeats theirs.
            Some(error) if !is_whole => Err(error),
            _ if self.cancel.is_cancelled() => Err(Error::Interrupted),
            _ => Ok(folder),
        }
    }

    /// Fetches the files of a batch into the folder for that. Those of which nothing is known were not begun, or given up
    /// with the whole, for which there is an error then.
    async fn fetch_listed(
        &mut self,
        folder: &FollowedFolder,
        listed: Vec<ListedFile>,
    ) -> (HashMap<FileName, Arrival>, Option<Error>) {
        let (from, destination) = (self.follow.of.user.clone().into(), FetchDestination::Folder(folder.staging_path()));
        // The fetch looks at what is to come: the rest of a file may have its place on the disk already.
        let kept_free = Some(MIN_FREE_BYTES);
        let request = FetchRequest { kept_free, ..FetchRequest::new(from, Vec::new(), destination, SOURCE_TIMEOUT) };
        let mut reporter = TransferReporter::new(self.events);
        let mut arrivals = HashMap::new();
        let mut report = |event: FetchEvent<'_>| {
            reporter.handle_event(&event);
            let FetchEvent::Finished { report, .. } = event else { return };
            let Ok(name) = report.name.parse::<FileName>() else { return };
            let arrival = match (&report.outcome, &report.origin) {
                (FileOutcome::Done(path) | FileOutcome::Renamed(path) | FileOutcome::Skipped(path), Some(origin)) => {
                    path.file_name().and_then(|name| name.to_str()).map(|staged| {
                        let (staged, hash) = (staged.to_owned(), origin.hash);
                        Arrival::Fetched { staged, hash }
                    })
                }
                (FileOutcome::Failed(error), _) => Some(Arrival::Failed(error.kind(), TranslatedText::of(error))),
                _ => None,
            };
            arrivals.extend(arrival.map(|arrival| (name, arrival)));
        };
        let ended = fetch_listed(self.me, &request, listed, &mut report, self.cancel).await;
        reporter.finish();
        (arrivals, ended.error)
    }

    /// Places what came, and puts it on record.
    async fn place_all(
        &mut self,
        mut folder: FollowedFolder,
        on_way: HashMap<FileName, FileOnWay>,
        mut arrivals: HashMap<FileName, Arrival>,
        records: &mut FollowRecords,
    ) -> Result<FollowedFolder, Error> {
        let (mut fetched, mut failures) = (Vec::new(), Vec::new());
        for (source_name, FileOnWay { planned, staged: expected, .. }) in on_way {
            match arrivals.remove(&source_name) {
                Some(Arrival::Fetched { staged, hash }) => fetched.push((planned, staged, hash)),
                // It went away or changed meanwhile, of which its user tells.
                Some(Arrival::Failed(ErrorKind::NotShared | ErrorKind::Integrity, why)) => {
                    tracing::debug!("{expected}: {why}");
                    self.outcome.is_unsettled = true;
                }
                Some(Arrival::Failed(_, why)) => failures.push((planned.name, why)),
                None => {}
            }
        }
        // In the order of their names, as people expect to read it.
        fetched.sort_by(|(one, ..), (other, ..)| one.name.cmp(&other.name));
        let (profile, number) = (self.me.profile.clone(), self.follow.number);
        let (folder, placed, refused) = run_blocking(move || {
            let (mut placed, mut refused) = (Vec::new(), Vec::new());
            for (PlannedFetch { name, replaces }, staged, hash) in fetched {
                match folder.place(&name, &staged, replaces) {
                    Ok(copy) => placed.push((name, replaces.is_some(), copy, hash)),
                    Err(error) => refused.push((name, TranslatedText::of(&error))),
                }
            }
            // On the disk before it is on record: a record without its file means that the user removed it.
            folder.sync()?;
            folder.clear_staging();
            let stored: Vec<(FileName, FollowRecord)> =
                placed.iter().map(|(name, _, copy, hash)| (name.clone(), placed_record(copy.stamp, *hash))).collect();
            profile.put_follow_records(number, stored.iter().map(|(name, record)| (name, Some(record))))?;
            Ok((folder, placed, refused))
        })
        .await?;
        for (name, again, PlacedCopy { stamp, kept }, hash) in placed {
            records.insert(name.clone(), placed_record(stamp, hash));
            self.totals.fetched += 1;
            self.totals.bytes += stamp.size;
            if let Some(kept_as) = kept {
                self.tell(FollowChange::Kept { name: name.clone(), kept_as });
            }
            self.tell(FollowChange::Fetched { name, size: stamp.size, again });
        }
        for (name, why) in failures.into_iter().chain(refused) {
            self.fail(&name, why);
        }
        Ok(folder)
    }
}

const fn placed_record(stamp: FileStamp, hash: ContentHash) -> FollowRecord {
    let file = RecordedFile { size: stamp.size, mtime_ns: stamp.mtime_ns, hash, is_placed: true };
    FollowRecord { file: Some(file), pending: None, consent: RemovalConsent::Unasked }
}

/// Returns the name of a file while it is fetched: the same after a restart, so that it is resumed.
fn staged_name(name: &FileName, hash: &ContentHash) -> String {
    let name = ContentHash::of(name.as_str().as_bytes()).to_string();
    format!("{}-{}", &name[..16], &hash.to_string()[..16])
}
