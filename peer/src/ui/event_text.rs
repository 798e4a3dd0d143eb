//! Events and messages as text for people.

use shared::account_name::{shell_operand, speaker_label};
use shared::names::name_encoding::display_name;
use shared::peer::{FileSend, ReceiptOutcome};
use shared::safe_text::{safe_block, safe_line};
use shared::tracker::room_reply::ListedRole;
use shared::{UntrustedText, UserName};

use super::human_format::{date_and_time, format_size};
use crate::engine::chat::describe_send;
use crate::engine::node_event::{NodeEvent, OtherSession};
use crate::engine::room_values::{RoomNews, RoomNewsKind};
use crate::engine::wishes::WishMatch;
use crate::engine::{Notice, PollReason};
use crate::util::shell_words::shell_quote;

/// Returns an event of `me`'s node as one line; `None` for events of no interest to people.
pub fn event_line(event: &NodeEvent, me: &UserName) -> Option<String> {
    Some(match event {
        // Behind a NAT or with an announced address: the port there must be forwarded to the local one.
        NodeEvent::Online { user, address, port, .. } if address.port() != *port => {
            format!("online as {user} at {address}, which has to lead to UDP port {port} here")
        }
        NodeEvent::Online { user, address, .. } => format!("online as {user} at {address}"),
        NodeEvent::Displaced(elsewhere) => {
            format!("not online here: {}; `peer serve` takes over here", elsewhere_words(elsewhere))
        }
        NodeEvent::AccountMoved { user, since } => {
            format!("the account {user} lives on another machine since {}", date_and_time(*since))
        }
        NodeEvent::TrackerLost { why } => format!("{}; trying again, known peers can still connect", safe_line(why)),
        NodeEvent::SharesChanged { count: 1 } => "1 file is shared now".to_owned(),
        NodeEvent::SharesChanged { count } => format!("{count} files are shared now"),
        NodeEvent::SharesRefused { why } => {
            format!(
                "the tracker does not list what you share ({}); trying again, peers can still fetch it",
                safe_line(why)
            )
        }
        NodeEvent::AddressDropped { address } => format!(
            "the tracker does not tell others of {address}: whoever runs it allows that with `tracker --allow-announce {}`",
            address.ip()
        ),
        NodeEvent::Presence { user, online: true } => format!("{} is online", speaker_label(user)),
        NodeEvent::Presence { user, online: false } => format!("{} went offline", speaker_label(user)),
        NodeEvent::Received { from, message, .. } => match &message.send {
            Some(send) => format!("{} {}", speaker_label(from), send_words(from, send, None)),
            None => message_line(&speaker_label(from), &message.text),
        },
        NodeEvent::ContactRequest { from } => {
            format!("{} wants to talk: {}", speaker_label(from), request_commands(from))
        }
        NodeEvent::RoomMessage(post) => {
            message_line(&format!("#{} {}", post.room, speaker_label(&post.from)), &post.text)
        }
        NodeEvent::Room(news) => return room_news_words(news, me).map(|words| format!("#{}: {words}", news.room)),
        NodeEvent::MessageQueued { to, message, .. } => message_line(&format!("to {to}"), &message.text),
        NodeEvent::MessageStateChanged { to, state, why: Some(why), .. } if state.is_given_up() => {
            format!("a message to {to} was not delivered: {}", safe_line(why))
        }
        NodeEvent::DeliveryHeld { user, why, frozen: true } => {
            // It has the commands for a changed key: its lines are kept, and none can pass for another event.
            format!("messages for {user} are held back: {}", safe_block(why).replace('\n', "\n    "))
        }
        NodeEvent::DeliveryHeld { user, why, .. } => format!("messages for {user} are queued: {}", safe_line(why)),
        NodeEvent::NotStored { from, why } => {
            format!("a message of {from} could not be stored, and is sent again later: {}", safe_line(why))
        }
        NodeEvent::EventsMissed { count } => format!("({count} events were not shown)"),
        NodeEvent::MessageStateChanged { .. }
        | NodeEvent::Typing { .. }
        | NodeEvent::Read { .. }
        | NodeEvent::Accepted { .. }
        | NodeEvent::Transfer(_) => return None,
        NodeEvent::Fetched { by, name, bytes, size: all } if bytes >= all => {
            format!("{by} fetched {} ({})", display_name(name.as_str()), format_size(*all))
        }
        NodeEvent::Fetched { by, name, bytes, size: all } => {
            format!(
                "{by} fetched part of {} ({} of {})",
                display_name(name.as_str()),
                format_size(*bytes),
                format_size(*all)
            )
        }
        NodeEvent::SendSettled { by, send, outcome: ReceiptOutcome::Done, .. } => {
            format!("{} has {}", speaker_label(by), shown_send(send))
        }
        NodeEvent::SendSettled { by, send, .. } => format!("{} declined {}", speaker_label(by), shown_send(send)),
        NodeEvent::SendAccepted { from, send, folder } => {
            format!("{} of {} is in {}", shown_send(send), speaker_label(from), safe_line(folder))
        }
        NodeEvent::SendHeld { from, send, why } => {
            let (what, from) = (shown_send(send), speaker_label(from));
            format!("{what} of {from} waits for you: {} (`peer accepts` lists it)", safe_line(why))
        }
        NodeEvent::AcceptRuleEnded { user } => format!(
            "the key of {} changed: what they send waits for you again (`peer accept {}` accepts it)",
            speaker_label(user),
            shell_operand(user)
        ),
        NodeEvent::WishFound { wish, file, others, is_fetched, why, .. } => {
            wish_words(*wish, file, *others, *is_fetched, why.as_deref())
        }
        NodeEvent::WishFetched { wish, file, folder, .. } => {
            let (what, by) = (display_name(file.name.as_str()), speaker_label(&file.by));
            format!("{what} of {by} is in {} (wish {wish})", safe_line(folder))
        }
        NodeEvent::FetchedMore { by, count, bytes } => {
            let by = by.as_ref().map_or("others", UserName::as_str);
            format!("{by} fetched {count} more files ({})", format_size(*bytes))
        }
        NodeEvent::Refused { address, why } => format!("a caller at {address} was turned away: {}", safe_line(why)),
        NodeEvent::RefusedMore { count, from: Some(from) } => {
            format!("{count} more callers at {from} were turned away within 10 seconds")
        }
        NodeEvent::RefusedMore { count, from: None } => {
            format!("{count} more callers at other addresses were turned away within 10 seconds")
        }
        NodeEvent::Stale { name } => format!("{} changed and is being hashed again", display_name(name.as_str())),
        NodeEvent::Notice(notice) => notice_line(notice),
    })
}

