//! The texts of both programs in the language of their user: English, as it stands in the code, or Brazilian Portuguese.
//!
//! The language is chosen once at the start ([`set_language`]), by `--lang`, the configuration file or the locale. What
//! programs read is always English: JSON, logs, what goes to other machines. Code that writes it runs under
//! [`in_english`], so that an error is Portuguese on the terminal and English in the log.
//!
//! # How a sentence is written
//!
//! The English text stays where it is used, in [`tr!`]. Its Portuguese goes into the `.po` file of its area, in the
//! crate's `translations/pt_BR` (of the library crates: `shared/translations/pt_BR`); a test fails until it is there.
//!
//! ```
//! # use localization::tr;
//! # let (user, count) = ("bob", 3);
//! // Arguments have names. `user` stands for `user = user`.
//! assert_eq!(tr!("{user} is offline", user), "bob is offline");
//! assert_eq!(tr!("sent to {user}", user = user.to_uppercase()), "sent to BOB");
//! // The number of a plural is {n}; the singular may leave it out.
//! assert_eq!(tr!("{n} file for {user}" | "{n} files for {user}" % count, user), "3 files for bob");
//! // One English word with two meanings has a context, the `msgctxt` of its entry.
//! assert_eq!(tr!("presence" => "open"), "open");
//! ```
//!
//! ```po
//! msgid "{user} is offline"
//! msgstr "{user} não está online"
//!
//! msgid "{n} file for {user}"
//! msgid_plural "{n} files for {user}"
//! msgstr[0] "{n} arquivo para {user}"
//! msgstr[1] "{n} arquivos para {user}"
//!
//! msgctxt "presence"
//! msgid "open"
//! msgstr "aberta"
//! ```
//!
//! An error's fields have their dot, as in thiserror's own formats; a path is printed with `safe_path`:
//!
//! ```ignore
//! #[derive(Debug, thiserror::Error)]
//! enum CopyError {
//!     #[error("{}", tr!("there is no user {user}", user = .user))]
//!     NoUser { user: UserName },
//!     #[error("{}", tr!("can't use {path}: {why}", path = safe_path(.path), why = .source))]
//!     Unusable { path: PathBuf, source: io::Error },
//!     #[error("{}", tr!("{n} byte is missing" | "{n} bytes are missing" % *.missing))]
//!     Incomplete { missing: u64 },
//! }
//! ```
//!
//! * A sentence is one text. Never glue parts: each language orders them otherwise. Two variants are two texts.
//! * Placeholders are `{name}` alone. A width or precision goes into the argument: `share = format_args!("{share:.1}")`.
//!   A brace that is meant as such comes by an argument, too.
//! * Text on one line, without the spaces or line breaks around it, which stay in the code.
//! * Not translated: names of commands, options, keys, codes and JSON fields; logs (`tracing`), whose errors are given as
//!   `%error` and not as a text that was formatted before; whatever another program parses.
//! * Texts that are stored, sent to others or put into an event (a `why: String`) are for programs first: format them under
//!   [`in_english`], or keep the error and format it where it is shown. A node's reply over its socket is in the language
//!   of the client that asked.
//! * `in_english` may not contain an `.await`: the language is the thread's.
//! * A constant can't hold a translation: make it a function, or call [`tr!`] where it is printed.
//!
//! # Words
//!
//! | English | Portuguese | | English | Portuguese |
//! |---|---|---|---|---|
//! | file, folder | arquivo, pasta | | to share, a share | compartilhar, compartilhamento |
//! | user (name) | usuário, nome de usuário | | to fetch, download | baixar, download |
//! | account | conta | | to send, a send | enviar, envio |
//! | password | senha | | to offer, an offer | oferecer, oferta |
//! | key, fingerprint | chave, impressão digital | | to accept, decline | aceitar, recusar |
//! | to trust | confiar em | | receipt | confirmação |
//! | to verify | verificar, conferir (um número) | | message, outbox | mensagem, caixa de saída |
//! | room, member, owner | sala, membro, dono | | unread | não lida |
//! | to join, leave | entrar em, sair de | | to block, mute | bloquear, silenciar |
//! | to invite, kick | convidar, expulsar | | online, offline | online, offline |
//! | network, address, port | rede, endereço, porta | | time-out, to time out | tempo esgotado, esgotar-se |
//! | this machine | esta máquina | | to run (a command) | executar |
//! | profile | perfil | | to stop, end | parar, encerrar |
//! | settings, configuration file | configuração, arquivo de configuração | | default | padrão |
//! | log (of events) | registro | | to log in, log out | entrar, sair |
//! | history | histórico | | to register | criar a conta |
//! | backup, to restore | cópia de segurança, restaurar | | disk, space | disco, espaço |
//!
//! The programs stay `peer` and `tracker`; `tracker` is masculine (o tracker), `peer` as well. Of what runs all the time
//! (node) it is "o nó". The reader is addressed by the imperative of *você* ("execute", "escolha") without the pronoun;
//! what a command does is in the third person or the infinitive ("Compartilhar arquivos"). No full stop at the end of an
//! error, quotation marks only around what the user typed. `can't` is "não foi possível" with the verb in the infinitive,
//! "there is no X" is "não existe X" or "não há X". Commands between backquotes stay as they are, but for their capitals:
//! `peer fetch USER NAME` is `peer fetch USUÁRIO NOME`.

