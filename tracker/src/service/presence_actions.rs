//! The actions on presence and files: REGISTER_FILES, LIST_PEERS, LOGOUT, HEARTBEAT, WHOIS, FIND, SUBSCRIBE.

use std::time::Instant;

use shared::UserName;
use shared::limits::MAX_PLAIN_REPLY_BYTES;
use shared::tracker::{
    Credentials, Dialect, Feature, FilesMode, FindReply, FindRequest, FoundFile, HeartbeatReply, ListPeersRequest,
    RegisterFilesRequest, RejectedFiles, SessionToken, SharedFile, SpeakerProof, SubscribeReply, WhoisReply,
    WhoisRequest,
};
use tracing::info;

use super::account_actions::tls_required;
use super::action_reply::list_head;
use super::client_state::ClientState;
use super::{ActionReply, ActionResult, RefusalReason, RequestError, TrackerService, busy};
use crate::catalogue::{FileList, FileListError, SearchPosition, cursor_after};
use crate::fair_semaphore::FairPermit;
use crate::rate_limits::ClientOrigin;
use crate::registry::{
    AuthorityClaim, AuthorityDecision, AuthorityDenial, EventBacklog, ListView, PeerListText, PresenceRegistry,
    SessionEndReason, SessionId,
};

/// Lists longer than this are sorted and indexed on the worker thread.
const MAX_INLINE_FILES: usize = 500;
/// Changes that go through more bytes of lists than this are made on the worker thread.
const MAX_INLINE_BYTES: usize = 256 * 1024;
/// Attempts to change a list that others change at the same time.
const MAX_CHANGE_ATTEMPTS: usize = 5;
/// Advice to clients after the catalogue was full.
const CATALOGUE_RETRY_MS: u64 = 60_000;
/// FIND's reply ends at about this size.
const MAX_PAGE_BYTES: usize = 256 * 1024;
/// Bytes of a file in FIND's reply without its texts, about.
const ENTRY_OVERHEAD_BYTES: usize = 60;
/// Advice to clients after too many searches waited.
const SEARCH_RETRY_MS: u64 = 1000;
/// Advice to clients after too many long replies were unsent.
const REPLIES_RETRY_MS: u64 = 2000;
/// Files in a page of FIND by default.
const DEFAULT_PAGE_FILES: usize = 100;
/// Files in a page of FIND at most.
const MAX_PAGE_FILES: usize = 1000;

impl TrackerService {
    pub(super) async fn list_peers(
        &self,
        client: &ClientState,
        id: Option<&str>,
        wanted: &ListPeersRequest,
    ) -> ActionResult {
        // Checked before any work: an origin that reads slowly must not have more replies made.
        self.with_registry(|registry, _| registry.can_send_reply(client.from()))
            .then_some(())
            .ok_or_else(too_many_replies_error)?;
        // The head comes first: in plaintext the list gets the room that the head leaves.
        let head = list_head(client.dialect(), id, self.with_registry(|registry, _| registry.present_count()))?;
        let room = MAX_PLAIN_REPLY_BYTES.saturating_sub(head.len() + super::LIST_END.len());
        let view = match (client.dialect(), client.is_secure()) {
            (Dialect::Cmd, _) => ListView::Cmd,
            (Dialect::Action, false) => ListView::Compact,
            (Dialect::Action, true) => ListView::Full,
        };
        // Most requests are for the plain list, which is ready and needs no permit.
        let fields = self.with_registry(|registry, _| registry.ready_list(view, wanted, room, client.from()));
        let fields = match fields {
            Some(fields) => fields,
            None => self.page(client, view, wanted).await?,
        };
        Ok(ActionReply::Peers { head, fields })
    }

