//! Looking at what somebody shares, live.

use shared::UntrustedText;
use shared::names::matching_key;
use shared::peer::{FileStat, PeerErrorCode};

use super::fetch::list_files;
use super::{Error, LocalUser, peer_lookup};
use crate::net::endpoint::Endpoint;
use crate::net::link::{DialTarget, Link};

/// Everything that `target` shares under names that start with `prefix`, or else with what looks the same; what can't be a
/// file by the name it has there.
///
/// # Errors
/// [`Error`]: no link, no answer.
pub async fn list_remote_files(
    me: &LocalUser,
    target: &DialTarget,
    prefix: &str,
) -> Result<Vec<Result<FileStat, UntrustedText>>, Error> {
    let endpoint = Endpoint::client(&me.identity, None).map_err(|why| Error::link(&target.user, why))?;
    let link = peer_lookup::dial(me, &endpoint, target, &[]).await?;
    let files = list_lookalikes(&link, prefix).await;
    link.close(PeerErrorCode::Done);
    endpoint.drain().await;
    files
}

/// What is shared under names that start with `prefix`; where nothing is, what looks the same.
async fn list_lookalikes(link: &Link, prefix: &str) -> Result<Vec<Result<FileStat, UntrustedText>>, Error> {
    let files = list_files(link, prefix).await?;
    if !files.is_empty() || prefix.is_empty() {
        return Ok(files);
    }
    // Where in a name something can't be seen isn't known: it may be before all that was typed.
    let mut files = list_files(link, "").await?;
    let key = matching_key(prefix);
    files.retain(|file| file.as_ref().is_ok_and(|file| matching_key(file.name.as_str()).starts_with(&*key)));
    Ok(files)
}
