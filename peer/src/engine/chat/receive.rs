//! Taking what somebody writes.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | what one person writes, over all links and streams | 4 MiB at once, then 128 KiB a second; each message counts 256 bytes, each other frame as well | not read meanwhile: the stream fills up and its sender waits |
//! | the same in the long run | 64 MiB, then 2 KiB a second | refused for now: the sender tries again later |
//! | frames that are looked at together | 256, or 256 KiB | those behind them have their turn |
//! | news that somebody is typing | one a second and person, in conversations in which the user takes part | dropped |
//! | people whose rate is remembered | those who have used it within a minute | forgotten, when there are 256 |

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::UserName;
use shared::peer::{ChatFrame, ChatMessage, ChatReply, Code};

use super::ledger::{admit, replies};
use super::{Kept, Me, Standing};
use crate::engine::event::{Event, Events};
use crate::engine::rate::{Bucket, pause};
use crate::engine::{blocking, now_ms};
use crate::net::StreamError;
use crate::net::frame_receiver::FrameReceiver;
use crate::net::stream::Sender;

/// Frames looked at together, and messages stored with one write to the disk.
const BATCH: usize = 256;
/// What a message costs besides its text and its offer, and any other frame costs, for the rate.
const COST: usize = 256;
/// Bytes of frames looked at together: as much waits in memory for each stream.
const BATCH_BYTES: usize = 256 << 10;
/// What one person may send in a second, once the burst is used up. What is under way on one stream is at most 1 MiB, and
/// has to be stored before its sender gives up waiting ([`super::ledger::ACK`]).
const RATE: u64 = 128 << 10;
/// What one person may send at once: more than ten thousand lines.
const BURST: u64 = 4 << 20;
/// The same in the long run: what a conversation that nobody looks at for a day may leave on the disk.
const LASTING_RATE: u64 = 2 << 10;
const LASTING_BURST: u64 = 64 << 20;
/// Those whose rate is remembered; beyond that, the rates of those who are quiet are forgotten.
const REMEMBERED: usize = 256;
/// Between two news that somebody is writing.
const TYPING_PAUSE: Duration = Duration::from_secs(1);

/// How fast each person sends, over however many streams and links.
#[derive(Debug, Default)]
pub struct Intake {
    authors: Mutex<HashMap<UserName, Author>>,
}

/// What one person sends.
#[derive(Debug)]
struct Author {
    bucket: Bucket,
    /// In the long run.
    lasting: Bucket,
    /// When it was told last that they are writing.
    typed: Option<Instant>,
}

impl Author {
    /// Whether nothing changes when this is forgotten.
    fn is_quiet(&self, now: Instant) -> bool {
        let may_type = self.typed.is_none_or(|last| now.saturating_duration_since(last) >= TYPING_PAUSE);
        may_type && self.bucket.is_full(now) && self.lasting.is_full(now)
    }
}

/// What becomes of something that somebody wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// It is taken after this time.
    After(Duration),
    /// They wrote so much lately that nothing more is taken for now.
    NotNow,
}

/// Frames that came together.
#[derive(Debug, Default)]
struct Batch {
    messages: Vec<ChatMessage>,
    is_typing: bool,
    frames: usize,
    cost: usize,
}

impl Intake {
    /// Decides when so much is taken from `user`.
    fn admit(&self, user: &UserName, bytes: usize, now: Instant) -> Admission {
        self.with(user, now, |author| {
            if author.lasting.is_spent(now) {
                return Admission::NotNow;
            }
            author.lasting.take(bytes, now);
            Admission::After(author.bucket.take(bytes, now))
        })
    }

    /// Tells whether it may be told again that `user` is writing.
    fn may_tell_typing(&self, user: &UserName, now: Instant) -> bool {
        self.with(user, now, |author| {
            let is_due = author.typed.is_none_or(|last| now.saturating_duration_since(last) >= TYPING_PAUSE);
            if is_due {
                author.typed = Some(now);
            }
            is_due
        })
    }

