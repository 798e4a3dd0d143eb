//! The one way to a profile's node: [`NodeApi`].
//!
//! A command, view or page gets a [`super::NodeHandle`] from [`super::NodeHandle::open`] and never asks whether a node
//! runs. There are two implementations: [`NodeApi::Embedded`] calls functions of this process, [`NodeApi::Attached`] asks
//! the running node of another process over its local socket ([`super::control`]). Both report the same errors in the
//! same order.
//!
//! | method | arguments | result | need |
//! |---|---|---|---|
//! | `queue_message` | to, message | the stored message, at once; events report its delivery | online |
//! | `deliver` | to, message, now | the outcome of the first attempt; with `now` the message isn't kept if that fails | links |
//! | `queue_offer`, `deliver_offer` | to, name | as above, for the message that announces an offer | online, links |
//! | `announce_send` | number | as `deliver`, for the message that announces a send; and whether its receiver sends receipts | links |
//! | `flush` | to | the reason why the queued messages and receipts were not delivered | links |
//! | `cancel` | to, message id | true if the message was queued; it is removed from the queue | links |
//! | `typing` | to | nothing | online |
//! | `history` | query | messages, oldest first | store |
//! | `mark_read` | with, up to | nothing | store |
//! | `unblock` | user | true if that changed anything | store |
//! | `block`, `accept` | user | true if that changed anything | links |
//! | `users` | | everybody met, online or written with | online |
//! | `shared_names` | user, prefix | what the user shares with everybody, as the tracker lists it | online |
//! | `rooms` | | the rooms of the profile and their members | online |
//! | `write_in_room` | room, text, wait | the stored message; with `wait` as soon as a member has it, or none can be reached | online |
//! | `room_cut` | room, user | the last message of a member, as this node knows it | online |
//! | `wake` | user? | nothing; delivery is attempted again, and links to the user are revalidated | links |
//! | `report_transfers` | transfers | nothing; the events report them to all views | online |
//! | `wait_for_chat_activity` | active | nothing, as soon as a chat is active, or none is | a node that runs |
//! | `change_password` | both passwords | nothing | links |
//! | `serve_links` | | where links for guests are served; nothing if they aren't there | a node that runs |
//! | `answer_guest` | link, guest, text | the stored answer to a guest of a link; the guest's browser learns of it | store |
//! | `watch` | with? | the events from now on; `with` names the conversation that is open in a view | online |
//!
//! Five more concern only a node that runs, and do nothing where there is none: [`super::running_status`],
//! [`super::stop_running`], [`super::announce_shares`], [`super::announce_follows`] and [`super::announce_removal`]. The need "links" is met without
//! presence at the tracker: such a node takes no lock and no port, dials for what is asked of it, and any number of them
//! work beside each other.
//!
//! A message that was stored stays stored if the caller drops the future; every other act ends with its future.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | events that a slow watcher has not received | 4,096 | it misses some, and is told how many |
//! | requests to another process that are not written yet | 16 MiB | an error |

use std::sync::Arc;

use shared::peer::{ChatMessage, MessageId};
use shared::tracker::room_request::RoomCut;
use shared::{FileName, RoomName, UserName};

use super::control::{ControlAction, NodeClient};
use super::{FlushReport, NodeCore, NodeEvents, SendAnnouncement, UserSummary};
use crate::engine::Error;
use crate::engine::chat::DeliveryReport;
use crate::engine::guest_links::{GuestPost, LinkService};
use crate::engine::node_event::FileTransfer;
use crate::engine::room_values::{RoomOverview, RoomReceipt};
use crate::engine::tracker_account::PasswordChange;
use crate::profile::{ConversationName, HistoryQuery, StoredMessage};

/// The acts of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub enum NodeApi {
    /// Those of a node in this process.
    Embedded(Arc<NodeCore>),
    /// Those of the running node of another process.
    Attached(NodeClient),
}

impl NodeApi {
    /// True if the node is known to run in another process.
    pub fn is_in_other_process(&self) -> bool {
        match self {
            Self::Embedded(_) => false,
            Self::Attached(node) => node.process().is_other(),
        }
    }

    /// Returns acts without a time limit: a view keeps its requests while the process of the node is stopped.
    pub fn without_timeout(&self) -> Self {
        match self {
            Self::Embedded(core) => Self::Embedded(core.clone()),
            Self::Attached(node) => Self::Attached(node.without_timeout()),
        }
    }

    /// Stores a message in the outbox; its delivery is reported by events.
    ///
    /// # Errors
    /// The message can't be stored.
    pub async fn queue_message(&self, to: &UserName, message: ChatMessage) -> Result<StoredMessage, Error> {
        match self {
            Self::Embedded(core) => core.queue_message(to, message).await,
            Self::Attached(node) => {
                // Under its id, so that a repeated request doesn't store it twice.
                let (text, message) = (message.text.into_received(), Some(message.id));
                node.call(ControlAction::QueueMessage { to: to.clone(), text, message }).await
            }
        }
    }

