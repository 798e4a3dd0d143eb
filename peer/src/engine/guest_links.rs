//! Links for guests, who have only a browser or curl: files that are given, and folders that take uploads.
//!
//! A link is a row of the profile. Its token is known to whoever got the link; a browser that shows it gets a session, and
//! other programs send it with each request. All functions block; the `web` layer calls them on other threads.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | links | 100 | refused when one is made |
//! | files of a link | 20,000 | left out, and named |
//! | life of a link | 1 minute to 400 days | refused when it is made |
//! | bytes that a link takes | `--max`, 10 GB unless told | the upload is refused |
//! | free space that uploads leave on the disk | 1 GiB | the upload is refused |
//! | uploads of a link | 10,000 | refused |
//! | an unfinished upload | until it is cancelled or its link ends | its part is deleted |
//! | what guests write | as in the profile's `guest_chat_bounds`, each message as long as one of chat | refused |
//! | ranges that are remembered of a delivery | 64 a file | the smallest is forgotten |

mod delivered_ranges;
mod guest_chat;
mod guest_chat_signal;
mod guest_upload;
mod link_creation;
mod link_host;
mod link_token;
mod upload_placement;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use certs::Identity;
use parking_lot::Mutex;

use self::delivered_ranges::DeliveredRanges;
use self::guest_upload::upload_disk_error;
use self::link_token::LinkSecrets;
use self::upload_placement::finish_placement;
use super::serve::GuestFileOpener;
use super::{Error, now_ms};
use crate::profile::{GuestUpload, Profile};
use crate::sys::{FolderHandle, is_process_running};

pub use self::guest_chat::{GuestChatError, GuestChatView, GuestMessageRequest, answer_guest};
pub use self::guest_chat_signal::{ChangedConversation, GuestChatChanges, GuestChatSignal};
pub use self::guest_upload::{GuestUploadError, PlacedUpload, UploadAnnouncement, UploadWriter};
pub use self::link_creation::{LinkRequest, MadeLink, make_link};
pub use self::link_host::{LinkHostHandle, LinkHostRequests, LinkService, link_host};
pub use self::link_token::{GuestSession, LinkToken};
pub use super::serve::{GuestFileFault, GuestFileReader};
pub use crate::profile::{GuestConversation, GuestFile, GuestIdentity, GuestLink, GuestMessage, GuestPost};

/// The time for which a link for one browser stays open to it after its last byte was sent: that byte may be lost.
const LAST_BYTE_GRACE_MS: i64 = 60_000;

/// The links that one process serves: those of the node, or its own. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GuestLinks {
    profile: Profile,
    secrets: LinkSecrets,
    opener: GuestFileOpener,
    /// The process, if it serves its own links alone.
    pid: Option<u32>,
    delivered: Arc<Mutex<HashMap<(i64, u32), DeliveredRanges>>>,
    /// Held while a complete upload gets its name.
    placements: Arc<Mutex<()>>,
    chat_signal: GuestChatSignal,
}

/// The means by which a request shows that it may use a link.
#[derive(Debug, Clone, Copy)]
pub enum GuestCredential<'a> {
    /// The token itself.
    Token(&'a str),
    /// The text of a session.
    Session(&'a str),
}

/// A guest who may use a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmittedGuest {
    /// The link.
    pub link: GuestLink,
    /// The browser's session; `None` for a program that sends the token.
    pub session: Option<GuestSession>,
}

impl GuestLinks {
    /// Returns the links of the node, or those that this process serves alone.
    pub fn new(profile: Profile, identity: &Identity, pid: Option<u32>) -> Self {
        let (opener, secrets) = (GuestFileOpener::new(&profile), LinkSecrets::of(identity));
        Self {
            profile,
            secrets,
            opener,
            pid,
            delivered: Arc::default(),
            placements: Arc::default(),
            chat_signal: GuestChatSignal::default(),
        }
    }

    /// Returns the same links, whose conversations are told of by this signal.
    #[must_use]
    pub fn with_chat_signal(self, chat_signal: GuestChatSignal) -> Self {
        Self { chat_signal, ..self }
    }

