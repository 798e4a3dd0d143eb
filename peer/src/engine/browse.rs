//! Looking at what somebody shares, live.

use shared::peer::{Code, FileStat};

use super::fetch::list;
use super::{Error, Me, contacts};
use crate::net::endpoint::Endpoint;
use crate::net::link::Target;

/// Everything that `target` shares under names that start with `prefix`; what can't be a file by the name it has there.
///
/// # Errors
/// [`Error`]: no link, no answer.
pub async fn files(me: &Me, target: &Target, prefix: &str) -> Result<Vec<Result<FileStat, String>>, Error> {
    let endpoint = Endpoint::dialling(&me.identity, None).map_err(|why| Error::link(&target.user, why))?;
    let link = contacts::dial(me, &endpoint, target, &[]).await?;
    let files = list(&link, prefix).await;
    link.close(Code::Done);
    endpoint.drain().await;
    files
}
