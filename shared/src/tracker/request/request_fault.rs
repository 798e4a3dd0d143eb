//! Reasons to refuse a request or to leave out a file, in the words of both dialects.

use localization::in_english;

use super::action_names::{action_names, exercise_action_names};
use super::request_fields::FieldName;
use super::{TrackerRefusal, excerpt};
use crate::UserName;
use crate::limits::{
    MAX_FILE_NAME_BYTES, MAX_FILE_SIZE, MAX_FILES_PER_USER, MAX_FIND_WORDS, MAX_FORWARDED_FOR_BYTES,
    MAX_HASH_TEXT_CHARS, MAX_PASSWORD_BYTES,
};
use crate::names::account_name::{NewUserName, UserNameError, UserNameFault};
use crate::names::{NameError, char_with_code};
use crate::tracker::{Dialect, TrackerErrorCode};

/// Number of left-out files that are named in a reply.
const NAMED: usize = 3;

/// A fault of a request as a whole.
#[derive(Debug)]
pub(super) enum RequestFault {
    NotUtf8,
    NotJson {
        line: usize,
        column: usize,
    },
    /// The request has neither `action` nor `cmd`.
    NoAction,
    UnknownAction(String),
    Missing(FieldName),
    User(UnusableName),
    Room(UnusableRoomName),
    Password,
    Field(FieldName, FieldFault),
    TooMany(FieldName, usize),
    EitherOr(FieldName, FieldName),
    NoFileKept(RejectedFiles),
}

/// A text that can't be a user name, or not that of a new account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableName {
    text: String,
    why: UserNameError,
}

/// A text that can't be the name of a room.
#[derive(Debug)]
pub(super) struct UnusableRoomName {
    text: String,
    why: NameError,
    suggestion: Option<UserName>,
}

/// A fault of one field.
#[derive(Debug)]
pub(super) enum FieldFault {
    NotText,
    NotUnicode,
    NotWhole,
    NotFlag,
    NotAList,
    NotAPort(u64),
    NotAMode(String),
    NotAnAddress(String),
    NotAName(NameError),
    NotAHash,
    NotWords,
    NotAPerson,
    NotATopic(NameError),
    NotARole,
    NotACut,
    /// A malformed token, instance, fingerprint or cursor. The reason is in English only.
    Other(String),
}

/// The files of a `REGISTER_FILES` that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RejectedFiles {
    count: usize,
    /// The first few of them, as shown in a reply, with their faults.
    first: Vec<(String, FileFault)>,
}

/// A fault of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileFault {
    NotAnObject,
    NotUnicode,
    NoName,
    Name(NameError),
    NoSize,
    Size,
    Hash,
}

impl RequestFault {
    /// Returns the refusal in the words of `dialect`.
    pub(super) fn refusal(&self, dialect: Dialect) -> TrackerRefusal {
        // Written from the fault and not from its code, which several faults have: each language must be true.
        let message = match dialect {
            Dialect::Action => in_english(|| self.english()),
            Dialect::Cmd => self.portuguese(),
        };
        TrackerRefusal::new(self.code(), message)
    }

    const fn code(&self) -> TrackerErrorCode {
        match self {
            Self::NotUtf8 | Self::NotJson { .. } => TrackerErrorCode::BadJson,
            Self::UnknownAction(_) => TrackerErrorCode::UnknownAction,
            Self::User(_) => TrackerErrorCode::InvalidUser,
            Self::Password => TrackerErrorCode::InvalidPassword,
            Self::TooMany(..) => TrackerErrorCode::TooLarge,
            Self::NoAction
            | Self::Missing(_)
            | Self::Room(_)
            | Self::Field(..)
            | Self::EitherOr(..)
            | Self::NoFileKept(_) => TrackerErrorCode::BadRequest,
        }
    }

