//! The texts of refusals in both dialects.
//!
//! Each text is made from the reason, not from the code: both dialects say equally much.

use shared::UserName;
use shared::account_name::shell_operand;
use shared::json_scanner::ScanError;
use shared::limits::{MAX_FILES_PER_USER, MAX_REQUEST_BYTES_BEFORE_LOGIN};
use shared::tracker::Dialect;

use super::refusal_reason::RefusalReason;
use super::room_refusal_text;
use crate::rate_limits::LimitKind;
use crate::registry::SessionEndReason;

impl RefusalReason {
    /// Returns the text for people in `dialect`.
    pub(super) fn text(&self, dialect: Dialect, retry_after_ms: Option<u64>) -> String {
        // Rounded up: whoever comes back after so many seconds is not too early.
        let seconds = retry_after_ms.map(|ms| ms.div_ceil(1000).max(1));
        match (dialect, self, seconds) {
            (Dialect::Action, Self::RateLimited(limit), Some(s)) => match option_of(*limit) {
                Some(option) => {
                    format!("{}: try again in {s} s; the tracker's {option} says how many are taken", self.english())
                }
                None => format!("{}: try again in {s} s", self.english()),
            },
            (Dialect::Action, Self::Room(_), Some(s)) => format!("{}: try again in {s} s", self.english()),
            (Dialect::Action, ..) => self.english(),
            (Dialect::Cmd, Self::RateLimited(limit), Some(s)) => match option_of(*limit) {
                Some(option) => {
                    format!("{}: tente de novo em {s} s; o servidor limita com {option}", self.portuguese())
                }
                None => format!("{}: tente de novo em {s} s", self.portuguese()),
            },
            // The `cmd` dialect has no field for the time, so the text has it.
            (Dialect::Cmd, _, Some(s)) => format!("{}: tente de novo em {s} s", self.portuguese()),
            (Dialect::Cmd, _, None) => self.portuguese(),
        }
    }

    fn english(&self) -> String {
        match self {
            Self::Scan(why) => why.to_string(),
            Self::UnusableName(name) => name.refusal(Dialect::Action).message.into_received(),
            Self::NameTaken { user, free } => {
                let example = example("for example", free.as_ref());
                format!("the name {user} is taken: choose another{example}, or log in as {user} if it is yours")
            }
            Self::NameLike { wanted, taken, free } => {
                let example = example("for example", free.as_ref());
                format!(
                    "the name {wanted} can be taken for {taken}, which is somebody's: choose another{example}, \
                     or log in as {taken} if it is yours"
                )
            }
            Self::RateLimited(limit) => format!("too many {}", english_limit(*limit)),
            Self::KeyOfOtherAccount(owner) => {
                format!("this computer's key already belongs to {owner}: use --home DIR for a second account")
            }
            Self::TlsRequired(user) => {
                format!("{user}'s account is tied to a key and can't be used in plaintext: connect with TLS")
            }
            Self::AccountMoved { user, .. } => format!("the account {user} was moved to another machine"),
            Self::KeyRequired(user) => format!("{user}'s account is tied to a key: connect with it"),
            Self::BoundToOtherKey(user) => format!(
                "{user}'s account is tied to another computer: to move it here, `peer login --rebind {}` \
                 (on the wire: \"rebind\": true)",
                shell_operand(user)
            ),
            Self::NotOnline(user) => format!("{user} is not online: LOGIN first"),
            Self::NotLoggedInAs(user) => format!("log in as {user} first, or send its token or password"),
            Self::NotUser(user) => format!("you are not {user}: log in as {user}, or send its token or password"),
            Self::SessionEnded(user, SessionEndReason::Replaced) => {
                format!("this session of {user} was replaced by a newer login")
            }
            Self::SessionEnded(user, SessionEndReason::Over) => format!("this session of {user} is over: log in again"),
            Self::SessionEnded(user, SessionEndReason::NotPresent) => {
                format!("this session of {user} is not present: RESUME with a port first")
            }
            Self::NoSuchName(name) => format!("there is no user {name}, nor one in other letters"),
            Self::AmbiguousName { name, all } => {
                format!("there is no user {name}, but there are {}: say which", listed(all))
            }
            Self::TooManyFiles(user) => format!("{user} may share at most {MAX_FILES_PER_USER} files"),
            Self::Room(refusal) => refusal.to_string(),
            other => other.fixed_english().to_owned(),
        }
    }

