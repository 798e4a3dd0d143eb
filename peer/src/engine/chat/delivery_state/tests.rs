//! A model of two sides under random losses, repeats and crashes: in the end both have the same messages, each once, in
//! the author's order.

use proptest::prelude::*;
use shared::UserName;

use super::*;
use crate::profile::{HistoryQuery, MessageDirection, MessageState, Profile};

/// The storage that outlives a crash.
trait Disk {
    fn say(&mut self, message: &ChatMessage);
    fn waiting(&self, after: i64, limit: usize) -> Vec<StoredMessage>;
    fn settle(&mut self, id: MessageId, state: MessageState);
    fn keep(&mut self, messages: &[ChatMessage]) -> Vec<StoreOutcome>;
    fn received(&self) -> Vec<MessageId>;
}

fn peer() -> UserName {
    "peer".parse().unwrap()
}

/// Storage in memory.
#[derive(Default)]
struct Memory {
    outbox: Vec<StoredMessage>,
    said: i64,
    inbox: Vec<MessageId>,
}

impl Disk for Memory {
    fn say(&mut self, message: &ChatMessage) {
        self.said += 1;
        let (direction, state, message) = (MessageDirection::Out, MessageState::Waiting, message.clone());
        self.outbox.push(StoredMessage { seq: self.said, peer: peer(), direction, message, state, at: 0, room: None });
    }

    fn waiting(&self, after: i64, limit: usize) -> Vec<StoredMessage> {
        self.outbox.iter().filter(|stored| stored.seq > after).take(limit).cloned().collect()
    }

    fn settle(&mut self, id: MessageId, state: MessageState) {
        if !state.is_queued() {
            self.outbox.retain(|stored| stored.message.id != id);
        }
    }

    fn keep(&mut self, messages: &[ChatMessage]) -> Vec<StoreOutcome> {
        let keep = |message: &ChatMessage| {
            if self.inbox.contains(&message.id) {
                return StoreOutcome::Duplicate;
            }
            self.inbox.push(message.id);
            StoreOutcome::New(i64::try_from(self.inbox.len()).unwrap())
        };
        messages.iter().map(keep).collect()
    }

    fn received(&self) -> Vec<MessageId> {
        self.inbox.clone()
    }
}

impl Disk for Profile {
    fn say(&mut self, message: &ChatMessage) {
        assert!(matches!(self.store_outgoing(&peer(), message, 0).unwrap(), StoreOutcome::New(_)));
    }

    fn waiting(&self, after: i64, limit: usize) -> Vec<StoredMessage> {
        self.queued_for(&peer(), after, limit).unwrap()
    }

    fn settle(&mut self, id: MessageId, state: MessageState) {
        Self::record_delivery_states(self, &peer(), &[(id, state)]).unwrap();
    }

    fn keep(&mut self, messages: &[ChatMessage]) -> Vec<StoreOutcome> {
        self.store_incoming(&peer(), messages, 0).unwrap()
    }

    fn received(&self) -> Vec<MessageId> {
        let all = self.history(&HistoryQuery::last(usize::MAX)).unwrap();
        all.into_iter()
            .filter(|stored| stored.direction == MessageDirection::In)
            .map(|stored| stored.message.id)
            .collect()
    }
}

/// One stream from an author to a receiver, with the frames in flight.
#[derive(Default)]
struct Stream {
    sending: SendWindow,
    forth: VecDeque<ChatMessage>,
    back: VecDeque<ChatReply>,
    /// The receiver takes nothing more from it.
    deaf: bool,
}

/// An event in one direction.
#[derive(Debug, Clone, Copy)]
enum Step {
    Say,
    /// Another stream is opened; earlier ones go on.
    Connect,
    /// This many queued messages are sent on a stream.
    Send(usize, usize),
    /// This many frames of a stream are stored, with one write, and acked.
    Take(usize, usize),
    /// The same, and the receiver dies between the two.
    TakeAndDie(usize, usize),
    /// There is no room for the message after this many.
    TakeAndBeFull(usize, usize),
    /// The replies on a stream arrive.
    Reply(usize),
    /// The same, and the author dies before they are recorded.
    ReplyAndDie(usize),
    /// A stream is lost with all that is in it.
    Lose(usize),
    /// The author dies with all its streams; what is in them may still arrive.
    Restart,
}

struct Way<'a> {
    author: &'a mut dyn Disk,
    receiver: &'a mut dyn Disk,
    streams: Vec<Stream>,
    /// Streams whose author is gone.
    left: Vec<Stream>,
    said: Vec<MessageId>,
    now: Instant,
}

