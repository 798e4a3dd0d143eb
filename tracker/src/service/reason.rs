//! Reasons why something is not granted, in the words of both dialects.
//!
//! Both languages say the same: each is written from the reason, none from the code alone.

use shared::UserName;
use shared::account_name::operand;
use shared::json_scanner::ScanError;
use shared::limits::{FILES_PER_USER, REQUEST_BYTES_BEFORE_LOGIN};
use shared::tracker::{Dialect, ErrorCode, UnusableName};

use crate::limits::Limited;
use crate::registry::Ended;

/// A reason why a request is not granted, or a connection ends.
#[derive(Debug)]
pub(crate) enum Reason {
    /// What came is no request.
    Scan(ScanError),
    CutOff,
    SlowRequest,
    RefusedTooOften,
    /// There is no place for the connection of somebody behind a door.
    NoPlace,
    /// There is no memory for a long request.
    ManyLongRequests,
    /// A long request that didn't come on gave its memory to others.
    GaveWay,
    UnusableName(UnusableName),
    NameTaken {
        user: UserName,
        /// A name that is free.
        free: Option<UserName>,
    },
    NameLike {
        wanted: UserName,
        taken: UserName,
        /// A name that is free.
        free: Option<UserName>,
    },
    RegistrationClosed,
    WrongPassword,
    TooOften(Limited),
    /// The certificate's key is bound to this account.
    KeyOf(UserName),
    /// The certificate's key is bound to another account.
    KeyTaken,
    TlsRequired(UserName),
    /// The action is for those with a certificate.
    NeedsTls,
    NeedsCertificate,
    /// The certificate's key is no door's, or the connection is somebody's already.
    NoDoor,
    NoAccountOfKey,
    /// The key was this account's once.
    MovedAway {
        user: UserName,
        /// For how many seconds it has had another one.
        moved_for_s: u64,
    },
    /// The account has a key, and none was shown.
    TiedToKey(UserName),
    /// The account has a key, and another was shown.
    TiedToComputer(UserName),
    NotOnline(UserName),
    NotLoggedInAs(UserName),
    NotUser(UserName),
    SessionEnded(UserName, Ended),
    NoSession,
    ForeignToken,
    NotBound,
    NobodyLike(UserName),
    Several {
        name: UserName,
        all: Vec<UserName>,
    },
    TooManyFiles(UserName),
    ManyLists,
    CatalogueFull,
    /// Too many users are present from one origin.
    Crowded,
    /// Too many searches wait.
    ManySearches,
    /// More than the user's, or the origin's, part of the catalogue.
    CataloguePart,
    ListChanged,
    AccountChanged,
    ManyChanges,
    ManyPasswords,
    DiskFull,
    AccountsLost,
    Internal,
}

