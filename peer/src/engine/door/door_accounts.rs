//! The accounts of a door: opened by password, taken in, made.

use std::fs::{DirBuilder, File, TryLockError};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use certs::Identity;
use localization::tr;
use shared::safe_text::safe_path;
use shared::tracker::Password;
use shared::{Fingerprint, Ipv6Network, NewUserName, UserName};

use super::account_status::{AccountStatus, ResidentKey, account_status, resident_key};
use super::account_turns::AccountTurns;
use super::download_folders::sweep_downloads;
use super::new_account_folder::{NewAccountFolder, sweep};
use super::{AccountFolder, DoorRefusal};
use crate::engine::door_pass::{DoorPass, PersonPass};
use crate::engine::node_pool::NodePool;
use crate::engine::tracker_key::TrackerKeyPolicy;
use crate::engine::{Error, LocalUser, NodeHandlers, NoticeHandler, run_blocking, tracker_account};
use crate::net::tracker::{KeyDemand, TrackerAddress, TrackerConnection};
use crate::profile::{Access, KnownTracker, Profile, ProfileError, TrackerKeyTrust};

/// Accounts that a door has.
pub const MAX_DOOR_ACCOUNTS: usize = 4096;
/// Held by the door that runs; no account's folder begins so.
const LOCK_FILE: &str = "~lock";

/// The door's tracker, whose key its operator confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorTracker {
    /// Its address.
    pub address: TrackerAddress,
    /// Its key.
    pub key: Fingerprint,
}

/// The step that the user agreed to after it was explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorConsent {
    /// An account without a key gets one here.
    Bind,
    /// An account with a key on another machine moves here.
    Move,
}

/// The accounts of a door. Cheap to clone.
#[derive(Clone)]
pub struct DoorAccounts {
    door: Arc<DoorFolder>,
    turns: AccountTurns,
}

struct DoorFolder {
    path: PathBuf,
    tracker: DoorTracker,
    handlers: NodeHandlers,
    notify: NoticeHandler,
    pass: DoorPass,
    node_pool: NodePool,
    /// Folders of accounts, those included that are being taken in.
    count: Arc<AtomicUsize>,
    /// One door a folder.
    _lock: File,
}

/// The profile of an account that is about to be bound.
struct PreparedAccount {
    // In this order: the database is closed before its folder is removed.
    profile: Profile,
    folder: NewAccountFolder,
    place: AccountPlace,
}

/// The place of one account more; free again when it is dropped.
struct AccountPlace(Arc<AtomicUsize>);

impl DoorAccounts {
    /// Returns the accounts in the door's folder, after an earlier process's unfinished work is done. Blocks. Fails with
    /// [`Error::Usage`] while another door runs on the folder, or if the folder can't be read.
    pub fn open_folder(
        path: &Path,
        tracker: DoorTracker,
        pass: DoorPass,
        handlers: NodeHandlers,
        notify: NoticeHandler,
    ) -> Result<Self, Error> {
        let lock = lock_folder(path)?;
        // As the profiles below it know their own place, which texts must not name.
        let path = path.canonicalize().map_err(ProfileError::io_at(path))?;
        let count = Arc::new(AtomicUsize::new(sweep(&path)?));
        Ok(Self {
            door: Arc::new(DoorFolder {
                path,
                tracker,
                handlers,
                notify,
                pass,
                node_pool: NodePool::start()?,
                count,
                _lock: lock,
            }),
            turns: AccountTurns::default(),
        })
    }

    /// Returns the tracker of all accounts.
    pub fn tracker(&self) -> &DoorTracker {
        &self.door.tracker
    }

    /// Returns the folder of all accounts, without links in its path.
    pub fn folder(&self) -> &Path {
        &self.door.path
    }

