//! The clipboard of the desktop, through the programs that know it: `wl-copy` and `wl-paste` on Wayland, `xclip` or `xsel` on
//! X11, `pbcopy` and `pbpaste` on macOS.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | bytes read | 64 MiB | an error |
//! | run time of a program | 10 s | it is killed, and an error |

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use localization::tr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Bytes that are read of a clipboard.
const MAX_CLIPBOARD_BYTES: u64 = 64 << 20;
/// Run time of a program.
const RUN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a list of types.
const MAX_TYPES_BYTES: u64 = 64 << 10;

/// The kind of a clipboard's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipboardKind {
    /// Text.
    Text,
    /// An image, as PNG.
    Png,
}

/// An error of the clipboard.
#[derive(Debug, thiserror::Error)]
pub enum ClipboardError {
    /// No program that knows the clipboard of this session is installed.
    #[error("{}", no_program_text(*.0))]
    NoProgram(DesktopKind),
    /// It has no content that can be read.
    #[error("{}", tr!("the clipboard is empty, or has neither text nor a PNG image"))]
    Empty,
    /// It has too much.
    #[error(
        "{}",
        tr!("the clipboard has more than {limit} MiB: save it as a file and send that", limit = MAX_CLIPBOARD_BYTES >> 20)
    )]
    TooLarge,
    /// The program failed.
    #[error("{}", tr!("{program} failed: {why}", program = .program, why = .why))]
    Failed {
        /// The program.
        program: &'static str,
        /// Its first line of error, or the system's words.
        why: String,
    },
    /// The program ran for too long.
    #[error(
        "{}",
        tr!("{program} failed: it didn't end within {seconds} s", program = .0, seconds = RUN_TIMEOUT.as_secs())
    )]
    TimedOut(&'static str),
}

/// The desktop of a session, by which a program is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DesktopKind {
    /// A Wayland compositor.
    Wayland,
    /// An X server alone.
    X11,
    /// None.
    None,
}

/// A family of programs for one kind of clipboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClipboardFamily {
    Wayland,
    Xclip,
    Xsel,
    MacOs,
}

/// The installed programs of a family.
#[derive(Debug)]
struct ClipboardPrograms {
    family: ClipboardFamily,
    reader: PathBuf,
    writer: PathBuf,
}

/// The facts about this session that decide which programs are used.
#[derive(Debug, Clone)]
struct ClipboardSession {
    has_wayland: bool,
    has_x11: bool,
    path: OsString,
}

impl ClipboardFamily {
    // Wayland first: its sessions set DISPLAY as well, for Xwayland.
    const ALL: [Self; 4] = [Self::Wayland, Self::Xclip, Self::Xsel, Self::MacOs];

    /// Returns the programs that read and write.
    const fn programs(self) -> (&'static str, &'static str) {
        match self {
            Self::Wayland => ("wl-paste", "wl-copy"),
            Self::Xclip => ("xclip", "xclip"),
            Self::Xsel => ("xsel", "xsel"),
            Self::MacOs => ("pbpaste", "pbcopy"),
        }
    }

    /// Returns the arguments with which the reader lists the types; `None` if it knows text alone.
    const fn types_args(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Wayland => Some(&["--list-types"]),
            Self::Xclip => Some(&["-selection", "clipboard", "-out", "-target", "TARGETS"]),
            Self::Xsel | Self::MacOs => None,
        }
    }

    const fn read_args(self, kind: ClipboardKind) -> &'static [&'static str] {
        match (self, kind) {
            // By itself, wl-paste ends a text with a line feed that nobody copied.
            (Self::Wayland, ClipboardKind::Text) => &["--no-newline", "--type", "text"],
            (Self::Wayland, ClipboardKind::Png) => &["--no-newline", "--type", "image/png"],
            // Not STRING, which is Latin-1 (ICCCM, 2.6.2).
            (Self::Xclip, ClipboardKind::Text) => &["-selection", "clipboard", "-out", "-target", "UTF8_STRING"],
            (Self::Xclip, ClipboardKind::Png) => &["-selection", "clipboard", "-out", "-target", "image/png"],
            (Self::Xsel, _) => &["--clipboard", "--output"],
            (Self::MacOs, _) => &[],
        }
    }

    const fn write_args(self) -> &'static [&'static str] {
        match self {
            // Untold, wl-copy guesses the type from the content.
            Self::Wayland => &["--type", "text/plain;charset=utf-8"],
            Self::Xclip => &["-selection", "clipboard", "-in"],
            Self::Xsel => &["--clipboard", "--input"],
            Self::MacOs => &[],
        }
    }

    const fn is_of(self, session: &ClipboardSession) -> bool {
        match self {
            Self::Wayland => session.has_wayland,
            Self::Xclip | Self::Xsel => session.has_x11,
            Self::MacOs => cfg!(target_os = "macos"),
        }
    }
}