impl Way<'_> {
    fn say(&mut self) {
        let number = u128::try_from(self.said.len()).unwrap() + 1;
        let id = MessageId::from_bytes(number.to_be_bytes());
        self.said.push(id);
        self.author.say(&ChatMessage { id, ts: 0, text: number.to_string().into(), offer: None, send: None });
    }

    fn send(&mut self, stream: usize, count: usize) {
        let Some(stream) = pick(&mut self.streams, stream) else { return };
        for stored in self.author.waiting(stream.sending.last_sent_seq(), stream.sending.free_slots().min(count)) {
            stream.sending.note_sent(&stored, self.now);
            stream.forth.push_back(stored.message);
        }
    }

    /// `room`: how many of them there is room for.
    fn take(&mut self, stream: usize, count: usize, room: usize, dies: bool) {
        let all = self.streams.len() + self.left.len();
        let Some(index) = stream.checked_rem(all) else { return };
        let streams = self.streams.len();
        let stream = if index < streams { &mut self.streams[index] } else { &mut self.left[index - streams] };
        if stream.deaf {
            return;
        }
        let count = count.min(stream.forth.len());
        let batch: Vec<ChatMessage> = stream.forth.drain(..count).collect();
        let mut kept = self.receiver.keep(&batch[..room.min(batch.len())]);
        if kept.len() < batch.len() {
            kept.push(StoreOutcome::Full);
        }
        let (answers, goes_on) = replies_to(&batch, &kept);
        stream.deaf = !goes_on;
        if dies {
            self.streams.clear();
            self.left.clear();
        } else {
            stream.back.extend(answers);
        }
    }

    fn reply(&mut self, stream: usize, dies: bool) {
        let Some(index) = stream.checked_rem(self.streams.len()) else { return };
        let stream = &mut self.streams[index];
        let mut is_over = false;
        while let Some(reply) = stream.back.pop_front() {
            match stream.sending.handle_reply(reply) {
                ReplyOutcome::Stored(id) if !dies => self.author.settle(id, MessageState::Stored),
                ReplyOutcome::Deferred(..) => is_over = true,
                ReplyOutcome::Rejected(..) => panic!("nothing is refused for ever"),
                ReplyOutcome::Stored(_) | ReplyOutcome::Ignored => {}
                ReplyOutcome::Flood => panic!("each message is acked once a stream"),
            }
        }
        if dies {
            self.restart();
        } else if is_over {
            self.streams.remove(index);
        }
    }

    fn restart(&mut self) {
        self.left.append(&mut self.streams);
    }

    fn happen(&mut self, step: Step) {
        match step {
            Step::Say => self.say(),
            Step::Connect => self.streams.push(Stream::default()),
            Step::Send(stream, count) => self.send(stream, count),
            Step::Take(stream, count) => self.take(stream, count, usize::MAX, false),
            Step::TakeAndDie(stream, count) => self.take(stream, count, usize::MAX, true),
            Step::TakeAndBeFull(stream, count) => self.take(stream, count, count / 2, false),
            Step::Reply(stream) => self.reply(stream, false),
            Step::ReplyAndDie(stream) => self.reply(stream, true),
            Step::Lose(stream) => {
                if let Some(index) = stream.checked_rem(self.streams.len()) {
                    self.streams.remove(index);
                }
            }
            Step::Restart => self.restart(),
        }
        // An invariant: the stored messages are a prefix of the written ones.
        let received = self.receiver.received();
        assert_eq!(received, self.said[..received.len()], "after {step:?}");
    }

    /// Both sides run and the network is good.
    fn settle_down(&mut self) {
        self.happen(Step::Connect);
        let last = self.streams.len() - 1;
        while !self.author.waiting(0, 1).is_empty() {
            self.happen(Step::Send(last, usize::MAX));
            self.happen(Step::Take(last, usize::MAX));
            self.happen(Step::Reply(last));
        }
        assert_eq!(self.receiver.received(), self.said);
    }
}

fn pick(streams: &mut [Stream], number: usize) -> Option<&mut Stream> {
    let index = number.checked_rem(streams.len())?;
    streams.get_mut(index)
}

