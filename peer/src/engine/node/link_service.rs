//! Service of links: callers are identified and admitted, and every link is served until it closes.

use std::sync::Arc;

use parking_lot::Mutex;
use shared::peer::PeerErrorCode;

use super::NodeServices;
use super::caller_identity::{CallerIdentifier, CallerIdentity, CallerRejection};
use super::refusal_digest::RefusalDigest;
use super::revalidation_trigger::RevalidationTrigger;
use crate::engine::LocalUser;
use crate::engine::node_event::NodeEvent;
use crate::engine::serve::{ServeContext, serve_link};
use crate::net::endpoint::IncomingCall;
use crate::net::link::{self, IdentifiedCaller, Link};

/// Identifies a caller, and serves its link until it closes.
pub(super) async fn handle_call(
    call: IncomingCall,
    caller_identifier: Arc<CallerIdentifier>,
    services: NodeServices,
    serve_context: ServeContext,
    refusal_digest: Arc<Mutex<RefusalDigest>>,
) {
    let caller = match link::accept_caller(call).await {
        Ok(caller) => caller,
        Err(error) => {
            // Anybody can call: at a higher level, strangers could fill the log.
            tracing::debug!("a call came to nothing: {error}");
            return;
        }
    };
    // Read before the lookup: run_link detects a key change that is announced in between.
    let key_epoch = services.tracker.key_epoch();
    match caller.within_deadline(caller_identifier.identify(&caller)).await {
        Ok(Ok(CallerIdentity { user, is_correspondent: is_written_to })) => {
            let caller = caller.identified_as(user);
            if let Some(link) = admit_caller(caller, is_written_to, &services, &serve_context.me).await {
                run_link(link, key_epoch, services, serve_context).await;
            }
        }
        Ok(Err(CallerRejection { code, caller_message: to_caller, local_reason: here })) => {
            let address = caller.address();
            if refusal_digest.lock().record(address.ip()) {
                serve_context.events.send(NodeEvent::Refused { address, why: here });
            }
            caller.refuse(code, &to_caller).await;
        }
        Err(error) => {
            tracing::debug!("a caller was not identified: {error}");
            let message = format!("{} is busy: try again later", serve_context.me.user);
            caller.refuse(PeerErrorCode::Busy, &message).await;
        }
    }
}

/// Welcomes a caller, or refuses it when the link pool has no room.
async fn admit_caller(
    caller: IdentifiedCaller,
    is_correspondent: bool,
    services: &NodeServices,
    me: &LocalUser,
) -> Option<Link> {
    let link = caller.link().clone();
    // Counted before the welcome is written: many callers at once would otherwise all find room.
    if !services.link_pool.admit(&link, is_correspondent) {
        tracing::debug!("{} has too many links", link.user());
        let message = format!("there are too many links to {}: try again later", me.user);
        caller.refuse(PeerErrorCode::Busy, &message).await;
        return None;
    }
    let is_crowded = services.link_pool.is_crowded();
    match caller.welcome(me.user.clone(), is_crowded).await {
        Ok(link) => Some(link),
        Err(error) => {
            tracing::debug!("a caller is gone: {error}");
            services.link_pool.remove(&link);
            None
        }
    }
}

/// Serves a link until it closes. `key_epoch` is the epoch at which its key was verified.
pub(super) async fn run_link(link: Link, key_epoch: u64, services: NodeServices, serve_context: ServeContext) {
    let NodeServices { link_pool, outbox, tracker, revalidation, new_links, .. } = services;
    // The link is in the pool by now, so the revalidator covers every later change; this covers earlier ones.
    if tracker.key_epoch() != key_epoch {
        revalidation.request(RevalidationTrigger::UserKey(link.user().clone()));
    }
    if link.is_serving() {
        // This user can be reached now: try the messages queued for them over this link.
        outbox.wake_existing(link.user());
        new_links.notify_one();
    }
    let ended = serve_link(link.clone(), serve_context).await;
    tracing::debug!("the link to {} ended: {ended}", link.user());
    link_pool.remove(&link);
}
