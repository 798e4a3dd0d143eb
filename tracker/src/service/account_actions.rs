//! The actions on accounts that are there: LOGIN, RESUME, PASSWD and FORWARDED.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use shared::tracker::{
    AnnouncedPresence, Credentials, DoorProof, ForwardedPerson, IdempotencyKey, LoginReply, OtherInstance, Password,
    SessionToken,
};
use shared::{Fingerprint, UserName};
use tracing::{info, warn};

use super::client_state::{ClientState, TransportSecurity};
use super::{ActionReply, ActionResult, RefusalReason, RequestError, TrackerService, busy, changed_meanwhile};
use crate::passwords::{HashSalt, PasswordCheck};
use crate::rate_limits::ClientOrigin;
use crate::registry::{
    AppliedChange, AuthenticatedLogin, FormerKey, LocalDetails, LoginTime, PresenceRegistry, SessionId,
    dialable_addresses,
};
use crate::store::Account;

/// Advice to clients after too many users were present from one origin.
const PRESENCE_RETRY_MS: u64 = 60_000;

/// The effect of a login with the right password on the account's binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BindingDecision {
    /// The binding stays as it is.
    Keep(Option<Fingerprint>),
    /// The certificate shown becomes the binding.
    Replace { old: Option<Fingerprint>, new: Fingerprint },
}

impl TrackerService {
    pub(super) async fn login(
        &self,
        client: &mut ClientState,
        credentials: Credentials,
        presence: &AnnouncedPresence,
        rebind: bool,
    ) -> ActionResult {
        // Taken before the password check, which waits for its turn: a revocation meanwhile must count.
        let mut began = self.with_registry(|registry, _| registry.newest_session());
        let user = self.authenticate(client, credentials).await?.user;
        let (bound, owner) = self.with_registry(|registry, _| {
            // The password may have been changed or reset after it was checked.
            if registry.was_revoked_since(&user, began) {
                return Err(changed_meanwhile());
            }
            let owner = client.certificate().and_then(|fingerprint| registry.owner(&fingerprint).cloned());
            Ok((registry.binding(&user), owner))
        })?;
        let binding = match decide_binding(&user, client.transport(), bound, owner.as_ref(), rebind)? {
            BindingDecision::Keep(binding) => binding,
            BindingDecision::Replace { old, new } => {
                let since = SystemTime::now();
                let former = old.map(|fingerprint| FormerKey { fingerprint, user: user.clone(), since });
                // It compares with `old`: another login may have changed the binding meanwhile.
                let requester = client.from().into();
                let storing = self.accounts.bind(requester, &user, former.clone(), new);
                self.commit_room_changes(requester, storing).await?;
                self.apply_stored(|registry| {
                    registry.bind(&user, new);
                    former.into_iter().for_each(|former| registry.record_former_key(former));
                })
                .await;
                // The binding itself may have revoked sessions, but not this one that is about to begin.
                began = self.with_registry(|registry, _| registry.newest_session());
                info!(%user, %new, first = old.is_none(), "bound to a certificate");
                Some(new)
            }
        };
        self.become_present(client, user, binding, presence, began).await
    }

