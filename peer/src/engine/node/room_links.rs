//! The links of rooms: dials the members that are wanted, and opens a stream to each for each room.
//!
//! Who comes online dials at once, for the tracker has just told the others. They wait for that, so that two members
//! seldom dial each other in the same moment; if they do, both links serve.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | dials at once | 8 | the others wait |
//! | streams of a room | 32, and those of wanted members | members without one get what is new from others |
//! | pauses before dials that are remembered | one for each member | |
//! | streams to a member | 24 | further rooms that both are in wait, or others pass on what is new there |

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use shared::peer::{PeerErrorCode, ROOMS_CAPABILITY};
use shared::{Fingerprint, RoomId, UserName};
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::NodeServices;
use super::link_pool::LinkPool;
use super::online_users::OnlineUsers;
use super::presence_query::PresenceQuery;
use super::tracker_session::TrackerHandle;
use super::user_list::online_users;
use crate::engine::Error;
use crate::engine::node_event::NodeEvent;
use crate::engine::rooms::{RoomEntry, Rooms, UnreachableMembers, run_room_stream, wanted_links};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::is_protocol_violation;
use crate::profile::Profile;
use crate::util::Backoff;

const MAX_DIALS: usize = 8;
const MAX_ROOM_STREAMS: usize = 32;
/// Fewer than a user may open, so that other requests find room.
const MAX_MEMBER_STREAMS: usize = 24;
/// Members of a room who are asked for messages at a time: one that withholds them must not keep out the others.
const PULLS_PER_ROOM: usize = 2;
/// Time for a user who came online to dial.
const COURTESY_DELAY: Duration = Duration::from_secs(2);
const DIAL_BACKOFF: Backoff = Backoff::new(Duration::from_secs(3), Duration::from_secs(30));
const STREAM_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Time after which a stream counts as one that worked.
const STREAM_SUCCESS: Duration = Duration::from_secs(30);
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Events that are taken before a plan is made.
const MAX_EVENTS_PER_PLAN: usize = 4096;

/// A room and a member's key.
type StreamKey = (RoomId, Fingerprint);

/// The task that keeps the links and streams of rooms.
#[derive(Debug)]
pub(super) struct RoomLinks {
    profile: Profile,
    rooms: Rooms,
    link_pool: Arc<LinkPool>,
    tracker: TrackerHandle,
    online: OnlineUsers,
    events: broadcast::Receiver<NodeEvent>,
    /// Told of each new link.
    new_links: Arc<Notify>,
    stop: CancellationToken,
    streams: JoinSet<(StreamKey, Result<(), StreamError>)>,
    running: HashMap<StreamKey, RunningStream>,
    stream_pauses: HashMap<StreamKey, StreamPause>,
    dials: JoinSet<(UserName, Result<(), Error>)>,
    dialing: HashSet<UserName>,
    dial_pauses: HashMap<UserName, RetryPause>,
    unreachable: UnreachableMembers,
    presence_query: PresenceQuery,
    pulls: HashMap<RoomId, Arc<Semaphore>>,
}

#[derive(Debug)]
struct RunningStream {
    task: AbortHandle,
    link: Link,
    since: Instant,
}

/// The pause after a stream that ended, for as long as its link is the newest one.
#[derive(Debug)]
struct StreamPause {
    link: Link,
    retry: RetryPause,
}

/// The time of the next attempt.
#[derive(Debug)]
struct RetryPause {
    until: Instant,
    backoff: Backoff,
}

