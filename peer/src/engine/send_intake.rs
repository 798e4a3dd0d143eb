//! The receiver's side of sends: fetches what was sent, exactly as it was announced, or declines it.

mod receipt_observer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use localization::tr;
use shared::peer::{FileSend, ReceiptOutcome, SendKind, SendReceipt};
use shared::safe_text::safe_path;
use shared::{FileName, UserName};
use tokio_util::sync::CancellationToken;

pub use self::receipt_observer::ReceiptObserver;
use crate::engine::event_bus::EventBus;
use crate::engine::fetch::{
    FetchDestination, FetchEvent, FetchReport, FetchRequest, RequestedName, SourcePolicy, fetch,
};
use crate::engine::private_data::PrivateData;
use crate::engine::sends::AutoAcceptOutcome;
use crate::engine::sends::accept_policy::{self, AcceptQuery, FolderFault, HoldReason, MIN_FREE_BYTES};
use crate::engine::size_format::format_size;
use crate::engine::unattended_fetch::{DiskWatch, disk_words, free_bytes, on_own_runtime};
use crate::engine::{Error, LocalUser, now_ms, run_blocking};
use crate::profile::{AcceptRule, AcceptedSend, IncomingSend, Profile};
use crate::util::TranslatedText;

/// The wait for a sender who went offline in the middle; the next attempt begins when they are back.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(20);

/// Characters that make a name a pattern.
const WILDCARDS: [char; 4] = ['*', '?', '[', '{'];

