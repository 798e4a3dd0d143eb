//! The status line of the line view. Pure.

use ratatui_core::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::LineViewModel;
use crate::engine::node::control::UserSummary;
use crate::ui::text_wrap::truncate;
use crate::ui::theme::{DeliveryMark, TerminalTheme};

/// Returns the last row: the user's presence, waiting messages, unread messages of others. Parts without room are
/// shortened or left out.
pub(super) fn status_line(view: &LineViewModel, columns: usize) -> Line<'static> {
    let theme = view.theme;
    let is_wide = columns >= 40;
    let (sign, word) = match view.online {
        Some(true) => (theme.presence(true), "online"),
        Some(false) => (theme.presence(false), "offline"),
        None if view.is_unknown_user() => (theme.presence(false), "unknown user"),
        None => ("?", "not known to be online"),
    };
    let style = if view.online == Some(true) { theme.good() } else { theme.dim() };
    let mut spans = vec![Span::styled(sign, style)];
    let mut parts = vec![if is_wide || view.with.as_str().len() + 10 <= columns {
        format!("{} {word}", view.with)
    } else {
        view.with.to_string()
    }];
    if view.frozen {
        parts.push("key changed".to_owned());
    }
    if view.request && is_wide {
        parts.push("wants to talk: /accept, /ignore".to_owned());
    }
    if view.blocked {
        parts.push("ignored".to_owned());
    }
    let waiting = view.undelivered_count();
    if waiting > 0 {
        let mark = theme.mark(DeliveryMark::Waiting);
        parts.push(if is_wide { format!("{waiting} queued") } else { format!("{mark}{waiting}") });
    }
    if view.typing_until.is_some() {
        parts.push(if is_wide { format!("typing{}", theme.mark(DeliveryMark::Waiting)) } else { "typing".to_owned() });
    }
    if !view.unread_elsewhere.is_empty() {
        let others: Vec<String> =
            view.unread_elsewhere.iter().map(|(user, unread)| format!("{user} {unread}")).collect();
        parts.push(if is_wide { format!("{} unread", others.join(", ")) } else { others.join(", ") });
    }
    if view.transfers.running_count() > 0 && !is_wide {
        parts.push(format!("{} on the way", view.transfers.running_count()));
    }
    let room = columns.saturating_sub(sign.width() + 1);
    let mut text = String::new();
    for part in parts {
        let longer = if text.is_empty() { part } else { format!("{text}{}{part}", theme.separator()) };
        // The first part names the user and is truncated rather than left out.
        if longer.width() > room && !text.is_empty() {
            continue;
        }
        text = longer;
    }
    let text = truncate(&text, room, theme.ellipsis());
    let free = room.saturating_sub(text.width());
    spans.push(Span::styled(format!(" {text}"), theme.dim()));
    if free >= 10 {
        spans.push(Span::styled(format!("{:>free$}", "/help"), theme.dim()));
    }
    Line::from(spans)
}

/// Returns one line about a user, for `/who`.
pub(super) fn user_line(person: &UserSummary, theme: TerminalTheme) -> String {
    let word = match person.online {
        Some(true) => "online",
        Some(false) => "offline",
        None => "not known to be online",
    };
    let mut line = format!("{} {} {word}", theme.presence(person.online == Some(true)), person.user);
    let mut add = |count: usize, what: &str| {
        if count > 0 {
            line.push_str(&format!("{}{count} {what}", theme.separator()));
        }
    };
    add(person.unread, "unread");
    add(person.waiting, "queued");
    if person.frozen {
        line.push_str(&format!("{}key changed", theme.separator()));
    }
    if person.request {
        line.push_str(&format!("{}wants to talk", theme.separator()));
    }
    if person.blocked {
        line.push_str(&format!("{}ignored", theme.separator()));
    }
    line
}
