//! Listing of the files that another user shares now.

use shared::UntrustedText;
use shared::names::matching_key;
use shared::peer::{FileStat, PeerErrorCode};

use super::fetch::{SourceShares, list_files};
use super::{Error, LocalUser, peer_lookup};
use crate::net::endpoint::Endpoint;
use crate::net::link::DialTarget;

/// Lists the files of `target` whose names start with `prefix`, or else look as if they did. The inner `Err` is a name
/// that can't be a file name here. Fails with [`Error::Link`] or [`Error::Stream`] if the peer can't be reached or
/// doesn't answer.
pub async fn list_remote_files(
    me: &LocalUser,
    target: &DialTarget,
    prefix: &str,
) -> Result<Vec<Result<FileStat, UntrustedText>>, Error> {
    let endpoint = Endpoint::client(&me.identity, None).map_err(|why| Error::link(&target.user, why))?;
    let link = peer_lookup::dial(me, &endpoint, target, &[]).await?;
    let files = list_lookalikes(SourceShares { link: &link, room: None }, prefix).await;
    link.close(PeerErrorCode::Done);
    // Without draining, the peer would learn of the end only by a timeout.
    endpoint.drain().await;
    files
}

/// Lists names that start with `prefix`; if there are none, names that look as if they did.
async fn list_lookalikes(
    shares: SourceShares<'_>,
    prefix: &str,
) -> Result<Vec<Result<FileStat, UntrustedText>>, Error> {
    let files = list_files(shares, prefix).await?;
    if !files.is_empty() || prefix.is_empty() {
        return Ok(files);
    }
    // Invisible characters may stand anywhere, even in front: only the whole list can be searched for lookalikes.
    let mut files = list_files(shares, "").await?;
    let key = matching_key(prefix);
    files.retain(|file| file.as_ref().is_ok_and(|file| matching_key(file.name.as_str()).starts_with(&*key)));
    Ok(files)
}
