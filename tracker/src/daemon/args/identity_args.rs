//! The arguments of `tracker identity`.

use std::path::PathBuf;

use clap::Subcommand;

use super::help_text;

/// The operations on the tracker's key.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Write the secret key to a new file that only its owner may read
    #[command(after_help = help_text::IDENTITY_EXPORT)]
    Export {
        /// The new file; `-` is standard output, for another program
        file: PathBuf,
    },
    /// Make an exported key this tracker's own, while none runs on the data folder
    #[command(after_help = help_text::IDENTITY_IMPORT)]
    Import {
        /// The file, which only its owner may read; `-` is standard input
        file: PathBuf,
        /// Put another key that is there aside; everybody who knows the tracker by it has to trust it again
        #[arg(long)]
        replace: bool,
    },
}
