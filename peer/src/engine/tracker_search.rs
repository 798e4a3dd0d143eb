//! Searches at the tracker, page by page: users, shared files, and rooms.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a page before the last | one entry at least, and a cursor behind the one before | the search fails |
//! | users in all pages | 100,000, and no more than the caller wants | the search fails |
//! | rooms in all pages | 10,000 | the search fails |
//! | time for all pages | 300 s | the search fails |

use std::time::Duration;

use localization::tr;
use shared::tracker::room_reply::{ListedRoom, RoomListReply};
use shared::tracker::room_request::RoomRequest;
use shared::tracker::{
    FindReply, FindRequest, FoundFile, ListPeersReply, ListPeersRequest, ListedPeer, TrackerRequest,
};
use shared::{RoomName, UserName};
use tokio::time::{Instant, timeout_at};

use super::Error;
use super::peer_lookup::TrackerClient;
use crate::net::TrackerError;
use crate::util::TranslatedText;

/// Users or files of one page.
const PAGE_SIZE: usize = 1000;
/// Users taken at most, whoever is wanted; a local network has fewer.
const MAX_USERS: usize = 100_000;
/// Rooms taken at most; a tracker keeps 1,000.
const MAX_LISTED_ROOMS: usize = 10_000;
/// Time for all pages of a search: a million files come in less.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest number of online users whose names are compared.
const MAX_COMPARED_NAMES: usize = 2000;

/// Passes the matching users to `show`, in order, at most `most`. Returns the total number of matches. Fails with
/// [`Error::Tracker`], or the error of `show`.
pub async fn search_users(
    link: &mut impl TrackerClient,
    mut wanted: ListPeersRequest,
    most: usize,
    mut show: impl FnMut(ListedPeer) -> Result<(), Error>,
) -> Result<usize, Error> {
    let (mut left, pages) = (most.min(MAX_USERS), PageProgress::new());
    loop {
        wanted.limit = Some(left.min(PAGE_SIZE));
        let request = TrackerRequest::ListPeers(wanted.clone());
        let ListPeersReply { peers, total, next } = pages.read(link.call(&request)).await?;
        let is_empty = peers.is_empty();
        // A tracker may send more than it was asked for.
        for peer in peers.into_iter().take(left) {
            left -= 1;
            show(peer)?;
        }
        match next {
            Some(next) if left > 0 => wanted.cursor = Some(pages.advance(wanted.cursor.as_ref(), next, is_empty)?),
            Some(_) if most > MAX_USERS => {
                return Err(endless(|| tr!("it lists more than {limit} users", limit = MAX_USERS)));
            }
            _ => return Ok(total),
        }
    }
}

/// Returns the names of the first `MAX_COMPARED_NAMES` users online. Fails with [`Error::Tracker`] if the tracker can't
/// be asked.
pub async fn online_names(link: &mut impl TrackerClient) -> Result<Vec<UserName>, Error> {
    let wanted = ListPeersRequest { with_files: Some(false), ..ListPeersRequest::default() };
    let mut names = Vec::new();
    search_users(link, wanted, MAX_COMPARED_NAMES, |peer| {
        names.push(peer.user);
        Ok(())
    })
    .await?;
    Ok(names)
}

/// Passes the matching files to `show`, ordered by user and name, at most `most`. Returns whether there are more. Fails
/// with [`Error::Tracker`], or the error of `show`.
pub async fn search_files(
    link: &mut impl TrackerClient,
    mut wanted: FindRequest,
    most: usize,
    mut show: impl FnMut(FoundFile) -> Result<(), Error>,
) -> Result<bool, Error> {
    let (mut left, pages) = (most, PageProgress::new());
    loop {
        wanted.limit = Some(left.min(PAGE_SIZE));
        let request = TrackerRequest::Find(wanted.clone());
        let FindReply { files, next } = pages.read(link.call(&request)).await?;
        let is_empty = files.is_empty();
        // A tracker may send more than it was asked for.
        for file in files.into_iter().take(left) {
            left -= 1;
            show(file)?;
        }
        match next {
            Some(next) if left > 0 => wanted.cursor = Some(pages.advance(wanted.cursor.as_ref(), next, is_empty)?),
            next => return Ok(next.is_some()),
        }
    }
}

