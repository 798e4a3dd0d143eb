//! The full view's picture. Pure.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::{Position, Rect, Size};
use ratatui_core::style::Style;
use ratatui_core::text::{Line, Span};
use shared::names::stand_in::shown;
use shared::safe_text::safe_line;
use unicode_width::UnicodeWidthStr;

use super::model::{Focus, FullView, Overlay, Said};
use super::painter::{Picture, PlacedLink};
use super::talk::{Files, Talk};
use crate::engine::node::control::Person;
use crate::ui::events::request_note;
use crate::ui::look::{Look, Mark};
use crate::ui::rows::{Link, TextRow};
use crate::ui::slash::COMMANDS;
use crate::ui::text::size;
use crate::ui::view::FOUND_AT_ONCE;
use crate::ui::wrap::{cut, cut_apart, wrap};

/// From so many columns on, people, conversation and files stand side by side.
const THREE: u16 = 96;
/// From so many on, people stand beside the rest; below, one pane is all there is.
const TWO: u16 = 56;
const PEOPLE: u16 = 20;
/// Rows of transfers below the panes.
const TRANSFERS: u16 = 4;

/// Which pane is where; what is nowhere is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    people: Option<Rect>,
    talk: Option<Rect>,
    pub(super) files: Option<Rect>,
    transfers: Option<Rect>,
    help: Rect,
}

impl Layout {
    pub(super) fn of(area: Rect, focus: Focus, running: usize) -> Self {
        let help = Rect { y: area.bottom().saturating_sub(1), height: area.height.min(1), ..area };
        let mut rest = Rect { height: area.height.saturating_sub(1), ..area };
        let mut layout = Self { people: None, talk: None, files: None, transfers: None, help };
        if focus == Focus::Transfers {
            layout.transfers = Some(rest);
            return layout;
        }
        let below = u16::try_from(running).unwrap_or(u16::MAX).min(TRANSFERS).min(rest.height / 4);
        if below > 0 {
            rest.height -= below;
            layout.transfers = Some(Rect { y: rest.bottom(), height: below, ..rest });
        }
        let column = |x: u16, width: u16| Some(Rect { x, width, ..rest });
        if area.width < TWO {
            match focus {
                Focus::People => layout.people = Some(rest),
                Focus::Talk | Focus::Transfers => layout.talk = Some(rest),
                Focus::Files => layout.files = Some(rest),
            }
            return layout;
        }
        layout.people = column(0, PEOPLE);
        let (left, room) = (PEOPLE + 1, area.width - PEOPLE - 1);
        if area.width >= THREE {
            let files = (room / 3).min(44);
            layout.talk = column(left, room - files - 1);
            layout.files = column(area.width - files, files);
        } else if focus == Focus::Files {
            layout.files = column(left, room);
        } else {
            layout.talk = column(left, room);
        }
        layout
    }
}

/// Columns and rows that the conversation has, without its title and its line; nothing when it isn't shown.
pub(super) fn talk_size(view: &FullView, area: Rect) -> Option<(usize, usize)> {
    let pane = Layout::of(area, view.focus, view.transfers.running()).talk?;
    let columns = usize::from(pane.width);
    let beside = rows_beside(view, columns).len();
    Some((columns, usize::from(pane.height).saturating_sub(2 + beside)))
}

/// The rows below the line that is written: what is asked there, else what a stranger wants.
fn rows_beside(view: &FullView, columns: usize) -> Vec<Line<'static>> {
    let asked = view.chosen_talk().map(|talk| talk.composer.rows_beside(view.look, columns, 3)).unwrap_or_default();
    match view.chosen_person().filter(|person| person.request && asked.is_empty()) {
        // Not in the heading, which may be cut off.
        Some(person) => {
            let rows = wrap(&request_note(&person.user), columns).into_iter().take(2);
            rows.map(|row| Line::styled(row, view.look.bold())).collect()
        }
        None => asked,
    }
}

