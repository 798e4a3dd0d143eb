//! The answering side.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::Fingerprint;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::operations::Given;
use super::{AT_ONCE, Answer, Command, export, socket_path};
use crate::service::Service;

const REQUEST_BYTES: u64 = 16 * 1024;
const REQUEST_TIME: Duration = Duration::from_secs(10);
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
    pub address: SocketAddr,
    /// The tracker's key.
    pub fingerprint: Fingerprint,
}

/// Listens at once; the future that is returned answers until it is dropped.
///
/// # Errors
/// When there can be no socket.
pub fn serve(control: Control) -> io::Result<impl Future<Output = ()> + Send> {
    let (path, _open_until_bound) = socket_path(&control.data_folder)?;
    // The folder's lock is ours, so that what lies there is left over from a process that was killed.
    match std::fs::remove_file(&path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(answer_all(listener, Arc::new(control)))
}

async fn answer_all(listener: UnixListener, control: Arc<Control>) {
    let mut conversations = JoinSet::new();
    loop {
        while conversations.len() >= AT_ONCE {
            conversations.join_next().await;
        }
        match listener.accept().await {
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
