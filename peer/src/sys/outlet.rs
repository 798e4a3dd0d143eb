//! Paths that are written to as streams: pipes, devices, and descriptors of this process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Links that are followed, as the kernel does.
const LINKS: usize = 40;

/// The kind of a path that is to be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlet {
    /// A file, a folder, or nothing yet.
    Files,
    /// This process's standard output, by one of its paths.
    Stdout,
    /// Something that takes bytes in order and keeps no file: a pipe, a device, an open descriptor.
    Stream,
    /// Nothing that bytes should go to, and why.
    Unusable(&'static str),
}

/// Looks at what `path` leads to; opens no pipe.
pub fn outlet(path: &Path) -> Outlet {
    let descriptor = descriptor(path);
    if descriptor.as_ref().is_some_and(|(is_own, number)| *is_own && number == "1") {
        return Outlet::Stdout;
    }
    let Ok(metadata) = std::fs::metadata(path) else {
        return if descriptor.is_some() { Outlet::Unusable("that descriptor isn't open") } else { Outlet::Files };
    };
    let kind = metadata.file_type();
    if kind.is_socket() {
        Outlet::Unusable("it is a socket")
    } else if kind.is_block_device() {
        Outlet::Unusable("it is a disk")
    } else if kind.is_char_device() && is_terminal(path) {
        Outlet::Unusable("it is a terminal")
    } else if kind.is_char_device() || kind.is_fifo() || (descriptor.is_some() && !kind.is_dir()) {
        Outlet::Stream
    } else {
        Outlet::Files
    }
}

/// Tells whether standard output was closed when this process began. The standard library then opens `/dev/null` in its place,
/// for reading as well, which a shell's `> /dev/null` never is.
pub fn is_stdout_closed() -> bool {
    let out = io::stdout();
    let null = std::fs::metadata("/dev/null").map(|null| null.rdev());
    let is_null = matches!((rustix::fs::fstat(&out), null), (Ok(out), Ok(null)) if out.st_rdev == null);
    is_null && rustix::fs::fcntl_getfl(&out).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

/// Opens a stream for writing; waits at a pipe until somebody reads from it.
///
/// # Errors
/// As the system says; when a file has taken its place.
pub fn open_stream(path: &Path) -> io::Result<File> {
    // A file that a descriptor leads to is added to: what it had stays.
    let file = OpenOptions::new().append(true).custom_flags(OFlags::NOCTTY.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() && descriptor(path).is_none() {
        return Err(io::Error::other("it is a file by now: run the same command again"));
    }
    Ok(file)
}

fn is_terminal(path: &Path) -> bool {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    let opened = OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path);
    opened.is_ok_and(|file| io::IsTerminal::is_terminal(&file))
}

/// The descriptor that `path` is, such as `/dev/stdout`, `/dev/fd/63` or `/proc/self/fd/1`: whether it is this process's,
/// and its number.
fn descriptor(path: &Path) -> Option<(bool, String)> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = parent.canonicalize().ok()?;
        let name = path.file_name()?.to_str()?;
        if parent.starts_with("/proc") && parent.ends_with("fd") && name.bytes().all(|byte| byte.is_ascii_digit()) {
            let own = PathBuf::from(format!("/proc/{}", std::process::id()));
            return Some((parent.starts_with(own), name.to_owned()));
        }
        path = parent.join(parent.join(name).read_link().ok()?);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_file_is_told_from_what_is() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        File::create(at("file")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        symlink("/dev/null", at("link")).unwrap();
        symlink("file", at("link to file")).unwrap();
        symlink("/dev/stdout", at("stdout")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        for (name, kind) in [
            ("file", Outlet::Files),
            (".", Outlet::Files),
            ("nothing", Outlet::Files),
            ("link to file", Outlet::Files),
            ("pipe", Outlet::Stream),
            ("link", Outlet::Stream),
            ("stdout", Outlet::Stdout),
            ("socket", Outlet::Unusable("it is a socket")),
        ] {
            assert_eq!(outlet(&at(name)), kind, "{name}");
        }
        for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"] {
            assert_eq!(outlet(Path::new(path)), Outlet::Stdout, "{path}");
        }
        assert_eq!(outlet(Path::new("/proc/self/fd/9999")), Outlet::Unusable("that descriptor isn't open"));
        let file = File::options().append(true).open(at("file")).unwrap();
        let path = PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
        assert_eq!(outlet(&path), Outlet::Stream);
        for text in ["one", "two"] {
            io::Write::write_all(&mut open_stream(&path).unwrap(), text.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read(at("file")).unwrap(), b"onetwo");
        assert!(open_stream(&at("file")).is_err());
    }
}