    fn with<T>(&self, user: &UserName, now: Instant, act: impl FnOnce(&mut Author) -> T) -> T {
        let mut authors = self.authors.lock().unwrap_or_else(PoisonError::into_inner);
        if authors.len() >= REMEMBERED && !authors.contains_key(user) {
            authors.retain(|_, author| !author.is_quiet(now));
        }
        let (rate, lasting) = ((RATE, BURST), (LASTING_RATE, LASTING_BURST));
        let bucket = |(rate, burst)| Bucket::with_burst(rate, burst, now);
        let new = || Author { bucket: bucket(rate), lasting: bucket(lasting), typed: None };
        act(authors.entry(user.clone()).or_insert_with(new))
    }
}

impl Batch {
    /// Takes a frame and those that are here behind it.
    fn gather(first: ChatFrame, receiver: &mut FrameReceiver) -> Result<Self, StreamError> {
        let mut batch = Self::default();
        let mut next = Some(first);
        while let Some(frame) = next {
            batch.take(frame);
            let is_full = batch.frames >= BATCH || batch.cost >= BATCH_BYTES;
            next = if is_full { None } else { receiver.frame_here()? };
        }
        Ok(batch)
    }

    fn take(&mut self, frame: ChatFrame) {
        self.frames += 1;
        self.cost += COST;
        match frame {
            ChatFrame::Message(message) => {
                self.cost += bytes_of(&message);
                self.messages.push(message);
            }
            ChatFrame::Typing {} => self.is_typing = true,
            ChatFrame::Unknown => {}
        }
    }
}

/// Bytes of a message that its author chooses.
fn bytes_of(message: &ChatMessage) -> usize {
    message.text.len() + message.offer.as_ref().map_or(0, |offer| offer.name.as_str().len())
}

/// Takes what `from` writes until the stream ends: stores, tells the views, acks.
///
/// # Errors
/// [`StreamError`] when the stream fails or breaks the protocol.
pub async fn receive(
    from: &UserName,
    me: &Me,
    intake: &Intake,
    events: &Events,
    mut sender: Sender,
    mut receiver: FrameReceiver,
) -> Result<(), StreamError> {
    while let Some(first) = receiver.frame().await? {
        let batch = Batch::gather(first, &mut receiver)?;
        match intake.admit(from, batch.cost, Instant::now()) {
            // Not read meanwhile, the stream fills up and its sender waits.
            Admission::After(wait) => pause(wait).await,
            Admission::NotNow => {
                sender.frames(&batch.messages.iter().take(1).map(written_too_much).collect::<Vec<_>>()).await?;
                receiver.stop(Code::Busy);
                break;
            }
        }
        if batch.is_typing && events.is_active(from) && intake.may_tell_typing(from, Instant::now()) {
            tell_typing(from, me, events).await;
        }
        if batch.messages.is_empty() {
            continue;
        }
        let (replies, goes_on) = store(from, me, events, batch.messages).await;
        sender.frames(&replies).await?;
        if !goes_on {
            receiver.stop(Code::Busy);
            break;
        }
    }
    sender.finish();
    Ok(())
}

/// The reply to the first message of somebody who wrote too much; a stream is over with it.
fn written_too_much(message: &ChatMessage) -> ChatReply {
    let words = "you wrote so much there lately that nothing more is taken for now";
    ChatReply::Refused { id: message.id, code: Code::Busy, message: words.into() }
}

/// Tells that `from` is writing, unless they are blocked: they may still have a link that was dialled here.
async fn tell_typing(from: &UserName, me: &Me, events: &Events) {
    let (profile, peer) = (me.profile.clone(), from.clone());
    let is_blocked = blocking(move || Ok(profile.is_blocked(&peer)?)).await.unwrap_or(true);
    if !is_blocked {
        events.send(Event::Typing { from: from.clone() });
    }
}

