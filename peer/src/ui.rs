//! What people and programs see: lines, bars, conversations. It consumes the engine's events and decides nothing.
//!
//! ```text
//! keys ──► View::key ──► Wish ──► (whoever runs the view: the node, a fetch) ──► News ──► View::news ──► View::draw
//! ```
//!
//! Each view is a pure model of what it was told and what was typed, and a thin edge that has the terminal.

mod asking;
mod attention;
mod bar;
mod bar_screen;
mod bars;
mod catalogue;
mod charset;
mod complete;
mod composer;
mod entry;
mod events;
mod file_bars;
mod full_view;
mod inline;
mod input_lines;
mod interrupts;
mod json;
mod key_decoder;
mod keys;
mod left_out;
mod line_editor;
mod line_view;
mod links;
mod look;
mod output;
mod paint;
mod plain_view;
mod progress_row;
mod rate_meter;
mod raw;
mod rows;
mod secret;
mod share_bar;
mod slash;
mod steps;
mod text;
mod transfers;
mod view;
mod wrap;

pub use attention::Notifications;
pub use bars::FetchBars;
pub use events::{elsewhere_words, event_line, message_line, message_lines, notice_line, request_commands};
pub use full_view::{FullTerminal, FullView};
pub use input_lines::{InputLine, input_lines};
pub use interrupts::Interrupts;
pub use json::{event_json, file_json, happening_json, message_json};
pub use keys::Key;
pub use left_out::{by_design_line, failure_line, failure_lines};
pub use line_view::{LineTerminal, LineView};
pub use look::Look;
pub use output::{ColorChoice, LogLine, Output, OutputOptions};
pub use plain_view::PlainTerminal;
pub use raw::give_back;
pub use secret::{Secret, prompt, read_secret};
pub use share_bar::ShareBar;
pub use text::{age, date, duration_words, excerpt, files, moment, silent_words, size, slow_words, time};
pub use view::{CAUGHT_UP_AT_ONCE, FOUND_AT_ONCE, News, View, Wish};
