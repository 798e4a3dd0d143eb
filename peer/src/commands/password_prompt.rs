//! Asking for passwords.
//!
//! Two passwords that look alike are the same, whatever keyboard or editor they came from: the text is normalized as
//! RFC 8265 does for passwords (OpaqueString): spaces of other scripts become spaces, accents are composed (NFC).
//! Accounts of earlier releases have their password as it was typed, so that form is tried as well.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use localization::tr;
use shared::limits::MAX_PASSWORD_BYTES;
use shared::safe_text::safe_path;
use shared::tracker::Password;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::context::CommandContext;
use crate::engine::{Error, ErrorKind, run_blocking};
use crate::sys::{HiddenInputGuard, TypeAheadPolicy, job_control};
use crate::ui::{SecretInput, read_secret, write_prompt};

#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// Read the password from the first line of a file; - is standard input [default: ask].
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    pub(super) fn source(self) -> PasswordSource {
        PasswordSource::new(self.password_file)
    }
}

/// The source of a password; never an argument or the environment, which other processes can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PasswordSource {
    /// A prompt without echo.
    Prompt,
    /// A file's first line; `-` is standard input.
    File(PathBuf),
}

impl PasswordSource {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        file.map_or(Self::Prompt, Self::File)
    }
}

/// The spellings under which the tracker may know a password, the likeliest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PasswordCandidates(Vec<Password>);

/// Text that was typed or read, before it is checked as a password.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PasswordInput {
    text: Zeroizing<String>,
    /// The text as earlier releases sent it, without normalization.
    legacy_text: Zeroizing<String>,
}

impl PasswordCandidates {
    /// Calls `attempt` with each spelling until one is not rejected as wrong; returns the last result.
    pub(super) async fn try_each<T>(
        &self,
        mut attempt: impl AsyncFnMut(Password) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut tried = Err(Error::Usage(tr!("there is no password")));
        for password in &self.0 {
            tried = attempt(password.clone()).await;
            // Any other failure, such as a rate limit, would hit the other spellings too.
            if !matches!(&tried, Err(error) if error.kind() == ErrorKind::NotLoggedIn) {
                break;
            }
        }
        tried
    }
}

/// Reads the password of an existing account or room; `label` is the prompt.
pub(super) async fn read_password(
    context: &CommandContext,
    source: &PasswordSource,
    label: &str,
) -> Result<PasswordCandidates, Error> {
    let given = match source {
        PasswordSource::File(path) => first_lines::<1>(context, path).await?.map(password_candidates),
        PasswordSource::Prompt => [password_candidates(ask_hidden(context, label, TypeAheadPolicy::Discard).await?)],
    };
    let [spellings] = given;
    spellings
}

/// Reads a new password, of an account or a room; a prompt asks twice, the first time by `label`.
pub(super) async fn read_new_password(
    context: &CommandContext,
    source: &PasswordSource,
    label: &str,
) -> Result<Password, Error> {
    match source {
        PasswordSource::File(path) => {
            let [given] = first_lines(context, path).await?;
            parse_password(&given.text)
        }
        PasswordSource::Prompt => ask_twice(context, label).await,
    }
}

/// Reads the current password and the new one. At a prompt, `check` verifies the current one before the new one is
/// asked.
pub(super) async fn read_password_change(
    context: &CommandContext,
    source: &PasswordSource,
    check: impl AsyncFn(Password) -> Result<Password, Error>,
) -> Result<(PasswordCandidates, Password), Error> {
    match source {
        PasswordSource::File(path) => {
            let [current, new] = first_lines(context, path).await?;
            if new.text.is_empty() {
                let why =
                    tr!("the second line of {file} has no new password: nothing was done", file = file_label(path));
                return Err(Error::Usage(why));
            }
            Ok((password_candidates(current)?, parse_password(&new.text)?))
        }
        PasswordSource::Prompt => {
            let current =
                password_candidates(ask_hidden(context, &tr!("Current password:"), TypeAheadPolicy::Discard).await?)?;
            // Verified first: nobody should think up a new password in vain.
            let right = current.try_each(async |password| check(password).await).await?;
            // The tracker has accepted this spelling: the change needs no others.
            Ok((PasswordCandidates(vec![right]), ask_twice(context, &tr!("New password:")).await?))
        }
    }
}

async fn ask_twice(context: &CommandContext, label: &str) -> Result<Password, Error> {
    let given = ask_hidden(context, label, TypeAheadPolicy::Discard).await?;
    let password = parse_password(&given.text)?;
    // Kept: users type the second one without waiting for its prompt.
    if ask_hidden(context, &tr!("Repeat the password:"), TypeAheadPolicy::Keep).await?.text != given.text {
        return Err(Error::Usage(tr!("the two passwords differ: nothing was done")));
    }
    Ok(password)
}

