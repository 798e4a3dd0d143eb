//! The tracker's list of what this node shares: what goes into it, and when it is tried again after the tracker refused
//! it. A refused list costs nothing but itself: the node is present all the same, and whoever knows a name can fetch it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | files in one request | `FILES_PER_REQUEST` | the next request |
//! | attempts at a list that is refused | one each time the tracker says, but one each `SOONEST` at most and one each `LATEST` at least | |
//! | words about it | one, until a list is taken | none |

use std::time::{Duration, Instant};

use shared::tracker::{CountReply, ErrorCode, FilesMode, Proof, RegisterFiles, Request, SharedFile};

use crate::engine::private_data::PrivateData;
use crate::engine::share::{Freshness, for_each_share, freshness};
use crate::engine::{Error, Me, blocking};
use crate::net::TrackerError;
use crate::net::tracker::TrackerLink;
use crate::profile::Profile;

/// Files in one REGISTER_FILES: far below the tracker's limit of 16 MiB, whatever their names.
const FILES_PER_REQUEST: usize = 4000;
/// The shortest pause before a refused list is tried again.
const SOONEST: Duration = Duration::from_secs(2);
/// The longest.
const LATEST: Duration = Duration::from_secs(600);

/// Keeps the time at which a refused list is tried again.
#[derive(Debug, Default)]
pub(super) struct ListRetry {
    refused: Option<RefusedList>,
}

#[derive(Debug)]
struct RefusedList {
    again_at: Instant,
    wait: Duration,
}

impl ListRetry {
    /// Returns when the list is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.refused.as_ref().map(|refused| refused.again_at)
    }

    /// Notes that the tracker took the list.
    pub(super) fn taken(&mut self) {
        self.refused = None;
    }

    /// Notes that the tracker refused the list; says whether that is news.
    pub(super) fn refused(&mut self, retry_after: Option<Duration>, now: Instant) -> bool {
        let before = self.refused.as_ref().map(|refused| refused.wait);
        // What the tracker says counts; without a word from it, each pause is twice as long as the one before.
        let wait = retry_after.or(before.map(|before| before * 2)).unwrap_or(SOONEST).clamp(SOONEST, LATEST);
        self.refused = Some(RefusedList { again_at: now + wait, wait });
        before.is_none()
    }
}

/// Returns whether the tracker refused the list and nothing else: who is present stays so.
pub(super) fn is_only_the_list(error: &Error) -> bool {
    let Error::Tracker(error) = error else { return false };
    // These say that the session is not what it was.
    let is_of_session = |code| {
        matches!(code, ErrorCode::NotLoggedIn | ErrorCode::Forbidden | ErrorCode::KeyMismatch | ErrorCode::AuthFailed)
    };
    error.code().is_some_and(|code| !is_of_session(code))
}

/// Returns what the tracker said when it refused something, and when to try again.
pub(super) fn words_of(error: &Error) -> (String, Option<Duration>) {
    match error {
        Error::Tracker(TrackerError::Refused { refusal, retry_after }) => (refusal.message.to_string(), *retry_after),
        other => (other.to_string(), None),
    }
}

/// Puts the shares that are on the disk as they were hashed into the tracker's catalogue; tells how many.
///
/// # Errors
/// [`Error::Tracker`], or what is wrong with the profile. What was taken before stays listed.
pub(super) async fn register_shares(me: &Me, link: &mut TrackerLink) -> Result<usize, Error> {
    let profile = me.profile.clone();
    let files = blocking(move || {
        let (mut files, private) = (Vec::new(), PrivateData::of(&profile));
        for_each_share(&profile, "", |share| {
            // One that changed is being hashed again; until then it has at least its name.
            if freshness(&share) != Freshness::Missing && !private.covers(&share) {
                files.push(SharedFile { name: share.name, size: share.id.size, hash: share.hash.into() });
            }
        })?;
        files.extend(offered_parts(&profile)?);
        Ok(files)
    })
    .await?;
    let total = files.len();
    let mut mode = FilesMode::Replace;
    let mut files = files.into_iter();
    loop {
        let some: Vec<SharedFile> = files.by_ref().take(FILES_PER_REQUEST).collect();
        if some.is_empty() && mode == FilesMode::Add {
            return Ok(total);
        }
        let request = RegisterFiles { user: me.user.clone(), files: some, mode, proof: Proof::default() };
        let CountReply { .. } = link.call(&Request::RegisterFiles(request)).await?;
        mode = FilesMode::Add;
    }
}

/// Parts of files that are still being fetched; those that were given up since are forgotten.
fn offered_parts(profile: &Profile) -> Result<Vec<SharedFile>, Error> {
    let mut files: Vec<SharedFile> = Vec::new();
    for part in profile.partials()? {
        if !part.part.exists() {
            profile.remove_partial(&part.part)?;
        } else if profile.share(&part.name)?.is_none() && files.last().is_none_or(|last| last.name != part.name) {
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
        let (mut retry, mut now) = (ListRetry::default(), Instant::now());
        assert_eq!(retry.due(), None);
        assert!(retry.refused(Some(Duration::from_secs(60)), now));
        assert_eq!(retry.due(), Some(now + Duration::from_secs(60)));
        now += Duration::from_secs(60);
        assert!(!retry.refused(Some(Duration::ZERO), now));
        assert_eq!(retry.due(), Some(now + SOONEST));
        retry.taken();
        assert_eq!(retry.due(), None);
        assert!(retry.refused(None, now));
    }

    #[test]
    fn without_a_word_from_the_tracker_it_is_tried_less_and_less() {
        let (mut retry, now) = (ListRetry::default(), Instant::now());
        let mut pause = || {
            retry.refused(None, now);
            retry.due().unwrap() - now
        };
        assert_eq!([pause(), pause(), pause()], [SOONEST, 2 * SOONEST, 4 * SOONEST]);
        assert_eq!((0..20).map(|_| pause()).last(), Some(LATEST));
    }
}