    pub(super) async fn resume(&self, client: &mut ClientState, presence: &AnnouncedPresence) -> ActionResult {
        let (user, fingerprint) = self.certified_user(client).await?;
        // A login by key is a use as well, after which the account never lapses.
        self.record_use(client.from().into(), &user).await;
        let elsewhere = presence.instance.filter(|_| presence.yields).and_then(|instance| {
            let other = self.with_registry(|registry, now| registry.other_instance(&user, instance, now));
            other.map(|(ip, time)| OtherInstance { ip, for_s: time.as_secs() })
        });
        // Without a port the client only authenticates. With another instance present, one that yields does so, too.
        if presence.has_port() && elsewhere.is_none() {
            self.access_policy().limits.charge_change(&user, client.from(), Instant::now())?;
            let began = self.with_registry(|registry, _| registry.newest_session());
            return self.become_present(client, user, Some(fingerprint), presence, began).await;
        }
        let held = client.session_of(&user);
        let (token, made) = self.with_registry(|registry, _| {
            // A repeated RESUME on one connection gets the same session.
            if let Some((_, token)) = held.and_then(|session| registry.session(session)) {
                return Ok((token, None));
            }
            let token = new_token();
            let session = registry.attach(user.clone(), token, Some(fingerprint))?;
            Ok::<_, RequestError>((token, Some(session)))
        })?;
        if let Some(session) = made {
            client.add_session(user.clone(), session);
        }
        let ttl_s = self.with_registry(|registry, _| registry.lease(true)).as_secs();
        let (observed_ip, features) = (client.ip(), client.offered_features());
        // Only here: clients that become present do so often, and don't ask for it.
        let now_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| since.as_millis().try_into().ok());
        let version = Some(env!("CARGO_PKG_VERSION").into());
        let reply = LoginReply { user, token, ttl_s, observed_ip, features, elsewhere, now_ms, version };
        Ok(ActionReply::LoggedIn { reply, again: true })
    }

    /// Makes the connection that of the person whom the door names.
    pub(super) fn forward(
        &self,
        client: &mut ClientState,
        person: &ForwardedPerson,
        proof: Option<DoorProof>,
    ) -> ActionResult {
        let door = match proof {
            // A person whom a certificate's door named shows none, so a door behind a door is refused here.
            None => Some(required_certificate(client)?),
            Some(proof) => client.proved_door(person, &proof),
        };
        // Only on a fresh connection: earlier logins and subscriptions belong to the door itself.
        let is_fresh = !client.is_forwarded() && !client.has_logged_in() && !client.is_subscribed();
        let trusted = door.filter(|door| is_fresh && self.access_policy().trusted_doors.contains(door));
        client.forward(trusted.ok_or(RefusalReason::NotATrustedDoor)?, person, proof.is_some());
        Ok(ActionReply::Forwarded)
    }

    pub(super) async fn passwd(
        &self,
        client: &mut ClientState,
        credentials: Credentials,
        new_password: Password,
        key: Option<IdempotencyKey>,
    ) -> ActionResult {
        let Account { user, password_hash: old, .. } =
            match self.repeated_passwd(client, &credentials, &new_password, key).await? {
                Some(account) => account,
                None => self.authenticate(client, credentials).await?,
            };
        // After the password: only the owner learns that the account is bound.
        self.require_tls_if_bound(client, &user)?;
        // Charged like a guess: every connection then looks whether its sessions are revoked, which is expensive.
        self.access_policy().limits.charge_password(&user, client.from(), Instant::now())?;
        let salt = HashSalt::of_request(key, &user);
        let new = self.passwords.hash(&new_password, salt, client.from().into()).await?;
        // This connection's session continues: its user is the one who changed the password.
        let asked_from = client.session_of(&user);
        let token = asked_from.and_then(|session| self.with_registry(|registry, _| registry.token_hash(session)));
        self.accounts.change_password(client.from().into(), &user, (old, new), token).await?;
        // Of several trackers this one revokes the sessions when it reads the log, as all the others do.
        let is_told = self.catch_up().await?;
        let (kept, now) = self.with_registry(|registry, _| {
            let kept = if is_told {
                token.and_then(|token| registry.session_with(&token))
            } else {
                registry.revoke_other_sessions(&user, asked_from)
            };
            (kept, registry.newest_session())
        });
        client.replace_session(&user, kept, now);
        info!(%user, ip = %client.ip(), "changed the password");
        Ok(ActionReply::PasswordChanged)
    }

    /// Returns the account if a request with this key has changed its password already.
    async fn repeated_passwd(
        &self,
        client: &ClientState,
        credentials: &Credentials,
        new_password: &Password,
        key: Option<IdempotencyKey>,
    ) -> Result<Option<Account>, RequestError> {
        if key.is_none() {
            return Ok(None);
        }
        let account = self.accounts.find(client.from().into(), &credentials.user).await?;
        let salt = HashSalt::of_request(key, &credentials.user);
        let Some(account) = account.filter(|account| salt.is_that_of(&account.password_hash)) else { return Ok(None) };
        // Charged as a guess: it costs a hash, and tells whether the password is this one.
        self.access_policy().limits.charge_password(&account.user, client.from(), Instant::now())?;
        let is_repeated = self.is_hash_of_request(client, &account, new_password, key).await?;
        Ok(is_repeated.then_some(account))
    }

    /// Returns the account if the password is right. A wrong password and an unknown user get the same reply after the
    /// same time.
    pub(super) async fn authenticate(
        &self,
        client: &ClientState,
        credentials: Credentials,
    ) -> Result<Account, RequestError> {
        let Credentials { user, password } = credentials;
        let (ip, from, policy) = (client.ip(), client.from(), self.access_policy());
        policy.limits.charge_password(&user, from, Instant::now()).inspect_err(|_| {
            if self.log_throttle().try_admit(ip, "too many passwords") {
                warn!(%user, %ip, "too many passwords");
            }
        })?;
        let checked = self.check_password(&user, &password, from).await;
        match &checked {
            Ok(Some(_)) => {
                policy.limits.record_correct_password(&user, from);
                self.record_use(from.into(), &user).await;
            }
            Ok(None) => {}
            // A check that didn't happen (too many wait, a fault) is no guess.
            Err(_) => policy.limits.refund_guess(&user, from),
        }
        checked?.ok_or_else(|| {
            if self.log_throttle().try_admit(ip, "wrong user or password") {
                warn!(%user, %ip, "wrong user or password");
            }
            RefusalReason::WrongPassword.into()
        })
    }

    async fn check_password(
        &self,
        user: &UserName,
        password: &Password,
        from: ClientOrigin,
    ) -> Result<Option<Account>, RequestError> {
        // An unknown user is checked as well, against a hash that no password has: the time tells nothing.
        let account = self.accounts.find(from.into(), user).await?;
        let stored = account.as_ref().map(|account| account.password_hash.as_str());
        let check = self.passwords.check(password, stored, from.into()).await?;
        Ok(match (check, account) {
            (PasswordCheck::Correct, Some(account)) => Some(account),
            (PasswordCheck::CorrectRehashed(new), Some(account)) => Some(self.store_rehashed(from, account, new).await),
            (PasswordCheck::Wrong | PasswordCheck::Correct | PasswordCheck::CorrectRehashed(_), _) => None,
        })
    }

    /// Refuses plaintext connections to a bound account.
    pub(super) fn require_tls_if_bound(&self, client: &ClientState, user: &UserName) -> Result<(), RequestError> {
        let bound = self.with_registry(|registry, _| registry.binding(user)).is_some();
        if bound && !client.is_secure() { Err(tls_required(user)) } else { Ok(()) }
    }

    /// Returns the account that the connection's certificate is bound to.
    pub(super) async fn certified_user(&self, client: &ClientState) -> Result<(UserName, Fingerprint), RequestError> {
        let fingerprint = required_certificate(client)?;
        let mut owner = self.owner(Some(fingerprint));
        // It may have been bound at another tracker a moment ago.
        if owner.is_none() && self.catch_up().await.unwrap_or_default() {
            owner = self.owner(Some(fingerprint));
        }
        owner.map(|user| (user, fingerprint)).ok_or_else(|| {
            let former = self.with_registry(|registry, _| registry.former_key(&fingerprint).cloned());
            let moved = |FormerKey { user, since, .. }| {
                let moved_for_s = since.elapsed().unwrap_or_default().as_secs();
                RefusalReason::AccountMoved { user, moved_for_s }
            };
            former.map_or(RefusalReason::UnknownKey, moved).into()
        })
    }

    pub(super) fn owner(&self, certificate: Option<Fingerprint>) -> Option<UserName> {
        self.with_registry(|registry, _| registry.owner(&certificate?).cloned())
    }

    /// Stores a hash with the current parameters. If that fails, the old hash stays valid.
    async fn store_rehashed(&self, from: ClientOrigin, mut account: Account, new: String) -> Account {
        let old = account.password_hash.clone();
        match self.accounts.set_password(from.into(), &account.user, old, new.clone()).await {
            Ok(()) => account.password_hash = new,
            Err(why) => warn!(user = %account.user, %why, "the password's hash stays on its old parameters"),
        }
        account
    }

    /// Tells the registry of a stored change of an account. Where several trackers share the accounts, all of them hear
    /// of it through the log.
    pub(super) async fn apply_stored(&self, apply: impl FnOnce(&mut PresenceRegistry)) {
        // What is stored stays so: a tracker that can't read the log at the moment hears of it later.
        if matches!(self.catch_up().await, Ok(false)) {
            self.with_registry(|registry, _| apply(registry));
        }
    }

    async fn become_present(
        &self,
        client: &mut ClientState,
        user: UserName,
        binding: Option<Fingerprint>,
        presence: &AnnouncedPresence,
        began: SessionId,
    ) -> ActionResult {
        // Where several trackers share the users, a login that passes is judged again at its place in the log.
        if !self.with_registry(|registry, _| registry.can_become_present(&user, client.from())) {
            return Err(too_many_present());
        }
        let (ip, token) = (client.ip(), new_token());
        let arrival = AuthenticatedLogin {
            user: user.clone(),
            ip,
            from: client.from(),
            port: presence.port.map(Into::into),
            // Others will send packets there: a client must not direct them at third parties.
            addresses: dialable_addresses(&presence.addresses, ip, &self.access_policy().announceable),
            token: token.into(),
            binding,
            at: LoginTime::at(SystemTime::now()),
        };
        let details = LocalDetails { token: Some(token), began, ..LocalDetails::default() };
        let session = match self.replicate(arrival.as_change(presence.instance), details).await? {
            Some(AppliedChange::Session(session)) => session,
            // A login whose binding is no longer the account's makes no session.
            Some(AppliedChange::Files(_) | AppliedChange::Done) => return Err(changed_meanwhile()),
            None => self.with_registry(|registry, now| registry.login_instance(arrival, presence.instance, now))?,
        };
        let ttl_s = self.with_registry(|registry, _| registry.lease(binding.is_some())).as_secs();
        client.add_session(user.clone(), session);
        if self.log_throttle().try_admit(ip, "present") {
            info!(%user, %ip, bound = binding.is_some(), "present");
        }
        let features = client.offered_features();
        let (elsewhere, now_ms, version) = (None, None, None);
        let reply = LoginReply { user, token, ttl_s, observed_ip: ip, features, elsewhere, now_ms, version };
        Ok(ActionReply::LoggedIn { reply, again: false })
    }
}

