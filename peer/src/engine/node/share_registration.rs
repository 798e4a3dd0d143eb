//! Registration of this node's shares in the tracker's catalogue, and the schedule of retries after a refusal. A
//! refused list costs nothing else: the node stays present, and users who know a file's name can fetch it.
//!
//! The first list on a connection replaces what the tracker has; further ones are compared with it, and only what
//! differs is sent. The tracker counts requests: an empty difference is none.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | files in one request | `FILES_PER_REQUEST` | the next request |
//! | lists | a pause of `LIST_PAUSE`, or four times as long as the last list took to make; after an error, of `FAILED_LIST_PAUSE` | put together |
//! | attempts at a refused list | when the tracker says, but `MIN_RETRY_DELAY` to `MAX_RETRY_DELAY` after the last | |
//! | reports to the user | one, until a list is accepted | none |

use std::time::{Duration, Instant};

use shared::tracker::{
    FilesMode, RegisterFilesReply, RegisterFilesRequest, SharedFile, SpeakerProof, TrackerErrorCode, TrackerRequest,
};

use shared::{ContentHash, FileName};

use crate::engine::private_data::PrivateData;
use crate::engine::share::{ShareFreshness, for_each_share, freshness};
use crate::engine::{Error, LocalUser, run_blocking};
use crate::net::TrackerError;
use crate::net::tracker::TrackerConnection;
use crate::profile::{Audience, Profile};
use crate::util::Backoff;
use crate::util::TranslatedText;

/// Files in one REGISTER_FILES: far below the tracker's limit of 16 MiB, whatever their names.
const FILES_PER_REQUEST: usize = 4000;
/// Pause between two lists: in a folder that changes all the time, each of them is a look at all shares.
const LIST_PAUSE: Duration = Duration::from_millis(400);
// So that at most a fifth of the time goes into lists.
const LIST_PAUSE_FACTOR: u32 = 4;
/// Pause after a list that could not be made or sent, as while the disk is full.
const FAILED_LIST_PAUSE: Duration = Duration::from_secs(5);
/// Bounds of the pause before a refused list is tried again.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(2);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(600);

/// The schedule of retries of a refused list.
#[derive(Debug, Default)]
pub(super) struct RegistrationRetry {
    refused: Option<RefusedRegistration>,
}

#[derive(Debug)]
struct RefusedRegistration {
    retry_at: Instant,
    backoff: Backoff,
}

impl RegistrationRetry {
    /// Returns the time of the next attempt; `None` if the list isn't refused.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.refused.as_ref().map(|refused| refused.retry_at)
    }

    /// Records that the tracker accepted the list.
    pub(super) fn note_accepted(&mut self) {
        self.refused = None;
    }

    /// Records that the tracker refused the list. Returns true for the first refusal in a row, which is reported.
    pub(super) fn note_refused(&mut self, retry_after: Option<Duration>, now: Instant) -> bool {
        let before = self.refused.take().map(|refused| refused.backoff);
        let mut backoff = before.unwrap_or(Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY));
        // The tracker's own pause counts.
        if let Some(asked) = retry_after {
            backoff.continue_from(asked);
        }
        self.refused = Some(RefusedRegistration { retry_at: now + backoff.next_delay(), backoff });
        before.is_none()
    }
}

/// True if the tracker refused the list only, not the session: the node stays present.
pub(super) fn is_list_refusal(error: &Error) -> bool {
    let Error::Tracker(error) = error else { return false };
    // These codes reject the session itself.
    let is_of_session = |code| {
        matches!(
            code,
            TrackerErrorCode::NotLoggedIn
                | TrackerErrorCode::Forbidden
                | TrackerErrorCode::KeyMismatch
                | TrackerErrorCode::AuthFailed
        )
    };
    // Without a code the connection failed, not the list.
    error.code().is_some_and(|code| !is_of_session(code))
}

/// Returns the tracker's words of a refusal, and the pause that it asks for.
pub(super) fn refusal_of(error: &Error) -> (TranslatedText, Option<Duration>) {
    match error {
        Error::Tracker(TrackerError::Refused { refusal, retry_after }) => {
            (refusal.message.to_string().into(), *retry_after)
        }
        other => (TranslatedText::of(other), None),
    }
}

/// The list that the tracker has: the names in order, each with a number for its size and hash.
#[derive(Debug, Default)]
pub(super) struct RegisteredFiles(Vec<(FileName, u64)>);

/// The difference between the tracker's list and a newer one.
#[derive(Debug, PartialEq, Eq)]
struct ListChange {
    removed: Vec<FileName>,
    /// The positions of new and changed files in the newer list.
    added: Vec<usize>,
}