    /// Opens the account after the tracker has checked the password. Fails with a [`DoorRefusal`]; nothing is changed then.
    pub async fn open(
        &self,
        user: &UserName,
        password: Password,
        consent: Option<DoorConsent>,
        browser: IpAddr,
    ) -> Result<LocalUser, DoorRefusal> {
        let pass = &self.browser_pass(browser)?;
        // Without the turn: whoever guesses at an account must not keep its owner waiting.
        let resident = self.resident(user).await?;
        let standing = match &resident {
            Some(me) => {
                let standing = resident_key(me, password.clone(), pass).await;
                Some(standing.map_err(|why| DoorRefusal::of_login(why, user))?)
            }
            None => None,
        };
        match (resident, standing, consent) {
            (Some(me), Some(ResidentKey::Current), _) => Ok(me),
            (_, _, None) => {
                let status = account_status(&self.door.tracker, user, password, pass).await;
                Err(match status.map_err(|why| DoorRefusal::of_login(why, user))? {
                    AccountStatus::Bound => DoorRefusal::MoveNeeded { user: user.clone() },
                    AccountStatus::Unbound => DoorRefusal::BindNeeded { user: user.clone() },
                })
            }
            // It comes back to its own history: the key that the tracker remembers as its former one proves whose it is.
            (Some(me), Some(ResidentKey::Moved), Some(consent)) => self.take_back(me, password, consent, pass).await,
            // A key that the tracker doesn't know proves nothing. The name may be another person's by now.
            (_, _, Some(consent)) => self.take_in(user, password, consent, pass).await,
        }
    }

    /// Makes an account. Fails with a [`DoorRefusal`], for instance for a name that is taken.
    pub async fn register(
        &self,
        user: NewUserName,
        password: Password,
        browser: IpAddr,
    ) -> Result<LocalUser, DoorRefusal> {
        let (user, pass) = (UserName::from(user), &self.browser_pass(browser)?);
        let _turn = self.turns.take(&user).await;
        let prepared = self.prepare().await?;
        let (profile, DoorFolder { tracker, notify, .. }) = (&prepared.profile, &*self.door);
        let registering =
            tracker_account::register(profile, &tracker.address, notify, user.clone(), password, Some(pass));
        let made = registering.await;
        made.map_err(|why| DoorRefusal::of_login(why, &user))?;
        self.finish(prepared, user).await
    }

    /// Removes the fetched files that are due. Blocks.
    pub fn sweep_downloads(&self) {
        let removed = sweep_downloads(&self.door.path, SystemTime::now());
        if removed > 0 {
            tracing::info!("{removed} fetched files were removed");
        }
    }

    /// Asks whether the tracker trusts this door. Fails if it can't be reached.
    pub async fn is_trusted(&self) -> Result<bool, Error> {
        let DoorTracker { address, key } = &self.door.tracker;
        let without_key: Option<&Identity> = None;
        let mut link = TrackerConnection::connect(address, without_key, KeyDemand::Confirmed(*key)).await?;
        self.browser_pass(Ipv4Addr::LOCALHOST.into())?.show(&mut link).await
    }

    /// Returns the pass of somebody at a browser who may have no account yet.
    fn browser_pass(&self, browser: IpAddr) -> Result<PersonPass, Error> {
        // Of an IPv6 address the network: one machine may have any number of them.
        let name = Ipv6Network::of(browser).map_or_else(|| browser.to_canonical().to_string(), |net| net.to_string());
        self.door.pass.of(&name).ok_or_else(|| Error::Internal("an address without a name".to_owned()))
    }

    /// Returns the account in the folder; `None` if there is none.
    async fn resident(&self, user: &UserName) -> Result<Option<LocalUser>, Error> {
        let (door, user) = (self.door.clone(), user.clone());
        run_blocking(move || {
            let Some(profile) = Profile::open_existing(&AccountFolder::of(&user).below(&door.path), Access::Use)?
            else {
                return Ok(None);
            };
            if profile.account()?.is_none_or(|account| account.user != user) {
                return Ok(None);
            }
            door.load(profile).map(Some)
        })
        .await
    }

    /// Binds an account that lived here to its key here again.
    async fn take_back(
        &self,
        me: LocalUser,
        password: Password,
        consent: DoorConsent,
        pass: &PersonPass,
    ) -> Result<LocalUser, DoorRefusal> {
        let _turn = self.turns.take(&me.user).await;
        self.bind(&me.profile, &me.user, password, consent, pass).await?;
        Ok(me)
    }

