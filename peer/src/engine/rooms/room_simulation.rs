//! A room in simulated time, for its tests and benchmarks only: registries and profiles of many members, as nodes have
//! them, over links that are simulated.
//!
//! Each member has a machine of its own, which does one step after another. The links that a member wants, the messages
//! that it passes on and asks for, and what it stores are decided by the code of the node. Simulated are the time, the
//! links, and the tracker's word about who is online.

mod simulated_member;
mod simulated_stream;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use shared::peer::{RoomStreamReply, RoomStreamRequest};
use shared::room::MessageHash;
use shared::{Fingerprint, RoomId};

use self::simulated_member::{MemberJob, SimulatedMember, SimulatedTracker};
use self::simulated_stream::SimulatedStream;
use super::link_policy::wanted_links;
use crate::engine::Error;

const ROOM: RoomId = RoomId::from_bytes([7; 16]);
/// Members of a room that one member asks for messages at a time, as the node's.
const PULLS_PER_MEMBER: usize = 2;
/// Interval at which members look after their links, as the node's.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of comparisons without a cause, as the node's.
const COMPARE_INTERVAL: Duration = Duration::from_secs(60);
/// Crossings of a link before it can be used: two handshakes.
const HANDSHAKE_CROSSINGS: u32 = 4;

/// The size of a simulation, and its chances.
#[derive(Debug, Clone)]
pub struct SimulationOptions {
    /// The number of members.
    pub members: usize,
    /// The seed of all that chance decides.
    pub seed: u64,
    /// The least and the greatest delay of a link. Each has one for good.
    pub link_delay: (Duration, Duration),
    /// The time that a member takes for a step; `None`: the time that the step really takes on this machine.
    pub step_time: Option<Duration>,
}

/// What a member has sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct SentTraffic {
    /// Number of frames.
    pub frames: u64,
    /// Bytes of frames and of what follows them.
    pub bytes: u64,
}

/// A room whose members live in simulated time.
#[derive(Debug)]
pub struct RoomSimulation {
    options: SimulationOptions,
    chance: ChanceSequence,
    now: Duration,
    events: BTreeMap<(Duration, u64), SimulatedEvent>,
    event_count: u64,
    members: Vec<SimulatedMember>,
    numbers: HashMap<Fingerprint, usize>,
    links: BTreeMap<(usize, usize), SimulatedLink>,
    streams: HashMap<u64, SimulatedStream>,
    faults: Vec<String>,
}

#[derive(Debug)]
struct SimulatedLink {
    /// Tells it from an earlier one of the same members.
    number: u64,
    delay: Duration,
    /// The streams of both ends; none while the link is being dialed.
    streams: Vec<u64>,
}

#[derive(Debug)]
enum SimulatedEvent {
    LinkUp { link: (usize, usize), number: u64 },
    JobArrives { member: usize, job: MemberJob },
    MemberReady { member: usize },
    Tick { member: usize, life: u64 },
    CompareInterval { stream: u64 },
}

/// The outcome of a member's step that leaves the member.
#[derive(Debug)]
enum SentFrame {
    Request { stream: u64, request: RoomStreamRequest },
    Reply { stream: u64, reply: RoomStreamReply, bytes: Bytes },
}

/// SplitMix64.
#[derive(Debug)]
struct ChanceSequence(u64);

impl ChanceSequence {
    fn next_value(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, (least, most): (Duration, Duration)) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(0);
        least + Duration::from_micros(self.next_value() % (span + 1))
    }
}

impl RoomSimulation {
    /// Makes the members, with their profiles in `home`, and lets them join one room. Nobody is linked yet.
    ///
    /// # Errors
    /// The profiles can't be made.
    pub fn new(options: SimulationOptions, home: &Path) -> Result<Self, Error> {
        let mut tracker = SimulatedTracker::new()?;
        let mut members = Vec::new();
        for number in 0..options.members {
            let member = SimulatedMember::new(number, home)?;
            tracker.join(&member);
            members.push(member);
        }
        for member in &mut members {
            member.take_records(&tracker)?;
        }
        let numbers = members.iter().enumerate().map(|(number, member)| (member.key(), number)).collect();
        let mut simulation = Self {
            chance: ChanceSequence(options.seed),
            options,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            event_count: 0,
            members,
            numbers,
            links: BTreeMap::new(),
            streams: HashMap::new(),
            faults: Vec::new(),
        };
        for member in 0..simulation.members.len() {
            simulation.begin_ticks(member);
        }
        Ok(simulation)
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.take_event(end) {}
        self.now = end;
    }

    /// Lets a running member write.
    pub fn write(&mut self, member: usize, text: &str) {
        self.arrive(self.now, member, MemberJob::Write(text.to_owned()));
    }

