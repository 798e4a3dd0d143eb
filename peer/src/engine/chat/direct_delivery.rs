//! A conversation without a node: a link of its own, for as long as it takes to say what there is to say.

use shared::UserName;
use shared::peer::PeerErrorCode;
use tokio::sync::Notify;

use super::{ChatSender, LocalUser, SettledMessage};
use crate::engine::{Error, peer_lookup};
use crate::net::LinkError;
use crate::net::endpoint::Endpoint;
use crate::net::link::Link;

/// A link to somebody over which what waits for them is delivered.
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
    /// [`Error`]: offline, unreachable, changed.
    pub async fn open(me: &LocalUser, to: &UserName) -> Result<Self, Error> {
        let target = peer_lookup::find_target(me, to).await?;
        let endpoint = Endpoint::client(&me.identity, None).map_err(|why| Error::link(to, why))?;
        let link = peer_lookup::dial(me, &endpoint, &target, &[]).await.map_err(unreachable_is_offline)?;
        let chat_sender = ChatSender::open(&link).await.map_err(|why| Error::stream(to, why))?;
        Ok(Self { me: me.clone(), to: to.clone(), endpoint, link, chat_sender })
    }

    /// Delivers all that waits for them.
    ///
    /// # Errors
    /// [`Error`]; what was not delivered waits on.
    pub async fn flush(&mut self, report: &mut (dyn FnMut(SettledMessage) + Send)) -> Result<(), Error> {
        self.chat_sender.flush(&self.me, &self.to, &Notify::new(), report).await
    }

    /// Takes leave.
    pub async fn close(self) {
        self.link.close(PeerErrorCode::Done);
        self.endpoint.drain().await;
    }
}

/// Somebody who is listed but doesn't answer is, for a conversation, not there.
pub fn unreachable_is_offline(error: Error) -> Error {
    match error {
        Error::Link { user, source: source @ LinkError::NoAnswer { .. } } => {
            tracing::info!("{user}: {source}");
            Error::Offline(user)
        }
        error => error,
    }
}
