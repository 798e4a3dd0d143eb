//! Uploads of the view's own node: they end when the view is left. No I/O.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use localization::tr;
use shared::names::name_encoding::display_name;
use shared::{FileName, UserName};

use crate::engine::node_event::{FileTransfer, NodeEvent, TransferDirection, TransferState};

/// Time without an event after which an upload counts as ended; running ones report several times a second.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Uploads that are tracked; beyond, the ones with the oldest events are forgotten.
const MAX_TRACKED: usize = 256;

/// The files that other users are fetching.
#[derive(Debug, Default)]
pub(super) struct RunningUploads {
    last_seen: HashMap<(UserName, FileName), Instant>,
}

impl RunningUploads {
    /// Updates the uploads from an event of the node.
    pub(super) fn handle_event(&mut self, event: &NodeEvent, now: Instant) {
        match event {
            NodeEvent::Transfer(FileTransfer { peer, name, direction: TransferDirection::Up, state, .. }) => {
                let key = (peer.clone(), name.clone());
                match state {
                    TransferState::Running => drop(self.last_seen.insert(key, now)),
                    TransferState::Done | TransferState::Failed => drop(self.last_seen.remove(&key)),
                }
            }
            NodeEvent::Fetched { by, name, .. } => drop(self.last_seen.remove(&(by.clone(), name.clone()))),
            // The links of that user are gone, and no last event may come.
            NodeEvent::Presence { user, online: false } => self.last_seen.retain(|(peer, _), _| peer != user),
            _ => {}
        }
        if self.last_seen.len() > MAX_TRACKED {
            self.last_seen.retain(|_, told| now.saturating_duration_since(*told) < IDLE_TIMEOUT);
        }
        while self.last_seen.len() > MAX_TRACKED {
            let oldest = self.last_seen.iter().min_by_key(|(_, told)| **told).map(|(key, _)| key.clone());
            oldest.map(|key| self.last_seen.remove(&key));
        }
    }

    /// Returns a description of the running uploads; `None` if there are none.
    pub(super) fn describe(&self, now: Instant) -> Option<String> {
        let is_running = |told: &Instant| now.saturating_duration_since(*told) < IDLE_TIMEOUT;
        let mut running: Vec<_> =
            self.last_seen.iter().filter(|(_, told)| is_running(told)).map(|(key, _)| key).collect();
        // The map's order is random: sorted, so that the same uploads give the same text.
        running
            .sort_unstable_by(|one, other| (one.0.as_str(), one.1.as_str()).cmp(&(other.0.as_str(), other.1.as_str())));
        let (first, _) = *running.first()?;
        Some(match running.as_slice() {
            [(user, name)] => tr!("{user} is fetching {name} from you", user, name = display_name(name.as_str())),
            files if files.iter().all(|(user, _)| user == first) => {
                tr!("{user} is fetching {count} files from you", user = first, count = files.len())
            }
            files => tr!("{count} files are being fetched from you", count = files.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(user: &str, name: &str, state: TransferState) -> NodeEvent {
        let (peer, name, direction) = (user.parse().unwrap(), name.parse().unwrap(), TransferDirection::Up);
        NodeEvent::Transfer(FileTransfer { peer, name, direction, bytes: 1, size: 2, state })
    }

    #[test]
    fn who_fetches_is_named_for_as_long_as_they_do() {
        let (mut uploads, now) = (RunningUploads::default(), Instant::now());
        assert_eq!(uploads.describe(now), None);
        uploads.handle_event(&upload("bob", "big.bin", TransferState::Running), now);
        assert_eq!(uploads.describe(now).unwrap(), "bob is fetching big.bin from you");
        assert_eq!(uploads.describe(now + IDLE_TIMEOUT), None);
        uploads.handle_event(&upload("bob", "b", TransferState::Running), now);
        assert_eq!(uploads.describe(now).unwrap(), "bob is fetching 2 files from you");
        uploads.handle_event(&upload("eve", "b", TransferState::Running), now);
        assert_eq!(uploads.describe(now).unwrap(), "3 files are being fetched from you");
        uploads.handle_event(&NodeEvent::Presence { user: "bob".parse().unwrap(), online: false }, now);
        let (by, name) = ("eve".parse().unwrap(), "b".parse().unwrap());
        uploads.handle_event(&NodeEvent::Fetched { by, name, bytes: 2, size: 2 }, now);
        assert_eq!(uploads.describe(now), None);
        for number in 0..1000 {
            uploads.handle_event(&upload("bob", &number.to_string(), TransferState::Running), now);
        }
        assert_eq!(uploads.last_seen.len(), MAX_TRACKED);
    }
}
