//! The receiving side of chat: reads a stream of messages, stores them and acks them, within rate limits.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | messages and other frames of one user, over all links and streams | 4 MiB at once, then 128 KiB a second; each frame counts 256 bytes beside its text | not read meanwhile: the stream's window fills up and its sender waits |
//! | the same in the long run | 16 MiB, then 2 KiB a second | refused for now: the sender tries again later |
//! | frames that are handled together | 256, or 256 KiB | the next batch |
//! | typing notices that are reported | one a second and user, and one after each message, in conversations in which this side's user takes part | dropped |
//! | users whose rates are remembered | 256, and all whose rates are not full yet | full rates are forgotten |

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::UserName;
use shared::peer::{ChatFrame, ChatMessage, ChatReply, PeerErrorCode};

use super::delivery_state::{check_message, replies_to};
use super::{ConversationStatus, LocalUser, StoreOutcome};
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::{now_ms, run_blocking};
use crate::net::StreamError;
use crate::net::frame_receiver::FrameReceiver;
use crate::net::stream::StreamSender;
use crate::util::TranslatedText;
use crate::util::rate_limit::{TokenBucket, sleep_if_positive};

/// Frames handled together, and messages stored with one write to the disk.
const BATCH: usize = 256;
/// Cost of a frame for the rate, in bytes beside the text and the offer of a message.
const COST: usize = 256;
/// Cost of the frames handled together, which bounds their memory for each stream.
const MAX_BATCH_COST: usize = 256 << 10;
/// Bytes a second that one user may send after the burst. A stream has at most 1 MiB in flight, which at this rate is
/// stored before its sender gives up waiting ([`super::delivery_state::ACK_TIMEOUT`]).
const RATE: u64 = 128 << 10;
/// Bytes that one user may send at once: more than ten thousand lines.
const BURST: u64 = 4 << 20;
/// Bytes a second in the long run: bounds the disk space that a user can fill while nobody reads.
const LASTING_RATE: u64 = 2 << 10;
const LASTING_BURST: u64 = 16 << 20;
/// Users whose rates are remembered; beyond that, users whose rates are full again are forgotten.
const MAX_TRACKED_USERS: usize = 256;
/// Shortest interval between two reported typing notices of one user.
const TYPING_INTERVAL: Duration = Duration::from_secs(1);

/// The rate limits of each author, over all streams and links.
#[derive(Debug, Default)]
pub struct ChatRateLimiter {
    authors: Mutex<HashMap<UserName, AuthorRate>>,
}

/// The rates of one author.
#[derive(Debug)]
struct AuthorRate {
    bucket: TokenBucket,
    /// The rate in the long run.
    long_term: TokenBucket,
    /// Time of the last reported typing notice.
    last_typing: Option<Instant>,
}

impl AuthorRate {
    /// Whether nothing changes when this is forgotten.
    fn is_quiet(&self, now: Instant) -> bool {
        let may_type = self.last_typing.is_none_or(|last| now.saturating_duration_since(last) >= TYPING_INTERVAL);
        may_type && self.bucket.is_full(now) && self.long_term.is_full(now)
    }
}

/// What becomes of something that somebody wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RateDecision {
    /// The batch is handled after this time.
    Delay(Duration),
    /// The author's long-term budget is spent: the batch is refused for now.
    Refuse,
}

/// Frames that are handled together.
#[derive(Debug, Default)]
struct FrameBatch {
    messages: Vec<ChatMessage>,
    is_typing: bool,
    frames: usize,
    cost: usize,
}

impl ChatRateLimiter {
    /// Charges `bytes` to `user` and decides when they are handled.
    fn reserve(&self, user: &UserName, bytes: usize, now: Instant) -> RateDecision {
        self.with_author(user, now, |author| {
            // Checked before either bucket is charged, so that a refused batch costs nothing.
            if author.long_term.is_spent(now) {
                return RateDecision::Refuse;
            }
            author.long_term.consume(bytes, now);
            RateDecision::Delay(author.bucket.consume(bytes, now))
        })
    }

    /// Returns true if a typing notice of `user` may be reported now, and records it.
    fn may_report_typing(&self, user: &UserName, now: Instant) -> bool {
        self.with_author(user, now, |author| {
            let is_due = author.last_typing.is_none_or(|last| now.saturating_duration_since(last) >= TYPING_INTERVAL);
            if is_due {
                author.last_typing = Some(now);
            }
            is_due
        })
    }

