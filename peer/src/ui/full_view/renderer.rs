//! The drawing of the full view: panes, overlays, help row. Pure.

use localization::tr;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::{Position, Rect};
use ratatui_core::style::Style;
use ratatui_core::text::{Line, Span};
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_line;
use unicode_width::UnicodeWidthStr;

use super::conversation_pane::{ConversationPane, FileListState};
use super::full_view_model::{FullViewModel, StatusNotice};
use super::pane_layout::FocusedPane;
use super::screen_painter::{PlacedHyperlink, ScreenFrame};
use super::view_overlay::ViewOverlay;
use crate::engine::chat::ConversationName;
use crate::engine::node::UserSummary;
use crate::engine::room_values::RoomOverview;
use crate::ui::chat_model::member_counts;
use crate::ui::composer::MessageComposer;
use crate::ui::conversation_item::unread_heading;
use crate::ui::human_format::{format_size, presence_word};
use crate::ui::text_rows::{RowHyperlink, TextRow};
use crate::ui::text_wrap::{truncate, truncate_distinct, wrap_text};
use crate::ui::theme::DeliveryMark;
use crate::ui::view::MAX_SEARCH_RESULTS;

/// Draws the whole view.
pub(super) fn draw(view: &FullViewModel, picture: &mut ScreenFrame) {
    let area = picture.area();
    let layout = view.layout();
    if let Some(overlay) = &view.overlay {
        draw_overlay(view, overlay, picture, Rect { height: area.height.saturating_sub(1), ..area });
        // The way back matters most, so it is kept on a narrow screen.
        let keys = tr!("any other key: back  PgUp, PgDn, Up, Down: the rest");
        let keys = if usize::from(layout.help.width) < keys.width() { tr!("any other key: back") } else { keys };
        let help = truncate(&keys, layout.help.width.into(), view.theme.ellipsis());
        draw_line(&mut picture.cells, layout.help, 0, &Line::styled(help, view.theme.dim()));
        return;
    }
    let buffer = &mut picture.cells;
    if let Some(pane) = layout.users {
        draw_users(view, buffer, pane);
    }
    if let Some(pane) = layout.files {
        draw_files(view, buffer, pane);
    }
    if let Some(pane) = layout.transfers {
        draw_transfers(view, buffer, pane);
    }
    draw_help(view, buffer, layout.help);
    let cursor = layout.conversation.and_then(|pane| draw_conversation(view, picture, pane));
    picture.cursor = cursor.filter(|_| view.focus == FocusedPane::Conversation);
}

fn draw_users(view: &FullViewModel, buffer: &mut Buffer, pane: Rect) {
    let theme = view.theme;
    draw_title(view, buffer, pane, FocusedPane::Users, &tr!("People, you: {user}", user = view.chat.me()));
    let rows = usize::from(pane.height.saturating_sub(1));
    let all = view.conversations();
    let chosen = all.iter().position(|with| Some(with) == view.selected.as_ref()).unwrap_or(0);
    // The list scrolls only as far as the selected conversation requires.
    let first = chosen.saturating_sub(rows.saturating_sub(1));
    for (y, with) in (1..pane.height).zip(all.iter().skip(first)) {
        let is_chosen = Some(with) == view.selected.as_ref();
        let (sign, style, label, is_unread) = match with {
            ConversationName::Person(user) => match view.chat.summary(user) {
                Some(person) => {
                    let is_online = person.online == Some(true);
                    let style = if is_online { theme.good() } else { theme.dim() };
                    (theme.presence(is_online), style, user_label(view, person), person.unread > 0 && !person.muted)
                }
                None => continue,
            },
            ConversationName::Room(name) => match view.chat.room(name) {
                Some(room) => {
                    let style = if room.role.is_some() { theme.bold() } else { theme.dim() };
                    ("#", style, room_label(view, room), room.unread > 0 && !room.muted)
                }
                None => continue,
            },
        };
        let line = Line::from(vec![
            Span::raw(if is_chosen { ">" } else { " " }),
            Span::styled(sign, style),
            Span::raw(format!(" {}", truncate(&label, usize::from(pane.width).saturating_sub(3), theme.ellipsis()))),
        ]);
        draw_line(buffer, pane, y, &line);
        if is_chosen {
            style_row(buffer, pane, y, if view.focus == FocusedPane::Users { theme.selected() } else { theme.bold() });
        } else if is_unread {
            style_row(buffer, pane, y, theme.bold());
        }
    }
    if all.is_empty() {
        let hint = tr!("nobody yet: whoever registers at the tracker and comes online is shown here");
        for (y, row) in (1..pane.height).zip(wrap_text(&hint, usize::from(pane.width))) {
            draw_line(buffer, pane, y, &Line::styled(row, theme.dim()));
        }
    }
}