    /// Returns the signal of the conversations.
    pub const fn chat_signal(&self) -> &GuestChatSignal {
        &self.chat_signal
    }

    /// Returns the guest behind a request for the link `id`; `None` if there is no such link, it has ended, the credential
    /// is wrong, or it is another browser's. Nobody learns which.
    pub fn admit(&self, id: &str, credential: GuestCredential<'_>) -> Result<Option<AdmittedGuest>, Error> {
        let (found, session) = match credential {
            GuestCredential::Token(text) => (self.find_by_token(id, text)?, None),
            GuestCredential::Session(text) => match self.secrets.session(id, text) {
                Some(session) => (self.profile.guest_link_by_id(id)?, Some(session)),
                None => (None, None),
            },
        };
        let Some(link) = found.filter(|link| self.is_served(link)) else { return Ok(None) };
        if link.is_once && !self.claim(&link, session)? {
            return Ok(None);
        }
        Ok(Some(AdmittedGuest { link, session }))
    }

    /// Makes a session for a browser that shows the token of the link `id`; `None` as for [`Self::admit`].
    pub fn open_session(&self, id: &str, token: &str) -> Result<Option<(GuestLink, String)>, Error> {
        let Some(link) = self.find_by_token(id, token)?.filter(|link| self.is_served(link)) else { return Ok(None) };
        let session = GuestSession::random();
        if link.is_once && !self.claim(&link, Some(session))? {
            return Ok(None);
        }
        let text = self.secrets.session_text(&link.id, session);
        Ok(Some((link, text)))
    }

    /// Returns whether a link that was in use still is: it was not revoked, and has not ended.
    pub fn is_live(&self, link: &GuestLink) -> Result<bool, Error> {
        let now = self.profile.guest_link_by_id(&link.id)?;
        // By number as well: another link may have got the id since.
        Ok(now.is_some_and(|now| now.number == link.number && self.is_served(&now)))
    }

    /// Returns the files that a link gives.
    pub fn files(&self, link: &GuestLink) -> Result<Vec<GuestFile>, Error> {
        Ok(self.profile.guest_files(link.number)?)
    }

    /// Returns one file of a link.
    pub fn file(&self, link: &GuestLink, number: u32) -> Result<Option<GuestFile>, Error> {
        Ok(self.profile.guest_file(link.number, number)?.map(|stored| stored.file))
    }

    /// Opens a file of a link for a range within its size.
    ///
    /// # Errors
    /// [`GuestFileFault`] if it isn't the file for which the link was made.
    pub fn open_file(
        &self,
        link: &GuestLink,
        number: u32,
        range: Range<u64>,
        piece_bytes: u64,
    ) -> Result<GuestFileReader, GuestFileFault> {
        let unreadable = |why: crate::profile::ProfileError| GuestFileFault::Unreadable(why.to_string());
        let stored = self.profile.guest_file(link.number, number).map_err(unreadable)?.ok_or(GuestFileFault::Gone)?;
        self.opener.open(stored, range, piece_bytes)
    }

    /// Records that a part of a file was sent; a link for one browser ends when that has everything.
    pub fn record_delivery(&self, link: &GuestLink, file: u32, size: u64, range: Range<u64>) -> Result<(), Error> {
        if !link.is_once {
            return Ok(());
        }
        // In a block of its own: the lock isn't held while the profile is written to.
        let is_whole = {
            let mut delivered = self.delivered.lock();
            let ranges = delivered.entry((link.number, file)).or_default();
            ranges.add(range);
            ranges.is_whole(size)
        };
        if is_whole {
            self.delivered.lock().remove(&(link.number, file));
            self.profile.record_guest_delivery(link.number, file, now_ms() + LAST_BYTE_GRACE_MS)?;
        }
        Ok(())
    }

    /// Ends what has expired, and returns the time of the next end of a link that is served here, in milliseconds since
    /// 1970; `None` if there is none to serve.
    pub fn sweep(&self) -> Result<Option<i64>, Error> {
        remove_ended_links(&self.profile)?;
        let links = self.profile.guest_links()?;
        Ok(links.iter().filter(|link| self.is_served(link)).map(|link| link.expires_at).min())
    }

