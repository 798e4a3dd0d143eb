//! Replies to granted requests, encoded in either dialect.

use serde::Serialize;
use shared::UserName;
use shared::tracker::room_reply::{RoomChangeReply, RoomListReply, RoomMembersReply};
use shared::tracker::room_request::RequestedChange;
use shared::tracker::{
    Dialect, EmptyReply, FindReply, HeartbeatReply, LoginReply, RegisterFilesReply, RejectedFiles, SubscribeReply,
    TrackerRefusal, WhoisReply, encode_cmd_error, encode_cmd_ok, encode_error, encode_names, encode_ok,
};

use super::refusal_reason::RefusalReason;
use super::request_error::{RequestError, internal};
use crate::registry::PeerListText;

/// A reply, ready to be sent.
#[derive(Debug)]
pub enum EncodedReply {
    /// One line.
    Line(Vec<u8>),
    /// One line whose long middle is shared with the replies to others.
    List {
        /// The line's beginning.
        head: Vec<u8>,
        /// JSON fields without the braces around them.
        fields: PeerListText,
    },
}

/// The end of a [`EncodedReply::List`].
pub const LIST_END: &[u8] = b"}\n";

/// A granted request's reply.
#[derive(Debug)]
pub(super) enum ActionReply {
    Registered(UserName),
    LoggedIn {
        reply: LoginReply,
        /// The user was present before.
        again: bool,
    },
    PasswordChanged,
    FilesRegistered {
        user: UserName,
        count: usize,
        left_out: RejectedFiles,
    },
    /// A list whose head [`list_head`] wrote.
    Peers {
        head: Vec<u8>,
        fields: PeerListText,
    },
    LoggedOut {
        user: UserName,
        was_present: bool,
    },
    Forwarded,
    Heartbeat(HeartbeatReply),
    Binding(WhoisReply),
    Found(FindReply),
    Subscribed(SubscribeReply),
    RoomChanged(RoomDeed, RoomChangeReply),
    RoomRecords(RoomMembersReply),
    Rooms(RoomListReply),
    /// The exercise's reply to a change.
    RoomDone(RoomDeed),
    /// The exercise's list of names, as many as fit.
    RoomNames {
        deed: RoomDeed,
        field: &'static str,
        names: Vec<String>,
    },
}

/// The effect of an action on a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoomDeed {
    Created,
    Joined,
    Left,
    Invited,
    Kicked,
    Banned,
    Unbanned,
    CutSet,
    RoleSet,
    TopicSet,
    EntrySet,
    PassedOn,
    Deleted,
    Listed,
}

impl ActionReply {
    /// Encodes the reply in `dialect`.
    pub(super) fn encode(self, dialect: Dialect, id: Option<&str>) -> Result<EncodedReply, RequestError> {
        let text = match dialect {
            Dialect::Action => self.english(),
            Dialect::Cmd => self.portuguese(),
        };
        let line = match self {
            Self::Peers { head, fields } => return Ok(EncodedReply::List { head, fields }),
            Self::LoggedIn { reply, .. } if dialect == Dialect::Action => encode_line(dialect, id, &text, &reply),
            // Clients that speak `cmd` have no use for a token.
            Self::Registered(_)
            | Self::LoggedIn { .. }
            | Self::PasswordChanged
            | Self::LoggedOut { .. }
            | Self::Forwarded => encode_line(dialect, id, &text, &EmptyReply {}),
            Self::FilesRegistered { count, left_out, .. } => {
                encode_line(dialect, id, &text, &RegisterFilesReply { count, left_out: left_out.count() })
            }
            Self::Heartbeat(_) if dialect == Dialect::Cmd => encode_line(dialect, id, &text, &EmptyReply {}),
            Self::Heartbeat(reply) => encode_line(dialect, id, &text, &reply),
            Self::Binding(reply) => encode_line(dialect, id, &text, &reply),
            Self::Found(reply) => encode_line(dialect, id, &text, &reply),
            Self::Subscribed(reply) => encode_line(dialect, id, &text, &reply),
            Self::RoomChanged(_, reply) => encode_line(dialect, id, &text, &reply),
            Self::RoomRecords(reply) => encode_line(dialect, id, &text, &reply),
            Self::Rooms(reply) => encode_line(dialect, id, &text, &reply),
            Self::RoomDone(_) => encode_line(dialect, id, &text, &EmptyReply {}),
            Self::RoomNames { field, names, .. } => {
                Ok(encode_names(dialect, id, &text, field, names.iter().map(String::as_str)))
            }
        };
        line.map(EncodedReply::Line).map_err(|why| internal(&why))
    }