    /// Stores a message and waits for its first delivery attempt. With `now` it is not kept if that fails.
    ///
    /// # Errors
    /// The message is given up.
    pub async fn deliver(&self, to: &UserName, message: ChatMessage, now: bool) -> Result<DeliveryReport, Error> {
        match self {
            Self::Embedded(core) => core.deliver(to, message, now).await,
            Self::Attached(node) => {
                let (text, message) = (message.text.into_received(), Some(message.id));
                node.call(ControlAction::Deliver { to: to.clone(), text, now, message }).await
            }
        }
    }

    /// Stores the message that announces an offer; its delivery is reported by events.
    ///
    /// # Errors
    /// There is no such offer, or the message can't be stored.
    pub async fn queue_offer(&self, to: &UserName, name: &FileName) -> Result<StoredMessage, Error> {
        match self {
            Self::Embedded(core) => core.queue_offer(to, name).await,
            Self::Attached(node) => node.call(offer_action(to, name, false)).await,
        }
    }

    /// Stores the message that announces an offer, and waits for its first delivery attempt.
    ///
    /// # Errors
    /// There is no such offer, or the message is given up.
    pub async fn deliver_offer(&self, to: &UserName, name: &FileName) -> Result<DeliveryReport, Error> {
        match self {
            Self::Embedded(core) => core.deliver_offer(to, name).await,
            Self::Attached(node) => node.call(offer_action(to, name, true)).await,
        }
    }

    /// Stores the message that announces a send, and waits for its first delivery attempt. One that is stored already is
    /// delivered once.
    ///
    /// # Errors
    /// There is no such send, or the message is given up.
    pub async fn announce_send(&self, number: i64) -> Result<SendAnnouncement, Error> {
        match self {
            Self::Embedded(core) => core.announce_send(number).await,
            Self::Attached(node) => node.call(ControlAction::AnnounceSend { number }).await,
        }
    }

    /// Attempts to deliver the messages queued for a user; the report has the reason if that failed for now.
    ///
    /// # Errors
    /// The messages will never be delivered, or only after the user did something.
    pub async fn flush(&self, to: &UserName) -> Result<FlushReport, Error> {
        match self {
            Self::Embedded(core) => core.flush(to).await,
            Self::Attached(node) => node.call(ControlAction::Flush { to: to.clone() }).await,
        }
    }

    /// Removes a message from the outbox, so that it is not sent. Returns false if it was not queued.
    pub async fn cancel(&self, to: &UserName, id: MessageId) -> Result<bool, Error> {
        match self {
            Self::Embedded(core) => core.cancel(to, id).await,
            Self::Attached(node) => node.call(ControlAction::Cancel { to: to.clone(), message: id }).await,
        }
    }

    /// Sends a typing notice, if there is a link to the user.
    pub async fn typing(&self, to: &UserName) -> Result<(), Error> {
        match self {
            Self::Embedded(core) => {
                core.typing(to);
                Ok(())
            }
            Self::Attached(node) => node.perform(ControlAction::Typing { to: to.clone() }).await,
        }
    }

    /// Returns messages of the history, the oldest first.
    pub async fn history(&self, query: HistoryQuery) -> Result<Vec<StoredMessage>, Error> {
        match self {
            Self::Embedded(core) => core.history(query).await,
            Self::Attached(node) => node.call(ControlAction::History(query)).await,
        }
    }

    /// Marks the messages of a conversation as read, all or those up to a place.
    pub async fn mark_read(&self, with: impl Into<ConversationName>, up_to: Option<i64>) -> Result<(), Error> {
        let with = with.into();
        match self {
            Self::Embedded(core) => core.mark_read(with, up_to).await,
            Self::Attached(node) => node.perform(ControlAction::MarkRead { with, up_to }).await,
        }
    }

    /// Returns everybody met, online or written with.
    pub async fn users(&self) -> Result<Vec<UserSummary>, Error> {
        match self {
            Self::Embedded(core) => core.users().await,
            Self::Attached(node) => node.call(ControlAction::Users).await,
        }
    }

    /// Returns the names that a user shares with everybody and that start with `prefix`, each up to the next slash.
    ///
    /// # Errors
    /// The tracker's refusal, or the reason why it can't be asked.
    pub async fn shared_names(&self, user: UserName, prefix: &str) -> Result<Vec<String>, Error> {
        match self {
            Self::Embedded(core) => core.shared_names(user, prefix).await,
            Self::Attached(node) => node.call(ControlAction::SharedNames { user, prefix: prefix.to_owned() }).await,
        }
    }

    /// Blocks a user and closes the links to them. Returns false if they were blocked already.
    pub async fn block(&self, user: &UserName) -> Result<bool, Error> {
        match self {
            Self::Embedded(core) => core.block(user.clone()).await,
            Self::Attached(node) => node.call(ControlAction::Block { user: user.clone() }).await,
        }
    }

    /// Lifts a block. Returns false if there was none.
    pub async fn unblock(&self, user: &UserName) -> Result<bool, Error> {
        match self {
            Self::Embedded(core) => core.unblock(user.clone()).await,
            Self::Attached(node) => node.call(ControlAction::Unblock { user: user.clone() }).await,
        }
    }

