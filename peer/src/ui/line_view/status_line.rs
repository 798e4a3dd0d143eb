//! The status line of the line view. Pure.

use localization::tr;
use ratatui_core::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use crate::engine::chat::ConversationName;
use crate::engine::node::UserSummary;
use crate::engine::room_values::RoomOverview;
use crate::ui::chat_model::{ChatModel, member_counts};
use crate::ui::human_format::presence_word;
use crate::ui::text_wrap::truncate;
use crate::ui::theme::{DeliveryMark, TerminalTheme};

/// Returns the last row: the user's presence, waiting messages, unread messages of others. Parts without room are
/// shortened or left out.
pub(super) fn status_line(
    chat: &ChatModel,
    with: &ConversationName,
    is_unknown_user: bool,
    theme: TerminalTheme,
    columns: usize,
) -> Line<'static> {
    let is_wide = columns >= 40;
    let person = with.person().and_then(|user| chat.summary(user));
    let online = person.and_then(|person| person.online);
    let has = |flag: fn(&UserSummary) -> bool| person.is_some_and(flag);
    let room = with.room().and_then(|room| chat.room(room));
    let (sign, style, name) = match (with, online) {
        (ConversationName::Room(_), _) => ("#", theme.dim(), room_label(with, room, columns)),
        (ConversationName::Person(_), Some(is_online)) => {
            let style = if is_online { theme.good() } else { theme.dim() };
            (theme.presence(is_online), style, user_label(with, &presence_word(online), columns))
        }
        (ConversationName::Person(_), None) if is_unknown_user => {
            (theme.presence(false), theme.dim(), user_label(with, &tr!("unknown user"), columns))
        }
        (ConversationName::Person(_), None) => ("?", theme.dim(), user_label(with, &presence_word(None), columns)),
    };
    let mut spans = vec![Span::styled(sign, style)];
    let mut parts = vec![name];
    if has(|person| person.frozen) {
        parts.push(tr!("key changed"));
    }
    if is_wide && has(|person| person.request) {
        parts.push(tr!("wants to talk: /accept, /ignore"));
    }
    if has(|person| person.blocked) {
        parts.push(tr!("ignored"));
    }
    let waiting = chat.undelivered_count(with);
    if waiting > 0 {
        let mark = theme.mark(DeliveryMark::Waiting);
        parts.push(if is_wide { queued_words(waiting) } else { format!("{mark}{waiting}") });
    }
    if with.person().is_some_and(|user| chat.is_typing(user)) {
        let mark = if is_wide { theme.mark(DeliveryMark::Waiting) } else { "" };
        parts.push(tr!("typing") + mark);
    }
    if room.is_some_and(|room| room.muted) || has(|person| person.muted) {
        parts.push(tr!("muted"));
    }
    let people = chat.users().iter().filter(|person| *with != person.user && !person.muted).map(|person| {
        let UserSummary { user, unread, .. } = person;
        (user.to_string(), *unread)
    });
    let rooms = chat.rooms().iter().filter(|room| *with != room.room && !room.muted);
    let rooms = rooms.map(|room| (format!("#{}", room.room), room.unread));
    let mut others: Vec<(String, usize)> = people.chain(rooms).filter(|(_, unread)| *unread > 0).collect();
    if !others.is_empty() {
        // By name: the users' own order changes with their presence.
        others.sort();
        let others: Vec<String> = others.iter().map(|(name, unread)| format!("{name} {unread}")).collect();
        let others = others.join(", ");
        parts.push(if is_wide { tr!("{others} unread", others) } else { others });
    }
    let running = chat.transfers.running_count();
    if running > 0 && !is_wide {
        parts.push(tr!("{count} on the way", count = running));
    }
    let room = columns.saturating_sub(sign.width() + 1);
    let mut text = String::new();
    for part in parts {
        let longer = if text.is_empty() { part } else { format!("{text}{}{part}", theme.separator()) };
        // The first part names the user and is truncated rather than left out.
        if longer.width() > room && !text.is_empty() {
            // One that doesn't fit leaves its place to a shorter one behind it.
            continue;
        }
        text = longer;
    }
    let text = truncate(&text, room, theme.ellipsis());
    let free = room.saturating_sub(text.width());
    // The sign of a room is part of its name.
    let gap = if with.room().is_some() { "" } else { " " };
    spans.push(Span::styled(format!("{gap}{text}"), theme.dim()));
    if free >= 10 {
        spans.push(Span::styled(format!("{:>free$}", "/help"), theme.dim()));
    }
    Line::from(spans)
}

fn user_label(with: &ConversationName, word: &str, columns: usize) -> String {
    let name = with.to_string();
    if columns >= 40 || name.len() + 10 <= columns { format!("{name} {word}") } else { name }
}

/// Returns the room's name without its mark, which stands in front of it.
fn room_label(with: &ConversationName, room: Option<&RoomOverview>, columns: usize) -> String {
    let name = with.room().map_or_else(String::new, ToString::to_string);
    match room {
        Some(room) if room.role.is_none() => format!("{name} {}", tr!("room" => "left")),
        Some(room) if columns >= 40 || name.len() + 16 <= columns => format!("{name} {}", member_counts(room)),
        _ => name,
    }
}

/// Returns one line about a user, for `/who`.
pub(super) fn user_line(person: &UserSummary, theme: TerminalTheme) -> String {
    let (sign, word) = (theme.presence(person.online == Some(true)), presence_word(person.online));
    let remarks = [
        (person.unread > 0).then(|| unread_words(person.unread)),
        (person.waiting > 0).then(|| queued_words(person.waiting)),
        person.frozen.then(|| tr!("key changed")),
        person.request.then(|| tr!("wants to talk")),
        person.blocked.then(|| tr!("ignored")),
    ];
    let mut line = format!("{sign} {} {word}", person.user);
    remarks.iter().flatten().for_each(|remark| line.extend([theme.separator(), remark]));
    line
}

fn unread_words(count: usize) -> String {
    tr!("{n} unread" | "{n} unread" % count)
}

fn queued_words(count: usize) -> String {
    tr!("{n} queued" | "{n} queued" % count)
}
