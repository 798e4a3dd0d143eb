//! Jobs of a view that take time: disk, tracker and peer lookups, run beside its event loop.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use shared::peer::ChatMessage;
use shared::{FileName, UserName};
use tokio::sync::mpsc;

use super::super::user_resolution::look_up_user;
use super::background_fetch::BackgroundEvent;
use super::path_completion;
use crate::engine::chat::{self, StoredMessage};
use crate::engine::node_event::{FileTransfer, TransferDirection, TransferState};
use crate::engine::{Error, LocalUser, file_offers, peer_lookup, remote_files, run_blocking};
use crate::ui::ViewUpdate;

/// Time before the first report of hashing progress, and between two reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// The result of a job, handled by the event loop.
pub(super) enum JobOutcome {
    Update(ViewUpdate),
    /// The lists of users and rooms have changed.
    ListsChanged(ViewUpdate),
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
        to: UserName,
        offered: Result<Vec<FileName>, Error>,
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

/// Asks a user's node for the files that it shares.
pub(super) async fn list_files(me: LocalUser, of: UserName, start: String) -> JobOutcome {
    let found = async {
        let target = peer_lookup::find_target(&me, &of).await?;
        let entries = remote_files::list_remote_files(&me, &target, &start).await?;
        Ok::<_, Error>(entries.into_iter().flatten().collect())
    };
    JobOutcome::Update(match found.await {
        Ok(files) => ViewUpdate::Files { user: of, prefix: start, files },
        Err(error) => ViewUpdate::Problem(error.to_string()),
    })
}

/// Hashes files and stores them as offers; reports progress if that takes longer than [`REPORT_INTERVAL`].
pub(super) async fn hash_offer(
    me: LocalUser,
    number: u64,
    to: UserName,
    paths: Vec<PathBuf>,
    tell: mpsc::UnboundedSender<BackgroundEvent>,
) -> JobOutcome {
    let user = to.clone();
    let put = run_blocking(move || {
        // Typed in a view, where no shell has expanded `~`.
        let paths: Vec<PathBuf> = paths.iter().map(|path| path_completion::expand_home(path)).collect();
        if let Some(warning) = file_offers::blocked_warning(&me.profile, &user)? {
            // The view is gone when nobody listens.
            let _ = tell.send(BackgroundEvent::Problem(warning));
        }
        let mut hashing = OfferHashProgress::new(&user, &paths, tell);
        file_offers::add_offers(&me.profile, &user, &paths, None, &mut |bytes| {
            hashing.advance(bytes);
            ControlFlow::Continue(())
        })
    });
    let offered = put.await.map(|offered| offered.into_iter().map(|offer| offer.name).collect());
    JobOutcome::OfferHashed { number, to, offered }
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
        let more = match paths.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let size = paths.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len()).sum();
        let name = name.and_then(|name| format!("{name}{more}").parse().ok());
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