    const fn fixed_english(&self) -> &'static str {
        match self {
            Self::TruncatedRequest => "the connection ended inside a JSON object",
            Self::SlowRequest => "the request took too long to arrive",
            Self::RefusedTooOften => "too many requests in a row were refused",
            Self::TooManyLongRequests => "too many long requests are on their way",
            Self::NoConnectionSlot => "there are too many connections of this person",
            Self::MemoryReclaimed => "the request came too slowly while others waited for its memory",
            Self::RegistrationClosed => "registration is closed: ask the administrator for an account",
            Self::TooManyAccounts => "the tracker has no room for further accounts: ask the administrator for one",
            Self::WrongPassword => "wrong user or password",
            Self::KeyTaken => "this certificate already belongs to another account",
            Self::NeedsTls => "this action needs TLS with a client certificate",
            Self::NeedsCertificate => "this action needs a client certificate",
            Self::NotATrustedDoor => "this key is no trusted door, or the connection is somebody's already",
            Self::UnknownKey => "no account is bound to this certificate",
            Self::NoSession => "log in first, or send the token",
            Self::ForeignToken => "that token is somebody else's",
            Self::NotBound => "no such user is bound to a certificate",
            Self::TooManyReplies => "too many long lists are on their way to those who read slowly",
            Self::CatalogueFull => "the tracker's catalogue is full: share less, or try later",
            Self::CatalogueShareExceeded => {
                "this is more than your part of the tracker's catalogue: share less, or try later"
            }
            Self::TooManyPresent => "too many people are online from this address",
            Self::TooManySearches => "too many searches are waiting",
            Self::ListChanged => "the list was changed in the meantime",
            Self::AccountChanged => "the account was changed in the meantime",
            Self::TooManyChanges => "too many changes are waiting",
            Self::TooManyPasswords => "too many passwords are being checked",
            Self::DiskFull => "the tracker's disk is full and nothing was changed: whoever runs it has to make room",
            Self::AccountsLost => {
                "the tracker lost its accounts and nothing was changed: whoever runs it has to look at it"
            }
            Self::DatabaseAway => "the tracker's database can't be reached and nothing was changed: try again",
            Self::OutcomeUnknown => {
                "the tracker's database went away meanwhile: look whether the change is made before you try again"
            }
            _ => "the tracker could not do it: its log says why",
        }
    }

    fn portuguese(&self) -> String {
        match self {
            Self::Scan(ScanError::NotAnObject(_)) => {
                "o servidor esperava um objeto JSON em UTF-8, sem comprimento nem cabeçalho antes dele".to_owned()
            }
            // The limit before a login: logging in raises it.
            Self::Scan(ScanError::TooLarge { limit }) if *limit <= MAX_REQUEST_BYTES_BEFORE_LOGIN => {
                format!("o pedido tem mais de {limit} bytes: faça LOGIN primeiro, depois cabem mais")
            }
            Self::Scan(ScanError::TooLarge { limit }) => format!("o pedido tem mais de {limit} bytes"),
            Self::Scan(ScanError::TooDeep { limit }) => {
                format!("o pedido tem objetos e listas uns dentro dos outros em mais de {limit} níveis")
            }
            Self::UnusableName(name) => name.refusal(Dialect::Cmd).message.into_received(),
            Self::NameTaken { user, free } => {
                let example = example("por exemplo", free.as_ref());
                format!("Usuário já existe: escolha outro nome{example}, ou faça LOGIN como {user} se ele é seu")
            }
            Self::NameLike { wanted, taken, free } => {
                let example = example("por exemplo", free.as_ref());
                format!(
                    "o nome {wanted} pode ser confundido com {taken}, que já existe: escolha outro nome{example}, \
                     ou faça LOGIN como {taken} se ele é seu"
                )
            }
            Self::RateLimited(limit) => format!("{} em excesso", portuguese_limit(*limit)),
            Self::KeyOfOtherAccount(owner) => {
                format!("a chave deste computador já é de {owner}: use --home DIR para uma segunda conta")
            }
            Self::TlsRequired(user) => {
                format!("a conta {user} tem uma chave e só entra com TLS: use outro nome de usuário")
            }
            Self::AccountMoved { user, .. } => format!("a conta {user} foi levada para outro computador"),
            Self::KeyRequired(user) => format!("a conta {user} está ligada a uma chave: conecte com ela"),
            Self::BoundToOtherKey(user) => format!(
                "a conta {user} está ligada a outro computador: para trazê-la, `peer login --rebind {}` \
                 (no pedido: \"rebind\": true)",
                shell_operand(user)
            ),
            Self::NotOnline(user) => format!("{user} não está online: faça LOGIN primeiro"),
            Self::NotLoggedInAs(user) => {
                format!("esta conexão não entrou como {user}: faça LOGIN como {user}, ou envie a senha")
            }
            Self::NotUser(user) => {
                format!("esta conexão não fala por {user}: faça LOGIN como {user}, ou envie a senha")
            }
            Self::SessionEnded(user, SessionEndReason::Replaced) => {
                format!("esta sessão de {user} foi substituída por um LOGIN mais novo")
            }
            Self::SessionEnded(user, SessionEndReason::Over) => {
                format!("esta sessão de {user} terminou: faça LOGIN de novo")
            }
            Self::SessionEnded(user, SessionEndReason::NotPresent) => {
                format!("esta sessão de {user} não está online: faça RESUME com uma porta primeiro")
            }
            Self::NoSuchName(name) => format!("não existe o usuário {name}, nem com outras letras"),
            Self::AmbiguousName { name, all } => {
                format!("não existe o usuário {name}, mas existem {}: diga qual", listed(all))
            }
            Self::TooManyFiles(user) => format!("{user} pode compartilhar no máximo {MAX_FILES_PER_USER} arquivos"),
            Self::Room(refusal) => room_refusal_text::portuguese(refusal),
            other => other.fixed_portuguese().to_owned(),
        }
    }

    const fn fixed_portuguese(&self) -> &'static str {
        match self {
            Self::TruncatedRequest => "a conexão terminou no meio de um objeto JSON",
            Self::SlowRequest => "o pedido demorou demais para chegar",
            Self::RefusedTooOften => "pedidos recusados demais, um depois do outro",
            Self::TooManyLongRequests => "pedidos longos demais estão a caminho",
            Self::NoConnectionSlot => "conexões demais desta pessoa",
            Self::MemoryReclaimed => "o pedido chegou devagar demais enquanto outros esperavam pela memória dele",
            Self::RegistrationClosed => "o registro está fechado: peça uma conta a quem administra o servidor",
            Self::TooManyAccounts => "não há espaço para mais contas: peça uma a quem administra o servidor",
            Self::WrongPassword => "Usuário ou senha incorretos",
            Self::KeyTaken => "esse certificado já é de outra conta",
            Self::NeedsTls => "esse comando precisa de TLS com um certificado de cliente",
            Self::NeedsCertificate => "esse comando precisa de um certificado de cliente",
            Self::NotATrustedDoor => "essa chave não é de uma porta de confiança, ou a conexão já é de alguém",
            Self::UnknownKey => "nenhuma conta está ligada a esse certificado",
            Self::NoSession => "faça LOGIN primeiro, ou informe user",
            Self::ForeignToken => "esse token é de outra pessoa",
            Self::NotBound => "nenhum usuário assim está ligado a um certificado",
            Self::TooManyReplies => "listas longas demais estão a caminho de quem lê devagar",
            Self::CatalogueFull => "o catálogo do servidor está cheio: compartilhe menos",
            Self::CatalogueShareExceeded => "isso é mais que a sua parte do catálogo do servidor: compartilhe menos",
            Self::TooManyPresent => "usuários demais estão online a partir deste endereço",
            Self::TooManySearches => "buscas demais estão esperando",
            Self::ListChanged => "a lista mudou enquanto isso",
            Self::AccountChanged => "a conta mudou enquanto isso",
            Self::TooManyChanges => "mudanças demais estão esperando",
            Self::TooManyPasswords => "senhas demais estão sendo verificadas",
            Self::DiskFull => "o disco do servidor está cheio e nada mudou: quem o administra precisa abrir espaço",
            Self::AccountsLost => "o servidor perdeu as contas e nada mudou: quem o administra precisa ver isso",
            Self::DatabaseAway => "o banco de dados do servidor não responde e nada mudou: tente de novo",
            Self::OutcomeUnknown => {
                "o banco de dados do servidor caiu no meio: veja se a mudança foi feita antes de tentar de novo"
            }
            _ => "o servidor falhou: quem o administra vê no log por quê",
        }
    }
}

