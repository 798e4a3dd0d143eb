//! The node's links and conversations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shared::UserName;
use shared::peer::ChatMessage;
use tokio::sync::mpsc;

use super::keeper::TrackerHandle;
use crate::engine::chat::{self, Outgoing, unreachable_is_offline};
use crate::engine::contacts;
use crate::engine::event::{Event, Events};
use crate::engine::{Error, Me};
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, ANSWERS, Link};
use crate::net::{StreamError, TrackerError};
use crate::profile::MessageState;

/// Links by user, and one conversation at a time with each.
#[derive(Debug)]
pub(super) struct Switchboard {
    me: Me,
    endpoint: Endpoint,
    tracker: TrackerHandle,
    events: Events,
    /// Links that were dialled here and must be served like those that came in.
    dialled: mpsc::UnboundedSender<Link>,
    links: Mutex<HashMap<UserName, Vec<Link>>>,
    conversations: Mutex<HashMap<UserName, Conversation>>,
}

/// Locked while a message is under way, which keeps messages in order.
type Conversation = Arc<tokio::sync::Mutex<Option<Outgoing>>>;

impl Switchboard {
    pub(super) fn new(
        me: Me,
        endpoint: Endpoint,
        tracker: TrackerHandle,
        events: Events,
        dialled: mpsc::UnboundedSender<Link>,
    ) -> Self {
        Self { me, endpoint, tracker, events, dialled, links: Mutex::default(), conversations: Mutex::default() }
    }

    /// A link may be used from now on. One to a process that answers nothing is of no use here.
    pub(super) fn add(&self, link: &Link) {
        if link.answers() {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            let of_user = links.entry(link.user().clone()).or_default();
            if !of_user.iter().any(|other| other.is_same(link)) {
                of_user.push(link.clone());
            }
        }
    }

    /// A link has ended.
    pub(super) fn remove(&self, link: &Link) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = links.get_mut(link.user()) {
            of_user.retain(|other| !other.is_same(link));
            if of_user.is_empty() {
                links.remove(link.user());
            }
        }
    }

    /// Says something to `to` and waits until it is stored there.
    ///
    /// # Errors
    /// [`Error`]; the message is then recorded as failed.
    pub(super) async fn say(&self, to: &UserName, text: &str) -> Result<ChatMessage, Error> {
        if *to == self.me.user {
            return Err(Error::Usage("that is you".to_owned()));
        }
        let message = chat::compose(text)?;
        let conversation = {
            let mut all = self.conversations.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(to.clone()).or_default().clone()
        };
        let mut outgoing = conversation.lock().await;
        chat::store_ours(&self.me, to, &message).await?;
        let delivered = self.deliver(&mut outgoing, to, &message).await;
        let state = if delivered.is_ok() { MessageState::Stored } else { MessageState::Failed };
        chat::settle(&self.me, to, message.id, state).await?;
        delivered?;
        self.events.send(Event::Delivered { to: to.clone(), message: message.clone() });
        Ok(message)
    }

    async fn deliver(
        &self,
        outgoing: &mut Option<Outgoing>,
        to: &UserName,
        message: &ChatMessage,
    ) -> Result<(), Error> {
        // Taken out while it is used: one that is cancelled in the middle of a frame must not be used again.
        if let Some(mut open) = outgoing.take().filter(|open| !open.is_closed()) {
            match open.deliver(message).await {
                Ok(()) => {
                    *outgoing = Some(open);
                    return Ok(());
                }
                Err(error @ StreamError::Answered { .. }) => return Err(Error::stream(to, error)),
                // The link may have died unnoticed; the other side knows the message's id if it got it.
                Err(error) => tracing::debug!("{to}: the conversation broke off: {error}"),
            }
        }
        let link = self.link_to(to).await?;
        let mut open = Outgoing::open(&link).await.map_err(|why| Error::stream(to, why))?;
        open.deliver(message).await.map_err(|why| Error::stream(to, why))?;
        *outgoing = Some(open);
        Ok(())
    }

    /// A link to `user`: one that is there, or a new one.
    async fn link_to(&self, user: &UserName) -> Result<Link, Error> {
        let existing = {
            let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.get(user).and_then(|all| all.iter().rev().find(|link| !link.is_closed()).cloned())
        };
        if let Some(link) = existing {
            return Ok(link);
        }
        let target = match contacts::find_through(&self.me, &mut self.tracker.clone(), user).await {
            Err(Error::Tracker(error @ TrackerError::Unreachable { .. })) => {
                contacts::from_record(&self.me, user, error.into())?
            }
            found => found?,
        };
        let dialled = link::dial(&self.endpoint, &target, &self.me.user, &[ANSWERS]).await;
        let link = dialled.map_err(|why| unreachable_is_offline(user, why))?;
        self.add(&link);
        // Fails only when the node is ending.
        let _ = self.dialled.send(link.clone());
        Ok(link)
    }
}
