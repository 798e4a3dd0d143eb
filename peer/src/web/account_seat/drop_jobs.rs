//! What becomes of dropped files: hashed, then shared or sent, beside the seat's events.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_line;
use shared::{FileName, RoomName};
use tokio_util::sync::CancellationToken;

use super::AccountSeat;
use crate::engine::chat::{self, ConversationName};
use crate::engine::dropped_files::DropId;
use crate::engine::node::announce_shares;
use crate::engine::room_contacts::find_room_audience;
use crate::engine::send_announcement::announce_in_room;
use crate::engine::sends::{SendRequest, begin_send, begin_sends};
use crate::engine::share::{ShareEvent, share};
use crate::engine::{Error, run_blocking};
use crate::profile::Audience;

/// Jobs at once.
pub(super) const MAX_JOBS: usize = 8;
/// Least time between two reports of a job.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Who gets a drop.
#[derive(Debug, Clone)]
pub(in crate::web) enum DropDestination {
    /// Whoever asks.
    Everybody,
    /// The members of a room who ask.
    Room(RoomName),
    /// A user or a room, who are told.
    Receiver {
        /// Whom.
        to: ConversationName,
        /// Words before the files.
        text: Option<String>,
    },
}

/// A drop and its destination.
#[derive(Debug)]
pub(in crate::web) struct DropJob {
    pub(in crate::web) drop: DropId,
    pub(in crate::web) paths: Vec<PathBuf>,
    pub(in crate::web) destination: DropDestination,
}

/// Does a job, and tells its end by an event.
pub(super) async fn run_job(seat: Arc<AccountSeat>, job: DropJob, cancel: CancellationToken) {
    let drop = job.drop.text();
    let done = match job.destination.clone() {
        DropDestination::Everybody => share_drop(&seat, job, Audience::Everybody, &cancel).await,
        DropDestination::Room(room) => match find_room_audience(&seat.me, &room).await {
            Ok(audience) => share_drop(&seat, job, audience, &cancel).await,
            Err(error) => Err(error),
        },
        DropDestination::Receiver { to, text } => Box::pin(send_drop(&seat, job, to, text, &cancel)).await,
    };
    seat.feed.publish("drop", || match &done {
        Ok(names) => json!({ "drop": drop, "state": "done", "names": names }),
        Err(error) => {
            json!({ "drop": drop, "state": "failed", "code": error.kind().as_str(), "why": error.to_string() })
        }
    });
}

async fn share_drop(
    seat: &Arc<AccountSeat>,
    job: DropJob,
    audience: Audience,
    cancel: &CancellationToken,
) -> Result<Vec<FileName>, Error> {
    let (profile, mut report) = (seat.me.profile.clone(), JobReport::new(seat, &job, cancel));
    let (summary, names) = run_blocking(move || {
        let mut names = Vec::new();
        let summary = share(&profile, &audience, &job.paths, None, &mut |event| {
            if let ShareEvent::Shared { share, .. } = &event {
                names.push(share.name.clone());
            }
            report.handle_event(&event)
        })?;
        Ok((summary, names))
    })
    .await?;
    if summary.interrupted_total.is_some() {
        return Err(Error::Interrupted);
    }
    announce_shares(&seat.me.profile).await?;
    match summary.omissions.first_failure() {
        Some(failure) => Err(Error::Usage(format!("{}: {}", display_name(&failure.name), safe_line(&failure.why)))),
        None => Ok(names),
    }
}

async fn send_drop(
    seat: &Arc<AccountSeat>,
    job: DropJob,
    to: ConversationName,
    text: Option<String>,
    cancel: &CancellationToken,
) -> Result<Vec<FileName>, Error> {
    // Before the hashing: a room that can't be found must not be found out after minutes of it.
    let audience = match &to {
        ConversationName::Person(user) => Audience::Person(user.clone()),
        ConversationName::Room(room) => find_room_audience(&seat.me, room).await?,
    };
    let (profile, mut report) = (seat.me.profile.clone(), JobReport::new(seat, &job, cancel));
    let begun = run_blocking(move || {
        let request = |path: PathBuf| {
            // A single file goes when the send is over.
            let is_copy = path.is_file();
            SendRequest { audience: audience.clone(), path, name: None, is_copy }
        };
        let requests: Vec<SendRequest> = job.paths.into_iter().map(request).collect();
        begin_sends(&profile, &requests, |request| {
            begin_send(&profile, request, &mut |event| report.handle_event(&event))
        })
    })
    .await?;
    let node = seat.node().ok_or(Error::Interrupted)?;
    match (&to, text) {
        (ConversationName::Person(user), Some(text)) => drop(node.queue_message(user, chat::compose(&text)?).await?),
        (ConversationName::Room(room), Some(text)) => drop(node.write_in_room(room, &text, false).await?),
        (_, None) => {}
    }
    let mut names = Vec::with_capacity(begun.len());
    for one in begun {
        let announced = match &to {
            ConversationName::Person(_) => node.announce_send(one.send.number).await.map(drop),
            ConversationName::Room(room) => announce_in_room(&node, &seat.me.profile, room, &one.send).await,
        };
        // Who can't be told now is told when they can be reached. The words are on their way already: it is no failure.
        if let Err(why) = announced {
            tracing::warn!("a send is not announced yet: {why}");
        }
        names.push(one.send.send.name);
    }
    Ok(names)
}

/// The progress of hashing, told now and then.
struct JobReport {
    seat: Arc<AccountSeat>,
    drop: DropId,
    cancel: CancellationToken,
    bytes: u64,
    size: u64,
    told: Instant,
}

impl JobReport {
    fn new(seat: &Arc<AccountSeat>, job: &DropJob, cancel: &CancellationToken) -> Self {
        Self { seat: seat.clone(), drop: job.drop, cancel: cancel.clone(), bytes: 0, size: 0, told: Instant::now() }
    }

    fn handle_event(&mut self, event: &ShareEvent<'_>) -> ControlFlow<()> {
        match event {
            ShareEvent::Found { to_hash, .. } => self.size += to_hash,
            ShareEvent::Hashed(bytes) => self.bytes += bytes,
            _ => {}
        }
        if self.told.elapsed() >= REPORT_INTERVAL {
            self.told = Instant::now();
            let (drop, bytes, size) = (self.drop.text(), self.bytes, self.size);
            let fields = || json!({ "drop": drop, "state": "running", "bytes": bytes, "size": size });
            self.seat.feed.publish("drop", fields);
        }
        if self.cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