/// Returns a room's label, without the mark in front of it.
fn room_label(view: &FullViewModel, room: &RoomOverview) -> String {
    let mut text = if room.unread > 0 { format!("({}) {}", room.unread, room.room) } else { room.room.to_string() };
    let undelivered = view.chat.undelivered_count(&(&room.room).into());
    if undelivered > 0 {
        text.push_str(&format!(" {}{undelivered}", view.theme.mark(DeliveryMark::Waiting)));
    }
    let remarks = [room.muted.then(|| tr!("muted")), room.role.is_none().then(|| tr!("room" => "left"))];
    remarks.iter().flatten().for_each(|remark| text.extend([" ", remark]));
    text
}

/// Returns a user's label; the number of unread messages is in front, where it can't be truncated.
fn user_label(view: &FullViewModel, person: &UserSummary) -> String {
    let mut text =
        if person.unread > 0 { format!("({}) {}", person.unread, person.user) } else { person.user.to_string() };
    let undelivered = view.chat.undelivered_count(&(&person.user).into());
    if undelivered > 0 {
        text.push_str(&format!(" {}{undelivered}", view.theme.mark(DeliveryMark::Waiting)));
    }
    let remarks = [
        view.chat.is_typing(&person.user).then(|| tr!("typing")),
        person.muted.then(|| tr!("muted")),
        person.frozen.then(|| tr!("key changed")),
        person.request.then(|| tr!("wants to talk")),
        person.blocked.then(|| tr!("ignored")),
    ];
    remarks.iter().flatten().for_each(|remark| text.extend([" ", remark]));
    text
}

fn draw_conversation(view: &FullViewModel, picture: &mut ScreenFrame, pane: Rect) -> Option<Position> {
    let Some((name, remark, about)) = conversation_heading(view) else {
        draw_title(view, &mut picture.cells, pane, FocusedPane::Conversation, &tr!("nobody"));
        return None;
    };
    let empty = ConversationPane::default();
    let shown = view.selected_pane().unwrap_or(&empty);
    let unread = match view.selected.as_ref().map_or(0, |with| view.chat.unread_count(with)) {
        0 => String::new(),
        // The unread messages begin before the loaded ones.
        unread if !shown.has_received(unread) => {
            format!(", {}", tr!("{n} unread: PgUp" | "{n} unread: PgUp" % unread))
        }
        new if shown.scroll_back > 0 => format!(", {} {}", view.theme.more_below(), unread_heading(new)),
        _ => String::new(),
    };
    // The unread count stands before the part that may be truncated.
    let back = if shown.scroll_back > 0 { format!(", {}", tr!("looking back")) } else { String::new() };
    let heading = format!("{name} {remark}{unread}{back}{about}");
    draw_title(view, &mut picture.cells, pane, FocusedPane::Conversation, &heading);
    let columns = usize::from(pane.width);
    let beside = view.popup_rows(columns);
    let room = usize::from(pane.height).saturating_sub(2 + beside.len());
    let rows = shown.rows(view.theme, columns, room);
    for (y, row) in (1..).zip(&rows) {
        draw_row(picture, pane, y, row);
    }
    let buffer = &mut picture.cells;
    if pane.height < 2 {
        return None;
    }
    let line_at = pane.height - 1 - u16::try_from(beside.len()).unwrap_or(0).min(pane.height - 1);
    let (line, column) = match view.selected_conversation() {
        Some(talk) => talk.composer.render(view.theme, columns),
        None => MessageComposer::default().render(view.theme, columns),
    };
    draw_line(buffer, pane, line_at, &line);
    for (y, row) in (line_at + 1..).zip(&beside) {
        draw_line(buffer, pane, y, row);
    }
    let column = u16::try_from(column).unwrap_or(0).min(pane.width.saturating_sub(1));
    Some(Position::new(pane.x + column, pane.y + line_at))
}

/// Returns the name of the selected conversation, who is there, and its topic.
fn conversation_heading(view: &FullViewModel) -> Option<(String, String, String)> {
    let with = view.selected.as_ref()?;
    let (remark, about) = match with {
        ConversationName::Person(user) => {
            let person = view.chat.summary(user)?;
            let ignored = person.blocked.then(|| tr!("ignored"));
            let remarks = [Some(presence_word(person.online)), ignored];
            (remarks.into_iter().flatten().collect::<Vec<_>>().join(", "), String::new())
        }
        ConversationName::Room(name) => {
            let room = view.chat.room(name)?;
            let topic = room.topic.as_str();
            let about = if topic.is_empty() { String::new() } else { format!(": {}", safe_line(topic)) };
            (if room.role.is_some() { member_counts(room) } else { tr!("room" => "left") }, about)
        }
    };
    Some((with.to_string(), remark, about))
}

