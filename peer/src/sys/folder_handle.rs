//! Folders by handle, so that a link placed on the path later can't redirect operations elsewhere.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags, Timespec, Timestamps,
    UTIME_OMIT,
};
use rustix::io::Errno;
use rustix::path::Arg;
use shared::names::name_encoding::{decode_component, encode_component};

use super::exclusive_rename::rename_exclusive;

/// An open folder. Its methods take names of single components in the form in which they are sent: an encoded name
/// ([`shared::names::name_encoding`]) refers to the file with the decoded bytes as its name.
#[derive(Debug)]
pub struct FolderHandle(OwnedFd);

/// The kind of an entry in a folder. Links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file, with its size in bytes.
    File(u64),
    Folder,
    /// A link, a device or a socket.
    Other,
}

/// A file by device and inode, and by attributes that stay the same where inode numbers don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// Device number of the file system.
    pub device: u64,
    /// Inode number. Some FUSE file systems give each spelling of a name its own.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last modification, in seconds since 1970.
    pub mtime: i64,
}

/// The free space of a folder's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// Device number of the file system.
    pub device: u64,
    /// Bytes that this user may still write; `None` if unknown.
    pub bytes: Option<u64>,
    /// Files that may still be created; `None` if the file system doesn't count them.
    pub files: Option<u64>,
    /// Smallest unit of allocation in bytes, as far as it is certain; 1 if it isn't.
    pub block: u64,
}

/// Largest unit of allocation that is believed. Network file systems report their largest transfer.
const MAX_BLOCK_BYTES: u64 = 4096;
/// Magic number of Btrfs, which stores small files inside its tree, many to a block.
const BTRFS: i64 = 0x9123_683E;

impl FreeSpace {
    /// Returns the number of bytes that a file of `bytes` bytes takes on the disk.
    pub const fn allocated_size(&self, bytes: u64) -> u64 {
        let block = if self.block == 0 { 1 } else { self.block };
        bytes.div_ceil(block).saturating_mul(block)
    }
}

/// A reason why a folder accepts no files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnwritableReason {
    /// The folder was removed; only the handle is left.
    Removed,
    /// The file system is read-only.
    ReadOnly,
    /// This user has no permission to write.
    Forbidden,
    /// Nothing in it may be renamed (`chattr +a`).
    AppendOnly,
    /// Nothing in it may change (`chattr +i`).
    Immutable,
}

const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Flags of a handle that is only used to reach entries, and doesn't list them.
const PATH_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW_FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const NEW_FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

