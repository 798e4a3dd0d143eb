//! The command `peer wishes`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::names::name_encoding::display_name;
use shared::safe_text::{safe_line, safe_path};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::lasting_action::{LastingAction, LastingChange, find_lasting};
use crate::engine::node::announce_wishes;
use crate::engine::{Error, ErrorKind};
use crate::profile::{Access, MAX_OPEN_WISHES, Profile, Wish, WishState};
use crate::ui::date_and_time;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer wishes
  peer wishes end 3",
    notes: "\
A wish is named by its number or by what it looks for. It is fulfilled once it told of a file, or fetched one; resumed, \
it waits again, for files of which it did not tell. The last 100 that are fulfilled are listed as well.

With --json: one `wish` for each, with its state (waiting, paused, fulfilled) and what fulfilled it.",
};

/// Show for which files you wait, or pause, resume or end that.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct WishesArgs {
    #[command(subcommand)]
    action: Option<LastingAction>,
}

pub(super) async fn run(context: &CommandContext, args: WishesArgs) -> Result<(), Error> {
    let Some(action) = args.action else { return print_wishes(context) };
    let profile = context.existing_profile(Access::Use)?;
    let (change, names) = action.into_parts();
    let wishes = profile.wishes()?;
    // All of them before any is changed, so that a slip changes nothing.
    let found: Vec<&Wish> = names.iter().map(|which| find_wish(&wishes, which)).collect::<Result<_, Error>>()?;
    for wish in found {
        apply(context, &profile, wish, change)?;
    }
    // The end of a wish is the end of its fetch.
    match (change, announce_wishes(&profile).await) {
        (LastingChange::Pause | LastingChange::End, Ok(_)) => {}
        (_, told) => report_told(context, told),
    }
    Ok(())
}

/// Returns the wish of this number or with these words; one that is not fulfilled, if there are others.
fn find_wish<'a>(wishes: &'a [Wish], which: &str) -> Result<&'a Wish, Error> {
    let mut open = wishes.iter().filter(|wish| wish.state != WishState::Fulfilled && wish.query == which);
    match (open.next(), open.next()) {
        // A number means the wish of that number, even if another one looks for it as a word.
        (Some(wish), None) if which.parse::<i64>().is_err() => Ok(wish),
        _ => find_lasting(wishes, which, "wishes", |wish| Some(wish.number), |wish| &wish.query),
    }
}

fn apply(context: &CommandContext, profile: &Profile, wish: &Wish, change: LastingChange) -> Result<(), Error> {
    let (number, query) = (wish.number, safe_line(&wish.query));
    let refused = |message: String| Err(Error::Relayed { kind: ErrorKind::Other, message });
    let words = match change {
        LastingChange::End if profile.remove_wish(number)? => tr!("ended: {query}", query),
        LastingChange::End => return refused(tr!("the wish {number} is gone already", number)),
        LastingChange::Pause if profile.set_wish_paused(number, true)? => {
            tr!("paused: {query} (`peer wishes resume {number}` goes on)", query, number)
        }
        LastingChange::Pause if wish.state == WishState::Fulfilled => {
            return refused(tr!("{query} is fulfilled: nothing waits that could be paused", query));
        }
        LastingChange::Pause => tr!("{query} is paused already", query),
        LastingChange::Resume if profile.set_wish_paused(number, false)? => tr!("waiting for {query} again", query),
        LastingChange::Resume if wish.state == WishState::Fulfilled => {
            return refused(tr!("{count} wishes wait: `peer wishes end N` ends one", count = MAX_OPEN_WISHES));
        }
        LastingChange::Resume => tr!("{query} waits already", query),
    };
    context.output.note(&words);
    match profile.wishes()?.iter().find(|wish| wish.number == number) {
        Some(changed) if context.output.is_json() => print_wish(context, changed),
        _ => Ok(()),
    }
}

/// Has the running node look, or says that none runs.
pub(super) async fn tell_node(context: &CommandContext, profile: &Profile) {
    report_told(context, announce_wishes(profile).await);
}

fn report_told(context: &CommandContext, told: Result<bool, Error>) {
    match told {
        Ok(true) => {}
        Ok(false) => context.output.note(&tr!("it is looked for while `peer serve` runs, which doesn't at the moment")),
        Err(error) => context.output.warning(&tr!(
            "the running node could not be told ({error}): it looks when files change, or after a new start",
            error
        )),
    }
}

fn print_wishes(context: &CommandContext) -> Result<(), Error> {
    let wishes = context.existing_profile(Access::Look)?.wishes()?;
    for wish in &wishes {
        print_wish(context, wish)?;
    }
    if wishes.is_empty() {
        let text = tr!("you wait for nothing: `peer wish 'debian*.iso'` waits until somebody shares such a file");
        context.output.note(&text);
    }
    Ok(())
}

/// Prints a wish as a row or an object.
pub(super) fn print_wish(context: &CommandContext, wish: &Wish) -> Result<(), Error> {
    let Wish { number, query, user, folder, max_bytes, at, state, found } = wish;
    if context.output.is_json() {
        let fields = json!({
            "number": number, "query": query, "from": user, "into": folder.as_ref().map(|folder| folder.to_string_lossy()),
            "max": folder.as_ref().map(|_| max_bytes), "at": at, "state": state, "found": found,
        });
        return Ok(context.output.print_object("wish", &fields)?);
    }
    let query = safe_line(query);
    let what = match user {
        Some(user) => tr!("{query} of {user}", query, user),
        None => query.into_owned(),
    };
    let into = folder.as_ref().map_or_else(String::new, |folder| {
        let folder = safe_path(folder);
        format!("  {}", tr!("into {folder}", folder))
    });
    let state = wish_state_words(*state);
    let state = match found {
        Some(found) => {
            let (name, user) = (display_name(found.name.as_str()), &found.by);
            tr!("{state}: {name} of {user}", state, name, user)
        }
        None => state,
    };
    let (at, state) = (date_and_time(*at), context.output.dim(&state));
    Ok(context.output.print_data(&format!("{number:>3}  {at}  {what}{into}  {state}"))?)
}

/// Returns the state of a wish in a word.
fn wish_state_words(state: WishState) -> String {
    match state {
        WishState::Waiting => tr!("state of a wish" => "waiting"),
        WishState::Paused => tr!("state of a wish" => "paused"),
        WishState::Fulfilled => tr!("state of a wish" => "fulfilled"),
    }
}