    async fn page(
        &self,
        client: &ClientState,
        view: ListView,
        wanted: &ListPeersRequest,
    ) -> Result<PeerListText, RequestError> {
        let mut page = self.with_registry(|registry, _| registry.page(view, client.from()));
        loop {
            let turn = self.search_permit(client).await?;
            let has_more = self.with_registry(|registry, _| registry.add_to_page(wanted, &mut page));
            drop(turn);
            if !has_more {
                return Ok(page.finish());
            }
            // Lets other tasks run between two pieces.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for a permit to go through lists; origins take turns.
    pub(super) async fn search_permit(&self, client: &ClientState) -> Result<FairPermit, RequestError> {
        let turn = self.search_permits.acquire(client.from().into()).await;
        turn.ok_or_else(|| busy(RefusalReason::TooManySearches, SEARCH_RETRY_MS))
    }

    pub(super) async fn register_files(
        &self,
        client: &ClientState,
        request: RegisterFilesRequest,
        left_out: RejectedFiles,
        turn: Option<FairPermit>,
    ) -> ActionResult {
        let RegisterFilesRequest { user, files, mode, proof } = request;
        // The password is checked before the change is charged, so that nobody can use up the rate of another user.
        self.check_authority(client, &user, &proof).await?;
        self.access_policy().limits.charge_change(&user, client.from(), Instant::now())?;
        let (changes, turn) = self.prepare_files(files, turn, client.from()).await?;
        let count = self.change_files(&user, mode, &changes, &client.claim(&proof), turn).await?;
        Ok(ActionReply::FilesRegistered { user, count, left_out })
    }

    async fn prepare_files(
        &self,
        files: Vec<SharedFile>,
        turn: Option<FairPermit>,
        from: ClientOrigin,
    ) -> Result<(FileList, Option<FairPermit>), RequestError> {
        let turn = match turn {
            None if files.len() <= MAX_INLINE_FILES => return Ok((FileList::from_list(files), None)),
            None => self.long_work_permit(from).await?,
            Some(turn) => turn,
        };
        let (files, turn) = self.long_work.run(turn, || FileList::from_list(files)).await?;
        Ok((files, Some(turn)))
    }

    /// Changes a list without the registry's lock. The registry then takes the result if the list is still the same.
    async fn change_files(
        &self,
        user: &UserName,
        mode: FilesMode,
        changes: &FileList,
        shown: &AuthorityClaim<'_>,
        mut turn: Option<FairPermit>,
    ) -> Result<usize, RequestError> {
        // Optimistic: a copy is changed, and put back only if the list is still the one that was copied.
        for _ in 0..MAX_CHANGE_ATTEMPTS {
            let before = self.with_registry(|registry, _| registry.files(user).cloned());
            let before = before.ok_or_else(|| not_online(user))?;
            let after = if before.effort(mode, changes) <= MAX_INLINE_BYTES {
                before.with_changes(mode, changes)
            } else {
                let held = match turn.take() {
                    Some(turn) => turn,
                    None => self.long_work_permit(shown.from).await?,
                };
                let (before, changes) = (before.clone(), changes.clone());
                let (after, held) = self.long_work.run(held, move || before.with_changes(mode, &changes)).await?;
                turn = Some(held);
                after
            };
            let after = after.map_err(|why| files_refused(user, why))?;
            let count = self.with_registry(|registry, now| {
                let is_as_before = registry.files(user).is_some_and(|now| now.is_copy_of(&before));
                is_as_before.then(|| put_files(registry, now, user, after, shown))
            });
            // `before` may be the last copy of the replaced list.
            super::drop_in_background(vec![before]);
            if let Some(count) = count {
                return count;
            }
        }
        Err(busy(RefusalReason::ListChanged, super::RETRY_AFTER_CHANGE_MS))
    }

    pub(super) async fn logout(&self, client: &mut ClientState, user: UserName, proof: SpeakerProof) -> ActionResult {
        self.check_authority(client, &user, &proof).await?;
        self.access_policy().limits.charge_change(&user, client.from(), Instant::now())?;
        let held = client.sessions().iter().find(|(name, _)| *name == user).map(|(_, session)| *session);
        let was_present = self.with_registry(|registry, _| {
            // Checked again: hashing the password took a while, and only this check and the change are one step.
            if registry.is_present(&user) {
                speaking_session(registry, &user, &client.claim(&proof))?;
            }
            let was_present = registry.logout(&user);
            held.into_iter().for_each(|session| registry.detach(session));
            Ok::<_, RequestError>(was_present)
        })?;
        client.remove_sessions(&user);
        if self.log_throttle().try_admit(client.ip(), "logged out") {
            info!(%user, ip = %client.ip(), was_present, "logged out");
        }
        Ok(ActionReply::LoggedOut { user, was_present })
    }

    pub(super) fn heartbeat(
        &self,
        client: &ClientState,
        user: Option<UserName>,
        token: Option<SessionToken>,
    ) -> ActionResult {
        let held = match &user {
            Some(user) => client.sessions().iter().find(|(name, _)| name == user),
            None if token.is_none() => client.sessions().last(),
            None => None,
        };
        let lease = self.with_registry(|registry, now| {
            let (name, session) = match (held, token.and_then(|token| registry.session_of_token(&token)), &user) {
                (Some((name, session)), _, _) => (name.clone(), *session),
                (None, Some((session, name)), _) => (name.clone(), session),
                // A client of the exercise, which opens a connection for each request.
                (None, None, Some(user)) => match registry.authority(user, &client.claim(&SpeakerProof::default())) {
                    AuthorityDecision::Session(session) => (user.clone(), session),
                    AuthorityDecision::IfPasswordIsRight => return Err(denied(user, AuthorityDenial::NotLoggedIn)),
                    AuthorityDecision::Denied(denial) => return Err(denied(user, denial)),
                },
                (None, None, None) => return Err(RefusalReason::NoSession.into()),
            };
            if user.is_some_and(|user| user != name) {
                return Err(RefusalReason::ForeignToken.into());
            }
            // A bound account is never reachable in plaintext, not even by token.
            if registry.binding(&name).is_some() && !client.is_secure() {
                return Err(tls_required(&name));
            }
            registry.renew(session, now).map_err(|ended| match ended {
                SessionEndReason::Over => ended_refusal(&name, registry.end_reason(&name)),
                other => ended_refusal(&name, other),
            })
        })?;
        Ok(ActionReply::Heartbeat(HeartbeatReply { ttl_s: lease.as_secs() }))
    }

    pub(super) async fn whois(&self, client: &ClientState, whois: WhoisRequest) -> ActionResult {
        self.certified_user(client)?;
        let user = match whois {
            WhoisRequest::User(user) => user,
            WhoisRequest::Like(name) => self.named_like(client, name).await?,
            WhoisRequest::Fingerprint(fingerprint) => {
                let found = self.with_registry(|registry, _| {
                    let user = registry.owner(&fingerprint)?.clone();
                    let online = registry.is_present(&user);
                    Some(WhoisReply { user, fingerprint: Some(fingerprint), online })
                });
                return found.map(ActionReply::Binding).ok_or_else(not_bound);
            }
        };
        let look = |registry: &mut PresenceRegistry, _| (registry.binding(&user), registry.is_present(&user));
        let (fingerprint, online) = self.with_registry(look);
        // Only clients with this feature understand a reply without a fingerprint.
        let understands_none = client.features().has(Feature::KeylessUsers);
        if fingerprint.is_none() && !(understands_none && self.has_account(client, &user).await?) {
            return Err(not_bound());
        }
        Ok(ActionReply::Binding(WhoisReply { user, fingerprint, online }))
    }

    async fn has_account(&self, client: &ClientState, user: &UserName) -> Result<bool, RequestError> {
        Ok(self.accounts.find(client.from().into(), user).await?.is_some())
    }

    /// Returns `name` if an account has it, else the only account whose name differs from it in letter case alone.
    async fn named_like(&self, client: &ClientState, name: UserName) -> Result<UserName, RequestError> {
        let mut all = self.accounts.names_ignoring_case(client.from().into(), &name).await?;
        match all.len() {
            _ if all.contains(&name) => Ok(name),
            0 => Err(RefusalReason::NoSuchName(name).into()),
            1 => Ok(all.swap_remove(0)),
            _ => Err(RefusalReason::AmbiguousName { name, all }.into()),
        }
    }

    pub(super) async fn find(&self, client: &ClientState, find: &FindRequest) -> ActionResult {
        self.certified_user(client)?;
        self.with_registry(|registry, _| registry.can_send_reply(client.from()))
            .then_some(())
            .ok_or_else(too_many_replies_error)?;
        let limit = find.limit.unwrap_or(DEFAULT_PAGE_FILES).clamp(1, MAX_PAGE_FILES);
        let mut position = find.cursor.clone().map_or(SearchPosition::Start, SearchPosition::After);
        let mut files = Vec::new();
        loop {
            let turn = self.search_permit(client).await?;
            let lists = self.with_registry(|registry, _| registry.snapshot_lists(&position));
            let piece = lists.find(&find.criterion, &position, limit - files.len());
            drop((lists, turn));
            files.extend(piece.files);
            let next = match piece.next {
                // Cut by size: the next page begins behind the last file that stayed.
                _ if truncate_to_page(&mut files) => cursor_after(&files),
                None => None,
                Some(_) if files.len() == limit => cursor_after(&files),
                Some(rest) => {
                    position = rest;
                    // Lets other tasks run between two pieces.
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            return Ok(ActionReply::Found(FindReply { files, next }));
        }
    }

    pub(super) fn subscribe(&self, client: &mut ClientState, since: Option<u64>) -> ActionResult {
        let (user, _) = self.certified_user(client)?;
        let (last, continued, then) = self.with_registry(|registry, _| {
            // A limit of 0 asks only whether the following events are still kept.
            let kept = |seen: &u64| matches!(registry.events_after(*seen, 0), EventBacklog::Lines { .. });
            (registry.last_event(), since.filter(kept), registry.newest_session())
        });
        // A position that can't be continued becomes one after all events: the first line sent is then a `resync`.
        client.subscribe(continued.unwrap_or(if since.is_some() { u64::MAX } else { last }), user, then);
        let seq = continued.unwrap_or(last);
        Ok(ActionReply::Subscribed(SubscribeReply { seq, features: client.offered_features() }))
    }

    /// Refuses a request on behalf of `user` unless its sender may speak for that user. A password that decides it is
    /// checked here.
    pub(super) async fn check_authority(
        &self,
        client: &ClientState,
        user: &UserName,
        proof: &SpeakerProof,
    ) -> Result<(), RequestError> {
        self.check_claim(client, user, proof, &client.claim(proof)).await
    }

    /// Does the same for a claim that may be narrower than the connection's.
    pub(super) async fn check_claim(
        &self,
        client: &ClientState,
        user: &UserName,
        proof: &SpeakerProof,
        claim: &AuthorityClaim<'_>,
    ) -> Result<(), RequestError> {
        match self.with_registry(|registry, _| registry.authority(user, claim)) {
            AuthorityDecision::Session(_) => Ok(()),
            AuthorityDecision::Denied(denial) => Err(denied(user, denial)),
            AuthorityDecision::IfPasswordIsRight => {
                let Some(password) = proof.password.clone() else {
                    return Err(denied(user, AuthorityDenial::NotLoggedIn));
                };
                let account = self.authenticate(client, Credentials { user: user.clone(), password }).await?;
                self.require_tls_if_bound(client, &account.user)
            }
        }
    }
}

/// Replaces the user's list by `after` (`None`: the change had no effect), and returns the length of the list.
fn put_files(
    registry: &mut PresenceRegistry,
    now: Instant,
    user: &UserName,
    after: Option<FileList>,
    shown: &AuthorityClaim<'_>,
) -> Result<usize, RequestError> {
    let session = speaking_session(registry, user, shown)?;
    let count = match after {
        Some(after) => registry.put_files(user, after).map_err(|why| files_refused(user, why))?,
        None => registry.files(user).map(FileList::len),
    };
    // An attached session, and one proved by a password, have no lease: the presence's lease is renewed.
    let presence = registry.presence_session(user).unwrap_or(session);
    let _ = registry.renew(presence, now);
    count.ok_or_else(|| not_online(user))
}

fn not_online(user: &UserName) -> RequestError {
    RefusalReason::NotOnline(user.clone()).into()
}

/// Returns the session that may speak for `user`, given that a password in the claim is right.
fn speaking_session(
    registry: &PresenceRegistry,
    user: &UserName,
    claim: &AuthorityClaim<'_>,
) -> Result<SessionId, RequestError> {
    match registry.authority(user, claim) {
        AuthorityDecision::Session(session) => Ok(session),
        AuthorityDecision::IfPasswordIsRight if registry.binding(user).is_some() && !claim.is_secure => {
            Err(tls_required(user))
        }
        AuthorityDecision::IfPasswordIsRight => registry.presence_session(user).ok_or_else(|| not_online(user)),
        AuthorityDecision::Denied(denial) => Err(denied(user, denial)),
    }
}

fn denied(user: &UserName, denial: AuthorityDenial) -> RequestError {
    match denial {
        AuthorityDenial::NotLoggedIn => RefusalReason::NotLoggedInAs(user.clone()).into(),
        AuthorityDenial::SessionEnded(ended) => ended_refusal(user, ended),
        AuthorityDenial::Forbidden => RefusalReason::NotUser(user.clone()).into(),
        AuthorityDenial::TlsRequired => tls_required(user),
    }
}

fn ended_refusal(user: &UserName, ended: SessionEndReason) -> RequestError {
    RefusalReason::SessionEnded(user.clone(), ended).into()
}

fn files_refused(user: &UserName, why: FileListError) -> RequestError {
    match why {
        FileListError::TooMany => RefusalReason::TooManyFiles(user.clone()).into(),
        FileListError::TooManyInFlight => too_many_replies_error(),
        FileListError::CatalogueFull => busy(RefusalReason::CatalogueFull, CATALOGUE_RETRY_MS),
        FileListError::ShareExceeded => busy(RefusalReason::CatalogueShareExceeded, CATALOGUE_RETRY_MS),
    }
}

/// Truncates the files to one page. Returns whether some were cut off.
fn truncate_to_page(files: &mut Vec<FoundFile>) -> bool {
    let mut bytes = 0;
    let fit = files.iter().take_while(|FoundFile { user, name, hash, .. }| {
        let fits = bytes < MAX_PAGE_BYTES;
        bytes += ENTRY_OVERHEAD_BYTES + user.as_str().len() + name.as_str().len() + hash.as_str().len();
        fits
    });
    let fit = fit.count();
    let is_cut = fit < files.len();
    files.truncate(fit);
    is_cut
}

fn not_bound() -> RequestError {
    RefusalReason::NotBound.into()
}

const fn too_many_replies_error() -> RequestError {
    busy(RefusalReason::TooManyReplies, REPLIES_RETRY_MS)
}
