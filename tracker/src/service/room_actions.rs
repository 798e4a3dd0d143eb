//! The actions on rooms, our own and the exercise's.
//!
//! A change is stored and told to the registry with one permit, so that subscribers hear of changes in their order.

use std::time::Instant;

use rooms::HistoryVisibility;
use shared::RoomId;
use shared::UserName;
use shared::limits::MAX_ROOMS_PER_REPLY;
use shared::tracker::Password;
use shared::tracker::room_request::{
    ExerciseRoomRequest, NewRoom, PasswordChange, RequestedChange, RoomReference, RoomRequest, RoomSpeaker,
};
use tracing::info;

use super::action_reply::RoomDeed;
use super::client_state::ClientState;
use super::{ActionReply, ActionResult, RequestError, TrackerService};
use crate::fair_semaphore::Requester;
use crate::membership::RoomRefusal;
use crate::passwords::{HashSalt, PasswordCheck};
use crate::registry::AuthorityClaim;
use crate::store::{AccountStoreError, RoomCaller, RoomDraft, RoomOutcome};

impl TrackerService {
    pub(super) async fn room(&self, client: &ClientState, request: RoomRequest) -> ActionResult {
        let (user, key) = self.certified_user(client).await?;
        let requester = client.from().into();
        let caller = RoomCaller { user, key: Some(key) };
        match request {
            RoomRequest::List { limit, cursor } => {
                let limit = limit.unwrap_or(MAX_ROOMS_PER_REPLY);
                // Held while the list is read: origins take turns, as for searches.
                let _turn = self.search_permit(client).await?;
                Ok(ActionReply::Rooms(self.accounts.list_rooms(requester, Some(caller.user), cursor, limit).await?))
            }
            RoomRequest::Members { room, after } => {
                let _turn = self.search_permit(client).await?;
                Ok(ActionReply::RoomRecords(self.accounts.room_records(requester, caller, room, after).await?))
            }
            RoomRequest::Create(new) => {
                let made = self.create_room(client, caller, new).await?;
                Ok(ActionReply::RoomChanged(RoomDeed::Created, made.into_reply()))
            }
            RoomRequest::Join { room, password } => {
                let joined = self.join_room(client, caller, room, password).await?;
                Ok(ActionReply::RoomChanged(RoomDeed::Joined, joined.into_reply()))
            }
            RoomRequest::Leave { room, cut } => {
                self.charge_room_change(client, &caller.user)?;
                let leaving = self.accounts.leave_room(requester, caller, room, cut);
                let left = self.commit_room_changes(requester, leaving).await?;
                Ok(ActionReply::RoomChanged(RoomDeed::Left, left.into_reply()))
            }
            RoomRequest::Passwd { room, password, invite_only } => {
                self.charge_room_change(client, &caller.user)?;
                let hash = match password {
                    PasswordChange::Keep => None,
                    PasswordChange::Remove => Some(None),
                    PasswordChange::Set(password) => {
                        Some(Some(self.passwords.hash(&password, HashSalt::random(), requester).await?))
                    }
                };
                // Nobody is told: it makes no record, so members have nothing to fetch.
                let set = self.accounts.set_room_entry(requester, caller, room, hash, invite_only).await?;
                Ok(ActionReply::RoomChanged(RoomDeed::EntrySet, set.into_reply()))
            }
            RoomRequest::Change { room, change } => {
                let deed = RoomDeed::of(&change);
                let changed = self.change_room(client, caller, room, change).await?;
                Ok(ActionReply::RoomChanged(deed, changed.into_reply()))
            }
        }
    }

    pub(super) async fn exercise_room(&self, client: &ClientState, request: ExerciseRoomRequest) -> ActionResult {
        match request {
            ExerciseRoomRequest::Create { name, senha, speaker } => {
                let caller = self.speaking_caller(client, speaker, true).await?;
                let members = vec![caller.user.to_string()];
                let new = NewRoom { name, password: senha, invite_only: false, history: true, key: None };
                self.create_room(client, caller, new).await?;
                Ok(ActionReply::RoomNames { deed: RoomDeed::Created, field: "members", names: members })
            }
            ExerciseRoomRequest::Join { name, senha, speaker } => {
                let caller = self.speaking_caller(client, speaker, true).await?;
                self.join_room(client, caller, RoomReference::Name(name), senha).await?;
                Ok(ActionReply::RoomDone(RoomDeed::Joined))
            }
            ExerciseRoomRequest::Kick { name, member, speaker } => {
                // The address alone never speaks for an owner.
                let caller = self.speaking_caller(client, speaker, false).await?;
                let change = RequestedChange::Kick { user: member, cut: None };
                self.change_room(client, caller, RoomReference::Name(name), change).await?;
                Ok(ActionReply::RoomDone(RoomDeed::Kicked))
            }
            ExerciseRoomRequest::List => {
                let _turn = self.search_permit(client).await?;
                let names = self.accounts.room_names(client.from().into()).await?;
                let names = names.iter().map(|name| name.as_str().to_owned()).collect();
                Ok(ActionReply::RoomNames { deed: RoomDeed::Listed, field: "rooms", names })
            }
            ExerciseRoomRequest::Members { name } => {
                let _turn = self.search_permit(client).await?;
                // The request names nobody, so only logins on this connection show who asks.
                let asking = client.sessions().iter().map(|(user, _)| user.clone()).collect();
                let names = self.accounts.room_member_names(client.from().into(), name, asking).await?;
                let names = names.iter().map(ToString::to_string).collect();
                Ok(ActionReply::RoomNames { deed: RoomDeed::Listed, field: "members", names })
            }
        }
    }

