//! Folders by handle: what is done in one can't be led elsewhere by a link that somebody puts on the path.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, Timespec, Timestamps,
    UTIME_OMIT,
};
use rustix::io::Errno;
use rustix::path::Arg;
use shared::names::name_encoding::{decode_component, encode_component};

use super::exclusive_rename::rename_exclusive;

/// An open folder. Names given to its methods are single components in the form in which they travel: a stand-in
/// ([`shared::names::name_encoding`]) names the file whose bytes it stands for.
#[derive(Debug)]
pub struct FolderHandle(OwnedFd);

/// What a name in a folder stands for; a link stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of this many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A link, a device, a socket.
    Other,
}

/// A file by device and number, and by what stays the same where numbers don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// The file system.
    pub device: u64,
    /// Its number there. Some FUSE systems give each spelling of a name a number of its own.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Last modification, seconds since 1970.
    pub mtime: i64,
}

/// The room on the disk below a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// The file system.
    pub device: u64,
    /// Bytes that this user may still write; `None` where the system doesn't tell.
    pub bytes: Option<u64>,
    /// Files that may still be made; `None` where it doesn't count them.
    pub files: Option<u64>,
    /// Bytes of the smallest piece of the disk that a file takes, as far as that is sure.
    pub block: u64,
}

/// The most that is taken for sure: file systems of networks name their largest transfer.
const MAX_BLOCK_BYTES: u64 = 4096;
/// Btrfs keeps small files in its tree, many to a block.
const BTRFS: i64 = 0x9123_683E;

impl FreeSpace {
    /// The room that a file with so many bytes takes.
    pub const fn allocated_size(&self, bytes: u64) -> u64 {
        let block = if self.block == 0 { 1 } else { self.block };
        bytes.div_ceil(block).saturating_mul(block)
    }
}

/// A reason for which a folder takes no files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnwritableReason {
    /// It was removed; only the handle is left.
    Removed,
    /// The file system is read-only.
    ReadOnly,
    /// This user may not write there.
    Forbidden,
    /// Nothing in it may be renamed (`chattr +a`).
    AppendOnly,
    /// Nothing in it may change (`chattr +i`).
    Immutable,
}

const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A handle for going further, without reading what is in it.
const PATH_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW_FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const NEW_FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

