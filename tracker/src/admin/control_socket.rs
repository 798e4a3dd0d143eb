//! The server of the administrator's socket.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::Fingerprint;
use shared::safe_text::safe_path;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::admin_operations::AdminOutput;
use super::control_socket_path::ControlSocketPath;
use super::{AdminReply, AdminRequest, MAX_ADMIN_CONNECTIONS, REQUEST_TIMEOUT, peers_export, send};
use crate::service::TrackerService;

const MAX_REQUEST_BYTES: u64 = 16 * 1024;
/// The interval at which the socket's file is checked.
const SOCKET_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a backup sent at a time.
const CHUNK: usize = 64 * 1024;

/// The tracker as the administrator's requests need it.
#[derive(Debug)]
pub struct AdminContext {
    /// The actions.
    pub service: Arc<TrackerService>,
    /// The folder of the socket, and the source of backups.
    pub data_folder: PathBuf,
    /// The addresses on which clients connect.
    pub addresses: Vec<SocketAddr>,
    /// The fingerprint of the tracker's key.
    pub fingerprint: Fingerprint,
}

/// Binds the socket. The returned future answers requests until it is dropped. Fails with the system's error when no
/// socket can be bound.
pub fn serve(control: AdminContext) -> io::Result<impl Future<Output = ()> + Send> {
    let listener = ControlListener::bind(&control.data_folder)?;
    Ok(accept_connections(listener, Arc::new(control)))
}

/// The socket and its file.
struct ControlListener {
    socket: UnixListener,
    path: PathBuf,
    file: FileId,
}

/// Identifies a file whatever its name: device and inode.
type FileId = (u64, u64);

impl ControlListener {
    fn bind(data_folder: &Path) -> io::Result<Self> {
        Self::bind_at(&ControlSocketPath::in_data_folder(data_folder)?).or_else(|why| {
            match ControlSocketPath::in_runtime_folder(data_folder) {
                Some(Ok(place)) => {
                    let listener = Self::bind_at(&place).map_err(|_| why)?;
                    info!(path = %safe_path(&listener.path), "the data folder can't hold the administrator's socket");
                    Ok(listener)
                }
                Some(Err(_)) | None => Err(why),
            }
        })
    }

    fn bind_at(place: &ControlSocketPath) -> io::Result<Self> {
        // The data folder is locked by this process, so an existing socket is left over from a process that was killed.
        match std::fs::remove_file(&place.address) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        let socket = UnixListener::bind(&place.address)?;
        // Until here the process's mask decides who may connect, and `is_authorized` who is heard.
        std::fs::set_permissions(&place.address, Permissions::from_mode(0o600))?;
        let path = place.path.clone();
        let file = id_of(&path)?;
        Ok(Self { socket, path, file })
    }

    /// True if the file is still this socket's.
    fn is_in_place(&self) -> bool {
        id_of(&self.path).is_ok_and(|file| file == self.file)
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        // Another file at this path belongs to somebody else and stays.
        if self.is_in_place() {
            // A file that can't be removed is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> io::Result<FileId> {
    path.symlink_metadata().map(|file| (file.dev(), file.ino()))
}

async fn accept_connections(mut listener: ControlListener, control: Arc<AdminContext>) {
    let mut conversations = JoinSet::new();
    let mut looks = interval(SOCKET_CHECK_INTERVAL);
    // Checks that were missed while others waited needn't be made up.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failure_logged = false;
    loop {
        // Waiting connections stay in the kernel's queue meanwhile.
        while conversations.len() >= MAX_ADMIN_CONNECTIONS {
            conversations.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            _ = looks.tick() => {
                if !listener.is_in_place() {
                    restore_socket(&mut listener, &control.data_folder, &mut is_failure_logged);
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) if is_authorized(&stream) => {
                let control = Arc::clone(&control);
                conversations.spawn(async move {
                    if let Err(why) = serve_connection(stream, &control).await {
                        warn!(%why, "the administrator's connection failed");
                    }
                });
            }
            Ok(_) => warn!("refused: not the tracker's own user, nor root"),
            Err(why) => {
                warn!(%why, "can't accept the administrator's connection");
                // No descriptor may be left: another attempt at once would only fill the log.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Binds the socket again after its removal. A failure is logged once, and tried again at the next check.
fn restore_socket(listener: &mut ControlListener, data_folder: &Path, is_failure_logged: &mut bool) {
    match ControlListener::bind(data_folder) {
        Ok(again) => {
            warn!(path = %safe_path(&again.path), "somebody removed the administrator's socket: it is put back");
            *listener = again;
            *is_failure_logged = false;
        }
        Err(why) if !*is_failure_logged => {
            warn!(path = %safe_path(&listener.path), %why, "the administrator's socket is gone and can't be put back");
            *is_failure_logged = true;
        }
        Err(_) => {}
    }
}

/// True for the tracker's own user and root. Others could connect in the moment between `bind` and the change of mode.
fn is_authorized(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

async fn serve_connection(stream: UnixStream, control: &AdminContext) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    timeout(REQUEST_TIMEOUT, (&mut stream).take(MAX_REQUEST_BYTES).read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<AdminRequest>(&line) {
        // Writes its reply while it gathers it, which may be as long as the catalogue.
        Ok(AdminRequest::ExportPeers {}) => return peers_export::write_peers(&control.service, &mut stream).await,
        Ok(command) => control.execute(command).await,
        Err(why) => Err(format!("not a request: {why}")),
    };
    if let Err(why) = &answer {
        info!(why = %shared::safe_text::safe_line(why), "refused to the administrator");
    }
    let (answer, file) = match answer {
        Ok(AdminOutput::Value(value)) => (AdminReply::Done(value), None),
        Ok(AdminOutput::Backup(file, bytes)) => (AdminReply::Done(serde_json::json!({ "bytes": bytes })), Some(file)),
        Err(why) => (AdminReply::Failed(why), None),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    send(&mut stream, &line).await?;
    match file {
        Some(file) => send_file(file.into(), &mut stream).await,
        None => Ok(()),
    }
}

async fn send_file(mut file: File, stream: &mut BufReader<UnixStream>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk).await?;
        let Some(some @ [_, ..]) = chunk.get(..count) else { return Ok(()) };
        send(stream, some).await?;
    }
}