/// The list of this connection, and the pace of its updates.
#[derive(Debug)]
pub(super) struct RegistrationState {
    /// `None` until the list was registered on this connection.
    registered: Option<RegisteredFiles>,
    next_at: Instant,
}

/// The result of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RegisteredCount {
    /// Number of listed files.
    pub(super) count: usize,
    /// True if it isn't the number of the list before.
    pub(super) is_new: bool,
}

impl RegistrationState {
    pub(super) fn new(now: Instant) -> Self {
        Self { registered: None, next_at: now }
    }

    /// Forgets the list: the tracker may have another one, or none.
    pub(super) fn forget(&mut self) {
        self.registered = None;
    }

    /// Returns the time before which no further list is sent.
    pub(super) const fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Puts off the next list, after one that failed.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.next_at = self.next_at.max(now + FAILED_LIST_PAUSE);
    }

    /// Registers what is shared with everybody: the shares that exist on the disk, and the partial files. The tracker learns
    /// of nothing else.
    ///
    /// # Errors
    /// [`Error::Tracker`], or an error of the profile. Files of earlier requests stay listed.
    pub(super) async fn register(
        &mut self,
        me: &LocalUser,
        link: &mut TrackerConnection,
    ) -> Result<RegisteredCount, Error> {
        let (profile, begun) = (me.profile.clone(), Instant::now());
        let files = run_blocking(move || listed_files(&profile)).await?;
        let ended = Instant::now();
        self.next_at = ended + LIST_PAUSE.max(ended.duration_since(begun) * LIST_PAUSE_FACTOR);
        let list = RegisteredFiles::of(&files);
        let (count, is_new) =
            (list.0.len(), self.registered.as_ref().is_none_or(|before| before.0.len() != list.0.len()));
        // Unknown until all requests succeed.
        let change = self.registered.take().and_then(|before| before.change_to(&list));
        match change {
            None => send_files(me, link, FilesMode::Replace, files).await?,
            Some(ListChange { removed, added }) => {
                // Removed first: a list that is full has room for the others then.
                send_files(me, link, FilesMode::Remove, removed.into_iter().map(unlisted_file).collect()).await?;
                let added = added.into_iter().filter_map(|position| files.get(position).cloned()).collect();
                send_files(me, link, FilesMode::Add, added).await?;
            }
        }
        self.registered = Some(list);
        Ok(RegisteredCount { count, is_new })
    }
}

impl RegisteredFiles {
    /// Builds it from files that are in the order of their names.
    fn of(files: &[SharedFile]) -> Self {
        Self(files.iter().map(|file| (file.name.clone(), digest(file))).collect())
    }

    /// Returns the difference; `None` if the whole list is shorter to tell.
    fn change_to(&self, list: &Self) -> Option<ListChange> {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        // Both lists are in the order of their names.
        let mut before = self.0.iter().peekable();
        for (position, (name, now)) in list.0.iter().enumerate() {
            while let Some((gone, _)) = before.next_if(|(old, _)| old < name) {
                removed.push(gone.clone());
            }
            if before.next_if(|(old, _)| old == name).is_none_or(|(_, then)| then != now) {
                added.push(position);
            }
        }
        removed.extend(before.map(|(gone, _)| gone.clone()));
        (removed.len() + added.len() <= list.0.len() / 2 + FILES_PER_REQUEST).then_some(ListChange { removed, added })
    }
}

/// Returns a number that differs for another size or hash: the start of the hash is as good as random.
fn digest(file: &SharedFile) -> u64 {
    let hash = file.hash.as_str().get(..16).and_then(|start| u64::from_str_radix(start, 16).ok());
    hash.unwrap_or_default().wrapping_add(file.size)
}

/// Returns a file as a removal names it: only the name counts.
fn unlisted_file(name: FileName) -> SharedFile {
    SharedFile { name, size: 0, hash: ContentHash::of(&[]).into() }
}

/// Sends files in as many requests as they need. A list that replaces another is sent even if it is empty.
async fn send_files(
    me: &LocalUser,
    link: &mut TrackerConnection,
    mut mode: FilesMode,
    files: Vec<SharedFile>,
) -> Result<(), Error> {
    let mut files = files.into_iter();
    loop {
        let batch: Vec<SharedFile> = files.by_ref().take(FILES_PER_REQUEST).collect();
        if batch.is_empty() && mode != FilesMode::Replace {
            return Ok(());
        }
        let request =
            RegisterFilesRequest { user: me.user.clone(), files: batch, mode, proof: SpeakerProof::default() };
        let RegisterFilesReply { .. } = link.call(&TrackerRequest::RegisterFiles(request)).await?;
        // The first request has replaced the list; the others belong to it.
        if mode == FilesMode::Replace {
            mode = FilesMode::Add;
        }
    }
}

