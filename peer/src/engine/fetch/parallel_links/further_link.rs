//! A link to a source besides its first one, on a thread of its own.

use shared::peer::{PeerErrorCode, ZEROS_CAPABILITY};
use tokio::runtime::Handle;

use crate::engine::{Error, LocalUser};
use crate::net::endpoint::Endpoint;
use crate::net::link::{DialTarget, Link, dial};
use crate::util::RuntimeThread;

/// A link with a thread and a socket of its own; both end with it.
#[derive(Debug)]
pub(super) struct FurtherLink {
    link: Link,
    endpoint: Endpoint,
    thread: RuntimeThread,
}

impl FurtherLink {
    /// Opens a further link to the peer of `first`, where that one is. Fails with the errors of [`dial`], and with the
    /// system's if it has no thread for it.
    pub(super) async fn dial(me: &LocalUser, first: &Link) -> Result<Self, Error> {
        let (user, address) = (first.user().clone(), first.scoped_address());
        let thread = RuntimeThread::start("link")?;
        let (own_name, identity) = (me.user.clone(), me.identity.clone());
        let target = DialTarget {
            user: user.clone(),
            fingerprint: first.fingerprint(),
            addresses: vec![address],
            observed: Some(address),
        };
        let dialling = thread.handle().spawn(async move {
            let endpoint = Endpoint::client(&identity, None)?;
            let link = dial(&endpoint, &target, &own_name, &[ZEROS_CAPABILITY]).await?;
            Ok((link, endpoint))
        });
        let dialled = dialling.await.map_err(|failure| Error::Internal(failure.to_string()))?;
        let (link, endpoint) = dialled.map_err(|why| Error::link(&user, why))?;
        Ok(Self { link, endpoint, thread })
    }

    pub(super) const fn link(&self) -> &Link {
        &self.link
    }

    /// Returns the handle that spawns tasks on the link's thread.
    pub(super) const fn thread(&self) -> &Handle {
        self.thread.handle()
    }

    /// Closes the link, and waits until the other side can know it.
    pub(super) async fn close(self, code: PeerErrorCode) {
        self.link.close(code);
        let endpoint = self.endpoint;
        // Fails only where the thread has ended, and its socket with it.
        let _ = self.thread.handle().spawn(async move { endpoint.drain().await }).await;
    }
}
