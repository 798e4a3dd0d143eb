//! The command `peer shares`.

use std::collections::BTreeMap;

use clap::Args;
use localization::tr;
use serde_json::{Value, json};
use shared::RoomId;
use shared::names::name_encoding::display_name;

use super::command_help::CommandHelp;
use super::common_words::freshness_remark;
use super::context::CommandContext;
use super::share::omissions_json;
use crate::engine::Error;
use crate::engine::private_data::PrivateData;
use crate::engine::share::{self, ShareFreshness, freshness};
use crate::profile::{Access, Audience, Profile};
use crate::ui::{by_design_line, failure_lines, format_size};
use crate::util::shell_words::shell_quote;

/// Returns the note for an account without shares.
pub(super) fn nothing_shared_note() -> String {
    tr!("nothing is shared: `peer share PATH` shares a file or a folder")
}

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer shares
  peer --json shares | jq -r .name",
    notes: "\
Files that are gone, have changed or can't be read are marked, and so are those for a room only. What is left out of \
the shared folders is counted by reason: hidden files, links, sockets, names that can't travel, and what can't be \
read. While `peer serve` runs, new files are hashed at once; until then they are counted as well. What is offered to \
one person is shown by `peer offer`.

With --json the last line is of the type left_out, if something is: counts by reason, and the first names.",
};

/// Show what you share.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct SharesArgs {}

pub(super) fn run(context: &CommandContext) -> Result<(), Error> {
    let Some(profile) = Profile::open_existing(&context.home, Access::Look)? else {
        context.output.note(&nothing_shared_note());
        return Ok(());
    };
    let private = PrivateData::of(&profile);
    let rooms = SharedRoom::all(&profile)?;
    let mut any = print_shares(context, &profile, &private, None)?;
    for room in &rooms {
        any |= print_shares(context, &profile, &private, Some(room))?;
    }
    for part in profile.partials()? {
        any = true;
        let room = rooms.iter().find(|room| room.audience == part.audience);
        let bytes = part.layout.size();
        if context.output.is_json() {
            let path = part.path.to_string_lossy();
            let mut told = json!({
                "name": part.name, "size": bytes, "hash": part.hash, "path": path, "fresh": true, "partial": true,
            });
            SharedRoom::add_fields(room, &mut told);
            context.output.print_object("share", &told)?;
        } else {
            let remark = format!("{}  {}", SharedRoom::remark(room), tr!("(as far as it is fetched)"));
            let (name, note) = (display_name(part.name.as_str()), context.output.dim(&remark));
            context.output.print_data(&format!("{:>9}  {name}{note}", format_size(bytes)))?;
        }
    }
    any |= print_omissions(context, &profile, &private)?;
    if !any {
        context.output.note(&nothing_shared_note());
    }
    if let Some(closed) = rooms.iter().find(|room| !room.is_open) {
        let title = &closed.title;
        context.output.note(&tr!(
            "you are not in #{title} any more: what is shared with it is open to nobody (`peer unshare NAME --room {title}` \
             removes it)",
            title
        ));
    }
    Ok(())
}

/// Prints the shares of one audience: of a room, or of everybody. Returns false if there are none.
fn print_shares(
    context: &CommandContext,
    profile: &Profile,
    private: &PrivateData,
    room: Option<&SharedRoom>,
) -> Result<bool, Error> {
    let (mut outcome, mut any, mut gone) = (Ok(()), false, UnavailableShares::default());
    let audience = room.map_or(&Audience::Everybody, |room| &room.audience);
    share::for_each_share(profile, audience, "", |share| {
        any = true;
        // The iteration can't be stopped: skip the rest after a failed write.
        if outcome.is_err() {
            return;
        }
        let (state, is_private) = (freshness(&share), private.is_private_share(&share));
        let remark = freshness_remark(&state, is_private);
        gone.add(share.name.as_str(), is_private || state == ShareFreshness::Missing);
        outcome = if context.output.is_json() {
            let mut told = json!({
                "name": share.name,
                "size": share.version.size,
                "hash": share.hash,
                "path": share.path.to_string_lossy(),
                "fresh": remark.is_empty(),
                "there": state != ShareFreshness::Missing,
                "private": is_private,
            });
            SharedRoom::add_fields(room, &mut told);
            context.output.print_object("share", &told)
        } else {
            let name = display_name(share.name.as_str());
            let remark = context.output.dim(&format!("{}{remark}", SharedRoom::remark(room)));
            context.output.print_data(&format!("{:>9}  {name}{remark}", format_size(share.version.size)))
        };
    })?;
    outcome?;
    if let Some(advice) = gone.advice(room.map(|room| room.title.as_str())) {
        context.output.note(&advice);
    }
    Ok(any)
}

/// Prints what is left out of the shared folders, in the words of `peer share`. Returns false if nothing is.
fn print_omissions(context: &CommandContext, profile: &Profile, private: &PrivateData) -> Result<bool, Error> {
    let omissions = share::survey_omissions(profile, private)?;
    if omissions.is_empty() {
        return Ok(false);
    }
    if context.output.is_json() {
        let (counts, names) = omissions_json(&omissions);
        context.output.print_object("left_out", &json!({ "left_out": counts, "left_out_first": names }))?;
    } else {
        failure_lines(&omissions).iter().for_each(|line| context.output.note(line));
        by_design_line(&omissions).iter().for_each(|line| context.output.note(line));
    }
    Ok(true)
}

