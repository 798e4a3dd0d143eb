//! Hashing shares again that changed on the disk.

use std::collections::HashSet;

use shared::FileName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::keeper::TrackerHandle;
use crate::engine::event::{Event, Events};
use crate::engine::share::{self, Freshness, for_each_share, freshness};
use crate::engine::{Error, Me, blocking};
use crate::profile::Share;

/// Runs until `stop`: first what changed while no node ran, then what is found to have changed.
pub(super) async fn run(
    me: Me,
    mut stale: mpsc::UnboundedReceiver<Share>,
    tracker: TrackerHandle,
    events: Events,
    stop: CancellationToken,
) -> Result<(), Error> {
    let profile = me.profile.clone();
    let mut waiting = blocking(move || {
        let mut changed = Vec::new();
        for_each_share(&profile, "", |share| {
            if freshness(&share) == Freshness::Changed {
                changed.push(share);
            }
        })?;
        Ok(changed)
    })
    .await?;
    loop {
        if waiting.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                share = stale.recv() => waiting.extend(share),
            }
        }
        while let Ok(share) = stale.try_recv() {
            waiting.push(share);
        }
        let mut seen: HashSet<FileName> = HashSet::new();
        waiting.retain(|share| seen.insert(share.name.clone()));
        for share in std::mem::take(&mut waiting) {
            events.send(Event::Stale { name: share.name.clone() });
            let profile = me.profile.clone();
            let refreshed = blocking(move || refresh_if_needed(&profile, &share));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                refreshed = refreshed => if let Err(error) = refreshed {
                    tracing::error!("a share could not be hashed again: {error}");
                },
            }
        }
        tracker.shares_changed();
    }
}

/// The share may have been hashed again since it was found stale, by us or by `peer share`.
fn refresh_if_needed(profile: &crate::profile::Profile, stale: &Share) -> Result<(), Error> {
    match profile.share(&stale.name)? {
        Some(now) if freshness(&now) != Freshness::Fresh => share::refresh(profile, &now).map(|_| ()),
        _ => Ok(()),
    }
}
