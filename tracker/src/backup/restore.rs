//! Restoring a backup into a data folder.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use certs::{Identity, IdentityError};
use localization::tr;
use shared::Fingerprint;
use shared::safe_text::safe_path;

use super::backup_archive::{ArchiveError, unpack};
use super::{ACCOUNT_DATABASE, IDENTITY_FOLDER, KEY_FILE, PRESENCE_DATABASE, remove_leftovers, vacuum_into};
use crate::store::sqlite_file::{self, FILE_SUFFIXES, TOO_MANY_OPEN, with_suffix};
use crate::store::{AccountDatabaseError, PresenceStore, SqliteAccountStore};

/// The folder in which a backup is unpacked and checked.
pub(super) const DRAFT_FOLDER: &str = "restore.tmp";
/// The same folder when the backup is complete and checked.
const READY_FOLDER: &str = "restore.ready";
/// The previous files, within [`READY_FOLDER`] until all of them are there.
const PREVIOUS_FOLDER: &str = "old";
/// The prefix of the folder that keeps the previous files; a number follows.
const PREVIOUS_FOLDER_PREFIX: &str = "before-restore-";
/// The first bytes of every SQLite database.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The suffixes of the files without which a database lacks its last changes.
const LOG_SUFFIXES: [&str; 2] = ["-journal", "-wal"];

/// The result of a restoration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// The number of accounts.
    pub accounts: usize,
    /// The tracker's key; `None` when the backup had none and the folder's own stays.
    pub fingerprint: Option<Fingerprint>,
    /// The folder with the previous files, if there were any.
    pub previous_folder: Option<PathBuf>,
}

/// The reason why nothing was restored; then the folder is unchanged.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum RestoreError {
    #[error("{}", tr!("{path} can't be restored: {why}", path = safe_path(.path), why))]
    Archive { path: PathBuf, why: ArchiveError },
    #[error("{}", tr!("{path} can't be restored: {why}", path = safe_path(.path), why))]
    Accounts { path: PathBuf, why: String },
    #[error("{}", tr!("{path} can't be restored: its key can't be used ({why})", path = safe_path(.path), why))]
    Identity { path: PathBuf, why: IdentityError },
    #[error("{}", tr!("can't restore into {path}: {why}", path = safe_path(.path), why))]
    Folder { path: PathBuf, why: io::Error },
}

/// Replaces the files of the data folder, which must be locked, by those of the backup: all or nothing. A plain copy of
/// the account database is accepted as well; then the key stays. Fails with [`RestoreError`] when the backup is damaged
/// or the folder can't be written.
pub fn restore(data_folder: &Path, backup: &Path) -> Result<RestoreReport, RestoreError> {
    let failed = |why| RestoreError::Folder { path: data_folder.to_owned(), why };
    // An earlier restoration that got this far must not mix with this one.
    finish_interrupted(data_folder).map_err(failed)?;
    remove_leftovers(data_folder).map_err(failed)?;
    let draft = data_folder.join(DRAFT_FOLDER);
    let checked = unpack_backup(&draft, backup).and_then(|()| check_draft(&draft, backup));
    let (accounts, fingerprint) = checked.inspect_err(|_| drop(fs::remove_dir_all(&draft)))?;
    let put_in_place = || {
        // Root may restore; the tracker's own user must be able to read the files.
        let owner = data_folder.metadata()?;
        chown_recursively(&draft, &owner)?;
        // The files are synced already, their names are not.
        if draft.join(IDENTITY_FOLDER).exists() {
            sync(&draft.join(IDENTITY_FOLDER))?;
        }
        sync(&draft)?;
        // This rename commits the restoration: everything before can be discarded, everything after can be repeated.
        fs::rename(&draft, data_folder.join(READY_FOLDER))?;
        sync(data_folder)?;
        finish_interrupted(data_folder)
    };
    let before = put_in_place().map_err(failed)?;
    Ok(RestoreReport { accounts, fingerprint, previous_folder: before })
}

/// Finishes a restoration that came as far as `restore.ready`. To be called with the folder locked and before anything
/// in it is opened. Returns the folder with the previous files, if there were any. Fails with the system's error;
/// another call continues.
pub fn finish_interrupted(data_folder: &Path) -> io::Result<Option<PathBuf>> {
    let ready = data_folder.join(READY_FOLDER);
    if !ready.exists() {
        return Ok(None);
    }
    let old = ready.join(PREVIOUS_FOLDER);
    create_private_folder(&old)?;
    for (name, endings) in
        [(ACCOUNT_DATABASE, &FILE_SUFFIXES[..]), (PRESENCE_DATABASE, &FILE_SUFFIXES[..]), (IDENTITY_FOLDER, &[""][..])]
    {
        let new = ready.join(name);
        // Already in its place: an earlier call was interrupted after this part.
        if !new.exists() {
            continue;
        }
        for ending in endings {
            move_if_there(&with_suffix(&data_folder.join(name), ending), &with_suffix(&old.join(name), ending))?;
        }
        fs::rename(new, data_folder.join(name))?;
    }
    for name in [ACCOUNT_DATABASE, PRESENCE_DATABASE] {
        // The draft's databases are closed; without a write-ahead log SQLite keeps their journals as empty files.
        remove_if_there(&with_suffix(&ready.join(name), "-journal"))?;
    }
    // The new files are durable before `restore.ready` disappears.
    sync(&old)?;
    sync(data_folder)?;
    let before = if old.read_dir()?.next().is_none() {
        fs::remove_dir(&old)?;
        None
    } else {
        chown_recursively(&old, &data_folder.metadata()?)?;
        // The lowest free number: earlier restorations keep their folders.
        let free =
            (1..).map(|n: u64| data_folder.join(format!("{PREVIOUS_FOLDER_PREFIX}{n}"))).find(|path| !path.exists());
        let before = free.ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(&old, &before)?;
        Some(before)
    };
    fs::remove_dir(&ready)?;
    sync(data_folder)?;
    Ok(before)
}

