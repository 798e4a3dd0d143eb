//! REGISTER, LOGIN, RESUME, PASSWD: accounts, and which certificate they belong to.

use std::time::{Instant, SystemTime};

use shared::account_name::NewUserName;
use shared::tracker::{Credentials, LoginReply, Password, PersonText, Presence, PresentElsewhere, UnusableName};
use shared::{Fingerprint, UserName};
use tracing::{info, warn};

use super::client::{Client, Transport};
use super::{Answer, Answered, Reason, Refused, Registration, Service, busy, changed_meanwhile, new_token};
use crate::accounts::{Account, AccountStore, StoreError, free_name};
use crate::limits::Origin;
use crate::passwords::Check;
use crate::registry::{Arrival, FormerKey, LoginTime, Registry, SessionId, useful_addresses};

/// When to try again after too many were present from one origin.
const CROWDED_RETRY_MS: u64 = 60_000;

/// What a login with the right password does about the binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binding {
    /// It stays as it is.
    Stays(Option<Fingerprint>),
    /// The certificate shown takes the place of the old one, or of none.
    Becomes { old: Option<Fingerprint>, new: Fingerprint },
}

impl Service {
    pub(super) async fn register(&self, client: &Client, credentials: Credentials) -> Answered {
        let Credentials { user, password } = credentials;
        let gate = self.gate();
        gate.limits.registration(client.from(), Instant::now())?;
        if gate.registration == Registration::Closed {
            return Err(Reason::RegistrationClosed.into());
        }
        let user: UserName = match NewUserName::try_from(user.clone()) {
            Ok(name) => name.into(),
            Err(why) => {
                let unusable = UnusableName::new(user.as_str(), why);
                return Err(Reason::UnusableName(self.offering_free(client, unusable).await).into());
            }
        };
        let binding = client.certificate();
        if let Some(owner) = self.owner(binding).filter(|owner| *owner != user) {
            return Err(foreign_certificate(&owner));
        }
        // Asked before the hash, which is dear; that the name is taken is answered anyway.
        let name = user.clone();
        self.demand_free(client, name).await?;
        gate.limits.account(client.from(), Instant::now())?;
        let made = self.make_account(client, &user, &password, binding).await;
        made.inspect_err(|_| gate.limits.no_account(client.from()))?;
        if let Some(fingerprint) = binding {
            self.with_registry(|registry, _| registry.bind(&user, fingerprint));
        }
        info!(%user, ip = %client.ip(), bound = binding.is_some(), "registered");
        Ok(Answer::Registered(user))
    }

    async fn make_account(
        &self,
        client: &Client,
        user: &UserName,
        password: &Password,
        binding: Option<Fingerprint>,
    ) -> Result<(), Refused> {
        let password_hash = self.passwords.hash(password, client.from().into()).await?;
        let account = Account { user: user.clone(), password_hash, binding };
        Ok(self.accounts.commit(client.from().into(), move |store| store.create(&account)).await?)
    }

    /// Refuses a name that isn't free, and names one that is.
    async fn demand_free(&self, client: &Client, name: UserName) -> Result<(), Refused> {
        let refused = self.accounts.run(client.from().into(), move |store| {
            let taken = match store.demand_free(&name) {
                Ok(()) => return Ok(None),
                Err(taken @ (StoreError::NameTaken(_) | StoreError::NameLike { .. })) => taken,
                Err(other) => return Err(other),
            };
            let free = free_name(store, &name)?.map(UserName::from);
            Ok(match taken {
                StoreError::NameTaken(user) => Some(Reason::NameTaken { user, free }),
                StoreError::NameLike { wanted, taken } => Some(Reason::NameLike { wanted, taken, free }),
                other => return Err(other),
            })
        });
        refused.await?.map_or(Ok(()), |reason| Err(reason.into()))
    }

    /// The same name, offering one that is free in place of one that may not be.
    pub(super) async fn offering_free(&self, client: &Client, name: UnusableName) -> UnusableName {
        let Some(like) = name.instead().cloned() else { return name };
        match self.accounts.run(client.from().into(), move |store| free_name(store, &like)).await {
            Ok(free) => name.offering(free),
            Err(_) => name,
        }
    }

