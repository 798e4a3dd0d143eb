//! Events and messages as text for people.

use localization::tr;
use shared::account_name::{shell_operand, speaker_label};
use shared::names::name_encoding::display_name;
use shared::peer::{FileSend, ReceiptOutcome};
use shared::safe_text::{safe_block, safe_line};
use shared::tracker::room_reply::ListedRole;
use shared::{UntrustedText, UserName};

use super::follow_text::follow_line;
use super::human_format::{date_and_time, format_size};
use crate::engine::chat::describe_send;
use crate::engine::guest_links::GuestPost;
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
            tr!("online as {user} at {address}, which has to lead to UDP port {port} here", user, address, port)
        }
        NodeEvent::Online { user, address, .. } => tr!("online as {user} at {address}", user, address),
        NodeEvent::Displaced(elsewhere) => {
            tr!("not online here: {why}; `peer serve` takes over here", why = elsewhere_words(elsewhere))
        }
        NodeEvent::AccountMoved { user, since } => {
            tr!("the account {user} lives on another machine since {time}", user, time = date_and_time(*since))
        }
        NodeEvent::TrackerLost { why } => {
            tr!("{why}; trying again, known peers can still connect", why = safe_line(why))
        }
        NodeEvent::SharesChanged { count } => tr!("{n} file is shared now" | "{n} files are shared now" % *count),
        NodeEvent::SharesRefused { why } => {
            tr!(
                "the tracker does not list what you share ({why}); trying again, peers can still fetch it",
                why = safe_line(why)
            )
        }
        NodeEvent::AddressDropped { address } => tr!(
            "the tracker does not tell others of {address}: whoever runs it allows that with `tracker --allow-announce {ip}`",
            address,
            ip = address.ip()
        ),
        NodeEvent::Presence { user, online: true } => tr!("{user} is online", user = speaker_label(user)),
        NodeEvent::Presence { user, online: false } => tr!("{user} went offline", user = speaker_label(user)),
        NodeEvent::Received { from, message, .. } => match &message.send {
            Some(send) => format!("{} {}", speaker_label(from), send_words(from, send, None)),
            None => message_line(&speaker_label(from), &message.text),
        },
        NodeEvent::ContactRequest { from } => {
            let commands = request_commands(from);
            tr!("{user} wants to talk: {commands}", user = speaker_label(from), commands)
        }
        NodeEvent::GuestMessage(post) => guest_post_line(post),
        NodeEvent::RoomMessage(post) => {
            message_line(&format!("#{} {}", post.room, speaker_label(&post.from)), &post.text)
        }
        NodeEvent::Room(news) => return room_news_words(news, me).map(|words| format!("#{}: {words}", news.room)),
        NodeEvent::MessageQueued { to, message, .. } => message_line(&tr!("to {user}", user = to), &message.text),
        NodeEvent::MessageStateChanged { to, state, why: Some(why), .. } if state.is_given_up() => {
            tr!("a message to {user} was not delivered: {why}", user = to, why = safe_line(why))
        }
        NodeEvent::DeliveryHeld { user, why, frozen: true } => {
            // It has the commands for a changed key: its lines are kept, and none can pass for another event.
            let why = safe_block(why).replace('\n', "\n    ");
            tr!("messages for {user} are held back: {why}", user, why)
        }
        NodeEvent::DeliveryHeld { user, why, .. } => {
            tr!("messages for {user} are queued: {why}", user, why = safe_line(why))
        }
        NodeEvent::NotStored { from, why } => {
            let why = safe_line(why);
            tr!("a message of {user} could not be stored, and is sent again later: {why}", user = from, why)
        }
        NodeEvent::EventsMissed { count } => {
            tr!("({n} event was not shown)" | "({n} events were not shown)" % *count)
        }
        NodeEvent::MessageStateChanged { .. }
        | NodeEvent::Typing { .. }
        | NodeEvent::Read { .. }
        | NodeEvent::Accepted { .. }
        | NodeEvent::Transfer(_) => return None,
        NodeEvent::Fetched { by, name, bytes, size: all } => {
            let (name, size) = (display_name(name.as_str()), format_size(*all));
            if bytes >= all {
                tr!("{user} fetched {name} ({size})", user = by, name, size)
            } else {
                let bytes = format_size(*bytes);
                tr!("{user} fetched part of {name} ({bytes} of {size})", user = by, name, bytes, size)
            }
        }
        NodeEvent::SendSettled { by, send, outcome: ReceiptOutcome::Done, .. } => {
            tr!("{user} has {what}", user = speaker_label(by), what = shown_send(send))
        }
        NodeEvent::SendSettled { by, send, .. } => {
            tr!("{user} declined {what}", user = speaker_label(by), what = shown_send(send))
        }
        NodeEvent::SendAccepted { from, send, folder } => {
            let (what, user, folder) = (shown_send(send), speaker_label(from), safe_line(folder));
            tr!("{what} of {user} is in {folder}", what, user, folder)
        }
        NodeEvent::SendHeld { from, send, why } => {
            let (what, user, why) = (shown_send(send), speaker_label(from), safe_line(why));
            tr!("{what} of {user} waits for you: {why} (`peer accepts` lists it)", what, user, why)
        }
        NodeEvent::AcceptRuleEnded { user } => tr!(
            "the key of {user} changed: what they send waits for you again (`peer accept {operand}` accepts it)",
            user = speaker_label(user),
            operand = shell_operand(user)
        ),
        NodeEvent::WishFound { wish, file, others, is_fetched, why, .. } => {
            wish_words(*wish, file, *others, *is_fetched, why.as_deref())
        }
        NodeEvent::WishFetched { wish, file, folder, .. } => {
            let (name, user, folder) = (display_name(file.name.as_str()), speaker_label(&file.by), safe_line(folder));
            tr!("{name} of {user} is in {folder} (wish {wish})", name, user, folder, wish)
        }
        NodeEvent::Follow(news) => return follow_line(news),
        NodeEvent::FetchedMore { by: Some(by), count, bytes } => {
            let size = format_size(*bytes);
            tr!(
                "{user} fetched {n} more file ({size})" | "{user} fetched {n} more files ({size})" % *count,
                user = by,
                size
            )
        }
        NodeEvent::FetchedMore { by: None, count, bytes } => {
            let size = format_size(*bytes);
            tr!("others fetched {n} more file ({size})" | "others fetched {n} more files ({size})" % *count, size)
        }
        NodeEvent::Refused { address, why } => {
            tr!("a caller at {address} was turned away: {why}", address, why = safe_line(why))
        }
        NodeEvent::RefusedMore { count, from: Some(from) } => tr!(
            "{n} more caller at {address} was turned away within 10 seconds"
                | "{n} more callers at {address} were turned away within 10 seconds" % *count,
            address = from
        ),
        NodeEvent::RefusedMore { count, from: None } => {
            tr!("{n} more caller at another address was turned away within 10 seconds"
                | "{n} more callers at other addresses were turned away within 10 seconds" % *count)
        }
        NodeEvent::Stale { name } => {
            tr!("{name} changed and is being hashed again", name = display_name(name.as_str()))
        }
        NodeEvent::Notice(notice) => notice_line(notice),
    })
}