/// Passes rooms to `show`, ordered by name in any case of letters, those behind `cursor`, until it returns false. Fails
/// with [`Error::Tracker`].
pub async fn search_rooms(
    link: &mut impl TrackerClient,
    mut cursor: Option<RoomName>,
    mut show: impl FnMut(ListedRoom) -> bool,
) -> Result<(), Error> {
    let (mut seen, pages) = (0, PageProgress::new());
    // Trackers list rooms by name, whatever the case of its letters.
    let in_order = |name: &RoomName| name.as_str().to_ascii_lowercase();
    loop {
        let request = TrackerRequest::Room(RoomRequest::List { limit: None, cursor: cursor.clone() });
        let RoomListReply { rooms, next } = pages.read(link.call(&request)).await?;
        let is_empty = rooms.is_empty();
        seen += rooms.len();
        for room in rooms {
            if !show(room) {
                return Ok(());
            }
        }
        let Some(next) = next else { return Ok(()) };
        if seen > MAX_LISTED_ROOMS {
            return Err(endless(|| tr!("it lists more than {limit} rooms", limit = MAX_LISTED_ROOMS)));
        }
        pages.advance(cursor.as_ref().map(in_order).as_ref(), in_order(&next), is_empty)?;
        cursor = Some(next);
    }
}

/// The progress of a search through its pages: a hostile tracker must not keep it going for ever.
struct PageProgress {
    deadline: Instant,
}

impl PageProgress {
    fn new() -> Self {
        Self { deadline: Instant::now() + SEARCH_TIMEOUT }
    }

    /// Waits for a page, no longer than until the end of the search.
    async fn read<T>(&self, page: impl Future<Output = Result<T, TrackerError>>) -> Result<T, Error> {
        let page = timeout_at(self.deadline, page).await;
        let late = || tr!("its pages don't end within {seconds} s", seconds = SEARCH_TIMEOUT.as_secs());
        Ok(page.map_err(|_| endless(late))??)
    }

    /// Returns the cursor of the next page if it leads further.
    fn advance<T: Ord>(&self, old: Option<&T>, new: T, is_empty: bool) -> Result<T, Error> {
        match old {
            // Only the last page of a tracker may be empty.
            _ if is_empty => Err(endless(|| tr!("a page is empty, and is not the last"))),
            Some(old) if *old >= new => Err(endless(|| tr!("its pages go in a circle"))),
            // Pages may come without a wait between them, which a timeout alone would not notice.
            _ if Instant::now() >= self.deadline => Err(endless(|| tr!("its pages don't end"))),
            _ => Ok(new),
        }
    }
}