    /// Lets time pass until all running members hold `count` messages. Returns that time; `None` if `limit` passes first.
    pub fn pass_until_all_hold(&mut self, count: usize, limit: Duration) -> Option<Duration> {
        let (begin, end) = (self.now, self.now + limit);
        while self.members.iter().any(|member| member.is_running() && member.message_count < count) {
            if !self.take_event(end) {
                self.now = end;
                return None;
            }
        }
        Some(self.now - begin)
    }

    /// Parts the members: those on different sides reach each other no more. The first side has the tracker, which tells
    /// its members at once who is there; the others count on everybody.
    pub fn part(&mut self, side_of: impl Fn(usize) -> usize) {
        for (number, member) in self.members.iter_mut().enumerate() {
            member.side = side_of(number);
        }
        let parted = |(one, other): &(usize, usize)| self.members[*one].side != self.members[*other].side;
        let cut: Vec<(usize, usize)> = self.links.keys().copied().filter(parted).collect();
        cut.into_iter().for_each(|link| self.end_link(link));
    }

    /// Breaks the link between two members, if there is one. They dial again by themselves.
    pub fn break_link(&mut self, one: usize, other: usize) {
        self.end_link((one.min(other), one.max(other)));
    }

    /// Ends a member's node as `kill -9` does.
    pub fn crash(&mut self, member: usize) {
        let links: Vec<(usize, usize)> =
            self.links.keys().copied().filter(|(one, other)| *one == member || *other == member).collect();
        links.into_iter().for_each(|link| self.end_link(link));
        self.members[member].crash();
    }

    /// Starts a member's node again.
    ///
    /// # Errors
    /// The profile can't be loaded.
    pub fn restart(&mut self, member: usize) -> Result<(), Error> {
        self.members[member].restart()?;
        self.begin_ticks(member);
        Ok(())
    }

    /// Returns the messages of a running member, in the room's order.
    pub fn order(&self, member: usize) -> Vec<MessageHash> {
        self.members[member].order()
    }

    /// Returns true if a member's node runs.
    pub fn is_running(&self, member: usize) -> bool {
        self.members[member].is_running()
    }

    /// Returns the number of links that a member has.
    pub fn link_count(&self, member: usize) -> usize {
        self.links.keys().filter(|(one, other)| *one == member || *other == member).count()
    }

    /// Returns what each member has sent since the last call.
    pub fn take_traffic(&mut self) -> Vec<SentTraffic> {
        self.members.iter_mut().map(|member| std::mem::take(&mut member.traffic)).collect()
    }

