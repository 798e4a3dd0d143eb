//! The protocol of the node's local socket, by which other processes of the profile use it.
//!
//! It is a Unix socket in the profile's folder (mode 0600), or in the place that the lock file names if that folder can
//! hold none; both sides send JSON lines. The client sends `{"id": n, "lang"?: "...", "do": "...", ...}` and gets
//! `{"id": n, "ok": {...}}` or `{"id": n, "error": {"kind": "...", "message": "..."}}`, in the order in which the requests
//! finish. After `watch` it also gets `{"event": "...", ...}` for each
//! [`NodeEvent`](crate::engine::node_event::NodeEvent).
//!
//! | do | fields | ok |
//! |---|---|---|
//! | `status` | | user, address?, pid, lifetime, elsewhere?, version: the node that is present instead |
//! | `say` | to, text, message? | the stored message, at once; its delivery is reported by events |
//! | `deliver` | to, text, now, message? | message, state, why?: the outcome of the first attempt; with `now`, the message is not kept if that fails |
//! | `drop` | to, message | true if the message was queued; it is removed from the queue |
//! | `offer` | to, name, wait | as `say`, or with `wait` as `deliver`, for a file that is offered to the user |
//! | `announce_send` | number | report, receipts?: as `deliver` for the message that announces a send, and whether its receiver sends receipts |
//! | `flush` | to | why?: the reason if the queued messages were not delivered |
//! | `typing` | to | nothing |
//! | `history` | with?, search?, since?, before?, after?, unread, limit | messages, oldest first |
//! | `mark_read` | with, up_to? | nothing |
//! | `people` | | everybody met, online or written with: user, online, unread, waiting, frozen, blocked, request, last |
//! | `block`, `unblock`, `accept` | user | true if that changed anything |
//! | `shared_names` | user, prefix | what the user shares with everybody, by the tracker's list: names that start with the prefix, each up to its next slash, at most 200 |
//! | `rooms` | | the profile's rooms: room, room_id, topic, role?, members, waiting |
//! | `say_in_room` | room, text, wait | message, count, of: the stored message and how many members have it; with `wait` as soon as one has it, or none can be reached |
//! | `room_cut` | room, user | the last message of a member as the node knows it: number, hash? |
//! | `wake` | user? | nothing; delivery to the user, or to everybody, is attempted again, and links to the user are revalidated |
//! | `watch` | with? | nothing; if the node is not present at the tracker, an event says so first. `with`: that conversation is open in a view until the client disconnects or sends `watch` again |
//! | `transfer` | a transfer | no reply; the transfer is sent as an event to all clients that watch |
//! | `heed` | talking | the opposite of `talking`, as soon as chat activity differs from it: lets a fetch throttle itself |
//! | `passwd` | present, new | nothing; the account's password is changed |
//! | `serve_links` | | port?: where links for guests are served, after a look at them; null if nothing serves them there |
//! | `answer_guest` | link, guest, text | the stored answer to a guest of a link |
//! | `shares_changed` | | nothing |
//! | `follows_changed` | | nothing; the node looks at the follows of the profile |
//! | `history_removed` | | nothing; messages of rooms that are gone from the history aren't passed on any more |
//! | `wishes_changed` | | nothing; what the user wishes for is looked for again |
//! | `go_online` | | nothing; the node becomes present, in place of any other node of the account |
//! | `hand_over` | | nothing; a node that belongs to a view ends, so that a lasting one can take its place; any other refuses |
//! | `stop` | | nothing; then the node ends |
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | clients at once | 64 | they wait to be accepted |
//! | a request | 256 KiB | the connection ends |
//! | time until a client gets its first reply | 10 s, 2 s if the process is stopped | an error that names the process |
//! | time until a removed socket is restored | 2 s | |

mod client_transfers;
mod control_server;
mod control_socket;
mod node_client;
mod node_process;

use localization::Language;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::peer::MessageId;
use shared::tracker::Password;
use shared::{FileName, RoomName, UserName};
use zeroize::Zeroize;

pub(super) use control_server::ControlServer;
pub use node_client::NodeClient;
pub use node_process::NodeProcess;

use crate::engine::node_event::FileTransfer;
use crate::engine::{Error, ErrorKind};
use crate::profile::{ConversationName, HistoryQuery};

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// Chosen by the client; repeated in the reply.
    pub id: u64,
    /// The language in which the client shows errors and the reasons in events; English by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// The action, in the same JSON object.
    #[serde(flatten)]
    pub action: ControlAction,
}

