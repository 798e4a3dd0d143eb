//! Notifications of messages by the desktop's own service, where a session bus is there.
//!
//! The node asks it through a program of the system, `notify-send` or else systemd's `busctl`: the libraries that speak
//! D-Bus themselves take longer to build than the rest of the node. Whether the user wants notifications is read for each.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | notifications | one in 2 s | the last message is shown, with the number of the others |
//! | characters of a notification | 200 | cut |
//! | run time of the program | 5 s | it is killed |

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use localization::tr;
use tokio::process::Command;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::active_conversations::ActiveConversations;
use super::message_attention::AttentionCall;
use super::node_event::NodeEvent;
use super::{Error, LocalUser, run_blocking};

/// Least time between two notifications.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// Run time of the program.
const RUN_TIMEOUT: Duration = Duration::from_secs(5);
/// Characters of the text, at most.
const MAX_TEXT_CHARS: usize = 200;
const APP_NAME: &str = "Vizinho";
/// The icon's name, as it is installed.
const ICON_NAME: &str = "vizinho";

/// Shows a notification for every message that calls the user until `stop`.
pub async fn run(
    me: LocalUser,
    mut events: broadcast::Receiver<NodeEvent>,
    conversations: ActiveConversations,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut waiting: Option<WaitingCall> = None;
    let mut next_at = Instant::now();
    loop {
        let is_waiting = waiting.is_some();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep_until(next_at), if is_waiting => {
                if let Some(call) = waiting.take() {
                    next_at = Instant::now() + MIN_INTERVAL;
                    show(&me, &call).await;
                }
            }
            event = events.recv() => match event {
                Ok(event) => {
                    let Some(call) = AttentionCall::of_event(&me, &event) else { continue };
                    // Whoever reads along needs no call.
                    let user = call.from.user().filter(|_| call.room.is_none());
                    let is_open = user.is_some_and(|user| conversations.is_active(user, std::time::Instant::now()));
                    if !is_open {
                        let others = waiting.take().map_or(0, |earlier| earlier.others + 1);
                        waiting = Some(WaitingCall { call, others });
                    }
                }
                // The inbox has what was missed.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
        }
    }
}

/// The call to be shown next, and the number of those before it that are not shown.
#[derive(Debug)]
struct WaitingCall {
    call: AttentionCall,
    others: u64,
}

impl WaitingCall {
    fn title(&self) -> String {
        match &self.call.room {
            Some(room) => tr!("{user} in #{room}", user = self.call.from, room),
            None => self.call.from.to_string(),
        }
    }

    /// Returns the text; the service takes some of it for markup, so its signs are escaped.
    fn body(&self) -> String {
        let text: String = self.call.text.safe_line().chars().take(MAX_TEXT_CHARS).collect();
        // The `&` first, or it would be escaped in what stands for the others.
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        match self.others {
            0 => text,
            others => tr!("{text}\n(and {others} more: peer inbox)", text, others),
        }
    }
}

/// A program of the system that passes a notification on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotifierProgram {
    NotifySend,
    Busctl,
}

impl NotifierProgram {
    const ALL: [(Self, &str); 2] = [(Self::NotifySend, "notify-send"), (Self::Busctl, "busctl")];

    /// Returns the first program that is installed.
    fn find() -> Option<(Self, PathBuf)> {
        let folders = std::env::var_os("PATH")?;
        let find =
            |name: &str| std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
        Self::ALL.iter().find_map(|(program, name)| Some((*program, find(name)?)))
    }

    fn args(self, title: &str, body: &str) -> Vec<String> {
        const SERVICE: [&str; 6] = [
            "call",
            "org.freedesktop.Notifications",
            "/org/freedesktop/Notifications",
            "org.freedesktop.Notifications",
            "Notify",
            "susssasa{sv}i",
        ];
        let words = match self {
            // Behind `--`, as a message may begin with a dash and must not pass for an option.
            Self::NotifySend => vec!["--app-name", APP_NAME, "--icon", ICON_NAME, "--", title, body],
            // No actions, no hints; -1 leaves the time to the service.
            Self::Busctl => {
                let arguments = [APP_NAME, "0", ICON_NAME, title, body, "0", "0", "-1"];
                ["--user", "--"].into_iter().chain(SERVICE).chain(arguments).collect()
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

async fn show(me: &LocalUser, call: &WaitingCall) {
    let profile = me.profile.clone();
    let is_wanted = run_blocking(move || Ok(has_session_bus() && profile.is_desktop_notified()?)).await;
    if !is_wanted.unwrap_or(false) {
        return;
    }
    let Some((program, path)) = NotifierProgram::find() else {
        // No fault: many machines have no desktop.
        return tracing::debug!("no notification: neither notify-send nor busctl is installed");
    };
    let child = Command::new(path)
        .args(program.args(&call.title(), &call.body()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // The child is dropped at the time limit, and must not stay behind.
        .kill_on_drop(true)
        .spawn();
    let ended = match child {
        Ok(mut child) => tokio::time::timeout(RUN_TIMEOUT, child.wait()).await,
        Err(why) => return tracing::debug!("no notification: {why}"),
    };
    match ended {
        Ok(Ok(status)) if status.success() => {}
        // A desktop without such a service is no fault.
        Ok(ended) => tracing::debug!("no notification: {ended:?}"),
        Err(_) => tracing::debug!("no notification: the program ran for more than {} s", RUN_TIMEOUT.as_secs()),
    }
}

/// Returns whether this process belongs to a session with a message bus.
fn has_session_bus() -> bool {
    let is_named = std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|address| !address.is_empty());
    is_named || std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|folder| Path::new(&folder).join("bus").exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message_attention::AttentionCaller;

    #[test]
    fn a_text_is_no_markup_and_no_option() {
        let from = AttentionCaller::User("bob".parse().unwrap());
        let call = AttentionCall { from, text: "<b>&\u{1b}[2J".into(), room: None };
        let waiting = WaitingCall { call, others: 2 };
        assert_eq!(waiting.body(), "&lt;b&gt;&amp;␛[2J\n(and 2 more: peer inbox)");
        let args = NotifierProgram::NotifySend.args("bob", "--help");
        assert_eq!(args[args.len() - 3..], ["--", "bob", "--help"]);
        let args = NotifierProgram::Busctl.args("bob", "--help");
        assert_eq!(args[..2], ["--user", "--"]);
        let signature = args.iter().position(|word| word == "susssasa{sv}i").unwrap();
        assert_eq!(args.len() - signature - 1, 8);
    }
}