/// Returns a change of a room in words for `me`; `None` if only marks show it.
pub(super) fn room_news_words(news: &RoomNews, me: &UserName) -> Option<String> {
    let name = |user: &UserName| if user == me { "you".to_owned() } else { speaker_label(user).into_owned() };
    Some(match &news.kind {
        RoomNewsKind::Joined { user } => format!("{} joined", name(user)),
        RoomNewsKind::Invited => format!("you are invited: `peer room join {}`", news.room),
        RoomNewsKind::Left { user } => format!("{} left", name(user)),
        RoomNewsKind::Kicked { user, by } if user == me => {
            format!("you were sent away by {}: coming back takes an invitation", speaker_label(by))
        }
        RoomNewsKind::Kicked { user, by } => format!("{} was sent away by {}", speaker_label(user), name(by)),
        RoomNewsKind::Role { user, role } => {
            let (is, owns) = if user == me { ("are", "own") } else { ("is", "owns") };
            match role {
                ListedRole::Owner => format!("{} {owns} it now", name(user)),
                ListedRole::Moderator => format!("{} {is} a moderator now", name(user)),
                ListedRole::Member | ListedRole::Unknown => format!("{} {is} no moderator any more", name(user)),
            }
        }
        RoomNewsKind::Topic { topic } if topic.as_str().is_empty() => "there is no topic any more".to_owned(),
        RoomNewsKind::Topic { topic } => format!("the topic is now: {}", safe_line(topic.as_str())),
        RoomNewsKind::Deleted => "the room was deleted; its history stays".to_owned(),
        RoomNewsKind::Restored => {
            "the tracker was restored from a backup: whoever joined since then has to join again".to_owned()
        }
        RoomNewsKind::Contradicted => "the tracker contradicts itself about the members".to_owned(),
        RoomNewsKind::Equivocation { user, .. } if user == me => {
            "your own account was restored from a backup, or runs twice".to_owned()
        }
        RoomNewsKind::Equivocation { user, .. } => {
            format!("{}'s node was restored from a backup, or runs twice", speaker_label(user))
        }
        RoomNewsKind::Gap { user } => {
            let whose = if user == me { "messages of yours".to_owned() } else { format!("messages of {}", name(user)) };
            format!("{whose} are missing: nobody who could be asked has them")
        }
        RoomNewsKind::Void { .. } | RoomNewsKind::Delivered { .. } => return None,
    })
}

