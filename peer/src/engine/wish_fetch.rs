//! Fetches a wished file in the node: exactly the file that was found, into the wish's folder.
//!
//! The rules of its destination are those of sends that are accepted unasked: never the home folder itself or a profile's,
//! nothing hidden or executable, nothing is overwritten, and 1 GiB of the disk stays free.

use std::time::Duration;

use shared::peer::{FileSend, SendKind};
use tokio_util::sync::CancellationToken;

use super::event_bus::EventBus;
use super::fetch::{FetchDestination, FetchEvent, FetchRequest, RequestedName, fetch as fetch_files};
use super::send_intake::check_accept_folder;
use super::sends::accept_policy::MIN_FREE_BYTES;
use super::unattended_fetch::{DiskWatch, disk_words, on_own_runtime};
use super::wishes::WishFetchOutcome;
use super::{Error, ErrorKind, LocalUser};
use crate::profile::{Wish, WishMatch};
use crate::util::TranslatedText;

/// The wait for a source that went offline in the middle; the next attempt begins when the files change again.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(20);

/// Fetches a file for a wish. Blocking.
pub fn fetch_wished(
    me: &LocalUser,
    wish: &Wish,
    file: &WishMatch,
    events: &EventBus,
    cancel: &CancellationToken,
) -> WishFetchOutcome {
    let Some(folder) = &wish.folder else { return WishFetchOutcome::Held("the wish has no folder".into()) };
    let folder = match check_accept_folder(&me.profile, folder) {
        Ok(folder) => folder,
        Err(error) => return WishFetchOutcome::Held(TranslatedText::of(&error)),
    };
    let mut watch = DiskWatch::new(folder.clone(), cancel);
    let (own_cancel, request) = (watch.cancel_token(), fetch_request(file, FetchDestination::Folder(folder.clone())));
    let ended = on_own_runtime(events, async |report| {
        let mut watched = |event: FetchEvent<'_>| {
            watch.handle_event(&event);
            report(event);
        };
        fetch_files(me, &request, &mut watched, &own_cancel).await
    });
    match ended.map(|report| report.error) {
        Ok(None) => WishFetchOutcome::Done(folder),
        // By the watch, which saw the disk fill up, and not by the user.
        Ok(Some(Error::Interrupted)) if watch.is_full() => {
            WishFetchOutcome::Held(TranslatedText::new(|| disk_words(MIN_FREE_BYTES)))
        }
        Ok(Some(error)) if is_passing(&error) => WishFetchOutcome::Failed(error),
        Ok(Some(error)) | Err(error) => WishFetchOutcome::Held(TranslatedText::of(&error)),
    }
}

/// True for an error after which another attempt may succeed.
fn is_passing(error: &Error) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::Network | ErrorKind::Unavailable | ErrorKind::Interrupted | ErrorKind::NotShared)
}

/// Returns the request that fetches exactly this file, from whoever has it.
fn fetch_request(file: &WishMatch, destination: FetchDestination) -> FetchRequest {
    let WishMatch { by, name, size, hash } = file;
    // A file's own name is looked up before it is read as a pattern.
    let names = vec![RequestedName::for_text(name.as_str())];
    FetchRequest {
        // The name alone may stand for another content by now.
        expected: Some(FileSend { name: name.clone(), kind: SendKind::File, files: 1, size: *size, hash: *hash }),
        // The fetch looks at what is to come: a part of the file may be there already.
        kept_free: Some(MIN_FREE_BYTES),
        ..FetchRequest::new(by.clone().into(), names, destination, SOURCE_TIMEOUT)
    }
}
