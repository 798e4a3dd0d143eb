//! Text, progress bars and conversation views for people, NDJSON for programs. Consumes the engine's events and
//! decides nothing.
//!
//! ```text
//! keys ──► TerminalView::handle_input ──► ViewCommand ──► the command that runs the view: a node, fetches
//!                                                             │
//! screen ◄── TerminalView::draw ◄── TerminalView::handle_update ◄── ViewUpdate
//! ```
//!
//! Both views show one model, `chat_model`: users, conversations, transfers and their changes by events. `line_view` prints
//! it into the scrollback, `full_view` draws it in panes; each adds its places on the screen, and a thin edge that owns the
//! terminal.

mod ansi_writer;
mod bar_screen;
mod charset;
mod chat_model;
mod clipboard_sequence;
mod command_output;
mod completion;
mod composer;
mod conversation_item;
mod doctor_text;
mod event_text;
mod fetch_bars;
mod fetch_text;
mod file_bars;
mod follow_text;
mod full_view;
mod human_format;
mod hyperlinks;
mod inline_screen;
mod input_lines;
mod interrupt_forwarder;
mod json;
mod key_decoder;
mod line_editor;
mod line_priority;
mod line_view;
mod member_changes;
mod message_entry;
mod message_excerpt;
mod numbered_files;
mod omission_text;
mod plain_view;
mod poll_backoff;
mod progress_bar;
mod progress_row;
mod progress_steps;
mod qr_code;
mod rate_meter;
mod raw_terminal;
mod secret_input;
mod send_bar;
mod share_bar;
mod slash_command;
mod terminal_notification;
mod terminal_size;
mod text_rows;
mod text_wrap;
mod theme;
mod transfer_list;
mod view;
mod view_input;

pub use clipboard_sequence::{MAX_SEQUENCE_BYTES, clipboard_sequence, pasteable_text};
pub use command_output::{ColorChoice, CommandOutput, LogWriter, OutputOptions};
pub use doctor_text::doctor_lines;
pub use event_text::{
    elsewhere_words, event_line, guest_post_line, message_line, message_lines, notice_line, request_commands,
    send_words,
};
pub use fetch_bars::FetchBars;
pub use follow_text::follow_change_line;
pub use full_view::{FullViewModel, FullViewTerminal};
pub use human_format::{
    date, date_and_time, exact_duration, excerpt, file_count, format_size, parse_age, silent_words, slow_words,
    time_of_day,
};
pub use input_lines::{InputLine, spawn_line_reader};
pub use interrupt_forwarder::InterruptForwarder;
pub use json::{event_json, file_json};
pub use line_priority::LinePriority;
pub use line_view::{LineViewModel, LineViewTerminal};
pub use message_excerpt::{ExcerptLimits, message_excerpt};
pub use omission_text::{by_design_line, failure_line, failure_lines};
pub use plain_view::PlainViewTerminal;
pub use qr_code::{qr_code, qr_code_columns};
pub use raw_terminal::restore_terminal;
pub use secret_input::{SecretInput, read_secret, write_prompt};
pub use send_bar::SendBar;
pub use share_bar::ShareBar;
pub use terminal_notification::NotificationProtocol;
pub use text_wrap::wrap_text;
pub use theme::TerminalTheme;
pub use view::{MAX_CATCH_UP_MESSAGES, MAX_SEARCH_RESULTS, RequestFailure, TerminalView, ViewCommand, ViewUpdate};
pub use view_input::ViewInput;
