//! Asking for passwords and for consent.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};

use shared::limits::PASSWORD_BYTES;
use shared::tracker::Password;

use super::{Context, PasswordSource};
use crate::engine::{Error, blocking};

/// The password, asked for twice when it is a new one.
pub(super) async fn password(context: &Context, source: &PasswordSource, is_new: bool) -> Result<Password, Error> {
    let (asking, source) = (context.clone(), source.clone());
    // Reading may block for ever; an interruption must not.
    let text = blocking(move || match &source {
        PasswordSource::File(path) if path.as_os_str() == "-" => first_line(io::stdin().lock()),
        PasswordSource::File(path) => first_line(BufReader::new(File::open(path).map_err(Error::disk(path))?)),
        PasswordSource::Prompt => prompt(&asking, is_new),
    })
    .await?;
    Password::new(&text).ok_or_else(|| Error::Usage(format!("a password has 1 to {PASSWORD_BYTES} bytes")))
}

/// Asks a question whose answer is yes or no; the end of input means no.
pub(super) async fn confirm(context: &Context, question: &str) -> Result<bool, Error> {
    if context.no_input || !io::stdin().is_terminal() {
        return Ok(false);
    }
    context.output.prompt(&format!("{question} [y/N] "));
    blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().take(64).read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    })
    .await
}

fn prompt(context: &Context, is_new: bool) -> Result<String, Error> {
    if context.no_input || !io::stdin().is_terminal() {
        return Err(Error::Usage(
            "no terminal to ask for the password on: use --password-file FILE, or - for standard input".to_owned(),
        ));
    }
    let ask = |label| {
        rpassword::prompt_password(label).map_err(|why| match why.kind() {
            io::ErrorKind::Interrupted => Error::Interrupted,
            _ => why.into(),
        })
    };
    let text = ask("Password: ")?;
    if is_new && ask("The same again: ")? != text {
        return Err(Error::Usage("the two passwords differ: nothing was done".to_owned()));
    }
    Ok(text)
}

/// The first line without its end; a password may have spaces at its own ends.
fn first_line(reader: impl BufRead) -> Result<String, Error> {
    let mut line = String::new();
    let limit = u64::try_from(PASSWORD_BYTES).unwrap_or(0) + 3;
    reader.take(limit).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
