//! What `peer fetch --retry` will fetch: what was begun, until it is known what came of it.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Error;
use crate::engine::fetch::{Destination, Ended, Request};
use crate::profile::Profile;

/// What ends sooner is not written down before its end: to write something that lasts takes longer than to fetch
/// something small.
const WORTH_WRITING: Duration = Duration::from_millis(200);

/// A fetch as the profile remembers it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// What to fetch.
    pub(super) request: Request,
    /// Offer it as well.
    pub(super) share: bool,
}

/// What is remembered of a fetch that is under way.
#[derive(Debug)]
pub(super) struct Memory<'a> {
    profile: &'a Profile,
    begun: Remembered,
}

/// What is missing of the last fetch.
pub(super) fn last(profile: &Profile) -> Result<Remembered, Error> {
    let nothing = || Error::Usage("nothing failed the last time: there is nothing to retry".to_owned());
    let text = profile.last_failed_fetch()?.ok_or_else(nothing)?;
    serde_json::from_str(&text).map_err(|_| nothing())
}

impl<'a> Memory<'a> {
    /// Of a fetch that begins.
    pub(super) fn new(profile: &'a Profile, request: &Request, share: bool) -> Self {
        Self { profile, begun: Remembered { request: request.clone(), share } }
    }

    /// Writes down what was begun, should it end without a word. To be dropped when it ends.
    pub(super) async fn keep(&self) -> Infallible {
        // What an earlier one left would be taken for what this one did.
        let is_worth_it = self.profile.last_failed_fetch().is_ok_and(|last| last.is_some());
        if !is_worth_it {
            tokio::time::sleep(WORTH_WRITING).await;
        }
        if let Err(why) = self.write(&self.begun) {
            tracing::warn!("what is being fetched is not written down: {why}");
        }
        std::future::pending().await
    }

    /// Writes down what is missing, if anything is.
    pub(super) fn end(&self, ended: &Ended) -> Result<(), Error> {
        match (&ended.rest, &ended.error) {
            (Some(rest), _) => self.write(&Remembered { request: rest.clone(), share: self.begun.share }),
            // It made no sense: what is remembered is still what is missing.
            (None, Some(Error::Usage(_))) => Ok(()),
            (None, _) => Ok(self.profile.set_last_failed_fetch(None)?),
        }
    }

    fn write(&self, what: &Remembered) -> Result<(), Error> {
        // Whatever the working folder of the retry.
        let whole = |path: &Path| std::path::absolute(path).map_err(Error::disk(path));
        let destination = match &what.request.destination {
            Destination::Folder(path) => Destination::Folder(whole(path)?),
            Destination::FileOrFolder(path) => Destination::FileOrFolder(whole(path)?),
            Destination::Stream(path) => Destination::Stream(whole(path)?),
            Destination::Stdout => Destination::Stdout,
        };
        let request = Request { destination, ..what.request.clone() };
        let text = serde_json::to_string(&Remembered { request, share: what.share });
        let text = text.map_err(|why| Error::Internal(why.to_string()))?;
        Ok(self.profile.set_last_failed_fetch(Some(&text))?)
    }
}
