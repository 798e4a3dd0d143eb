//! The text of LIST_PEERS.
//!
//! The plain list is cached ([`super::peer_list_cache`]) and sent without being copied; in plaintext and in the `cmd`
//! dialect it is a short one ([`super::bounded_list`]). Lists with a filter, a page or without files are made for the
//! requester, in pieces between which others have their turn.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use shared::tracker::{ListPeersRequest, ListedPeer};
use shared::{Fingerprint, UserName};

use super::{PresenceRegistry, PresentUser};
use crate::catalogue::FileList;
use crate::catalogue::byte_counter::ByteCounter;
use crate::catalogue::file_list::FileListText;
use crate::catalogue::json_text::{push_json, write_count};
use crate::rate_limits::ClientOrigin;

/// The fields of a LIST_PEERS reply without the braces: `"peers":[...],"total":n`, and `,"next":"user"` when there is
/// more. Replies may share the parts.
pub type PeerListText = Arc<[Bytes]>;

/// The format of a list of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListView {
    /// Every field of every entry.
    Full,
    /// Only non-empty fields, and neither addresses nor keys: for plaintext connections.
    Compact,
    /// The exercise's format: an object with one field a user.
    Cmd,
}

/// Users looked at for a page in one hold of the lock.
const USERS_PER_BATCH: usize = 256;
/// A page ends at about this size.
const MAX_PAGE_BYTES: usize = 256 * 1024;
/// Longer lists of files are not copied into a page.
const MAX_COPIED_BYTES: usize = 16 * 1024;

/// One present user's entry and files.
#[derive(Debug)]
pub struct PeerSnapshot {
    /// The account.
    pub user: UserName,
    head: Vec<u8>,
    files: FileList,
}

/// A page under construction.
#[derive(Debug)]
pub struct PeerListPage {
    view: ListView,
    parts: Vec<Bytes>,
    text: Vec<u8>,
    /// Counts the texts made for this page.
    counter: ByteCounter,
    /// Bytes made for this page alone that are in `parts` already.
    flushed_bytes: usize,
    users: usize,
    total: usize,
    /// The last user on the page.
    last: Option<UserName>,
    is_full: bool,
    has_more: bool,
    /// The last user looked at, where the next piece continues.
    looked_at: Option<UserName>,
}

impl PresenceRegistry {
    /// Returns the next present users by name after `after`; empty at the end.
    pub fn peers_after(&self, after: Option<&UserName>) -> Vec<PeerSnapshot> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.present.range::<UserName, _>((begin, Bound::Unbounded)).take(USERS_PER_BATCH);
        let snapshot = |(user, present): (&UserName, &PresentUser)| PeerSnapshot {
            user: user.clone(),
            head: present.head.clone(),
            files: present.files.clone(),
        };
        users.map(snapshot).collect()
    }

    /// Returns all present users with files.
    #[cfg(test)]
    pub(super) fn peers(&self) -> Vec<ListedPeer> {
        let all = std::iter::successors(Some(self.peers_after(None)), |some| {
            Some(self.peers_after(Some(&some.last()?.user)))
        });
        let entry = |peer: PeerSnapshot| Some(ListedPeer { files: peer.files.to_list(), ..peer.entry()? });
        all.flatten().filter_map(entry).collect()
    }

    /// Returns the plain list of all users with files. New texts are charged to this requester.
    pub fn plain_list(&mut self, requester: ClientOrigin) -> PeerListText {
        self.full_list.list(&self.present, &self.quota.text_counter(requester))
    }

    /// Returns the requested list if it needs no page. In plaintext it has at most `room` bytes as long as all entries
    /// fit; in the `cmd` dialect it always has.
    pub fn ready_list(
        &mut self,
        view: ListView,
        wanted: &ListPeersRequest,
        room: usize,
        requester: ClientOrigin,
    ) -> Option<PeerListText> {
        let with_files = wanted.with_files != Some(false);
        match view {
            ListView::Full => wanted.is_complete_listing().then(|| self.plain_list(requester)),
            // Whoever asks for files gets all of them in pages: the short list leaves out those that don't fit.
            ListView::Compact | ListView::Cmd if wanted.with_files == Some(true) || !wanted.is_unfiltered() => None,
            ListView::Compact => Some(self.compact_list(room, with_files, requester)),
            ListView::Cmd => Some(self.cmd_list(room, with_files)),
        }
    }

    /// Returns all users, with as many files as fit.
    fn compact_list(&mut self, room: usize, with_files: bool, requester: ClientOrigin) -> PeerListText {
        let (begin, end) = (ListView::Compact.opening(), ListView::Compact.ending(Some(self.present.len())));
        let room = room.saturating_sub(begin.len() + end.len());
        // A cheap bound first: a short list of thousands of users would be made in vain.
        if self.can_fit(room) {
            let list = self.bounded_list(ListView::Compact, room, with_files);
            if list.users == self.present.len() {
                return [[begin, &list.text, &end].concat().into()].into();
            }
        }
        self.compact_list.list(&self.present, &self.quota.text_counter(requester))
    }

    /// Returns as many of the latest logins as fit, origins in turn, and their files.
    fn cmd_list(&self, room: usize, with_files: bool) -> PeerListText {
        let total = self.present.len();
        let list_with = |end: Vec<u8>| {
            let begin = ListView::Cmd.opening();
            let list = self.bounded_list(ListView::Cmd, room.saturating_sub(begin.len() + end.len()), with_files);
            ([begin, &list.text, &end].concat(), list.users)
        };
        let (mut text, users) = list_with(ListView::Cmd.ending(None));
        // Only an incomplete list says how many there are: the field takes space from it, so the list is made again.
        if users < total {
            (text, _) = list_with(ListView::Cmd.ending(Some(total)));
        }
        [text.into()].into()
    }

    /// Looks at more users for `page`. Returns whether there are more to look at.
    pub fn add_to_page(&self, wanted: &ListPeersRequest, page: &mut PeerListPage) -> bool {
        let is_filtered = wanted.name.is_some() || wanted.hash.is_some();
        if wanted.user.is_none() && !is_filtered {
            // Anew for each piece: users come and go between them.
            page.total = self.present.len();
        }
        let begin = match (&wanted.user, &page.looked_at, &wanted.cursor) {
            (Some(user), _, _) => Bound::Included(user.clone()),
            (None, Some(behind), _) => Bound::Excluded(behind.clone()),
            // A filtered list's `total` counts all matches, those on earlier pages as well.
            (None, None, Some(cursor)) if !is_filtered => Bound::Excluded(cursor.clone()),
            (None, None, _) => Bound::Unbounded,
        };
        let end = wanted.user.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let before = page.len();
        for (looked_at, (user, present)) in self.present.range::<UserName, _>((begin.as_ref(), end)).enumerate() {
            // Either bound ends the hold of the lock, which is meant to last microseconds.
            if looked_at == USERS_PER_BATCH || page.len() - before > MAX_PAGE_BYTES {
                return true;
            }
            page.looked_at = Some(user.clone());
            page.add_if_matching(user, present, wanted);
            // A filtered list goes on after the page is full, only to count the matches.
            if page.has_more && !is_filtered {
                return false;
            }
        }
        false
    }
}