    pub(super) async fn login(
        &self,
        client: &mut Client,
        credentials: Credentials,
        presence: &Presence,
        rebind: bool,
    ) -> Answered {
        let began = self.with_registry(|registry, _| registry.newest_session());
        let account = self.authenticate(client, credentials).await?;
        let user = account.user;
        let (bound, owner) = self.with_registry(|registry, _| {
            // A password that was right before the account's sessions were ended says nothing now.
            if registry.was_expelled_since(&user, began) {
                return Err(changed_meanwhile());
            }
            let owner = client.certificate().and_then(|fingerprint| registry.owner(&fingerprint).cloned());
            Ok((registry.binding(&user), owner))
        })?;
        let binding = match decide(&user, client.transport(), bound, owner.as_ref(), rebind)? {
            Binding::Stays(binding) => binding,
            Binding::Becomes { old, new } => {
                let name = user.clone();
                let since = SystemTime::now();
                let former = old.map(|fingerprint| FormerKey { fingerprint, user: user.clone(), since });
                let remembered = former.clone();
                let bound = move |store: &mut dyn AccountStore| {
                    store.bind(&name, old, new)?;
                    if let Some(Err(why)) = remembered.map(|former| store.remember_former(&former)) {
                        // The binding holds; only its former owner is told less after a restart.
                        warn!(%why, "a former key is not stored");
                    }
                    Ok(())
                };
                self.accounts.commit(client.from().into(), bound).await?;
                self.with_registry(|registry, _| {
                    registry.bind(&user, new);
                    former.into_iter().for_each(|former| registry.remember_former(former));
                });
                info!(%user, %new, first = old.is_none(), "bound to a certificate");
                Some(new)
            }
        };
        self.arrive(client, user, binding, presence)
    }

    pub(super) fn resume(&self, client: &mut Client, presence: &Presence) -> Answered {
        let (user, fingerprint) = self.certified(client)?;
        let elsewhere = presence.instance.filter(|_| presence.yields).and_then(|instance| {
            let other = self.with_registry(|registry, now| registry.elsewhere(&user, instance, now));
            other.map(|(ip, time)| PresentElsewhere { ip, for_s: time.as_secs() })
        });
        if presence.is_some() && elsewhere.is_none() {
            self.gate().limits.change(&user, client.from(), Instant::now())?;
            return self.arrive(client, user, Some(fingerprint), presence);
        }
        let held = client.sessions().iter().find(|(name, _)| *name == user).map(|(_, session)| *session);
        let (token, made) = self.with_registry(|registry, _| {
            if let Some((_, token)) = held.and_then(|session| registry.session(session)) {
                return Ok((token, None));
            }
            let token = new_token();
            let session = registry.attach(user.clone(), token, Some(fingerprint))?;
            Ok::<_, Refused>((token, Some(session)))
        })?;
        if let Some(session) = made {
            client.hold(user.clone(), session);
        }
        let ttl_s = self.with_registry(|registry, _| registry.lease(true)).as_secs();
        let (observed_ip, features) = (client.ip(), client.offered_features());
        let reply = LoginReply { user, token, ttl_s, observed_ip, features, elsewhere };
        Ok(Answer::LoggedIn { reply, again: true })
    }

    /// From now on the connection is that of the person whom the door calls so.
    pub(super) fn forwarded(&self, client: &mut Client, person: &PersonText) -> Answered {
        let door = match client.transport() {
            Transport::Plain => return Err(Reason::NeedsTls.into()),
            // Nobody comes through two doors: a person's connection shows no certificate.
            Transport::Tls => return Err(Reason::NeedsCertificate.into()),
            Transport::Certified(fingerprint) => fingerprint,
        };
        if !self.gate().doors.contains(&door) || client.has_logged_in() || client.is_subscribed() {
            return Err(Reason::NoDoor.into());
        }
        client.forward(door, person);
        Ok(Answer::Forwarded)
    }