pub(super) fn too_many_present() -> RequestError {
    busy(RefusalReason::TooManyPresent, PRESENCE_RETRY_MS)
}

fn required_certificate(client: &ClientState) -> Result<Fingerprint, RequestError> {
    match client.transport() {
        TransportSecurity::Plain => Err(RefusalReason::NeedsTls.into()),
        TransportSecurity::Tls => Err(RefusalReason::NeedsCertificate.into()),
        TransportSecurity::Certified(fingerprint) => Ok(fingerprint),
    }
}

/// Decides what a login with the right password does about the binding.
fn decide_binding(
    user: &UserName,
    transport: TransportSecurity,
    bound: Option<Fingerprint>,
    owner_of_shown: Option<&UserName>,
    rebind: bool,
) -> Result<BindingDecision, RequestError> {
    match (bound, transport) {
        (None, TransportSecurity::Plain | TransportSecurity::Tls) => Ok(BindingDecision::Keep(None)),
        (Some(_), TransportSecurity::Plain) => Err(tls_required(user)),
        (Some(_), TransportSecurity::Tls) => Err(RefusalReason::KeyRequired(user.clone()).into()),
        (Some(bound), TransportSecurity::Certified(shown)) if shown == bound => Ok(BindingDecision::Keep(Some(bound))),
        (Some(_), TransportSecurity::Certified(_)) if !rebind => {
            Err(RefusalReason::BoundToOtherKey(user.clone()).into())
        }
        // An account without a binding is bound by its first login with a certificate.
        (old, TransportSecurity::Certified(new)) => match owner_of_shown {
            Some(owner) => Err(key_of_other_account(owner)),
            None => Ok(BindingDecision::Replace { old, new }),
        },
    }
}

