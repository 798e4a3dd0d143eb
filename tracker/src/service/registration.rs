//! The action REGISTER, and the names that it suggests.

use std::time::{Instant, SystemTime};

use shared::UserName;
use shared::account_name::NewUserName;
use shared::tracker::{Credentials, IdempotencyKey, Password, UnusableName};
use tracing::info;

use super::account_actions::key_of_other_account;
use super::client_state::ClientState;
use super::{ActionReply, ActionResult, RefusalReason, RegistrationMode, RequestError, TrackerService};
use crate::passwords::HashSalt;
use crate::store::{Account, MAX_ACCOUNTS, UNUSED_ACCOUNT_LIFETIME};

impl TrackerService {
    pub(super) async fn register(
        &self,
        client: &ClientState,
        credentials: Credentials,
        key: Option<IdempotencyKey>,
    ) -> ActionResult {
        let Credentials { user, password } = credentials;
        // Kept for the whole request: a refund must reach the limits that were charged.
        let policy = self.access_policy();
        // Charged before any other answer: refusals reveal which names are taken.
        policy.limits.charge_registration(client.from(), Instant::now())?;
        if policy.registration == RegistrationMode::Closed {
            return Err(RefusalReason::RegistrationClosed.into());
        }
        let user: UserName = match NewUserName::try_from(user.clone()) {
            Ok(name) => name.into(),
            Err(why) => {
                let unusable = UnusableName::new(user.as_str(), why);
                return Err(RefusalReason::UnusableName(self.with_free_alternative(client, unusable).await).into());
            }
        };
        let binding = client.certificate();
        // A repeated REGISTER of the same user goes on, and is refused because the name is taken.
        if let Some(owner) = self.owner(binding).filter(|owner| *owner != user) {
            return Err(key_of_other_account(&owner));
        }
        if self.is_repeated_registration(client, &user, &password, key).await? {
            // The tracker that made the account may have been another one.
            self.catch_up().await?;
            return Ok(ActionReply::Registered(user));
        }
        // Checked before hashing, which takes a core for a while; `create` checks again. The reply reveals the
        // name anyway.
        self.ensure_name_free(client, &user).await?;
        if self.accounts.count(client.from().into()).await? >= MAX_ACCOUNTS {
            return Err(RefusalReason::TooManyAccounts.into());
        }
        policy.limits.charge_account(client.from(), Instant::now())?;
        let made = self.make_account(client, &user, &password, key).await;
        // The day's quota counts accounts that exist: a failed creation gives the place back.
        made.inspect_err(|_| policy.limits.refund_account(client.from()))?;
        // Stored first, then told to the registry: a crash in between leaves nothing that isn't stored.
        if let Some(fingerprint) = binding {
            self.apply_stored(|registry| registry.bind(&user, fingerprint)).await;
        }
        info!(%user, ip = %client.ip(), bound = binding.is_some(), "registered");
        Ok(ActionReply::Registered(user))
    }

    async fn make_account(
        &self,
        client: &ClientState,
        user: &UserName,
        password: &Password,
        key: Option<IdempotencyKey>,
    ) -> Result<(), RequestError> {
        let salt = HashSalt::of_request(key, user);
        let password_hash = self.passwords.hash(password, salt, client.from().into()).await?;
        let account = Account { user: user.clone(), password_hash, binding: client.certificate() };
        let lapses = SystemTime::now() + UNUSED_ACCOUNT_LIFETIME;
        self.accounts.create(client.from().into(), account, Some(lapses)).await?;
        self.note_unused(user.clone());
        // Other trackers hear of it through the log, and this one again, without harm.
        Ok(())
    }

    /// Returns whether a request with this key made exactly this account.
    async fn is_repeated_registration(
        &self,
        client: &ClientState,
        user: &UserName,
        password: &Password,
        key: Option<IdempotencyKey>,
    ) -> Result<bool, RequestError> {
        // Without a key each attempt has a random salt, so that nothing shows a repetition.
        if key.is_none() {
            return Ok(false);
        }
        let account = self.accounts.find(client.from().into(), user).await?;
        let Some(account) = account.filter(|account| account.binding == client.certificate()) else { return Ok(false) };
        self.is_hash_of_request(client, &account, password, key).await
    }

    /// Returns whether the account's hash is that which a request with this key made of this password.
    pub(super) async fn is_hash_of_request(
        &self,
        client: &ClientState,
        account: &Account,
        password: &Password,
        key: Option<IdempotencyKey>,
    ) -> Result<bool, RequestError> {
        let salt = HashSalt::of_request(key, &account.user);
        // Most aren't, and spare the work.
        if !salt.is_that_of(&account.password_hash) {
            return Ok(false);
        }
        Ok(self.passwords.hash(password, salt, client.from().into()).await? == account.password_hash)
    }

    /// Refuses a name that is taken, and suggests a free one.
    async fn ensure_name_free(&self, client: &ClientState, name: &UserName) -> Result<(), RequestError> {
        let requester = client.from().into();
        let Err(taken) = self.accounts.ensure_name_free(requester, name).await else { return Ok(()) };
        let mut refused = RequestError::from(taken);
        if let RefusalReason::NameTaken { free, .. } | RefusalReason::NameLike { free, .. } = &mut refused.reason {
            *free = self.accounts.find_free_name(requester, name).await?.map(UserName::from);
        }
        Err(refused)
    }

    /// Replaces the suggestion by a name that is free.
    pub(super) async fn with_free_alternative(&self, client: &ClientState, name: UnusableName) -> UnusableName {
        let Some(like) = name.suggestion().cloned() else { return name };
        match self.accounts.find_free_name(client.from().into(), &like).await {
            Ok(free) => name.with_suggestion(free),
            // The refusal is right all the same; its suggestion may be taken.
            Err(_) => name,
        }
    }
}