    pub(super) async fn passwd(
        &self,
        client: &mut Client,
        credentials: Credentials,
        new_password: Password,
    ) -> Answered {
        let Account { user, password_hash: old, .. } = self.authenticate(client, credentials).await?;
        self.demand_tls_if_bound(client, &user)?;
        // As dear as a guess, though it is none: every connection will look whether its sessions are over.
        self.gate().limits.attempt(&user, client.from(), Instant::now())?;
        let new = self.passwords.hash(&new_password, client.from().into()).await?;
        let name = user.clone();
        self.accounts.commit(client.from().into(), move |store| store.set_password(&name, &old, &new)).await?;
        let asked_from = client.sessions().iter().find(|(name, _)| *name == user).map(|(_, session)| *session);
        let (kept, now) = self.with_registry(|registry, _| {
            let kept = registry.expel_others(&user, asked_from);
            (kept, registry.newest_session())
        });
        client.keep(&user, kept, now);
        info!(%user, ip = %client.ip(), "changed the password");
        Ok(Answer::PasswordChanged)
    }

    /// The account, if that is its password. Wrong password and unknown user get the same answer after the same time.
    pub(super) async fn authenticate(&self, client: &Client, credentials: Credentials) -> Result<Account, Refused> {
        let Credentials { user, password } = credentials;
        let (ip, from, gate) = (client.ip(), client.from(), self.gate());
        gate.limits.attempt(&user, from, Instant::now()).inspect_err(|_| {
            if self.lines().may_tell(ip, "too many passwords") {
                warn!(%user, %ip, "too many passwords");
            }
        })?;
        let checked = self.check(&user, &password, from).await;
        match checked {
            Ok(Some(_)) => gate.limits.was_right(&user, from),
            Ok(None) => {}
            Err(_) => gate.limits.forgive(&user, from),
        }
        checked?.ok_or_else(|| {
            if self.lines().may_tell(ip, "wrong user or password") {
                warn!(%user, %ip, "wrong user or password");
            }
            Reason::WrongPassword.into()
        })
    }

    async fn check(&self, user: &UserName, password: &Password, from: Origin) -> Result<Option<Account>, Refused> {
        let name = user.clone();
        let account = self.accounts.run(from.into(), move |store| store.find(&name)).await?;
        let stored = account.as_ref().map(|account| account.password_hash.as_str());
        let check = self.passwords.check(password, stored, from.into()).await?;
        Ok(match (check, account) {
            (Check::Right, Some(account)) => Some(account),
            (Check::RightRehashed(new), Some(account)) => Some(self.store_rehashed(from, account, new).await),
            (Check::Wrong | Check::Right | Check::RightRehashed(_), _) => None,
        })
    }

    /// A bound account is never reachable in plaintext.
    pub(super) fn demand_tls_if_bound(&self, client: &Client, user: &UserName) -> Result<(), Refused> {
        let bound = self.with_registry(|registry, _| registry.binding(user)).is_some();
        if bound && !client.is_secure() { Err(tls_required(user)) } else { Ok(()) }
    }

    /// The account that the connection's certificate is bound to.
    pub(super) fn certified(&self, client: &Client) -> Result<(UserName, Fingerprint), Refused> {
        let fingerprint = match client.transport() {
            Transport::Plain => return Err(Reason::NeedsTls.into()),
            Transport::Tls => return Err(Reason::NeedsCertificate.into()),
            Transport::Certified(fingerprint) => fingerprint,
        };
        let owner = self.owner(Some(fingerprint));
        owner.map(|user| (user, fingerprint)).ok_or_else(|| {
            let former = self.with_registry(|registry, _| registry.former_key(&fingerprint).cloned());
            let moved = |FormerKey { user, since, .. }| {
                let moved_for_s = since.elapsed().unwrap_or_default().as_secs();
                Reason::MovedAway { user, moved_for_s }
            };
            former.map_or(Reason::NoAccountOfKey, moved).into()
        })
    }

    fn owner(&self, certificate: Option<Fingerprint>) -> Option<UserName> {
        self.with_registry(|registry, _| registry.owner(&certificate?).cloned())
    }

    /// The new hash is an improvement, not a promise: if it can't be stored, the old one goes on being good.
    async fn store_rehashed(&self, from: Origin, mut account: Account, new: String) -> Account {
        let (name, old, hash) = (account.user.clone(), account.password_hash.clone(), new.clone());
        match self.accounts.commit(from.into(), move |store| store.set_password(&name, &old, &hash)).await {
            Ok(()) => account.password_hash = new,
            Err(why) => warn!(user = %account.user, %why, "the password's hash stays on its old parameters"),
        }
        account
    }