impl FolderHandle {
    /// Opens the folder at `path`. The user gave this path, so links in it are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open_folder(rustix::fs::CWD, path, OFlags::empty())?))
    }

    /// Opens the folder at `path`, an absolute path that had no links when it was recorded: none that was placed on it
    /// since is followed.
    pub fn open_recorded(path: &Path) -> io::Result<Self> {
        let flags = FOLDER_FLAGS | OFlags::NOFOLLOW;
        match rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            // Linux before 5.6 and some sandboxes have no openat2. NOFOLLOW still protects the last component.
            Err(Errno::NOSYS | Errno::PERM) => Ok(Self(rustix::fs::open(path, flags, Mode::empty())?)),
            opened => Ok(Self(opened?)),
        }
    }

    /// Opens the subfolder `name`, creating it if necessary. A link is not followed. Fails with the system's error;
    /// `NotADirectory` for a file or a link.
    pub fn open_or_create_subfolder(&self, name: &str) -> io::Result<Self> {
        let name: &OsStr = &disk_name(name);
        match rustix::fs::mkdirat(&self.0, name, NEW_FOLDER_MODE) {
            // An existing entry may be a link that others placed there; NOFOLLOW below refuses it.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self(open_folder(&self.0, name, OFlags::NOFOLLOW)?))
    }

    /// Returns the names of its entries as they are sent. Leaves out names that can't be sent.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let name = |entry: rustix::io::Result<rustix::fs::DirEntry>| match entry {
            Ok(entry) => encode_component(entry.file_name().to_bytes()).map(|name| Ok(name.into_owned())),
            Err(why) => Some(Err(why.into())),
        };
        rustix::fs::Dir::read_from(&self.0)?.filter_map(name).collect()
    }

    /// Opens the subfolder `name`; `None` if it doesn't exist. A link is not followed. Fails with the system's error;
    /// `NotADirectory` for a file or a link.
    pub fn open_subfolder(&self, name: &str) -> io::Result<Option<Self>> {
        let name: &OsStr = &disk_name(name);
        match open_folder(&self.0, name, OFlags::NOFOLLOW) {
            Ok(folder) => Ok(Some(Self(folder))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file `name` for reading and writing, creating it if necessary. A link is not followed. Fails with the
    /// system's error, or an error for anything that is not a regular file.
    pub fn open_or_create(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE)
    }

    /// Creates the file `name` for reading and writing. Fails with `AlreadyExists`, or the system's error.
    pub fn create(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Opens the file `name` for reading. A link is not followed. Fails with the system's error, or an error for
    /// anything that is not a regular file.
    pub fn open_existing(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDONLY)
    }

    /// Returns the kind of `name`; `None` if it doesn't exist.
    pub fn entry_kind(&self, name: &str) -> io::Result<Option<EntryKind>> {
        let kind = |stat: Stat| match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File(u64::try_from(stat.st_size).unwrap_or(0)),
            FileType::Directory => EntryKind::Folder,
            _ => EntryKind::Other,
        };
        Ok(self.entry_status(name)?.map(kind))
    }

    /// Sets the folder's modification time, in seconds since 1970 and nanoseconds beyond.
    pub fn set_modified(&self, seconds: i64, nanoseconds: u32) -> io::Result<()> {
        let last_modification = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        // UTIME_OMIT leaves the access time unchanged (utimensat(2)).
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        Ok(rustix::fs::futimens(&self.0, &Timestamps { last_access, last_modification })?)
    }

    /// Returns the number of bytes on the disk that the file `name` takes; 0 if it doesn't exist.
    pub fn allocated_bytes(&self, name: &str) -> u64 {
        const BLOCK_BYTES: u64 = 512;
        let stat = self.entry_status(name).ok().flatten();
        stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES)
    }

    /// Returns true if `name` still refers to this open file.
    pub fn is_named(&self, name: &str, file: &File) -> io::Result<bool> {
        let Some(stat) = self.entry_status(name)? else { return Ok(false) };
        let open = rustix::fs::fstat(file)?;
        Ok((stat.st_dev, stat.st_ino) == (open.st_dev, open.st_ino))
    }

    /// Renames the file `from` to `to` unless that exists. Fails with `AlreadyExists`, or the system's error.
    pub fn rename_no_replace(&self, from: &str, to: &str) -> io::Result<()> {
        rename_exclusive((self.0.as_fd(), &disk_name(from)), (self.0.as_fd(), &disk_name(to)))
    }

    /// Renames the file `from` to `to`, replacing an existing file.
    pub fn rename_replace(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, &*disk_name(from), &self.0, &*disk_name(to))?)
    }

    /// Removes the file `name` if it exists.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, &*disk_name(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the free space of the folder's file system.
    pub fn free_space(&self) -> io::Result<FreeSpace> {
        let stat = rustix::fs::fstatvfs(&self.0)?;
        // Pseudo file systems and some FUSE file systems report a size of 0.
        let bytes = (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize));
        let files = (stat.f_files > 0).then_some(stat.f_favail);
        let is_btrfs = certs::file_system_kind_of(&self.0).is_ok_and(|kind| kind == BTRFS);
        // Too large a unit would report a full disk that isn't; too small a one is only less exact.
        let block = if is_btrfs { 1 } else { stat.f_frsize.min(MAX_BLOCK_BYTES) };
        Ok(FreeSpace { device: rustix::fs::fstat(&self.0)?.st_dev, bytes, files, block })
    }

    /// Returns true if holes of files in this folder take no space, or if that can't be tested.
    pub fn can_store_holes(&self) -> bool {
        const PROBE_BYTES: u64 = 1 << 20;
        const BLOCK_BYTES: u64 = 512;
        let name = format!(".vizinho-holes-{}", std::process::id());
        // The same failure is reported when the file itself is written.
        let Ok(probe) = self.create(&name) else { return true };
        let taken =
            probe.set_len(PROBE_BYTES).and_then(|()| probe.metadata()).map(|probe| probe.blocks() * BLOCK_BYTES);
        // The name has this process's id. If the file can't be removed, nothing else uses it.
        let _ = self.remove(&name);
        taken.map_or(true, |taken| taken < PROBE_BYTES / 2)
    }

    /// Returns a known reason why files can't be stored here, without trying it.
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
        // Search permission (x) is needed as well: without it, no entry can be created.
        match rustix::fs::accessat(&self.0, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()) {
            Err(Errno::ROFS) => Some(UnwritableReason::ReadOnly),
            Err(Errno::ACCESS | Errno::PERM) => Some(UnwritableReason::Forbidden),
            // An error of the call itself says nothing about the folder.
            _ => None,
        }
    }

    /// Returns true if this user may replace the file `name`, as far as attributes tell.
    pub fn can_replace(&self, name: &str) -> bool {
        let kept = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        if attributes(&self.0, &disk_name(name), AtFlags::SYMLINK_NOFOLLOW).intersects(kept) {
            return false;
        }
        let me = rustix::process::geteuid();
        // What can't be examined is tried: a real obstacle shows itself then.
        let (Ok(folder), Ok(Some(file))) = (rustix::fs::fstat(&self.0), self.entry_status(name)) else { return true };
        let is_sticky = Mode::from_raw_mode(folder.st_mode).contains(Mode::SVTX);
        // In a sticky folder such as /tmp, only the owner of the file or the folder may rename or remove it
        // (unlink(2)).
        !is_sticky || me.is_root() || [folder.st_uid, file.st_uid].contains(&me.as_raw())
    }

    /// Returns the identity of the file `name`; `None` if it doesn't exist.
    pub fn file_identity(&self, name: &str) -> Option<FileIdentity> {
        let stat = self.entry_status(name).ok()??;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Some(FileIdentity { device: stat.st_dev, inode: stat.st_ino, size, mtime: stat.st_mtime })
    }

    /// Returns true if the folder was removed since it was opened.
    pub fn is_removed(&self) -> bool {
        // Some FUSE file systems report no links for any folder, so the kernel's own record counts too.
        let link = || std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        rustix::fs::fstat(&self.0).is_ok_and(|stat| stat.st_nlink == 0)
            && link().is_ok_and(|path| path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)"))
    }

    /// Returns true if no other user can change `file`, which lies in this folder, through a hard link or as its owner.
    pub fn is_sole_owner(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        // Another name may lie in a folder that others can write to.
        if metadata.nlink() > 1 {
            return Ok(false);
        }
        // FAT, exFAT and network shares give all files one owner, whichever user created them.
        Ok(metadata.uid() == rustix::process::geteuid().as_raw() || Some(metadata.uid()) == self.owner_of_new_files())
    }

    /// Returns the owner of new files in this folder, found by creating one.
    fn owner_of_new_files(&self) -> Option<u32> {
        let name = format!(".vizinho-owner-{}", std::process::id());
        let probe = self.create(&name).ok()?;
        let owner = probe.metadata().map(|metadata| metadata.uid());
        self.remove(&name).ok()?;
        owner.ok()
    }

    /// Opens a file without following a link. NONBLOCK keeps a fifo that others placed there from waiting for its other
    /// end; only regular files are accepted.
    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        regular(rustix::fs::openat(&self.0, &*disk_name(name), flags, NEW_FILE_MODE)?)
    }

    /// Returns the status of the entry `name`, no link followed; `None` if it doesn't exist.
    fn entry_status(&self, name: &str) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, &*disk_name(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the name on the disk of a file whose name as sent is `name`.
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

/// Opens the regular file at `path`, an absolute path that had no links when it was recorded. Links that were placed on
/// it since are not followed, and a fifo doesn't block. Fails with the system's error, or an error for anything that is
/// not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = match rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // Linux before 5.6 and some sandboxes have no openat2. NOFOLLOW still protects the last component.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open(path, flags, Mode::empty()),
        opened => opened,
    };
    regular(opened?)
}

