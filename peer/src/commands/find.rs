//! The command `peer find`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::ContentHash;
use shared::limits::MAX_FIND_WORDS;
use shared::names::name_encoding::display_name;
use shared::tracker::{FindCriterion, FindRequest, FoundFile, SearchWords};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::value_parsers::count;
use crate::engine::{Error, tracker_search};
use crate::profile::Access;
use crate::ui::format_size;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer find annual rep
  peer find --limit 20 iso",
    notes: "\
Each word has to begin a word of the file's name, whatever case and accents: `cafe` finds `Café.txt`. A hash finds \
the same content under any name. Exit code 5 when nobody who is online shares any.",
};

/// Find files of everybody who is online, by words of their names or by hash.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct FindArgs {
    /// Words that begin words of the file's name, or one hash of 64 hex digits.
    #[arg(required = true, value_name = "WORDS|HASH")]
    words: Vec<String>,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(super) async fn run(context: &CommandContext, args: FindArgs) -> Result<(), Error> {
    let FindArgs { words, limit } = args;
    let (query, limit) = (parse_find_query(&words)?, count(limit));
    let me = context.me(Access::Look)?;
    let mut tracker = me.connect_tracker().await?;
    let what = match &query {
        FindCriterion::Words(words) => words.to_string(),
        FindCriterion::Hash(hash) => hash.as_str().to_owned(),
    };
    let mut found = 0_usize;
    let more = tracker_search::search_files(
        &mut tracker,
        FindRequest { criterion: query, limit: None, cursor: None },
        limit,
        |file| {
            found += 1;
            let FoundFile { user, name, size: bytes, hash } = file;
            if context.output.is_json() {
                let fields = json!({ "user": user, "name": name, "size": bytes, "hash": hash, "me": user == me.user });
                return Ok(context.output.print_object("file", &fields)?);
            }
            Ok(context.output.print_data(&format!(
                "{:>9}  {user}  {}",
                format_size(bytes),
                display_name(name.as_str())
            ))?)
        },
    )
    .await?;
    if found == 0 {
        return Err(Error::NobodyShares(what));
    }
    if more {
        context.output.note(&tr!("there are more: --limit N shows up to N"));
    }
    Ok(())
}

/// Parses a search: one content hash, or words.
fn parse_find_query(words: &[String]) -> Result<FindCriterion, Error> {
    // A single argument in the form of a hash is never meant as a word.
    if let [only] = words
        && let Ok(hash) = only.parse::<ContentHash>()
    {
        return Ok(FindCriterion::Hash(hash.into()));
    }
    let none = || {
        Error::Usage(tr!(
            "give 1 to {limit} words of letters and digits, or one hash of 64 hex digits",
            limit = MAX_FIND_WORDS
        ))
    };
    SearchWords::new(&words.join(" ")).map(FindCriterion::Words).ok_or_else(none)
}