    /// Binds an account to a new key here.
    async fn take_in(
        &self,
        user: &UserName,
        password: Password,
        consent: DoorConsent,
        pass: &PersonPass,
    ) -> Result<LocalUser, DoorRefusal> {
        let _turn = self.turns.take(user).await;
        // Another browser of the same user may have had the turn before.
        if let Some(me) = self.resident(user).await?
            && let Ok(ResidentKey::Current) = resident_key(&me, password.clone(), pass).await
        {
            return Ok(me);
        }
        let prepared = self.prepare().await?;
        self.bind(&prepared.profile, user, password, consent, pass).await?;
        self.finish(prepared, user.clone()).await
    }

    async fn bind(
        &self,
        profile: &Profile,
        user: &UserName,
        password: Password,
        consent: DoorConsent,
        pass: &PersonPass,
    ) -> Result<(), DoorRefusal> {
        let DoorFolder { tracker, notify, .. } = &*self.door;
        let rebind = consent == DoorConsent::Move;
        let (address, user_name) = (&tracker.address, user.clone());
        let bound = tracker_account::login(profile, address, notify, user_name, password, rebind, Some(pass)).await;
        bound.map(drop).map_err(|why| DoorRefusal::of_login(why, user))
    }

    /// Makes the profile of an account that is about to be bound.
    async fn prepare(&self) -> Result<PreparedAccount, DoorRefusal> {
        let place = AccountPlace::take(&self.door.count).ok_or(DoorRefusal::Full)?;
        let door = self.door.clone();
        let made = run_blocking(move || {
            let folder = NewAccountFolder::create(&door.path)?;
            let profile = Profile::open(folder.path())?;
            // Nobody who uses this account sits at this machine's desktop.
            profile.set_desktop_notified(false)?;
            door.trust_tracker(&profile)?;
            Ok(PreparedAccount { profile, folder, place })
        });
        Ok(made.await?)
    }

    /// Gives the folder its name and opens the account in it.
    async fn finish(&self, prepared: PreparedAccount, user: UserName) -> Result<LocalUser, DoorRefusal> {
        let PreparedAccount { profile, folder, place } = prepared;
        let door = self.door.clone();
        // The database must be closed before its folder is renamed.
        drop(profile);
        let opened = run_blocking(move || {
            let path = folder.finish(&door.path, &user)?;
            // From here on the folder counts, even if the account in it can't be opened.
            place.keep();
            door.load(Profile::open(&path)?)
        });
        Ok(opened.await?)
    }
}

/// Makes the door's folder, and keeps other processes from it.
fn lock_folder(path: &Path) -> Result<File, Error> {
    let failed = ProfileError::io_at(path);
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(&failed)?;
    let file = File::options().create(true).append(true).mode(0o600).open(path.join(LOCK_FILE)).map_err(&failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Usage(tr!(
            "another `peer web --accounts` has its accounts in {path}: end that one, or use --home DIR for another door",
            path = safe_path(path)
        ))),
        Err(TryLockError::Error(why)) => Err(failed(why).into()),
    }
}

impl DoorFolder {
    fn load(&self, profile: Profile) -> Result<LocalUser, Error> {
        self.trust_tracker(&profile)?;
        let (tracker, notify) = (Some(self.tracker.address.clone()), self.notify.clone());
        let me = LocalUser::load(profile, tracker, TrackerKeyPolicy::Ask, notify, self.handlers)?;
        let (node_pool, door_pass) = (Some(self.node_pool.clone()), self.pass.of(me.user.as_str()));
        Ok(LocalUser { node_pool, door_pass, ..me })
    }

    /// Records the tracker's key as the operator confirmed it: nobody else can confirm it for the account.
    fn trust_tracker(&self, profile: &Profile) -> Result<(), Error> {
        let (address, fingerprint) = (self.tracker.address.to_string(), self.tracker.key);
        // Written only where it differs, as each opening of an account comes here.
        if profile.tracker_at(&address)? != Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Confirmed }) {
            profile.replace_tracker_key(&address, &fingerprint)?;
        }
        Ok(())
    }
}

impl AccountPlace {
    fn take(count: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |count| (count < MAX_DOOR_ACCOUNTS).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(count.clone()))
    }

    /// Leaves the place to an account that has its folder.
    fn keep(self) {
        // Its own count ends with `self`. One that was put aside counts until the next start.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for AccountPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for DoorAccounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, tracker): (&Path, _) = (&self.door.path, &self.door.tracker);
        f.debug_struct("DoorAccounts").field("path", &path).field("tracker", tracker).finish_non_exhaustive()
    }
}