fn draw_files(view: &FullViewModel, buffer: &mut Buffer, pane: Rect) {
    let theme = view.theme;
    let listed = view.selected_pane().map(|shown| &shown.files);
    let start = match listed {
        Some(FileListState::Listed { start, .. }) => safe_line(start),
        _ => "".into(),
    };
    let whose = match &view.selected {
        None => tr!("files"),
        Some(with) if start.is_empty() => tr!("{user}'s files", user = with),
        Some(with) => tr!("{user}'s files: {start}", user = with, start),
    };
    draw_title(view, buffer, pane, FocusedPane::Files, &whose);
    let nothing = |buffer: &mut Buffer, text: &str| {
        for (y, row) in (1..pane.height).zip(wrap_text(text, usize::from(pane.width).saturating_sub(1))) {
            draw_line(buffer, pane, y, &Line::styled(format!(" {row}"), theme.dim()));
        }
    };
    let is_away = view.selected_summary().is_some_and(|person| person.online == Some(false));
    let files = match listed {
        Some(FileListState::Listed { files, .. }) => files,
        Some(FileListState::Requested) => return nothing(buffer, &tr!("asking")),
        Some(FileListState::Failed) => return nothing(buffer, &tr!("the list could not be loaded; Ctrl-R: refresh")),
        _ if view.selected.as_ref().is_some_and(|with| with.room().is_some()) => {
            return nothing(buffer, &tr!("Ctrl-R: ask the members who are online what they share here"));
        }
        _ if is_away => {
            let of = |with| tr!("files appear when {user} is online", user = with);
            return nothing(buffer, &view.selected.as_ref().map_or_else(String::new, of));
        }
        _ => return nothing(buffer, &tr!("Ctrl-R: refresh")),
    };
    if files.is_empty() {
        let hint = if start.is_empty() { tr!("nothing is shared") } else { tr!("nothing has such a name") };
        return nothing(buffer, &hint);
    }
    let rows = usize::from(pane.height.saturating_sub(1));
    let chosen = view.selected_file_index();
    let first = chosen.saturating_sub(rows.saturating_sub(1));
    // Names are compared among the shown rows: a folder's files often differ only in the middle.
    let names: Vec<_> = files.iter().skip(first).take(rows).map(|file| display_name(file.name.as_str())).collect();
    for (y, (place, file)) in (1..pane.height).zip(files.iter().enumerate().skip(first)) {
        let is_chosen = place == chosen && view.focus == FocusedPane::Files;
        let sign = if is_chosen { ">" } else { " " };
        // The sign, eight columns of size, and a blank before and behind the name.
        let room = usize::from(pane.width).saturating_sub(11);
        let among = names.iter().map(|name| &**name);
        let name = truncate_distinct(&display_name(file.name.as_str()), among, room, theme.ellipsis());
        draw_line(buffer, pane, y, &Line::raw(format!("{sign}{:>8} {name}", format_size(file.size))));
        if is_chosen {
            style_row(buffer, pane, y, theme.selected());
        }
    }
}

fn draw_transfers(view: &FullViewModel, buffer: &mut Buffer, pane: Rect) {
    let columns = usize::from(pane.width);
    let rows = usize::from(pane.height);
    if view.focus != FocusedPane::Transfers {
        for (y, row) in (0..).zip(view.chat.transfers.rows(view.theme, columns, rows)) {
            draw_line(buffer, pane, y, &row);
        }
        return;
    }
    draw_title(view, buffer, pane, FocusedPane::Transfers, &tr!("transfers"));
    let running = view.chat.transfers.rows(view.theme, columns, rows.saturating_sub(1));
    let ended = view.chat.transfers.ended_rows(view.theme, columns);
    for (y, row) in (1..pane.height).zip(running.iter().chain(&ended)) {
        draw_line(buffer, pane, y, row);
    }
}

