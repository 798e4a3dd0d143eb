//! Callers: incoming connections until they are admitted as links, or refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::fingerprint_of_chain;
use quinn::VarInt;
use rustls::pki_types::CertificateDer;
use shared::limits::MAX_AGENT_BYTES;
use shared::peer::{Hello, PeerErrorCode, PeerReply, PeerRequest};
use shared::{Fingerprint, UserName};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::{HANDSHAKE_TIMEOUT, Link, LinkPeer, NODE_CAPABILITIES, known_capabilities, own_hello};
use crate::net::LinkError;
use crate::net::addresses::without_scope;
use crate::net::endpoint::IncomingCall;
use crate::net::frame_receiver::{FrameQuota, FrameReceiver};
use crate::net::handshake_slots::HandshakeSlot;
use crate::net::stream::{StreamSender, with_timeout};
use crate::net::transport_config::raise_caller_limits;

/// Time for a refused caller to read the reason and close.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// A caller with a proved key who has sent a hello; the user name is only claimed.
#[derive(Debug)]
pub struct UnidentifiedCaller {
    connection: quinn::Connection,
    fingerprint: Fingerprint,
    hello: Hello,
    sender: StreamSender,
    slot: HandshakeSlot,
    begun: Instant,
    rejection_permits: Arc<Semaphore>,
}

/// A caller whose user is known; not admitted yet.
#[derive(Debug)]
pub struct IdentifiedCaller {
    link: Link,
    sender: StreamSender,
    rejection_permits: Arc<Semaphore>,
}

/// Completes an incoming handshake and reads the hello. Fails with [`LinkError`] if the caller is too slow, breaks the
/// protocol or is evicted; the connection is closed.
pub async fn accept_caller(call: IncomingCall) -> Result<UnidentifiedCaller, LinkError> {
    let IncomingCall { connecting, slot, begun, rejection_permits } = call;
    let connection = await_before_deadline(begun, &slot, async { Ok(connecting.await?) }).await?;
    let heard = await_before_deadline(begun, &slot, async {
        let no_key = || LinkError::Protocol("no certificate".into());
        let fingerprint = peer_fingerprint(&connection).ok_or_else(no_key)?;
        let (hello, sender) = read_hello(&connection).await?;
        Ok((fingerprint, hello, sender))
    });
    match heard.await {
        Ok((fingerprint, hello, sender)) => {
            Ok(UnidentifiedCaller { connection, fingerprint, hello, sender, slot, begun, rejection_permits })
        }
        Err(error) => {
            // Dropping the connection would close it as well, but with code 0.
            connection.close(VarInt::from_u32(PeerErrorCode::Protocol.into()), b"");
            Err(error)
        }
    }
}

/// Completes an incoming handshake and nothing more: enough for a caller that only probes whether it is answered. Returns
/// when the caller has hung up, or at its deadline.
pub async fn answer_handshake(call: IncomingCall) {
    let IncomingCall { connecting, slot, begun, .. } = call;
    let answered = async {
        connecting.await?.closed().await;
        Ok(())
    };
    if let Err(why) = await_before_deadline(begun, &slot, answered).await {
        tracing::debug!("a probe came to nothing: {why}");
    }
}

/// Waits for `due` until the caller's deadline or its eviction.
async fn await_before_deadline<T>(
    begun: Instant,
    slot: &HandshakeSlot,
    due: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::select! {
        // The result first: a caller that has just answered isn't evicted.
        biased;
        done = timeout_at(begun + HANDSHAKE_TIMEOUT, due) => {
            let late = || LinkError::NoAnswer { addresses: "the caller".to_owned(), within: HANDSHAKE_TIMEOUT };
            done.unwrap_or_else(|_| Err(late()))
        }
        () = slot.evicted() => Err(LinkError::Lost("too many callers at once".to_owned())),
    }
}

impl UnidentifiedCaller {
    /// Returns the caller's key.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the caller's hello; its user name is only a claim.
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Returns the caller's address.
    pub fn address(&self) -> SocketAddr {
        without_scope(self.connection.remote_address())
    }

