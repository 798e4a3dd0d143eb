//! A member of a simulated room, and its tracker.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use certs::Identity;
use rooms::{HistoryVisibility, MembershipRecord, RoomChange, Signature, SignedRecord, VerifyingKey};
use shared::peer::{RoomStreamReply, RoomStreamRequest};
use shared::room::MessageHash;
use shared::{Fingerprint, UserName};

use super::simulated_stream::SimulatedStream;
use super::{PULLS_PER_MEMBER, ROOM, SentFrame, SentTraffic};
use crate::engine::event_bus::EventBus;
use crate::engine::rooms::link_policy::UnreachableMembers;
use crate::engine::rooms::pull_session::{PullSession, part_lengths};
use crate::engine::rooms::room_answers::{AnswerFailure, answer_request};
use crate::engine::rooms::room_clock::{RoomClock, SimulatedClock};
use crate::engine::rooms::room_directory::RoomDirectory;
use crate::engine::rooms::room_registry::RoomRegistry;
use crate::engine::rooms::unanswered_requests::AnsweredRequest;
use crate::engine::{Error, LocalUser, now_ms};
use crate::profile::Profile;

/// A member, with its node if it runs.
#[derive(Debug)]
pub(super) struct SimulatedMember {
    me: LocalUser,
    clock: SimulatedClock,
    pub(super) registry: Option<RoomRegistry>,
    /// The number of the present start.
    pub(super) life: u64,
    /// The part of the network in which it is.
    pub(super) side: usize,
    /// The members that it could not dial.
    pub(super) unreachable: UnreachableMembers,
    /// The streams that it opened.
    pub(super) streams: Vec<u64>,
    /// The comparisons under way.
    pub(super) pulls: usize,
    pub(super) traffic: SentTraffic,
    /// The number of messages after its last step.
    pub(super) message_count: usize,
    jobs: VecDeque<MemberJob>,
    is_step_scheduled: bool,
    busy_until: Duration,
}

/// A cause of a step.
#[derive(Debug)]
pub(super) enum MemberJob {
    Request {
        stream: u64,
        request: RoomStreamRequest,
    },
    Reply {
        stream: u64,
        reply: RoomStreamReply,
        bytes: Bytes,
    },
    Write(String),
    Tick,
    /// A stream has something to do.
    Wake,
}

/// The key and the records of a tracker.
#[derive(Debug)]
pub(super) struct SimulatedTracker {
    keys: Ed25519KeyPair,
    records: Vec<SignedRecord>,
}

impl SimulatedMember {
    /// Makes a member with a profile in `home`, and starts it.
    pub(super) fn new(number: usize, home: &Path) -> Result<Self, Error> {
        let name = format!("user{number}");
        let profile = Profile::open(&home.join(&name))?;
        let internal = |why: String| Error::Internal(why);
        let identity = Identity::generate().map_err(|why| internal(why.to_string()))?;
        let user = name.parse().map_err(|_| internal(name.clone()))?;
        let me = LocalUser::without_tracker(profile, Arc::new(identity), user);
        let mut member = Self {
            me,
            clock: SimulatedClock::starting_at(now_ms()),
            registry: None,
            life: 0,
            side: 0,
            unreachable: UnreachableMembers::default(),
            streams: Vec::new(),
            pulls: 0,
            traffic: SentTraffic::default(),
            message_count: 0,
            jobs: VecDeque::new(),
            is_step_scheduled: false,
            busy_until: Duration::ZERO,
        };
        member.restart()?;
        Ok(member)
    }

    pub(super) fn key(&self) -> Fingerprint {
        self.me.identity.fingerprint()
    }

    pub(super) const fn user(&self) -> &UserName {
        &self.me.user
    }

    /// Returns the time by the member's clock.
    pub(super) fn instant(&self) -> Instant {
        RoomClock::Simulated(self.clock.clone()).instant()
    }

    pub(super) fn is_running(&self) -> bool {
        self.registry.is_some()
    }

