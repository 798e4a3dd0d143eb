//! Answers, and the words that each dialect has for them.

use serde::Serialize;
use shared::UserName;
use shared::limits::FILES_PER_USER;
use shared::tracker::{
    CountReply, Dialect, Empty, ErrorCode, FindReply, HeartbeatReply, LoginReply, Refusal, RejectedFiles,
    SubscribeReply, WhoisReply, encode_cmd_error, encode_cmd_ok, encode_error, encode_ok,
};

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
            Self::Registered(_) | Self::LoggedIn { .. } | Self::PasswordChanged | Self::LoggedOut { .. } => {
                line(dialect, id, &text, &Empty {})
            }
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

/// Writes a refusal that was made for clients of the `action` dialect.
pub(crate) fn encode_refusal(
    dialect: Dialect,
    id: Option<&str>,
    refusal: &Refusal,
    retry_after_ms: Option<u64>,
) -> Vec<u8> {
    match dialect {
        Dialect::Action => encode_error(id, refusal, retry_after_ms),
        Dialect::Cmd => encode_cmd_error(id, &portuguese(refusal.code, retry_after_ms)),
    }
}

/// Writes a refusal of an action that was understood.
pub(super) fn encode_denial(dialect: Dialect, id: Option<&str>, action: Option<&str>, refused: &Refused) -> Vec<u8> {
    match (dialect, action, refused.refusal.code) {
        (Dialect::Cmd, Some("REGISTER"), ErrorCode::Forbidden) => {
            encode_cmd_error(id, "o registro está fechado: peça uma conta a quem administra o servidor")
        }
        _ => encode_refusal(dialect, id, &refused.refusal, refused.retry_after_ms),
    }
}

/// Writes a refusal that is in the words of `dialect` already.
pub(super) fn encode_own_words(dialect: Dialect, id: Option<&str>, refusal: &Refusal) -> Vec<u8> {
    match (dialect, refusal.code) {
        // Of the tracker and not of the request.
        (_, ErrorCode::Internal) => encode_refusal(dialect, id, refusal, None),
        (Dialect::Action, _) => encode_error(id, refusal, None),
        (Dialect::Cmd, _) => encode_cmd_error(id, &refusal.message),
    }
}

fn line<T: Serialize>(dialect: Dialect, id: Option<&str>, text: &str, body: &T) -> Result<Vec<u8>, serde_json::Error> {
    match dialect {
        Dialect::Action => encode_ok(id, text, body),
        Dialect::Cmd => encode_cmd_ok(id, text, body),
    }
}

fn portuguese(code: ErrorCode, retry_after_ms: Option<u64>) -> String {
    let text = match code {
        ErrorCode::BadJson => "o servidor esperava um objeto JSON em UTF-8, sem comprimento nem cabeçalho antes dele",
        ErrorCode::BadRequest => "o pedido não pôde ser lido",
        ErrorCode::UnknownAction => "esse comando não existe",
        ErrorCode::InvalidUser => {
            "esse nome de usuário não serve: use de 1 a 32 de A-Z a-z 0-9 _ . -, começando com letra ou dígito"
        }
        ErrorCode::InvalidPassword => "essa senha não serve",
        ErrorCode::UserExists => "Usuário já existe: escolha outro nome",
        ErrorCode::AuthFailed => "Usuário ou senha incorretos",
        ErrorCode::NotLoggedIn => "esse usuário não está online: faça LOGIN primeiro",
        ErrorCode::Forbidden => "isso não é permitido: esta conexão não fala por esse usuário",
        ErrorCode::TlsRequired => "essa conta tem uma chave e só entra com TLS: use outro nome de usuário",
        ErrorCode::KeyMismatch => "essa conta está ligada a outra chave",
        ErrorCode::RateLimited => {
            "tentativas demais (o servidor limita com --rate-limit-logins e --rate-limit-registrations)"
        }
        ErrorCode::Busy => "o servidor está ocupado",
        ErrorCode::TooLarge => {
            return format!(
                "o pedido é grande demais: no máximo {FILES_PER_USER} arquivos e 16 MiB, e 16 KiB sem LOGIN"
            );
        }
        ErrorCode::NotFound => "não encontrado",
        ErrorCode::Internal | ErrorCode::Unknown => "o servidor falhou: quem o administra vê no log por quê",
    };
    match retry_after_ms {
        Some(ms) => format!("{text}: tente de novo em {} s", ms.div_ceil(1000).max(1)),
        None => text.to_owned(),
    }
}