/// Fetches a send into a folder, and queues its receipt.
pub async fn take_send(
    me: &LocalUser,
    waiting: &IncomingSend,
    folder: &Path,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> FetchReport {
    take_send_by(me, waiting, &fetch_request(waiting, folder, None), report, cancel).await
}

async fn take_send_by(
    me: &LocalUser,
    waiting: &IncomingSend,
    request: &FetchRequest,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> FetchReport {
    let mut ended = Box::pin(fetch(me, request, report, cancel)).await;
    // Only when all of it is in place: a receipt isn't taken back.
    if ended.error.is_none() {
        ended.error = settle(me, waiting, ReceiptOutcome::Done).await.err();
    }
    ended
}

/// Declines a send: its receipt is queued, and it waits no longer.
pub async fn decline_send(me: &LocalUser, waiting: &IncomingSend) -> Result<(), Error> {
    settle(me, waiting, ReceiptOutcome::Declined).await
}

/// Fetches a send if a rule accepts it, and reports its progress as events. Blocking: hashing and disk writes must not
/// delay the node, so that the fetch has a thread and a runtime of its own.
pub fn accept_unasked(
    me: &LocalUser,
    waiting: &IncomingSend,
    events: &EventBus,
    cancel: &CancellationToken,
) -> AutoAcceptOutcome {
    match on_own_runtime(events, async |report| accept_by_rule(me, waiting, report, cancel).await) {
        Ok(outcome) => outcome,
        Err(error) => AutoAcceptOutcome::Failed(error),
    }
}

/// Fetches a send if a rule accepts it.
pub async fn accept_by_rule(
    me: &LocalUser,
    waiting: &IncomingSend,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> AutoAcceptOutcome {
    let (profile, of) = (me.profile.clone(), waiting.clone());
    let decided = run_blocking(move || decide(&profile, &of)).await;
    let folder = match decided {
        Ok(RuleDecision::Accept(folder)) => folder,
        Ok(RuleDecision::NoRule) => return AutoAcceptOutcome::NoRule,
        Ok(RuleDecision::RuleEnded) => return AutoAcceptOutcome::RuleEnded,
        Ok(RuleDecision::Hold(why)) => return AutoAcceptOutcome::Held(why),
        Err(error) => return AutoAcceptOutcome::Failed(error),
    };
    // A disk that others fill meanwhile stops the fetch; what is there is kept for the next attempt.
    let mut watch = DiskWatch::new(folder.clone(), cancel);
    let own_cancel = watch.cancel_token();
    let mut watched = |event: FetchEvent<'_>| {
        watch.handle_event(&event);
        report(event);
    };
    let request = fetch_request(waiting, &folder, Some(MIN_FREE_BYTES));
    let ended = take_send_by(me, waiting, &request, &mut watched, &own_cancel).await;
    match ended.error {
        None => AutoAcceptOutcome::Done(folder),
        Some(error @ Error::InsufficientSpace { .. }) => AutoAcceptOutcome::Held(TranslatedText::of(&error)),
        Some(Error::Interrupted) if watch.is_full() => {
            AutoAcceptOutcome::Held(TranslatedText::new(|| disk_words(MIN_FREE_BYTES)))
        }
        Some(error) => AutoAcceptOutcome::Failed(error),
    }
}

/// Checks the destination of what is accepted unasked: never the home folder itself, nor a profile's. Returns its path
/// without links; it is made if it isn't there. Blocking.
///
/// # Errors
/// [`Error::Usage`] with the reason, or [`Error::Disk`].
pub fn check_accept_folder(profile: &Profile, folder: &Path) -> Result<PathBuf, Error> {
    let refused =
        |why: String| Error::Usage(tr!("{path} can't take what is sent: {why}", path = safe_path(folder), why));
    // Looked at before it is made: nothing is created inside a profile.
    let above = folder.ancestors().find_map(|above| above.canonicalize().ok()).unwrap_or_else(|| "/".into());
    let is_private = |path: &Path| {
        let metadata = std::fs::symlink_metadata(path);
        metadata.is_ok_and(|metadata| PrivateData::of(profile).reason(path, &metadata).is_some())
    };
    if is_private(&above) {
        return Err(refused(tr!("it belongs to an account's folder")));
    }
    std::fs::create_dir_all(folder).map_err(Error::disk(folder))?;
    let real = folder.canonicalize().map_err(Error::disk(folder))?;
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    match accept_policy::check_folder(&real, home.as_ref()) {
        Err(FolderFault::Home) => {
            return Err(refused(tr!("it is your home folder, where programs look for their settings")));
        }
        Err(FolderFault::Root) => return Err(refused(tr!("it is the root folder"))),
        Ok(()) => {}
    }
    // Again, as a link on the way may lead into a profile.
    if is_private(&real) { Err(refused(tr!("it belongs to an account's folder"))) } else { Ok(real) }
}

/// The decision about a send, with the rule's folder.
enum RuleDecision {
    NoRule,
    RuleEnded,
    Hold(TranslatedText),
    Accept(PathBuf),
}

fn decide(profile: &Profile, waiting: &IncomingSend) -> Result<RuleDecision, Error> {
    let IncomingSend { from, id, send, .. } = waiting;
    let rule = profile.accept_rule(from)?.filter(|rule| !rule.is_paused);
    let Some(AcceptRule { fingerprint, folder, max_bytes, .. }) = rule else { return Ok(RuleDecision::NoRule) };
    // The rule trusts one key: whoever has the name now may be somebody else.
    if profile.known_user(from)?.is_none_or(|known| known.fingerprint != fingerprint) {
        profile.remove_accept_rule(from)?;
        return Ok(RuleDecision::RuleEnded);
    }
    let folder = match check_accept_folder(profile, &folder) {
        Ok(folder) => folder,
        Err(error) => return Ok(RuleDecision::Hold(TranslatedText::of(&error))),
    };
    let (accepted, now_ms) = (profile.accepted_sends(from)?, now_ms());
    let query = AcceptQuery { id: *id, send, max_bytes, accepted: &accepted, free: free_bytes(&folder), now_ms };
    if let Err(reason) = accept_policy::decide(query) {
        return Ok(RuleDecision::Hold(TranslatedText::new(|| hold_words(&reason))));
    }
    // On record before the fetch, so that attempts that fail don't add up beyond the bounds.
    profile.add_accepted_send(from, &AcceptedSend { id: *id, at: now_ms, files: send.files, bytes: send.size })?;
    Ok(RuleDecision::Accept(folder))
}

fn hold_words(reason: &HoldReason) -> String {
    match *reason {
        HoldReason::Bytes { max, left } => {
            let (max, left) = (format_size(max), format_size(left));
            tr!("the rule takes {max} in 24 hours, and {left} of that are left", max, left)
        }
        HoldReason::Files { left } => {
            let max = accept_policy::MAX_ACCEPTED_FILES;
            tr!("a rule takes {max} files in 24 hours, and {left} of them are left", max, left)
        }
        HoldReason::Disk { free } => disk_words(free),
        HoldReason::HiddenName => tr!("its name begins with a dot"),
    }
}

/// Returns the request that fetches exactly what was announced, from its sender alone.
fn fetch_request(waiting: &IncomingSend, folder: &Path, kept_free: Option<u64>) -> FetchRequest {
    let names = vec![RequestedName::for_text(literal_text(&waiting.send))];
    let destination = FetchDestination::Folder(folder.to_owned());
    FetchRequest {
        sources: SourcePolicy::Only(Vec::new()),
        expected: Some(waiting.send.clone()),
        kept_free,
        ..FetchRequest::new(waiting.from.clone().into(), names, destination, SOURCE_TIMEOUT)
    }
}

/// Returns the text that requests a send by its name alone, whatever wildcards the name has.
fn literal_text(send: &FileSend) -> String {
    let prefix = send.name_prefix();
    // A file's own name is looked up before it is read as a pattern.
    if send.kind == SendKind::File || !prefix.contains(WILDCARDS) {
        return prefix;
    }
    let literal = |c: char| if WILDCARDS.contains(&c) { format!("[{c}]") } else { c.to_string() };
    send.name.as_str().chars().map(literal).collect()
}

async fn settle(me: &LocalUser, waiting: &IncomingSend, outcome: ReceiptOutcome) -> Result<(), Error> {
    let (profile, IncomingSend { from, id, send, .. }) = (me.profile.clone(), waiting.clone());
    let receipt = SendReceipt { id: Some(id), room: None, hash: send.hash, outcome };
    run_blocking(move || Ok(profile.settle_incoming_send(&from, id, &receipt, now_ms())?)).await.map(|_| ())
}

/// Returns the folder that takes what a user sends, unless another one is named.
pub fn default_accept_folder(from: &UserName) -> Option<PathBuf> {
    // As a file name: a user's name may have letters that no folder takes.
    let name = FileName::from_raw(format!("From-{from}").as_bytes()).ok()?;
    Some(std::env::home_dir()?.join(name.as_str()))
}
