//! The folder of an account that is being taken in. It gets its name only after the tracker has bound the account to the key
//! in it; otherwise it is removed.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use shared::UserName;

use super::AccountFolder;
use crate::engine::Error;
use crate::profile::{Access, Profile, ProfileError};

/// The beginning of the names of these folders; no account's folder begins so.
const PREFIX: &str = "~new-";

/// A folder without a name. Dropped without [`NewAccountFolder::finish`], it is removed.
#[derive(Debug)]
pub(super) struct NewAccountFolder {
    /// `None` after it has got its name.
    path: Option<PathBuf>,
}

impl NewAccountFolder {
    /// Makes an empty folder below the door's.
    pub(super) fn create(door: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(door)?;
        let path = door.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path: Some(path) })
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Gives the folder the account's name. An earlier account's folder of that name is put aside. If that fails, the folder
    /// stays for the next start: the account is bound to the key in it.
    pub(super) fn finish(mut self, door: &Path, user: &UserName) -> io::Result<PathBuf> {
        // Taken before anything can fail: the folder of a bound account must not be removed by the drop.
        let path = self.path.take().unwrap_or_default();
        let folder = AccountFolder::of(user);
        let target = folder.below(door);
        // Not followed: a link that leads nowhere is in the way as well.
        if fs::symlink_metadata(&target).is_ok() {
            put_aside(door, &folder)?;
        }
        fs::rename(path, &target)?;
        Ok(target)
    }
}

impl Drop for NewAccountFolder {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(why) = fs::remove_dir_all(path)
        {
            tracing::warn!("the folder of an account that was not taken in stays: {why}");
        }
    }
}

/// Renames the folder of an account whose name is somebody else's by now.
fn put_aside(door: &Path, folder: &AccountFolder) -> io::Result<()> {
    let mut free = (1..=u32::MAX).map(|number| folder.aside(door, number));
    let aside = free.find(|path| fs::symlink_metadata(path).is_err());
    let aside = aside.ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?;
    fs::rename(folder.below(door), aside)
}

/// Finishes what an earlier process left: an account that the tracker has bound gets its folder, the rest is removed. Returns
/// the number of accounts.
pub(super) fn sweep(door: &Path) -> Result<usize, Error> {
    let entries = match fs::read_dir(door) {
        Ok(entries) => entries,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(ProfileError::Io { path: door.to_owned(), source }.into()),
    };
    let mut accounts = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) {
            accounts += usize::from(finish_left_over(door, entry.path()));
        } else if !name.starts_with('~') {
            accounts += 1;
        }
    }
    Ok(accounts)
}

/// Returns whether there is an account in the folder that was left over; it then has its name.
fn finish_left_over(door: &Path, path: PathBuf) -> bool {
    let opened = Profile::open_existing(&path, Access::Look);
    let account = opened.ok().flatten().and_then(|profile| profile.account().ok().flatten());
    // Its drop removes the folder where no account came of it.
    let left_over = NewAccountFolder { path: Some(path) };
    // An account that was taken in anew since has another key by now.
    let Some(account) = account.filter(|account| !AccountFolder::of(&account.user).below(door).exists()) else {
        return false;
    };
    let finished = left_over.finish(door, &account.user);
    if let Err(why) = &finished {
        tracing::warn!("an account was bound and its folder can't be named: {why}");
    }
    finished.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ProfileAccount;

    fn entries(door: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(door).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn account(folder: &Path, user: &str) {
        let account = ProfileAccount { user: user.parse().unwrap(), tracker: "10.0.0.1:8000".into() };
        Profile::open(folder).unwrap().set_account(&account).unwrap();
    }

    #[test]
    fn what_was_not_taken_in_goes_and_an_earlier_account_is_put_aside() {
        let home = tempfile::tempdir().unwrap();
        let (door, bob) = (home.path().join("door"), "bob".parse().unwrap());
        drop(NewAccountFolder::create(&door).unwrap());
        assert_eq!(entries(&door), [""; 0]);
        for _ in 0..3 {
            let path = NewAccountFolder::create(&door).unwrap().finish(&door, &bob).unwrap();
            assert_eq!(path, door.join("bob"));
        }
        assert_eq!(entries(&door), ["bob", "~bob-1", "~bob-2"]);
    }

    #[test]
    fn the_next_start_finishes_what_was_bound_and_removes_the_rest() {
        let home = tempfile::tempdir().unwrap();
        let door = home.path().join("door");
        assert_eq!(sweep(&door).unwrap(), 0);
        for (name, user) in [("~new-1", Some("Ana")), ("~new-2", None), ("~new-3", Some("bob")), ("bob", Some("bob"))] {
            fs::create_dir_all(door.join(name)).unwrap();
            fs::set_permissions(door.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            user.into_iter().for_each(|user| account(&door.join(name), user));
        }
        assert_eq!(sweep(&door).unwrap(), 2);
        assert_eq!(entries(&door), ["=ana", "bob"]);
    }
}