    fn find_by_token(&self, id: &str, text: &str) -> Result<Option<GuestLink>, Error> {
        let Some(token) = LinkToken::parse(text) else { return Ok(None) };
        // Found by its hash: how long the search takes tells nothing about the token.
        Ok(self.profile.guest_link_by_token(&token.hash())?.filter(|link| link.id == id))
    }

    fn is_served(&self, link: &GuestLink) -> bool {
        link.pid == self.pid && link.expires_at > now_ms()
    }

    fn claim(&self, link: &GuestLink, session: Option<GuestSession>) -> Result<bool, Error> {
        // All programs that send the token count as one.
        let claim = session.map_or([0; 32], |session| session.claim());
        match &link.claimed_by {
            Some(claimed) => Ok(*claimed == claim),
            None => Ok(self.profile.claim_guest_link(link.number, &claim)?),
        }
    }
}

/// Returns the links of a profile that have not ended, each with its token.
pub fn list_links(profile: &Profile, identity: &Identity) -> Result<Vec<(GuestLink, LinkToken)>, Error> {
    let (secrets, now) = (LinkSecrets::of(identity), now_ms());
    let is_live = |link: &GuestLink| link.expires_at > now && link.pid.is_none_or(is_process_running);
    let links = profile.guest_links()?.into_iter().filter(is_live);
    // Tokens are not on record, but their hashes: each is derived again.
    Ok(links.map(|link| (secrets.token(&link.nonce), link)).map(|(token, link)| (link, token)).collect())
}

/// Returns the files that a link of a profile gives.
pub fn link_files(profile: &Profile, link: &GuestLink) -> Result<Vec<GuestFile>, Error> {
    Ok(profile.guest_files(link.number)?)
}

/// Removes a link with everything that it had, and the parts of unfinished uploads.
pub fn remove_link(profile: &Profile, link: &GuestLink) -> Result<bool, Error> {
    if let Some(folder) = &link.folder {
        let uploads = profile.guest_uploads(link.number)?;
        match FolderHandle::open(folder) {
            Ok(folder) => uploads.iter().for_each(|upload| {
                if let Err(why) = end_upload(profile, &folder, upload) {
                    tracing::debug!("the part of an upload stays: {why}");
                }
            }),
            Err(why) => tracing::debug!("the parts of uploads stay: {why}"),
        }
    }
    // The record last: without it nobody would find the parts that are left.
    Ok(profile.remove_guest_link(link.number)?)
}

/// Places an upload that is complete, or removes the part of one that isn't.
fn end_upload(profile: &Profile, folder: &FolderHandle, upload: &GuestUpload) -> Result<(), GuestUploadError> {
    if !finish_placement(profile, folder, upload)? {
        folder.remove(&upload.part).map_err(|why| upload_disk_error(upload, why))?;
    }
    Ok(())
}

