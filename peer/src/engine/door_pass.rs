//! The pass by which a door tells the tracker for whom it opened a connection.
//!
//! A tracker that trusts the door's key (`--trusted-door`) counts each of its people alone. One that doesn't counts all of them
//! as one address, which a small door never notices: so a refusal is remembered, and everything goes on without a pass.

use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::Identity;
use parking_lot::Mutex;
use shared::Fingerprint;
use shared::tracker::ForwardedPerson;

use super::Error;
use crate::net::TrackerError;
use crate::net::tracker::TrackerConnection;

/// Time after a refusal in which no pass is shown: the tracker's operator may trust the door meanwhile.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);

/// A door's key. Cheap to clone.
#[derive(Clone)]
pub struct DoorPass(Arc<DoorKey>);

struct DoorKey {
    identity: Identity,
    refused_at: Mutex<Option<Instant>>,
}

/// A door's pass for one of its people. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PersonPass {
    door: DoorPass,
    person: ForwardedPerson,
}

impl DoorPass {
    /// Returns the pass of the door with this key.
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(DoorKey { identity, refused_at: Mutex::new(None) }))
    }

    /// Returns the key, which the tracker's operator names.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.identity.fingerprint()
    }

    /// Returns the pass for a person: an account, or where it has none yet, the address of the browser. `None` for a name
    /// that is too long.
    pub fn of(&self, person: &str) -> Option<PersonPass> {
        Some(PersonPass { door: self.clone(), person: ForwardedPerson::new(person)? })
    }
}

impl PersonPass {
    /// Shows the pass on a new connection. Returns false if the tracker doesn't trust the door. Fails with
    /// [`Error::Tracker`] if the connection fails.
    pub async fn show(&self, link: &mut TrackerConnection) -> Result<bool, Error> {
        let DoorKey { identity, refused_at } = &*self.door.0;
        if refused_at.lock().is_some_and(|at| at.elapsed() < REFUSAL_PAUSE) {
            return Ok(false);
        }
        match link.name_person(identity, &self.person).await {
            Ok(()) => Ok(true),
            Err(TrackerError::Refused { .. }) => {
                *refused_at.lock() = Some(Instant::now());
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl std::fmt::Debug for DoorPass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DoorPass").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}
