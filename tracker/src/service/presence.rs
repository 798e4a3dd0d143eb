//! REGISTER_FILES, LIST_PEERS, LOGOUT, HEARTBEAT, WHOIS, FIND, SUBSCRIBE: who is here, and with what.

use std::time::Instant;

use shared::UserName;
use shared::limits::PLAIN_REPLY_BYTES;
use shared::tracker::{
    Credentials, Dialect, Feature, FilesMode, Find, FindReply, FoundFile, HeartbeatReply, ListPeers, Proof,
    RegisterFiles, RejectedFiles, SharedFile, SubscribeReply, Token, Whois, WhoisReply,
};
use tracing::info;

use super::account::tls_required;
use super::answer::list_head;
use super::client::Client;
use super::{Answer, Answered, Reason, Refused, Service, busy};
use crate::limits::Origin;
use crate::registry::{
    Authority, Backlog, Claim, Denial, Ended, Files, FilesRefused, Parts, Position, Registry, SessionId, View,
    behind_last,
};
use crate::turns::Turn;

/// Lists longer than this are brought into order on the thread for long work.
const FILES_AT_ONCE: usize = 500;
/// Changes that go through more bytes of lists than this are worked out on the thread for long work.
const BYTES_AT_ONCE: usize = 256 * 1024;
/// How often a list is worked out anew because it changed in the meantime.
const CHANGES_TRIED: usize = 5;
/// When to try again after the catalogue was full.
const CATALOGUE_RETRY_MS: u64 = 60_000;
/// FIND's reply ends when it is about as long as this.
const PAGE_BYTES: usize = 256 * 1024;
/// What a file has in FIND's reply beside its texts.
const ENTRY_BYTES: usize = 60;
/// When to try again after too many searches waited.
const SEARCH_RETRY_MS: u64 = 1000;
/// When to try again after too many long replies were on their way.
const REPLIES_RETRY_MS: u64 = 2000;
/// Files that FIND lists unless told otherwise.
const FILES_ON_A_PAGE: usize = 100;
/// Files that FIND lists at most.
const FILES_ON_A_PAGE_AT_MOST: usize = 1000;

impl Service {
    pub(super) async fn list_peers(&self, client: &Client, id: Option<&str>, wanted: &ListPeers) -> Answered {
        self.with_registry(|registry, _| registry.has_room_for_replies(client.from()))
            .then_some(())
            .ok_or_else(many_on_their_way)?;
        let head = list_head(client.dialect(), id, self.with_registry(|registry, _| registry.present_count()))?;
        let room = PLAIN_REPLY_BYTES.saturating_sub(head.len() + super::LIST_END.len());
        let view = match (client.dialect(), client.is_secure()) {
            (Dialect::Cmd, _) => View::Cmd,
            (Dialect::Action, false) => View::Compact,
            (Dialect::Action, true) => View::Full,
        };
        let fields = self.with_registry(|registry, _| registry.ready_list(view, wanted, room, client.from()));
        let fields = match fields {
            Some(fields) => fields,
            None => self.page(client, view, wanted).await?,
        };
        Ok(Answer::Peers { head, fields })
    }

    async fn page(&self, client: &Client, view: View, wanted: &ListPeers) -> Result<Parts, Refused> {
        let mut page = self.with_registry(|registry, _| registry.page(view, client.from()));
        loop {
            let turn = self.search_turn(client).await?;
            let has_more = self.with_registry(|registry, _| registry.add_to_page(wanted, &mut page));
            drop(turn);
            if !has_more {
                return Ok(page.end());
            }
            // Others have their turn between two pieces.
            tokio::task::yield_now().await;
        }
    }

    /// A turn at going through lists, each origin in its own.
    async fn search_turn(&self, client: &Client) -> Result<Turn, Refused> {
        let turn = self.searches.wait(client.from().into()).await;
        turn.ok_or_else(|| busy(Reason::ManySearches, SEARCH_RETRY_MS))
    }