/// An action that a client asks for, with its parameters: a method of [`NodeApi`](super::NodeApi), under the name that it has
/// on the wire since earlier releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ControlAction {
    /// Report the node's account, address and process.
    Status,
    /// Queue a message; the reply comes as soon as it is stored.
    #[serde(rename = "say")]
    QueueMessage {
        /// The recipient.
        to: UserName,
        /// The message's text.
        text: String,
        /// The message's id, for clients that may have to repeat the request: a message is stored only once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<MessageId>,
    },
    /// Remove an outgoing message from the queue.
    #[serde(rename = "drop")]
    Cancel {
        /// The recipient.
        to: UserName,
        /// The message's id.
        message: MessageId,
    },
    /// Send the message that announces an offered file.
    Offer {
        /// The recipient.
        to: UserName,
        /// The name under which the file is offered to the recipient.
        name: FileName,
        /// Reply like [`ControlAction::Deliver`] after the first attempt; else as soon as the message is stored.
        #[serde(default)]
        wait: bool,
    },
    /// Queue a message and report the outcome of the first delivery attempt.
    Deliver {
        /// The recipient.
        to: UserName,
        /// The message's text.
        text: String,
        /// Give the message up when it can't be delivered now.
        #[serde(default)]
        now: bool,
        /// The message's id, for clients that may have to drop it or repeat the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<MessageId>,
    },
    /// Send the message that announces a send, and report the outcome of the first delivery attempt.
    AnnounceSend {
        /// The send's number in the profile.
        number: i64,
    },
    /// Attempt to deliver the messages queued for a user, and report the outcome.
    Flush {
        /// The recipient.
        to: UserName,
    },
    /// Send a typing notice, if there is a link to the user.
    Typing {
        /// The recipient.
        to: UserName,
    },
    /// Return messages of the history.
    History(HistoryQuery),
    /// Mark the messages of a conversation as read.
    MarkRead {
        /// The conversation.
        with: ConversationName,
        /// The place of the last message to mark; `None` marks all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        up_to: Option<i64>,
    },
    /// List everybody met, online or written with.
    #[serde(rename = "people")]
    Users,
    /// Block a user.
    Block {
        /// The user to block.
        user: UserName,
    },
    /// Remove a block.
    Unblock {
        /// The blocked user.
        user: UserName,
    },
    /// Accept a stranger's message request.
    Accept {
        /// The author of the request.
        user: UserName,
    },
    /// List the names that a user shares with everybody, as far as the next slash.
    SharedNames {
        /// The user.
        user: UserName,
        /// The beginning of the names.
        prefix: String,
    },
    /// List the profile's rooms.
    Rooms,
    /// Write in a room.
    #[serde(rename = "say_in_room")]
    WriteInRoom {
        /// The room.
        room: RoomName,
        /// The message's text.
        text: String,
        /// Reply as soon as another member has it, or none can be reached; else as soon as it is stored.
        #[serde(default)]
        wait: bool,
    },
    /// Tell the last message of a member.
    RoomCut {
        /// The room.
        room: RoomName,
        /// The member.
        user: UserName,
    },
    /// Attempt again to deliver queued messages.
    Wake {
        /// The recipient; `None` for everybody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<UserName>,
    },
    /// Report the progress of a file that this client transfers. It has no reply: the client is busy with the file.
    Transfer(FileTransfer),
    /// Reply as soon as chat activity differs from `talking`.
    #[serde(rename = "heed")]
    WaitForChatActivity {
        /// The activity that the client knows of: true while people write to each other.
        talking: bool,
    },
    /// Change the account's password.
    #[serde(rename = "passwd")]
    ChangePassword {
        /// The current password.
        present: WirePassword,
        /// The new password.
        new: WirePassword,
    },
    /// Send this client every event from now on.
    Watch {
        /// The user whose conversation is open in the client's view.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        with: Option<UserName>,
    },
    /// Look at the links for guests, and tell where they are served.
    ServeLinks,
    /// Answer a guest of a link.
    AnswerGuest {
        /// The link's number.
        link: i64,
        /// The guest's number within the link.
        guest: i64,
        /// The message's text.
        text: String,
    },
    /// Register the profile's shares at the tracker again.
    SharesChanged,
    /// Look at the follows of the profile.
    FollowsChanged,
    /// Pass messages of rooms that were removed from the history on no more.
    HistoryRemoved,
    /// Look for the profile's wishes again.
    WishesChanged,
    /// Become present here, in place of any other node of the account.
    GoOnline,
    /// End the node if it belongs to a view.
    HandOver,
    /// End the node.
    Stop,
}

