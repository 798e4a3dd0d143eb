//! The stream on which a peer learns that what is shared with it may have changed.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | marks on one stream | one in [`MARK_INTERVAL`] | changes in between are told together |
//! | streams of one user | those of [`super::user_quota`] | the next one waits |

use std::time::Duration;

use shared::peer::{PeerErrorCode, PeerReply, PeerRequest};
use tokio::sync::watch;
use tokio::time::Instant;

use super::library::ShareLibrary;
use super::share_access::FileRequester;
use crate::net::StreamError;
use crate::net::frame_receiver::FrameReceiver;
use crate::net::stream::{StreamSender, with_timeout};

/// Time between two looks at what is shared with one peer.
const MARK_INTERVAL: Duration = Duration::from_millis(500);
/// Time after which is looked without a change.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// Time for the other side to read a mark.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends a mark at once, and one whenever it is another, until the other side has no use for it.
pub(super) async fn serve_changes(
    library: &ShareLibrary,
    by: &FileRequester,
    mut changes: watch::Receiver<()>,
    mut sender: StreamSender,
    mut receiver: FrameReceiver,
) -> Result<(), StreamError> {
    let mut sent = None;
    loop {
        // Before the look: a change during it is another one.
        changes.mark_unchanged();
        let mark = match library.change_mark(by).await {
            Ok(Some(mark)) => mark,
            Ok(None) => {
                sender.reset(PeerErrorCode::Unauthorised);
                return Ok(());
            }
            Err((code, _)) => {
                sender.reset(code);
                return Ok(());
            }
        };
        // Equal where only what others may see has changed: they learn nothing of that.
        if sent.as_ref() != Some(&mark) {
            with_timeout(SEND_TIMEOUT, sender.send_frame(&PeerReply::Changed { mark: mark.clone() })).await?;
            sent = Some(mark);
        }
        let looked_at = Instant::now();
        let next = async {
            // Fails only when the node is ending, which closes the link.
            let _ = changes.changed().await;
            tokio::time::sleep_until(looked_at + MARK_INTERVAL).await;
        };
        tokio::select! {
            () = next => {}
            // Who is in a room changes as well.
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            frame = receiver.next_frame::<PeerRequest>() => {
                if frame?.is_some() {
                    return Err(StreamError::Unexpected("a request on a stream of changes"));
                }
                sender.finish();
                return Ok(());
            }
        }
    }
}