impl FolderHandle {
    /// Opens the folder at `path`, which is the user's own word: links in it are followed.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open_folder(rustix::fs::CWD, path, OFlags::empty())?))
    }

    /// Opens the folder `name` in this one, made if it isn't there. A link is not followed.
    ///
    /// # Errors
    /// As the system says; `NotADirectory` for a file or a link.
    pub fn open_or_create_subfolder(&self, name: &str) -> io::Result<Self> {
        let name: &OsStr = &disk_name(name);
        match rustix::fs::mkdirat(&self.0, name, NEW_FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self(open_folder(&self.0, name, OFlags::NOFOLLOW)?))
    }

    /// The names of what is in it, in the form in which they travel, as far as they have one.
    ///
    /// # Errors
    /// As the system says.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let name = |entry: rustix::io::Result<rustix::fs::DirEntry>| match entry {
            Ok(entry) => encode_component(entry.file_name().to_bytes()).map(|name| Ok(name.into_owned())),
            Err(why) => Some(Err(why.into())),
        };
        rustix::fs::Dir::read_from(&self.0)?.filter_map(name).collect()
    }

    /// Opens the folder `name` in this one, if it is there. A link is not followed.
    ///
    /// # Errors
    /// As the system says; `NotADirectory` for a file or a link.
    pub fn open_subfolder(&self, name: &str) -> io::Result<Option<Self>> {
        let name: &OsStr = &disk_name(name);
        match open_folder(&self.0, name, OFlags::NOFOLLOW) {
            Ok(folder) => Ok(Some(Self(folder))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file `name` for reading and writing, made if it isn't there. A link is not followed.
    ///
    /// # Errors
    /// As the system says.
    pub fn open_or_create(&self, name: &str) -> io::Result<File> {
        let name: &OsStr = &disk_name(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        self.open_file(name, flags)
    }

    /// Makes the file `name`, for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists`, or as the system says.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let name: &OsStr = &disk_name(name);
        self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC)
    }

    /// Opens the file `name` for reading. A link is not followed.
    ///
    /// # Errors
    /// As the system says.
    pub fn open_existing(&self, name: &str) -> io::Result<File> {
        let name: &OsStr = &disk_name(name);
        self.open_file(name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK)
    }

    /// What `name` is, if it is there.
    ///
    /// # Errors
    /// As the system says.
    pub fn entry_kind(&self, name: &str) -> io::Result<Option<EntryKind>> {
        let name: &OsStr = &disk_name(name);
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => EntryKind::File(u64::try_from(stat.st_size).unwrap_or(0)),
                FileType::Directory => EntryKind::Folder,
                _ => EntryKind::Other,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Says that it was last modified so many seconds after 1970, and nanoseconds beyond.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_modified(&self, seconds: i64, nanoseconds: u32) -> io::Result<()> {
        let last_modification = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        Ok(rustix::fs::futimens(&self.0, &Timestamps { last_access, last_modification })?)
    }

    /// Bytes of the disk that the file `name` takes; 0 when it isn't there.
    pub fn allocated_bytes(&self, name: &str) -> u64 {
        const BLOCK_BYTES: u64 = 512;
        let name: &OsStr = &disk_name(name);
        let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES)
    }

    /// Whether `name` still stands for this open file.
    ///
    /// # Errors
    /// As the system says.
    pub fn is_named(&self, name: &str, file: &File) -> io::Result<bool> {
        let name: &OsStr = &disk_name(name);
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let open = rustix::fs::fstat(file)?;
                Ok((stat.st_dev, stat.st_ino) == (open.st_dev, open.st_ino))
            }
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the file `from` the name `to` unless that is taken.
    ///
    /// # Errors
    /// `AlreadyExists`, or as the system says.
    pub fn rename_no_replace(&self, from: &str, to: &str) -> io::Result<()> {
        let from: &OsStr = &disk_name(from);
        let to: &OsStr = &disk_name(to);
        rename_exclusive(self.0.as_fd(), from, to)
    }

    /// Gives the file `from` the name `to`, in place of a file that has it.
    ///
    /// # Errors
    /// As the system says.
    pub fn rename_replace(&self, from: &str, to: &str) -> io::Result<()> {
        let from: &OsStr = &disk_name(from);
        let to: &OsStr = &disk_name(to);
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes the file `name`; one that isn't there is no error.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let name: &OsStr = &disk_name(name);
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for the room on the disk here.
    ///
    /// # Errors
    /// As the system says.
    pub fn free_space(&self) -> io::Result<FreeSpace> {
        let stat = rustix::fs::fstatvfs(&self.0)?;
        // Pseudo file systems, and some by FUSE, have no size at all.
        let bytes = (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize));
        let files = (stat.f_files > 0).then_some(stat.f_favail);
        let is_btrfs = certs::file_system_kind_of(&self.0).is_ok_and(|kind| kind == BTRFS);
        let block = if is_btrfs { 1 } else { stat.f_frsize.min(MAX_BLOCK_BYTES) };
        Ok(FreeSpace { device: rustix::fs::fstat(&self.0)?.st_dev, bytes, files, block })
    }

    /// Tells whether files here take no room for their holes; true where that can't be tried.
    pub fn can_store_holes(&self) -> bool {
        const PROBE_BYTES: u64 = 1 << 20;
        const BLOCK_BYTES: u64 = 512;
        let name = format!(".vizinho-holes-{}", std::process::id());
        let Ok(probe) = self.create(&name) else { return true };
        let taken =
            probe.set_len(PROBE_BYTES).and_then(|()| probe.metadata()).map(|probe| probe.blocks() * BLOCK_BYTES);
        // Named by this process alone: what stays of it is replaced by nobody.
        let _ = self.remove(&name);
        taken.map_or(true, |taken| taken < PROBE_BYTES / 2)
    }

    /// Looks for what keeps files from being put here, as far as the system tells beforehand.
    pub fn unwritable_reason(&self) -> Option<UnwritableReason> {
        if self.is_removed() {
            return Some(UnwritableReason::Removed);
        }
        let attributes = attributes(&self.0, OsStr::new(""), AtFlags::EMPTY_PATH);
        if attributes.contains(StatxAttributes::IMMUTABLE) {
            return Some(UnwritableReason::Immutable);
        }
        if attributes.contains(StatxAttributes::APPEND) {
            return Some(UnwritableReason::AppendOnly);
        }
        match rustix::fs::accessat(&self.0, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()) {
            Err(Errno::ROFS) => Some(UnwritableReason::ReadOnly),
            Err(Errno::ACCESS | Errno::PERM) => Some(UnwritableReason::Forbidden),
            // What the call itself can't do says nothing about the folder.
            _ => None,
        }
    }

    /// Tells whether the file `name` may be replaced by another of this user's, as far as the system tells beforehand.
    pub fn can_replace(&self, name: &str) -> bool {
        let name: &OsStr = &disk_name(name);
        let kept = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        if attributes(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).intersects(kept) {
            return false;
        }
        let me = rustix::process::geteuid();
        let (Ok(folder), Ok(file)) =
            (rustix::fs::fstat(&self.0), rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW))
        else {
            return true;
        };
        let is_sticky = Mode::from_raw_mode(folder.st_mode).contains(Mode::SVTX);
        !is_sticky || me.is_root() || [folder.st_uid, file.st_uid].contains(&me.as_raw())
    }

    /// The mark of the file `name`, if it is there.
    pub fn file_identity(&self, name: &str) -> Option<FileIdentity> {
        let name: &OsStr = &disk_name(name);
        let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Some(FileIdentity { device: stat.st_dev, inode: stat.st_ino, size, mtime: stat.st_mtime })
    }

    /// Tells whether the folder was removed since it was opened.
    pub fn is_removed(&self) -> bool {
        // Some FUSE systems count no links at all: the kernel's own word as well.
        let link = || std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        rustix::fs::fstat(&self.0).is_ok_and(|stat| stat.st_nlink == 0)
            && link().is_ok_and(|path| path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)"))
    }

    /// Tells whether nobody else can change the file, which lies here, through another name or as its owner.
    ///
    /// # Errors
    /// As the system says.
    pub fn is_sole_owner(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        if metadata.nlink() > 1 {
            return Ok(false);
        }
        // FAT, exFAT and shares give all files one owner, whoever makes them.
        Ok(metadata.uid() == rustix::process::geteuid().as_raw() || Some(metadata.uid()) == self.owner_of_new_files())
    }

    /// Finds the owner of files that are made here.
    fn owner_of_new_files(&self) -> Option<u32> {
        let name = format!(".vizinho-owner-{}", std::process::id());
        let probe = self.create(&name).ok()?;
        let owner = probe.metadata().map(|metadata| metadata.uid());
        self.remove(&name).ok()?;
        owner.ok()
    }

    fn open_file(&self, name: &OsStr, flags: OFlags) -> io::Result<File> {
        let file = File::from(rustix::fs::openat(&self.0, name, flags, NEW_FILE_MODE)?);
        // NONBLOCK kept a fifo from hanging us; only regular files are of use.
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
    }
}

