//! Taking what somebody writes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::UserName;
use shared::peer::{ChatFrame, ChatMessage, ChatReply, Code};

use super::ledger::{admit, replies};
use super::{Kept, Me};
use crate::engine::event::{Event, Events};
use crate::engine::rate::{Bucket, pause};
use crate::engine::{blocking, now_ms};
use crate::net::StreamError;
use crate::net::frame_receiver::FrameReceiver;
use crate::net::stream::Sender;

/// Messages stored with one write to the disk.
const BATCH: usize = 256;
/// What a message costs besides its text, for the rate.
const COST: usize = 1024;
/// What one person may send in a second, once the burst is used up.
const RATE: u64 = 1 << 20;
/// What one person may send at once.
const BURST: u64 = 4 << 20;
/// Those whose rate is remembered; beyond that, the rates of those who are quiet are forgotten.
const REMEMBERED: usize = 256;
/// Between two news that somebody is writing.
const TYPING_PAUSE: Duration = Duration::from_secs(1);

/// How fast each person sends, over however many streams and links.
#[derive(Debug, Default)]
pub struct Intake {
    buckets: Mutex<HashMap<UserName, Bucket>>,
}

impl Intake {
    /// How long to wait before so much is taken from `user`.
    fn take(&self, user: &UserName, bytes: usize, now: Instant) -> Duration {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= REMEMBERED && !buckets.contains_key(user) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = buckets.entry(user.clone()).or_insert_with(|| Bucket::with_burst(RATE, BURST, now));
        bucket.take(bytes, now)
    }
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
    let mut typed: Option<Instant> = None;
    while let Some(first) = receiver.frame().await? {
        let mut messages = Vec::new();
        let mut next = Some(first);
        while let Some(frame) = next {
            match frame {
                ChatFrame::Message(message) => messages.push(message),
                ChatFrame::Typing {} if typed.is_none_or(|last| last.elapsed() >= TYPING_PAUSE) => {
                    typed = Some(Instant::now());
                    events.send(Event::Typing { from: from.clone() });
                }
                ChatFrame::Typing {} | ChatFrame::Unknown => {}
            }
            next = if messages.len() < BATCH { receiver.frame_here()? } else { None };
        }
        let cost = messages.iter().map(|message| message.text.len() + COST).sum();
        let wait = intake.take(from, cost, Instant::now());
        // Not read meanwhile, the stream fills up and its sender waits.
        pause(wait).await;
        let (replies, goes_on) = store(from, me, events, messages).await;
        sender.frames(&replies).await?;
        if !goes_on {
            receiver.stop(Code::Busy);
            break;
        }
    }
    sender.finish();
    Ok(())
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