    fn english(&self) -> String {
        match self {
            Self::Registered(user) => format!("{user} is registered"),
            Self::LoggedIn { reply, again: false } => format!("welcome, {}", reply.user),
            Self::LoggedIn { reply, again: true } => format!("welcome back, {}", reply.user),
            Self::PasswordChanged => "the password is changed".to_owned(),
            Self::FilesRegistered { user, count, left_out } => {
                let files = if *count == 1 { "file" } else { "files" };
                let text = format!("{user} shares {count} {files}");
                match left_out.count() {
                    0 => text,
                    some => format!("{text}; {some} left out: {}", left_out.reasons(Dialect::Action)),
                }
            }
            // The head of the list, which has the text, is written already.
            Self::Peers { .. } => String::new(),
            Self::LoggedOut { user, was_present: true } => format!("goodbye, {user}"),
            Self::LoggedOut { user, was_present: false } => format!("{user} was not online"),
            Self::Forwarded => "you are somebody behind this door now".to_owned(),
            Self::Heartbeat(_) => "still here".to_owned(),
            Self::Binding(_) => "found".to_owned(),
            Self::Found(reply) if reply.files.len() == 1 => "1 file found".to_owned(),
            Self::Found(reply) => format!("{} files found", reply.files.len()),
            Self::Subscribed(_) => "events follow".to_owned(),
            Self::RoomChanged(deed, _) | Self::RoomDone(deed) | Self::RoomNames { deed, .. } => {
                deed.english().to_owned()
            }
            Self::RoomRecords(_) => "records follow".to_owned(),
            Self::Rooms(reply) => format!("{} rooms", reply.rooms.len()),
        }
    }

    fn portuguese(&self) -> String {
        match self {
            Self::Registered(_) => "Usuário registrado com sucesso".to_owned(),
            Self::LoggedIn { .. } => "Login bem-sucedido!".to_owned(),
            Self::PasswordChanged => "Senha alterada".to_owned(),
            Self::FilesRegistered { user, count, left_out } => {
                let files = if *count == 1 { "arquivo" } else { "arquivos" };
                let text = format!("{user} compartilha {count} {files}");
                match left_out.count() {
                    0 => text,
                    some => format!("{text}; ficou de fora ({some}): {}", left_out.reasons(Dialect::Cmd)),
                }
            }
            Self::Peers { .. } => String::new(),
            Self::LoggedOut { was_present: true, .. } => "Logout realizado com sucesso".to_owned(),
            Self::LoggedOut { user, was_present: false } => format!("{user} não estava online"),
            Self::Forwarded => "Esta conexão agora é de uma pessoa atrás desta porta".to_owned(),
            Self::Heartbeat(_) => "Heartbeat recebido".to_owned(),
            Self::Binding(_) => "Encontrado".to_owned(),
            Self::Found(reply) => format!("Arquivos encontrados: {}", reply.files.len()),
            Self::Subscribed(_) => "Os eventos vêm a seguir".to_owned(),
            Self::RoomChanged(deed, _) | Self::RoomDone(deed) | Self::RoomNames { deed, .. } => {
                deed.portuguese().to_owned()
            }
            Self::RoomRecords(_) => "Os registros vêm a seguir".to_owned(),
            Self::Rooms(reply) => format!("Salas: {}", reply.rooms.len()),
        }
    }
}