/// The name of a file on the disk, whose name as it travels this is.
pub fn disk_name(name: &str) -> Cow<'_, OsStr> {
    match decode_component(name) {
        Cow::Borrowed(raw) => Cow::Borrowed(OsStr::from_bytes(raw)),
        Cow::Owned(raw) => Cow::Owned(OsString::from_vec(raw)),
    }
}

impl AsFd for FolderHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens the regular file at `path`, an absolute path that had no link in it when it was recorded: one that somebody
/// put there since is not followed, and a fifo doesn't hang us.
///
/// # Errors
/// As the system says.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = match rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // Before Linux 5.6, and under some sandboxes.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open(path, flags, Mode::empty()),
        opened => opened,
    };
    let file = File::from(opened?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Recognises the error of a file system that can't hold such a name, in a folder that is there.
pub fn is_name_refused(why: &io::Error) -> bool {
    // exFAT by FUSE means the name with "no such file", too.
    let refused = [Errno::INVAL, Errno::NAMETOOLONG, Errno::ILSEQ, Errno::NOENT].map(Errno::raw_os_error);
    why.raw_os_error().is_some_and(|error| refused.contains(&error))
}

/// Whether the file's owner may execute it.
pub fn is_executable(metadata: &Metadata) -> bool {
    metadata.mode() & 0o100 != 0
}

/// Whether nobody but the file's owner may read it.
pub fn is_owner_only(metadata: &Metadata) -> bool {
    metadata.mode() & 0o044 == 0
}

/// Lets everybody who may read the file execute it as well; never more than that, whatever the other side says.
///
/// # Errors
/// As the system says.
pub fn make_executable(file: &File) -> io::Result<()> {
    let mode = file.metadata()?.mode() & 0o777;
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode | ((mode & 0o444) >> 2)))?)
}