impl ClipboardSession {
    fn of_process() -> Self {
        let has = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            has_wayland: has("WAYLAND_DISPLAY"),
            has_x11: has("DISPLAY"),
            path: std::env::var_os("PATH").unwrap_or_default(),
        }
    }

    /// Returns the first family of this session that is installed.
    fn programs(&self) -> Result<ClipboardPrograms, ClipboardError> {
        let find =
            |name: &str| std::env::split_paths(&self.path).map(|folder| folder.join(name)).find(|path| path.is_file());
        let found = ClipboardFamily::ALL.into_iter().filter(|family| family.is_of(self)).find_map(|family| {
            let (reader, writer) = family.programs();
            Some(ClipboardPrograms { family, reader: find(reader)?, writer: find(writer)? })
        });
        found.ok_or(ClipboardError::NoProgram(match (self.has_wayland, self.has_x11) {
            (true, _) => DesktopKind::Wayland,
            (false, true) => DesktopKind::X11,
            (false, false) => DesktopKind::None,
        }))
    }
}

fn no_program_text(desktop: DesktopKind) -> String {
    match desktop {
        DesktopKind::Wayland => {
            tr!("no program that knows the clipboard is installed: `sudo apt install wl-clipboard` installs one")
        }
        DesktopKind::X11 => {
            tr!("no program that knows the clipboard is installed: `sudo apt install xclip` installs one")
        }
        DesktopKind::None => tr!(
            "no program that knows the clipboard is installed: this session has no desktop (neither WAYLAND_DISPLAY nor \
             DISPLAY is set)"
        ),
    }
}

/// Copies the clipboard's content to a file that is made for it: text, or else an image.
///
/// # Errors
/// [`ClipboardError`]; nothing of the file is left then.
pub async fn read_clipboard(target: &Path) -> Result<ClipboardKind, ClipboardError> {
    let programs = ClipboardSession::of_process().programs()?;
    let copied = copy_content(&programs, target).await;
    if copied.is_err() {
        let _ = tokio::fs::remove_file(target).await;
    }
    copied
}

/// Puts a text into the clipboard.
///
/// # Errors
/// [`ClipboardError`].
pub async fn write_clipboard(text: &str) -> Result<(), ClipboardError> {
    let ClipboardPrograms { family, writer, .. } = ClipboardSession::of_process().programs()?;
    let program = family.programs().1;
    let failed = |why: io::Error| ClipboardError::Failed { program, why: why.to_string() };
    // The part of it that serves the clipboard afterwards keeps its streams: nothing of them is waited for.
    let mut child =
        command(&writer, family.write_args()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed)?;
    let writing = async {
        if let Some(mut input) = child.stdin.take() {
            input.write_all(text.as_bytes()).await?;
            // Dropped: the end of the text.
        }
        child.wait().await
    };
    match tokio::time::timeout(RUN_TIMEOUT, writing).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(ClipboardError::Failed { program, why: status.to_string() }),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(ClipboardError::TimedOut(program)),
    }
}

