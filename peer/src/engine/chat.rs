//! Conversations: a message is stored by its author before it is sent, and acked by the other side after it is stored.

use std::time::Duration;

use rand::Rng;
use shared::UserName;
use shared::limits::CHAT_TEXT_BYTES;
use shared::peer::{Ask, ChatFrame, ChatMessage, ChatReply, Code, MessageId};

use super::event::{Event, Events};
use super::{Error, Me, blocking, contacts, now_ms};
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, Link};
use crate::net::stream::{Priority, Receiver, Sender, within};
use crate::net::{LinkError, StreamError};
use crate::profile::MessageState;
pub use crate::profile::{Direction, StoredMessage};

/// How long the other side may take to store a message.
const ACK: Duration = Duration::from_secs(10);

/// The sending half of a conversation over one link.
#[derive(Debug)]
pub struct Outgoing {
    link: Link,
    sender: Sender,
    receiver: Receiver,
}

/// Makes a message of a text.
///
/// # Errors
/// [`Error::Usage`] when it is empty or too long.
pub fn compose(text: &str) -> Result<ChatMessage, Error> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(Error::Usage("there is nothing to send".to_owned()));
    }
    if text.len() > CHAT_TEXT_BYTES {
        let len = text.len();
        return Err(Error::Usage(format!(
            "a message has at most {CHAT_TEXT_BYTES} bytes, this one has {len}: share it as a file"
        )));
    }
    let id = MessageId::from_bytes(rand::rng().random());
    Ok(ChatMessage { id, ts: now_ms(), text: text.to_owned(), room: None })
}

impl Outgoing {
    /// Begins to speak over `link`.
    ///
    /// # Errors
    /// [`StreamError`] when the link is gone.
    pub async fn open(link: &Link) -> Result<Self, StreamError> {
        let (sender, receiver) = link.open(&Ask::Chat {}, Priority::Chat).await?;
        Ok(Self { link: link.clone(), sender, receiver })
    }

    /// Whether it still leads anywhere.
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// Sends a message and waits until the other side stored it.
    ///
    /// # Errors
    /// [`StreamError`]; after one, this half is of no more use.
    pub async fn deliver(&mut self, message: &ChatMessage) -> Result<(), StreamError> {
        within(ACK, async {
            self.sender.frame(&ChatFrame::Message(message.clone())).await?;
            loop {
                match self.receiver.frame().await?.ok_or(StreamError::Truncated)? {
                    ChatReply::Ack { id } if id == message.id => return Ok(()),
                    ChatReply::Refused { id, code, message: why } if id == message.id => {
                        return Err(StreamError::Answered { code, message: why });
                    }
                    ChatReply::Ack { .. } | ChatReply::Refused { .. } | ChatReply::Unknown => {}
                }
            }
        })
        .await
    }
}

/// Takes what `from` writes until the stream ends: stores, tells the views, acks.
///
/// # Errors
/// [`StreamError`] when the stream fails or breaks the protocol.
pub async fn receive(
    from: &UserName,
    me: &Me,
    events: &Events,
    mut sender: Sender,
    mut receiver: Receiver,
) -> Result<(), StreamError> {
    while let Some(frame) = receiver.frame().await? {
        let message = match frame {
            ChatFrame::Message(message) => message,
            ChatFrame::Typing {} | ChatFrame::Unknown => continue,
        };
        let id = message.id;
        let reply = match store(from, me, message.clone()).await {
            Ok(is_new) => {
                if is_new {
                    events.send(Event::Received { from: from.clone(), message });
                }
                ChatReply::Ack { id }
            }
            Err((code, message)) => ChatReply::Refused { id, code, message },
        };
        sender.frame(&reply).await?;
    }
    sender.finish();
    Ok(())
}

async fn store(from: &UserName, me: &Me, message: ChatMessage) -> Result<bool, (Code, String)> {
    if message.text.len() > CHAT_TEXT_BYTES {
        return Err((Code::Limit, format!("a message has at most {CHAT_TEXT_BYTES} bytes")));
    }
    if message.text.is_empty() {
        return Err((Code::Protocol, "a message without text".to_owned()));
    }
    let (profile, from) = (me.profile.clone(), from.clone());
    let stored = blocking(move || Ok(profile.store_message(&from, Direction::In, &message)?)).await;
    stored.map_err(|error| {
        tracing::error!("a message could not be stored: {error}");
        (Code::Internal, "the message could not be stored".to_owned())
    })
}

/// Stores a message of ours before it is sent.
///
/// # Errors
/// What is wrong with the profile.
pub async fn store_ours(me: &Me, to: &UserName, message: &ChatMessage) -> Result<(), Error> {
    let (profile, to, message) = (me.profile.clone(), to.clone(), message.clone());
    blocking(move || Ok(profile.store_message(&to, Direction::Out, &message)?)).await.map(|_| ())
}

/// Records what became of a message of ours.
///
/// # Errors
/// What is wrong with the profile.
pub async fn settle(me: &Me, to: &UserName, id: MessageId, state: MessageState) -> Result<(), Error> {
    let (profile, to) = (me.profile.clone(), to.clone());
    blocking(move || Ok(profile.set_message_state(&to, id, state)?)).await
}

/// A conversation without a node: a link of its own, for as long as it takes to say what there is to say.
#[derive(Debug)]
pub struct Visit {
    me: Me,
    to: UserName,
    endpoint: Endpoint,
    link: Link,
    outgoing: Outgoing,
}

impl Visit {
    /// Dials `to`.
    ///
    /// # Errors
    /// [`Error`]: offline, unreachable, changed.
    pub async fn open(me: &Me, to: &UserName) -> Result<Self, Error> {
        let target = contacts::find(me, to).await?;
        let endpoint = Endpoint::dialling(&me.identity, None).map_err(|why| Error::link(to, why))?;
        let link =
            link::dial(&endpoint, &target, &me.user, &[]).await.map_err(|why| unreachable_is_offline(to, why))?;
        let outgoing = Outgoing::open(&link).await.map_err(|why| Error::stream(to, why))?;
        Ok(Self { me: me.clone(), to: to.clone(), endpoint, link, outgoing })
    }

    /// Says one thing and waits until it is stored there.
    ///
    /// # Errors
    /// [`Error`]; the message is then recorded as failed.
    pub async fn say(&mut self, text: &str) -> Result<ChatMessage, Error> {
        let message = compose(text)?;
        store_ours(&self.me, &self.to, &message).await?;
        let delivered = self.outgoing.deliver(&message).await;
        let state = if delivered.is_ok() { MessageState::Stored } else { MessageState::Failed };
        settle(&self.me, &self.to, message.id, state).await?;
        delivered.map_err(|why| Error::stream(&self.to, why))?;
        Ok(message)
    }

    /// Takes leave.
    pub async fn close(self) {
        self.link.close(Code::Done);
        self.endpoint.drain().await;
    }
}

/// Somebody who is listed but doesn't answer is, for a conversation, not there.
pub fn unreachable_is_offline(user: &UserName, error: LinkError) -> Error {
    match error {
        LinkError::NoAnswer { .. } => {
            tracing::info!("{user}: {error}");
            Error::Offline(user.clone())
        }
        error => Error::link(user, error),
    }
}
