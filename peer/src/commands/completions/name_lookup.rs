//! Names of users, rooms and shares for a shell's completion, within a time that nobody notices.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | time for all names of one completion | 50 ms | none are offered |
//! | names | 200 | the rest is left out |

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use shared::UserName;

use crate::engine::Error;
use crate::engine::node::NodeHandle;
use crate::profile::{Access, Audience, Profile, SendState};

/// Time for the running node and the profile to answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(50);
/// Names offered at most.
const MAX_NAMES: usize = 200;

/// The kind of a name that an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKind {
    User,
    Room,
    UserOrRoom,
    /// What the user before it on the line shares.
    SharedByUser,
    /// What this profile shares.
    OwnShare,
    /// What this profile sends.
    OwnSend,
    /// A user whose sends this profile accepts.
    AcceptedUser,
    /// The number of a wish of this profile.
    OwnWish,
}

/// A lookup of names in one profile.
#[derive(Debug, Clone)]
pub(crate) struct CompletionLookup {
    /// The profile's folder.
    pub(crate) home: PathBuf,
    /// The user who was named before.
    pub(crate) user: Option<UserName>,
}

impl CompletionLookup {
    /// Returns the names that begin with `prefix`, in order; none if there is no answer in time.
    pub(crate) fn names(&self, kind: NameKind, prefix: &str) -> Vec<String> {
        let (tell, told) = mpsc::channel();
        let (lookup, wanted) = (self.clone(), prefix.to_owned());
        // On a thread that nobody waits for: the profile may be locked, and its file system slow.
        let asked = std::thread::Builder::new().name("names".to_owned()).spawn(move || {
            // The receiver is gone when the time was over.
            let _ = tell.send(lookup.find(kind, &wanted).unwrap_or_default());
        });
        let mut names = match asked {
            Ok(_) => told.recv_timeout(LOOKUP_TIMEOUT).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        names.retain(|name| name.starts_with(prefix));
        names.truncate(MAX_NAMES);
        names
    }

    fn find(&self, kind: NameKind, prefix: &str) -> Result<Vec<String>, Error> {
        let Some(profile) = Profile::open_existing(&self.home, Access::Look)? else { return Ok(Vec::new()) };
        match kind {
            NameKind::OwnShare => return own_shares(&profile, prefix),
            NameKind::OwnSend => {
                let waiting = profile.sends()?.into_iter().filter(|send| send.state == SendState::Waiting);
                return Ok(waiting.map(|send| send.send.name.as_str().to_owned()).collect());
            }
            NameKind::AcceptedUser => {
                return Ok(profile.accept_rules()?.into_iter().map(|rule| rule.user.to_string()).collect());
            }
            NameKind::OwnWish => {
                return Ok(profile.wishes()?.into_iter().map(|wish| wish.number.to_string()).collect());
            }
            NameKind::User | NameKind::Room | NameKind::UserOrRoom | NameKind::SharedByUser => {}
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let Some(node) = NodeHandle::attach(&profile).await? else { return Ok(Vec::new()) };
            let mut names = Vec::new();
            if matches!(kind, NameKind::User | NameKind::UserOrRoom) && !prefix.starts_with('#') {
                names.extend(node.users().await?.into_iter().map(|person| person.user.to_string()));
            }
            if matches!(kind, NameKind::Room | NameKind::UserOrRoom) {
                // A mark in front is needed where a user's name could stand as well.
                let has_mark = kind == NameKind::UserOrRoom || prefix.starts_with('#');
                let mark = if has_mark { "#" } else { "" };
                names.extend(node.rooms().await?.into_iter().map(|room| format!("{mark}{}", room.room)));
            }
            if let (NameKind::SharedByUser, Some(user)) = (kind, &self.user) {
                names.extend(node.shared_names(user.clone(), prefix).await?);
            }
            Ok(names)
        })
    }
}

/// Returns the names of the profile's own shares, each up to the slash after `prefix`.
fn own_shares(profile: &Profile, prefix: &str) -> Result<Vec<String>, Error> {
    let page = profile.shares_page(&Audience::Everybody, prefix, "", MAX_NAMES)?;
    let mut names: Vec<String> = page
        .shares
        .iter()
        .map(|share| {
            let name = share.name.as_str();
            let slash = name.get(prefix.len()..).and_then(|rest| rest.find('/'));
            slash.map_or(name, |slash| &name[..=prefix.len() + slash]).to_owned()
        })
        .collect();
    names.dedup();
    Ok(names)
}