impl Reason {
    /// Returns the code that programs read.
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Scan(ScanError::NotAnObject(_)) | Self::CutOff => ErrorCode::BadJson,
            Self::Scan(ScanError::TooLarge { .. } | ScanError::TooDeep { .. }) | Self::TooManyFiles(_) => {
                ErrorCode::TooLarge
            }
            Self::SlowRequest | Self::Several { .. } => ErrorCode::BadRequest,
            Self::RefusedTooOften | Self::TooOften(_) => ErrorCode::RateLimited,
            Self::UnusableName(_) => ErrorCode::InvalidUser,
            Self::NameTaken { .. } | Self::NameLike { .. } => ErrorCode::UserExists,
            Self::RegistrationClosed | Self::NotUser(_) | Self::ForeignToken | Self::NoDoor => ErrorCode::Forbidden,
            Self::WrongPassword => ErrorCode::AuthFailed,
            Self::KeyOf(_) | Self::KeyTaken | Self::TiedToKey(_) | Self::TiedToComputer(_) => ErrorCode::KeyMismatch,
            Self::TlsRequired(_) | Self::NeedsTls => ErrorCode::TlsRequired,
            Self::NeedsCertificate
            | Self::NoAccountOfKey
            | Self::MovedAway { .. }
            | Self::NotOnline(_)
            | Self::NotLoggedInAs(_)
            | Self::SessionEnded(..)
            | Self::NoSession => ErrorCode::NotLoggedIn,
            Self::NotBound | Self::NobodyLike(_) => ErrorCode::NotFound,
            Self::ManyLongRequests
            | Self::GaveWay
            | Self::NoPlace
            | Self::ManyLists
            | Self::CatalogueFull
            | Self::CataloguePart
            | Self::Crowded
            | Self::ManySearches
            | Self::ListChanged
            | Self::AccountChanged
            | Self::ManyChanges
            | Self::ManyPasswords
            | Self::DiskFull
            | Self::AccountsLost => ErrorCode::Busy,
            Self::Internal => ErrorCode::Internal,
        }
    }

    /// Returns for how many seconds the account of the key shown has had another one, where that is the reason.
    pub(super) const fn moved_for_s(&self) -> Option<u64> {
        match self {
            Self::MovedAway { moved_for_s, .. } => Some(*moved_for_s),
            _ => None,
        }
    }

    /// Returns the text for people, in the words of `dialect`.
    pub(super) fn text(&self, dialect: Dialect, retry_after_ms: Option<u64>) -> String {
        let seconds = retry_after_ms.map(|ms| ms.div_ceil(1000).max(1));
        match (dialect, self, seconds) {
            (Dialect::Action, Self::TooOften(limit), Some(s)) => match option_of(*limit) {
                Some(option) => {
                    format!("{}: try again in {s} s; the tracker's {option} says how many are taken", self.english())
                }
                None => format!("{}: try again in {s} s", self.english()),
            },
            (Dialect::Action, ..) => self.english(),
            (Dialect::Cmd, Self::TooOften(limit), Some(s)) => match option_of(*limit) {
                Some(option) => {
                    format!("{}: tente de novo em {s} s; o servidor limita com {option}", self.portuguese())
                }
                None => format!("{}: tente de novo em {s} s", self.portuguese()),
            },
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
            Self::TooOften(limit) => format!("too many {}", english_limit(*limit)),
            Self::KeyOf(owner) => {
                format!("this computer's key already belongs to {owner}: use --home DIR for a second account")
            }
            Self::TlsRequired(user) => {
                format!("{user}'s account is tied to a key and can't be used in plaintext: connect with TLS")
            }
            Self::MovedAway { user, .. } => format!("the account {user} was moved to another machine"),
            Self::TiedToKey(user) => format!("{user}'s account is tied to a key: connect with it"),
            Self::TiedToComputer(user) => format!(
                "{user}'s account is tied to another computer: to move it here, `peer login --rebind {}` \
                 (on the wire: \"rebind\": true)",
                operand(user)
            ),
            Self::NotOnline(user) => format!("{user} is not online: LOGIN first"),
            Self::NotLoggedInAs(user) => format!("log in as {user} first, or send its token or password"),
            Self::NotUser(user) => format!("you are not {user}: log in as {user}, or send its token or password"),
            Self::SessionEnded(user, Ended::Replaced) => {
                format!("this session of {user} was replaced by a newer login")
            }
            Self::SessionEnded(user, Ended::Over) => format!("this session of {user} is over: log in again"),
            Self::SessionEnded(user, Ended::NotPresent) => {
                format!("this session of {user} is not present: RESUME with a port first")
            }
            Self::NobodyLike(name) => format!("there is no user {name}, nor one in other letters"),
            Self::Several { name, all } => {
                format!("there is no user {name}, but there are {}: say which", listed(all))
            }
            Self::TooManyFiles(user) => format!("{user} may share at most {FILES_PER_USER} files"),
            other => other.fixed_english().to_owned(),
        }
    }

    const fn fixed_english(&self) -> &'static str {
        match self {
            Self::CutOff => "the connection ended inside a JSON object",
            Self::SlowRequest => "the request took too long to arrive",
            Self::RefusedTooOften => "too many requests in a row were refused",
            Self::ManyLongRequests => "too many long requests are on their way",
            Self::NoPlace => "there are too many connections of this person",
            Self::GaveWay => "the request came too slowly while others waited for its memory",
            Self::RegistrationClosed => "registration is closed: ask the administrator for an account",
            Self::WrongPassword => "wrong user or password",
            Self::KeyTaken => "this certificate already belongs to another account",
            Self::NeedsTls => "this action needs TLS with a client certificate",
            Self::NeedsCertificate => "this action needs a client certificate",
            Self::NoDoor => "this key is no trusted door, or the connection is somebody's already",
            Self::NoAccountOfKey => "no account is bound to this certificate",
            Self::NoSession => "log in first, or send the token",
            Self::ForeignToken => "that token is somebody else's",
            Self::NotBound => "no such user is bound to a certificate",
            Self::ManyLists => "too many long lists are on their way to those who read slowly",
            Self::CatalogueFull => "the tracker's catalogue is full: share less, or try later",
            Self::CataloguePart => "this is more than your part of the tracker's catalogue: share less, or try later",
            Self::Crowded => "too many people are online from this address",
            Self::ManySearches => "too many searches are waiting",
            Self::ListChanged => "the list was changed in the meantime",
            Self::AccountChanged => "the account was changed in the meantime",
            Self::ManyChanges => "too many changes are waiting",
            Self::ManyPasswords => "too many passwords are being checked",
            Self::DiskFull => "the tracker's disk is full and nothing was changed: whoever runs it has to make room",
            Self::AccountsLost => {
                "the tracker lost its accounts and nothing was changed: whoever runs it has to look at it"
            }
            _ => "the tracker could not do it: its log says why",
        }
    }

    fn portuguese(&self) -> String {
        match self {
            Self::Scan(ScanError::NotAnObject(_)) => {
                "o servidor esperava um objeto JSON em UTF-8, sem comprimento nem cabeçalho antes dele".to_owned()
            }
            Self::Scan(ScanError::TooLarge { limit }) if *limit <= REQUEST_BYTES_BEFORE_LOGIN => {
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
            Self::TooOften(limit) => format!("{} em excesso", portuguese_limit(*limit)),
            Self::KeyOf(owner) => {
                format!("a chave deste computador já é de {owner}: use --home DIR para uma segunda conta")
            }
            Self::TlsRequired(user) => {
                format!("a conta {user} tem uma chave e só entra com TLS: use outro nome de usuário")
            }
            Self::MovedAway { user, .. } => format!("a conta {user} foi levada para outro computador"),
            Self::TiedToKey(user) => format!("a conta {user} está ligada a uma chave: conecte com ela"),
            Self::TiedToComputer(user) => format!(
                "a conta {user} está ligada a outro computador: para trazê-la, `peer login --rebind {}` \
                 (no pedido: \"rebind\": true)",
                operand(user)
            ),
            Self::NotOnline(user) => format!("{user} não está online: faça LOGIN primeiro"),
            Self::NotLoggedInAs(user) => {
                format!("esta conexão não entrou como {user}: faça LOGIN como {user}, ou envie a senha")
            }
            Self::NotUser(user) => {
                format!("esta conexão não fala por {user}: faça LOGIN como {user}, ou envie a senha")
            }
            Self::SessionEnded(user, Ended::Replaced) => {
                format!("esta sessão de {user} foi substituída por um LOGIN mais novo")
            }
            Self::SessionEnded(user, Ended::Over) => format!("esta sessão de {user} terminou: faça LOGIN de novo"),
            Self::SessionEnded(user, Ended::NotPresent) => {
                format!("esta sessão de {user} não está online: faça RESUME com uma porta primeiro")
            }
            Self::NobodyLike(name) => format!("não existe o usuário {name}, nem com outras letras"),
            Self::Several { name, all } => {
                format!("não existe o usuário {name}, mas existem {}: diga qual", listed(all))
            }
            Self::TooManyFiles(user) => format!("{user} pode compartilhar no máximo {FILES_PER_USER} arquivos"),
            other => other.fixed_portuguese().to_owned(),
        }
    }

    const fn fixed_portuguese(&self) -> &'static str {
        match self {
            Self::CutOff => "a conexão terminou no meio de um objeto JSON",
            Self::SlowRequest => "o pedido demorou demais para chegar",
            Self::RefusedTooOften => "pedidos recusados demais, um depois do outro",
            Self::ManyLongRequests => "pedidos longos demais estão a caminho",
            Self::NoPlace => "conexões demais desta pessoa",
            Self::GaveWay => "o pedido chegou devagar demais enquanto outros esperavam pela memória dele",
            Self::RegistrationClosed => "o registro está fechado: peça uma conta a quem administra o servidor",
            Self::WrongPassword => "Usuário ou senha incorretos",
            Self::KeyTaken => "esse certificado já é de outra conta",
            Self::NeedsTls => "esse comando precisa de TLS com um certificado de cliente",
            Self::NeedsCertificate => "esse comando precisa de um certificado de cliente",
            Self::NoDoor => "essa chave não é de uma porta de confiança, ou a conexão já é de alguém",
            Self::NoAccountOfKey => "nenhuma conta está ligada a esse certificado",
            Self::NoSession => "faça LOGIN primeiro, ou informe user",
            Self::ForeignToken => "esse token é de outra pessoa",
            Self::NotBound => "nenhum usuário assim está ligado a um certificado",
            Self::ManyLists => "listas longas demais estão a caminho de quem lê devagar",
            Self::CatalogueFull => "o catálogo do servidor está cheio: compartilhe menos",
            Self::CataloguePart => "isso é mais que a sua parte do catálogo do servidor: compartilhe menos",
            Self::Crowded => "usuários demais estão online a partir deste endereço",
            Self::ManySearches => "buscas demais estão esperando",
            Self::ListChanged => "a lista mudou enquanto isso",
            Self::AccountChanged => "a conta mudou enquanto isso",
            Self::ManyChanges => "mudanças demais estão esperando",
            Self::ManyPasswords => "senhas demais estão sendo verificadas",
            Self::DiskFull => "o disco do servidor está cheio e nada mudou: quem o administra precisa abrir espaço",
            Self::AccountsLost => "o servidor perdeu as contas e nada mudou: quem o administra precisa ver isso",
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

/// Returns the option that sets the limit; some have none.
const fn option_of(limit: Limited) -> Option<&'static str> {
    match limit {
        Limited::GuessesAtUser | Limited::Guesses | Limited::Passwords => Some("--rate-limit-logins"),
        Limited::Registrations | Limited::Accounts => Some("--rate-limit-registrations"),
        Limited::Changes => None,
    }
}

const fn english_limit(limit: Limited) -> &'static str {
    match limit {
        Limited::GuessesAtUser => "wrong passwords for this user from this address",
        Limited::Guesses => "wrong passwords from this address",
        Limited::Passwords => "logins of this user from this address",
        Limited::Registrations => "new accounts from this address",
        Limited::Accounts => "new accounts from this address today",
        Limited::Changes => "changes of one user from this address",
    }
}

