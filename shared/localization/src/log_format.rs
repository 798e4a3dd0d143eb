//! Log records in English, whatever the language of the process.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::in_english;

/// Formats log records as the format in it does, but always in English.
///
/// It reaches what is formatted with the record: an error that is given as `%error`, not one that was text before.
#[derive(Debug)]
pub struct EnglishFormat<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for EnglishFormat<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        in_english(|| self.0.format_event(context, writer, event))
    }
}
