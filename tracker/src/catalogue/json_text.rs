//! JSON text that is appended piece by piece.

use serde::Serialize;

/// Appends `value` as JSON. Writing plain data into memory can't fail; if it did, `null` would keep the reply valid.
pub(crate) fn push_json<T: Serialize>(text: &mut Vec<u8>, value: &T) {
    let before = text.len();
    if serde_json::to_writer(&mut *text, value).is_err() {
        text.truncate(before);
        text.extend_from_slice(b"null");
    }
}

/// Appends the `file_count` field.
pub(crate) fn write_count(text: &mut Vec<u8>, count: usize) {
    text.extend_from_slice(b",\"file_count\":");
    push_json(text, &count);
}