/// A password in a request; never shown by `Debug`, and overwritten when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
// A box can't grow, which would leave a copy of the password in a freed buffer.
pub struct WirePassword(Box<str>);

impl WirePassword {
    /// Returns the password, if it is a valid one.
    pub fn password(&self) -> Option<Password> {
        Password::new(&self.0)
    }
}

impl From<&Password> for WirePassword {
    fn from(password: &Password) -> Self {
        Self(password.reveal().into())
    }
}

impl Drop for WirePassword {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for WirePassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A reply of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlReply {
    /// The id of the request.
    pub id: u64,
    /// The outcome, in the same JSON object.
    #[serde(flatten)]
    pub outcome: ControlOutcome,
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlOutcome {
    /// Success, with the value that the action's table entry names.
    #[serde(rename = "ok")]
    Done(Value),
    /// Failure.
    Error {
        /// The kind of error, which decides the exit code of a command.
        kind: ErrorKind,
        /// The error, for people.
        message: String,
    },
}

impl ControlRequest {
    /// Returns the language of the client.
    pub(super) fn language(&self) -> Language {
        // The node's own language is that of whoever started it.
        self.lang.as_deref().and_then(|tag| tag.parse().ok()).unwrap_or(Language::English)
    }
}

impl ControlOutcome {
    /// Converts the outcome to a result.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words.
    pub(super) fn into_result(self) -> Result<Value, Error> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Error { kind, message } => Err(Error::Relayed { kind, message }),
        }
    }
}

/// Longest request: a message of 16 KiB with every byte escaped, and room for its other fields.
const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// Longest reply or event: a page of messages.
const REPLY_BYTES: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_lines() {
        let command = ControlRequest {
            id: 7,
            lang: None,
            action: ControlAction::QueueMessage { to: "bob".parse().unwrap(), text: "olá".into(), message: None },
        };
        let text = r#"{"id":7,"do":"say","to":"bob","text":"olá"}"#;
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert_eq!(serde_json::from_str::<ControlRequest>(text).unwrap(), command);
        let id = MessageId::from_bytes([0xab; 16]);
        let command = ControlRequest {
            id: 7,
            lang: None,
            action: ControlAction::Cancel { to: "bob".parse().unwrap(), message: id },
        };
        let text = format!(r#"{{"id":7,"do":"drop","to":"bob","message":"{id}"}}"#);
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert_eq!(serde_json::from_slice::<ControlRequest>(text.as_bytes()).unwrap(), command);
        let text = r#"{"id":7,"do":"watch"}"#;
        let command = ControlRequest { id: 7, lang: None, action: ControlAction::Watch { with: None } };
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert_eq!(serde_json::from_str::<ControlRequest>(text).unwrap(), command);
        let secret = WirePassword::from(&Password::new("s3nha").unwrap());
        let command = ControlRequest {
            id: 7,
            lang: None,
            action: ControlAction::ChangePassword { present: secret.clone(), new: secret },
        };
        let text = r#"{"id":7,"do":"passwd","present":"s3nha","new":"s3nha"}"#;
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert!(!format!("{command:?}").contains("s3nha"));
        let (room, text) = ("lab".parse().unwrap(), "oi".to_owned());
        for (action, line) in [
            (ControlAction::Users, r#"{"id":7,"do":"people"}"#),
            (
                ControlAction::WriteInRoom { room, text, wait: false },
                r#"{"id":7,"do":"say_in_room","room":"lab","text":"oi","wait":false}"#,
            ),
            (ControlAction::WaitForChatActivity { talking: true }, r#"{"id":7,"do":"heed","talking":true}"#),
        ] {
            let command = ControlRequest { id: 7, lang: None, action };
            assert_eq!(serde_json::to_string(&command).unwrap(), line);
            assert_eq!(serde_json::from_str::<ControlRequest>(line).unwrap(), command);
        }
        let reply = ControlReply {
            id: 7,
            outcome: ControlOutcome::Error { kind: ErrorKind::Unavailable, message: "x".into() },
        };
        let text = r#"{"id":7,"error":{"kind":"unavailable","message":"x"}}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<ControlReply>(text).unwrap(), reply);
    }
}