/// A room with which something is shared.
#[derive(Debug)]
pub(super) struct SharedRoom {
    pub(super) audience: Audience,
    id: RoomId,
    /// Its name, or its id if the name is not on record.
    pub(super) title: String,
    /// False if the user left it or it was deleted, so that its shares are open to nobody.
    is_open: bool,
}

impl SharedRoom {
    /// Returns the rooms with which something is shared.
    pub(super) fn all(profile: &Profile) -> Result<Vec<Self>, Error> {
        let known = profile.rooms()?;
        let audiences = profile.audiences()?.into_iter();
        let room = |audience: Audience| {
            let id = audience.room()?;
            let room = known.iter().find(|room| room.id == id);
            let title = room.map_or_else(|| id.to_string(), |room| room.name.to_string());
            Some(Self { audience, id, title, is_open: room.is_some_and(|room| room.is_member) })
        };
        Ok(audiences.filter_map(room).collect())
    }

    /// Returns the remark behind a file that is shared with a room; nothing for everybody.
    fn remark(room: Option<&Self>) -> String {
        match room {
            Some(Self { title, is_open: true, .. }) => format!("  {}", tr!("(#{title} only)", title)),
            Some(Self { title, is_open: false, .. }) => {
                format!("  {}", tr!("(#{title} only, and open to nobody)", title))
            }
            None => String::new(),
        }
    }

    /// Adds the audience to a share for programs.
    fn add_fields(room: Option<&Self>, share: &mut Value) {
        match room {
            None => share["audience"] = json!("everybody"),
            Some(Self { id, title, is_open, .. }) => {
                share["audience"] = json!("room");
                share["room"] = json!(title);
                share["room_id"] = json!(id);
                share["open"] = json!(is_open);
            }
        }
    }
}

/// Shares that can't be fetched any more, by the first component of their names.
#[derive(Debug, Default)]
struct UnavailableShares {
    top_level: BTreeMap<String, TopLevelShares>,
}

#[derive(Debug, Default)]
struct TopLevelShares {
    is_folder: bool,
    shares: usize,
    gone: usize,
    /// The first [`UnavailableShares::NAMED`] + 1 names.
    names: Vec<String>,
}

impl UnavailableShares {
    /// Largest number of names in the suggested command.
    const NAMED: usize = 3;

    fn add(&mut self, name: &str, is_gone: bool) {
        let (top, is_folder) = name.split_once('/').map_or((name, false), |(top, _)| (top, true));
        let top = self.top_level.entry(top.to_owned()).or_default();
        top.is_folder = is_folder;
        top.shares += 1;
        top.gone += usize::from(is_gone);
        // One more than are named tells `advice` that there are more.
        if is_gone && top.names.len() <= Self::NAMED {
            top.names.push(name.to_owned());
        }
    }

    /// Returns the command that removes them from what is shared with everybody, or with a room; `None` if there are none.
    fn advice(&self, room: Option<&str>) -> Option<String> {
        let gone: usize = self.top_level.values().map(|top| top.gone).sum();
        if gone == 0 {
            return None;
        }
        let mut names: Vec<String> = Vec::new();
        for (name, top) in &self.top_level {
            match top {
                TopLevelShares { gone: 0, .. } => {}
                // A folder whose files are all gone is removed by its own name.
                TopLevelShares { gone, shares, is_folder: true, .. } if gone == shares => {
                    names.push(format!("{name}/"));
                }
                top => names.extend(top.names.iter().cloned()),
            }
        }
        let which = if names.len() > Self::NAMED {
            tr!("NAME or FOLDER/")
        } else {
            shell_quote(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let room = room.map_or_else(String::new, |room| format!("--room {room} "));
        let command = format!("peer unshare {room}{which}");
        Some(tr!(
            "1 shared file is gone: `{command}` stops sharing it"
                | "{n} shared files are gone: `{command}` stops sharing them" % gone,
            command
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_forgotten_by_a_command_that_can_be_pasted() {
        let advice = |shares: &[(&str, bool)]| {
            let mut gone = UnavailableShares::default();
            shares.iter().for_each(|(name, is_gone)| gone.add(name, *is_gone));
            gone.advice(None)
        };
        assert_eq!(advice(&[("a", false), ("b/c", false)]), None);
        let whole = advice(&[("old/a", true), ("old/b c", true), ("new/a", false)]).unwrap();
        assert_eq!(whole, "2 shared files are gone: `peer unshare old/` stops sharing them");
        let one = advice(&[("old/a b", true), ("old/c", false)]).unwrap();
        assert_eq!(one, "1 shared file is gone: `peer unshare 'old/a b'` stops sharing it");
        let many: Vec<String> = (0..9).map(|number| format!("x/{number}")).collect();
        let mut many: Vec<(&str, bool)> = many.iter().map(|name| (name.as_str(), true)).collect();
        many.push(("x/there", false));
        assert!(advice(&many).unwrap().contains("`peer unshare NAME or FOLDER/`"));
    }
}
