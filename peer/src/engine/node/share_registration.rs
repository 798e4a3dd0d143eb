//! Registration of this node's shares in the tracker's catalogue, and the schedule of retries after a refusal. A
//! refused list costs nothing else: the node stays present, and users who know a file's name can fetch it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | files in one request | `FILES_PER_REQUEST` | the next request |
//! | attempts at a refused list | when the tracker says, but `MIN_RETRY_DELAY` to `MAX_RETRY_DELAY` after the last | |
//! | reports to the user | one, until a list is accepted | none |

use std::time::{Duration, Instant};

use shared::tracker::{
    FilesMode, RegisterFilesReply, RegisterFilesRequest, SharedFile, SpeakerProof, TrackerErrorCode, TrackerRequest,
};

use crate::engine::private_data::PrivateData;
use crate::engine::share::{ShareFreshness, for_each_share, freshness};
use crate::engine::{Error, LocalUser, run_blocking};
use crate::net::TrackerError;
use crate::net::tracker::TrackerConnection;
use crate::profile::{Audience, Profile};
use crate::util::Backoff;

/// Files in one REGISTER_FILES: far below the tracker's limit of 16 MiB, whatever their names.
const FILES_PER_REQUEST: usize = 4000;
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
    error.code().is_some_and(|code| !is_of_session(code))
}

/// Returns the tracker's words of a refusal, and the pause that it asks for.
pub(super) fn refusal_of(error: &Error) -> (String, Option<Duration>) {
    match error {
        Error::Tracker(TrackerError::Refused { refusal, retry_after }) => (refusal.message.to_string(), *retry_after),
        other => (other.to_string(), None),
    }
}

/// Registers what is shared with everybody: the shares that exist on the disk, and the partial files. The tracker learns of
/// nothing else. Returns their number.
///
/// # Errors
/// [`Error::Tracker`], or an error of the profile. Files of earlier requests stay listed.
pub(super) async fn register_shares(me: &LocalUser, link: &mut TrackerConnection) -> Result<usize, Error> {
    let profile = me.profile.clone();
    let files = run_blocking(move || {
        let (mut files, private) = (Vec::new(), PrivateData::of(&profile));
        for_each_share(&profile, &Audience::Everybody, "", |share| {
            // A changed file is being hashed again; until then it is listed with its earlier content.
            if freshness(&share) != ShareFreshness::Missing && !private.is_private_share(&share) {
                files.push(SharedFile { name: share.name, size: share.version.size, hash: share.hash.into() });
            }
        })?;
        files.extend(partial_files(&profile)?);
        Ok(files)
    })
    .await?;
    let total = files.len();
    // The first request replaces the earlier list, and is sent even when there is nothing to list.
    let mut mode = FilesMode::Replace;
    let mut files = files.into_iter();
    loop {
        let batch: Vec<SharedFile> = files.by_ref().take(FILES_PER_REQUEST).collect();
        if batch.is_empty() && mode == FilesMode::Add {
            return Ok(total);
        }
        let request =
            RegisterFilesRequest { user: me.user.clone(), files: batch, mode, proof: SpeakerProof::default() };
        let RegisterFilesReply { .. } = link.call(&TrackerRequest::RegisterFiles(request)).await?;
        mode = FilesMode::Add;
    }
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
    use super::*;

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