/// Returns a change of a room in words for `me`; `None` if only marks show it.
pub(super) fn room_news_words(news: &RoomNews, me: &UserName) -> Option<String> {
    let label = speaker_label;
    Some(match &news.kind {
        RoomNewsKind::Joined { user } if user == me => tr!("you joined"),
        RoomNewsKind::Joined { user } => tr!("{user} joined", user = label(user)),
        RoomNewsKind::Invited => tr!("you are invited: `peer room join {room}`", room = news.room),
        RoomNewsKind::Left { user } if user == me => tr!("you left"),
        RoomNewsKind::Left { user } => tr!("{user} left", user = label(user)),
        RoomNewsKind::Kicked { user, by } if user == me => {
            tr!("you were sent away by {user}: coming back takes an invitation", user = label(by))
        }
        RoomNewsKind::Kicked { user, by } if by == me => tr!("{user} was sent away by you", user = label(user)),
        RoomNewsKind::Kicked { user, by } => tr!("{user} was sent away by {by}", user = label(user), by = label(by)),
        RoomNewsKind::Role { user, role } if user == me => match role {
            ListedRole::Owner => tr!("you own it now"),
            ListedRole::Moderator => tr!("you are a moderator now"),
            ListedRole::Member | ListedRole::Unknown => tr!("you are no moderator any more"),
        },
        RoomNewsKind::Role { user, role } => match role {
            ListedRole::Owner => tr!("{user} owns it now", user = label(user)),
            ListedRole::Moderator => tr!("{user} is a moderator now", user = label(user)),
            ListedRole::Member | ListedRole::Unknown => tr!("{user} is no moderator any more", user = label(user)),
        },
        RoomNewsKind::Topic { topic } if topic.as_str().is_empty() => tr!("there is no topic any more"),
        RoomNewsKind::Topic { topic } => tr!("the topic is now: {topic}", topic = safe_line(topic.as_str())),
        RoomNewsKind::Deleted => tr!("the room was deleted; its history stays"),
        RoomNewsKind::Restored => {
            tr!("the tracker was restored from a backup: whoever joined since then has to join again")
        }
        RoomNewsKind::Contradicted => tr!("the tracker contradicts itself about the members"),
        RoomNewsKind::Equivocation { user, .. } if user == me => {
            tr!("your own account was restored from a backup, or runs twice")
        }
        RoomNewsKind::Equivocation { user, .. } => {
            tr!("{user}'s node was restored from a backup, or runs twice", user = label(user))
        }
        RoomNewsKind::Gap { user } if user == me => {
            tr!("messages of yours are missing: nobody who could be asked has them")
        }
        RoomNewsKind::Gap { user } => {
            tr!("messages of {user} are missing: nobody who could be asked has them", user = label(user))
        }
        RoomNewsKind::Void { .. } | RoomNewsKind::Delivered { .. } => return None,
    })
}

