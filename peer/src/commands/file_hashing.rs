//! The hashing of a user's files by commands: their paths as they were typed, and its end after an interruption.

use std::path::{Component, PathBuf};
use std::time::Duration;

use super::context::CommandContext;
use crate::engine::Error;

/// Time for hashing to notice an interruption.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Replaces `.` by the name that the shell shows: the folder may have been entered through a symbolic link.
pub(super) fn resolve_working_folder(path: PathBuf) -> PathBuf {
    let is_here = path.components().eq([Component::CurDir]);
    let here = std::env::var_os("PWD").map(PathBuf::from).filter(|_| is_here);
    // PWD is only a hint: it may be inherited from another process.
    here.filter(|here| here.is_absolute() && here.canonicalize().ok() == path.canonicalize().ok()).unwrap_or(path)
}

/// Waits for work that notices an interruption by itself, up to [`STOP_TIMEOUT`]: a disk may hang.
pub(super) async fn with_stop_timeout<T>(
    context: &CommandContext,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = context.cancel.cancelled() => {}
    }
    tokio::time::timeout(STOP_TIMEOUT, work).await.unwrap_or(Err(Error::Interrupted))
}
