//! What `peer fetch --retry` will fetch: what was begun, until it is known what came of it.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Error;
use crate::engine::fetch::{FetchDestination, FetchReport, FetchRequest};
use crate::profile::Profile;

/// What ends sooner is not written down before its end: to write something that lasts takes longer than to fetch
/// something small.
const RECORD_DELAY: Duration = Duration::from_millis(200);

/// A fetch as the profile remembers it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FetchRecord {
    /// What to fetch.
    pub(super) request: FetchRequest,
    /// Offer it as well.
    pub(super) share: bool,
}

/// What is remembered of a fetch that is under way.
#[derive(Debug)]
pub(super) struct RetryRecorder<'a> {
    profile: &'a Profile,
    started: FetchRecord,
}

/// What is missing of the last fetch.
pub(super) fn load_last(profile: &Profile) -> Result<FetchRecord, Error> {
    let nothing = || Error::Usage("nothing failed the last time: there is nothing to retry".to_owned());
    let text = profile.last_failed_fetch()?.ok_or_else(nothing)?;
    serde_json::from_str(&text).map_err(|_| nothing())
}

impl<'a> RetryRecorder<'a> {
    /// Of a fetch that begins.
    pub(super) fn new(profile: &'a Profile, request: &FetchRequest, share: bool) -> Self {
        Self { profile, started: FetchRecord { request: request.clone(), share } }
    }

    /// Writes down what was begun, should it end without a word. To be dropped when it ends.
    pub(super) async fn record_start(&self) -> Infallible {
        // What an earlier one left would be taken for what this one did.
        let is_worth_it = self.profile.last_failed_fetch().is_ok_and(|last| last.is_some());
        if !is_worth_it {
            tokio::time::sleep(RECORD_DELAY).await;
        }
        if let Err(why) = self.write(&self.started) {
            tracing::warn!("what is being fetched is not written down: {why}");
        }
        std::future::pending().await
    }

    /// Writes down what is missing, if anything is.
    pub(super) fn record_end(&self, ended: &FetchReport) -> Result<(), Error> {
        match (&ended.remaining, &ended.error) {
            (Some(rest), _) => self.write(&FetchRecord { request: rest.clone(), share: self.started.share }),
            // It made no sense: what is remembered is still what is missing.
            (None, Some(Error::Usage(_))) => Ok(()),
            (None, _) => Ok(self.profile.set_last_failed_fetch(None)?),
        }
    }

    fn write(&self, what: &FetchRecord) -> Result<(), Error> {
        // Whatever the working folder of the retry.
        let whole = |path: &Path| std::path::absolute(path).map_err(Error::disk(path));
        let destination = match &what.request.destination {
            FetchDestination::Folder(path) => FetchDestination::Folder(whole(path)?),
            FetchDestination::FileOrFolder(path) => FetchDestination::FileOrFolder(whole(path)?),
            FetchDestination::Stream(path) => FetchDestination::Stream(whole(path)?),
            FetchDestination::Stdout => FetchDestination::Stdout,
        };
        let request = FetchRequest { destination, ..what.request.clone() };
        let text = serde_json::to_string(&FetchRecord { request, share: what.share });
        let text = text.map_err(|why| Error::Internal(why.to_string()))?;
        Ok(self.profile.set_last_failed_fetch(Some(&text))?)
    }
}