/// Draws all of it.
pub(super) fn draw(view: &FullView, picture: &mut Picture) {
    let area = picture.area();
    let layout = Layout::of(area, view.focus, view.transfers.running());
    if let Some(overlay) = &view.overlay {
        draw_overlay(view, overlay, picture, Rect { height: area.height.saturating_sub(1), ..area });
        // How to get back is what has to be seen.
        let keys = "any other key: back  PgUp, PgDn, Up, Down: the rest";
        let keys = if usize::from(layout.help.width) < keys.width() { "any other key: back" } else { keys };
        let help = cut(keys, layout.help.width.into(), view.look.ellipsis());
        put(&mut picture.cells, layout.help, 0, &Line::styled(help, view.look.dim()));
        return;
    }
    let buffer = &mut picture.cells;
    if let Some(pane) = layout.people {
        draw_people(view, buffer, pane);
    }
    if let Some(pane) = layout.files {
        draw_files(view, buffer, pane);
    }
    if let Some(pane) = layout.transfers {
        draw_transfers(view, buffer, pane);
    }
    draw_help(view, buffer, layout.help);
    let cursor = layout.talk.and_then(|pane| draw_talk(view, picture, pane));
    picture.cursor = cursor.filter(|_| view.focus == Focus::Talk);
}

fn draw_people(view: &FullView, buffer: &mut Buffer, pane: Rect) {
    let look = view.look;
    title(view, buffer, pane, Focus::People, &format!("People, you: {}", view.me));
    let rows = usize::from(pane.height.saturating_sub(1));
    let chosen = view.people.iter().position(|person| Some(&person.user) == view.chosen.as_ref()).unwrap_or(0);
    let first = chosen.saturating_sub(rows.saturating_sub(1));
    for (y, person) in (1..pane.height).zip(view.people.iter().skip(first)) {
        let is_chosen = Some(&person.user) == view.chosen.as_ref();
        let style = if person.online == Some(true) { look.good() } else { look.dim() };
        let line = Line::from(vec![
            Span::raw(if is_chosen { ">" } else { " " }),
            Span::styled(look.presence(person.online == Some(true)), style),
            Span::raw(format!(
                " {}",
                cut(&about(view, person), usize::from(pane.width).saturating_sub(3), look.ellipsis())
            )),
        ]);
        put(buffer, pane, y, &line);
        if is_chosen {
            mark_row(buffer, pane, y, if view.focus == Focus::People { look.selected() } else { look.bold() });
        } else if person.unread > 0 {
            mark_row(buffer, pane, y, look.bold());
        }
    }
    if view.people.is_empty() {
        for (y, row) in (1..pane.height).zip(wrap(
            "nobody yet: whoever registers at the tracker and comes online is shown here",
            usize::from(pane.width),
        )) {
            put(buffer, pane, y, &Line::styled(row, look.dim()));
        }
    }
}

/// A name, with what is unread first: that must not be cut off.
fn about(view: &FullView, person: &Person) -> String {
    let mut text =
        if person.unread > 0 { format!("({}) {}", person.unread, person.user) } else { person.user.to_string() };
    if person.waiting > 0 {
        text.push_str(&format!(" {}{}", view.look.mark(Mark::Waiting), person.waiting));
    }
    if view.talks.get(&person.user).is_some_and(|talk| talk.typing.is_some()) {
        text.push_str(" typing");
    }
    if person.frozen {
        text.push_str(" key changed");
    }
    if person.request {
        text.push_str(" wants to talk");
    }
    if person.blocked {
        text.push_str(" ignored");
    }
    text
}

fn draw_talk(view: &FullView, picture: &mut Picture, pane: Rect) -> Option<Position> {
    let Some(person) = view.chosen_person() else {
        title(view, &mut picture.cells, pane, Focus::Talk, "nobody");
        return None;
    };
    let word = match person.online {
        Some(true) => "online",
        Some(false) => "offline",
        None => "not known to be online",
    };
    let empty = Talk::default();
    let talk = view.chosen_talk().unwrap_or(&empty);
    let ignored = if person.blocked { ", ignored" } else { "" };
    let unread = match person.unread {
        0 => String::new(),
        // It begins further back than what is here.
        unread if !talk.has_theirs(unread) => format!(", {unread} unread: PgUp"),
        new if talk.back > 0 => format!(", {} {new} new", view.look.down()),
        _ => String::new(),
    };
    // What is new comes before what may be cut off.
    let back = if talk.back > 0 { ", looking back" } else { "" };
    let heading = format!("{} {word}{ignored}{unread}{back}", person.user);
    title(view, &mut picture.cells, pane, Focus::Talk, &heading);
    let columns = usize::from(pane.width);
    let beside = rows_beside(view, columns);
    let room = usize::from(pane.height).saturating_sub(2 + beside.len());
    let rows = talk.rows(&person.user, view.look, columns, room);
    for (y, row) in (1..).zip(&rows) {
        put_row(picture, pane, y, row);
    }
    let buffer = &mut picture.cells;
    if pane.height < 2 {
        return None;
    }
    let line_at = pane.height - 1 - u16::try_from(beside.len()).unwrap_or(0).min(pane.height - 1);
    let (line, column) = talk.composer.row(view.look, columns);
    put(buffer, pane, line_at, &line);
    for (y, row) in (line_at + 1..).zip(&beside) {
        put(buffer, pane, y, row);
    }
    let column = u16::try_from(column).unwrap_or(0).min(pane.width.saturating_sub(1));
    Some(Position::new(pane.x + column, pane.y + line_at))
}

