//! Paths that are written as streams: pipes, devices, and descriptors of this process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use localization::tr;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Most symbolic links followed, like the kernel.
const MAX_SYMLINKS: usize = 40;

/// The kind of a path to write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputTarget {
    /// A file, a folder, or a path that doesn't exist yet.
    Files,
    /// This process's standard output, under any of its paths.
    Stdout,
    /// A sink that takes bytes in order and stores no file: a pipe, a device, an open descriptor.
    Stream,
    /// A path that can't take the bytes, and the reason.
    Unusable(String),
}

/// Classifies `path` without opening a pipe.
pub fn classify_output(path: &Path) -> OutputTarget {
    let descriptor = descriptor_of_path(path);
    if descriptor.as_ref().is_some_and(|(is_own, number)| *is_own && number == "1") {
        return OutputTarget::Stdout;
    }
    if let Some((true, number)) = &descriptor
        && !is_inherited(number)
    {
        return OutputTarget::Unusable(tr!("that descriptor isn't open"));
    }
    let Ok(metadata) = std::fs::metadata(path) else {
        return if descriptor.is_some() {
            OutputTarget::Unusable(tr!("that descriptor isn't open"))
        } else {
            OutputTarget::Files
        };
    };
    let kind = metadata.file_type();
    if kind.is_socket() {
        OutputTarget::Unusable(tr!("it is a socket"))
    } else if kind.is_block_device() {
        // Writing there would destroy the file system on it.
        OutputTarget::Unusable(tr!("it is a disk"))
    } else if kind.is_char_device()
        && let Some(why) = device_fault(path)
    {
        OutputTarget::Unusable(why)
    } else if kind.is_char_device() || kind.is_fifo() || (descriptor.is_some() && !kind.is_dir()) {
        // Behind a descriptor a file as well: its holders expect the bytes in it, not another file at its place.
        OutputTarget::Stream
    } else {
        OutputTarget::Files
    }
}

/// Returns true if standard output was closed when this process started. The standard library then opens `/dev/null` in
/// its place for reading and writing; a shell's `> /dev/null` opens it only for writing.
pub fn is_stdout_closed() -> bool {
    let out = io::stdout();
    let null = std::fs::metadata("/dev/null").map(|null| null.rdev());
    let is_null = matches!((rustix::fs::fstat(&out), null), (Ok(out), Ok(null)) if out.st_rdev == null);
    is_null && rustix::fs::fcntl_getfl(&out).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

/// Opens a stream for writing; `None` for a pipe without a reader. Fails with the system's error, or an error if a file
/// has replaced the stream.
pub fn open_stream(path: &Path) -> io::Result<Option<File>> {
    let descriptor = descriptor_of_path(path);
    if let Some((true, number)) = &descriptor {
        if !is_inherited(number) {
            return Err(io::Error::other(tr!("that descriptor isn't open: give another with -o")));
        }
        if let Some(file) = duplicate(number)? {
            return Ok(Some(file));
        }
    }
    // Append: a file behind a descriptor keeps its content.
    // NOCTTY: a terminal must not become this process's controlling one. NONBLOCK: don't wait for a reader.
    let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().append(true).custom_flags(flags).open(path) {
        Err(why)
            if is_errno(&why, Errno::NXIO) && std::fs::metadata(path).is_ok_and(|path| path.file_type().is_fifo()) =>
        {
            // ENXIO of a fifo: nobody has it open for reading (open(2)).
            return Ok(None);
        }
        file => file?,
    };
    if file.metadata()?.is_file() && descriptor.is_none() {
        return Err(io::Error::other(tr!("it is a file by now: run the same command again")));
    }
    // NONBLOCK was meant for the open only.
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(Some(file))
}

/// Duplicates a descriptor of this process. Opening its path anew would give a file a position of its own, and other
/// holders of the descriptor would overwrite what is written here. Returns `None` if the system can't duplicate it.
fn duplicate(number: &str) -> io::Result<Option<File>> {
    let Ok(number) = number.parse() else { return Ok(None) };
    let taken =
        pidfd_open(getpid(), PidfdFlags::empty()).and_then(|this| pidfd_getfd(this, number, PidfdGetfdFlags::empty()));
    let descriptor = match taken {
        Ok(descriptor) => descriptor,
        // Linux before 5.6 and some containers have no pidfd_getfd.
        // Standard error is always open, and can be duplicated without pidfd.
        Err(Errno::NOSYS | Errno::PERM) if number == 2 => io::stderr().as_fd().try_clone_to_owned()?,
        Err(Errno::NOSYS | Errno::PERM) => return Ok(None),
        Err(why) => return Err(why.into()),
    };
    if (rustix::fs::fcntl_getfl(&descriptor)? & OFlags::ACCMODE) == OFlags::RDONLY {
        return Err(io::Error::other(tr!("that descriptor is open for reading only: give one for writing")));
    }
    Ok(Some(File::from(descriptor)))
}

/// Returns true if this process inherited the descriptor. Its own descriptors are marked close-on-exec.
fn is_inherited(number: &str) -> bool {
    // It isn't open, or the system has no such file: whatever uses it next tells the first.
    let Ok(info) = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")) else { return true };
    let flags = info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    flags.is_none_or(|flags| !OFlags::from_bits_retain(flags).contains(OFlags::CLOEXEC))
}

/// Returns the reason why a device can't take bytes, if there is one.
fn device_fault(path: &Path) -> Option<String> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    match OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => io::IsTerminal::is_terminal(&file).then(|| tr!("it is a terminal")),
        Err(why) if is_errno(&why, Errno::NXIO) && path == Path::new("/dev/tty") => {
            Some(tr!("this process has no terminal"))
        }
        Err(why) if is_errno(&why, Errno::NXIO) || is_errno(&why, Errno::NODEV) => Some(tr!("no device is behind it")),
        // Left to the opening for the bytes, which fails with the system's own words.
        Err(_) => None,
    }
}