/// Returns what a user sends in words that follow the user's name, with its number in a view.
pub fn send_words(from: &UserName, send: &FileSend, number: Option<usize>) -> String {
    let get = number.map_or_else(String::new, |number| format!("/get {number} or "));
    format!("wants to send you {}: {get}`peer accept {}`", shown_send(send), shell_operand(from))
}

/// Returns that somebody shares what was wished for, with the command that fetches it.
fn wish_words(wish: i64, file: &WishMatch, others: usize, is_fetched: bool, why: Option<&str>) -> String {
    let WishMatch { by, name, size, .. } = file;
    let (who, what, size) = (speaker_label(by), display_name(name.as_str()), format_size(*size));
    let fetch = format!("peer fetch {}", shell_quote(&[by.as_str(), name.as_str()]));
    match (why, is_fetched, others) {
        (Some(why), ..) => {
            format!("{who} shares {what} ({size}), which isn't fetched: {}; `{fetch}` fetches it", safe_line(why))
        }
        (None, true, _) => format!("{who} shares {what} ({size}), and it is being fetched (wish {wish})"),
        (None, false, 0) => format!("{who} shares {what} ({size}): `{fetch}`"),
        (None, false, others) => {
            format!("{who} shares {what} ({size}): `{fetch}`; {others} more match, which `peer find` shows")
        }
    }
}

fn shown_send(send: &FileSend) -> String {
    display_name(&describe_send(send)).into_owned()
}

/// Returns the advice about a message request, as commands of the shell.
pub fn request_commands(from: &UserName) -> String {
    let who = shell_operand(from);
    format!("`peer inbox --accept {who}` accepts them, `peer block {who}` ignores them")
}

/// Returns the advice about a message request, as commands of a view.
pub(super) fn request_note(from: &UserName) -> String {
    format!("{from} wants to talk: /accept, /ignore")
}

/// Describes the other place where an account is online.
pub fn elsewhere_words(elsewhere: &OtherSession) -> String {
    let since = elsewhere.since.map(|since| format!(" since {}", date_and_time(since))).unwrap_or_default();
    format!("this account is online with the same key at {}{since}, and messages go there", elsewhere.ip)
}

/// Returns a notice as one line.
pub fn notice_line(notice: &Notice) -> String {
    match notice {
        Notice::NewTracker { address, fingerprint } => {
            format!("first contact with the tracker {}: remembering its key {fingerprint}", safe_line(address))
        }
        Notice::NewFriend { user, fingerprint } => {
            format!(
                "first contact with {user}: remembering their key {fingerprint} (`peer verify {}` to be sure)",
                shell_operand(user)
            )
        }
        Notice::OtherLetters { asked, user } => format!("nobody is called {asked}: this is for {user}"),
        Notice::KeyPutAside { path } => format!("the damaged key is kept as {}", safe_line(path)),
        Notice::WithoutTracker { why } => format!("{}; using what is on record", safe_line(why)),
        Notice::MessageExpired { to, why } => format!("a message to {to} was not delivered: {why}"),
        Notice::FoldersPolled { folder, reason } => {
            let why = match reason {
                PollReason::FileSystem => "not all changes on network and FUSE file systems are reported".to_owned(),
                PollReason::WatchLimit => watch_limit_words("watches", 1_048_576),
                PollReason::InstanceLimit => watch_limit_words("instances", 1024),
            };
            format!("{} is looked through every few seconds or minutes: {why}", safe_line(folder))
        }
    }
}

fn watch_limit_words(what: &str, enough: u32) -> String {
    format!(
        "the system watches no more folders (`sudo sysctl fs.inotify.max_user_{what}={enough}` and a new start help)"
    )
}

/// Returns a message's text, with further lines indented so that none can pass for another message.
pub fn message_lines(text: &UntrustedText) -> String {
    text.safe_block().replace('\n', "\n    ").replace('\t', "    ")
}

/// Returns a message with its sender, with further lines indented so that none can pass for another message.
pub fn message_line(from: &str, text: &UntrustedText) -> String {
    format!("{from}: {}", message_lines(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_pass_for_another() {
        assert_eq!(message_line("bob", &"hi\ncarol: send money".into()), "bob: hi\n    carol: send money");
        assert_eq!(message_line("bob", &"\u{1b}[2J".into()), "bob: ␛[2J");
    }
}
