//! How things stand, in one row. Pure.

use ratatui_core::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::LineView;
use crate::engine::node::control::Person;
use crate::ui::look::{Look, Mark};
use crate::ui::wrap::cut;

/// The last row: who, whether they are there, what waits, who else wrote. What doesn't fit is said shorter, or not.
pub(super) fn line(view: &LineView, columns: usize) -> Line<'static> {
    let look = view.look;
    let is_wide = columns >= 40;
    let (sign, word) = match view.online {
        Some(true) => (look.presence(true), "online"),
        Some(false) => (look.presence(false), "offline"),
        None if view.is_nobody() => (look.presence(false), "unknown user"),
        None => ("?", "not known to be online"),
    };
    let style = if view.online == Some(true) { look.good() } else { look.dim() };
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
    let waiting = view.waiting();
    if waiting > 0 {
        let mark = look.mark(Mark::Waiting);
        parts.push(if is_wide { format!("{waiting} waiting") } else { format!("{mark}{waiting}") });
    }
    if view.typing.is_some() {
        parts.push(if is_wide { format!("typing{}", look.mark(Mark::Waiting)) } else { "typing".to_owned() });
    }
    if !view.elsewhere.is_empty() {
        let others: Vec<String> = view.elsewhere.iter().map(|(user, unread)| format!("{user} {unread}")).collect();
        parts.push(if is_wide { format!("{} unread", others.join(", ")) } else { others.join(", ") });
    }
    if view.transfers.running() > 0 && !is_wide {
        parts.push(format!("{} on the way", view.transfers.running()));
    }
    let room = columns.saturating_sub(sign.width() + 1);
    let mut text = String::new();
    for part in parts {
        let longer = if text.is_empty() { part } else { format!("{text}{}{part}", look.separator()) };
        // The first says with whom one talks: rather cut than left out.
        if longer.width() > room && !text.is_empty() {
            continue;
        }
        text = longer;
    }
    let text = cut(&text, room, look.ellipsis());
    let free = room.saturating_sub(text.width());
    spans.push(Span::styled(format!(" {text}"), look.dim()));
    if free >= 10 {
        spans.push(Span::styled(format!("{:>free$}", "/help"), look.dim()));
    }
    Line::from(spans)
}

/// Somebody, on one line.
pub(super) fn person(person: &Person, look: Look) -> String {
    let word = match person.online {
        Some(true) => "online",
        Some(false) => "offline",
        None => "not known to be online",
    };
    let mut line = format!("{} {} {word}", look.presence(person.online == Some(true)), person.user);
    let mut add = |count: usize, what: &str| {
        if count > 0 {
            line.push_str(&format!("{}{count} {what}", look.separator()));
        }
    };
    add(person.unread, "unread");
    add(person.waiting, "waiting");
    if person.frozen {
        line.push_str(&format!("{}key changed", look.separator()));
    }
    if person.request {
        line.push_str(&format!("{}wants to talk", look.separator()));
    }
    if person.blocked {
        line.push_str(&format!("{}ignored", look.separator()));
    }
    line
}
