//! Record of the last fetch, for `peer fetch --retry`: the whole request when a fetch begins, and what is missing when it ends.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use localization::tr;
use serde::{Deserialize, Serialize};

use crate::engine::Error;
use crate::engine::fetch::{FetchDestination, FetchReport, FetchRequest};
use crate::profile::Profile;

/// A fetch that ends sooner is recorded only at its end: a durable write takes longer than a small fetch.
const RECORD_DELAY: Duration = Duration::from_millis(200);

/// A fetch as the profile stores it, in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FetchRecord {
    /// The names, the user to ask and the options.
    pub(super) request: FetchRequest,
    /// True if the files are shared as well.
    pub(super) share: bool,
}

/// Writes the record of a fetch that runs.
#[derive(Debug)]
pub(super) struct FetchRecorder<'a> {
    profile: &'a Profile,
    started: FetchRecord,
}

/// Returns the fetch of the files that are missing of the last one.
pub(super) fn load_last(profile: &Profile) -> Result<FetchRecord, Error> {
    let nothing = || Error::Usage(tr!("nothing failed the last time: there is nothing to retry"));
    let text = profile.last_failed_fetch()?.ok_or_else(nothing)?;
    // A record that this version can't read is as good as none: the user repeats the command.
    serde_json::from_str(&text).map_err(|_| nothing())
}

impl<'a> FetchRecorder<'a> {
    /// Prepares the record of a fetch that begins.
    pub(super) fn new(profile: &'a Profile, request: &FetchRequest, share: bool) -> Self {
        Self { profile, started: FetchRecord { request: request.clone(), share } }
    }

    /// Records the whole request, in case that the process is killed. Never returns: the caller drops it at the end.
    pub(super) async fn record_start(&self) -> Infallible {
        // A record that an earlier fetch left would be taken for this one's: replace it at once.
        let is_worth_it = self.profile.last_failed_fetch().is_ok_and(|last| last.is_some());
        if !is_worth_it {
            tokio::time::sleep(RECORD_DELAY).await;
        }
        if let Err(why) = self.write(&self.started) {
            tracing::warn!("what is being fetched is not written down: {why}");
        }
        std::future::pending().await
    }

    /// Records the files that are missing, or removes the record if none are.
    pub(super) fn record_end(&self, ended: &FetchReport) -> Result<(), Error> {
        match (&ended.remaining, &ended.error) {
            (Some(rest), _) => self.write(&FetchRecord { request: rest.clone(), share: self.started.share }),
            // A rejected request fetched nothing: the record of the fetch before it still holds.
            (None, Some(Error::Usage(_))) => Ok(()),
            (None, _) => Ok(self.profile.set_last_failed_fetch(None)?),
        }
    }

    fn write(&self, what: &FetchRecord) -> Result<(), Error> {
        // A retry may run in another working folder.
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
