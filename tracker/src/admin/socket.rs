//! The answering side.

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
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::operations::Given;
use super::place::Place;
use super::{AT_ONCE, Answer, Command, export};
use crate::service::Service;

const REQUEST_BYTES: u64 = 16 * 1024;
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How often the tracker looks whether its socket is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of a backup, sent at a time.
const CHUNK: usize = 64 * 1024;

/// What the administrator's side needs to know of the tracker.
#[derive(Debug)]
pub struct Control {
    /// The actions.
    pub service: Arc<Service>,
    /// Where the socket is, and what backups are made of.
    pub data_folder: PathBuf,
    /// Where clients connect.
    pub addresses: Vec<SocketAddr>,
    /// The tracker's key.
    pub fingerprint: Fingerprint,
}

/// Listens at once; the future that is returned answers until it is dropped.
///
/// # Errors
/// When there can be no socket.
pub fn serve(control: Control) -> io::Result<impl Future<Output = ()> + Send> {
    let listener = Listener::bind(&control.data_folder)?;
    Ok(answer_all(listener, Arc::new(control)))
}

/// The socket and the file that it is reached by.
struct Listener {
    socket: UnixListener,
    path: PathBuf,
    file: FileId,
}

/// Tells one file from another that has its name.
type FileId = (u64, u64);

impl Listener {
    fn bind(data_folder: &Path) -> io::Result<Self> {
        Self::bind_at(&Place::in_data_folder(data_folder)?).or_else(|why| match Place::in_runtime_folder(data_folder) {
            Some(Ok(place)) => {
                let listener = Self::bind_at(&place).map_err(|_| why)?;
                info!(path = %safe_path(&listener.path), "the data folder can't hold the administrator's socket");
                Ok(listener)
            }
            Some(Err(_)) | None => Err(why),
        })
    }

    fn bind_at(place: &Place) -> io::Result<Self> {
        // The data folder's lock is ours, so that what lies there is left over from a process that was killed.
        match std::fs::remove_file(&place.address) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        let socket = UnixListener::bind(&place.address)?;
        std::fs::set_permissions(&place.address, Permissions::from_mode(0o600))?;
        let path = place.path.clone();
        let file = id_of(&path)?;
        Ok(Self { socket, path, file })
    }

    /// Whether its file is still the one that was made.
    fn is_in_place(&self) -> bool {
        id_of(&self.path).is_ok_and(|file| file == self.file)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_in_place() {
            // What stays there is taken for what a killed process left.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> io::Result<FileId> {
    path.symlink_metadata().map(|file| (file.dev(), file.ino()))
}

async fn answer_all(mut listener: Listener, control: Arc<Control>) {
    let mut conversations = JoinSet::new();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told = false;
    loop {
        while conversations.len() >= AT_ONCE {
            conversations.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            _ = looks.tick() => {
                if !listener.is_in_place() {
                    put_back(&mut listener, &control.data_folder, &mut is_told);
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) if is_allowed(&stream) => {
                let control = Arc::clone(&control);
                conversations.spawn(async move {
                    if let Err(why) = converse(stream, &control).await {
                        warn!(%why, "the administrator's connection failed");
                    }
                });
            }
            Ok(_) => warn!("refused: not the tracker's own user, nor root"),
            Err(why) => {
                warn!(%why, "can't accept the administrator's connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Makes the socket again that somebody removed. What fails is told once, and tried again at the next look.
fn put_back(listener: &mut Listener, data_folder: &Path, is_told: &mut bool) {
    match Listener::bind(data_folder) {
        Ok(again) => {
            warn!(path = %safe_path(&again.path), "somebody removed the administrator's socket: it is put back");
            *listener = again;
            *is_told = false;
        }
        Err(why) if !*is_told => {
            warn!(path = %safe_path(&listener.path), %why, "the administrator's socket is gone and can't be put back");
            *is_told = true;
        }
        Err(_) => {}
    }
}

/// Between the making of the socket and its mode there is a moment: who came then is told apart here.
fn is_allowed(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

async fn converse(stream: UnixStream, control: &Control) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    timeout(REQUEST_TIME, (&mut stream).take(REQUEST_BYTES).read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Command>(&line) {
        Ok(Command::ExportPeers {}) => return export::peers(&control.service, &mut stream).await,
        Ok(command) => control.act(command).await,
        Err(why) => Err(format!("not a request: {why}")),
    };
    if let Err(why) = &answer {
        info!(why = %shared::safe_text::safe_line(why), "refused to the administrator");
    }
    let (answer, file) = match answer {
        Ok(Given::Value(value)) => (Answer::Done(value), None),
        Ok(Given::Backup(file, bytes)) => (Answer::Done(serde_json::json!({ "bytes": bytes })), Some(file)),
        Err(why) => (Answer::Failed(why), None),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    send(&mut stream, &line).await?;
    match file {
        Some(file) => send_file(file.into(), &mut stream).await,
        None => Ok(()),
    }
}

pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    timeout(REQUEST_TIME, stream.write_all(bytes)).await?
}

async fn send_file(mut file: File, stream: &mut BufReader<UnixStream>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk).await?;
        let Some(some @ [_, ..]) = chunk.get(..count) else { return Ok(()) };
        send(stream, some).await?;
    }
}
