//! Asking for passwords and for consent.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use shared::limits::PASSWORD_BYTES;
use shared::tracker::Password;

use super::{Context, PasswordSource};
use crate::engine::account::PasswordChange;
use crate::engine::{Error, blocking};

/// The password, asked for twice when it is a new one.
pub(super) async fn password(context: &Context, source: &PasswordSource, is_new: bool) -> Result<Password, Error> {
    let (asking, source) = (context.clone(), source.clone());
    // Reading may block for ever; an interruption must not.
    let text = blocking(move || match &source {
        PasswordSource::File(path) => next_line(&mut *open(path)?),
        PasswordSource::Prompt => prompt(&asking, is_new),
    })
    .await?;
    checked(&text)
}

/// The present password and the new one, which is asked for twice.
pub(super) async fn change_of_password(context: &Context, source: &PasswordSource) -> Result<PasswordChange, Error> {
    let (asking, source) = (context.clone(), source.clone());
    blocking(move || match &source {
        PasswordSource::File(path) => {
            let mut lines = open(path)?;
            let present = checked(&next_line(&mut *lines)?)?;
            let new = next_line(&mut *lines)?;
            if new.is_empty() {
                let why = "the second line of the password file has no new password: nothing was done";
                return Err(Error::Usage(why.to_owned()));
            }
            Ok(PasswordChange { present, new: checked(&new)? })
        }
        PasswordSource::Prompt => {
            let present = checked(&prompt_for(&asking, "Present password: ")?)?;
            let new = checked(&twice(&asking, "New password: ")?)?;
            Ok(PasswordChange { present, new })
        }
    })
    .await
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
    if is_new { twice(context, "Password: ") } else { prompt_for(context, "Password: ") }
}

fn twice(context: &Context, label: &str) -> Result<String, Error> {
    let text = prompt_for(context, label)?;
    if prompt_for(context, "The same again: ")? != text {
        return Err(Error::Usage("the two passwords differ: nothing was done".to_owned()));
    }
    Ok(text)
}

fn prompt_for(context: &Context, label: &str) -> Result<String, Error> {
    if context.no_input || !io::stdin().is_terminal() {
        return Err(Error::Usage(
            "no terminal to ask for the password on: use --password-file FILE, or - for standard input".to_owned(),
        ));
    }
    rpassword::prompt_password(label).map_err(|why| match why.kind() {
        io::ErrorKind::Interrupted => Error::Interrupted,
        _ => why.into(),
    })
}

fn checked(text: &str) -> Result<Password, Error> {
    Password::new(text).ok_or_else(|| Error::Usage(format!("a password has 1 to {PASSWORD_BYTES} bytes")))
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Error> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(BufReader::new(File::open(path).map_err(Error::disk(path))?)))
}

/// The next line without its end; a password may have spaces at its own ends.
fn next_line(reader: &mut dyn BufRead) -> Result<String, Error> {
    let mut line = String::new();
    let limit = u64::try_from(PASSWORD_BYTES).unwrap_or(0) + 3;
    reader.take(limit).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
