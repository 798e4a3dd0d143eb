//! Lists of peers that fit into so many bytes: the readers of the exercise's clients take a reply in one piece of 4,096.
//!
//! ```text
//! entries, origins in turn, ─► counts of files ─► files, one of each peer in turn ─► ordered by name
//! newest login first
//!    while there is room      while there is room        while there is room
//! ```

use std::borrow::Cow;

use shared::UserName;

use super::peer_list::{ListView, push_json};
use super::{PresenceRegistry, PresentUser};

/// Fewer bytes have no entry in any view.
const ENTRY_BYTES_MIN: usize = r#"{"user":"a","ip":"::1"}"#.len();

/// A list that fits, and what is not in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BoundedList {
    /// The entries with commas between them.
    pub(super) text: Vec<u8>,
    /// How many there are.
    pub(super) users: usize,
}

/// One entry in the making.
struct BoundedEntry<'a> {
    user: &'a UserName,
    head: Cow<'a, [u8]>,
    /// How many files there are.
    count: usize,
    /// Whether `file_count` is written, should not all files be.
    is_counted: bool,
    /// The files that are shown, with commas between them.
    files: Vec<u8>,
    shown: usize,
    /// The text of the file that is next, and those behind it; `None` when no more will be shown.
    next: Option<(&'a [u8], FileTextIter<'a>)>,
}

/// The files of one user, each as it stands in the list.
type FileTextIter<'a> = Box<dyn Iterator<Item = &'a [u8]> + 'a>;

impl PresenceRegistry {
    /// Returns the entries of those who logged in last, origins in turn, as many as fit into `room` bytes, and what of
    /// their files does.
    pub(super) fn bounded_list(&self, view: ListView, room: usize, with_files: bool) -> BoundedList {
        let mut left = room;
        let mut entries = Vec::new();
        for user in self.recent_logins.round_robin() {
            let Some(present) = self.present.get(user) else { continue };
            let entry = BoundedEntry::new(view, user, present, with_files);
            // The comma before it.
            let bytes = entry.bytes(view) + usize::from(!entries.is_empty());
            if bytes > left {
                break;
            }
            left -= bytes;
            entries.push(entry);
        }
        for entry in entries.iter_mut().filter(|entry| entry.count > 0) {
            let bytes = count_bytes(entry.count);
            entry.is_counted = bytes <= left;
            left -= if entry.is_counted { bytes } else { 0 };
        }
        let mut may_show_more = true;
        while may_show_more {
            may_show_more = false;
            for entry in &mut entries {
                may_show_more |= entry.add_file(view, &mut left);
            }
        }
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

    /// Returns false when the entries of all who are present surely don't fit into `room` bytes.
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

    /// Bytes of the entry while no file is shown and none counted.
    fn bytes(&self, view: ListView) -> usize {
        self.head.len() + list_bytes(view, true) + 1
    }

    /// Shows one more file if there is room for it; says whether another may follow.
    fn add_file(&mut self, view: ListView, left: &mut usize) -> bool {
        let Some((text, mut rest)) = self.next.take().filter(|_| self.is_counted) else { return false };
        let more = if self.shown == 0 { list_bytes(view, false) - list_bytes(view, true) } else { 1 };
        // Who shows all of them needs no count.
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

/// Appends how many files there are.
pub(super) fn write_count(text: &mut Vec<u8>, count: usize) {
    text.extend_from_slice(b",\"file_count\":");
    push_json(text, &count);
}

fn list_bytes(view: ListView, is_empty: bool) -> usize {
    view.list_opening(is_empty).map_or(0, |opening| opening.len() + "[]".len())
}

fn count_bytes(count: usize) -> usize {
    let mut text = Vec::with_capacity(24);
    write_count(&mut text, count);
    text.len()
}
