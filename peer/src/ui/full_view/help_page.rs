//! The help page of the full view. Pure.

use localization::tr;
use ratatui_core::text::Line;

use crate::engine::chat::ConversationName;
use crate::ui::slash_command::{help_rows, slash_commands};
use crate::ui::text_wrap::wrap_text;
use crate::ui::theme::{DeliveryMark, TerminalTheme};

/// Returns keys, delivery marks and the commands of a conversation with their meaning.
pub(super) fn help_lines(columns: usize, theme: TerminalTheme, with: Option<&ConversationName>) -> Vec<Line<'static>> {
    let keys = [
        (tr!("key" => "Tab, Shift-Tab"), tr!("the next pane, the one before")),
        (tr!("key" => "Up, Down"), tr!("choose a person or a file; in the line: what was written before")),
        ("Enter".to_owned(), tr!("talk to the person, send the line, fetch the file")),
        ("PgUp, PgDn".to_owned(), tr!("look back in the conversation")),
        ("Esc".to_owned(), tr!("back to the people")),
        ("Backspace".to_owned(), tr!("in the files: all of them after /files START")),
        ("Ctrl-R".to_owned(), tr!("refresh people or files")),
        ("?, F1".to_owned(), tr!("this; in the line, F1 or /help")),
        (tr!("key" => "anything else"), tr!("goes into the line to the chosen person")),
        ("Ctrl-Z".to_owned(), tr!("to the shell; fg comes back")),
        ("Ctrl-C".to_owned(), tr!("clear the line; leave when it is empty (twice while files are on their way)")),
        ("Ctrl-D".to_owned(), tr!("leave when the line is empty (twice while files are on their way)")),
        ("/quit".to_owned(), tr!("leave at once")),
    ];
    let mark = |mark| theme.mark(mark);
    let marks = [
        format!("{} {}", mark(DeliveryMark::Waiting), tr!("mark" => "queued")),
        format!("{} {}", mark(DeliveryMark::Sent), tr!("mark" => "sent")),
        format!("{} {}", mark(DeliveryMark::Stored), tr!("mark" => "stored by the other side")),
        format!("{} {}", mark(DeliveryMark::Failed), tr!("mark" => "not delivered")),
        tr!("3/5 in a room: 3 of 5 have it"),
    ];
    let commands = with.map_or_else(Vec::new, slash_commands).into_iter();
    let commands: Vec<(String, String)> = commands.map(|(_, head, what)| (head, what)).collect();
    // Together, so that both tables have the same columns.
    let mut keys_and_commands = help_rows(&[&keys[..], &commands].concat());
    let commands = keys_and_commands.split_off(keys.len());
    let all = keys_and_commands.into_iter().chain([String::new(), marks.join("   "), String::new()]);
    all.chain(commands).flat_map(|line| wrap_text(&line, columns)).map(Line::raw).collect()
}