#![warn(missing_docs)]

// The compiled catalogue names this crate as others do.
extern crate self as localization;

mod catalogue;
mod compilation;
mod language;
#[cfg(feature = "log")]
mod log_format;
mod po_file;

pub use catalogue::{Catalogue, CatalogueEntry, CatalogueTranslator};
pub use compilation::{CompileError, compile_translations};
pub use language::{Language, UnknownLanguage, current_language, in_english, in_language, set_language};
#[cfg(feature = "log")]
pub use log_format::EnglishFormat;
pub use po_file::{PoEntry, PoError, parse_po};

#[doc(hidden)]
pub use tr as tr_crate;

/// The texts of the library crates.
pub static LIBRARY_TEXTS: Catalogue = include!(concat!(env!("OUT_DIR"), "/translations.rs"));

/// Returns the text in the current language, with its arguments in place; see the crate's documentation.
///
/// The compiler checks the placeholders of the English text against the arguments.
#[macro_export]
macro_rules! tr {
    ($text:literal $(,)?) => {
        if false { ::std::format!($text) } else { $crate::tr_crate::tr!($text) }
    };
    ($context:literal => $text:literal $(,)?) => {
        if false { ::std::format!($text) } else { $crate::tr_crate::tr!($context => $text) }
    };
    // Arguments are evaluated outside, since the other macro puts its own into a closure.
    ($text:literal $(, $name:ident $(= $value:expr)?)+ $(,)?) => {
        match ($(&$crate::tr_argument!($name $(= $value)?),)+) {
            ($($name,)+) => {
                if false {
                    ::std::format!($text $(, $name = $name)+)
                } else {
                    $crate::tr_crate::tr!($text $(, $name = $name)+)
                }
            }
        }
    };
    ($context:literal => $text:literal $(, $name:ident $(= $value:expr)?)+ $(,)?) => {
        match ($(&$crate::tr_argument!($name $(= $value)?),)+) {
            ($($name,)+) => {
                if false {
                    ::std::format!($text $(, $name = $name)+)
                } else {
                    $crate::tr_crate::tr!($context => $text $(, $name = $name)+)
                }
            }
        }
    };
    ($singular:literal | $plural:literal % $n:expr $(, $name:ident $(= $value:expr)?)* $(,)?) => {
        match ($n, $(&$crate::tr_argument!($name $(= $value)?),)*) {
            (count, $($name,)*) => {
                if false {
                    // The last one, since a singular may leave out its number.
                    ::std::format!(::std::concat!($singular, $plural, "{n}"), n = count $(, $name = $name)*)
                } else {
                    $crate::tr_crate::tr!($singular | $plural % count $(, $name = $name)*)
                }
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! tr_argument {
    ($name:ident) => {
        $name
    };
    ($name:ident = $value:expr) => {
        $value
    };
}

/// Expands to the catalogue that the crate's build script compiled.
#[macro_export]
macro_rules! compiled_translations {
    () => {{ include!(concat!(env!("OUT_DIR"), "/translations.rs")) }};
}

/// Lets [`tr!`] look up the texts of the calling crate in a catalogue.
#[macro_export]
macro_rules! use_catalogue {
    ($catalogue:expr) => {
        $crate::tr_crate::set_translator!($crate::CatalogueTranslator::new($catalogue))
    };
}
