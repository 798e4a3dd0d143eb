//! The export of present users in the format of the exercise's `peers.json`. It is written while it is gathered, since
//! it may be as long as the catalogue, and in batches, so that no client waits for it.

use std::io;

use serde::Serialize;
use shared::UserName;
use shared::tracker::ListedPeer;
use tokio::io::AsyncWrite;

use super::send;
use crate::service::TrackerService;

/// Bytes buffered before they are written.
const FLUSH_BYTES: usize = 64 * 1024;

/// Writes the reply to [`super::AdminRequest::ExportPeers`].
pub(super) async fn write_peers(service: &TrackerService, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut text = br#"{"done":{"#.to_vec();
    let (mut after, mut is_first): (Option<UserName>, bool) = (None, true);
    loop {
        // Each batch is taken under a short hold of the registry's lock; the list may change in between.
        let some = service.peers_after(after.as_ref());
        let Some(last) = some.last() else { break };
        after = Some(last.user.clone());
        for peer in &some {
            let Some(ListedPeer { ip, port, .. }) = peer.entry() else { continue };
            if !std::mem::take(&mut is_first) {
                text.push(b',');
            }
            push(&mut text, "", &peer.user)?;
            push(&mut text, r#":{"ip":"#, &ip)?;
            push(&mut text, r#","port":"#, &port)?;
            text.extend_from_slice(br#","files":"#);
            for piece in peer.files() {
                text.extend_from_slice(&piece);
                if text.len() > FLUSH_BYTES {
                    send(stream, &text).await?;
                    text.clear();
                }
            }
            text.push(b'}');
        }
    }
    text.extend_from_slice(b"}}\n");
    send(stream, &text).await
}

fn push(text: &mut Vec<u8>, before: &str, value: &impl Serialize) -> io::Result<()> {
    text.extend_from_slice(before.as_bytes());
    Ok(serde_json::to_writer(text, value)?)
}