    /// Starts the node: what it knows is what its profile has.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        let (directory, clock) = (RoomDirectory::new(self.key()), RoomClock::Simulated(self.clock.clone()));
        self.registry = Some(RoomRegistry::load_with_clock(self.me.clone(), directory, EventBus::new(), clock)?);
        Ok(())
    }

    /// Ends the node without a word. Its streams were ended.
    pub(super) fn crash(&mut self) {
        self.registry = None;
        self.life += 1;
        // The table is only in memory: a new start dials everybody again.
        self.unreachable = UnreachableMembers::default();
        self.jobs.clear();
    }

    pub(super) fn take_records(&mut self, tracker: &SimulatedTracker) -> Result<(), Error> {
        let Some(registry) = &mut self.registry else { return Ok(()) };
        registry.take_records(ROOM, tracker.key(), &tracker.wire()).map(|_| ())
    }

    /// Returns the messages, in the room's order.
    pub(super) fn order(&self) -> Vec<MessageHash> {
        self.registry.as_ref().map(|registry| registry.order(ROOM)).unwrap_or_default()
    }

    /// Takes a job. Returns the time of the next step unless that is scheduled already.
    pub(super) fn take_job(&mut self, job: MemberJob, at: Duration) -> Option<Duration> {
        self.jobs.push_back(job);
        let is_scheduled = std::mem::replace(&mut self.is_step_scheduled, true);
        (!is_scheduled).then(|| at.max(self.busy_until))
    }

    /// Begins a step, which was scheduled.
    pub(super) fn next_job(&mut self, at: Duration) -> Option<MemberJob> {
        self.is_step_scheduled = false;
        self.clock.set(at);
        self.jobs.pop_front()
    }

    /// Ends a step. Returns true if another one is to be scheduled.
    pub(super) fn finish_step(&mut self, done: Duration) -> bool {
        self.busy_until = done;
        self.is_step_scheduled |= !self.jobs.is_empty();
        self.is_step_scheduled
    }

    /// Does a job.
    ///
    /// # Errors
    /// Words about what no honest member does, or can't be stored.
    pub(super) fn perform(
        &mut self,
        job: MemberJob,
        streams: &mut HashMap<u64, SimulatedStream>,
        sent: &mut Vec<SentFrame>,
    ) -> Result<(), String> {
        let Some(registry) = &mut self.registry else { return Ok(()) };
        match job {
            MemberJob::Write(text) => drop(registry.write(ROOM, &text).map_err(|why| why.to_string())?),
            MemberJob::Tick if registry.is_tick_due() => registry.tick(),
            MemberJob::Tick | MemberJob::Wake => {}
            MemberJob::Request { stream, request } => {
                let Some(known) = streams.get(&stream) else { return Ok(()) };
                match answer_request(registry, ROOM, known.opener_key, request) {
                    Ok(answer) => sent.push(SentFrame::Reply { stream, reply: answer.reply, bytes: answer.bytes }),
                    Err(AnswerFailure::Misbehaviour(why)) => return Err(why),
                    Err(AnswerFailure::Fault(error)) => return Err(error.to_string()),
                }
            }
            MemberJob::Reply { stream, reply, bytes } => {
                let Some(known) = streams.get_mut(&stream) else { return Ok(()) };
                match known.unanswered.settle(&reply) {
                    None => return Err("a reply that nobody asked for".to_owned()),
                    Some(AnsweredRequest::Push) => {}
                    Some(AnsweredRequest::Delivered { message, number }) => {
                        registry.note_delivered(ROOM, known.acceptor_key, number, Some(message));
                    }
                    Some(AnsweredRequest::Question) => {
                        let Some(mut session) = known.pull.take() else { return Err("no question".to_owned()) };
                        let parts = split_parts(&reply, bytes);
                        match session.take_reply(registry, reply, parts).map_err(|why| why.to_string())? {
                            Some(request) => {
                                known.pull = Some(session);
                                known.unanswered.note_question();
                                sent.push(SentFrame::Request { stream, request });
                            }
                            None => self.pulls -= 1,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends what one of the member's streams has to send.
    pub(super) fn pump(&mut self, stream: u64, known: &mut SimulatedStream, sent: &mut Vec<SentFrame>) {
        while known.unanswered.has_room_for_push()
            && let Ok(push) = known.pushes.try_recv()
        {
            known.unanswered.note_push(push.message, push.own_number);
            sent.push(SentFrame::Request { stream, request: RoomStreamRequest::New { run: push.run } });
        }
        known.note_demand();
        let may_begin = known.is_comparison_due && known.pull.is_none() && self.pulls < PULLS_PER_MEMBER;
        if let Some(registry) = self.registry.as_mut().filter(|_| may_begin) {
            known.is_comparison_due = false;
            if let Some((session, request)) = PullSession::begin(registry, ROOM, known.acceptor_key) {
                self.pulls += 1;
                known.pull = Some(session);
                known.unanswered.note_question();
                sent.push(SentFrame::Request { stream, request });
            }
        }
    }
}

impl SimulatedTracker {
    /// Makes a tracker with one room, which has no members.
    pub(super) fn new() -> Result<Self, Error> {
        let internal = |why: &str| Error::Internal(why.to_owned());
        // Always the same key: a seed repeats a simulation exactly.
        let keys = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).map_err(|_| internal("a key"))?;
        let mut tracker = Self { keys, records: Vec::new() };
        let room_name = "lab".parse().map_err(|_| internal("a name"))?;
        tracker.change(RoomChange::Create { room_name, history: HistoryVisibility::Shared });
        Ok(tracker)
    }

    pub(super) fn join(&mut self, member: &SimulatedMember) {
        self.change(RoomChange::Join { user: member.me.user.clone(), key: member.key() });
    }

    fn change(&mut self, change: RoomChange) {
        let previous = self.records.last().map(SignedRecord::hash);
        let epoch = self.records.len() as u64 + 1;
        self.records.push(MembershipRecord { room: ROOM, epoch, previous, time: 0, change }.sign(&self.keys));
    }

    fn key(&self) -> VerifyingKey {
        let raw = self.keys.public_key().as_ref().first_chunk().copied().unwrap_or_default();
        VerifyingKey::from_raw(raw)
    }

    fn wire(&self) -> Vec<(Vec<u8>, Signature)> {
        self.records.iter().map(|record| (record.signed().to_vec(), *record.signature())).collect()
    }
}

/// Splits the bytes behind a reply as the reply says.
fn split_parts(reply: &RoomStreamReply, mut bytes: Bytes) -> Vec<Vec<u8>> {
    let lengths = part_lengths(reply).into_iter().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    lengths.map(|length| bytes.split_to(length.min(bytes.len())).to_vec()).collect()
}
