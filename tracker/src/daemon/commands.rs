//! The commands: each asks the running tracker and prints what it says; `restore` and `new` do their work while none runs.

mod anew;
mod backup;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use certs::IdentityError;
use serde_json::Value;
use shared::limits::PASSWORD_BYTES;
use shared::safe_text::{safe_json, safe_path, safe_styled};

use super::args::{Command, Export, Part, UserCommand};
use super::data_folder::DataFolderError;
use super::settings::Settings;
use super::{listeners, ready_lines};
use crate::accounts::OpenError;
use crate::admin::{self, AdminError, Status, UserLine};
use crate::backup::RestoreError;

/// Letters that are not taken for one another, 32 of them: five bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Letters of a password that is made up: a hundred bits.
const MADE_UP: usize = 20;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The running tracker.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// No folder, no tracker.
    #[error("there is no home folder to look for the tracker in: choose its folder with --data-dir")]
    NoFolder,
    /// A file that is named on the command line.
    #[error("can't use {path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// Where the backup should go is a file, perhaps an older backup.
    #[error("{0} exists: move it away, or give the backup another name")]
    Exists(PathBuf),
    /// Nothing can be restored below a running tracker.
    #[error(
        "a tracker runs on the data folder {0}: stop it first (as a service: \
         systemctl stop vizinho-tracker.socket vizinho-tracker.service)"
    )]
    Running(PathBuf),
    /// The data folder.
    #[error(transparent)]
    DataFolder(DataFolderError),
    /// There is nothing to begin anew.
    #[error("{0} is there: move it away first, if another is to take its place")]
    NotLost(PathBuf),
    /// There is no data folder.
    #[error("there is no folder {0}: name the tracker's with --data-dir DIR")]
    NoDataFolder(PathBuf),
    /// The key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The account database.
    #[error(transparent)]
    Accounts(#[from] OpenError),
    /// Nothing was restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The password file.
    #[error("{0} has no password: 1 to {PASSWORD_BYTES} bytes on one line")]
    NoPassword(String),
    /// The tracker speaks another version of this protocol.
    #[error("the running tracker is of another version: restart it ({0})")]
    Strange(#[from] serde_json::Error),
    /// Standard output is closed or full.
    #[error("can't write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// Whether standard output could not take what was to be said.
    pub fn is_disk(&self) -> bool {
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

/// Does what the command line says.
///
/// # Errors
/// [`CommandError`].
pub fn run(command: &Command, settings: &Settings) -> Result<(), CommandError> {
    if matches!(command, Command::Config) {
        return say(settings.text().trim_end());
    }
    let folder = settings.args.data_folder().ok_or(CommandError::NoFolder)?;
    match command {
        Command::Config => Ok(()),
        Command::User { command } => user(&folder, command),
        Command::Status { json } => status(&folder, *json),
        Command::Backup { file } => backup::make(&folder, file),
        Command::Restore { file } => backup::restore(&folder, file),
        Command::New { what: Part::Key } => anew::key(&folder),
        Command::New { what: Part::Accounts } => anew::accounts(&folder),
        Command::Export { what } => {
            let wanted = match what {
                Export::Users => admin::Command::ExportUsers {},
                Export::Peers => admin::Command::ExportPeers {},
            };
            say_json(&admin::ask(&folder, &wanted)?)
        }
    }
}

fn user(folder: &Path, command: &UserCommand) -> Result<(), CommandError> {
    let ask = |command| admin::ask(folder, &command);
    match command {
        UserCommand::List { json } => {
            let users = ask(admin::Command::Users {})?;
            if *json { say_json(&users) } else { list(&serde_json::from_value::<Vec<UserLine>>(users)?) }
        }
        UserCommand::Add { name, password_file } => {
            let password = password(password_file.as_deref())?;
            ask(admin::Command::AddUser { user: name.clone(), password: password.text().to_owned() })?;
            password.say_if_made_up()
        }
        UserCommand::Remove { name } => {
            ask(admin::Command::RemoveUser { user: name.clone() })?;
            Ok(())
        }
        UserCommand::ResetPassword { name, password_file } => {
            let password = password(password_file.as_deref())?;
            ask(admin::Command::ResetPassword { user: name.clone(), password: password.text().to_owned() })?;
            password.say_if_made_up()
        }
        UserCommand::Unbind { name } => {
            ask(admin::Command::Unbind { user: name.clone() })?;
            Ok(())
        }
    }
}

fn list(users: &[UserLine]) -> Result<(), CommandError> {
    let line = |user: &UserLine| {
        let presence = if user.online { "online" } else { "-" };
        format!("{:<32} {presence:<6} {}", user.user, user.fingerprint.as_deref().unwrap_or("-"))
    };
    if users.is_empty() {
        return Ok(());
    }
    say(&users.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn status(folder: &Path, json: bool) -> Result<(), CommandError> {
    let value = admin::ask(folder, &admin::Command::Status {})?;
    if json {
        return say_json(&value);
    }
    let it: Status = serde_json::from_value(value)?;
    let addresses = if it.addresses.is_empty() { vec![it.address.clone()] } else { it.addresses.clone() };
    let listening: Vec<_> = addresses.iter().filter_map(|text| listeners::address(text).ok()).collect();
    say(&format!(
        "tracker {} (process {}) at {} for {} s\nfingerprint {}\naccounts are made with {}\n\
         {} of {} users online, {} sessions, {} subscribers\n\
         {} files shared, about {} KiB of memory\n\
         {} connections open, {} refused; {} events",
        it.version,
        it.pid,
        addresses.join(", "),
        it.uptime_s,
        it.fingerprint,
        ready_lines::register_command(&listening, &it.fingerprint),
        it.online,
        it.users,
        it.sessions,
        it.subscribers,
        it.files,
        it.catalogue_bytes / 1024,
        it.connections,
        it.refused_connections,
        it.events
    ))
}

enum Secret {
    Given(String),
    MadeUp(String),
}

impl Secret {
    fn text(&self) -> &str {
        match self {
            Self::Given(text) | Self::MadeUp(text) => text,
        }
    }

    fn say_if_made_up(&self) -> Result<(), CommandError> {
        match self {
            Self::Given(_) => Ok(()),
            Self::MadeUp(text) => say(text),
        }
    }
}

fn password(file: Option<&Path>) -> Result<Secret, CommandError> {
    let Some(path) = file else {
        let letter = |byte: u8| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
        return Ok(Secret::MadeUp(rand::random::<[u8; MADE_UP]>().into_iter().map(letter).collect()));
    };
    let failed = |why| CommandError::File { path: path.to_owned(), why };
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    let mut text = String::new();
    source.take(PASSWORD_BYTES as u64 + 3).read_to_string(&mut text).map_err(failed)?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() || line.len() > PASSWORD_BYTES || line.contains('\n') {
        let shown = if path.as_os_str() == "-" { "standard input".to_owned() } else { safe_path(path) };
        return Err(CommandError::NoPassword(shown));
    }
    Ok(Secret::Given(line.to_owned()))
}

fn say_json(value: &Value) -> Result<(), CommandError> {
    say(&safe_json(serde_json::to_string_pretty(value)?))
}

fn say(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", safe_styled(text)).and_then(|()| stdout.flush()) {
        // Who closed the pipe has read enough.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_passwords_are_long_and_differ() {
        let (one, two) = (password(None).unwrap(), password(None).unwrap());
        assert_eq!((one.text().len(), two.text().len()), (MADE_UP, MADE_UP));
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
            let read = password(Some(&path)).ok();
            assert_eq!(read.as_ref().map(Secret::text), expected, "{content:?}");
        }
    }
}
