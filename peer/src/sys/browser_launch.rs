//! The start of the user's browser.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// The programs of desktops that open a file with what the user chose for it.
const OPENERS: [&str; 2] = ["xdg-open", "open"];
/// The time to see whether an opener fails: one that runs for as long as the browser is fine.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens a file in the user's browser.
///
/// # Errors
/// There is no program for that, or it fails at once.
pub async fn open_in_browser(file: &Path) -> io::Result<()> {
    // Without a desktop an opener may take over the terminal with a browser of text.
    if ["DISPLAY", "WAYLAND_DISPLAY"].iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty()))
        && cfg!(target_os = "linux")
    {
        return Err(io::ErrorKind::NotFound.into());
    }
    for program in OPENERS {
        // Not killed when it is dropped: an opener may be the browser itself.
        let mut command = Command::new(program);
        command.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why),
            Ok(mut child) => {
                return match tokio::time::timeout(FAILURE_TIMEOUT, child.wait()).await {
                    Ok(Ok(status)) if !status.success() => Err(io::Error::other(status.to_string())),
                    Ok(Err(why)) => Err(why),
                    _ => Ok(()),
                };
            }
        }
    }
    Err(io::ErrorKind::NotFound.into())
}
