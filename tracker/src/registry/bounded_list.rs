//! Lists of peers within a limit of bytes: the exercise's clients read a reply with one call, of 4,096 bytes.
//!
//! ```text
//! entries, origins in turn, ─► counts of files ─► files, one of each peer in turn ─► ordered by name
//! newest login first
//!    while there is room      while there is room        while there is room
//! ```

use std::borrow::Cow;

use shared::UserName;

use super::peer_list::ListView;
use super::{PresenceRegistry, PresentUser};
use crate::catalogue::json_text::write_count;

/// The shortest entry in any view.
const ENTRY_BYTES_MIN: usize = r#"{"user":"a","ip":"::1"}"#.len();

/// A list within the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BoundedList {
    /// The entries with commas between them.
    pub(super) text: Vec<u8>,
    /// The number of entries.
    pub(super) users: usize,
}

/// One entry under construction.
struct BoundedEntry<'a> {
    user: &'a UserName,
    head: Cow<'a, [u8]>,
    /// The number of the user's files.
    count: usize,
    /// `file_count` is written unless all files are shown.
    is_counted: bool,
    /// The files shown, with commas between them.
    files: Vec<u8>,
    shown: usize,
    /// The next file's text and the rest; `None` when no more will be shown.
    next: Option<(&'a [u8], FileTextIter<'a>)>,
}

/// The texts of one user's files, in the list's order.
type FileTextIter<'a> = Box<dyn Iterator<Item = &'a [u8]> + 'a>;

impl PresenceRegistry {
    /// Returns the entries of the latest logins, origins in turn, as many as fit into `room` bytes, with as many files
    /// as fit then.
    pub(super) fn bounded_list(&self, view: ListView, room: usize, with_files: bool) -> BoundedList {
        let mut left = room;
        let mut entries = Vec::new();
        for user in self.recent_logins.round_robin() {
            let Some(present) = self.present.get(user) else { continue };
            let entry = BoundedEntry::new(view, user, present, with_files);
            // With the comma before it.
            let bytes = entry.bytes(view) + usize::from(!entries.is_empty());
            if bytes > left {
                break;
            }
            left -= bytes;
            entries.push(entry);
        }
        // Counts come before files: a client that sees a count knows that there is more to ask for.
        for entry in entries.iter_mut().filter(|entry| entry.count > 0) {
            let bytes = count_bytes(entry.count);
            entry.is_counted = bytes <= left;
            left -= if entry.is_counted { bytes } else { 0 };
        }
        // One file of each user in turn: a user with many files leaves room for the others.
        let mut may_show_more = true;
        while may_show_more {
            may_show_more = false;
            for entry in &mut entries {
                may_show_more |= entry.add_file(view, &mut left);
            }
        }
        // The turns of origins decide only which entries fit: the list is by name, as the long one is.
        entries.sort_by(|one, other| one.user.cmp(other.user));
        let mut text = Vec::with_capacity(room - left);
        for entry in &entries {
            if !text.is_empty() {
                text.push(b',');
            }
            entry.write_to(view, &mut text);
        }
        debug_assert_eq!(text.len(), room - left);
        BoundedList { text, users: entries.len() }
    }

    /// False if the entries of all present users surely don't fit into `room` bytes.
    pub(super) fn can_fit(&self, room: usize) -> bool {
        self.present.len() <= room / ENTRY_BYTES_MIN
    }
}

impl<'a> BoundedEntry<'a> {
    fn new(view: ListView, user: &'a UserName, present: &'a PresentUser, with_files: bool) -> Self {
        let mut texts = present.files.texts();
        let first = if with_files { texts.next() } else { None };
        Self {
            user,
            head: view.head(user, present),
            count: present.files.len(),
            is_counted: false,
            files: Vec::new(),
            shown: 0,
            next: first.map(|first| (first, Box::new(texts) as FileTextIter<'a>)),
        }
    }

    /// Returns the bytes of the entry without files and count.
    fn bytes(&self, view: ListView) -> usize {
        self.head.len() + list_bytes(view, true) + 1
    }

    /// Adds one more file if it fits. Returns whether another may follow.
    fn add_file(&mut self, view: ListView, left: &mut usize) -> bool {
        // Without a count, a client would take the files that are shown for all.
        let Some((text, mut rest)) = self.next.take().filter(|_| self.is_counted) else { return false };
        // The first file may open a list that the view leaves out while it is empty; others need a comma.
        let more = if self.shown == 0 { list_bytes(view, false) - list_bytes(view, true) } else { 1 };
        // With its last file shown the entry needs no count, whose bytes become free.
        let is_last = self.shown + 1 == self.count;
        let available = *left + if is_last { count_bytes(self.count) } else { 0 };
        let Some(remaining) = available.checked_sub(text.len() + more) else { return false };
        *left = remaining;
        if self.shown > 0 {
            self.files.push(b',');
        }
        self.files.extend_from_slice(text);
        self.shown += 1;
        self.next = rest.next().map(|next| (next, rest));
        self.next.is_some()
    }

    fn write_to(&self, view: ListView, text: &mut Vec<u8>) {
        text.extend_from_slice(&self.head);
        if let Some(opening) = view.list_opening(self.shown == 0) {
            text.extend_from_slice(opening);
            text.push(b'[');
            text.extend_from_slice(&self.files);
            text.push(b']');
        }
        if self.is_counted && self.shown < self.count {
            write_count(text, self.count);
        }
        text.push(b'}');
    }
}

fn list_bytes(view: ListView, is_empty: bool) -> usize {
    view.list_opening(is_empty).map_or(0, |opening| opening.len() + "[]".len())
}

fn count_bytes(count: usize) -> usize {
    let mut text = Vec::with_capacity(24);
    write_count(&mut text, count);
    text.len()
}