async fn ask_hidden(
    context: &CommandContext,
    label: &str,
    typed_ahead: TypeAheadPolicy,
) -> Result<PasswordInput, Error> {
    if context.no_input || !io::stdin().is_terminal() {
        return Err(Error::Usage(tr!(
            "no terminal to ask for the password on: use --password-file FILE, or - for standard input"
        )));
    }
    // Reading from the terminal in the background would stop the process with SIGTTIN.
    if job_control::is_in_background() {
        return Err(Error::Usage(tr!(
            "a process in the background can't ask for the password: use --password-file FILE, or - for standard input"
        )));
    }
    // The guard shows input again however this ends: a blocked reader thread can't be cancelled.
    let hidden = HiddenInputGuard::start(typed_ahead)?;
    write_prompt(&format!("{label} "))?;
    let secret = run_blocking(|| Ok(read_secret()?)).await?;
    drop(hidden);
    // The user's Enter was not echoed either.
    write_prompt("\n")?;
    match secret {
        SecretInput::Line(line) => Ok(PasswordInput::new(&line)),
        SecretInput::Unreadable => Err(Error::Usage(tr!(
            "what was typed is not UTF-8, set the terminal's encoding to UTF-8: nothing was done"
        ))),
        SecretInput::EndOfInput => Err(Error::Usage(tr!("no password was given: nothing was done"))),
        SecretInput::Interrupted => Err(Error::Interrupted),
    }
}

/// Reads the first lines of a password file; missing lines are empty.
async fn first_lines<const COUNT: usize>(
    context: &CommandContext,
    path: &Path,
) -> Result<[PasswordInput; COUNT], Error> {
    let path = path.to_owned();
    let output = context.output.clone();
    // On a blocking thread: a pipe may never deliver, and Ctrl-C has to work meanwhile.
    run_blocking(move || {
        if path.as_os_str() == "-" {
            return read_lines(&mut io::stdin().lock(), &path);
        }
        let file = File::open(&path).map_err(Error::disk(&path))?;
        // Of the open file, not of its path: the path may be replaced in between.
        let facts = file.metadata().map_err(Error::disk(&path))?;
        if facts.is_dir() {
            return Err(Error::Usage(tr!("the password file {file} is a folder", file = file_label(&path))));
        }
        let mode = facts.permissions().mode() & 0o777;
        // Only regular files: the mode of a pipe says nothing about who can read the password.
        if facts.is_file() && mode & 0o044 != 0 {
            let name = file_label(&path);
            output.warning(&tr!(
                "the password file {name} can be read by others (mode {mode}): `chmod 600 {name}`",
                name,
                mode = format_args!("{mode:o}")
            ));
        }
        read_lines(&mut BufReader::new(file), &path)
    })
    .await
}

fn read_lines<const COUNT: usize>(reader: &mut dyn BufRead, path: &Path) -> Result<[PasswordInput; COUNT], Error> {
    let mut given = Vec::with_capacity(COUNT);
    let mut is_begin = true;
    while given.len() < COUNT {
        let line = next_line(reader).map_err(Error::disk(path))?;
        if is_begin && (line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff")) {
            return Err(Error::Usage(tr!(
                "the password file {file} is UTF-16: save it as UTF-8",
                file = file_label(path)
            )));
        }
        let line = str::from_utf8(&line)
            .map_err(|_| Error::Usage(tr!("the password file {file} is not UTF-8 text", file = file_label(path))))?;
        // Windows editors put a byte order mark in front.
        let seen = if is_begin { line.trim_start_matches('\u{feff}') } else { line };
        // Both kinds of line ends, as at a prompt, where the first of them ends the line.
        let text = seen.split(['\r', '\n']).next().unwrap_or_default();
        let as_before = line.trim_end_matches(['\r', '\n']);
        if is_begin && text.is_empty() {
            return Err(Error::Usage(tr!(
                "the first line of the password file {file} is empty",
                file = file_label(path)
            )));
        }
        let mut rest = seen[text.len()..].trim_start_matches('\n').trim_start_matches('\r').trim_start_matches('\n');
        given.push(PasswordInput { text: normalize(text), legacy_text: Zeroizing::new(as_before.to_owned()) });
        // Files with lone carriage returns have all their lines in one.
        while given.len() < COUNT && !rest.is_empty() {
            let text = rest.split(['\r', '\n']).next().unwrap_or_default();
            given.push(PasswordInput::new(text));
            rest = rest[text.len()..].trim_start_matches(['\r', '\n']);
        }
        is_begin = false;
    }
    given.try_into().map_err(|_| Error::Internal("a password file has too many lines".to_owned()))
}