async fn copy_content(programs: &ClipboardPrograms, target: &Path) -> Result<ClipboardKind, ClipboardError> {
    let ClipboardPrograms { family, reader, .. } = programs;
    let program = family.programs().0;
    let kind = match family.types_args() {
        None => ClipboardKind::Text,
        Some(args) => {
            // An empty clipboard is an error to these programs.
            let types = run_reader(program, reader, args, MAX_TYPES_BYTES).await.unwrap_or_default();
            kind_of(&String::from_utf8_lossy(&types)).ok_or(ClipboardError::Empty)?
        }
    };
    let content = run_reader(program, reader, family.read_args(kind), MAX_CLIPBOARD_BYTES).await?;
    if content.is_empty() {
        return Err(ClipboardError::Empty);
    }
    let failed = |why: io::Error| ClipboardError::Failed { program, why: why.to_string() };
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(target).await.map_err(failed)?;
    file.write_all(&content).await.map_err(failed)?;
    file.sync_all().await.map_err(failed)?;
    Ok(kind)
}

/// Returns the best kind among the types that a clipboard offers.
fn kind_of(types: &str) -> Option<ClipboardKind> {
    let has =
        // Types may have parameters, such as text/plain;charset=utf-8.
        |wanted: &[&str]| types.lines().any(|line| wanted.contains(&line.split(';').next().unwrap_or(line).trim()));
    if has(&["text/plain", "UTF8_STRING", "STRING", "TEXT"]) {
        return Some(ClipboardKind::Text);
    }
    has(&["image/png"]).then_some(ClipboardKind::Png)
}

fn command(path: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(args).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// Returns what a program writes, at most so many bytes.
async fn run_reader(program: &'static str, path: &Path, args: &[&str], most: u64) -> Result<Vec<u8>, ClipboardError> {
    let failed = |why: io::Error| ClipboardError::Failed { program, why: why.to_string() };
    let mut child = command(path, args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let reading = async {
        let mut content = Vec::new();
        if let Some(output) = child.stdout.take() {
            // One byte more tells too much from just enough.
            output.take(most + 1).read_to_end(&mut content).await?;
        }
        if content.len() as u64 > most {
            // The program still writes and would never end by itself; it is killed when it is dropped.
            return Ok((content, None));
        }
        child.wait().await.map(|status| (content, Some(status)))
    };
    match tokio::time::timeout(RUN_TIMEOUT, reading).await {
        Ok(Ok((content, Some(status)))) if status.success() => Ok(content),
        Ok(Ok((_, Some(status)))) => Err(ClipboardError::Failed { program, why: status.to_string() }),
        Ok(Ok((_, None))) => Err(ClipboardError::TooLarge),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(ClipboardError::TimedOut(program)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn text_comes_before_an_image() {
        assert_eq!(kind_of("TARGETS\nimage/png\ntext/plain;charset=utf-8\n"), Some(ClipboardKind::Text));
        assert_eq!(kind_of("TARGETS\nUTF8_STRING\n"), Some(ClipboardKind::Text));
        assert_eq!(kind_of("text/html\nimage/png\n"), Some(ClipboardKind::Png));
        assert_eq!((kind_of("text/uri-list\nimage/jpeg"), kind_of("")), (None, None));
    }

    #[test]
    fn the_programs_are_those_of_the_session() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().as_os_str().to_owned();
        let session = |has_wayland, has_x11| ClipboardSession { has_wayland, has_x11, path: path.clone() };
        let install = |name: &str| {
            let program = std::fs::File::create(folder.path().join(name)).unwrap();
            program.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let family = |session: ClipboardSession| session.programs().map(|programs| programs.family).ok();
        assert_eq!(family(session(true, true)), None);
        install("xsel");
        assert_eq!((family(session(true, true)), family(session(true, false))), (Some(ClipboardFamily::Xsel), None));
        install("xclip");
        install("wl-copy");
        assert_eq!(family(session(true, true)), Some(ClipboardFamily::Xclip), "one of two is not enough");
        install("wl-paste");
        assert_eq!(family(session(true, true)), Some(ClipboardFamily::Wayland));
        assert_eq!(family(session(false, true)), Some(ClipboardFamily::Xclip));
        let error = session(false, false).programs().unwrap_err().to_string();
        assert!(error.contains("no desktop"), "{error}");
    }
}
