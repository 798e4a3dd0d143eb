//! Rooms and the tracker: fetches records, and sets the cuts that a kick from elsewhere left open.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | queries at a time | 1 | the others wait, each room once |
//! | records of a room | 65,536 ([`rooms::MAX_RECORDS`]) | the rest is left out |

use std::collections::HashMap;
use std::time::Duration;

use localization::tr;
use rooms::{Cut, MAX_RECORDS, Signature, VerifyingKey};
use shared::room::RecordHash;
use shared::tracker::room_reply::{RoomChangeReply, RoomMembersReply, SignedRecordText};
use shared::tracker::room_request::{RequestedChange, RoomCut, RoomReference, RoomRequest};
use shared::tracker::{TrackerErrorCode, TrackerRequest};
use shared::{Fingerprint, RoomId};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::tracker_session::TrackerHandle;
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::peer_lookup::TrackerClient;
use crate::engine::room_values::{RoomNews, RoomNewsKind};
use crate::engine::rooms::{RoomSyncRequest, Rooms};
use crate::engine::{Error, tracker_search};
use crate::net::TrackerError;
use crate::util::TranslatedText;

/// Interval of looks for open cuts.
const CUT_INTERVAL: Duration = Duration::from_secs(2);
/// Time from an open cut's being seen to its setting: what the member wrote last may still come from others.
const CUT_DELAY: Duration = Duration::from_secs(5);
/// Time after a refusal.
const CUT_RETRY_DELAY: Duration = Duration::from_secs(60);

/// The task that asks the tracker about rooms.
#[derive(Debug)]
pub(super) struct RoomSync {
    rooms: Rooms,
    tracker: TrackerHandle,
    events: EventBus,
    requests: mpsc::UnboundedReceiver<RoomSyncRequest>,
    stop: CancellationToken,
    /// When each open cut is to be set.
    cuts_due: HashMap<(RoomId, Fingerprint, u64), Instant>,
}

impl RoomSync {
    pub(super) fn new(
        rooms: Rooms,
        tracker: TrackerHandle,
        events: EventBus,
        requests: mpsc::UnboundedReceiver<RoomSyncRequest>,
        stop: CancellationToken,
    ) -> Self {
        Self { rooms, tracker, events, requests, stop, cuts_due: HashMap::new() }
    }

