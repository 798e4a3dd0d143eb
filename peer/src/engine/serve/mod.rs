//! Answering other peers: one task a stream, all of them owned by the link they came over.

mod gate;
mod library;
mod pieces;
mod reading;
mod uploads;

use std::sync::Arc;

use shared::peer::{Answer, Ask, Code};
use tokio::task::JoinSet;

use gate::Gate;
pub use gate::Limits;
pub use library::{Library, StaleShares};
use uploads::Uploads;

use super::chat::Intake;
use super::event::Events;
use super::{Me, chat};
use crate::net::link::Link;
use crate::net::stream::{Priority, Receiver, Sender, is_breach};
use crate::net::{LinkError, StreamError};

/// Streams of one link that are served at once.
const STREAMS_PER_LINK: usize = 64;

/// What serving needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Who serves.
    pub me: Me,
    /// What is offered.
    pub library: Arc<Library>,
    /// Where events go.
    pub events: Events,
    intake: Arc<Intake>,
    gate: Arc<Gate>,
}

impl Serving {
    /// Serves what `library` offers within `limits`.
    pub fn new(me: Me, library: Library, events: Events, limits: Limits) -> Self {
        Self { me, library: Arc::new(library), events, intake: Arc::default(), gate: Arc::new(Gate::new(limits)) }
    }
}

/// Serves a link until it ends, and tells why it did.
pub async fn serve_link(link: Link, serving: Serving) -> LinkError {
    let uploads = Arc::new(Uploads::new(link.user().clone(), serving.events.clone(), serving.gate.clone()));
    let mut streams = JoinSet::new();
    let ended = loop {
        tokio::select! {
            accepted = link.accept(), if streams.len() < STREAMS_PER_LINK => match accepted {
                Ok((sender, receiver)) => {
                    let (link, serving, uploads) = (link.clone(), serving.clone(), uploads.clone());
                    streams.spawn(async move { serve_stream(&link, &serving, &uploads, sender, receiver).await });
                }
                Err(ended) => break ended,
            },
            Some(finished) = streams.join_next() => match finished {
                Ok(Err(error)) if is_breach(&error) => {
                    tracing::info!("{}: {error}", link.user());
                    link.close(Code::Protocol);
                }
                Ok(Err(error)) => tracing::debug!("{}: a stream ended: {error}", link.user()),
                Ok(Ok(())) => {}
                Err(failure) => tracing::error!("{}: a stream's task failed: {failure}", link.user()),
            },
        }
    };
    streams.shutdown().await;
    uploads.report_partial();
    ended
}

async fn serve_stream(
    link: &Link,
    serving: &Serving,
    uploads: &Uploads,
    mut sender: Sender,
    mut receiver: Receiver,
) -> Result<(), StreamError> {
    let Some(first) = receiver.frame().await? else { return Ok(()) };
    if matches!(first, Ask::Chat {}) {
        sender.set_priority(Priority::Chat);
        return chat::receive(link.user(), &serving.me, &serving.intake, &serving.events, sender, receiver).await;
    }
    let mut next = Some(first);
    while let Some(ask) = next {
        match answer(serving, uploads, &mut sender, ask).await {
            // The code tells the other side what became of the file.
            Err(StreamError::Reset(code)) => {
                sender.reset(code);
                return Ok(());
            }
            answered => answered?,
        }
        next = receiver.frame().await?;
    }
    sender.finish();
    Ok(())
}

async fn answer(serving: &Serving, uploads: &Uploads, sender: &mut Sender, ask: Ask) -> Result<(), StreamError> {
    let (library, user) = (&serving.library, uploads.user());
    // Also over a link that was dialled here, and however long ago.
    if serving.me.profile.is_blocked(user).unwrap_or(true) {
        let refused = Answer::Error { code: Code::Unauthorised, message: "refused".to_owned() };
        return sender.frame(&refused).await;
    }
    let answer = match ask {
        Ask::Files { prefix, cursor } => {
            library.list(user, prefix.unwrap_or_default(), cursor.unwrap_or_default()).await
        }
        Ask::Folders { prefix, cursor } => {
            library.folders(prefix.unwrap_or_default(), cursor.unwrap_or_default()).await
        }
        Ask::Stat { name } => library.stat(user, name).await,
        Ask::Manifest { hash } => match library.manifest(user, hash).await {
            Ok((answer, manifest)) => {
                sender.frame(&answer).await?;
                return sender.bulk(manifest).await;
            }
            Err(refused) => Err(refused),
        },
        Ask::Get { hash, ranges } => {
            match library.open(user, uploads.slot().await, hash, ranges, uploads.piece_bytes()).await {
                Ok(open) => {
                    sender.set_priority(Priority::Bulk);
                    let name = open.share.name.clone();
                    let sent = uploads.send(sender, open).await;
                    if matches!(sent, Err(StreamError::Reset(Code::Stale))) {
                        library.report_stale(name);
                    }
                    return sent;
                }
                Err(refused) => Err(refused),
            }
        }
        Ask::Hello(_) | Ask::Chat {} => return Err(StreamError::Unexpected("a request was due")),
        Ask::Unknown => Err((Code::Protocol, "this version doesn't know that request".to_owned())),
    };
    let answer = answer.unwrap_or_else(|(code, message)| Answer::Error { code, message });
    sender.frame(&answer).await
}