fn endless(why: impl Fn() -> String) -> Error {
    TrackerError::NotATracker { address: tr!("address" => "the tracker"), why: TranslatedText::new(why) }.into()
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use shared::tracker::{FindCriterion, SearchWords};

    use super::*;

    /// Gives out these replies, one after another, and keeps the requests.
    struct Script(Vec<Value>, Vec<Value>);

    impl TrackerClient for Script {
        async fn call<T: DeserializeOwned + Send>(&mut self, request: &TrackerRequest) -> Result<T, TrackerError> {
            self.1.push(serde_json::to_value(request).unwrap());
            Ok(serde_json::from_value(self.0.remove(0)).unwrap())
        }

        fn local_address(&self) -> Option<std::net::SocketAddr> {
            None
        }
    }

    fn page(names: &[&str], next: Option<&str>) -> Value {
        let file = |name: &&str| json!({ "user": "bob", "name": name, "size": 1, "hash": "h" });
        json!({ "files": names.iter().map(file).collect::<Vec<_>>(), "next": next })
    }

    fn wanted() -> FindRequest {
        FindRequest { criterion: FindCriterion::Words(SearchWords::new("a").unwrap()), limit: None, cursor: None }
    }

    async fn found(script: &mut Script, most: usize) -> Result<(Vec<String>, bool), Error> {
        let mut names = Vec::new();
        let more = search_files(script, wanted(), most, |file| {
            names.push(file.name.as_str().to_owned());
            Ok(())
        })
        .await?;
        Ok((names, more))
    }

    #[tokio::test]
    async fn pages_are_joined_up_to_what_is_wanted() {
        let pages = || vec![page(&["a1", "a2"], Some("bob/a2")), page(&["a3"], None)];
        let mut script = Script(pages(), Vec::new());
        assert_eq!(
            found(&mut script, usize::MAX).await.unwrap(),
            (["a1", "a2", "a3"].map(str::to_owned).into(), false)
        );
        assert_eq!(script.1[1]["cursor"], "bob/a2");
        let mut script = Script(pages(), Vec::new());
        assert_eq!(found(&mut script, 2).await.unwrap(), (["a1", "a2"].map(str::to_owned).into(), true));
        assert_eq!((script.1.len(), &script.1[0]["limit"]), (1, &json!(2)));
        // A tracker that sends more than it was asked for.
        let mut script = Script(pages(), Vec::new());
        assert_eq!(found(&mut script, 1).await.unwrap(), (vec!["a1".to_owned()], true));
    }

    #[tokio::test]
    async fn a_tracker_can_t_lead_in_a_circle() {
        for next in ["bob/a1", "bob/a0", "abe/z"] {
            let mut script = Script(vec![page(&["a1"], Some("bob/a1")), page(&["a2"], Some(next))], Vec::new());
            assert!(matches!(found(&mut script, 9).await, Err(Error::Tracker(TrackerError::NotATracker { .. }))));
        }
    }
    #[tokio::test]
    async fn an_empty_page_with_another_behind_it_is_refused() {
        let mut script = Script(vec![page(&["a1"], Some("bob/a1")), page(&[], Some("bob/a2"))], Vec::new());
        let error = found(&mut script, 9).await.unwrap_err();
        assert!(error.to_string().contains("a page is empty"), "{error}");
    }

    /// Gives out one more entry and a new cursor for ever, each page after this time.
    struct Endless(Duration, u32);

    impl TrackerClient for Endless {
        async fn call<T: DeserializeOwned + Send>(&mut self, request: &TrackerRequest) -> Result<T, TrackerError> {
            tokio::time::sleep(self.0).await;
            self.1 += 1;
            let name = format!("u{:09}", self.1);
            let peer = json!({ "user": name, "ip": "10.0.0.1", "port": 1, "fingerprint": null, "files": [] });
            let reply = match request {
                TrackerRequest::Find(_) => page(&[&name], Some(&format!("bob/{name}"))),
                _ => json!({ "peers": [peer], "total": 1, "next": name }),
            };
            Ok(serde_json::from_value(reply).unwrap())
        }

        fn local_address(&self) -> Option<std::net::SocketAddr> {
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ever_new_cursors_end() {
        let mut seen = 0;
        let count = |_| {
            seen += 1;
            Ok(())
        };
        let error = search_files(&mut Endless(Duration::from_secs(40), 0), wanted(), usize::MAX, count).await;
        assert!(error.unwrap_err().to_string().contains("don't end within 300 s"));
        assert_eq!(seen, 7);
        let mut seen = 0;
        let count = |_| {
            seen += 1;
            Ok(())
        };
        let mut endless = Endless(Duration::ZERO, 0);
        let all = search_users(&mut endless, ListPeersRequest::default(), usize::MAX, count).await;
        assert!(all.unwrap_err().to_string().contains("more than 100000 users"));
        assert_eq!(seen, MAX_USERS);
    }
}