/// Reads the next line with its end, at most a little more than the longest password.
fn next_line(reader: &mut dyn BufRead) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::new());
    // Decomposed accents take more bytes than composed ones; the rest is for a BOM and the line end.
    let limit = u64::try_from(2 * MAX_PASSWORD_BYTES).unwrap_or(0) + 8;
    reader.take(limit).read_until(b'\n', &mut line)?;
    Ok(line)
}

impl PasswordInput {
    fn new(text: &str) -> Self {
        Self { text: normalize(text), legacy_text: Zeroizing::new(text.to_owned()) }
    }
}

/// Normalizes text as a password (OpaqueString of RFC 8265), but refuses nothing.
fn normalize(text: &str) -> Zeroizing<String> {
    let is_blank =
        |c: char| matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}');
    Zeroizing::new(text.chars().map(|c| if is_blank(c) { ' ' } else { c }).nfc().collect())
}

/// Returns the likely spellings: normalized, as typed, and with decomposed accents as some keyboards send them.
fn password_candidates(given: PasswordInput) -> Result<PasswordCandidates, Error> {
    let decomposed: Zeroizing<String> = Zeroizing::new(given.text.nfd().collect());
    let mut passwords = vec![parse_password(&given.text)?];
    for other in [given.legacy_text, decomposed] {
        if let Some(password) = Password::new(&other)
            && !passwords.contains(&password)
        {
            passwords.push(password);
        }
    }
    Ok(PasswordCandidates(passwords))
}

fn parse_password(text: &str) -> Result<Password, Error> {
    Password::new(text)
        .ok_or_else(|| Error::Usage(tr!("a password has 1 to {limit} bytes", limit = MAX_PASSWORD_BYTES)))
}

fn file_label(path: &Path) -> String {
    if path.as_os_str() == "-" {
        return tr!("password file" => "on standard input");
    }
    safe_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<[PasswordInput; 2], Error> {
        read_lines(&mut &*bytes, Path::new("secret.txt"))
    }

    fn texts(bytes: &[u8]) -> [String; 2] {
        read(bytes).unwrap().map(|given| given.text.to_string())
    }

    #[test]
    fn a_file_holds_what_would_be_typed() {
        for bytes in [
            &b"one\ntwo\n"[..],
            b"one\r\ntwo\r\n",
            b"one\rtwo\r",
            b"one\rtwo",
            b"\xef\xbb\xbfone\ntwo",
            b"\xef\xbb\xbfone\r\ntwo",
        ] {
            assert_eq!(texts(bytes), ["one", "two"], "{bytes:?}");
        }
        assert_eq!(texts("cafe\u{301}\u{a0}x\n a b ".as_bytes()), ["caf\u{e9} x", " a b "]);
        assert_eq!(texts(b"one\n\nthree"), ["one", ""]);
        assert_eq!(texts(b"one"), ["one", ""]);
    }

    #[test]
    fn what_is_wrong_names_the_file() {
        for bytes in [&b"caf\xe9\n"[..], b"\xff\xfeo\0n\0e\0\n\0", b"", b"\n", b"\r\nx", b"\xef\xbb\xbf\n"] {
            let error = read(bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{bytes:?}");
            assert!(error.to_string().contains("secret.txt"), "{error}");
        }
    }

    #[test]
    fn a_password_is_tried_as_it_may_be_known() {
        let of = |text: &str| password_candidates(PasswordInput::new(text)).unwrap().0;
        let known = |texts: &[&str]| texts.iter().map(|text| Password::new(text).unwrap()).collect::<Vec<_>>();
        assert_eq!(of("plain"), known(&["plain"]));
        assert_eq!(of("caf\u{e9}"), known(&["caf\u{e9}", "cafe\u{301}"]));
        assert_eq!(of("cafe\u{301}"), known(&["caf\u{e9}", "cafe\u{301}"]));
        let [marked, _] = read(b"\xef\xbb\xbfold\n").unwrap();
        assert_eq!(password_candidates(marked).unwrap().0, known(&["old", "\u{feff}old"]));
        let [carriage, _] = read(b"a\rb\n").unwrap();
        assert_eq!(password_candidates(carriage).unwrap().0, known(&["a", "a\rb"]));
    }
}