impl RoomDeed {
    /// Returns the effect of a change.
    pub(super) const fn of(change: &RequestedChange) -> Self {
        match change {
            RequestedChange::Invite { .. } => Self::Invited,
            RequestedChange::Kick { .. } => Self::Kicked,
            RequestedChange::Ban { .. } => Self::Banned,
            RequestedChange::Unban { .. } => Self::Unbanned,
            RequestedChange::SetCut { .. } => Self::CutSet,
            RequestedChange::SetRole { .. } => Self::RoleSet,
            RequestedChange::SetTopic { .. } => Self::TopicSet,
            RequestedChange::PassOn { .. } => Self::PassedOn,
            RequestedChange::Delete => Self::Deleted,
        }
    }

    const fn english(self) -> &'static str {
        match self {
            Self::Created => "the room is made",
            Self::Joined => "you are a member now",
            Self::Left => "you are no longer a member",
            Self::Invited => "invited",
            Self::Kicked => "no longer a member",
            Self::Banned => "banned",
            Self::Unbanned => "no longer banned",
            Self::CutSet => "the cut is set",
            Self::RoleSet => "the role is set",
            Self::TopicSet => "the topic is set",
            Self::EntrySet => "joining takes what you said from now on",
            Self::PassedOn => "the room has another owner",
            Self::Deleted => "the room is no more",
            Self::Listed => "names follow",
        }
    }

    const fn portuguese(self) -> &'static str {
        match self {
            Self::Created => "Sala criada com sucesso",
            Self::Joined => "Você entrou na sala",
            Self::Left => "Você saiu da sala",
            Self::Invited => "Convite feito",
            Self::Kicked => "Membro removido da sala",
            Self::Banned => "Usuário banido da sala",
            Self::Unbanned => "Usuário já pode voltar à sala",
            Self::CutSet => "Corte definido",
            Self::RoleSet => "Papel definido",
            Self::TopicSet => "Assunto definido",
            Self::EntrySet => "Condições de entrada definidas",
            Self::PassedOn => "A sala tem outro dono",
            Self::Deleted => "A sala foi encerrada",
            Self::Listed => "Os nomes vêm a seguir",
        }
    }
}

/// Encodes the beginning of the reply to LIST_PEERS, up to its list.
pub(super) fn list_head(dialect: Dialect, id: Option<&str>, online: usize) -> Result<Vec<u8>, RequestError> {
    let mut head = match dialect {
        Dialect::Action => encode_ok(id, &format!("{online} online"), &EmptyReply {}).map_err(|why| internal(&why))?,
        // The exercise's own tracker sends no text here, and its clients read 4 KiB: each byte saved is left to peers.
        Dialect::Cmd => id.map_or_else(
            || b"{\"status\":\"OK\"}\n".to_vec(),
            |id| format!("{{\"id\":{id},\"status\":\"OK\"}}\n").into_bytes(),
        ),
    };
    // Without the closing brace and the line feed: the list follows.
    head.truncate(head.len().saturating_sub(LIST_END.len()));
    head.push(b',');
    Ok(head)
}

/// Encodes a refusal in `dialect`.
pub(crate) fn encode_reason(
    dialect: Dialect,
    id: Option<&str>,
    reason: &RefusalReason,
    retry_after_ms: Option<u64>,
) -> Vec<u8> {
    let text = reason.text(dialect, retry_after_ms);
    match dialect {
        Dialect::Action => {
            let refusal =
                TrackerRefusal { moved_for_s: reason.moved_for_s(), ..TrackerRefusal::new(reason.code(), text) };
            encode_error(id, &refusal, retry_after_ms)
        }
        Dialect::Cmd => encode_cmd_error(id, &text),
    }
}

/// Encodes a refusal whose message is in `dialect` already.
pub(super) fn encode_refusal(dialect: Dialect, id: Option<&str>, refusal: &TrackerRefusal) -> Vec<u8> {
    match dialect {
        Dialect::Action => encode_error(id, refusal, None),
        Dialect::Cmd => encode_cmd_error(id, refusal.message.as_received()),
    }
}

fn encode_line<T: Serialize>(
    dialect: Dialect,
    id: Option<&str>,
    text: &str,
    body: &T,
) -> Result<Vec<u8>, serde_json::Error> {
    match dialect {
        Dialect::Action => encode_ok(id, text, body),
        Dialect::Cmd => encode_cmd_ok(id, text, body),
    }
}
