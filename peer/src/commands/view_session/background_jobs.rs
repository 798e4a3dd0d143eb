//! Jobs of a view that take time: disk, tracker and peer lookups, run beside its event loop.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use localization::tr;
use shared::UserName;
use shared::peer::{ChatMessage, FileOffer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::path_completion;
use crate::engine::background_fetches::BackgroundEvent;
use crate::engine::chat::{self, ConversationName, StoredMessage};
use crate::engine::listed_files::list_shared_files;
use crate::engine::node_event::{FileTransfer, TransferDirection, TransferState};
use crate::engine::room_contacts::find_room_audience;
use crate::engine::user_lookup::look_up_user;
use crate::engine::{Error, LocalUser, file_offers, run_blocking};
use crate::profile::Audience;
use crate::ui::ViewUpdate;

/// Time before the first report of hashing progress, and between two reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// The result of a job, handled by the event loop.
pub(super) enum JobOutcome {
    Update(ViewUpdate),
    /// The lists of users and rooms have changed.
    ListsChanged(ViewUpdate),
    /// An act of this number has this outcome.
    ActEnded {
        number: u64,
        outcome: Box<JobOutcome>,
    },
    /// The node looks at the outbox again.
    NodeWoken,
    /// The node ended before it had marked messages as read.
    ReadMarkLost {
        with: ConversationName,
        up_to: i64,
    },
    /// The node has stored a message to a room, or why not.
    PostSubmitted {
        failure: Option<Error>,
    },
    /// The node has stored a message or an offer of this number, or why not.
    Submitted {
        number: u64,
        failure: Option<Error>,
    },
    /// Offered files are hashed and stored, and the recipient is to be told; or why not.
    OfferHashed {
        number: u64,
        to: ConversationName,
        offered: Result<Vec<FileOffer>, Error>,
    },
    /// A message is stored, or why not.
    MessageStored {
        message: ChatMessage,
        stored: Box<Result<StoredMessage, Error>>,
    },
    Nothing,
}

/// Stores an outgoing message in the profile; the next node delivers it.
pub(super) async fn store_message(me: LocalUser, to: UserName, message: ChatMessage) -> JobOutcome {
    let stored = chat::store_outgoing(&me, &to, message.clone(), |_| {}).await;
    JobOutcome::MessageStored { message, stored: Box::new(stored) }
}

/// Asks a user's node for the files that it shares, or the members of a room for those that they share with it.
pub(super) async fn list_files(me: LocalUser, of: ConversationName, start: String) -> JobOutcome {
    JobOutcome::Update(match list_shared_files(&me, &of, &start).await {
        Ok(files) => ViewUpdate::Files { of, prefix: start, files },
        Err(error) => ViewUpdate::FilesFailed { of, prefix: start, why: error.to_string() },
    })
}

/// Hashes files and stores them as offers; reports progress if that takes longer than [`REPORT_INTERVAL`].
pub(super) async fn hash_offer(
    me: LocalUser,
    number: u64,
    to: ConversationName,
    paths: Vec<PathBuf>,
    tell: mpsc::UnboundedSender<BackgroundEvent>,
    cancel: CancellationToken,
) -> JobOutcome {
    let audience = match &to {
        ConversationName::Person(user) => Ok(Audience::Person(user.clone())),
        ConversationName::Room(room) => find_room_audience(&me, room).await,
    };
    let audience = match audience {
        Ok(audience) => audience,
        Err(error) => return JobOutcome::OfferHashed { number, to, offered: Err(error) },
    };
    let whom = to.clone();
    let put = run_blocking(move || {
        // Typed in a view, where no shell has expanded `~`.
        let paths: Vec<PathBuf> = paths.iter().map(|path| path_completion::expand_home(path)).collect();
        let warning = whom.person().map(|user| file_offers::blocked_warning(&me.profile, user)).transpose()?;
        if let Some(warning) = warning.flatten() {
            // The view is gone when nobody listens.
            let _ = tell.send(BackgroundEvent::Problem(warning.into()));
        }
        // The file is hashed for nobody alone in a room.
        let mut hashing = OfferHashProgress::new(whom.person().unwrap_or(&me.user), &paths, tell);
        file_offers::add_offers(&me.profile, &whom, &audience, &paths, None, &mut |bytes| {
            hashing.advance(bytes);
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    JobOutcome::OfferHashed { number, to, offered: put.await }
}

/// Progress of hashing offered files; sends the end when dropped.
struct OfferHashProgress {
    /// `None` if the first path has no valid file name to show.
    transfer: Option<FileTransfer>,
    last_report: Option<Instant>,
    events: mpsc::UnboundedSender<BackgroundEvent>,
}

impl OfferHashProgress {
    fn new(to: &UserName, paths: &[PathBuf], events: mpsc::UnboundedSender<BackgroundEvent>) -> Self {
        let name = paths.first().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
        // A file that can't be read counts as empty: hashing tells its error.
        let size = paths.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len()).sum();
        let label = |name: String| match paths.len() {
            0 | 1 => name,
            count => tr!("{name} and {more} more", name, more = count - 1),
        };
        let name = name.and_then(|name| label(name).parse().ok());
        let (direction, state) = (TransferDirection::Up, TransferState::Running);
        let transfer = name.map(|name| FileTransfer { peer: to.clone(), name, direction, bytes: 0, size, state });
        // As if a report was just sent: files that are hashed at once never show a progress line.
        Self { transfer, last_report: Some(Instant::now()), events }
    }

    fn advance(&mut self, bytes: u64) {
        let Some(all) = &mut self.transfer else { return };
        all.bytes = all.bytes.saturating_add(bytes).min(all.size);
        if self.last_report.is_none_or(|told| told.elapsed() >= REPORT_INTERVAL) {
            self.last_report = Some(Instant::now());
            // The view is gone when nobody listens.
            let _ = self.events.send(BackgroundEvent::Hashing(all.clone()));
        }
    }
}

impl Drop for OfferHashProgress {
    fn drop(&mut self) {
        if let Some(all) = self.transfer.take() {
            let _ = self.events.send(BackgroundEvent::Hashing(FileTransfer { state: TransferState::Done, ..all }));
        }
    }
}

/// Asks the tracker whether a user has an account.
pub(super) async fn find_account(me: LocalUser, of: UserName) -> JobOutcome {
    match look_up_user(&me, &of).await {
        Ok((exists, like)) => JobOutcome::Update(ViewUpdate::Account { user: of, exists, similar: like }),
        Err(why) => {
            tracing::debug!("whether {of} has an account is not known: {why}");
            JobOutcome::Nothing
        }
    }
}

/// Completes a path that the user types.
pub(super) async fn complete_path(start: String) -> JobOutcome {
    JobOutcome::Update(path_completion::complete_path(start).await)
}
