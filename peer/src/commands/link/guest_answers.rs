//! Lines of a terminal that answer the guests of a link.

use std::io;

use localization::tr;
use tokio::sync::mpsc;

use super::super::context::CommandContext;
use super::super::questions::takes_lines;
use crate::engine::guest_links::{GuestLink, GuestLinks};
use crate::engine::{Error, run_blocking};
use crate::ui::{InputLine, spawn_line_reader};

/// The lines that are typed while a link is served.
pub(super) struct GuestAnswers {
    links: GuestLinks,
    link: i64,
    /// `None` where nobody types, or the input has ended.
    lines: Option<mpsc::Receiver<io::Result<InputLine>>>,
}

impl GuestAnswers {
    /// Begins to read, if the link takes messages and there is a terminal.
    pub(super) fn new(context: &CommandContext, links: GuestLinks, link: &GuestLink) -> Result<Self, Error> {
        let is_typed = link.has_chat && takes_lines(context);
        let lines = if is_typed { Some(spawn_line_reader()?) } else { None };
        Ok(Self { links, link: link.number, lines })
    }

    /// Returns the next line that isn't empty; pending where none comes.
    pub(super) async fn next_line(&mut self) -> Result<String, Error> {
        while let Some(lines) = &mut self.lines {
            match lines.recv().await {
                Some(line) => {
                    let text = line?.text;
                    if !text.trim().is_empty() {
                        return Ok(text);
                    }
                }
                None => self.lines = None,
            }
        }
        // The end of the input must not end the serving, beside which this is polled.
        std::future::pending().await
    }

    /// Sends a line to the guest whom it names, or to the only one. What is wrong with it is said.
    pub(super) async fn answer(&self, context: &CommandContext, line: &str) -> Result<(), Error> {
        let (links, link, line) = (self.links.clone(), self.link, line.to_owned());
        let answered = run_blocking(move || {
            // Looked up for each line: another guest may have come since the last one.
            let guests: Vec<i64> = links.conversations(link)?.iter().map(|talk| talk.who.guest).collect();
            let (guest, text) = addressed_line(&line, link, &guests).ok_or_else(|| which_guest_error(link, &guests))?;
            links.answer((link, guest), text)
        });
        match answered.await {
            Ok(_) => Ok(()),
            Err(why @ Error::Usage(_)) => {
                context.output.warning(&why.to_string());
                Ok(())
            }
            Err(why) => Err(why),
        }
    }
}

/// Returns the guest to whom a line goes, and its text: `2: text` names one, and without a name there may be only one.
fn addressed_line<'a>(line: &'a str, link: i64, guests: &[i64]) -> Option<(i64, &'a str)> {
    let named = line.split_once(':').and_then(|(head, text)| {
        let head = head.trim();
        let number = head.strip_prefix(&format!("{link}.")).unwrap_or(head);
        // Only those there are: other numbers are the beginning of a text.
        let guest = number.parse().ok().filter(|guest| guests.contains(guest))?;
        Some((guest, text.trim_start()))
    });
    named.or(match guests {
        [only] => Some((*only, line)),
        _ => None,
    })
}

fn which_guest_error(link: i64, guests: &[i64]) -> Error {
    Error::Usage(match guests {
        [] => tr!("nobody has written yet: there is nobody to answer"),
        [first, ..] => tr!(
            "which guest? Begin the line with a number, such as `{guest}: …`; `peer link chat {link}` shows who wrote",
            guest = first,
            link
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_to_the_guest_whom_it_names_or_to_the_only_one() {
        for (line, guests, expected) in [
            ("hi", &[1][..], Some((1, "hi"))),
            ("1: hi", &[1], Some((1, "hi"))),
            ("12:30 works", &[1], Some((1, "12:30 works"))),
            ("2: hi", &[1, 2], Some((2, "hi"))),
            ("3.2: hi: there", &[1, 2], Some((2, "hi: there"))),
            ("4.2: hi", &[1, 2], None),
            ("hi", &[1, 2], None),
            ("hi", &[], None),
            ("1: hi", &[], None),
        ] {
            assert_eq!(addressed_line(line, 3, guests), expected, "{line} {guests:?}");
        }
    }
}