const fn portuguese_limit(limit: Limited) -> &'static str {
    match limit {
        Limited::GuessesAtUser => "senhas erradas deste usuário a partir deste endereço",
        Limited::Guesses => "senhas erradas a partir deste endereço",
        Limited::Passwords => "logins deste usuário a partir deste endereço",
        Limited::Registrations => "contas novas a partir deste endereço",
        Limited::Accounts => "contas novas a partir deste endereço hoje",
        Limited::Changes => "mudanças de um usuário a partir deste endereço",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_and_the_option_are_named_where_there_are_any() {
        let said = |reason: &Reason| (reason.text(Dialect::Action, Some(1500)), reason.text(Dialect::Cmd, Some(1500)));
        let (english, portuguese) = said(&Reason::TooOften(Limited::Changes));
        assert_eq!(english, "too many changes of one user from this address: try again in 2 s");
        assert_eq!(portuguese, "mudanças de um usuário a partir deste endereço em excesso: tente de novo em 2 s");
        let (english, portuguese) = said(&Reason::TooOften(Limited::Registrations));
        assert!(english.contains("2 s; the tracker's --rate-limit-registrations"), "{english}");
        assert!(portuguese.contains("2 s; o servidor limita com --rate-limit-registrations"), "{portuguese}");
        let (english, portuguese) = said(&Reason::ManyLists);
        assert!(!english.contains("2 s") && portuguese.ends_with(": tente de novo em 2 s"), "{english}, {portuguese}");
    }
}