fn example(words: &str, free: Option<&UserName>) -> String {
    free.map_or_else(String::new, |free| format!(", {words} {free}"))
}

fn listed(names: &[UserName]) -> String {
    names.iter().map(UserName::as_str).collect::<Vec<_>>().join(", ")
}

/// Returns the command-line option that sets the limit; the limit of changes has none.
const fn option_of(limit: LimitKind) -> Option<&'static str> {
    match limit {
        LimitKind::GuessesAtUser | LimitKind::Guesses | LimitKind::Passwords => Some("--rate-limit-logins"),
        LimitKind::Registrations | LimitKind::Accounts | LimitKind::NetworkAccounts => {
            Some("--rate-limit-registrations")
        }
        LimitKind::GuessesAtRoom => Some("--rate-limit-logins"),
        LimitKind::Changes | LimitKind::Rooms => None,
    }
}

const fn english_limit(limit: LimitKind) -> &'static str {
    match limit {
        LimitKind::GuessesAtUser => "wrong passwords for this user from this address",
        LimitKind::Guesses => "wrong passwords from this address",
        LimitKind::Passwords => "logins of this user from this address",
        LimitKind::Registrations => "new accounts from this address",
        LimitKind::Accounts => "new accounts from this address today",
        LimitKind::NetworkAccounts => "new accounts from this network today",
        LimitKind::GuessesAtRoom => "wrong passwords for this room from this address",
        LimitKind::Rooms => "new rooms from this address",
        LimitKind::Changes => "changes of one user from this address",
    }
}

