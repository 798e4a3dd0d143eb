//! The help page of the full view. Pure.

use ratatui_core::text::Line;

use crate::engine::chat::ConversationName;
use crate::ui::slash_command::slash_commands;
use crate::ui::text_wrap::wrap_text;
use crate::ui::theme::{DeliveryMark, TerminalTheme};

/// Returns keys, delivery marks and the commands of a conversation with their meaning.
pub(super) fn help_lines(columns: usize, theme: TerminalTheme, with: Option<&ConversationName>) -> Vec<Line<'static>> {
    let keys = [
        ("Tab, Shift-Tab", "the next pane, the one before"),
        ("Up, Down", "choose a person or a file; in the line: what was written before"),
        ("Enter", "talk to the person, send the line, fetch the file"),
        ("PgUp, PgDn", "look back in the conversation"),
        ("Esc", "back to the people"),
        ("Backspace", "in the files: all of them after /files START"),
        ("Ctrl-R", "refresh people or files"),
        ("?, F1", "this; in the line, F1 or /help"),
        ("anything else", "goes into the line to the chosen person"),
        ("Ctrl-Z", "to the shell; fg comes back"),
        ("Ctrl-C", "clear the line; leave when it is empty (twice while files are on their way)"),
        ("Ctrl-D", "leave when the line is empty (twice while files are on their way)"),
        ("/quit", "leave at once"),
    ];
    let keys = keys.iter().map(|(key, what)| format!("{key:<16} {what}"));
    let mark = |mark| theme.mark(mark);
    let signs = format!(
        "{} queued   {} sent   {} stored by the other side   {} not delivered   3/5 in a room: 3 of 5 have it",
        mark(DeliveryMark::Waiting),
        mark(DeliveryMark::Sent),
        mark(DeliveryMark::Stored),
        mark(DeliveryMark::Failed)
    );
    let signs = [String::new(), signs, String::new()];
    let commands = with.map_or(&[][..], slash_commands);
    let commands = commands.iter().map(|(name, argument, what)| format!("{:<16} {what}", format!("{name} {argument}")));
    let all = keys.chain(signs).chain(commands);
    all.flat_map(|line| wrap_text(&line, columns)).map(Line::raw).collect()
}