/// Returns all files to be listed, in the order of their names, each name once.
fn listed_files(profile: &Profile) -> Result<Vec<SharedFile>, Error> {
    let (mut files, private) = (Vec::new(), PrivateData::of(profile));
    for_each_share(profile, &Audience::Everybody, "", |share| {
        // A changed file is being hashed again; until then it is listed with its earlier content.
        if freshness(&share) != ShareFreshness::Missing && !private.is_private_share(&share) {
            files.push(SharedFile { name: share.name, size: share.version.size, hash: share.hash.into() });
        }
    })?;
    files.extend(partial_files(profile)?);
    // The sort is stable: of a share and a partial file of one name, the share stays.
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(files)
}

/// Returns the partial files that are offered while they are fetched, and removes from the record those that are gone.
fn partial_files(profile: &Profile) -> Result<Vec<SharedFile>, Error> {
    let mut files: Vec<SharedFile> = Vec::new();
    // The query orders them by name, so that duplicates of a name are neighbours.
    for part in profile.partials()? {
        if !part.path.exists() {
            profile.remove_partial(&part.path)?;
        } else if part.audience.is_public()
            && profile.share(&part.audience, &part.name)?.is_none()
            && files.last().is_none_or(|last| last.name != part.name)
        {
            files.push(SharedFile { name: part.name, size: part.layout.size(), hash: part.hash.into() });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn list(files: &BTreeMap<u8, u8>) -> Vec<SharedFile> {
        let file = |(name, content): (&u8, &u8)| SharedFile {
            name: format!("{name:03}").parse().unwrap(),
            size: u64::from(*content),
            hash: ContentHash::of(&[*content]).into(),
        };
        files.iter().map(file).collect()
    }

    proptest! {
        #[test]
        fn a_change_makes_the_new_list_of_the_old_one(
            before in proptest::collection::btree_map(0_u8..20, 0_u8..3, 0..20),
            after in proptest::collection::btree_map(0_u8..20, 0_u8..3, 0..20),
        ) {
            let (old, new) = (list(&before), list(&after));
            let change = RegisteredFiles::of(&old).change_to(&RegisteredFiles::of(&new)).unwrap();
            let mut names: BTreeMap<_, _> = old.into_iter().map(|file| (file.name.clone(), file)).collect();
            change.removed.iter().for_each(|name| assert!(names.remove(name).is_some_and(|file| !new.contains(&file))));
            for file in change.added.iter().map(|position| new[*position].clone()) {
                prop_assert!(names.insert(file.name.clone(), file.clone()) != Some(file));
            }
            prop_assert_eq!(names.into_values().collect::<Vec<_>>(), new);
        }
    }

    #[test]
    fn a_refusal_is_news_once_and_tried_again_when_the_tracker_says() {
        let (mut retry, mut now) = (RegistrationRetry::default(), Instant::now());
        assert_eq!(retry.retry_at(), None);
        assert!(retry.note_refused(Some(Duration::from_secs(60)), now));
        assert_eq!(retry.retry_at(), Some(now + Duration::from_secs(60)));
        now += Duration::from_secs(60);
        assert!(!retry.note_refused(Some(Duration::ZERO), now));
        assert_eq!(retry.retry_at(), Some(now + MIN_RETRY_DELAY));
        retry.note_accepted();
        assert_eq!(retry.retry_at(), None);
        assert!(retry.note_refused(None, now));
    }

    #[test]
    fn a_list_that_failed_is_tried_again_after_a_pause() {
        let now = Instant::now();
        let mut registration = RegistrationState::new(now);
        registration.postpone(now);
        assert_eq!(registration.next_at(), now + FAILED_LIST_PAUSE);
    }

    #[test]
    fn without_a_word_from_the_tracker_it_is_tried_less_and_less() {
        let (mut retry, now) = (RegistrationRetry::default(), Instant::now());
        let mut pause = || {
            retry.note_refused(None, now);
            retry.retry_at().unwrap() - now
        };
        assert_eq!([pause(), pause(), pause()], [MIN_RETRY_DELAY, 2 * MIN_RETRY_DELAY, 4 * MIN_RETRY_DELAY]);
        assert_eq!((0..20).map(|_| pause()).last(), Some(MAX_RETRY_DELAY));
    }
}
