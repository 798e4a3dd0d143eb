//! Asking for passwords and for consent.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};

use shared::limits::PASSWORD_BYTES;
use shared::tracker::Password;

use super::{Context, PasswordSource};
use crate::engine::Error;

/// The password, asked for twice when it is a new one.
pub(super) fn password(context: &Context, source: &PasswordSource, is_new: bool) -> Result<Password, Error> {
    let text = match source {
        PasswordSource::File(path) if path.as_os_str() == "-" => first_line(io::stdin().lock())?,
        PasswordSource::File(path) => {
            let file = File::open(path).map_err(Error::disk(path))?;
            first_line(BufReader::new(file))?
        }
        PasswordSource::Prompt => prompt(context, is_new)?,
    };
    Password::new(&text).ok_or_else(|| Error::Usage(format!("a password has 1 to {PASSWORD_BYTES} bytes")))
}

/// Asks a question whose answer is yes or no; the end of input means no.
pub(super) fn confirm(context: &Context, question: &str) -> Result<bool, Error> {
    if context.no_input || !io::stdin().is_terminal() {
        return Ok(false);
    }
    context.output.prompt(&format!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().lock().take(64).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn prompt(context: &Context, is_new: bool) -> Result<String, Error> {
    if context.no_input || !io::stdin().is_terminal() {
        return Err(Error::Usage(
            "no terminal to ask for the password on: use --password-file FILE, or - for standard input".to_owned(),
        ));
    }
    let text = rpassword::prompt_password("Password: ")?;
    if is_new && rpassword::prompt_password("The same again: ")? != text {
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