    fn english(&self) -> String {
        let name = |key: &FieldName| key.name(Dialect::Action);
        match self {
            Self::NotUtf8 => "the request is not UTF-8: encode the JSON text as UTF-8".to_owned(),
            Self::NotJson { line, column } => {
                format!("the request is not JSON: something is wrong at line {line} column {column}")
            }
            Self::NoAction => {
                format!("the field \"action\" is missing: it is one of {}", action_names())
            }
            Self::UnknownAction(other) => {
                format!("there is no action {:?}; there are {}", excerpt(other), action_names())
            }
            Self::Missing(key) => format!("the field {:?} is missing", name(key)),
            Self::User(name) => name.text(Dialect::Action),
            Self::Room(name) => name.english(),
            Self::Password => format!("a password has 1 to {MAX_PASSWORD_BYTES} bytes"),
            Self::Field(key, fault) => format!("{}: {}", name(key), fault.english()),
            Self::TooMany(key, most) => format!("{}: at most {most}", name(key)),
            Self::EitherOr(one, other) => format!("give either {} or {}", name(one), name(other)),
            Self::NoFileKept(left_out) => format!("no file was kept: {}", left_out.reasons(Dialect::Action)),
        }
    }

    fn portuguese(&self) -> String {
        let name = |key: &FieldName| key.name(Dialect::Cmd);
        match self {
            Self::NotUtf8 => "o pedido não está em UTF-8: codifique o texto JSON em UTF-8".to_owned(),
            Self::NotJson { line, column } => {
                format!("o pedido não é JSON: há algo errado na linha {line}, coluna {column}")
            }
            Self::NoAction => {
                format!("falta o campo \"cmd\": ele é um de {}", exercise_action_names())
            }
            Self::UnknownAction(other) => {
                format!("não existe o comando {:?}; existem {}", excerpt(other), exercise_action_names())
            }
            Self::Missing(key) => format!("falta o campo {:?}", name(key)),
            Self::User(name) => name.text(Dialect::Cmd),
            Self::Room(name) => name.portuguese(),
            Self::Password => format!("a senha deve ter de 1 a {MAX_PASSWORD_BYTES} bytes"),
            Self::Field(key, fault) => format!("{}: {}", name(key), fault.portuguese()),
            Self::TooMany(key, most) => format!("{}: no máximo {most}", name(key)),
            Self::EitherOr(one, other) => format!("informe {} ou {}, e não ambos", name(one), name(other)),
            Self::NoFileKept(left_out) => format!("nenhum arquivo foi aceito: {}", left_out.reasons(Dialect::Cmd)),
        }
    }
}

impl UnusableName {
    /// Makes the fault of `text`; `why` is the reason.
    pub fn new(text: &str, why: UserNameError) -> Self {
        // Enough to recognize it: the text may be as long as a request.
        Self { text: excerpt(text).to_owned(), why }
    }

    /// Returns the name to use instead, if there is one.
    pub fn suggestion(&self) -> Option<&UserName> {
        self.why.suggestion()
    }

    /// Replaces the suggestion.
    #[must_use]
    pub fn with_suggestion(self, instead: Option<NewUserName>) -> Self {
        Self { why: self.why.with_suggestion(instead), ..self }
    }

    /// Returns the refusal in the words of `dialect`.
    pub fn refusal(&self, dialect: Dialect) -> TrackerRefusal {
        TrackerRefusal::new(TrackerErrorCode::InvalidUser, self.text(dialect))
    }

    fn text(&self, dialect: Dialect) -> String {
        let Self { text, why } = self;
        let fault = match (dialect, why.reason()) {
            (Dialect::Action, _) => return in_english(|| why.to_string()),
            (Dialect::Cmd, UserNameFault::Syntax(why)) => portuguese_name_fault(why),
            (Dialect::Cmd, UserNameFault::BadFirstChar) => "um nome novo começa com letra ou dígito".to_owned(),
            (Dialect::Cmd, UserNameFault::ConsecutiveDots) => "um nome novo não tem dois pontos seguidos".to_owned(),
            (Dialect::Cmd, UserNameFault::Reserved) => "esse nome é reservado".to_owned(),
        };
        let advice = match why.suggestion() {
            Some(instead) => format!("use {instead}, por exemplo"),
            None => "use letras de a a z, dígitos, e _ . - entre eles".to_owned(),
        };
        format!("o nome de usuário {text:?} não serve: {fault}; {advice}")
    }
}