    /// Runs `identify` within the caller's deadline. Fails with [`LinkError::NoAnswer`] after the deadline,
    /// [`LinkError::Lost`] if the caller is evicted.
    pub async fn within_deadline<T>(&self, identify: impl Future<Output = T>) -> Result<T, LinkError> {
        await_before_deadline(self.begun, &self.slot, async { Ok(identify.await) }).await
    }

    /// Returns the caller as `user`, whom the tracker or the record of known keys has named.
    pub fn identified_as(self, user: UserName) -> IdentifiedCaller {
        let Self { connection, fingerprint, hello, sender, rejection_permits, .. } = self;
        let (agent, capabilities) = (hello.agent, known_capabilities(hello.capabilities));
        let peer = Arc::new(LinkPeer { user, fingerprint, agent, capabilities });
        let link = Link { connection, peer, is_outbound: false, takes_bulk: false, activity: Arc::default() };
        IdentifiedCaller { link, sender, rejection_permits }
    }

    /// Refuses the caller with a code and words.
    pub async fn refuse(self, code: PeerErrorCode, message: &str) {
        let Self { connection, sender, slot, rejection_permits, .. } = self;
        // The slot is free for others while the refusal is on its way.
        drop(slot);
        reject_caller(&connection, sender, &rejection_permits, code, message).await;
    }
}

impl IdentifiedCaller {
    /// Returns the link, on which nothing may be sent before the welcome.
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Admits the caller. If `is_crowded`, the link gets a smaller window, as there are very many links. Fails with
    /// [`LinkError::Lost`] if the caller is gone or doesn't take the welcome.
    pub async fn welcome(self, me: UserName, is_crowded: bool) -> Result<Link, LinkError> {
        let Self { link, mut sender, .. } = self;
        // Raised before the welcome is sent: the caller may open streams as soon as it has read it.
        raise_caller_limits(&link.connection, is_crowded);
        let welcome = PeerReply::Welcome(own_hello(me, &NODE_CAPABILITIES));
        if let Err(error) = with_timeout(HANDSHAKE_TIMEOUT, sender.send_frame(&welcome)).await {
            link.close(PeerErrorCode::Protocol);
            return Err(LinkError::Lost(error.to_string()));
        }
        sender.finish();
        Ok(link)
    }

    /// Refuses the caller with a code and words.
    pub async fn refuse(self, code: PeerErrorCode, message: &str) {
        reject_caller(&self.link.connection, self.sender, &self.rejection_permits, code, message).await;
    }
}

async fn reject_caller(
    connection: &quinn::Connection,
    mut sender: StreamSender,
    rejection_permits: &Semaphore,
    code: PeerErrorCode,
    message: &str,
) {
    // Without a permit (a flood of callers) the reason is only in the close frame, which may get lost.
    if let Ok(_farewell) = rejection_permits.try_acquire() {
        let answer = PeerReply::Error { code, message: message.into() };
        let delivered = async {
            if sender.send_frame(&answer).await.is_ok() {
                sender.finish();
                // Closing at once would drop the reply; the caller closes after reading it, and one that
                // doesn't is closed.
                connection.closed().await;
            }
        };
        let _ = tokio::time::timeout(REJECTION_TIMEOUT, delivered).await;
    }
    connection.close(VarInt::from_u32(code.into()), message.as_bytes());
}

async fn read_hello(connection: &quinn::Connection) -> Result<(Hello, StreamSender), LinkError> {
    let (send, receive) = connection.accept_bi().await?;
    // Short frames only: an unidentified caller must not occupy memory.
    let first = FrameReceiver::new(receive, FrameQuota::for_stranger()).next_frame().await;
    match first.map_err(|error| LinkError::Protocol(error.to_string()))? {
        // The agent is free text of a stranger, so its length is bounded.
        Some(PeerRequest::Hello(hello)) if hello.agent.len() <= MAX_AGENT_BYTES => Ok((hello, StreamSender::new(send))),
        _ => Err(LinkError::Protocol("a hello was due".to_owned())),
    }
}

fn peer_fingerprint(connection: &quinn::Connection) -> Option<Fingerprint> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    fingerprint_of_chain(Some(&chain))
}
