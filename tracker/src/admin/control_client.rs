//! The client of the administrator's socket: one line to the tracker, one line back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use localization::tr;
use shared::safe_text::safe_path;

use super::control_socket_path::ControlSocketPath;
use super::{AdminReply, AdminRequest};
use crate::folder_lock::{holder_pid, is_locked, is_stopped};

/// The time for a reply: a backup of many accounts takes a while.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// The silence after which the tracker's process is checked, and the interval of further checks.
const FIRST_LIVENESS_CHECK: Duration = Duration::from_millis(1500);
const LIVENESS_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The time for a running tracker to restore its socket, or to start.
const SOCKET_WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// The reason why a request failed. Every message says what to do.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum AdminError {
    #[error("{}", tr!("no tracker runs on the data folder {path}: start it, or choose its folder with --data-dir", path = safe_path(.0)))]
    NotRunning(PathBuf),
    #[error("{}", tr!(
        "a tracker{by} runs on the data folder {folder}, but its socket for commands is gone: \
         its log says why it can't put it back",
        by,
        folder = safe_path(.folder)
    ))]
    NoSocket {
        folder: PathBuf,
        /// The process, in words; empty if it is unknown.
        by: String,
    },
    #[error("{}", tr!(
        "process {pid} holds the data folder {folder} and is stopped: continue it with `kill -CONT {pid}`, or end it with \
         `kill -KILL {pid}`",
        pid,
        folder = safe_path(.folder)
    ))]
    Stopped { folder: PathBuf, pid: u32 },
    #[error("{}", tr!("only the tracker's own user and root may ask the tracker on {path}: try sudo", path = safe_path(.0)))]
    NotAllowed(PathBuf),
    #[error("{}", tr!("the tracker on {folder} doesn't answer: {why}", folder = safe_path(.folder), why))]
    Failed { folder: PathBuf, why: io::Error },
    /// The tracker refused the request.
    #[error("{0}")]
    Refused(String),
}

/// A backup that is being received.
pub struct BackupStream {
    folder: PathBuf,
    reader: BufReader<UnixStream>,
    missing: u64,
}

/// Sends a request to the tracker that runs on this data folder, and returns its reply. Fails with [`AdminError`] when
/// no tracker answers, or when it refuses.
pub fn send_request(data_folder: &Path, command: &AdminRequest) -> Result<serde_json::Value, AdminError> {
    request_reply(data_folder, command).map(|(value, _)| value)
}

/// Asks the tracker that runs on this data folder for a backup. Fails with [`AdminError`] when no tracker answers, or
/// when it refuses.
pub fn open_backup(data_folder: &Path) -> Result<BackupStream, AdminError> {
    let (value, reader) = request_reply(data_folder, &AdminRequest::Backup {})?;
    let folder = data_folder.to_owned();
    match value.get("bytes").and_then(serde_json::Value::as_u64) {
        Some(missing) => Ok(BackupStream { folder, reader, missing }),
        None => Err(AdminError::Failed { folder, why: io::ErrorKind::InvalidData.into() }),
    }
}

impl BackupStream {
    /// Reads the next bytes into `buffer`; the result is empty when the backup is complete. Fails with
    /// [`AdminError::Failed`] when the connection fails or ends too early.
    pub fn next<'a>(&mut self, buffer: &'a mut [u8]) -> Result<&'a [u8], AdminError> {
        let failed = |why| AdminError::Failed { folder: self.folder.clone(), why };
        let count = (&mut self.reader).take(self.missing).read(buffer).map_err(failed)?;
        self.missing -= count as u64;
        if count == 0 && self.missing > 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(buffer.get(..count).unwrap_or_default())
    }
}

fn request_reply(
    data_folder: &Path,
    command: &AdminRequest,
) -> Result<(serde_json::Value, BufReader<UnixStream>), AdminError> {
    let (answer, reader) = exchange(data_folder, command).map_err(|why| {
        let folder = data_folder.to_owned();
        // The kernel accepts connections for a stopped process, so that only its silence shows.
        if why.kind() == io::ErrorKind::TimedOut
            && let Some(pid) = stopped_holder(data_folder)
        {
            return AdminError::Stopped { folder, pid };
        }
        match why.kind() {
            // The lock proves that a tracker runs: its socket alone is gone.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused if is_locked(data_folder) => {
                let by =
                    holder_pid(data_folder).map_or_else(String::new, |pid| format!(" ({})", tr!("process {pid}", pid)));
                AdminError::NoSocket { folder, by }
            }
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AdminError::NotRunning(folder),
            io::ErrorKind::PermissionDenied => AdminError::NotAllowed(folder),
            _ => AdminError::Failed { folder, why },
        }
    })?;
    match answer {
        AdminReply::Done(value) => Ok((value, reader)),
        AdminReply::Failed(why) => Err(AdminError::Refused(why)),
    }
}

/// Connects, and waits for the socket while a tracker holds the folder's lock.
fn connect_with_retry(data_folder: &Path) -> io::Result<UnixStream> {
    let until = Instant::now() + SOCKET_WAIT_TIMEOUT;
    loop {
        match connect(data_folder) {
            Err(why)
                if matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
                    && Instant::now() < until
                    // A tracker that starts takes the lock first and opens the socket a moment later.
                    && is_locked(data_folder) =>
            {
                std::thread::sleep(SOCKET_WAIT_TIMEOUT / 20);
            }
            other => return other,
        }
    }
}

fn connect(data_folder: &Path) -> io::Result<UnixStream> {
    let place = ControlSocketPath::in_data_folder(data_folder)?;
    UnixStream::connect(&place.address).or_else(|why| match ControlSocketPath::in_runtime_folder(data_folder) {
        // A socket that this user may not open is the right one: no other is tried.
        Some(Ok(place)) if why.kind() != io::ErrorKind::PermissionDenied => {
            UnixStream::connect(&place.address).map_err(|_| why)
        }
        _ => Err(why),
    })
}

/// Returns the process that holds the folder, if it is stopped.
fn stopped_holder(data_folder: &Path) -> Option<u32> {
    holder_pid(data_folder).filter(|pid| is_stopped(*pid))
}

/// Reads the reply's line. Gives up on a stopped tracker, which would stay silent until it continues.
fn read_reply_line(reader: &mut BufReader<UnixStream>, data_folder: &Path) -> io::Result<Vec<u8>> {
    let (mut answer, begun, mut was_stopped) = (Vec::new(), Instant::now(), false);
    reader.get_ref().set_read_timeout(Some(FIRST_LIVENESS_CHECK))?;
    loop {
        match reader.read_until(b'\n', &mut answer) {
            Err(why) if matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let is_stopped = stopped_holder(data_folder).is_some();
                if begun.elapsed() >= REPLY_TIMEOUT || (is_stopped && was_stopped) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                // Two checks in a row: a process may be stopped for a moment.
                was_stopped = is_stopped;
                reader.get_ref().set_read_timeout(Some(LIVENESS_CHECK_INTERVAL))?;
            }
            read => {
                read?;
                // The bytes of a backup may follow, each read with the full time.
                reader.get_ref().set_read_timeout(Some(REPLY_TIMEOUT))?;
                return Ok(answer);
            }
        }
    }
}

fn exchange(data_folder: &Path, command: &AdminRequest) -> io::Result<(AdminReply, BufReader<UnixStream>)> {
    let mut stream = connect_with_retry(data_folder)?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reader = BufReader::new(stream);
    let answer = read_reply_line(&mut reader, data_folder)?;
    // The tracker closes the connections of other users without an answer.
    if answer.is_empty() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok((serde_json::from_slice(&answer)?, reader))
}
