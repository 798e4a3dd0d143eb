//! The asking side: one line there, one line back.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Answer, Command, socket_path};

/// How long the tracker may take: a backup of many accounts takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why it was not done. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens there.
    #[error("no tracker runs on the data folder {0}: start it, or choose its folder with --data-dir")]
    NotRunning(PathBuf),
    /// Not for everybody.
    #[error("only the tracker's own user and root may ask the tracker on {0}: try sudo")]
    NotAllowed(PathBuf),
    /// The connection failed.
    #[error("the tracker on {folder} doesn't answer: {why}")]
    Failed {
        /// The data folder.
        folder: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// The tracker said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks the tracker that runs on this data folder.
///
/// # Errors
/// [`AdminError`].
pub fn ask(data_folder: &Path, command: &Command) -> Result<serde_json::Value, AdminError> {
    let failed = |why: io::Error| {
        let folder = data_folder.to_owned();
        match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AdminError::NotRunning(folder),
            io::ErrorKind::PermissionDenied => AdminError::NotAllowed(folder),
            _ => AdminError::Failed { folder, why },
        }
    };
    match converse(data_folder, command).map_err(failed)? {
        Answer::Done(value) => Ok(value),
        Answer::Failed(why) => Err(AdminError::Refused(why)),
    }
}

fn converse(data_folder: &Path, command: &Command) -> io::Result<Answer> {
    let (path, _open_until_connected) = socket_path(data_folder)?;
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(serde_json::from_str(&answer)?)
}
