//! The command `peer completions`: the scripts with which shells complete command lines of this program.
//!
//! A script asks `peer completions --of SHELL -- WORDS` for each completion, so what is offered is always that of the
//! installed release. The first line of the answer is `words`, or `files` if the shell is to offer its own file names;
//! each further line is a word, for zsh and fish with a tab and its explanation.

mod completion_scripts;
mod name_lookup;

use clap::{Args, ValueEnum};

pub(crate) use self::name_lookup::{CompletionLookup, NameKind};

use self::completion_scripts::{BASH_SCRIPT, FISH_SCRIPT, ZSH_SCRIPT};
use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::Error;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  source <(peer completions bash)             for this shell; in ~/.bashrc for all
  peer completions fish > ~/.config/fish/completions/peer.fish",
    notes: "\
For zsh, in a folder of its $fpath before compinit runs: peer completions zsh > ~/.zfunc/_peer

Completed are commands, options and their values; users, your rooms, and after `peer fetch bob` what bob shares, as \
long as `peer serve` or a window runs: it is asked, and has 50 milliseconds. The Debian package installs all three.",
};

/// Print the script that completes command lines of `peer` in your shell.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    shell: CompletionShell,
}

/// A shell that can complete command lines of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

/// The scripts by the names of the files that a package has.
#[cfg(test)]
pub(crate) const INSTALLED_SCRIPTS: [(&str, &str); 3] =
    [("peer.bash", BASH_SCRIPT), ("_peer", ZSH_SCRIPT), ("peer.fish", FISH_SCRIPT)];

pub(super) fn run(context: &CommandContext, args: &CompletionsArgs) -> Result<(), Error> {
    let script = match args.shell {
        CompletionShell::Bash => BASH_SCRIPT,
        CompletionShell::Zsh => ZSH_SCRIPT,
        CompletionShell::Fish => FISH_SCRIPT,
    };
    Ok(context.output.write_raw(script)?)
}