fn draw_files(view: &FullView, buffer: &mut Buffer, pane: Rect) {
    let look = view.look;
    let talk = view.chosen_talk();
    let of = match talk.map(|talk| &talk.files) {
        Some(Files::Known { start, .. }) if !start.is_empty() => format!(": {}", safe_line(start)),
        _ => String::new(),
    };
    let whose = view.chosen.as_ref().map_or_else(|| "files".to_owned(), |user| format!("{user}'s files{of}"));
    title(view, buffer, pane, Focus::Files, &whose);
    let nothing = |buffer: &mut Buffer, text: &str| {
        for (y, row) in (1..pane.height).zip(wrap(text, usize::from(pane.width).saturating_sub(1))) {
            put(buffer, pane, y, &Line::styled(format!(" {row}"), look.dim()));
        }
    };
    let is_away = view.chosen_person().is_some_and(|person| person.online == Some(false));
    let files = match talk.map(|talk| &talk.files) {
        Some(Files::Known { files, .. }) => files,
        Some(Files::Asked) => return nothing(buffer, "asking"),
        Some(Files::Failed) => return nothing(buffer, "they could not be had; Ctrl-R: refresh"),
        _ if is_away => {
            return nothing(
                buffer,
                &format!(
                    "files appear when {} is online",
                    view.chosen.as_ref().map_or("somebody", |user| user.as_str())
                ),
            );
        }
        _ => return nothing(buffer, "Ctrl-R: refresh"),
    };
    if files.is_empty() {
        return nothing(buffer, if of.is_empty() { "nothing is shared" } else { "nothing has such a name" });
    }
    let rows = usize::from(pane.height.saturating_sub(1));
    let first = view.file.saturating_sub(rows.saturating_sub(1));
    let names: Vec<_> = files.iter().skip(first).take(rows).map(|file| shown(file.name.as_str())).collect();
    for (y, (place, file)) in (1..pane.height).zip(files.iter().enumerate().skip(first)) {
        let is_chosen = place == view.file && view.focus == Focus::Files;
        let sign = if is_chosen { ">" } else { " " };
        let room = usize::from(pane.width).saturating_sub(11);
        let among = names.iter().map(|name| &**name);
        let name = cut_apart(&shown(file.name.as_str()), among, room, look.ellipsis());
        put(buffer, pane, y, &Line::raw(format!("{sign}{:>8} {name}", size(file.size))));
        if is_chosen {
            mark_row(buffer, pane, y, look.selected());
        }
    }
}

fn draw_transfers(view: &FullView, buffer: &mut Buffer, pane: Rect) {
    let columns = usize::from(pane.width);
    let rows = usize::from(pane.height);
    if view.focus != Focus::Transfers {
        for (y, row) in (0..).zip(view.transfers.rows(view.look, columns, rows)) {
            put(buffer, pane, y, &row);
        }
        return;
    }
    title(view, buffer, pane, Focus::Transfers, "transfers");
    let running = view.transfers.rows(view.look, columns, rows.saturating_sub(1));
    let ended = view.transfers.ended_rows(view.look, columns);
    for (y, row) in (1..pane.height).zip(running.iter().chain(&ended)) {
        put(buffer, pane, y, row);
    }
}

fn draw_help(view: &FullView, buffer: &mut Buffer, row: Rect) {
    let columns = usize::from(row.width);
    if let Some(Said { text, is_problem }) = &view.notice {
        let style = if *is_problem { view.look.problem() } else { view.look.bold() };
        let text = safe_line(text).replace('␊', " ");
        let sign = if *is_problem { "! " } else { "" };
        put(buffer, row, 0, &Line::styled(cut(&format!("{sign}{text}"), columns, view.look.ellipsis()), style));
        return;
    }
    let is_part =
        view.chosen_talk().is_some_and(|talk| matches!(&talk.files, Files::Known { start, .. } if !start.is_empty()));
    let parts: &[&str] = match view.focus {
        Focus::People => &["?: help", "Enter: talk", "Tab: next pane", "Up, Down: choose", "Ctrl-D: leave"],
        Focus::Talk => {
            &["F1: help", "Enter: send", "Tab: next pane", "PgUp: look back", "Esc: people", "Ctrl-D: leave"]
        }
        Focus::Files if is_part => &["?: help", "Enter: fetch", "Backspace: all files", "Tab: next pane"],
        Focus::Files => &["?: help", "Enter: fetch", "Tab: next pane", "Ctrl-R: refresh", "Ctrl-D: leave"],
        Focus::Transfers => &["?: help", "Tab: next pane", "Ctrl-D: leave"],
    };
    let mut text = String::new();
    for part in parts {
        let longer = if text.is_empty() { (*part).to_owned() } else { format!("{text}  {part}") };
        if longer.width() <= columns {
            text = longer;
        }
    }
    put(buffer, row, 0, &Line::styled(text, view.look.dim()));
}