    /// Accepts a stranger's messages. Returns false if that changed nothing.
    pub async fn accept(&self, user: &UserName) -> Result<bool, Error> {
        match self {
            Self::Embedded(core) => core.accept(user.clone()).await,
            Self::Attached(node) => node.call(ControlAction::Accept { user: user.clone() }).await,
        }
    }

    /// Returns the rooms of the profile, ordered by name.
    pub async fn rooms(&self) -> Result<Vec<RoomOverview>, Error> {
        match self {
            Self::Embedded(core) => core.rooms().await,
            Self::Attached(node) => node.call(ControlAction::Rooms).await,
        }
    }

    /// Writes a message in a room. With `wait`, waits until another member has it, or none can be reached.
    ///
    /// # Errors
    /// The profile's user is no member, or the message can't be stored.
    pub async fn write_in_room(&self, room: &RoomName, text: &str, wait: bool) -> Result<RoomReceipt, Error> {
        match self {
            Self::Embedded(core) => core.write_in_room(room, text, wait).await,
            Self::Attached(node) => {
                node.call(ControlAction::WriteInRoom { room: room.clone(), text: text.to_owned(), wait }).await
            }
        }
    }

    /// Returns the last message of a member, as this node knows it: the cut of a membership that is to end. `None` if the
    /// node knows no such member.
    pub async fn room_cut(&self, room: &RoomName, user: &UserName) -> Result<Option<RoomCut>, Error> {
        match self {
            Self::Embedded(core) => core.room_cut(room, user).await,
            Self::Attached(node) => node.call(ControlAction::RoomCut { room: room.clone(), user: user.clone() }).await,
        }
    }

    /// Makes a present node attempt the delivery to a user, or to everybody, again. Links to the user are revalidated.
    pub async fn wake(&self, user: Option<&UserName>) -> Result<(), Error> {
        match self {
            Self::Embedded(core) => core.wake(user.cloned()).await,
            Self::Attached(node) => node.perform(ControlAction::Wake { user: user.cloned() }).await,
        }
    }

    /// Reports transfers of this process to all who watch the node.
    pub async fn report_transfers(&self, transfers: Vec<FileTransfer>) -> Result<(), Error> {
        match self {
            Self::Embedded(core) => {
                transfers.into_iter().for_each(|transfer| core.report_transfer(transfer));
                Ok(())
            }
            Self::Attached(node) => node.report_transfers(transfers).await,
        }
    }

    /// Waits, without a time limit, until a chat is active, or until none is.
    ///
    /// # Errors
    /// The node has ended, or doesn't know the action.
    pub async fn wait_for_chat_activity(&self, is_active: bool) -> Result<(), Error> {
        match self {
            Self::Embedded(core) => {
                core.events().chat_activity().wait_for(is_active).await;
                Ok(())
            }
            Self::Attached(node) => node.wait_for_chat_activity(is_active).await,
        }
    }

    /// Changes the account's password. All its sessions end, except the node's.
    ///
    /// # Errors
    /// The present password is wrong, or the tracker can't be reached.
    pub async fn change_password(&self, change: PasswordChange) -> Result<(), Error> {
        match self {
            Self::Embedded(core) => core.change_password(change).await,
            Self::Attached(node) => {
                let (present, new) = ((&change.current).into(), (&change.new).into());
                node.perform(ControlAction::ChangePassword { present, new }).await
            }
        }
    }

    /// Makes the server of links beside the node look at them, and returns where it serves them; `None` without one.
    ///
    /// # Errors
    /// The reason why they can't be served, or the node doesn't know the action.
    pub async fn serve_links(&self) -> Result<Option<LinkService>, Error> {
        match self {
            Self::Embedded(core) => core.serve_links().await,
            Self::Attached(node) => node.call(ControlAction::ServeLinks).await,
        }
    }

    /// Stores an answer to a guest of a link; whatever serves the link shows it to the guest.
    ///
    /// # Errors
    /// There is no such guest, the text is empty or too long, or the node doesn't know the action.
    pub async fn answer_guest(&self, (link, guest): (i64, i64), text: &str) -> Result<GuestPost, Error> {
        let text = text.to_owned();
        match self {
            Self::Embedded(core) => core.answer_guest((link, guest), text).await,
            Self::Attached(node) => node.call(ControlAction::AnswerGuest { link, guest, text }).await,
        }
    }

    /// Returns the node's events from now on. If the node is not present at the tracker, the first one says why. The
    /// conversation with `with` counts as open in a view.
    pub async fn watch(&self, with: Option<&UserName>) -> Result<NodeEvents, Error> {
        match self {
            Self::Embedded(core) => Ok(NodeEvents::of_core(core, with)),
            Self::Attached(node) => {
                let (receiver, ended) = node.watch(with).await?;
                Ok(NodeEvents::of_attached(node.clone(), receiver, ended))
            }
        }
    }
}

fn offer_action(to: &UserName, name: &FileName, wait: bool) -> ControlAction {
    ControlAction::Offer { to: to.clone(), name: name.clone(), wait }
}