fn is_errno(why: &io::Error, errno: Errno) -> bool {
    why.raw_os_error() == Some(errno.raw_os_error())
}

/// Resolves `path`, such as `/dev/stdout`, `/dev/fd/63` or `/proc/self/fd/1`, to a descriptor. Returns true with its
/// number if it belongs to this process.
fn descriptor_of_path(path: &Path) -> Option<(bool, String)> {
    let mut path = path.to_owned();
    for _ in 0..MAX_SYMLINKS {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = parent.canonicalize().ok()?;
        let name = path.file_name()?.to_str()?;
        if parent.starts_with("/proc") && parent.ends_with("fd") && name.bytes().all(|byte| byte.is_ascii_digit()) {
            let own = PathBuf::from(format!("/proc/{}", std::process::id()));
            return Some((parent.starts_with(own), name.to_owned()));
        }
        // One link at a time: canonicalize would go through the descriptor to its file.
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
            ("file", OutputTarget::Files),
            (".", OutputTarget::Files),
            ("nothing", OutputTarget::Files),
            ("link to file", OutputTarget::Files),
            ("pipe", OutputTarget::Stream),
            ("link", OutputTarget::Stream),
            ("stdout", OutputTarget::Stdout),
            ("socket", OutputTarget::Unusable(tr!("it is a socket"))),
        ] {
            assert_eq!(classify_output(&at(name)), kind, "{name}");
        }
        for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"] {
            assert_eq!(classify_output(Path::new(path)), OutputTarget::Stdout, "{path}");
        }
        assert_eq!(
            classify_output(Path::new("/proc/self/fd/9999")),
            OutputTarget::Unusable(tr!("that descriptor isn't open"))
        );
        let own = File::create(at("file")).unwrap();
        let path = |file: &dyn AsRawFd| PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
        assert_eq!(
            classify_output(&path(&own)),
            OutputTarget::Unusable(tr!("that descriptor isn't open")),
            "it is nobody's but ours"
        );
        // As a shell leaves it to what it starts.
        let mut inherited = File::from(rustix::io::dup(&own).unwrap());
        let path = path(&inherited);
        assert_eq!(classify_output(&path), OutputTarget::Stream);
        for text in ["one", "two"] {
            io::Write::write_all(&mut open_stream(&path).unwrap().unwrap(), text.as_bytes()).unwrap();
        }
        io::Write::write_all(&mut inherited, b"three").unwrap();
        assert_eq!(std::fs::read(at("file")).unwrap(), b"onetwothree");
        assert!(open_stream(&at("file")).is_err());
        assert!(open_stream(&at("pipe")).unwrap().is_none(), "nobody reads from it");
    }
}