impl UnusableRoomName {
    /// Makes the fault of `text`; `why` is the reason.
    pub(super) fn new(text: &str, why: NameError) -> Self {
        // A room's name follows the rules of a new user's, so what is suggested for one serves the other.
        Self { text: excerpt(text).to_owned(), why, suggestion: NewUserName::suggested_for(text).map(UserName::from) }
    }

    fn english(&self) -> String {
        let Self { text, why, suggestion } = self;
        let advice = match suggestion {
            Some(instead) => format!("use {instead}, for example"),
            None => "use letters from a to z, digits, and _ . - between them".to_owned(),
        };
        format!("{text:?} can't be the name of a room: {why}; {advice}")
    }

    fn portuguese(&self) -> String {
        let Self { text, why, suggestion } = self;
        let advice = match suggestion {
            Some(instead) => format!("use {instead}, por exemplo"),
            None => "use letras de a a z, dígitos, e _ . - entre eles".to_owned(),
        };
        format!("o nome de sala {text:?} não serve: {}; {advice}", portuguese_name_fault(why))
    }
}

impl FieldFault {
    fn english(&self) -> String {
        match self {
            Self::NotText => "it is not text".to_owned(),
            Self::NotUnicode => "it has half of a surrogate pair, which is no character".to_owned(),
            Self::NotWhole => "it is not a whole number from 0 on".to_owned(),
            Self::NotFlag => "it is not true or false".to_owned(),
            Self::NotAList => "it is not a list".to_owned(),
            Self::NotAPort(port) => format!("{port} is not in 1 to 65535"),
            Self::NotAMode(other) => format!("{:?} is not replace, add or remove", excerpt(other)),
            Self::NotAnAddress(other) => format!("{:?} is not IP:PORT or IP", excerpt(other)),
            Self::NotAName(why) => why.to_string(),
            Self::NotAHash => format!("at most {MAX_HASH_TEXT_CHARS} characters, no controls"),
            Self::NotWords => {
                format!("1 to {MAX_FIND_WORDS} words of letters and digits, {MAX_FILE_NAME_BYTES} bytes in all")
            }
            Self::NotAPerson => format!("1 to {MAX_FORWARDED_FOR_BYTES} bytes"),
            Self::NotATopic(why) => why.to_string(),
            Self::NotARole => "it is not member or moderator".to_owned(),
            Self::NotACut => "it is not a number and the hash of the message, or the number 0 alone".to_owned(),
            Self::Other(why) => why.clone(),
        }
    }

    fn portuguese(&self) -> String {
        match self {
            Self::NotText => "não é texto".to_owned(),
            Self::NotUnicode => "contém metade de um par substituto, que não é um caractere".to_owned(),
            Self::NotWhole => "não é um número inteiro a partir de 0".to_owned(),
            Self::NotFlag => "não é true nem false".to_owned(),
            Self::NotAList => "não é uma lista".to_owned(),
            Self::NotAPort(port) => format!("{port} não está entre 1 e 65535"),
            Self::NotAMode(other) => format!("{:?} não é replace, add nem remove", excerpt(other)),
            Self::NotAnAddress(other) => format!("{:?} não é IP:PORTA nem IP", excerpt(other)),
            Self::NotAName(why) => portuguese_name_fault(why),
            Self::NotAHash => format!("no máximo {MAX_HASH_TEXT_CHARS} caracteres, sem caracteres de controle"),
            Self::NotWords => {
                format!("de 1 a {MAX_FIND_WORDS} palavras de letras e dígitos, no máximo {MAX_FILE_NAME_BYTES} bytes")
            }
            Self::NotAPerson => format!("de 1 a {MAX_FORWARDED_FOR_BYTES} bytes"),
            Self::NotATopic(why) => portuguese_name_fault(why),
            Self::NotARole => "não é member nem moderator".to_owned(),
            Self::NotACut => "não é o número e o hash de uma mensagem, nem só o número 0".to_owned(),
            Self::Other(_) => "não serve".to_owned(),
        }
    }
}

