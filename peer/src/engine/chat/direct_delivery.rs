//! Delivery without a node: over a link of its own, which lasts until the queued messages are sent.

use shared::UserName;
use shared::peer::PeerErrorCode;
use tokio::sync::Notify;

use super::{ChatSender, LocalUser, SettledMessage};
use crate::engine::{Error, peer_lookup};
use crate::net::LinkError;
use crate::net::endpoint::Endpoint;
use crate::net::link::Link;

/// A link to a recipient over which queued messages are delivered.
#[derive(Debug)]
pub struct DirectDelivery {
    me: LocalUser,
    to: UserName,
    endpoint: Endpoint,
    link: Link,
    chat_sender: ChatSender,
}

impl DirectDelivery {
    /// Dials `to`.
    ///
    /// # Errors
    /// [`Error`]: the user is offline or unreachable, or has another key than the one on record.
    pub async fn open(me: &LocalUser, to: &UserName) -> Result<Self, Error> {
        let target = peer_lookup::find_target(me, to).await?;
        let endpoint = Endpoint::client(&me.identity, None).map_err(|why| Error::link(to, why))?;
        let link = peer_lookup::dial(me, &endpoint, &target, &[]).await.map_err(unreachable_is_offline)?;
        let chat_sender = ChatSender::open(&link).await.map_err(|why| Error::stream(to, why))?;
        Ok(Self { me: me.clone(), to: to.clone(), endpoint, link, chat_sender })
    }

    /// Delivers the messages queued for the recipient.
    ///
    /// # Errors
    /// [`Error`]; messages that were not delivered stay queued.
    pub async fn flush(&mut self, report: &mut (dyn FnMut(SettledMessage) + Send)) -> Result<(), Error> {
        // No waker: the messages are queued before, and `flush` looks for more after each reply.
        self.chat_sender.flush(&self.me, &self.to, &Notify::new(), report).await
    }

    /// Closes the link and its endpoint.
    pub async fn close(self) {
        self.link.close(PeerErrorCode::Done);
        self.endpoint.drain().await;
    }
}

/// Converts "no answer" to [`Error::Offline`]: for chat, a listed user who doesn't answer is offline.
pub fn unreachable_is_offline(error: Error) -> Error {
    match error {
        Error::Link { user, source: source @ LinkError::NoAnswer { .. } } => {
            tracing::info!("{user}: {source}");
            Error::Offline(user)
        }
        error => error,
    }
}