fn new_token() -> SessionToken {
    SessionToken::from_bytes(rand::random())
}

pub(super) fn tls_required(user: &UserName) -> RequestError {
    RefusalReason::TlsRequired(user.clone()).into()
}

pub(super) fn key_of_other_account(owner: &UserName) -> RequestError {
    RefusalReason::KeyOfOtherAccount(owner.clone()).into()
}

#[cfg(test)]
mod tests {
    use shared::tracker::TrackerErrorCode;

    use super::*;

    fn key(n: u8) -> Fingerprint {
        Fingerprint::from_bytes([n; 32])
    }

    #[test]
    fn which_login_binds() {
        let (alice, bob): (UserName, UserName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let decide = |transport, bound, owner, rebind| {
            decide_binding(&bob, transport, bound, owner, rebind).map_err(|refused| refused.reason.code())
        };
        let certified = TransportSecurity::Certified(key(1));
        let first = Ok(BindingDecision::Replace { old: None, new: key(1) });
        let (mine, other) = (Some(key(1)), Some(key(2)));
        for rebind in [false, true] {
            assert_eq!(decide(TransportSecurity::Plain, None, None, rebind), Ok(BindingDecision::Keep(None)));
            assert_eq!(decide(TransportSecurity::Tls, None, None, rebind), Ok(BindingDecision::Keep(None)));
            assert_eq!(decide(certified, None, None, rebind), first);
            assert_eq!(decide(certified, None, Some(&alice), rebind), Err(TrackerErrorCode::KeyMismatch));
            assert_eq!(decide(TransportSecurity::Plain, mine, None, rebind), Err(TrackerErrorCode::TlsRequired));
            assert_eq!(decide(TransportSecurity::Tls, mine, None, rebind), Err(TrackerErrorCode::KeyMismatch));
            assert_eq!(decide(certified, mine, Some(&bob), rebind), Ok(BindingDecision::Keep(mine)));
            assert_eq!(decide(certified, other, Some(&alice), rebind), Err(TrackerErrorCode::KeyMismatch));
        }
        assert_eq!(decide(certified, other, None, false), Err(TrackerErrorCode::KeyMismatch));
        assert_eq!(decide(certified, other, None, true), Ok(BindingDecision::Replace { old: other, new: key(1) }));
    }
}