impl RejectedFiles {
    /// Returns the number of left-out files.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Names the first few files with their faults, in the words of `dialect`.
    pub fn reasons(&self, dialect: Dialect) -> String {
        let reason = |(shown, fault): &(String, FileFault)| match dialect {
            // Replies are read by clients, which need not share the tracker's language.
            Dialect::Action => format!("{shown} ({})", in_english(|| fault.english())),
            Dialect::Cmd => format!("{shown} ({})", fault.portuguese()),
        };
        let mut text = self.first.iter().map(reason).collect::<Vec<_>>().join(", ");
        match self.count - self.first.len() {
            0 => {}
            more => text.push_str(&match dialect {
                Dialect::Action => format!(" and {more} more"),
                Dialect::Cmd => format!(" e mais {more}"),
            }),
        }
        text
    }

    /// Counts a left-out file. `shown` describes it and is called only for the first few.
    pub(super) fn note(&mut self, shown: impl FnOnce() -> String, fault: FileFault) {
        self.count += 1;
        // Bounded, because a request may have 100,000 invalid files.
        if self.first.len() < NAMED {
            self.first.push((shown(), fault));
        }
    }
}

impl FileFault {
    fn english(&self) -> String {
        match self {
            Self::NotAnObject => "it is not an object with name, size and hash".to_owned(),
            Self::NotUnicode => "its text has half of a surrogate pair, which is no character".to_owned(),
            Self::NoName => "it has no name".to_owned(),
            Self::Name(why) => format!("name: {why}"),
            Self::NoSize => "size is missing".to_owned(),
            Self::Size => format!("size: it is not a whole number from 0 to {MAX_FILE_SIZE}"),
            Self::Hash => format!("hash: at most {MAX_HASH_TEXT_CHARS} characters, no controls"),
        }
    }

    fn portuguese(&self) -> String {
        match self {
            Self::NotAnObject => "não é um objeto com name, size e hash".to_owned(),
            Self::NotUnicode => "o texto contém metade de um par substituto, que não é um caractere".to_owned(),
            Self::NoName => "não tem nome".to_owned(),
            Self::Name(why) => format!("name: {}", portuguese_name_fault(why)),
            Self::NoSize => "falta size".to_owned(),
            Self::Size => format!("size: não é um número inteiro de 0 a {MAX_FILE_SIZE}"),
            Self::Hash => format!("hash: no máximo {MAX_HASH_TEXT_CHARS} caracteres, sem caracteres de controle"),
        }
    }
}

impl From<serde_json::Error> for RequestFault {
    fn from(error: serde_json::Error) -> Self {
        // The place and not the parser's words, which name types of Rust.
        Self::NotJson { line: error.line(), column: error.column() }
    }
}

/// Returns in Portuguese why a text is not a name.
fn portuguese_name_fault(why: &NameError) -> String {
    match why {
        NameError::Empty => "está vazio".to_owned(),
        NameError::TooLong { limit } => format!("tem mais de {limit} bytes"),
        NameError::ForbiddenChar(c) => format!("contém {}", char_with_code(*c)),
        NameError::InvalidComponent(component) => format!("tem o componente {:?}", excerpt(component)),
    }
}

/// Returns the fault of a list with too many files.
pub(super) const fn too_many_files_fault() -> RequestFault {
    RequestFault::TooMany(FieldName::Files, MAX_FILES_PER_USER)
}
