//! Handling of the tracker's events: who came and left, whose key changed, which rooms have new records.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use localization::tr;
use shared::UserName;
use shared::limits::MAX_USERS_PER_REPLY;
use shared::tracker::{ListPeersRequest, TrackerEvent, TrackerEventKind, UserLocation};

use super::{SessionEnd, TrackerSession, heartbeat_schedule};
use crate::engine::node::revalidation_trigger::RevalidationTrigger;
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, now_ms, tracker_search};
use crate::net::tracker::TrackerConnection;

impl TrackerSession {
    /// Acts on an event, unless it was acted on before.
    pub(super) async fn handle_numbered_event(
        &mut self,
        event: TrackerEvent,
        link: &mut TrackerConnection,
    ) -> Result<(), SessionEnd> {
        let TrackerEvent { seq, kind } = event;
        // News of a room have the number of the event before them, and no own one.
        let is_numbered = !matches!(kind, TrackerEventKind::Room { .. });
        if is_numbered && !matches!(kind, TrackerEventKind::Resync {}) && self.last_event >= Some(seq) {
            return Ok(());
        }
        self.handle_event(kind, link).await?;
        // Only now: what was not done is told again by the next tracker.
        if is_numbered {
            self.last_event = Some(seq);
        }
        Ok(())
    }

    /// Acts on an event of the tracker.
    async fn handle_event(&mut self, kind: TrackerEventKind, link: &mut TrackerConnection) -> Result<(), SessionEnd> {
        match kind {
            TrackerEventKind::Online(location) | TrackerEventKind::Moved(location) if location.user == self.me.user => {
                match self.displaced.as_mut() {
                    Some(displaced) => displaced.absent_since = None,
                    // Possibly another node with this key: the heartbeat shows it.
                    None => return self.renew_presence(link, heartbeat_schedule::reply_timeout(link)).await,
                }
            }
            TrackerEventKind::KeyChanged { user, fingerprint } if user == self.me.user => {
                if fingerprint != Some(self.me.identity.fingerprint()) {
                    return Err(SessionEnd::Fatal(self.key_change_error(fingerprint.is_some())));
                }
            }
            TrackerEventKind::Online(location) => {
                self.follow_move(&location);
                self.emit_presence(location.user, true);
            }
            TrackerEventKind::Moved(location) => self.follow_move(&location),
            TrackerEventKind::Offline { user } => self.emit_presence(user, false),
            // What isn't recorded is proved again when the file is sent again.
            TrackerEventKind::KeyChanged { user, .. } => self.invalidate_keys(RevalidationTrigger::UserKey(user)),
            // The tracker dropped events. Users who came online are reported now; those who left are noticed
            // when dialed.
            TrackerEventKind::Resync {} => {
                self.rooms.request_all_records();
                self.invalidate_keys(RevalidationTrigger::AllKeys);
                if std::mem::take(&mut self.is_resync_expected) {
                    // Whoever hears that this node is online asks who else is.
                    self.files_changed.notify_one();
                    return Ok(());
                }
                let all = ListPeersRequest { with_files: Some(false), ..ListPeersRequest::default() };
                let told = tracker_search::search_users(link, all, MAX_USERS_PER_REPLY, |peer| {
                    self.emit_presence(peer.user, true);
                    Ok(())
                });
                told.await.map_err(SessionEnd::from_error)?;
                self.files_changed.notify_one();
            }
            TrackerEventKind::Room { id, head, .. } => self.rooms.note_head(id, head),
            TrackerEventKind::Files { user, .. } => {
                if user != self.me.user {
                    self.files_changed.notify_one();
                }
                self.events.note_catalogue_change(user);
            }
            TrackerEventKind::Unknown => {}
        }
        Ok(())
    }

    /// Returns the error for an account whose key changed just now (`has_moved`) or was removed.
    fn key_change_error(&self, has_moved: bool) -> Error {
        let user = self.me.user.clone();
        if has_moved {
            return Error::AccountMoved { user, since: now_ms() };
        }
        Error::SignedOut { user, why: tr!("its account was removed or released from this machine").into() }
    }

    /// Marks all earlier answers about keys as doubtful. The epoch changes before the trigger is sent: a link that is
    /// made meanwhile is either in the pool when the revalidator looks, or sees the new epoch.
    pub(super) fn invalidate_keys(&self, trigger: RevalidationTrigger) {
        self.key_epoch.fetch_add(1, Ordering::Release);
        self.revalidation.request(trigger);
    }

    /// Requests that links to this user's former addresses are closed.
    fn follow_move(&self, UserLocation { user, ip, addresses, .. }: &UserLocation) {
        let now = addresses.iter().map(SocketAddr::ip).chain([*ip]).map(|ip| ip.to_canonical()).collect();
        self.revalidation.request(RevalidationTrigger::UserMoved(user.clone(), now));
    }

    fn emit_presence(&self, user: UserName, online: bool) {
        if user != self.me.user {
            self.events.send(NodeEvent::Presence { user, online });
        }
    }
}
