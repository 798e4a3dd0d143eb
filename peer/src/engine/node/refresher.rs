//! Hashing shares again that changed on the disk.

use std::sync::Arc;
use std::time::Duration;

use shared::FileName;
use tokio_util::sync::CancellationToken;

use super::keeper::TrackerHandle;
use crate::engine::event::{Event, Events};
use crate::engine::serve::StaleShares;
use crate::engine::share::{self, Freshness, for_each_share, freshness};
use crate::engine::{Error, Me, blocking};
use crate::profile::Profile;

/// Between two rounds: a file that is being written to is not hashed without end.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs until `stop`: first what changed while no node ran, then what is found to have changed.
pub(super) async fn run(
    me: Me,
    stale: Arc<StaleShares>,
    tracker: TrackerHandle,
    events: Events,
    stop: CancellationToken,
) -> Result<(), Error> {
    let (profile, changed) = (me.profile.clone(), stale.clone());
    let look = blocking(move || {
        for_each_share(&profile, "", |share| {
            if freshness(&share) == Freshness::Changed {
                changed.add(share.name);
            }
        })
    });
    look.await?;
    loop {
        let names = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            names = stale.take() => names,
        };
        for name in names {
            events.send(Event::Stale { name: name.clone() });
            let profile = me.profile.clone();
            let refreshed = blocking(move || refresh_if_needed(&profile, &name));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                refreshed = refreshed => if let Err(error) = refreshed {
                    tracing::error!("a share could not be hashed again: {error}");
                },
            }
        }
        tracker.shares_changed();
        tokio::time::sleep(PAUSE).await;
    }
}

/// The share may have been hashed again since it was found stale, by us or by `peer share`.
fn refresh_if_needed(profile: &Profile, name: &FileName) -> Result<(), Error> {
    for (user, offered) in profile.offers_named(name)? {
        if freshness(&offered) == Freshness::Changed {
            share::refresh_offer(profile, &user, &offered)?;
        }
    }
    match profile.share(name)? {
        Some(now) if freshness(&now) != Freshness::Fresh => share::refresh(profile, &now).map(|_| ()),
        _ => Ok(()),
    }
}