impl RoomLinks {
    /// Returns the task for a node with these services, which hears `events`.
    pub(super) fn new(
        profile: Profile,
        services: &NodeServices,
        events: broadcast::Receiver<NodeEvent>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            profile,
            rooms: services.rooms.clone(),
            link_pool: services.link_pool.clone(),
            tracker: services.tracker.clone(),
            online: services.online.clone(),
            events,
            new_links: services.new_links.clone(),
            stop,
            streams: JoinSet::new(),
            running: HashMap::new(),
            stream_pauses: HashMap::new(),
            dials: JoinSet::new(),
            dialing: HashSet::new(),
            dial_pauses: HashMap::new(),
            unreachable: UnreachableMembers::default(),
            presence_query: PresenceQuery::default(),
            pulls: HashMap::new(),
        }
    }

    /// Runs until the node stops.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut rooms = self.rooms.directory().subscribe();
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_plan_due = tokio::select! {
                () = self.stop.cancelled() => break,
                Ok(()) = rooms.changed() => true,
                () = self.new_links.notified() => true,
                event = self.events.recv() => match event {
                    Ok(event) => self.handle_event(&event) | self.handle_waiting_events(),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.handle_missed_events(),
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                Some(ended) = self.streams.join_next_with_id() => {
                    if let Ok((id, (key, outcome))) = ended {
                        self.handle_stream_end(id, key, &outcome);
                    }
                    // Those that were aborted end without their key.
                    self.running.retain(|_, stream| !stream.task.is_finished());
                    true
                }
                Some(ended) = self.dials.join_next() => {
                    if let Ok((user, outcome)) = ended {
                        self.handle_dial_end(user, outcome);
                    }
                    true
                }
                found = self.presence_query.finish() => {
                    // Without an answer it is asked again at the next tick, and not at once.
                    let is_known = found.is_some();
                    if is_known {
                        self.online.replace(found);
                    }
                    is_known
                }
                // A node without rooms sleeps.
                _ = tick.tick(), if self.rooms.directory().has_active_rooms() => true,
            };
            if is_plan_due {
                self.plan();
            }
        }
        // The links are closed by the node, which ends the streams.
        self.dials.shutdown().await;
        self.streams.shutdown().await;
        Ok(())
    }

    fn handle_event(&mut self, event: &NodeEvent) -> bool {
        match event {
            NodeEvent::Online { .. } => {
                // What happened before wasn't heard, neither by a query under way.
                self.online.replace(None);
                self.presence_query.abandon();
                self.dial_pauses.clear();
                self.unreachable.clear();
                self.query_presence();
                true
            }
            NodeEvent::Presence { user, online } => {
                self.online.note(user, *online);
                self.presence_query.note(user, *online);
                // Nobody else is dialled, and of a large network all would be remembered.
                let is_fellow = self.rooms.directory().has_fellow_member(user);
                if *online {
                    self.unreachable.forget(user);
                    if is_fellow {
                        let until = Instant::now() + COURTESY_DELAY;
                        self.dial_pauses.insert(user.clone(), RetryPause { until, backoff: DIAL_BACKOFF });
                    }
                }
                is_fellow
            }
            _ => false,
        }
    }

    /// Takes the events that wait, so that a crowd of them costs one plan. Returns true if one is due.
    fn handle_waiting_events(&mut self) -> bool {
        let mut is_plan_due = false;
        // The end of the events is met by the next wait for one.
        for _ in 0..MAX_EVENTS_PER_PLAN {
            is_plan_due |= match self.events.try_recv() {
                Ok(event) => self.handle_event(&event),
                Err(broadcast::error::TryRecvError::Lagged(_)) => self.handle_missed_events(),
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => break,
            };
        }
        is_plan_due
    }

    fn handle_missed_events(&mut self) -> bool {
        // Who came and went is among what was missed, by a query under way as well. That one ends all the same: a new one
        // for each crowd of news would be a crowd of queries.
        self.online.replace(None);
        self.presence_query.note_missed();
        true
    }

    fn query_presence(&mut self) {
        if self.rooms.directory().has_active_rooms() && !self.presence_query.is_running() {
            self.presence_query.restart(online_users(self.tracker.clone()));
        }
    }

    /// Opens the streams and dials the members that are wanted and missing.
    fn plan(&mut self) {
        let rooms: Vec<Arc<RoomEntry>> =
            self.rooms.directory().rooms().into_iter().filter(|room| room.is_active()).collect();
        // Before the return: after the last room is left, its streams still have to end.
        self.end_streams_of_others(&rooms);
        if rooms.is_empty() {
            return;
        }
        if !self.online.is_known() && self.tracker.is_present() {
            self.query_presence();
        }
        let blocked = match self.profile.blocked() {
            Ok(blocked) => blocked,
            // A blocked member must not be dialled because the disk hiccups: the next round plans again.
            Err(error) => return tracing::error!("who is blocked can't be read, so no member is dialled: {error}"),
        };
        for room in rooms {
            self.plan_room(&room, &blocked);
        }
    }

    fn plan_room(&mut self, room: &RoomEntry, blocked: &[UserName]) {
        let me = *self.rooms.directory().me();
        let others: Vec<(Fingerprint, UserName)> = room
            .members()
            .iter()
            // What a blocked member has, or writes, comes from the others.
            .filter(|(key, member)| **key != me && !blocked.contains(&member.user))
            .map(|(key, member)| (*key, member.user.clone()))
            .collect();
        let links: HashMap<Fingerprint, Link> =
            others.iter().filter_map(|(key, user)| Some((*key, self.room_link(user, key)?))).collect();
        // Without the tracker's word everybody may be there.
        let is_online = |(key, user): &&(Fingerprint, UserName)| {
            links.contains_key(key) || self.online.is_online(user).unwrap_or(true)
        };
        let now = Instant::now().into_std();
        let is_unreachable =
            |(key, user): &&(Fingerprint, UserName)| !links.contains_key(key) && self.unreachable.contains(user, now);
        let online: BTreeSet<Fingerprint> = others.iter().filter(is_online).map(|(key, _)| *key).collect();
        let unreachable: BTreeSet<Fingerprint> = others.iter().filter(is_unreachable).map(|(key, _)| *key).collect();
        let wanted = wanted_links(room.id(), &me, &online, &unreachable);
        for (key, user) in &others {
            match links.get(key) {
                Some(link) => self.open_stream(room.id(), link, wanted.contains(key)),
                None if wanted.contains(key) => self.dial(user, *key),
                None => {}
            }
        }
    }

    /// Returns the link to a member over which rooms are served.
    fn room_link(&self, user: &UserName, key: &Fingerprint) -> Option<Link> {
        let link = self.link_pool.existing_link(user)?;
        // The name may have another key by now than the member.
        (link.fingerprint() == *key && link.has_capability(ROOMS_CAPABILITY)).then_some(link)
    }

    fn open_stream(&mut self, room: RoomId, link: &Link, is_wanted: bool) {
        let key = (room, link.fingerprint());
        if let Some(running) = self.running.get(&key) {
            // A member that was restarted, or moved, comes over another link before the old one is known to be dead.
            if running.link.is_same(link) {
                return;
            }
            running.task.abort();
            self.running.remove(&key);
        }
        let of_room = self.running.keys().filter(|(of, _)| *of == room).count();
        let of_member = self.running.keys().filter(|(_, of)| *of == key.1).count();
        if (of_room >= MAX_ROOM_STREAMS && !is_wanted)
            || of_member >= MAX_MEMBER_STREAMS
            || self.stream_pauses.get(&key).is_some_and(|pause| pause.holds_for(link))
        {
            return;
        }
        let pulls = self.pulls.entry(room).or_insert_with(|| Arc::new(Semaphore::new(PULLS_PER_ROOM))).clone();
        let (rooms, over) = (self.rooms.clone(), link.clone());
        let task = self.streams.spawn(async move { (key, run_room_stream(over, rooms, room, pulls).await) });
        self.running.insert(key, RunningStream { task, link: link.clone(), since: Instant::now() });
    }

    fn dial(&mut self, user: &UserName, key: Fingerprint) {
        if self.dialing.len() >= MAX_DIALS
            || self.dialing.contains(user)
            || self.tracker.is_displaced()
            || self.dial_pauses.get(user).is_some_and(|pause| pause.until > Instant::now())
        {
            return;
        }
        self.dialing.insert(user.clone());
        let (link_pool, user) = (self.link_pool.clone(), user.clone());
        self.dials.spawn(async move {
            let dialed = link_pool.link_to(&user).await;
            let outcome = dialed.map(|link| {
                if link.fingerprint() != key {
                    tracing::info!("{user} has another key than the member of the room");
                }
            });
            (user, outcome)
        });
    }

    fn handle_dial_end(&mut self, user: UserName, outcome: Result<(), Error>) {
        self.dialing.remove(&user);
        match outcome {
            Ok(()) => self.unreachable.forget(&user),
            Err(error) => {
                tracing::debug!("a member of a room can't be reached: {error}");
                self.unreachable.note_failure(user.clone(), Instant::now().into_std());
            }
        }
        // After a success as well: a link without rooms, or with another key, must not be dialed in a loop.
        let pause = self.dial_pauses.entry(user).or_insert_with(|| RetryPause::new(DIAL_BACKOFF));
        pause.extend();
    }

    fn handle_stream_end(&mut self, id: Id, key: StreamKey, outcome: &Result<(), StreamError>) {
        // Another stream may have taken its place meanwhile.
        if self.running.get(&key).is_none_or(|running| running.task.id() != id) {
            return;
        }
        let Some(RunningStream { link, since, .. }) = self.running.remove(&key) else { return };
        match outcome {
            Ok(()) => tracing::debug!("{}: a room's stream ended", link.user()),
            Err(error) if is_protocol_violation(error) => {
                tracing::info!("{}: {error}", link.user());
                link.close(PeerErrorCode::Protocol);
            }
            Err(error) => tracing::debug!("{}: a room's stream ended: {error}", link.user()),
        }
        let new = || StreamPause { link: link.clone(), retry: RetryPause::new(STREAM_BACKOFF) };
        let pause = self.stream_pauses.entry(key).or_insert_with(new);
        if since.elapsed() >= STREAM_SUCCESS || !pause.link.is_same(&link) {
            *pause = new();
        }
        pause.retry.extend();
    }

    /// Ends the streams to members who went, and of rooms that the user left.
    fn end_streams_of_others(&mut self, rooms: &[Arc<RoomEntry>]) {
        let is_member = |(room, key): &StreamKey| {
            rooms.iter().any(|known| known.id() == *room && known.members().contains_key(key))
        };
        self.running.retain(|key, stream| {
            let stays = is_member(key);
            if !stays {
                stream.task.abort();
            }
            stays
        });
        self.stream_pauses.retain(|key, _| is_member(key));
        self.pulls.retain(|room, _| rooms.iter().any(|known| known.id() == *room));
    }
}

impl StreamPause {
    fn holds_for(&self, link: &Link) -> bool {
        self.link.is_same(link) && self.retry.until > Instant::now()
    }
}

impl RetryPause {
    fn new(backoff: Backoff) -> Self {
        Self { until: Instant::now(), backoff }
    }

    fn extend(&mut self) {
        self.until = Instant::now() + self.backoff.next_jittered(rand::rng().random());
    }
}
