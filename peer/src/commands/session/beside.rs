//! What is done beside a view, because it takes its time.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use shared::peer::ChatMessage;
use shared::tracker::{ErrorCode, Request, Whois, WhoisReply};
use shared::{FileName, UserName};
use tokio::sync::mpsc;

use super::super::background_fetch::FromFetch;
use super::super::paths as written;
use crate::engine::chat::{self, StoredMessage};
use crate::engine::event::{Course, Transfer, TransferState};
use crate::engine::{Error, Me, blocking, browse, contacts, offers, search};
use crate::net::TrackerError;
use crate::ui::News;

/// Between two tellings of how far a file is hashed, and before the first.
const TELL_HASHING: Duration = Duration::from_millis(200);
/// Of those that are like it, so many are named.
const SUGGESTED: usize = 3;

/// What came of it.
pub(super) enum Done {
    News(News),
    /// Files are among what somebody may get, and they are to be told so; or not.
    Offered {
        number: u64,
        to: UserName,
        offered: Result<Vec<FileName>, Error>,
    },
    /// A message is stored, or not.
    Stored {
        message: ChatMessage,
        stored: Result<StoredMessage, Error>,
    },
    Nothing,
}

/// Stores a message of ours, which the next node sends.
pub(super) async fn store(me: Me, to: UserName, message: ChatMessage) -> Done {
    let stored = chat::store_ours(&me, &to, message.clone(), |_| {}).await;
    Done::Stored { message, stored }
}

/// What somebody shares, by asking them.
pub(super) async fn files(me: Me, of: UserName, start: String) -> Done {
    let found = async {
        let target = contacts::find(&me, &of).await?;
        let entries = browse::files(&me, &target, &start).await?;
        Ok::<_, Error>(entries.into_iter().flatten().collect())
    };
    Done::News(match found.await {
        Ok(files) => News::Files { of, start, files },
        Err(error) => News::Problem(error.to_string()),
    })
}

/// Puts files among what somebody may get, and tells how far they are hashed if that takes its time.
pub(super) async fn offer(
    me: Me,
    number: u64,
    to: UserName,
    paths: Vec<PathBuf>,
    tell: mpsc::UnboundedSender<FromFetch>,
) -> Done {
    let user = to.clone();
    let put = blocking(move || {
        let paths: Vec<PathBuf> = paths.iter().map(|path| written::expanded(path)).collect();
        if let Some(warning) = offers::warning(&me.profile, &user)? {
            // The view is gone when nobody listens.
            let _ = tell.send(FromFetch::Problem(warning));
        }
        let mut hashing = Hashing::of(&user, &paths, tell);
        offers::put(&me.profile, &user, &paths, None, &mut |bytes| {
            hashing.goes_on(bytes);
            ControlFlow::Continue(())
        })
    });
    let offered = put.await.map(|offered| offered.into_iter().map(|offer| offer.name).collect());
    Done::Offered { number, to, offered }
}

/// How far files are hashed.
struct Hashing {
    /// Nothing when it can't be named.
    all: Option<Transfer>,
    told: Option<Instant>,
    tell: mpsc::UnboundedSender<FromFetch>,
}

impl Hashing {
    fn of(to: &UserName, paths: &[PathBuf], tell: mpsc::UnboundedSender<FromFetch>) -> Self {
        let name = paths.first().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
        let more = match paths.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let size = paths.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len()).sum();
        let name = name.and_then(|name| format!("{name}{more}").parse().ok());
        let (direction, state) = (Course::Up, TransferState::Running);
        let all = name.map(|name| Transfer { peer: to.clone(), name, direction, bytes: 0, size, state });
        Self { all, told: Some(Instant::now()), tell }
    }

    fn goes_on(&mut self, bytes: u64) {
        let Some(all) = &mut self.all else { return };
        all.bytes = all.bytes.saturating_add(bytes).min(all.size);
        if self.told.is_none_or(|told| told.elapsed() >= TELL_HASHING) {
            self.told = Some(Instant::now());
            // The view is gone when nobody listens.
            let _ = self.tell.send(FromFetch::Hashing(all.clone()));
        }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        if let Some(all) = self.all.take() {
            let _ = self.tell.send(FromFetch::Hashing(Transfer { state: TransferState::Done, ..all }));
        }
    }
}

/// Whether somebody has an account; the tracker knows.
pub(super) async fn account(me: Me, of: UserName) -> Done {
    match look_up(&me, &of).await {
        Ok((exists, like)) => Done::News(News::Account { of, exists, like }),
        Err(why) => {
            tracing::debug!("whether {of} has an account is not known: {why}");
            Done::Nothing
        }
    }
}

/// The same, and whose names are like it. An earlier tracker has no word on those without a key; it lists them while they
/// are online.
pub(in crate::commands) async fn look_up(me: &Me, of: &UserName) -> Result<(bool, Vec<UserName>), Error> {
    let mut tracker = me.connect_tracker().await?;
    let known: Result<WhoisReply, TrackerError> = tracker.call(&Request::Whois(Whois::User(of.clone()))).await;
    match known {
        Ok(_) => return Ok((true, Vec::new())),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    let online = search::names(&mut tracker).await?;
    if online.contains(of) {
        return Ok((true, Vec::new()));
    }
    let met = me.profile.acquaintances()?.into_iter().map(|(user, _)| user).filter(|user| user != of);
    Ok((false, like(of, online.into_iter().chain(met).collect::<BTreeSet<_>>())))
}

/// Those names that may have been meant, the likeliest first.
fn like(of: &UserName, names: impl IntoIterator<Item = UserName>) -> Vec<UserName> {
    let wrong = |name: &UserName| strsim::osa_distance(name.as_str(), of.as_str());
    let may_be = |name: &UserName| wrong(name) <= (of.as_str().len() / 3).clamp(1, 3);
    let mut like: Vec<UserName> = names.into_iter().filter(may_be).collect();
    like.sort_by_key(wrong);
    like.truncate(SUGGESTED);
    like
}

/// How a path goes on.
pub(super) async fn paths(start: String) -> Done {
    Done::News(written::complete(start).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slip_is_recognised() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<UserName>>();
        let there = names(&["alice", "bob", "carol", "caroline", "karol"]);
        let like = |of: &str| like(&of.parse().unwrap(), there.clone());
        assert_eq!(like("bbo"), names(&["bob"]));
        assert_eq!(like("carrol"), names(&["carol", "karol"]));
        assert_eq!(like("zoe"), names(&[]));
    }
}
