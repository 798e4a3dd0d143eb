//! Answers, and the words that each dialect has for them.

use serde::Serialize;
use shared::UserName;
use shared::tracker::{
    CountReply, Dialect, Empty, FindReply, HeartbeatReply, LoginReply, Refusal, RejectedFiles, SubscribeReply,
    WhoisReply, encode_cmd_error, encode_cmd_ok, encode_error, encode_ok,
};

use super::reason::Reason;
use super::refused::{Refused, internal};
use super::{LIST_END, Reply};
use crate::registry::Parts;

/// A request that was granted.
#[derive(Debug)]
pub(super) enum Answer {
    Registered(UserName),
    LoggedIn {
        reply: LoginReply,
        /// Whether the user was present before.
        again: bool,
    },
    PasswordChanged,
    Files {
        user: UserName,
        count: usize,
        left_out: RejectedFiles,
    },
    /// A list whose head was written with [`list_head`].
    Peers {
        head: Vec<u8>,
        fields: Parts,
    },
    LoggedOut {
        user: UserName,
        was_present: bool,
    },
    Forwarded,
    Alive(HeartbeatReply),
    Binding(WhoisReply),
    Found(FindReply),
    Subscribed(SubscribeReply),
}

impl Answer {
    /// Writes the answer in `dialect`.
    pub(super) fn encode(self, dialect: Dialect, id: Option<&str>) -> Result<Reply, Refused> {
        let text = match dialect {
            Dialect::Action => self.english(),
            Dialect::Cmd => self.portuguese(),
        };
        let line = match self {
            Self::Peers { head, fields } => return Ok(Reply::List { head, fields }),
            Self::LoggedIn { reply, .. } if dialect == Dialect::Action => line(dialect, id, &text, &reply),
            // Clients that say cmd have no use for a token.
            Self::Registered(_)
            | Self::LoggedIn { .. }
            | Self::PasswordChanged
            | Self::LoggedOut { .. }
            | Self::Forwarded => line(dialect, id, &text, &Empty {}),
            Self::Files { count, left_out, .. } => {
                line(dialect, id, &text, &CountReply { count, left_out: left_out.count() })
            }
            Self::Alive(_) if dialect == Dialect::Cmd => line(dialect, id, &text, &Empty {}),
            Self::Alive(reply) => line(dialect, id, &text, &reply),
            Self::Binding(reply) => line(dialect, id, &text, &reply),
            Self::Found(reply) => line(dialect, id, &text, &reply),
            Self::Subscribed(reply) => line(dialect, id, &text, &reply),
        };
        line.map(Reply::Line).map_err(|why| internal(&why))
    }

    fn english(&self) -> String {
        match self {
            Self::Registered(user) => format!("{user} is registered"),
            Self::LoggedIn { reply, again: false } => format!("welcome, {}", reply.user),
            Self::LoggedIn { reply, again: true } => format!("welcome back, {}", reply.user),
            Self::PasswordChanged => "the password is changed".to_owned(),
            Self::Files { user, count, left_out } => {
                let files = if *count == 1 { "file" } else { "files" };
                let text = format!("{user} shares {count} {files}");
                match left_out.count() {
                    0 => text,
                    some => format!("{text}; {some} left out: {}", left_out.reasons(Dialect::Action)),
                }
            }
            Self::Peers { .. } => String::new(),
            Self::LoggedOut { user, was_present: true } => format!("goodbye, {user}"),
            Self::LoggedOut { user, was_present: false } => format!("{user} was not online"),
            Self::Forwarded => "you are somebody behind this door now".to_owned(),
            Self::Alive(_) => "still here".to_owned(),
            Self::Binding(_) => "found".to_owned(),
            Self::Found(reply) if reply.files.len() == 1 => "1 file found".to_owned(),
            Self::Found(reply) => format!("{} files found", reply.files.len()),
            Self::Subscribed(_) => "events follow".to_owned(),
        }
    }

    fn portuguese(&self) -> String {
        match self {
            Self::Registered(_) => "Usuário registrado com sucesso".to_owned(),
            Self::LoggedIn { .. } => "Login bem-sucedido!".to_owned(),
            Self::PasswordChanged => "Senha alterada".to_owned(),
            Self::Files { user, count, left_out } => {
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
            Self::Alive(_) => "Heartbeat recebido".to_owned(),
            Self::Binding(_) => "Encontrado".to_owned(),
            Self::Found(reply) => format!("Arquivos encontrados: {}", reply.files.len()),
            Self::Subscribed(_) => "Os eventos vêm a seguir".to_owned(),
        }
    }
}

/// Begins the reply to LIST_PEERS, up to its list.
pub(super) fn list_head(dialect: Dialect, id: Option<&str>, online: usize) -> Result<Vec<u8>, Refused> {
    let mut head = match dialect {
        Dialect::Action => encode_ok(id, &format!("{online} online"), &Empty {}).map_err(|why| internal(&why))?,
        // As the exercise's own tracker has it: no text, and no byte that a peer could have.
        Dialect::Cmd => id.map_or_else(
            || b"{\"status\":\"OK\"}\n".to_vec(),
            |id| format!("{{\"id\":{id},\"status\":\"OK\"}}\n").into_bytes(),
        ),
    };
    head.truncate(head.len().saturating_sub(LIST_END.len()));
    head.push(b',');
    Ok(head)
}

/// Writes a refusal in the words of `dialect`.
pub(crate) fn encode_reason(
    dialect: Dialect,
    id: Option<&str>,
    reason: &Reason,
    retry_after_ms: Option<u64>,
) -> Vec<u8> {
    let text = reason.text(dialect, retry_after_ms);
    match dialect {
        Dialect::Action => {
            let refusal = Refusal { moved_for_s: reason.moved_for_s(), ..Refusal::new(reason.code(), text) };
            encode_error(id, &refusal, retry_after_ms)
        }
        Dialect::Cmd => encode_cmd_error(id, &text),
    }
}

/// Writes a refusal that is in the words of `dialect` already.
pub(super) fn encode_own_words(dialect: Dialect, id: Option<&str>, refusal: &Refusal) -> Vec<u8> {
    match dialect {
        Dialect::Action => encode_error(id, refusal, None),
        Dialect::Cmd => encode_cmd_error(id, refusal.message.as_received()),
    }
}

fn line<T: Serialize>(dialect: Dialect, id: Option<&str>, text: &str, body: &T) -> Result<Vec<u8>, serde_json::Error> {
    match dialect {
        Dialect::Action => encode_ok(id, text, body),
        Dialect::Cmd => encode_cmd_ok(id, text, body),
    }
}
