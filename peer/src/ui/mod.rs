//! What people and programs see: lines, bars, the conversation. It consumes the engine's events and decides nothing.

mod bars;
mod chat_view;
mod events;
mod json;
mod keys;
mod line_editor;
mod output;
mod text;

pub use bars::{FetchBars, ShareBar};
pub use chat_view::{ChatView, Wish};
pub use events::{event_line, message_line, message_lines, notice_line};
pub use json::{event_json, file_json, message_json};
pub use keys::{Key, RawTerminal};
pub use output::{ColorChoice, Output, OutputOptions};
pub use text::{date, files, size, time};