    /// Stores changes of rooms by `storing`, and tells the registry of them before the next change is stored. Origins
    /// take turns.
    pub(super) async fn commit_room_changes<T: AsRef<[RoomOutcome]>>(
        &self,
        requester: Requester,
        storing: impl Future<Output = Result<T, AccountStoreError>>,
    ) -> Result<T, AccountStoreError> {
        let _turn = self.room_permit.acquire(requester).await.ok_or(AccountStoreError::Busy)?;
        let outcomes = storing.await?;
        for RoomOutcome { update, records } in outcomes.as_ref() {
            self.metrics().room_records.inc_by(records.len() as u64);
            // One of several trackers hears of its own change through the log, in the order of all.
            if !self.is_replicated() {
                self.with_registry(|registry, now| registry.update_room(update.clone(), now));
            }
        }
        // It is stored: a tracker that can't read the log at the moment hears of it later.
        let _ = self.catch_up().await;
        Ok(outcomes)
    }

    async fn create_room(
        &self,
        client: &ClientState,
        caller: RoomCaller,
        new: NewRoom,
    ) -> Result<RoomOutcome, RequestError> {
        let policy = self.access_policy();
        policy.limits.charge_room(client.from(), Instant::now())?;
        let made = self.make_room(client, caller, new).await;
        // The quota counts rooms that exist: a failed creation gives the place back.
        made.inspect_err(|_| policy.limits.refund_room(client.from()))
    }

    async fn make_room(
        &self,
        client: &ClientState,
        caller: RoomCaller,
        new: NewRoom,
    ) -> Result<RoomOutcome, RequestError> {
        self.charge_room_change(client, &caller.user)?;
        let requester = client.from().into();
        let NewRoom { name, password, invite_only, history, key } = new;
        // Before the permit for changes is taken: all others would wait for the hash.
        let password_hash = match password {
            Some(password) => Some(self.passwords.hash(&password, HashSalt::random(), requester).await?),
            None => None,
        };
        let history = if history { HistoryVisibility::Shared } else { HistoryVisibility::Joined };
        // Repetitions of a request make the same room.
        let id = RoomId::from_bytes(key.map_or_else(rand::random, |key| key.derive("room", &caller.user)));
        let (user, room) = (caller.user.clone(), name.clone());
        let draft = RoomDraft { id, name, password_hash, invite_only, history };
        let made = self.commit_room_changes(requester, self.accounts.create_room(requester, caller, draft)).await?;
        if self.log_throttle().try_admit(client.ip(), "room made") {
            info!(%user, %room, "room made");
        }
        Ok(made)
    }

    async fn join_room(
        &self,
        client: &ClientState,
        caller: RoomCaller,
        room: RoomReference,
        password: Option<Password>,
    ) -> Result<RoomOutcome, RequestError> {
        self.charge_room_change(client, &caller.user)?;
        let requester = client.from().into();
        let required = self.accounts.join_requirement(requester, caller.clone(), room).await?;
        if let Some(stored) = &required.password_hash {
            let password = password.ok_or(RoomRefusal::NeedsPassword)?;
            self.check_room_password(client, required.id, &caller.user, &password, stored).await?;
        }
        // With the hash that was checked: the store refuses it if the password was changed meanwhile.
        let joining = self.accounts.join_room(requester, caller, required.id, required.password_hash);
        Ok(self.commit_room_changes(requester, joining).await?)
    }

    async fn change_room(
        &self,
        client: &ClientState,
        caller: RoomCaller,
        room: RoomReference,
        change: RequestedChange,
    ) -> Result<RoomOutcome, RequestError> {
        self.charge_room_change(client, &caller.user)?;
        let requester = client.from().into();
        let changing = self.accounts.change_room(requester, caller, room, change);
        Ok(self.commit_room_changes(requester, changing).await?)
    }

    async fn check_room_password(
        &self,
        client: &ClientState,
        room: RoomId,
        user: &UserName,
        password: &Password,
        stored: &str,
    ) -> Result<(), RequestError> {
        let (from, policy) = (client.from(), self.access_policy());
        policy.limits.charge_room_password(room, user, from, Instant::now())?;
        let checked = self.passwords.check(password, Some(stored), from.into()).await;
        // A right password is no guess, nor is one that was not checked.
        if !matches!(checked, Ok(PasswordCheck::Wrong)) {
            policy.limits.refund_room_guess(room, user, from);
        }
        match checked? {
            // A hash with outdated parameters stays until the owner sets the next password.
            PasswordCheck::Correct | PasswordCheck::CorrectRehashed(_) => Ok(()),
            PasswordCheck::Wrong => Err(RoomRefusal::WrongPassword.into()),
        }
    }

    /// Returns the account for which an exercise's action speaks, if its sender may.
    async fn speaking_caller(
        &self,
        client: &ClientState,
        speaker: RoomSpeaker,
        may_use_address: bool,
    ) -> Result<RoomCaller, RequestError> {
        let RoomSpeaker { user, proof } = speaker;
        let claim = AuthorityClaim { may_use_address, ..client.claim(&proof) };
        self.check_claim(client, &user, &proof, &claim).await?;
        // The store compares it with the account, and refuses one whose binding changed meanwhile.
        let key = self.with_registry(|registry, _| registry.binding(&user));
        Ok(RoomCaller { user, key })
    }

    fn charge_room_change(&self, client: &ClientState, user: &UserName) -> Result<(), RequestError> {
        Ok(self.access_policy().limits.charge_change(user, client.from(), Instant::now())?)
    }
}