impl PeerSnapshot {
    /// Parses the entry, without its files. `None` only for text that this module didn't write.
    pub fn entry(&self) -> Option<ListedPeer> {
        serde_json::from_slice(&[self.head.as_slice(), b"[]}"].concat()).ok()
    }

    /// Returns the JSON list of the files in pieces.
    pub fn files(&self) -> impl Iterator<Item = Bytes> {
        self.files.text()
    }
}

impl ListView {
    /// Returns an entry up to its list of files.
    pub(super) fn head<'a>(self, user: &UserName, present: &'a PresentUser) -> Cow<'a, [u8]> {
        let mut head = match self {
            Self::Full => return Cow::Borrowed(&present.head),
            Self::Compact => b"{\"user\":".to_vec(),
            Self::Cmd => Vec::with_capacity(128),
        };
        push_json(&mut head, user);
        head.extend_from_slice(if self == Self::Cmd { b":{\"connection\":{\"ip\":" } else { b",\"ip\":" });
        push_json(&mut head, &present.ip);
        match (self, present.port) {
            // The exercise's clients need a number, and take 0 for none.
            (Self::Cmd, port) => {
                head.extend_from_slice(b",\"porta\":");
                push_json(&mut head, &port.unwrap_or(0));
                head.extend_from_slice(b",\"login_time\":");
                push_json(&mut head, &present.at.text());
                head.push(b'}');
            }
            (Self::Full | Self::Compact, Some(port)) => {
                head.extend_from_slice(b",\"port\":");
                push_json(&mut head, &port);
            }
            (Self::Full | Self::Compact, None) => {}
        }
        head.into()
    }

    /// Returns the text between an entry's head and its list of files; `None` when an empty list isn't written.
    pub(super) const fn list_opening(self, is_empty: bool) -> Option<&'static [u8]> {
        match self {
            Self::Full => Some(b""),
            Self::Compact if is_empty => None,
            Self::Compact | Self::Cmd => Some(b",\"files\":"),
        }
    }

    /// Returns the text of an empty list of files.
    pub(super) const fn empty_list(self) -> &'static [u8] {
        match self {
            Self::Full => b"[]",
            Self::Compact => b"",
            Self::Cmd => b",\"files\":[]",
        }
    }

    const fn opening(self) -> &'static [u8] {
        match self {
            Self::Full | Self::Compact => b"\"peers\":[",
            Self::Cmd => b"\"peers\":{",
        }
    }

    fn ending(self, total: Option<usize>) -> Vec<u8> {
        let mut text = if self == Self::Cmd { b"}".to_vec() } else { b"]".to_vec() };
        if let Some(total) = total {
            text.extend_from_slice(b",\"total\":");
            push_json(&mut text, &total);
        }
        text
    }
}

