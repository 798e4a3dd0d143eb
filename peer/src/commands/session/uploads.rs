//! What others fetch from the node of a view: they lose it when the view is left. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::names::stand_in::shown;
use shared::{FileName, UserName};

use crate::engine::event::{Course, Event, Transfer, TransferState};

/// An upload of which nothing was told for so long has ended; while it goes on, it is told several times a second.
const SILENCE: Duration = Duration::from_secs(5);
/// Uploads that are followed; beyond, the oldest are forgotten.
const FOLLOWED: usize = 256;

/// The files that others are fetching.
#[derive(Debug, Default)]
pub(super) struct RunningUploads {
    told: HashMap<(UserName, FileName), Instant>,
}

impl RunningUploads {
    /// Takes what happened in the node.
    pub(super) fn hear(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Transfer(Transfer { peer, name, direction: Course::Up, state, .. }) => {
                let key = (peer.clone(), name.clone());
                match state {
                    TransferState::Running => drop(self.told.insert(key, now)),
                    TransferState::Done | TransferState::Failed => drop(self.told.remove(&key)),
                }
            }
            Event::Fetched { by, name, .. } => drop(self.told.remove(&(by.clone(), name.clone()))),
            Event::Presence { user, online: false } => self.told.retain(|(peer, _), _| peer != user),
            _ => {}
        }
        if self.told.len() > FOLLOWED {
            self.told.retain(|_, told| now.saturating_duration_since(*told) < SILENCE);
        }
        while self.told.len() > FOLLOWED {
            let oldest = self.told.iter().min_by_key(|(_, told)| **told).map(|(key, _)| key.clone());
            oldest.map(|key| self.told.remove(&key));
        }
    }

    /// Says who is fetching what, if anybody is.
    pub(super) fn words(&self, now: Instant) -> Option<String> {
        let is_running = |told: &Instant| now.saturating_duration_since(*told) < SILENCE;
        let mut running: Vec<_> = self.told.iter().filter(|(_, told)| is_running(told)).map(|(key, _)| key).collect();
        running
            .sort_unstable_by(|one, other| (one.0.as_str(), one.1.as_str()).cmp(&(other.0.as_str(), other.1.as_str())));
        let (first, _) = *running.first()?;
        Some(match running.as_slice() {
            [(user, name)] => format!("{user} is fetching {} from you", shown(name.as_str())),
            files if files.iter().all(|(user, _)| user == first) => {
                format!("{first} is fetching {} files from you", files.len())
            }
            files => format!("{} files are being fetched from you", files.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(user: &str, name: &str, state: TransferState) -> Event {
        let (peer, name, direction) = (user.parse().unwrap(), name.parse().unwrap(), Course::Up);
        Event::Transfer(Transfer { peer, name, direction, bytes: 1, size: 2, state })
    }

    #[test]
    fn who_fetches_is_named_for_as_long_as_they_do() {
        let (mut uploads, now) = (RunningUploads::default(), Instant::now());
        assert_eq!(uploads.words(now), None);
        uploads.hear(&upload("bob", "big.bin", TransferState::Running), now);
        assert_eq!(uploads.words(now).unwrap(), "bob is fetching big.bin from you");
        assert_eq!(uploads.words(now + SILENCE), None);
        uploads.hear(&upload("bob", "b", TransferState::Running), now);
        assert_eq!(uploads.words(now).unwrap(), "bob is fetching 2 files from you");
        uploads.hear(&upload("eve", "b", TransferState::Running), now);
        assert_eq!(uploads.words(now).unwrap(), "3 files are being fetched from you");
        uploads.hear(&Event::Presence { user: "bob".parse().unwrap(), online: false }, now);
        let (by, name) = ("eve".parse().unwrap(), "b".parse().unwrap());
        uploads.hear(&Event::Fetched { by, name, bytes: 2, size: 2 }, now);
        assert_eq!(uploads.words(now), None);
        for number in 0..1000 {
            uploads.hear(&upload("bob", &number.to_string(), TransferState::Running), now);
        }
        assert_eq!(uploads.told.len(), FOLLOWED);
    }
}