/// Returns what a user sends in words that follow the user's name, with its number in a view.
pub fn send_words(from: &UserName, send: &FileSend, number: Option<usize>) -> String {
    let (what, operand) = (shown_send(send), shell_operand(from));
    match number {
        Some(number) => {
            tr!("wants to send you {what}: /get {number} or `peer accept {operand}`", what, number, operand)
        }
        None => tr!("wants to send you {what}: `peer accept {operand}`", what, operand),
    }
}

/// Returns that somebody shares what was wished for, with the command that fetches it.
fn wish_words(wish: i64, file: &WishMatch, others: usize, is_fetched: bool, why: Option<&str>) -> String {
    let WishMatch { by, name, size, .. } = file;
    let fetch = format!("peer fetch {}", shell_quote(&[by.as_str(), name.as_str()]));
    let (user, name, size) = (speaker_label(by), display_name(name.as_str()), format_size(*size));
    match (why, is_fetched, others) {
        (Some(why), ..) => {
            let why = safe_line(why);
            tr!(
                "{user} shares {name} ({size}), which isn't fetched: {why}; `{fetch}` fetches it",
                user,
                name,
                size,
                why,
                fetch
            )
        }
        (None, true, _) => {
            tr!("{user} shares {name} ({size}), and it is being fetched (wish {wish})", user, name, size, wish)
        }
        (None, false, 0) => tr!("{user} shares {name} ({size}): `{fetch}`", user, name, size, fetch),
        (None, false, others) => tr!(
            "{user} shares {name} ({size}): `{fetch}`; {n} more match, which `peer find` shows"
                | "{user} shares {name} ({size}): `{fetch}`; {n} more match, which `peer find` shows" % others,
            user,
            name,
            size,
            fetch
        ),
    }
}

fn shown_send(send: &FileSend) -> String {
    display_name(&describe_send(send)).into_owned()
}

/// Returns the advice about a message request, as commands of the shell.
pub fn request_commands(from: &UserName) -> String {
    let operand = shell_operand(from);
    tr!("`peer inbox --accept {operand}` accepts them, `peer block {operand}` ignores them", operand)
}

/// Returns the advice about a message request, as commands of a view.
pub(super) fn request_note(from: &UserName) -> String {
    tr!("{user} wants to talk: /accept, /ignore", user = from)
}

/// Describes the other place where an account is online.
pub fn elsewhere_words(elsewhere: &OtherSession) -> String {
    let ip = elsewhere.ip;
    match elsewhere.since.map(date_and_time) {
        Some(time) => {
            tr!("this account is online with the same key at {ip} since {time}, and messages go there", ip, time)
        }
        None => tr!("this account is online with the same key at {ip}, and messages go there", ip),
    }
}

/// Returns a notice as one line.
pub fn notice_line(notice: &Notice) -> String {
    match notice {
        Notice::NewTracker { address, fingerprint } => {
            let address = safe_line(address);
            tr!("first contact with the tracker {address}: remembering its key {fingerprint}", address, fingerprint)
        }
        Notice::NewFriend { user, fingerprint } => tr!(
            "first contact with {user}: remembering their key {fingerprint} (`peer verify {operand}` to be sure)",
            user,
            fingerprint,
            operand = shell_operand(user)
        ),
        Notice::OtherLetters { asked, user } => tr!("nobody is called {asked}: this is for {user}", asked, user),
        Notice::KeyPutAside { path } => tr!("the damaged key is kept as {path}", path = safe_line(path)),
        Notice::WithoutTracker { why } => tr!("{why}; using what is on record", why = safe_line(why)),
        Notice::MessageExpired { to, why } => tr!("a message to {user} was not delivered: {why}", user = to, why),
        Notice::FoldersPolled { folder, reason } => polling_words(&safe_line(folder), *reason),
    }
}

/// Says why a folder is looked through again and again.
fn polling_words(folder: &str, reason: PollReason) -> String {
    let limit = match reason {
        PollReason::FileSystem => {
            return tr!(
                "{folder} is looked through every few seconds or minutes: not all changes on network and FUSE file systems are reported",
                folder
            );
        }
        PollReason::WatchLimit => "watches=1048576",
        PollReason::InstanceLimit => "instances=1024",
    };
    tr!(
        "{folder} is looked through every few seconds or minutes: the system watches no more folders (`{command}` and a new start help)",
        folder,
        command = format_args!("sudo sysctl fs.inotify.max_user_{limit}")
    )
}

/// Returns a message's text, with further lines indented so that none can pass for another message.
pub fn message_lines(text: &UntrustedText) -> String {
    text.safe_block().replace('\n', "\n    ").replace('\t', "    ")
}

/// Returns a message between a guest of a link and the user, with the guest.
pub fn guest_post_line(post: &GuestPost) -> String {
    match post.message.is_answer {
        true => message_line(&tr!("to {user}", user = post.who), &post.message.text),
        false => message_line(&post.who.to_string(), &post.message.text),
    }
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
