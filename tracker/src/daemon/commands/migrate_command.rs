//! The command `tracker migrate`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use localization::tr;
use shared::safe_text::safe_path;
use tokio::runtime::{Builder, Runtime};

use super::{CommandError, print_text};
use crate::backup::{ACCOUNT_DATABASE, IDENTITY_FOLDER, KEY_FILE};
use crate::daemon::data_folder::{DataFolder, DataFolderError};
use crate::folder_lock::private_file;
use crate::store::{CopyReport, PostgresAddress, PostgresStore, copy_to_postgres, copy_to_sqlite, sqlite_file};

/// The name of the file until it is whole.
const DRAFT: &str = "migrate.tmp";

/// A place where accounts and rooms are.
enum StorePlace {
    Folder(PathBuf),
    Database(Box<PostgresAddress>),
}

impl StorePlace {
    fn parse(text: &str) -> Result<Self, CommandError> {
        if PostgresAddress::is_meant_by(text) {
            return Ok(Self::Database(Box::new(PostgresAddress::parse(text)?)));
        }
        Ok(Self::Folder(PathBuf::from(text)))
    }
}

/// Copies all accounts and rooms from a data folder to a database, or back.
pub(super) fn migrate(from: &str, to: &str) -> Result<(), CommandError> {
    // Both are parsed before anything is opened.
    match (StorePlace::parse(from)?, StorePlace::parse(to)?) {
        (StorePlace::Folder(folder), StorePlace::Database(address)) => migrate_to_database(&folder, &address),
        (StorePlace::Database(address), StorePlace::Folder(folder)) => migrate_to_folder(&address, &folder),
        (StorePlace::Folder(_), StorePlace::Folder(_)) | (StorePlace::Database(_), StorePlace::Database(_)) => {
            Err(CommandError::SameKind)
        }
    }
}

fn migrate_to_database(folder: &Path, address: &PostgresAddress) -> Result<(), CommandError> {
    if !folder.is_dir() {
        return Err(CommandError::NoDataFolder(folder.to_owned()));
    }
    // No tracker may use the folder meanwhile. The database has to be empty, and is filled in one transaction.
    let locked = DataFolder::lock(folder)?;
    let accounts = locked.existing_accounts()?.ok_or_else(|| CommandError::NoAccounts(folder.to_owned()))?;
    let report = runtime()?.block_on(async {
        let database = connect(address).await?;
        Ok::<_, CommandError>(copy_to_postgres(&accounts, &database).await?)
    })?;
    let next = tr!(
        "start the tracker with this data folder, which keeps its key, and with --store; {path} is used no more",
        path = safe_path(folder.join(ACCOUNT_DATABASE))
    );
    print_text(&format!("{}\n{next}", copied(report)))
}

fn migrate_to_folder(address: &PostgresAddress, folder: &Path) -> Result<(), CommandError> {
    let _locked = DataFolder::lock(folder)?;
    let database = folder.join(ACCOUNT_DATABASE);
    if !sqlite_file::is_missing_or_empty(&database) {
        return Err(CommandError::StillPresent(database));
    }
    let unusable = |why| DataFolderError::Unusable { path: folder.to_owned(), why };
    let draft = folder.join(DRAFT);
    sqlite_file::remove(&draft);
    private_file(&draft).map_err(unusable)?;
    let copied_rows = runtime()?.block_on(async {
        let database = connect(address).await?;
        Ok::<_, CommandError>(copy_to_sqlite(&database, &draft).await?)
    });
    let report = copied_rows.inspect_err(|_| sqlite_file::remove(&draft))?;
    // Remains of an empty database would belong to the new one.
    sqlite_file::remove(&database);
    install(&draft, &database, folder).map_err(unusable)?;
    let mut text = copied(report);
    if !folder.join(IDENTITY_FOLDER).join(KEY_FILE).exists() {
        text.push('\n');
        text += &tr!(
            "the folder has no key: `tracker identity export FILE` writes that of a tracker, and `tracker identity import \
             FILE --data-dir {path}` puts it here",
            path = safe_path(folder)
        );
    }
    print_text(&text)
}

fn copied(report: CopyReport) -> String {
    let (accounts, rooms) = (report.accounts, report.rooms);
    let accounts = tr!("copied: {n} account" | "copied: {n} accounts" % accounts);
    let rooms = tr!("{n} room" | "{n} rooms" % rooms);
    format!("{accounts}, {rooms}")
}

async fn connect(address: &PostgresAddress) -> Result<PostgresStore, CommandError> {
    let unusable = |why| CommandError::Database { address: address.to_string(), why };
    PostgresStore::connect(address).await.map_err(unusable)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Gives a whole and synced file its name.
fn install(draft: &Path, database: &Path, folder: &Path) -> io::Result<()> {
    File::open(draft)?.sync_all()?;
    std::fs::rename(draft, database)?;
    // The folder is synced as well: without that a crash can lose the new name.
    File::open(folder)?.sync_all()
}
