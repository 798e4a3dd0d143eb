//! What other members sent: records, pulled runs and pushed messages, verified before they are taken.

use rooms::{MessageRun, RunFault, RunRequest, Signature, SignedRecord, UnverifiedRun, VerifyingKey};
use shared::peer::SingleRunBytes;
use shared::{Fingerprint, RoomId};

use super::RoomRegistry;
use crate::engine::Error;
use crate::engine::rooms::room::{Room, RoomStep, RunOrigin, TakenRuns};
use crate::engine::rooms::room_outlets::RoomPush;

/// The result of offering bytes of runs.
#[derive(Debug)]
pub(in crate::engine::rooms) enum OfferedRuns {
    /// They are in order.
    Taken {
        /// The result.
        taken: TakenRuns,
        /// The request for what follows.
        next: RunRequest,
    },
    /// No honest member sends them.
    Invalid(String),
    /// The room was left or ended here while the member answered.
    RoomGone,
}

/// The result of a message that was passed on unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::rooms) enum OfferedPush {
    /// It is stored.
    Stored,
    /// Not now: its author writes too fast, or what comes before it is missing.
    Later,
}

impl RoomRegistry {
    /// Takes records as they travel, in their order, from a member. Returns true if any were new.
    ///
    /// # Errors
    /// The reason why they are no records of this room.
    pub(in crate::engine::rooms) fn take_member_records(
        &mut self,
        room: RoomId,
        records: &[(Vec<u8>, Signature)],
    ) -> Result<bool, Error> {
        let Some(tracker) = self.rooms.get(&room).map(|room| room.tracker) else { return Ok(false) };
        // Members only pass them on: the tracker signs them, whose key is known here.
        self.take_records(room, tracker, records)
    }

    /// Takes records as they travel, in their order. Returns true if any were new.
    ///
    /// # Errors
    /// The reason why they are no records of this room, or why they can't be stored.
    pub(in crate::engine::rooms) fn take_records(
        &mut self,
        room: RoomId,
        tracker: VerifyingKey,
        records: &[(Vec<u8>, Signature)],
    ) -> Result<bool, Error> {
        let verified: Result<Vec<SignedRecord>, _> =
            records.iter().map(|(signed, signature)| SignedRecord::verify(signed, signature, &tracker)).collect();
        let verified = verified.map_err(|why| Error::Internal(why.to_string()))?;
        if !self.rooms.contains_key(&room) {
            // Its messages are on the disk if it could not be loaded again after a fault: without them the user's numbers
            // would begin anew.
            self.load_known_room(room)?;
        }
        let key = self.key;
        let known = self.rooms.entry(room).or_insert_with(|| Room::new(room, key, tracker));
        let mut step = RoomStep::default();
        let refused = known.take_records(verified, &mut step);
        let is_new = step.has_records;
        if is_new || known.tracker != tracker {
            // A room is on record before the first of its records is stored. A tracker with a new key signs the next ones
            // with it, which members have to believe before they ask that tracker again.
            if let Some(name) = known.members().name().cloned().filter(|_| known.is_active()) {
                known.tracker = tracker;
                if let Err(error) = self.me.profile.add_room(room, &name, tracker) {
                    self.reload(room);
                    return Err(error.into());
                }
            }
        }
        if is_new {
            self.commit(room, step)?;
        }
        // What came before the refused record counts and is stored.
        if let Err(why) = refused {
            return Err(Error::Internal(why.to_string()));
        }
        Ok(is_new)
    }

    /// Takes encoded runs that a member was asked for.
    ///
    /// # Errors
    /// They can't be stored.
    pub(in crate::engine::rooms) fn take_pulled_runs(
        &mut self,
        room: RoomId,
        request: &RunRequest,
        member: Fingerprint,
        encoded: &[Vec<u8>],
        leads_to_cut: bool,
    ) -> Result<OfferedRuns, Error> {
        let (reachable, now, at) = (self.outlets.members(room), self.clock.unsigned_wall_ms(), self.clock.instant());
        let Some(known) = self.rooms.get_mut(&room) else {
            return Ok(OfferedRuns::RoomGone);
        };
        let (mut runs, mut needs_records) = (Vec::new(), false);
        for bytes in encoded {
            match verify_run(bytes, known) {
                Ok(Some(run)) => runs.push(run),
                Ok(None) => needs_records = true,
                Err(why) => return Ok(OfferedRuns::Invalid(why)),
            }
        }
        // Gaps and ways to a cut are allowed for what was asked for, and for no other author.
        if runs.iter().any(|run| run.key().fingerprint() != request.author) {
            return Ok(OfferedRuns::Invalid("messages of another author".to_owned()));
        }
        let mut step = RoomStep::default();
        let origin = RunOrigin::Pulled { member, leads_to_cut, reachable: &reachable, at };
        let mut taken = known.take_runs(runs, origin, now, &mut step);
        taken.needs_records |= needs_records;
        self.commit(room, step)?;
        let next = self.rooms.get(&room).map_or_else(|| request.clone(), |known| known.request(request.author));
        Ok(OfferedRuns::Taken { taken, next })
    }

    /// Takes a message that `member` passed on unasked.
    ///
    /// # Errors
    /// Words if no honest member sends it, or an error if it can't be stored.
    pub(in crate::engine::rooms) fn take_push(
        &mut self,
        room: RoomId,
        member: Fingerprint,
        run: &SingleRunBytes,
    ) -> Result<Result<OfferedPush, String>, Error> {
        let (instant, now) = (self.clock.instant(), self.clock.unsigned_wall_ms());
        let Some(known) = self.rooms.get_mut(&room) else { return Ok(Ok(OfferedPush::Later)) };
        let unverified = match UnverifiedRun::parse(run.as_bytes()) {
            Ok(unverified) => unverified,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let [message] = unverified.unverified_messages() else {
            return Ok(Err("a run of several messages was passed on".to_owned()));
        };
        let message = message.hash();
        // Most copies are of a message that came over another link: its hash says all, and costs less than its signature.
        if known.log().info(&message).is_some() {
            return Ok(Ok(OfferedPush::Stored));
        }
        let parsed = match verify(unverified, known) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(Ok(OfferedPush::Later)),
            Err(why) => return Ok(Err(why)),
        };
        // Behind the signature, so that nobody can use up another author's share.
        if !known.allow_push(&parsed.key().fingerprint(), instant) {
            return Ok(Ok(OfferedPush::Later));
        }
        let mut step = RoomStep::default();
        known.take_runs(vec![parsed], RunOrigin::Single, now, &mut step);
        let is_stored = known.log().info(&message).is_some();
        // Stored before it is passed on: others then ask for it here.
        self.commit(room, step)?;
        if !is_stored {
            return Ok(Ok(OfferedPush::Later));
        }
        self.outlets.push(room, &RoomPush { own_number: None, message, run: run.clone() }, Some(&member));
        Ok(Ok(OfferedPush::Stored))
    }
}

/// Parses and verifies an encoded run; `None` if it has no signature, as earlier versions send the way to a cut.
fn verify_run(bytes: &[u8], room: &Room) -> Result<Option<MessageRun>, String> {
    verify(UnverifiedRun::parse(bytes).map_err(|why| why.to_string())?, room)
}

fn verify(run: UnverifiedRun, room: &Room) -> Result<Option<MessageRun>, String> {
    let has_signature = run.has_signature();
    match run.verify(room.members()) {
        Err(RunFault::BadSignature) if !has_signature => Ok(None),
        verified => verified.map(Some).map_err(|why| why.to_string()),
    }
}