    /// Lets the next typing notice of `user` be reported at once: a message ended what the last one told of.
    fn end_typing(&self, user: &UserName, now: Instant) {
        self.with_author(user, now, |author| author.last_typing = None);
    }

    fn with_author<T>(&self, user: &UserName, now: Instant, act: impl FnOnce(&mut AuthorRate) -> T) -> T {
        let mut authors = self.authors.lock();
        if authors.len() >= MAX_TRACKED_USERS && !authors.contains_key(user) {
            authors.retain(|_, author| !author.is_quiet(now));
        }
        let (rate, lasting) = ((RATE, BURST), (LASTING_RATE, LASTING_BURST));
        let bucket = |(rate, burst)| TokenBucket::with_burst(rate, burst, now);
        let new = || AuthorRate { bucket: bucket(rate), long_term: bucket(lasting), last_typing: None };
        act(authors.entry(user.clone()).or_insert_with(new))
    }
}

impl FrameBatch {
    /// Collects a frame and those that are buffered behind it, up to the bounds of a batch.
    fn gather(first: ChatFrame, receiver: &mut FrameReceiver) -> Result<Self, StreamError> {
        let mut batch = Self::default();
        let mut next = Some(first);
        while let Some(frame) = next {
            batch.add_frame(frame);
            let is_full = batch.frames >= BATCH || batch.cost >= MAX_BATCH_COST;
            next = if is_full { None } else { receiver.buffered_frame()? };
        }
        Ok(batch)
    }

    fn add_frame(&mut self, frame: ChatFrame) {
        self.frames += 1;
        // Frames that are no messages cost as well, or a flood of them would be free.
        self.cost += COST;
        match frame {
            ChatFrame::Message(message) => {
                self.cost += message_bytes(&message);
                self.messages.push(message);
            }
            ChatFrame::Typing {} => self.is_typing = true,
            ChatFrame::Unknown => {}
        }
    }
}

/// Returns the bytes of a message whose number its author chooses.
fn message_bytes(message: &ChatMessage) -> usize {
    let offered = message.offer.as_ref().map_or(0, |offer| offer.name.as_str().len());
    message.text.len() + offered + message.send.as_ref().map_or(0, |send| send.name.as_str().len())
}

/// Receives messages of `from` until the stream ends: stores, reports and acks them.
///
/// # Errors
/// [`StreamError`] when the stream fails or breaks the protocol.
pub async fn receive_messages(
    from: &UserName,
    me: &LocalUser,
    rate_limiter: &ChatRateLimiter,
    events: &EventBus,
    mut sender: StreamSender,
    mut receiver: FrameReceiver,
) -> Result<(), StreamError> {
    while let Some(first) = receiver.next_frame().await? {
        let batch = FrameBatch::gather(first, &mut receiver)?;
        match rate_limiter.reserve(from, batch.cost, Instant::now()) {
            // Nothing is read meanwhile, so that flow control makes the sender wait.
            RateDecision::Delay(wait) => sleep_if_positive(wait).await,
            RateDecision::Refuse => {
                // One refusal is enough: it ends the stream, and the sender keeps the rest queued.
                sender.send_frames(&batch.messages.iter().take(1).map(rate_refusal).collect::<Vec<_>>()).await?;
                // Stopped, so that the sender doesn't go on into a stream that nobody reads.
                receiver.stop(PeerErrorCode::Busy);
                break;
            }
        }
        // Ignored unless the user takes part: a stranger could otherwise throttle transfers by typing.
        if batch.is_typing && events.is_participating(from) && rate_limiter.may_report_typing(from, Instant::now()) {
            report_typing(from, me, events).await;
        }
        if batch.messages.is_empty() {
            continue;
        }
        rate_limiter.end_typing(from, Instant::now());
        let (replies, goes_on) = store_messages(from, me, events, batch.messages).await;
        sender.send_frames(&replies).await?;
        if !goes_on {
            receiver.stop(PeerErrorCode::Busy);
            break;
        }
    }
    sender.finish();
    Ok(())
}

/// Returns the refusal of a message beyond the rate, after which the stream ends.
fn rate_refusal(message: &ChatMessage) -> ChatReply {
    let words = "you wrote too much there lately: try again later";
    ChatReply::Refused { id: message.id, code: PeerErrorCode::Busy, message: words.into() }
}

