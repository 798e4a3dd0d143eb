//! Tools without a subject of their own, for every layer above. Nothing here knows a user, a file or the network.

mod backoff;
pub mod json_lines;
pub mod misspelling;
pub mod rate_limit;
mod runtime_thread;
pub mod shell_words;
mod translated_text;

pub use backoff::Backoff;
pub use runtime_thread::RuntimeThread;
pub use translated_text::TranslatedText;