    pub(super) async fn register_files(
        &self,
        client: &Client,
        request: RegisterFiles,
        left_out: RejectedFiles,
        turn: Option<Turn>,
    ) -> Answered {
        let RegisterFiles { user, files, mode, proof } = request;
        self.check_authority(client, &user, &proof).await?;
        self.gate().limits.change(&user, client.from(), Instant::now())?;
        let (changes, turn) = self.prepared(files, turn, client.from()).await?;
        let count = self.change_files(&user, mode, &changes, &client.claim(&proof), turn).await?;
        Ok(Answer::Files { user, count, left_out })
    }

    async fn prepared(
        &self,
        files: Vec<SharedFile>,
        turn: Option<Turn>,
        from: Origin,
    ) -> Result<(Files, Option<Turn>), Refused> {
        let turn = match turn {
            None if files.len() <= FILES_AT_ONCE => return Ok((Files::from_list(files), None)),
            None => self.long_turn(from).await?,
            Some(turn) => turn,
        };
        let (files, turn) = self.long_work.run(turn, || Files::from_list(files)).await?;
        Ok((files, Some(turn)))
    }

    /// Changes a list beside the registry, which takes the outcome in one step.
    async fn change_files(
        &self,
        user: &UserName,
        mode: FilesMode,
        changes: &Files,
        shown: &Claim<'_>,
        mut turn: Option<Turn>,
    ) -> Result<usize, Refused> {
        for _ in 0..CHANGES_TRIED {
            let before = self.with_registry(|registry, _| registry.files(user).cloned());
            let before = before.ok_or_else(|| not_online(user))?;
            let after = if before.effort(mode, changes) <= BYTES_AT_ONCE {
                before.changed(mode, changes)
            } else {
                let held = match turn.take() {
                    Some(turn) => turn,
                    None => self.long_turn(shown.from).await?,
                };
                let (before, changes) = (before.clone(), changes.clone());
                let (after, held) = self.long_work.run(held, move || before.changed(mode, &changes)).await?;
                turn = Some(held);
                after
            };
            let after = after.map_err(|why| files_refused(user, why))?;
            let count = self.with_registry(|registry, now| {
                let is_as_before = registry.files(user).is_some_and(|now| now.is_copy_of(&before));
                is_as_before.then(|| put_files(registry, now, user, after, shown))
            });
            super::discard(vec![before]);
            if let Some(count) = count {
                return count;
            }
        }
        Err(busy(Reason::ListChanged, super::RETRY_AFTER_CHANGE_MS))
    }

    pub(super) async fn logout(&self, client: &mut Client, user: UserName, proof: Proof) -> Answered {
        self.check_authority(client, &user, &proof).await?;
        self.gate().limits.change(&user, client.from(), Instant::now())?;
        let held = client.sessions().iter().find(|(name, _)| *name == user).map(|(_, session)| *session);
        let was_present = self.with_registry(|registry, _| {
            // Checked again: the password took its time, and only this look and the change are one step.
            if registry.is_present(&user) {
                speaker(registry, &user, &client.claim(&proof))?;
            }
            let was_present = registry.logout(&user);
            held.into_iter().for_each(|session| registry.detach(session));
            Ok::<_, Refused>(was_present)
        })?;
        client.release(&user);
        if self.lines().may_tell(client.ip(), "logged out") {
            info!(%user, ip = %client.ip(), was_present, "logged out");
        }
        Ok(Answer::LoggedOut { user, was_present })
    }

    pub(super) fn heartbeat(&self, client: &Client, user: Option<UserName>, token: Option<Token>) -> Answered {
        let held = match &user {
            Some(user) => client.sessions().iter().find(|(name, _)| name == user),
            None if token.is_none() => client.sessions().last(),
            None => None,
        };
        let lease = self.with_registry(|registry, now| {
            let (name, session) = match (held, token.and_then(|token| registry.session_of_token(&token)), &user) {
                (Some((name, session)), _, _) => (name.clone(), *session),
                (None, Some((session, name)), _) => (name.clone(), session),
                // A client of the exercise with a connection for each request.
                (None, None, Some(user)) => match registry.authority(user, &client.claim(&Proof::default())) {
                    Authority::Session(session) => (user.clone(), session),
                    Authority::IfPasswordIsRight => return Err(denied(user, Denial::NotLoggedIn)),
                    Authority::Denied(denial) => return Err(denied(user, denial)),
                },
                (None, None, None) => return Err(Reason::NoSession.into()),
            };
            if user.is_some_and(|user| user != name) {
                return Err(Reason::ForeignToken.into());
            }
            if registry.binding(&name).is_some() && !client.is_secure() {
                return Err(tls_required(&name));
            }
            registry.renew(session, now).map_err(|ended| match ended {
                Ended::Over => ended_refusal(&name, registry.why_over(&name)),
                other => ended_refusal(&name, other),
            })
        })?;
        Ok(Answer::Alive(HeartbeatReply { ttl_s: lease.as_secs() }))
    }