    /// Runs until the node stops.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let stop = self.stop.clone();
        let mut tick = tokio::time::interval(CUT_INTERVAL);
        // After a suspension one tick is enough, instead of one for each that was missed.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                tokio::select! {
                    Some(request) = self.requests.recv() => self.handle(request).await,
                    _ = tick.tick(), if self.rooms.directory().has_active_rooms() => self.set_cuts().await,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
        Ok(())
    }

    async fn handle(&mut self, request: RoomSyncRequest) {
        match request {
            RoomSyncRequest::Room(room) => self.sync_room(room).await,
            RoomSyncRequest::All(_done) => {
                // `_done` is dropped behind the last room: that is what its sender waits for.
                let mut mine = Vec::new();
                let listed = tracker_search::search_rooms(&mut self.tracker, None, |room| {
                    if room.role.is_some() {
                        mine.push(room.id);
                    }
                    true
                });
                if let Err(error) = listed.await {
                    // No fault: earlier trackers know no rooms.
                    tracing::info!("the tracker doesn't list rooms: {error}");
                }
                for room in mine {
                    self.sync_room(room).await;
                }
            }
        }
    }

    async fn sync_room(&mut self, room: RoomId) {
        // Before the question: the answer may not know who joins while it is under way.
        let since = std::time::Instant::now();
        let answered = match self.fetch_records(room).await {
            Ok((tracker, records)) => {
                if let Err(error) = self.rooms.take_records(room, tracker, records).await {
                    tracing::warn!("the tracker's records of the room {room}: {error}");
                }
                Some(since)
            }
            Err(error) => {
                tracing::debug!("records of the room {room}: {error}");
                if error.code() == Some(TrackerErrorCode::Forbidden) {
                    self.tell_invitation(room).await;
                }
                // A refusal is an answer: nobody joined a room that the user isn't in.
                error.code().map(|_| since)
            }
        };
        // Fails only when the node is ending.
        let _ = self.rooms.finish_request(room, answered).await;
    }

    /// Tells of an invitation, if that is why the tracker told of a room that the user isn't in.
    async fn tell_invitation(&mut self, id: RoomId) {
        let mut invited = None;
        let listed = tracker_search::search_rooms(&mut self.tracker, None, |room| {
            if room.id == id && room.invited && room.role.is_none() {
                invited = Some(room.name);
            }
            invited.is_none()
        });
        if let Err(error) = listed.await {
            tracing::info!("the tracker doesn't list rooms: {error}");
        }
        if let Some(room) = invited {
            self.events.send(NodeEvent::Room(RoomNews { room, room_id: id, kind: RoomNewsKind::Invited }));
        }
    }

    async fn fetch_records(&mut self, room: RoomId) -> Result<(VerifyingKey, Vec<(Vec<u8>, Signature)>), TrackerError> {
        let ending = |_| unreachable_tracker(TranslatedText::new(|| tr!("`peer` is going offline")));
        let mut after = self.rooms.locator(room).await.map_err(ending)?;
        let mut records: Vec<(Vec<u8>, Signature)> = Vec::new();
        loop {
            let request = RoomRequest::Members { room: RoomReference::Id(room), after };
            let page: RoomMembersReply = self.tracker.call(&TrackerRequest::Room(request)).await?;
            // A tracker that promises more and sends nothing would be asked for ever.
            let is_last = !page.more || page.records.is_empty();
            records.extend(page.records.into_iter().map(|SignedRecordText { signed, signature }| (signed, signature)));
            if is_last || records.len() >= MAX_RECORDS {
                let why = || tr!("it has no key to sign records with");
                let no_key = || unreachable_tracker(TranslatedText::new(why));
                return Ok((self.tracker.verifying_key().ok_or_else(no_key)?, records));
            }
            let newest = records.last().map(|(signed, _)| RecordHash::from_bytes(*blake3::hash(signed).as_bytes()));
            after = newest.into_iter().collect();
        }
    }

    /// Sets the cuts that are open, if the user moderates the room: once, whoever of the moderators is first.
    async fn set_cuts(&mut self) {
        let Ok(open) = self.rooms.settable_cuts().await else { return };
        let now = Instant::now();
        self.cuts_due.retain(|due, _| open.iter().any(|(room, key, ended_at, _)| *due == (*room, *key, *ended_at)));
        for (room, key, ended_at, cut) in open {
            let due = self.cuts_due.entry((room, key, ended_at)).or_insert(now + CUT_DELAY);
            if *due > now {
                continue;
            }
            // Set before the attempt: a refused cut isn't tried again at every tick.
            *due = now + CUT_RETRY_DELAY;
            if let Err(error) = self.set_cut(room, key, ended_at, cut).await {
                tracing::info!("the last message of a former member can't be set: {error}");
            }
        }
    }

    async fn set_cut(&mut self, room: RoomId, key: Fingerprint, ended_at: u64, cut: Cut) -> Result<(), Error> {
        let Some(cut) = RoomCut::new(cut.number, cut.hash) else { return Ok(()) };
        let change = RequestedChange::SetCut { key, ended_at, cut };
        let request = TrackerRequest::Room(RoomRequest::Change { room: RoomReference::Id(room), change });
        match self.tracker.call::<RoomChangeReply>(&request).await {
            Ok(_) => {}
            // Another moderator's node was first: its record comes from the tracker.
            Err(error) if error.code() == Some(TrackerErrorCode::Stale) => {}
            Err(error) => return Err(error.into()),
        }
        self.rooms.request_records(room);
        Ok(())
    }
}

fn unreachable_tracker(why: TranslatedText) -> TrackerError {
    TrackerError::Unreachable { address: tr!("address" => "the tracker"), why }
}
