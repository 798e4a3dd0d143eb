//! The system's errors in words.

use std::io;

/// An I/O error in lower case and without the system's number behind it, to stand within a sentence.
pub fn plain_message(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        // TLS has a page of its own on this.
        return "the connection ended without a word".to_owned();
    }
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
