//! The commands: most ask the running tracker and print its reply; `restore` and `new` work while none runs.

mod backup_command;
mod identity_command;
mod migrate_command;
mod new_command;
mod new_private_file;
mod room_command;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use certs::IdentityError;
use localization::tr;
use serde_json::Value;
use shared::Fingerprint;
use shared::limits::MAX_PASSWORD_BYTES;
use shared::safe_text::{safe_json, safe_path, safe_styled};

use super::args::{ExportKind, LostPart, TrackerCommand, UserCommand};
use super::data_folder::DataFolderError;
use super::settings::TrackerSettings;
use super::{listeners, ready_message};
use crate::admin::{self, AccountSummary, AdminError, TrackerStatus};
use crate::backup::RestoreError;
use crate::store::{AccountDatabaseError, PostgresAddressError, StoreConnectError, StoreCopyError};

/// Letters and digits that can't be mistaken for one another, 32 of them: five bits each.
const PASSWORD_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// The length of generated passwords: a hundred bits.
const GENERATED_PASSWORD_LENGTH: usize = 20;

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum CommandError {
    /// The running tracker can't be asked, or refused.
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("{}", tr!("there is no home folder to look for the tracker in: choose its folder with --data-dir"))]
    NoFolder,
    /// A file named on the command line can't be used.
    #[error("{}", tr!("can't use {path}: {why}", path = safe_path(.path), why))]
    File { path: PathBuf, why: io::Error },
    #[error("{}", tr!("{path} exists: move it away, or give another name", path = safe_path(.0)))]
    Exists(PathBuf),
    #[error("{}", tr!(
        "a tracker runs on the data folder {path}: stop it first (as a service: \
         systemctl stop vizinho-tracker.socket vizinho-tracker.service)",
        path = safe_path(.0)
    ))]
    Running(PathBuf),
    /// The data folder can't be used.
    #[error(transparent)]
    DataFolder(DataFolderError),
    #[error("{}", tr!("{path} is there: move it away first, if another is to take its place", path = safe_path(.0)))]
    StillPresent(PathBuf),
    #[error("{}", tr!("there is no folder {path}: name the tracker's with --data-dir DIR", path = safe_path(.0)))]
    NoDataFolder(PathBuf),
    /// The key can't be made or read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{}", tr!(
        "there is no key {path}: the tracker makes one at its first start; name its folder with --data-dir DIR",
        path = safe_path(.0)
    ))]
    NoKey(PathBuf),
    #[error("{}", tr!(
        "{file} is no tracker's key ({why}): write one with `tracker identity export FILE` where the key is",
        file,
        why
    ))]
    NotAKey { file: String, why: String },
    #[error("{}", tr!(
        "{path} is another key, with the fingerprint {other}, by which everybody who knows this tracker knows it: with \
         --replace it is put aside, and the one with the fingerprint {fingerprint} takes its place",
        path = safe_path(.path),
        other,
        fingerprint
    ))]
    OtherKeyThere { path: PathBuf, other: Fingerprint, fingerprint: Fingerprint },
    #[error("{}", tr!("a secret key is not for a terminal: name a file, or hand the output to another program"))]
    SecretOnTerminal,
    /// The account database can't be made or read.
    #[error(transparent)]
    Accounts(#[from] AccountDatabaseError),
    /// The backup was not restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("{}", tr!("the database {address} can't be used: {why}", address, why))]
    Database { address: String, why: StoreConnectError },
    /// The address of a database is wrong.
    #[error(transparent)]
    StoreAddress(#[from] PostgresAddressError),
    /// Accounts and rooms were not copied.
    #[error(transparent)]
    Copy(#[from] StoreCopyError),
    #[error("{}", tr!("one of --from and --to is a data folder, the other the address of a database (postgres://…)"))]
    SameKind,
    #[error("{}", tr!("there are no accounts in {path}: nothing is copied", path = safe_path(.0)))]
    NoAccounts(PathBuf),
    #[error("{}", tr!(
        "the accounts are in the database {address}: make an empty one (createdb) and, to restore a backup, restore it \
         into another folder without --store and copy that with `tracker migrate --from DIR --to ADDRESS`",
        address
    ))]
    NotInFolder { address: String },
    #[error("{}", tr!("{file} has no password: 1 to {limit} bytes on one line", file = .0, limit = MAX_PASSWORD_BYTES))]
    NoPassword(String),
    #[error("{}", tr!("the running tracker is of another version: restart it ({why})", why = .0))]
    OtherVersion(#[from] serde_json::Error),
    #[error("{}", tr!("can't write to standard output: {why}", why = .0))]
    Output(#[from] io::Error),
}

impl CommandError {
    /// True if standard output can't be written, except for a closed pipe.
    pub fn is_disk_failure(&self) -> bool {
        matches!(self, Self::Output(why) if why.kind() != io::ErrorKind::BrokenPipe)
    }
}

impl From<DataFolderError> for CommandError {
    fn from(error: DataFolderError) -> Self {
        match error {
            DataFolderError::InUse { path, .. } => Self::Running(path),
            other => Self::DataFolder(other),
        }
    }
}

/// Runs one command.
pub fn run_command(command: &TrackerCommand, settings: &TrackerSettings) -> Result<(), CommandError> {
    // The only command that needs no data folder.
    if matches!(command, TrackerCommand::Config) {
        return print_text(settings.to_toml().trim_end());
    }
    let folder = settings.args.data_folder().ok_or(CommandError::NoFolder)?;
    // The other commands ask the running tracker, which knows its store.
    if let TrackerCommand::Restore { .. } | TrackerCommand::New { what: LostPart::Accounts } = command
        && let Some(address) = settings.args.store()?
    {
        return Err(CommandError::NotInFolder { address: address.to_string() });
    }
    match command {
        TrackerCommand::Config => Ok(()),
        TrackerCommand::User { command } => run_user_command(&folder, command),
        TrackerCommand::Room { command } => room_command::run_room_command(&folder, command),
        TrackerCommand::Identity { command } => identity_command::run_identity_command(&folder, command.as_ref()),
        TrackerCommand::Migrate { from, to } => migrate_command::migrate(from, to),
        TrackerCommand::Status { json } => print_status(&folder, *json),
        TrackerCommand::Backup { file } => backup_command::write_backup(&folder, file),
        TrackerCommand::Restore { file } => backup_command::restore_backup(&folder, file),
        TrackerCommand::New { what: LostPart::Key } => new_command::create_key(&folder),
        TrackerCommand::New { what: LostPart::Accounts } => new_command::create_accounts(&folder),
        TrackerCommand::Export { what } => {
            let wanted = match what {
                ExportKind::Users => admin::AdminRequest::ExportUsers {},
                ExportKind::Peers => admin::AdminRequest::ExportPeers {},
            };
            print_json(&admin::send_request(&folder, &wanted)?)
        }
    }
}

fn run_user_command(folder: &Path, command: &UserCommand) -> Result<(), CommandError> {
    let ask = |command| admin::send_request(folder, &command);
    match command {
        UserCommand::List { json } => {
            let users = ask(admin::AdminRequest::Users {})?;
            if *json {
                print_json(&users)
            } else {
                print_accounts(&serde_json::from_value::<Vec<AccountSummary>>(users)?)
            }
        }
        UserCommand::Add { name, password_file } => {
            let password = read_or_generate_password(password_file.as_deref())?;
            ask(admin::AdminRequest::AddUser { user: name.clone(), password: password.text().to_owned() })?;
            // Not before: what the tracker refused is no invitation.
            password.print_if_generated()
        }
        UserCommand::Remove { name } => {
            ask(admin::AdminRequest::RemoveUser { user: name.clone() })?;
            Ok(())
        }
        UserCommand::ResetPassword { name, password_file } => {
            let password = read_or_generate_password(password_file.as_deref())?;
            ask(admin::AdminRequest::ResetPassword { user: name.clone(), password: password.text().to_owned() })?;
            password.print_if_generated()
        }
        UserCommand::Unbind { name } => {
            ask(admin::AdminRequest::Unbind { user: name.clone() })?;
            Ok(())
        }
    }
}

fn print_accounts(users: &[AccountSummary]) -> Result<(), CommandError> {
    let line = |user: &AccountSummary| {
        let presence = if user.online { "online" } else { "-" };
        format!("{:<32} {presence:<6} {}", user.user, user.fingerprint.as_deref().unwrap_or("-"))
    };
    if users.is_empty() {
        return Ok(());
    }
    print_text(&users.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn print_status(folder: &Path, json: bool) -> Result<(), CommandError> {
    let value = admin::send_request(folder, &admin::AdminRequest::Status {})?;
    if json {
        return print_json(&value);
    }
    let it: TrackerStatus = serde_json::from_value(value)?;
    // An older tracker sends only the first address.
    let addresses = if it.addresses.is_empty() { vec![it.address.clone()] } else { it.addresses.clone() };
    let listening: Vec<_> = addresses.iter().filter_map(|text| listeners::address(text).ok()).collect();
    let store = match &it.store_outage {
        Some(why) => {
            tr!("accounts and rooms: {store}, which can't be used at the moment: {why}", store = it.store, why)
        }
        None => tr!("accounts and rooms: {store}", store = it.store),
    };
    let figures = tr!(
        "tracker {version} (process {pid}) at {addresses} for {seconds} s\nfingerprint {fingerprint}\n\
         accounts are made with {command}\n\
         {online} of {users} users online, {sessions} sessions, {subscribers} subscribers\n\
         {rooms} rooms; {files} files shared, about {memory} KiB of memory\n\
         {connections} connections open, {refused} refused; {events} events",
        version = it.version,
        pid = it.pid,
        addresses = addresses.join(", "),
        seconds = it.uptime_s,
        fingerprint = it.fingerprint,
        command = ready_message::register_command(&listening, &it.fingerprint),
        online = it.online,
        users = it.users,
        sessions = it.sessions,
        subscribers = it.subscribers,
        rooms = it.rooms,
        files = it.files,
        memory = it.catalogue_bytes / 1024,
        connections = it.connections,
        refused = it.refused_connections,
        events = it.events
    );
    print_text(&format!("{figures}\n{store}"))
}

enum PasswordSource {
    Given(String),
    Generated(String),
}

impl PasswordSource {
    fn text(&self) -> &str {
        match self {
            Self::Given(text) | Self::Generated(text) => text,
        }
    }

    fn print_if_generated(&self) -> Result<(), CommandError> {
        match self {
            Self::Given(_) => Ok(()),
            Self::Generated(text) => print_text(text),
        }
    }
}

fn read_or_generate_password(file: Option<&Path>) -> Result<PasswordSource, CommandError> {
    let Some(path) = file else {
        // 256 is a multiple of 32: the remainder has no bias.
        let letter = |byte: u8| char::from(PASSWORD_ALPHABET[usize::from(byte) % PASSWORD_ALPHABET.len()]);
        return Ok(PasswordSource::Generated(
            rand::random::<[u8; GENERATED_PASSWORD_LENGTH]>().into_iter().map(letter).collect(),
        ));
    };
    let failed = |why| CommandError::File { path: path.to_owned(), why };
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    let mut text = String::new();
    // One byte more than a password with its line ending shows that the file is too long.
    source.take(MAX_PASSWORD_BYTES as u64 + 3).read_to_string(&mut text).map_err(failed)?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() || line.len() > MAX_PASSWORD_BYTES || line.contains('\n') {
        let shown = if path.as_os_str() == "-" { tr!("standard input") } else { safe_path(path) };
        return Err(CommandError::NoPassword(shown));
    }
    Ok(PasswordSource::Given(line.to_owned()))
}

fn print_json(value: &Value) -> Result<(), CommandError> {
    print_text(&safe_json(serde_json::to_string_pretty(value)?))
}

fn print_text(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", safe_styled(text)).and_then(|()| stdout.flush()) {
        // A reader that closed the pipe has read enough.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_passwords_are_long_and_differ() {
        let (one, two) = (read_or_generate_password(None).unwrap(), read_or_generate_password(None).unwrap());
        assert_eq!((one.text().len(), two.text().len()), (GENERATED_PASSWORD_LENGTH, GENERATED_PASSWORD_LENGTH));
        assert_ne!(one.text(), two.text());
    }

    #[test]
    fn a_password_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (content, expected) in [
            ("s3nha\n", Some("s3nha")),
            ("s3nha\r\n", Some("s3nha")),
            (" s3 nha ", Some(" s3 nha ")),
            ("", None),
            ("\n", None),
            ("a\nb\n", None),
        ] {
            std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
            let read = read_or_generate_password(Some(&path)).ok();
            assert_eq!(read.as_ref().map(PasswordSource::text), expected, "{content:?}");
        }
    }
}