    /// Returns what must not happen and did.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    fn schedule(&mut self, at: Duration, event: SimulatedEvent) {
        // Events of one instant stay in the order in which they were scheduled.
        self.event_count += 1;
        self.events.insert((at, self.event_count), event);
    }

    /// Takes the next event up to `end`. Returns false if there is none.
    fn take_event(&mut self, end: Duration) -> bool {
        let Some(next) = self.events.first_entry().filter(|next| next.key().0 <= end) else { return false };
        let ((at, _), event) = next.remove_entry();
        self.now = at;
        match event {
            SimulatedEvent::LinkUp { link, number } => self.open_link(link, number),
            SimulatedEvent::JobArrives { member, job } => self.arrive(at, member, job),
            SimulatedEvent::MemberReady { member } => self.do_step(member),
            SimulatedEvent::Tick { member, life } => {
                // A tick of an earlier start goes nowhere: the restart has ticks of its own.
                if self.members[member].is_running() && self.members[member].life == life {
                    self.arrive(at, member, MemberJob::Tick);
                    self.plan_links(member);
                    self.schedule(at + TICK_INTERVAL, SimulatedEvent::Tick { member, life });
                }
            }
            SimulatedEvent::CompareInterval { stream } => {
                if let Some(known) = self.streams.get_mut(&stream) {
                    known.is_comparison_due = true;
                    let opener = known.opener;
                    self.arrive(at, opener, MemberJob::Wake);
                    self.schedule(at + COMPARE_INTERVAL, SimulatedEvent::CompareInterval { stream });
                }
            }
        }
        true
    }

    fn begin_ticks(&mut self, member: usize) {
        // Not all at once.
        let first = self.now + self.chance.between((Duration::ZERO, TICK_INTERVAL));
        self.schedule(first, SimulatedEvent::Tick { member, life: self.members[member].life });
    }

    fn arrive(&mut self, at: Duration, member: usize, job: MemberJob) {
        let known = &mut self.members[member];
        if known.is_running()
            && let Some(ready) = known.take_job(job, at)
        {
            self.schedule(ready, SimulatedEvent::MemberReady { member });
        }
    }

    fn do_step(&mut self, member: usize) {
        let (begin, at) = (std::time::Instant::now(), self.now);
        let Some(job) = self.members[member].next_job(at) else { return };
        let mut sent = Vec::new();
        let streams = self.members[member].streams.clone();
        if let Err(fault) = self.members[member].perform(job, &mut self.streams, &mut sent) {
            self.faults.push(format!("member {member}: {fault}"));
        }
        for stream in streams {
            if let Some(known) = self.streams.get_mut(&stream) {
                self.members[member].pump(stream, known, &mut sent);
            }
        }
        let done = at + self.options.step_time.unwrap_or_else(|| begin.elapsed());
        self.members[member].message_count = self.members[member].order().len();
        if self.members[member].finish_step(done) {
            self.schedule(done, SimulatedEvent::MemberReady { member });
        }
        sent.into_iter().for_each(|frame| self.send(member, frame, done));
    }

    fn send(&mut self, from: usize, frame: SentFrame, at: Duration) {
        let (SentFrame::Request { stream, .. } | SentFrame::Reply { stream, .. }) = &frame;
        let Some(known) = self.streams.get(stream) else { return };
        let (to, delay) = (if known.opener == from { known.acceptor } else { known.opener }, known.delay);
        let traffic = &mut self.members[from].traffic;
        traffic.frames += 1;
        traffic.bytes += frame.wire_bytes();
        let job = match frame {
            SentFrame::Request { stream, request } => MemberJob::Request { stream, request },
            SentFrame::Reply { stream, reply, bytes } => MemberJob::Reply { stream, reply, bytes },
        };
        self.schedule(at + delay, SimulatedEvent::JobArrives { member: to, job });
    }

    /// Dials the members that one wants and has no link to.
    fn plan_links(&mut self, member: usize) {
        let (side, now) = (self.members[member].side, self.members[member].instant());
        let is_linked = |other: usize| self.links.contains_key(&(member.min(other), member.max(other)));
        // Whoever doesn't hear the tracker counts on everybody.
        let is_online = |other: usize| {
            is_linked(other) || side != 0 || (self.members[other].side == 0 && self.members[other].is_running())
        };
        let is_unreachable = |other: usize| {
            !is_linked(other) && self.members[member].unreachable.contains(self.members[other].user(), now)
        };
        let keys = |is_one: &dyn Fn(usize) -> bool| -> BTreeSet<Fingerprint> {
            (0..self.members.len()).filter(|other| is_one(*other)).map(|other| self.members[other].key()).collect()
        };
        let (online, unreachable) = (keys(&is_online), keys(&is_unreachable));
        for key in wanted_links(ROOM, &self.members[member].key(), &online, &unreachable) {
            let Some(other) = self.numbers.get(&key).copied() else { continue };
            let link = (member.min(other), member.max(other));
            if self.links.contains_key(&link) {
                continue;
            }
            if !self.members[other].is_running() || self.members[other].side != side {
                let user = self.members[other].user().clone();
                self.members[member].unreachable.note_failure(user, now);
                continue;
            }
            let delay = self.chance.between(self.options.link_delay);
            self.event_count += 1;
            let number = self.event_count;
            self.links.insert(link, SimulatedLink { number, delay, streams: Vec::new() });
            self.schedule(self.now + delay * HANDSHAKE_CROSSINGS, SimulatedEvent::LinkUp { link, number });
        }
    }

    fn open_link(&mut self, link: (usize, usize), number: u64) {
        // It may have ended, and been dialed again, since this was scheduled.
        let Some(known) = self.links.get(&link).filter(|known| known.number == number) else { return };
        let delay = known.delay;
        let mut streams = Vec::new();
        for (direction, (opener, acceptor)) in [link, (link.1, link.0)].into_iter().enumerate() {
            let stream = number * 2 + direction as u64;
            let [from, to] = [opener, acceptor].map(|member| (member, self.members[member].key()));
            let (opened, outlet) = SimulatedStream::open(from, to, delay);
            if let Some(registry) = &mut self.members[opener].registry {
                registry.outlets().add(ROOM, outlet);
            }
            self.streams.insert(stream, opened);
            self.members[opener].streams.push(stream);
            self.arrive(self.now, opener, MemberJob::Wake);
            self.schedule(self.now + COMPARE_INTERVAL, SimulatedEvent::CompareInterval { stream });
            streams.push(stream);
        }
        if let Some(known) = self.links.get_mut(&link) {
            known.streams = streams;
        }
    }

    fn end_link(&mut self, link: (usize, usize)) {
        let Some(SimulatedLink { streams, .. }) = self.links.remove(&link) else { return };
        for stream in streams {
            if let Some(SimulatedStream { opener, pull, .. }) = self.streams.remove(&stream) {
                let member = &mut self.members[opener];
                member.streams.retain(|other| *other != stream);
                member.pulls -= usize::from(pull.is_some());
            }
        }
    }
}

impl SentFrame {
    fn wire_bytes(&self) -> u64 {
        let mut frame = Vec::new();
        let (encoded, behind) = match self {
            Self::Request { request, .. } => (shared::frame::encode(request, &mut frame), 0),
            Self::Reply { reply, bytes, .. } => (shared::frame::encode(reply, &mut frame), bytes.len()),
        };
        debug_assert!(encoded.is_ok(), "{self:?}");
        (frame.len() + behind) as u64
    }
}

#[cfg(test)]
mod tests;
