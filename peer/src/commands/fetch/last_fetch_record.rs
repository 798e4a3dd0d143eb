//! Record of the last fetch, for `peer fetch --retry`: the whole request when a fetch begins, and what is missing when it ends.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use localization::tr;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::engine::fetch::{FetchDestination, FetchReport, FetchRequest};
use crate::engine::{Error, run_blocking};
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

/// Writes the record of a fetch that runs. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct FetchRecorder {
    profile: Profile,
    started: Arc<FetchRecord>,
    /// True from the record of the end on, which that of the start must not replace. Locked while a record is written.
    has_ended: Arc<Mutex<bool>>,
}

/// Returns the fetch of the files that are missing of the last one.
pub(super) fn load_last(profile: &Profile) -> Result<FetchRecord, Error> {
    let nothing = || Error::Usage(tr!("nothing failed the last time: there is nothing to retry"));
    let text = profile.last_failed_fetch()?.ok_or_else(nothing)?;
    // A record that this version can't read is as good as none: the user repeats the command.
    serde_json::from_str(&text).map_err(|_| nothing())
}

impl FetchRecorder {
    /// Prepares the record of a fetch that begins.
    pub(super) fn new(profile: &Profile, request: &FetchRequest, share: bool) -> Self {
        let started = Arc::new(FetchRecord { request: request.clone(), share });
        Self { profile: profile.clone(), started, has_ended: Arc::default() }
    }

    /// Records the whole request, in case that the process is killed. Never returns: the caller drops it at the end.
    pub(super) async fn record_start(&self) -> Infallible {
        // A record that an earlier fetch left would be taken for this one's: replace it at once.
        let is_worth_it = self.profile.last_failed_fetch().is_ok_and(|last| last.is_some());
        if !is_worth_it {
            tokio::time::sleep(RECORD_DELAY).await;
        }
        let recorder = self.clone();
        // On another thread, which goes on if this is dropped: the end waits for it by the lock.
        if let Err(why) = run_blocking(move || recorder.write_start()).await {
            tracing::warn!("what is being fetched is not written down: {why}");
        }
        std::future::pending().await
    }

    /// Records the files that are missing, or removes the record if none are.
    pub(super) async fn record_end(&self, ended: &FetchReport) -> Result<(), Error> {
        // A rejected request fetched nothing: the record of the fetch before it still holds.
        let holds = ended.remaining.is_none() && matches!(ended.error, Some(Error::Usage(_)));
        let share = self.started.share;
        let rest = ended.remaining.as_ref().map(|rest| FetchRecord { request: rest.clone(), share });
        let recorder = self.clone();
        run_blocking(move || {
            let mut has_ended = recorder.has_ended.lock();
            *has_ended = true;
            match rest {
                Some(rest) => recorder.write(&rest),
                None if holds => Ok(()),
                None => Ok(recorder.profile.set_last_failed_fetch(None)?),
            }
        })
        .await
    }

    fn write_start(&self) -> Result<(), Error> {
        let has_ended = self.has_ended.lock();
        if *has_ended { Ok(()) } else { self.write(&self.started) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fetch::FetchSummary;

    #[tokio::test]
    async fn the_record_of_the_start_never_comes_after_that_of_the_end() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let destination = FetchDestination::Folder(home.path().to_owned());
        let request = FetchRequest::new("bob".parse().unwrap(), Vec::new(), destination, Duration::from_secs(9));
        let recorder = FetchRecorder::new(&profile, &request, false);
        recorder.write_start().unwrap();
        assert!(profile.last_failed_fetch().unwrap().is_some());
        let ended = FetchReport { summary: FetchSummary::default(), error: None, remaining: None };
        recorder.record_end(&ended).await.unwrap();
        recorder.write_start().unwrap();
        assert_eq!(profile.last_failed_fetch().unwrap(), None);
    }
}