/// Reports that `from` is typing, unless blocked: a blocked user may still have a link that was dialed here.
async fn report_typing(from: &UserName, me: &LocalUser, events: &EventBus) {
    let (profile, peer) = (me.profile.clone(), from.clone());
    // Not knowing counts as blocked: a block must hold, and a lost notice costs nothing.
    let is_blocked = run_blocking(move || Ok(profile.is_blocked(&peer)?)).await.unwrap_or(true);
    if !is_blocked {
        events.send(NodeEvent::Typing { from: from.clone() });
    }
}

/// Stores messages and reports the new ones. Returns the replies, and whether the stream goes on.
async fn store_messages(
    from: &UserName,
    me: &LocalUser,
    events: &EventBus,
    messages: Vec<ChatMessage>,
) -> (Vec<ChatReply>, bool) {
    let refuse =
        |message: &ChatMessage, code, why: &str| ChatReply::Refused { id: message.id, code, message: why.into() };
    let (profile, peer) = (me.profile.clone(), from.clone());
    let is_blocked = match run_blocking(move || Ok(profile.is_blocked(&peer)?)).await {
        Ok(is_blocked) => is_blocked,
        Err(error) => {
            // A block must hold, but the refusal of a blocked user is final: this sender tries again.
            tracing::error!("{error}");
            let first = messages.first();
            let refused = first.map(|first| refuse(first, PeerErrorCode::Internal, "it could not be stored there"));
            return (refused.into_iter().collect(), false);
        }
    };
    let refusal_of = |message: &ChatMessage| match check_message(message) {
        _ if is_blocked => Some(refuse(message, PeerErrorCode::Unauthorised, "refused")),
        Err((code, why)) => Some(refuse(message, code, &why)),
        Ok(()) => None,
    };
    let (mut answers, mut good) = (Vec::new(), Vec::new());
    for message in messages {
        match refusal_of(&message) {
            Some(refused) => answers.push(refused),
            None => good.push(message),
        }
    }
    if good.is_empty() {
        return (answers, true);
    }
    let (profile, peer, at) = (me.profile.clone(), from.clone(), now_ms());
    let (turn, event_sender) = (events.lock_order().await, events.clone());
    // Reported on the storing thread: if the link ends meanwhile, this future is dropped, and the messages
    // would not be new when they are sent again.
    let stored = run_blocking(move || {
        let kept = profile.store_incoming(&peer, &good, at);
        for (message, kept) in good.iter().zip(kept.iter().flatten()) {
            if let StoreOutcome::New(seq) = *kept {
                event_sender.send(NodeEvent::Received { from: peer.clone(), message: message.clone(), seq, at });
            }
        }
        let new = kept.iter().flatten().filter(|kept| matches!(kept, StoreOutcome::New(_))).count();
        // The order lock is held, so a request of exactly `new` messages has begun with this batch.
        if new > 0
            && profile.conversation_status(&peer).is_ok_and(|standing| standing == ConversationStatus::Request(new))
        {
            event_sender.send(NodeEvent::ContactRequest { from: peer });
        }
        // Named here, so that the closure takes it along and holds it until the events are sent.
        drop(turn);
        Ok((kept, good))
    });
    match stored.await {
        Ok((Ok(kept), good)) => {
            let (acks, goes_on) = replies_to(&good, &kept);
            answers.extend(acks);
            // Temporary, for the first message only: the sender keeps them all and tries again.
            (answers, goes_on)
        }
        Ok((Err(error), good)) => {
            tracing::warn!("messages could not be stored: {error}");
            events.send(NodeEvent::NotStored { from: from.clone(), why: TranslatedText::of(&error) });
            answers.extend(
                good.first().map(|first| refuse(first, PeerErrorCode::Internal, "it could not be stored there")),
            );
            (answers, false)
        }
        Err(error) => {
            tracing::error!("{error}");
            (answers, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mallory() -> UserName {
        "mallory".parse().unwrap()
    }

    /// Returns how many frames are taken of somebody who does nothing but write for so long.
    fn taken_in(seconds: u64, batch: impl Fn() -> FrameBatch) -> usize {
        let (intake, begin) = (ChatRateLimiter::default(), Instant::now());
        let (mut now, mut frames) = (begin, 0);
        while now < begin + Duration::from_secs(seconds) {
            let batch = batch();
            match intake.reserve(&mallory(), batch.cost, now) {
                RateDecision::Delay(wait) => {
                    frames += batch.frames;
                    now += wait.max(Duration::from_micros(10));
                }
                // As a sender that tries again after some minutes.
                RateDecision::Refuse => now += Duration::from_secs(300),
            }
        }
        frames
    }

    fn message(bytes: usize) -> ChatFrame {
        let (id, text) = (shared::peer::MessageId::from_bytes([1; 16]), "x".repeat(bytes).into());
        ChatFrame::Message(ChatMessage { id, ts: 0, text, offer: None, send: None })
    }

    fn batch_of(count: usize, frame: &ChatFrame) -> FrameBatch {
        let mut batch = FrameBatch::default();
        (0..count).for_each(|_| batch.add_frame(frame.clone()));
        batch
    }

    #[tokio::test]
    async fn what_can_t_be_looked_up_is_refused_for_now_and_not_for_good() {
        let home = tempfile::tempdir().unwrap();
        let profile = crate::profile::Profile::open(home.path()).unwrap();
        let identity = std::sync::Arc::new(certs::Identity::generate().unwrap());
        let me = LocalUser::without_tracker(profile, identity, "bob".parse().unwrap());
        let database = rusqlite::Connection::open(home.path().join("profile.db")).unwrap();
        database.execute_batch("ALTER TABLE blocked RENAME TO hidden").unwrap();
        let ChatFrame::Message(message) = message(10) else { panic!("a message") };
        let (replies, goes_on) = store_messages(&mallory(), &me, &EventBus::new(), vec![message.clone()]).await;
        assert!(matches!(&replies[..], [ChatReply::Refused { code: PeerErrorCode::Internal, .. }]), "{replies:?}");
        assert!(!goes_on);
        database.execute_batch("ALTER TABLE hidden RENAME TO blocked").unwrap();
        let (replies, goes_on) = store_messages(&mallory(), &me, &EventBus::new(), vec![message]).await;
        assert!(matches!(&replies[..], [ChatReply::Ack { .. }]) && goes_on, "{replies:?}");
    }

    #[test]
    fn a_flood_is_a_burst_and_then_a_trickle() {
        // In 45 seconds: 4 MiB and 45 times 128 KiB, within a batch.
        let large = taken_in(45, || batch_of(16, &message(16 << 10)));
        assert!((600..=640).contains(&large), "{large} messages of 16 KiB");
        let small = taken_in(45, || batch_of(BATCH, &message(1)));
        assert!((38_000..=40_000).contains(&small), "{small} messages of a byte");
        let typing = taken_in(45, || batch_of(BATCH, &ChatFrame::Typing {}));
        let unknown = taken_in(45, || batch_of(BATCH, &ChatFrame::Unknown));
        assert!((38_000..=40_000).contains(&typing) && typing == unknown, "{typing} frames that say nothing");
    }

    #[test]
    fn a_day_of_it_leaves_less_than_a_fifth_of_a_gigabyte() {
        let bytes = taken_in(24 * 3600, || batch_of(16, &message(16 << 10))) * (16 << 10);
        assert!((172 << 20..192 << 20).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn ten_thousand_lines_at_once_wait_for_nothing() {
        let (intake, now) = (ChatRateLimiter::default(), Instant::now());
        let cost = batch_of(BATCH, &message(100)).cost;
        assert!(
            (0..10_000 / BATCH).all(|_| intake.reserve(&mallory(), cost, now) == RateDecision::Delay(Duration::ZERO))
        );
    }

    #[test]
    fn typing_is_told_once_a_second_over_however_many_streams() {
        let (intake, begin) = (ChatRateLimiter::default(), Instant::now());
        let [bob, mallory]: [UserName; 2] = ["bob", "mallory"].map(|name| name.parse().unwrap());
        let told = (0..5000_u64).filter(|ms| intake.may_report_typing(&mallory, begin + Duration::from_millis(*ms)));
        assert_eq!(told.count(), 5);
        assert!(intake.may_report_typing(&bob, begin), "each for themselves");
        assert!(!intake.may_report_typing(&bob, begin));
        intake.end_typing(&bob, begin);
        assert!(intake.may_report_typing(&bob, begin), "who has written may begin the next message");
        // Nor is it forgotten for the sake of many others.
        assert!(intake.may_report_typing(&mallory, begin + Duration::from_secs(5)));
        for number in 0..MAX_TRACKED_USERS * 2 {
            intake.reserve(&format!("sybil{number}").parse().unwrap(), 1, begin + Duration::from_millis(5500));
        }
        assert!(!intake.may_report_typing(&mallory, begin + Duration::from_millis(5900)));
    }
}
