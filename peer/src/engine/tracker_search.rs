//! Searches at the tracker, page by page: users, and shared files.

use shared::UserName;
use shared::tracker::{
    FindReply, FindRequest, FoundFile, ListPeersReply, ListPeersRequest, ListedPeer, TrackerRequest,
};

use super::Error;
use super::peer_lookup::TrackerClient;
use crate::net::TrackerError;

/// Users or files of one page.
const PAGE_SIZE: usize = 1000;
/// Largest number of online users whose names are compared.
const MAX_COMPARED_NAMES: usize = 2000;

/// Passes the matching users to `show`, in order, at most `most`. Returns the total number of matches.
///
/// # Errors
/// [`Error::Tracker`], or the error of `show`.
pub async fn search_users(
    link: &mut impl TrackerClient,
    mut wanted: ListPeersRequest,
    most: usize,
    mut show: impl FnMut(ListedPeer) -> Result<(), Error>,
) -> Result<usize, Error> {
    let mut left = most;
    loop {
        wanted.limit = Some(left.min(PAGE_SIZE));
        let ListPeersReply { peers, total, next } = link.call(&TrackerRequest::ListPeers(wanted.clone())).await?;
        // A tracker may send more than it was asked for.
        for peer in peers.into_iter().take(left) {
            left -= 1;
            show(peer)?;
        }
        match next {
            Some(next) if left > 0 => wanted.cursor = Some(advancing_cursor(wanted.cursor.as_ref(), next)?),
            _ => return Ok(total),
        }
    }
}

/// Returns the names of the first `MAX_COMPARED_NAMES` users online.
///
/// # Errors
/// [`Error::Tracker`] if the tracker can't be asked.
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

/// Passes the matching files to `show`, ordered by user and name, at most `most`. Returns whether there are more.
///
/// # Errors
/// [`Error::Tracker`], or the error of `show`.
pub async fn search_files(
    link: &mut impl TrackerClient,
    mut wanted: FindRequest,
    most: usize,
    mut show: impl FnMut(FoundFile) -> Result<(), Error>,
) -> Result<bool, Error> {
    let mut left = most;
    loop {
        wanted.limit = Some(left.min(PAGE_SIZE));
        let FindReply { files, next } = link.call(&TrackerRequest::Find(wanted.clone())).await?;
        for file in files.into_iter().take(left) {
            left -= 1;
            show(file)?;
        }
        match next {
            Some(next) if left > 0 => wanted.cursor = Some(advancing_cursor(wanted.cursor.as_ref(), next)?),
            next => return Ok(next.is_some()),
        }
    }
}

/// Checks that a cursor advances: a faulty tracker must not keep the search going for ever.
fn advancing_cursor<T: Ord>(old: Option<&T>, new: T) -> Result<T, Error> {
    if old.is_none_or(|old| *old < new) {
        return Ok(new);
    }
    let (address, why) = ("the tracker".to_owned(), "its pages go in a circle".to_owned());
    Err(TrackerError::NotATracker { address, why }.into())
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
            let mut script = Script(vec![page(&["a1"], Some("bob/a1")), page(&[], Some(next))], Vec::new());
            assert!(matches!(found(&mut script, 9).await, Err(Error::Tracker(TrackerError::NotATracker { .. }))));
        }
    }
}