    fn arrive(
        &self,
        client: &mut Client,
        user: UserName,
        binding: Option<Fingerprint>,
        presence: &Presence,
    ) -> Answered {
        if !self.with_registry(|registry, _| registry.has_place_for(&user, client.from())) {
            return Err(busy(Reason::Crowded, CROWDED_RETRY_MS));
        }
        let (ip, token) = (client.ip(), new_token());
        let arrival = Arrival {
            user: user.clone(),
            ip,
            from: client.from(),
            port: presence.port.map(Into::into),
            addresses: useful_addresses(&presence.addresses, ip, &self.gate().announced),
            token,
            binding,
            at: LoginTime::at(SystemTime::now()),
        };
        let login = |registry: &mut Registry, now| -> Result<(SessionId, u64), Refused> {
            let session = registry.login_instance(arrival, presence.instance, now)?;
            Ok((session, registry.lease(binding.is_some()).as_secs()))
        };
        let (session, ttl_s) = self.with_registry(login)?;
        client.hold(user.clone(), session);
        if self.lines().may_tell(ip, "present") {
            info!(%user, %ip, bound = binding.is_some(), "present");
        }
        let features = client.offered_features();
        let reply = LoginReply { user, token, ttl_s, observed_ip: ip, features, elsewhere: None };
        Ok(Answer::LoggedIn { reply, again: false })
    }
}

/// What becomes of the binding when the password is right.
fn decide(
    user: &UserName,
    transport: Transport,
    bound: Option<Fingerprint>,
    owner_of_shown: Option<&UserName>,
    rebind: bool,
) -> Result<Binding, Refused> {
    match (bound, transport) {
        (None, Transport::Plain | Transport::Tls) => Ok(Binding::Stays(None)),
        (Some(_), Transport::Plain) => Err(tls_required(user)),
        (Some(_), Transport::Tls) => Err(Reason::TiedToKey(user.clone()).into()),
        (Some(bound), Transport::Certified(shown)) if shown == bound => Ok(Binding::Stays(Some(bound))),
        (Some(_), Transport::Certified(_)) if !rebind => Err(Reason::TiedToComputer(user.clone()).into()),
        (old, Transport::Certified(new)) => match owner_of_shown {
            Some(owner) => Err(foreign_certificate(owner)),
            None => Ok(Binding::Becomes { old, new }),
        },
    }
}

pub(super) fn tls_required(user: &UserName) -> Refused {
    Reason::TlsRequired(user.clone()).into()
}

fn foreign_certificate(owner: &UserName) -> Refused {
    Reason::KeyOf(owner.clone()).into()
}

#[cfg(test)]
mod tests {
    use shared::tracker::ErrorCode;

    use super::*;

    fn key(n: u8) -> Fingerprint {
        Fingerprint::from_bytes([n; 32])
    }

    #[test]
    fn which_login_binds() {
        let (alice, bob): (UserName, UserName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let decide = |transport, bound, owner, rebind| {
            decide(&bob, transport, bound, owner, rebind).map_err(|refused| refused.reason.code())
        };
        let certified = Transport::Certified(key(1));
        let first = Ok(Binding::Becomes { old: None, new: key(1) });
        let (mine, other) = (Some(key(1)), Some(key(2)));
        for rebind in [false, true] {
            assert_eq!(decide(Transport::Plain, None, None, rebind), Ok(Binding::Stays(None)));
            assert_eq!(decide(Transport::Tls, None, None, rebind), Ok(Binding::Stays(None)));
            assert_eq!(decide(certified, None, None, rebind), first);
            assert_eq!(decide(certified, None, Some(&alice), rebind), Err(ErrorCode::KeyMismatch));
            assert_eq!(decide(Transport::Plain, mine, None, rebind), Err(ErrorCode::TlsRequired));
            assert_eq!(decide(Transport::Tls, mine, None, rebind), Err(ErrorCode::KeyMismatch));
            assert_eq!(decide(certified, mine, Some(&bob), rebind), Ok(Binding::Stays(mine)));
            assert_eq!(decide(certified, other, Some(&alice), rebind), Err(ErrorCode::KeyMismatch));
        }
        assert_eq!(decide(certified, other, None, false), Err(ErrorCode::KeyMismatch));
        assert_eq!(decide(certified, other, None, true), Ok(Binding::Becomes { old: other, new: key(1) }));
    }
}
