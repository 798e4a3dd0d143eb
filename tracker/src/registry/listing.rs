//! The text of LIST_PEERS. Each user's part is kept ready, so that the plain list is their concatenation.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;
use shared::tracker::{ListPeers, PeerEntry};
use shared::{Fingerprint, UserName};

use super::{Files, Present, Registry};

impl Registry {
    /// The fields of a LIST_PEERS reply: `"peers":[...],"total":n`, and `,"next":"user"` when there is more.
    pub fn list(&mut self, wanted: &ListPeers) -> Arc<[u8]> {
        let ListPeers { user, name, hash, limit, cursor, with_files } = wanted;
        let plain = user.is_none() && name.is_none() && hash.is_none() && limit.is_none() && cursor.is_none();
        if plain && *with_files != Some(false) {
            return self.plain_list();
        }
        self.filtered_list(wanted).into()
    }

    /// Everybody who is present, with files.
    pub fn peers(&self) -> Vec<PeerEntry> {
        let entry = |present: &Present| {
            let head = [present.head.as_slice(), b"[]}"].concat();
            let entry: PeerEntry = serde_json::from_slice(&head).ok()?;
            Some(PeerEntry { files: present.files.to_list(), ..entry })
        };
        self.present.values().filter_map(entry).collect()
    }

    fn plain_list(&mut self) -> Arc<[u8]> {
        if let Some(ready) = &self.listing {
            return Arc::clone(ready);
        }
        let size: usize =
            self.present.values_mut().map(|present| present.head.len() + present.files.text().len()).sum();
        let mut page = Page::new(size + self.present.len() * 2 + 40);
        for present in self.present.values_mut() {
            page.push(&present.head, present.files.text());
        }
        let text: Arc<[u8]> = page.end(self.present.len(), None).into();
        self.listing = Some(Arc::clone(&text));
        text
    }

    fn filtered_list(&mut self, wanted: &ListPeers) -> Vec<u8> {
        let range = match &wanted.user {
            Some(user) => (Bound::Included(user), Bound::Included(user)),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let limit = wanted.limit.unwrap_or(usize::MAX);
        let (mut page, mut on_page, mut total) = (Page::new(256), 0, 0);
        let (mut last, mut next) = (None, None);
        for (user, present) in self.present.range_mut::<UserName, _>(range) {
            let Some(files) = shown_files(&mut present.files, wanted) else { continue };
            total += 1;
            if wanted.cursor.as_ref().is_some_and(|cursor| user <= cursor) {
                continue;
            }
            if on_page < limit {
                page.push(&present.head, &files);
                on_page += 1;
                last = Some(user.clone());
            } else if next.is_none() {
                next.clone_from(&last);
            }
        }
        page.end(total, next.as_ref())
    }
}

/// The list of a user's files to show; `None` when the user is not asked for.
fn shown_files<'a>(files: &'a mut Files, wanted: &ListPeers) -> Option<Cow<'a, [u8]>> {
    let shown = wanted.with_files != Some(false);
    if wanted.name.is_some() || wanted.hash.is_some() {
        let text = files.matching_text(wanted.name.as_ref(), wanted.hash.as_ref())?;
        return Some(if shown { text.into() } else { b"[]".into() });
    }
    Some(if shown { files.text().as_ref().into() } else { b"[]".into() })
}

struct Page {
    text: Vec<u8>,
    empty: bool,
}

impl Page {
    fn new(capacity: usize) -> Self {
        let mut text = Vec::with_capacity(capacity);
        text.extend_from_slice(b"\"peers\":[");
        Self { text, empty: true }
    }

    fn push(&mut self, head: &[u8], files: &[u8]) {
        if !self.empty {
            self.text.push(b',');
        }
        self.empty = false;
        self.text.extend_from_slice(head);
        self.text.extend_from_slice(files);
        self.text.push(b'}');
    }

    fn end(mut self, total: usize, next: Option<&UserName>) -> Vec<u8> {
        self.text.extend_from_slice(b"],\"total\":");
        push_json(&mut self.text, &total);
        if let Some(next) = next {
            self.text.extend_from_slice(b",\"next\":");
            push_json(&mut self.text, next);
        }
        self.text
    }
}

/// A peer's entry up to, and without, its list of files.
pub(super) fn entry_head(
    user: &UserName,
    ip: IpAddr,
    port: Option<u16>,
    addresses: &[SocketAddr],
    fingerprint: Option<Fingerprint>,
) -> Vec<u8> {
    let entry =
        PeerEntry { user: user.clone(), ip, port, addresses: addresses.to_vec(), fingerprint, files: Vec::new() };
    let mut head = json(&entry);
    head.truncate(head.len().saturating_sub("[]}".len()));
    head
}

pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    push_json(&mut text, value);
    text
}

/// Appends `value`; plain data written into memory can't fail, and if it did the reply would still be JSON.
pub(super) fn push_json<T: Serialize>(text: &mut Vec<u8>, value: &T) {
    let before = text.len();
    if serde_json::to_writer(&mut *text, value).is_err() {
        text.truncate(before);
        text.extend_from_slice(b"null");
    }
}