const fn portuguese_limit(limit: LimitKind) -> &'static str {
    match limit {
        LimitKind::GuessesAtUser => "senhas erradas deste usuário a partir deste endereço",
        LimitKind::Guesses => "senhas erradas a partir deste endereço",
        LimitKind::Passwords => "logins deste usuário a partir deste endereço",
        LimitKind::Registrations => "contas novas a partir deste endereço",
        LimitKind::Accounts => "contas novas a partir deste endereço hoje",
        LimitKind::NetworkAccounts => "contas novas a partir desta rede hoje",
        LimitKind::GuessesAtRoom => "senhas erradas desta sala a partir deste endereço",
        LimitKind::Rooms => "salas novas a partir deste endereço",
        LimitKind::Changes => "mudanças de um usuário a partir deste endereço",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_and_the_option_are_named_where_there_are_any() {
        let said =
            |reason: &RefusalReason| (reason.text(Dialect::Action, Some(1500)), reason.text(Dialect::Cmd, Some(1500)));
        let (english, portuguese) = said(&RefusalReason::RateLimited(LimitKind::Changes));
        assert_eq!(english, "too many changes of one user from this address: try again in 2 s");
        assert_eq!(portuguese, "mudanças de um usuário a partir deste endereço em excesso: tente de novo em 2 s");
        let (english, portuguese) = said(&RefusalReason::RateLimited(LimitKind::Registrations));
        assert!(english.contains("2 s; the tracker's --rate-limit-registrations"), "{english}");
        assert!(portuguese.contains("2 s; o servidor limita com --rate-limit-registrations"), "{portuguese}");
        let (english, portuguese) = said(&RefusalReason::TooManyReplies);
        assert!(!english.contains("2 s") && portuguese.ends_with(": tente de novo em 2 s"), "{english}, {portuguese}");
    }
}
