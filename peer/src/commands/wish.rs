//! The command `peer wish`.

use std::path::{Path, PathBuf};

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::UserName;
use shared::names::name_encoding::display_name;
use shared::safe_text::{safe_line, safe_path};
use shared::tracker::{FindRequest, FoundFile};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::{LookupScope, resolve_arguments};
use super::value_parsers::parse_size;
use super::wishes::{print_wish, tell_node};
use crate::engine::send_intake::check_accept_folder;
use crate::engine::wishes::WishQuery;
use crate::engine::{Error, LocalUser, now_ms, run_blocking, tracker_search};
use crate::profile::{Access, MAX_OPEN_WISHES, Wish, WishState};
use crate::ui::format_size;
use crate::util::shell_words::shell_quote;

/// Size of a file that is fetched, unless something else is said.
const DEFAULT_MAX_BYTES: &str = "10G";
/// Files taken from the search at the beginning.
const MAX_FOUND: usize = 1000;
/// Files shown that are there already.
const MAX_SHOWN: usize = 20;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer wish 'debian*.iso'
  peer wish annual report --fetch -o ~/reports --from bob",
    notes: "\
If somebody shares it now, that is shown, and nothing waits. Otherwise the running node (`peer serve`, `peer chat`) \
looks whenever somebody's files change, and tells once: in its output, to `peer events`, and by a notification of the \
desktop. `peer wishes` lists what waits, and pauses, resumes or ends it.

Words and a hash are those of `peer find`. A pattern has *, ?, [a-z] or {a,b}, whatever case and accents; without a / \
it is for the name without its folders. It has to fix the beginning of a word, such as 'debian*' or '*.iso'. Only what \
is shared with everybody is found, and nothing of people whom you block.

With --fetch the node fetches the first file that fits, verified, from whoever has it. Nothing is overwritten, nothing \
hidden or executable is taken, 1 GiB of the disk stays free, and the home folder itself and the folders of accounts \
can't be the destination. A name says nothing about a content: with --from only that person's files count.

With --json: `wish` for one that waits, or `file` for each that is there already.",
};

/// Wait until somebody shares a file, and tell or fetch it then.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct WishArgs {
    /// Words, a pattern such as 'debian*.iso', or a hash.
    #[arg(required = true, value_name = "WORDS|PATTERN|HASH")]
    query: Vec<String>,
    /// Fetch it when somebody shares it.
    #[arg(long)]
    fetch: bool,
    /// The folder that takes it [default: this one].
    #[arg(short, long, value_name = "DIR", requires = "fetch")]
    output: Option<PathBuf>,
    /// Only this person's files count.
    #[arg(long, value_name = "USER")]
    from: Option<UserName>,
    /// Fetch nothing that is larger.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = DEFAULT_MAX_BYTES, requires = "fetch")]
    max: u64,
}

pub(super) async fn run(context: &CommandContext, args: WishArgs) -> Result<(), Error> {
    let WishArgs { query, fetch, output, mut from, max } = args;
    let text = query.join(" ");
    let query = WishQuery::parse(&text)?;
    let me = context.me(Access::Use)?;
    if let Some(user) = &mut from {
        resolve_arguments(context, &me, LookupScope::Local, [&mut *user]).await?;
        // After the name is resolved, which may correct its letters.
        if *user == me.user {
            return Err(Error::Usage(tr!("you can't wait for your own files")));
        }
    }
    let folder = match fetch {
        true => Some(fetch_folder(&me, output.as_deref()).await?),
        false => None,
    };
    // What is fetched is fetched by the node, now or later.
    if !fetch {
        match search_now(&me, &query, from.as_ref()).await {
            Ok(found) if !found.is_empty() => return print_found(context, &found),
            Ok(_) => {}
            Err(error) => context.output.note(&tr!("nobody can be asked now: {error}", error)),
        }
    }
    let new = Wish {
        number: 0,
        query: text,
        user: from,
        folder,
        max_bytes: max,
        at: now_ms(),
        state: WishState::Waiting,
        found: None,
    };
    let too_many = || {
        let count = MAX_OPEN_WISHES;
        Error::Usage(tr!("{count} wishes wait: `peer wishes` lists them, `peer wishes end N` ends one", count))
    };
    let number = me.profile.add_wish(&new)?.ok_or_else(too_many)?;
    let wish = Wish { number, ..new };
    match context.output.is_json() {
        true => print_wish(context, &wish)?,
        false => context.output.note(&waiting_words(&wish)),
    }
    tell_node(context, &me.profile).await;
    Ok(())
}

fn waiting_words(wish: &Wish) -> String {
    let Wish { number, query, folder, .. } = wish;
    let query = safe_line(query);
    match folder {
        Some(folder) => {
            let folder = safe_path(folder);
            tr!(
                "waiting for {query}, which goes to {folder}; `peer wishes end {number}` ends it",
                query,
                folder,
                number
            )
        }
        None => tr!("waiting for {query}; `peer wishes end {number}` ends it", query, number),
    }
}

/// Returns the folder that takes the file, absolute and without links.
async fn fetch_folder(me: &LocalUser, output: Option<&Path>) -> Result<PathBuf, Error> {
    let wanted = output.unwrap_or(Path::new("."));
    let wanted = std::path::absolute(wanted).map_err(Error::disk(wanted))?;
    let profile = me.profile.clone();
    run_blocking(move || check_accept_folder(&profile, &wanted)).await
}

/// Returns the files that are there already.
async fn search_now(me: &LocalUser, query: &WishQuery, from: Option<&UserName>) -> Result<Vec<FoundFile>, Error> {
    let mut tracker = me.connect_tracker().await?;
    let request = FindRequest { criterion: query.criterion().clone(), limit: None, cursor: None };
    let (mut found, mut failure) = (Vec::new(), None);
    tracker_search::search_files(&mut tracker, request, MAX_FOUND, |file| {
        let is_meant = file.user != me.user && from.is_none_or(|from| *from == file.user);
        if is_meant && query.matches(&file) {
            match me.profile.is_blocked(&file.user) {
                Ok(false) => found.push(file),
                Ok(true) => {}
                // Kept for the end: the search goes on whatever is made of a file.
                Err(error) => failure = Some(error),
            }
        }
        Ok(())
    })
    .await?;
    failure.map_or(Ok(found), |failure| Err(failure.into()))
}

fn print_found(context: &CommandContext, found: &[FoundFile]) -> Result<(), Error> {
    for FoundFile { user, name, size, hash } in found.iter().take(MAX_SHOWN) {
        if context.output.is_json() {
            let fields = json!({ "user": user, "name": name, "size": size, "hash": hash, "me": false });
            context.output.print_object("file", &fields)?;
            continue;
        }
        let name = display_name(name.as_str());
        context.output.print_data(&format!("{:>9}  {user}  {name}", format_size(*size)))?;
    }
    if found.len() > MAX_SHOWN {
        let more = found.len() - MAX_SHOWN;
        context
            .output
            .note(&tr!("{n} more match: `peer find` shows them" | "{n} more match: `peer find` shows them" % more));
    }
    if let Some(FoundFile { user, name, .. }) = found.first() {
        let fetch = shell_quote(&[user.as_str(), name.as_str()]);
        context.output.note(&tr!("it is there already, so nothing waits: `peer fetch {fetch}`", fetch));
    }
    Ok(())
}
