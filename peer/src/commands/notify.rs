//! The command `peer notify`.

use clap::{Args, ValueEnum};
use localization::tr;
use serde_json::json;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::Error;
use crate::profile::Access;
use crate::sys::is_executable;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer notify
  peer notify --desktop off
  peer notify --bell off
  peer notify -- sh -c 'notify-send -a Vizinho -- \"$VIZINHO_FROM\" \"$VIZINHO_TEXT\"'",
    notes: "\
The program runs for each message, without a shell unless you name one, while `peer serve` or a chat is open, and \
for at most 30 seconds. It reads the text on its standard input. Its environment has VIZINHO_FROM (who wrote), \
VIZINHO_TEXT (what), VIZINHO_EVENT (message, offer or left_out), VIZINHO_ID, VIZINHO_TS and VIZINHO_HOME.

Each person has a turn. What a flood left out is told once, as left_out. The bell rings in `peer chat` and `peer \
ui`; -q keeps one of them quiet. The desktop's notifications need a session bus, and notify-send or busctl; a \
conversation that is open makes none.",
};

/// Set how you are told of messages: the terminal's bell, the desktop, and a program that runs for each.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct NotifyArgs {
    /// Whether a terminal rings.
    #[arg(long, value_name = "on|off")]
    bell: Option<OnOff>,
    /// Whether the desktop shows a notification [default: on, unless a program is set].
    #[arg(long, value_name = "on|off")]
    desktop: Option<OnOff>,
    /// Run no program.
    #[arg(long, conflicts_with = "hook")]
    no_hook: bool,
    /// The program and its arguments, after --. Its environment has VIZINHO_FROM and VIZINHO_TEXT, its standard input
    /// the text.
    #[arg(last = true, value_name = "CMD")]
    hook: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnOff {
    On,
    Off,
}

pub(super) fn run(context: &CommandContext, args: NotifyArgs) -> Result<(), Error> {
    let NotifyArgs { bell, desktop, no_hook, hook } = args;
    let [bell, desktop] = [bell, desktop].map(|given| given.map(|given| matches!(given, OnOff::On)));
    // An empty hook removes it, which only `--no-hook` asks for.
    let hook = Some(hook).filter(|hook| no_hook || !hook.is_empty()).map(resolve_hook).transpose()?;
    let profile = match (bell.or(desktop), &hook) {
        // Showing the settings must not create a profile.
        (None, None) => context.existing_profile(Access::Look)?,
        _ => context.profile()?,
    };
    if let Some(rings) = bell {
        profile.set_bell_enabled(rings)?;
    }
    if let Some(tells) = desktop {
        profile.set_desktop_notified(tells)?;
    }
    if let Some(hook) = &hook {
        profile.set_message_hook(Some(hook.as_slice()).filter(|hook| !hook.is_empty()))?;
    }
    let (rings, tells, hook) = (profile.is_bell_enabled()?, profile.is_desktop_notified()?, profile.message_hook()?);
    if context.output.is_json() {
        return Ok(context.output.print_object("notify", &json!({ "bell": rings, "desktop": tells, "hook": hook }))?);
    }
    for (name, is_on) in [("bell", rings), ("desktop", tells)] {
        context.output.print_data(&format!("{name:7}  {}", if is_on { "on" } else { "off" }))?;
    }
    let hook = hook.map_or_else(|| tr!("hook" => "none"), |hook| format!("{hook:?}"));
    Ok(context.output.print_data(&format!("hook     {hook}"))?)
}

/// Checks the program of a hook and keeps its arguments. A path is made absolute: the node that runs the program has
/// another working folder.
fn resolve_hook(mut argv: Vec<String>) -> Result<Vec<String>, Error> {
    let Some(program) = argv.first_mut() else { return Ok(argv) };
    let found = if program.contains('/') {
        std::path::absolute(&*program).ok().filter(|path| is_program(path))
    } else {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).map(|folder| folder.join(&*program)).find(|path| is_program(path))
    };
    match found {
        None if std::path::Path::new(program).exists() && program.contains('/') => {
            Err(Error::Usage(tr!("{program} can't be run: it is a folder, or `chmod +x` is missing", program)))
        }
        None => {
            Err(Error::Usage(tr!("there is no program {program}: name one in the PATH, or its whole path", program)))
        }
        Some(path) if program.contains('/') => {
            let not_text = || Error::Usage(tr!("the path of the program is not UTF-8"));
            *program = path.into_os_string().into_string().map_err(|_| not_text())?;
            Ok(argv)
        }
        // A bare name stays bare: the node looks it up in its own PATH.
        Some(_) => Ok(argv),
    }
}

fn is_program(path: &std::path::Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.is_file() && is_executable(&facts))
}
