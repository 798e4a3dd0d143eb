//! The options and streams that all commands share.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use localization::tr;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::engine::follow::run_follows;
use crate::engine::send_intake::accept_unasked;
use crate::engine::tracker_key::TrackerKeyPolicy;
use crate::engine::wish_fetch::fetch_wished;
use crate::engine::{Error, LocalUser, NodeHandlers, Notice, NoticeHandler};
use crate::net::tracker::TrackerAddress;
use crate::profile::{Access, Profile};
use crate::ui::{CommandOutput, InterruptForwarder, notice_line};

/// The options and streams of a command, whichever it is.
#[derive(Debug, Clone)]
pub(crate) struct CommandContext {
    /// The profile's folder.
    pub(crate) home: PathBuf,
    /// The tracker, if it was named.
    pub(crate) tracker: Option<TrackerAddress>,
    /// The expected fingerprint of the tracker, if it was given, and how an unknown one is treated.
    pub(crate) key_policy: TrackerKeyPolicy,
    /// The writer for standard output and standard error.
    pub(crate) output: CommandOutput,
    /// True if the command must not ask the user.
    pub(crate) no_input: bool,
    /// True if no tracker is looked for on the local network.
    pub(crate) no_mdns: bool,
    /// Cancelled at the first Ctrl-C, unless a view takes Ctrl-C as a key.
    pub(crate) cancel: CancellationToken,
    /// Forwards Ctrl-C to the view that takes it as a key.
    pub(crate) interrupts: InterruptForwarder,
}

impl CommandContext {
    /// Opens the profile, and creates it if there is none.
    pub(super) fn profile(&self) -> Result<Profile, Error> {
        Ok(Profile::open(&self.home)?)
    }

    /// Opens the profile as [`CommandContext::profile`]; a lost database is begun anew, as its error message says.
    pub(super) fn profile_for_sign_in(&self) -> Result<Profile, Error> {
        let (profile, is_anew) = Profile::open_or_begin_anew(&self.home)?;
        if is_anew {
            self.output.note(&tr!("the account's database was missing: it begins anew, with the same key"));
        }
        Ok(profile)
    }

    /// Opens the profile without creating one, for commands that need an account. A command that only shows what is
    /// there opens it with [`Access::Look`]: that works on a full disk too.
    pub(super) fn existing_profile(&self, access: Access) -> Result<Profile, Error> {
        Profile::open_existing(&self.home, access)?.ok_or(Error::NotLoggedIn)
    }

    pub(super) fn me(&self, access: Access) -> Result<LocalUser, Error> {
        let profile = self.existing_profile(access)?;
        let me = LocalUser::load(profile, self.tracker.clone(), self.key_policy, self.notify(), self.node_handlers())?;
        // Whoever names a tracker wants no other.
        Ok(LocalUser { finds_trackers: self.tracker.is_none() && !self.no_mdns, ..me })
    }

    /// Returns what nodes have done by other parts of the program.
    pub(super) const fn node_handlers(&self) -> NodeHandlers {
        NodeHandlers { accept_send: accept_unasked, fetch_wish: fetch_wished, run_follows }
    }

    /// Returns the tracker that was given, or used last.
    pub(super) fn known_tracker(&self, profile: &Profile) -> Result<Option<TrackerAddress>, Error> {
        if self.tracker.is_some() {
            return Ok(self.tracker.clone());
        }
        profile.last_tracker()?.map(|last| last.parse().map_err(Error::Usage)).transpose()
    }

    /// Runs `work` until the first Ctrl-C. Fails with [`Error::Interrupted`] after a Ctrl-C, else the error of the
    /// work.
    pub(super) fn until_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = Result<T, Error>> {
        // Boxed because of its size, which the function below would have twice.
        let work = Box::pin(work);
        async move {
            tokio::select! {
                () = self.cancel.cancelled() => Err(Error::Interrupted),
                done = work => done,
            }
        }
    }

    /// True if a person reads and writes, on a terminal of any kind.
    pub(super) fn is_interactive(&self) -> bool {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        is_terminal && !self.no_input && !self.output.is_json()
    }

    /// True if the terminal can move its cursor, so that a view can be drawn.
    pub(super) fn can_draw_view(&self) -> bool {
        let is_unknown = std::env::var_os("TERM").is_none_or(|term| term.is_empty());
        self.is_interactive() && !is_unknown && !self.output.is_plain()
    }

    pub(super) fn notify(&self) -> NoticeHandler {
        let output = self.output.clone();
        Arc::new(move |notice: Notice| {
            if let Notice::MessageExpired { .. } = notice {
                output.warning(&notice_line(&notice));
            } else if output.is_json() {
                // A closed pipe fails again at the data that follows, and is reported there.
                let _ = output.print_object("notice", &json!(notice));
            } else {
                output.note(&notice_line(&notice));
            }
        })
    }
}