fn draw_help(view: &FullViewModel, buffer: &mut Buffer, row: Rect) {
    let columns = usize::from(row.width);
    if let Some(StatusNotice { text, is_problem }) = &view.notice {
        let style = if *is_problem { view.theme.problem() } else { view.theme.bold() };
        // The row has room for one line only, without signs for line ends.
        let text = safe_line(text).replace('␊', " ");
        // The colour alone says nothing on a terminal without colours.
        let sign = if *is_problem { "! " } else { "" };
        draw_line(
            buffer,
            row,
            0,
            &Line::styled(truncate(&format!("{sign}{text}"), columns, view.theme.ellipsis()), style),
        );
        return;
    }
    let is_part = view
        .selected_pane()
        .is_some_and(|shown| matches!(&shown.files, FileListState::Listed { start, .. } if !start.is_empty()));
    let (help, pane, leave) = (tr!("?: help"), tr!("Tab: next pane"), tr!("Ctrl-D: leave"));
    let parts = match view.focus {
        FocusedPane::Users => vec![help, tr!("Enter: talk"), pane, tr!("Up, Down: choose"), leave],
        FocusedPane::Conversation => {
            vec![tr!("F1: help"), tr!("Enter: send"), pane, tr!("PgUp: look back"), tr!("Esc: people"), leave]
        }
        FocusedPane::Files if is_part => vec![help, tr!("Enter: fetch"), tr!("Backspace: all files"), pane],
        FocusedPane::Files => vec![help, tr!("Enter: fetch"), pane, tr!("Ctrl-R: refresh"), leave],
        FocusedPane::Transfers => vec![help, pane, leave],
    };
    // Parts that don't fit are left out, so each list is sorted by importance.
    let mut text = String::new();
    for part in parts {
        let longer = if text.is_empty() { part } else { format!("{text}  {part}") };
        if longer.width() <= columns {
            text = longer;
        }
    }
    draw_line(buffer, row, 0, &Line::styled(text, view.theme.dim()));
}

fn draw_overlay(view: &FullViewModel, overlay: &ViewOverlay, picture: &mut ScreenFrame, area: Rect) {
    let columns = usize::from(area.width);
    let most = usize::from(area.height.saturating_sub(1));
    let rows = overlay.rows(columns, view.theme, view.selected.as_ref());
    let hidden = rows.len().saturating_sub(most);
    let (heading, first) = match overlay {
        ViewOverlay::Help { scroll_down: down } => (tr!("help"), (*down).min(hidden)),
        ViewOverlay::Found { words, entries, scroll_back: back } => {
            let heading = format!("{}: {}", found_heading(entries.len()), safe_line(words));
            // The latest results are at the bottom, as in a conversation.
            (heading, hidden.saturating_sub(*back))
        }
    };
    let heading = Line::styled(truncate(&heading, columns, view.theme.ellipsis()), view.theme.bold());
    draw_line(&mut picture.cells, area, 0, &heading);
    for (y, row) in (1..area.height).zip(rows.iter().skip(first)) {
        draw_row(picture, area, y, row);
    }
}

fn found_heading(found: usize) -> String {
    match found {
        0 => tr!("no messages found"),
        MAX_SEARCH_RESULTS => tr!("the last {count} found", count = MAX_SEARCH_RESULTS),
        count => tr!("{n} found" | "{n} found" % count),
    }
}

fn draw_title(view: &FullViewModel, buffer: &mut Buffer, pane: Rect, of: FocusedPane, text: &str) {
    let room = usize::from(pane.width).saturating_sub(2);
    let text = truncate(text, room, view.theme.ellipsis());
    let (text, style) = if view.focus == of {
        (format!("[{text}]"), view.theme.bold())
    } else {
        (format!(" {text} "), view.theme.dim())
    };
    draw_line(buffer, pane, 0, &Line::styled(text, style));
}

fn draw_line(buffer: &mut Buffer, pane: Rect, y: u16, line: &Line<'_>) {
    // Outside of its buffer ratatui panics, and a small screen has fewer rows than a pane has titles and lines.
    if y < pane.height && pane.y + y < buffer.area.bottom() {
        buffer.set_line(pane.x, pane.y + y, line, pane.width);
    }
}

/// Draws a row that may contain links.
fn draw_row(picture: &mut ScreenFrame, pane: Rect, y: u16, row: &TextRow) {
    draw_line(&mut picture.cells, pane, y, &row.line);
    let column = |cell: usize| pane.x + u16::try_from(cell).unwrap_or(u16::MAX).min(pane.width);
    let placed = row.links.iter().map(|RowHyperlink { cells: (from, to), target }| PlacedHyperlink {
        row: pane.y + y,
        columns: (column(*from), column(*to)),
        target: target.clone(),
    });
    picture.links.extend(placed);
}

fn style_row(buffer: &mut Buffer, pane: Rect, y: u16, style: Style) {
    buffer.set_style(Rect { y: pane.y + y, height: 1, ..pane }.intersection(buffer.area), style);
}