impl PeerListPage {
    /// Creates an empty page, whose texts are counted in `counter`.
    pub(super) fn new(view: ListView, counter: ByteCounter) -> Self {
        Self {
            view,
            parts: Vec::new(),
            text: view.opening().to_vec(),
            counter,
            flushed_bytes: 0,
            users: 0,
            total: 0,
            last: None,
            is_full: false,
            has_more: false,
            looked_at: None,
        }
    }

    /// Completes the page.
    pub fn finish(mut self) -> PeerListText {
        self.text.extend_from_slice(&self.view.ending(Some(self.total)));
        if let Some(next) = self.last.filter(|_| self.has_more) {
            self.text.extend_from_slice(b",\"next\":");
            push_json(&mut self.text, &next);
        }
        self.parts.push(self.counter.counted_text(self.text));
        self.parts.into()
    }

    fn len(&self) -> usize {
        self.flushed_bytes + self.text.len()
    }

    fn add_if_matching(&mut self, user: &UserName, present: &PresentUser, wanted: &ListPeersRequest) {
        let is_shown = !self.is_full && wanted.cursor.as_ref().is_none_or(|cursor| user > cursor);
        let Some((files, count)) = shown_files(&present.files, wanted, is_shown) else { return };
        // Without a filter the total is known from the start.
        if wanted.user.is_some() || wanted.name.is_some() || wanted.hash.is_some() {
            self.total += 1;
        }
        if !is_shown {
            self.has_more |= self.is_full;
            return;
        }
        // With a limit of 0 there would be no end of pages.
        if self.users >= wanted.limit.unwrap_or(usize::MAX).max(1) || self.len() > MAX_PAGE_BYTES {
            (self.is_full, self.has_more) = (true, true);
            return;
        }
        self.push(&self.view.head(user, present), files, count);
        self.last = Some(user.clone());
    }

    fn push(&mut self, head: &[u8], files: Vec<Bytes>, count: Option<usize>) {
        if self.users > 0 {
            self.text.push(b',');
        }
        self.users += 1;
        self.text.extend_from_slice(head);
        let bytes = files.iter().map(Bytes::len).sum::<usize>();
        if let Some(opening) = self.view.list_opening(bytes <= "[]".len()) {
            self.text.extend_from_slice(opening);
            if bytes > MAX_COPIED_BYTES {
                // Long lists of files stay shared with their users and are no part of `flushed_bytes`.
                self.flushed_bytes += self.text.len();
                self.parts.push(self.counter.counted_text(std::mem::take(&mut self.text)));
                self.parts.extend(files);
            } else {
                files.iter().for_each(|part| self.text.extend_from_slice(part));
            }
        }
        if let Some(count) = count.filter(|count| *count > 0 || self.view == ListView::Full) {
            write_count(&mut self.text, count);
        }
        self.text.push(b'}');
    }
}

/// Returns the text of a user's files to show, and their number if not all are shown; `None` when the user doesn't
/// match. Unless `is_shown`, the text is arbitrary.
fn shown_files(files: &FileList, wanted: &ListPeersRequest, is_shown: bool) -> Option<(Vec<Bytes>, Option<usize>)> {
    const NONE: Bytes = Bytes::from_static(b"[]");
    let with_files = is_shown && wanted.with_files != Some(false);
    if wanted.name.is_some() || wanted.hash.is_some() {
        let FileListText { text, listed, count } =
            files.matching(wanted.name.as_ref(), wanted.hash.as_ref(), with_files)?;
        return Some((vec![text], (listed < count).then_some(count)));
    }
    Some(if with_files { (files.text().collect(), None) } else { (vec![NONE], Some(files.len())) })
}

/// Returns a peer's entry up to its list of files.
pub(super) fn entry_head(
    user: &UserName,
    ip: IpAddr,
    port: Option<u16>,
    addresses: &[SocketAddr],
    fingerprint: Option<Fingerprint>,
) -> Vec<u8> {
    let (user, addresses) = (user.clone(), addresses.to_vec());
    let entry = ListedPeer { user, ip, port, addresses, fingerprint, files: Vec::new(), file_count: None };
    let mut head = to_json(&entry);
    // The entry was made without files: the empty list and the closing brace are cut off.
    head.truncate(head.len().saturating_sub("[]}".len()));
    head
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    push_json(&mut text, value);
    text
}