fn steps() -> impl Strategy<Value = Step> {
    let (stream, count) = (0_usize..6, 0_usize..12);
    prop_oneof![
        4 => Just(Step::Say),
        2 => Just(Step::Connect),
        6 => (stream.clone(), count.clone()).prop_map(|(stream, count)| Step::Send(stream, count)),
        5 => (stream.clone(), count.clone()).prop_map(|(stream, count)| Step::Take(stream, count)),
        1 => (stream.clone(), count.clone()).prop_map(|(stream, count)| Step::TakeAndDie(stream, count)),
        1 => (stream.clone(), count).prop_map(|(stream, count)| Step::TakeAndBeFull(stream, count)),
        4 => stream.clone().prop_map(Step::Reply),
        1 => stream.clone().prop_map(Step::ReplyAndDie),
        1 => stream.prop_map(Step::Lose),
        1 => Just(Step::Restart),
    ]
}

fn run(author: &mut dyn Disk, receiver: &mut dyn Disk, steps: Vec<Step>) {
    let mut way =
        Way { author, receiver, streams: Vec::new(), left: Vec::new(), said: Vec::new(), now: Instant::now() };
    steps.into_iter().for_each(|step| way.happen(step));
    way.settle_down();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_sides_agree_in_the_end(steps in proptest::collection::vec(steps(), 0..200)) {
        run(&mut Memory::default(), &mut Memory::default(), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn so_they_do_on_a_real_disk(steps in proptest::collection::vec(steps(), 0..120)) {
        let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [mut author, mut receiver] = homes.each_ref().map(|home| Profile::open(home.path()).unwrap());
        run(&mut author, &mut receiver, steps);
    }

    #[test]
    fn no_clock_makes_a_message_wait_for_longer_or_forever(since: i64, now: i64) {
        let left = time_left(since, now);
        prop_assert!(left <= Duration::from_secs(14 * 24 * 3600));
        prop_assert_eq!(since < expiry_cutoff(now), left.is_zero() && now.saturating_sub(since) > MESSAGE_TTL_MS);
    }
}

#[test]
fn a_slow_message_is_told_once_and_lost_in_the_end() {
    let begin = Instant::now();
    let mut sending = SendWindow::default();
    let mut disk = Memory::default();
    let id = MessageId::from_bytes([1; 16]);
    disk.say(&ChatMessage { id, ts: 0, text: "x".into(), offer: None, send: None });
    sending.note_sent(&disk.waiting(0, 1)[0], begin);
    assert_eq!(sending.next_timeout(), Some(begin + SENT_REPORT_DELAY));
    assert_eq!(sending.take_slow(begin), []);
    assert_eq!(sending.take_slow(begin + SENT_REPORT_DELAY), [id]);
    assert_eq!(sending.take_slow(begin + SENT_REPORT_DELAY * 2), []);
    assert!(!sending.is_timed_out(begin + SENT_REPORT_DELAY) && sending.is_timed_out(begin + ACK_TIMEOUT));
    // Nobody acks what was not sent here, and nobody twice.
    assert_eq!(sending.handle_reply(ChatReply::Ack { id: MessageId::from_bytes([2; 16]) }), ReplyOutcome::Ignored);
    assert_eq!(sending.handle_reply(ChatReply::Ack { id }), ReplyOutcome::Stored(id));
    assert_eq!(sending.handle_reply(ChatReply::Ack { id }), ReplyOutcome::Ignored);
    assert!(sending.is_idle() && sending.next_timeout().is_none());
}

#[test]
fn replies_to_nothing_end_in_the_end_and_a_useful_one_excuses_them() {
    let now = Instant::now();
    let mut sending = SendWindow::default();
    let message = |byte: u8| {
        let message =
            ChatMessage { id: MessageId::from_bytes([byte; 16]), ts: 0, text: "x".into(), offer: None, send: None };
        let (direction, state) = (MessageDirection::Out, MessageState::Waiting);
        StoredMessage { seq: byte.into(), peer: peer(), direction, message, state, at: 0, room: None }
    };
    let ack = |byte: u8| ChatReply::Ack { id: MessageId::from_bytes([byte; 16]) };
    sending.note_sent(&message(1), now);
    sending.note_sent(&message(2), now);
    let idle = |sending: &mut SendWindow| {
        (0..MAX_STRAY_REPLIES).all(|no| {
            sending.handle_reply(if no % 2 == 0 { ack(9) } else { ChatReply::Unknown }) == ReplyOutcome::Ignored
        })
    };
    assert!(idle(&mut sending));
    assert_eq!(sending.handle_reply(ack(1)), ReplyOutcome::Stored(MessageId::from_bytes([1; 16])));
    assert!(idle(&mut sending));
    assert_eq!(sending.handle_reply(ack(1)), ReplyOutcome::Flood);
}