fn draw_overlay(view: &FullView, overlay: &Overlay, picture: &mut Picture, area: Rect) {
    let columns = usize::from(area.width);
    let most = usize::from(area.height.saturating_sub(1));
    let (heading, rows, first) = match overlay {
        Overlay::Help { down } => {
            let rows: Vec<TextRow> = help(columns, view.look).into_iter().map(TextRow::from).collect();
            let first = (*down).min(rows.len().saturating_sub(most));
            ("help".to_owned(), rows, first)
        }
        Overlay::Found { with, words, entries, back } => {
            let rows = entries.iter().flat_map(|entry| {
                let mut rows = entry.rows(with, view.look, columns, false);
                rows.insert(0, Line::styled(entry.day(), view.look.dim()).into());
                rows
            });
            let rows: Vec<TextRow> = rows.collect();
            let first = rows.len().saturating_sub(most).saturating_sub(*back);
            (format!("{}: {}", count(entries.len()), safe_line(words)), rows, first)
        }
    };
    let heading = Line::styled(cut(&heading, columns, view.look.ellipsis()), view.look.bold());
    put(&mut picture.cells, area, 0, &heading);
    for (y, row) in (1..area.height).zip(rows.iter().skip(first)) {
        put_row(picture, area, y, row);
    }
}

/// Rows of the help on a screen of this size.
pub(super) fn help_rows(size: Size, look: Look) -> usize {
    help(size.width.into(), look).len()
}

fn count(found: usize) -> String {
    match found {
        0 => "no messages found".to_owned(),
        FOUND_AT_ONCE => format!("the last {FOUND_AT_ONCE} found"),
        count => format!("{count} found"),
    }
}

fn help(columns: usize, look: Look) -> Vec<Line<'static>> {
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
    let mark = |mark| look.mark(mark);
    let signs = format!(
        "{} waiting   {} sent   {} stored by the other side   {} not delivered",
        mark(Mark::Waiting),
        mark(Mark::Sent),
        mark(Mark::Stored),
        mark(Mark::Failed)
    );
    let signs = [String::new(), signs, String::new()];
    let commands = COMMANDS.iter().map(|(name, argument, what)| format!("{:<16} {what}", format!("{name} {argument}")));
    let all = keys.chain(signs).chain(commands);
    all.flat_map(|line| wrap(&line, columns)).map(Line::raw).collect()
}

fn title(view: &FullView, buffer: &mut Buffer, pane: Rect, of: Focus, text: &str) {
    let room = usize::from(pane.width).saturating_sub(2);
    let text = cut(text, room, view.look.ellipsis());
    let (text, style) =
        if view.focus == of { (format!("[{text}]"), view.look.bold()) } else { (format!(" {text} "), view.look.dim()) };
    put(buffer, pane, 0, &Line::styled(text, style));
}

fn put(buffer: &mut Buffer, pane: Rect, y: u16, line: &Line<'_>) {
    if y < pane.height && pane.y + y < buffer.area.bottom() {
        buffer.set_line(pane.x, pane.y + y, line, pane.width);
    }
}

/// The same of a row that may have links.
fn put_row(picture: &mut Picture, pane: Rect, y: u16, row: &TextRow) {
    put(&mut picture.cells, pane, y, &row.line);
    let column = |cell: usize| pane.x + u16::try_from(cell).unwrap_or(u16::MAX).min(pane.width);
    let placed = row.links.iter().map(|Link { cells: (from, to), target }| PlacedLink {
        row: pane.y + y,
        columns: (column(*from), column(*to)),
        target: target.clone(),
    });
    picture.links.extend(placed);
}

fn mark_row(buffer: &mut Buffer, pane: Rect, y: u16, style: Style) {
    buffer.set_style(Rect { y: pane.y + y, height: 1, ..pane }.intersection(buffer.area), style);
}