    pub(super) async fn whois(&self, client: &Client, whois: Whois) -> Answered {
        self.certified(client)?;
        let user = match whois {
            Whois::User(user) => user,
            Whois::Like(name) => self.named_like(client, name).await?,
            Whois::Fingerprint(fingerprint) => {
                let found = self.with_registry(|registry, _| {
                    let user = registry.owner(&fingerprint)?.clone();
                    let online = registry.is_present(&user);
                    Some(WhoisReply { user, fingerprint: Some(fingerprint), online })
                });
                return found.map(Answer::Binding).ok_or_else(not_bound);
            }
        };
        let look = |registry: &mut Registry, _| (registry.binding(&user), registry.is_present(&user));
        let (fingerprint, online) = self.with_registry(look);
        let understands_none = client.features().has(Feature::KeylessUsers);
        if fingerprint.is_none() && !(understands_none && self.has_account(client, &user).await?) {
            return Err(not_bound());
        }
        Ok(Answer::Binding(WhoisReply { user, fingerprint, online }))
    }

    async fn has_account(&self, client: &Client, user: &UserName) -> Result<bool, Refused> {
        let name = user.clone();
        Ok(self.accounts.run(client.from().into(), move |store| store.find(&name)).await?.is_some())
    }

    /// The name itself where somebody has it, else the only one that differs in the case of its letters.
    async fn named_like(&self, client: &Client, name: UserName) -> Result<UserName, Refused> {
        let wanted = name.clone();
        let mut all = self.accounts.run(client.from().into(), move |store| store.named_like(&wanted)).await?;
        match all.len() {
            _ if all.contains(&name) => Ok(name),
            0 => Err(Reason::NobodyLike(name).into()),
            1 => Ok(all.swap_remove(0)),
            _ => Err(Reason::Several { name, all }.into()),
        }
    }