/// Unpacks into a draft with the layout of a data folder.
fn unpack_backup(draft: &Path, backup: &Path) -> Result<(), RestoreError> {
    let unpack_all = || {
        let mut file = File::open(backup)?;
        create_private_folder(draft)?;
        create_private_folder(&draft.join(IDENTITY_FOLDER))?;
        let is_database = has_sqlite_magic(&mut file)?;
        if is_database {
            copy_plain_database(backup, &mut file, &draft.join(ACCOUNT_DATABASE))?;
        } else {
            let place = |name: &str| match name {
                ACCOUNT_DATABASE | PRESENCE_DATABASE => Some(draft.join(name)),
                KEY_FILE => Some(draft.join(IDENTITY_FOLDER).join(name)),
                _ => None,
            };
            let parts = unpack(file, place)?;
            if !parts.iter().any(|part| part == ACCOUNT_DATABASE) {
                return Err(ArchiveError::Damaged("it has no accounts".to_owned()));
            }
        }
        if !draft.join(PRESENCE_DATABASE).exists() {
            // Without presences, as those in the folder belong to other accounts.
            PresenceStore::open(&draft.join(PRESENCE_DATABASE)).map_err(io::Error::other)?;
        }
        make_file_private(&draft.join(ACCOUNT_DATABASE))?;
        make_file_private(&draft.join(PRESENCE_DATABASE))?;
        match make_file_private(&draft.join(IDENTITY_FOLDER).join(KEY_FILE)) {
            // An empty folder would take the place of the key that is to stay.
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(fs::remove_dir(draft.join(IDENTITY_FOLDER))?),
            other => Ok(other?),
        }
    };
    unpack_all().map_err(|why: ArchiveError| RestoreError::Archive { path: backup.to_owned(), why })
}

/// Opens the draft's accounts and key: a defect shows now instead of at the tracker's start. Returns their number and
/// the key's fingerprint.
fn check_draft(draft: &Path, backup: &Path) -> Result<(usize, Option<Fingerprint>), RestoreError> {
    let path = || backup.to_owned();
    let accounts = SqliteAccountStore::check_backup(&draft.join(ACCOUNT_DATABASE)).map_err(|why| {
        let why = match why {
            AccountDatabaseError::Damaged { why, .. } => format!("its accounts are damaged: {why}"),
            AccountDatabaseError::TooNew { found, known, .. } => {
                format!("a newer tracker made it (schema {found}, this one knows {known}): use that one")
            }
            AccountDatabaseError::Unusable { why, .. } => format!("its accounts can't be read: {why}"),
            AccountDatabaseError::TooManyOpen { .. } => format!("its accounts can't be read: {TOO_MANY_OPEN}"),
        };
        RestoreError::Accounts { path: path(), why }
    })?;
    let identity =
        Identity::load(&draft.join(IDENTITY_FOLDER)).map_err(|why| RestoreError::Identity { path: path(), why })?;
    Ok((accounts, identity.map(|identity| identity.fingerprint())))
}

/// Copies a database that is no archive, with what its log or journal holds.
fn copy_plain_database(path: &Path, file: &mut File, to: &Path) -> io::Result<()> {
    // SQLite follows links before it looks for the log.
    let path = fs::canonicalize(path)?;
    let has = |suffix: &&str| with_suffix(&path, suffix).metadata().is_ok_and(|metadata| metadata.len() > 0);
    if LOG_SUFFIXES.iter().any(has) {
        let db = sqlite_file::connect(&path).map_err(io::Error::other)?;
        return vacuum_into(&db, to).map_err(io::Error::other);
    }
    io::copy(file, &mut File::create_new(to)?)?;
    Ok(())
}

fn has_sqlite_magic(file: &mut File) -> io::Result<bool> {
    let mut begin = Vec::new();
    // A shorter file is no database, which is no error of reading.
    file.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut begin)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(begin == SQLITE_MAGIC)
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn make_file_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    File::open(path)?.sync_all()
}

/// Gives a folder and all its contents to `owner`, where necessary.
fn chown_recursively(path: &Path, owner: &fs::Metadata) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    // A link may lead out of the folder.
    if metadata.is_symlink() {
        return Ok(());
    }
    if (metadata.uid(), metadata.gid()) != (owner.uid(), owner.gid()) && rustix::process::geteuid().is_root() {
        chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    if metadata.is_dir() {
        for entry in path.read_dir()? {
            chown_recursively(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