/// Removes the links that have expired, and those of processes that are gone.
pub fn remove_ended_links(profile: &Profile) -> Result<(), Error> {
    let now = now_ms();
    for link in profile.guest_links()? {
        // A process that is killed doesn't end its links itself.
        if link.expires_at <= now || link.pid.is_some_and(|pid| !is_process_running(pid)) {
            remove_link(profile, &link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    pub(super) fn request(paths: &[&Path]) -> LinkRequest {
        LinkRequest {
            paths: paths.iter().map(|path| path.to_path_buf()).collect(),
            folder: None,
            max_bytes: 1000,
            is_once: false,
            has_chat: false,
            lifetime: Duration::from_secs(3600),
            pid: None,
        }
    }

    struct Case {
        profile: Profile,
        identity: Identity,
        links: GuestLinks,
        home: tempfile::TempDir,
    }

    fn case() -> Case {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("profile")).unwrap();
        let identity = Identity::generate().unwrap();
        let links = GuestLinks::new(profile.clone(), &identity, None);
        std::fs::create_dir(home.path().join("files")).unwrap();
        std::io::Write::write_all(&mut std::fs::File::create(home.path().join("files/a")).unwrap(), b"abc").unwrap();
        std::fs::File::create(home.path().join("files/b")).unwrap();
        Case { profile, identity, links, home }
    }

    impl Case {
        fn make(&self, change: impl FnOnce(&mut LinkRequest)) -> MadeLink {
            let mut request = request(&[&self.home.path().join("files")]);
            change(&mut request);
            make_link(&self.profile, &self.identity, &request, &mut |_| ControlFlow::Continue(())).unwrap()
        }
    }

    #[test]
    fn a_link_admits_by_its_token_and_by_sessions_until_it_ends() {
        let case = case();
        let (made, other) = (case.make(|_| {}), case.make(|_| {}));
        let (id, token) = (made.link.id.as_str(), made.token.text());
        let by_token = |id: &str, token: &str| case.links.admit(id, GuestCredential::Token(token)).unwrap();
        let admitted = by_token(id, &token).unwrap();
        assert_eq!((admitted.link.number, admitted.session), (made.link.number, None));
        let files = case.links.files(&admitted.link).unwrap();
        assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["files/a", "files/b"]);
        assert_eq!(files[0].crc, 0x3524_41c2);
        for (id, token) in [(id, other.token.text()), (&*other.link.id, token.clone()), (id, String::new())] {
            assert_eq!(by_token(id, &token), None);
            assert!(case.links.open_session(id, &token).unwrap().is_none());
        }
        let (_, session) = case.links.open_session(id, &token).unwrap().unwrap();
        let by_session = |id: &str| case.links.admit(id, GuestCredential::Session(&session)).unwrap();
        assert!(by_session(id).unwrap().session.is_some());
        assert_eq!(by_session(&other.link.id), None);
        assert!(case.links.is_live(&made.link).unwrap());
        assert!(remove_link(&case.profile, &made.link).unwrap());
        assert!(!case.links.is_live(&made.link).unwrap());
        assert_eq!((by_session(id), by_token(id, &token)), (None, None));
        assert_eq!(case.links.sweep().unwrap(), Some(other.link.expires_at));
        let listed = list_links(&case.profile, &case.identity).unwrap();
        assert_eq!(listed.len(), 1);
        assert!(listed[0].1 == other.token, "its token is known again");
    }

    #[test]
    fn a_link_for_one_is_for_the_first_browser_until_it_has_everything() {
        let case = case();
        let made = case.make(|request| request.is_once = true);
        let (id, token) = (made.link.id.as_str(), made.token.text());
        let (link, session) = case.links.open_session(id, &token).unwrap().unwrap();
        assert!(case.links.open_session(id, &token).unwrap().is_none(), "another browser");
        assert_eq!(case.links.admit(id, GuestCredential::Token(&token)).unwrap(), None);
        assert!(case.links.admit(id, GuestCredential::Session(&session)).unwrap().is_some());
        let end = |case: &Case| case.profile.guest_link_by_id(id).unwrap().unwrap().expires_at;
        case.links.record_delivery(&link, 0, 3, 2..3).unwrap();
        case.links.record_delivery(&link, 0, 3, 0..2).unwrap();
        assert_eq!(end(&case), made.link.expires_at);
        case.links.record_delivery(&link, 1, 0, 0..0).unwrap();
        assert!(end(&case) <= now_ms() + LAST_BYTE_GRACE_MS);
    }

    #[test]
    fn the_links_of_a_process_are_its_own_and_end_with_it() {
        let case = case();
        let made = case.make(|request| request.pid = Some(std::process::id()));
        let token = made.token.text();
        assert_eq!(case.links.admit(&made.link.id, GuestCredential::Token(&token)).unwrap(), None);
        let own = GuestLinks::new(case.profile.clone(), &case.identity, Some(std::process::id()));
        assert!(own.admit(&made.link.id, GuestCredential::Token(&token)).unwrap().is_some());
        // Higher than Linux gives.
        let gone = case.make(|request| request.pid = Some(i32::MAX.unsigned_abs()));
        assert_eq!(list_links(&case.profile, &case.identity).unwrap().len(), 1);
        own.sweep().unwrap();
        assert_eq!(case.profile.guest_link_by_id(&gone.link.id).unwrap(), None);
    }
}