    pub(super) async fn find(&self, client: &Client, find: &Find) -> Answered {
        self.certified(client)?;
        self.with_registry(|registry, _| registry.has_room_for_replies(client.from()))
            .then_some(())
            .ok_or_else(many_on_their_way)?;
        let limit = find.limit.unwrap_or(FILES_ON_A_PAGE).clamp(1, FILES_ON_A_PAGE_AT_MOST);
        let mut position = find.cursor.clone().map_or(Position::Start, Position::Behind);
        let mut files = Vec::new();
        loop {
            let turn = self.search_turn(client).await?;
            let lists = self.with_registry(|registry, _| registry.lists_from(&position));
            let piece = lists.find(&find.wanted, &position, limit - files.len());
            drop((lists, turn));
            files.extend(piece.files);
            let next = match piece.rest {
                _ if cut(&mut files) => behind_last(&files),
                None => None,
                Some(_) if files.len() == limit => behind_last(&files),
                Some(rest) => {
                    position = rest;
                    // Others have their turn between two pieces.
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            return Ok(Answer::Found(FindReply { files, next }));
        }
    }

    pub(super) fn subscribe(&self, client: &mut Client, since: Option<u64>) -> Answered {
        let (user, _) = self.certified(client)?;
        let (last, continued, then) = self.with_registry(|registry, _| {
            let kept = |seen: &u64| matches!(registry.events_after(*seen, 0), Backlog::Lines { .. });
            (registry.last_event(), since.filter(kept), registry.newest_session())
        });
        // What can't be continued begins after an event that never was: the first line sent is then a resync.
        client.subscribe(continued.unwrap_or(if since.is_some() { u64::MAX } else { last }), user, then);
        let seq = continued.unwrap_or(last);
        Ok(Answer::Subscribed(SubscribeReply { seq, features: client.offered_features() }))
    }

    /// Refuses a request on behalf of `user` unless its sender may speak for it. The password, if it comes to that,
    /// is checked here, and is right when this returns.
    async fn check_authority(&self, client: &Client, user: &UserName, proof: &Proof) -> Result<(), Refused> {
        match self.with_registry(|registry, _| registry.authority(user, &client.claim(proof))) {
            Authority::Session(_) => Ok(()),
            Authority::Denied(denial) => Err(denied(user, denial)),
            Authority::IfPasswordIsRight => {
                let Some(password) = proof.password.clone() else {
                    return Err(denied(user, Denial::NotLoggedIn));
                };
                let account = self.authenticate(client, Credentials { user: user.clone(), password }).await?;
                self.demand_tls_if_bound(client, &account.user)
            }
        }
    }
}

/// Puts the list that a change made in the place of the one before; `None` when it is the same.
fn put_files(
    registry: &mut Registry,
    now: Instant,
    user: &UserName,
    after: Option<Files>,
    shown: &Claim<'_>,
) -> Result<usize, Refused> {
    let session = speaker(registry, user, shown)?;
    let count = match after {
        Some(after) => registry.put_files(user, after).map_err(|why| files_refused(user, why))?,
        None => registry.files(user).map(Files::len),
    };
    // An attached session, or one proved by password, has no lease of its own: the presence's is renewed.
    let presence = registry.presence(user).unwrap_or(session);
    let _ = registry.renew(presence, now);
    count.ok_or_else(|| not_online(user))
}

fn not_online(user: &UserName) -> Refused {
    Reason::NotOnline(user.clone()).into()
}

/// The session that may speak for `user`, once a password in the claim is known to be right.
fn speaker(registry: &Registry, user: &UserName, claim: &Claim<'_>) -> Result<SessionId, Refused> {
    match registry.authority(user, claim) {
        Authority::Session(session) => Ok(session),
        Authority::IfPasswordIsRight if registry.binding(user).is_some() && !claim.is_secure => Err(tls_required(user)),
        Authority::IfPasswordIsRight => registry.presence(user).ok_or_else(|| not_online(user)),
        Authority::Denied(denial) => Err(denied(user, denial)),
    }
}

fn denied(user: &UserName, denial: Denial) -> Refused {
    match denial {
        Denial::NotLoggedIn => Reason::NotLoggedInAs(user.clone()).into(),
        Denial::SessionEnded(ended) => ended_refusal(user, ended),
        Denial::Forbidden => Reason::NotUser(user.clone()).into(),
        Denial::TlsRequired => tls_required(user),
    }
}

fn ended_refusal(user: &UserName, ended: Ended) -> Refused {
    Reason::SessionEnded(user.clone(), ended).into()
}

fn files_refused(user: &UserName, why: FilesRefused) -> Refused {
    match why {
        FilesRefused::TooMany => Reason::TooManyFiles(user.clone()).into(),
        FilesRefused::TooManyOnTheirWay => many_on_their_way(),
        FilesRefused::CatalogueFull => busy(Reason::CatalogueFull, CATALOGUE_RETRY_MS),
        FilesRefused::BeyondPart => busy(Reason::CataloguePart, CATALOGUE_RETRY_MS),
    }
}

/// Leaves as many as fit a page; says whether those were not all.
fn cut(files: &mut Vec<FoundFile>) -> bool {
    let mut bytes = 0;
    let fit = files.iter().take_while(|FoundFile { user, name, hash, .. }| {
        let fits = bytes < PAGE_BYTES;
        bytes += ENTRY_BYTES + user.as_str().len() + name.as_str().len() + hash.as_str().len();
        fits
    });
    let fit = fit.count();
    let is_cut = fit < files.len();
    files.truncate(fit);
    is_cut
}

fn not_bound() -> Refused {
    Reason::NotBound.into()
}

const fn many_on_their_way() -> Refused {
    busy(Reason::ManyLists, REPLIES_RETRY_MS)
}