/// Leaves a file to its owner alone.
///
/// # Errors
/// As the system says.
pub fn make_owner_only(file: &File) -> io::Result<()> {
    let mode = file.metadata()?.mode() & 0o700;
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Opens a folder; one that may be written to and not read, such as a drop box, as well.
fn open_folder(at: impl AsFd, path: impl Arg + Copy, extra: OFlags) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat(&at, path, FOLDER_FLAGS | extra, Mode::empty()) {
        Err(Errno::ACCESS) => rustix::fs::openat(&at, path, PATH_FLAGS | extra, Mode::empty()),
        opened => opened,
    }
}

fn attributes(folder: &OwnedFd, name: &OsStr, flags: AtFlags) -> StatxAttributes {
    let stat = rustix::fs::statx(folder, name, flags, StatxFlags::empty());
    stat.map_or(StatxAttributes::empty(), |stat| stat.stx_attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_whole_blocks() {
        let room = |block| FreeSpace { device: 1, bytes: None, files: None, block };
        assert_eq!([0, 1, 4096, 4097].map(|bytes| room(4096).allocated_size(bytes)), [0, 4096, 4096, 8192]);
        assert_eq!([0, 1, 4097].map(|bytes| room(1).allocated_size(bytes)), [0, 1, 4097]);
        assert_eq!(room(0).allocated_size(5), 5);
        assert_eq!(room(4096).allocated_size(u64::MAX), u64::MAX);
    }

    #[test]
    fn links_are_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), home.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("file"), home.path().join("file")).unwrap();
        let folder = FolderHandle::open(home.path()).unwrap();
        assert!(folder.open_or_create_subfolder("link").is_err());
        assert!(folder.open_or_create("file").is_err());
        assert_eq!(folder.entry_kind("link").unwrap(), Some(EntryKind::Other));
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_recorded_path_that_became_a_link_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        std::fs::create_dir(home.join("real")).unwrap();
        File::create(home.join("real/secret")).unwrap();
        assert!(open_regular(&home.join("real/secret")).is_ok());
        std::os::unix::fs::symlink(home.join("real/secret"), home.join("link")).unwrap();
        std::os::unix::fs::symlink(home.join("real"), home.join("folder")).unwrap();
        assert!(open_regular(&home.join("link")).is_err());
        assert!(open_regular(&home.join("folder/secret")).is_err());
        assert!(open_regular(&home.join("real")).is_err());
    }

    #[test]
    fn renames_do_not_replace() {
        let home = tempfile::tempdir().unwrap();
        let folder = FolderHandle::open(home.path()).unwrap();
        folder.open_or_create("a").unwrap();
        folder.open_or_create("b").unwrap();
        assert_eq!(folder.rename_no_replace("a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        folder.rename_no_replace("a", "c").unwrap();
        folder.rename_replace("c", "b").unwrap();
        assert_eq!(folder.entry_kind("b").unwrap(), Some(EntryKind::File(0)));
        assert_eq!(folder.entry_kind("a").unwrap(), None);
        folder.remove("nothing").unwrap();
        assert!(folder.free_space().unwrap().bytes.is_none_or(|bytes| bytes > 0));
    }
}
