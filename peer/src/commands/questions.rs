//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal, Read};

use localization::tr;

use super::common_words::is_yes;
use super::context::CommandContext;
use crate::engine::{Error, run_blocking};
use crate::sys::{discard_typed_ahead, job_control};

/// Bytes read of an answer; the line that a tracker prints fits several times.
const MAX_ANSWER_BYTES: u64 = 1024;

/// True if a person can answer a question.
pub(super) fn can_ask(context: &CommandContext) -> bool {
    has_answerer(context) && !context.output.is_json()
}

/// Fails with [`Error::Usage`] where nobody can be asked; `again` says what to run instead.
pub(super) fn require_answerer(context: &CommandContext, again: impl FnOnce() -> String) -> Result<(), Error> {
    if has_answerer(context) { Ok(()) } else { Err(Error::Usage(again())) }
}

/// True if somebody is at the terminal, even if a program reads the output.
fn has_answerer(context: &CommandContext) -> bool {
    // A read from the background would stop this process (SIGTTIN).
    !(context.no_input || !io::stdin().is_terminal() || job_control::is_in_background())
}

/// Returns whether somebody at a terminal may type answers.
pub(super) fn takes_lines(context: &CommandContext) -> bool {
    !context.no_input && !context.output.is_json() && io::stdin().is_terminal()
}

/// Asks a question and reads one line; `None` at the end of input.
pub(super) async fn ask_line(context: &CommandContext, question: &str) -> Result<Option<String>, Error> {
    // A key that was pressed before the question is no answer.
    discard_typed_ahead()?;
    context.output.prompt(question);
    run_blocking(|| {
        let mut line = String::new();
        let read = io::stdin().lock().take(MAX_ANSWER_BYTES).read_line(&mut line)?;
        Ok((read > 0).then_some(line))
    })
    .await
}

/// Asks a yes-or-no question; the end of input means no, and so does nobody to ask.
pub(super) async fn ask_yes_no(context: &CommandContext, question: &str) -> Result<bool, Error> {
    if !has_answerer(context) {
        return Ok(false);
    }
    // A key that was pressed before the question is no answer.
    discard_typed_ahead()?;
    context.output.prompt(&format!("{} ", tr!("{question} [y/N]", question)));
    // Bounded: the input may be an endless line.
    run_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().take(64).read_line(&mut answer)?;
        Ok(is_yes(answer.trim()))
    })
    .await
}