/// Stores messages and tells of the new ones; gives back the replies, and whether the stream goes on.
async fn store(from: &UserName, me: &Me, events: &Events, messages: Vec<ChatMessage>) -> (Vec<ChatReply>, bool) {
    let refuse =
        |message: &ChatMessage, code, why: &str| ChatReply::Refused { id: message.id, code, message: why.into() };
    let (profile, peer) = (me.profile.clone(), from.clone());
    let is_blocked = blocking(move || Ok(profile.is_blocked(&peer)?)).await.unwrap_or(true);
    let verdict = |message: &ChatMessage| match admit(message) {
        _ if is_blocked => Some(refuse(message, Code::Unauthorised, "refused")),
        Err((code, why)) => Some(refuse(message, code, &why)),
        Ok(()) => None,
    };
    let (mut answers, mut good) = (Vec::new(), Vec::new());
    for message in messages {
        match verdict(&message) {
            Some(refused) => answers.push(refused),
            None => good.push(message),
        }
    }
    if good.is_empty() {
        return (answers, true);
    }
    let (profile, peer, at) = (me.profile.clone(), from.clone(), now_ms());
    let (turn, told) = (events.turn().await, events.clone());
    // Told where it is stored: a link that ends meanwhile ends everything here, and what is stored is not new again.
    let stored = blocking(move || {
        let kept = profile.store_theirs(&peer, &good, at);
        for (message, kept) in good.iter().zip(kept.iter().flatten()) {
            if let Kept::New(seq) = *kept {
                told.send(Event::Received { from: peer.clone(), message: message.clone(), seq, at });
            }
        }
        let new = kept.iter().flatten().filter(|kept| matches!(kept, Kept::New(_))).count();
        // Nothing else is stored before the turn is over: all there is came now.
        if new > 0 && profile.standing(&peer).is_ok_and(|standing| standing == Standing::Request(new)) {
            told.send(Event::Request { from: peer });
        }
        drop(turn);
        Ok((kept, good))
    });
    match stored.await {
        Ok((Ok(kept), good)) => {
            let (acks, goes_on) = replies(&good, &kept);
            answers.extend(acks);
            (answers, goes_on)
        }
        Ok((Err(error), good)) => {
            tracing::warn!("messages could not be stored: {error}");
            events.send(Event::NotStored { from: from.clone(), why: error.to_string() });
            answers.extend(good.first().map(|first| refuse(first, Code::Internal, "it could not be stored there")));
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
    fn taken_in(seconds: u64, batch: impl Fn() -> Batch) -> usize {
        let (intake, begin) = (Intake::default(), Instant::now());
        let (mut now, mut frames) = (begin, 0);
        while now < begin + Duration::from_secs(seconds) {
            let batch = batch();
            match intake.admit(&mallory(), batch.cost, now) {
                Admission::After(wait) => {
                    frames += batch.frames;
                    now += wait.max(Duration::from_micros(10));
                }
                // As a sender that tries again after some minutes.
                Admission::NotNow => now += Duration::from_secs(300),
            }
        }
        frames
    }

    fn message(bytes: usize) -> ChatFrame {
        let (id, text) = (shared::peer::MessageId::from_bytes([1; 16]), "x".repeat(bytes).into());
        ChatFrame::Message(ChatMessage { id, ts: 0, text, offer: None, room: None })
    }

    fn batch_of(count: usize, frame: &ChatFrame) -> Batch {
        let mut batch = Batch::default();
        (0..count).for_each(|_| batch.take(frame.clone()));
        batch
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
    fn a_day_of_it_leaves_less_than_a_quarter_of_a_gigabyte() {
        let bytes = taken_in(24 * 3600, || batch_of(16, &message(16 << 10))) * (16 << 10);
        assert!((220 << 20..256 << 20).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn ten_thousand_lines_at_once_wait_for_nothing() {
        let (intake, now) = (Intake::default(), Instant::now());
        let cost = batch_of(BATCH, &message(100)).cost;
        assert!((0..10_000 / BATCH).all(|_| intake.admit(&mallory(), cost, now) == Admission::After(Duration::ZERO)));
    }

    #[test]
    fn typing_is_told_once_a_second_over_however_many_streams() {
        let (intake, begin) = (Intake::default(), Instant::now());
        let [bob, mallory]: [UserName; 2] = ["bob", "mallory"].map(|name| name.parse().unwrap());
        let told = (0..5000_u64).filter(|ms| intake.may_tell_typing(&mallory, begin + Duration::from_millis(*ms)));
        assert_eq!(told.count(), 5);
        assert!(intake.may_tell_typing(&bob, begin), "each for themselves");
        // Nor is it forgotten for the sake of many others.
        assert!(intake.may_tell_typing(&mallory, begin + Duration::from_secs(5)));
        for number in 0..REMEMBERED * 2 {
            intake.admit(&format!("sybil{number}").parse().unwrap(), 1, begin + Duration::from_millis(5500));
        }
        assert!(!intake.may_tell_typing(&mallory, begin + Duration::from_millis(5900)));
    }
}