fn regular(opened: OwnedFd) -> io::Result<File> {
    let file = File::from(opened);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Returns true for errors of creating a name that the file system can't store, in a folder that exists.
pub fn is_name_refused(why: &io::Error) -> bool {
    // exFAT by FUSE reports such a name as ENOENT.
    let refused = [Errno::INVAL, Errno::NAMETOOLONG, Errno::ILSEQ, Errno::NOENT].map(Errno::raw_os_error);
    why.raw_os_error().is_some_and(|error| refused.contains(&error))
}

/// Returns true if the file's owner may execute it.
pub fn is_executable(metadata: &Metadata) -> bool {
    metadata.mode() & 0o100 != 0
}

/// Returns true if only the file's owner may read it.
pub fn is_owner_only(metadata: &Metadata) -> bool {
    metadata.mode() & 0o044 == 0
}

/// Makes the file executable for all users who may read it, and never for others.
pub fn make_executable(file: &File) -> io::Result<()> {
    // The execute bits follow the read bits, as the umask left them.
    let mode = file.metadata()?.mode() & 0o777;
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode | ((mode & 0o444) >> 2)))?)
}

/// Removes all permissions of the group and of others.
pub fn make_owner_only(file: &File) -> io::Result<()> {
    let mode = file.metadata()?.mode() & 0o700;
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Opens a folder. A folder that may be written but not read, such as a drop box, is opened without the right to list
/// it.
fn open_folder(at: impl AsFd, path: impl Arg + Copy, extra: OFlags) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat(&at, path, FOLDER_FLAGS | extra, Mode::empty()) {
        // O_PATH needs no permission on the folder itself (open(2)).
        Err(Errno::ACCESS) => rustix::fs::openat(&at, path, PATH_FLAGS | extra, Mode::empty()),
        opened => opened,
    }
}

/// Returns the attributes of an entry; none if the file system doesn't report them.
fn attributes(folder: &OwnedFd, name: &OsStr, flags: AtFlags) -> StatxAttributes {
    // Attributes come without being requested in the mask (statx(2)).
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
