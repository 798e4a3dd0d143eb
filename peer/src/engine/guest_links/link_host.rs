//! The way from a node to whatever serves its links: a request, and the port as its answer.
//!
//! The node knows no HTTP. Whoever runs it may run a host of links beside it, which listens while there are links.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::guest_chat_signal::GuestChatSignal;
use crate::engine::{Error, ErrorKind};

/// Requests that wait while the host is busy.
const QUEUE: usize = 16;

/// The place at which a node serves its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkService {
    /// The TCP port; `None` while there is no link.
    pub port: Option<u16>,
}

/// The node's side: asks the host to look at the links. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LinkHostHandle {
    requests: mpsc::Sender<oneshot::Sender<Result<LinkService, String>>>,
    chat_signal: GuestChatSignal,
}

/// The host's side: the requests of the node.
#[derive(Debug)]
pub struct LinkHostRequests {
    requests: mpsc::Receiver<oneshot::Sender<Result<LinkService, String>>>,
    chat_signal: GuestChatSignal,
}

/// Returns the two sides.
pub fn link_host() -> (LinkHostHandle, LinkHostRequests) {
    let ((sender, receiver), chat_signal) = (mpsc::channel(QUEUE), GuestChatSignal::default());
    let handle = LinkHostHandle { requests: sender, chat_signal: chat_signal.clone() };
    (handle, LinkHostRequests { requests: receiver, chat_signal })
}

impl LinkHostHandle {
    /// Makes the host look at the links, and returns where it serves them.
    ///
    /// # Errors
    /// The reason why it can't, in its words.
    pub async fn look(&self) -> Result<LinkService, Error> {
        let ended = || Error::Internal("the server of links has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        self.requests.send(reply).await.map_err(|_| ended())?;
        let failed = |message| Error::Relayed { kind: ErrorKind::Other, message };
        answer.await.map_err(|_| ended())?.map_err(failed)
    }

    /// Returns the signal by which the browsers of guests learn of answers.
    pub const fn chat_signal(&self) -> &GuestChatSignal {
        &self.chat_signal
    }
}

impl LinkHostRequests {
    /// Returns the signal by which the browsers of guests learn of answers.
    pub const fn chat_signal(&self) -> &GuestChatSignal {
        &self.chat_signal
    }

    /// Returns the next request; `None` if the node is gone.
    pub async fn next(&mut self) -> Option<oneshot::Sender<Result<LinkService, String>>> {
        self.requests.recv().await
    }
}
