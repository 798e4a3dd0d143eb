//! File systems: which one holds a file, and whether that is on a disk at all.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The kinds of Linux whose files are the kernel's state and not somebody's data (`statfs(2)`).
const PSEUDO: [i64; 24] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x1cd1,      // devpts
    0x27_e0eb,   // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
    0x4249_4e4d, // binfmt_misc
    0x1980_0202, // mqueue
    0x9584_58f6, // hugetlbfs
    0x6e73_6673, // nsfs
    0x6573_5543, // fusectl
    0x6759_6969, // rpc_pipefs
    0x6e66_7364, // nfsd
    0x0765_5821, // resctrl
    0xabba_1974, // xenfs
    0x9fa1,      // openpromfs
];

/// The file systems of Linux whose files keep their numbers for as long as they are there. Those of networks and of FUSE
/// may number a file anew while it is open.
const STEADY: [i64; 9] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0x3153_464a, // jfs
];

/// The inode that a path leads to, by whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InodeKey {
    device: u64,
    inode: u64,
}

impl InodeKey {
    /// The inode's number on its device.
    pub const fn inode(self) -> u64 {
        self.inode
    }
}

/// The inode of a file or folder.
pub fn inode_key(metadata: &Metadata) -> InodeKey {
    InodeKey { device: metadata.dev(), inode: metadata.ino() }
}

/// The number of the file system that holds a file or folder.
pub fn device(metadata: &Metadata) -> u64 {
    metadata.dev()
}

/// Whether the file system at `path` holds the kernel's state and no files of anybody's.
///
/// # Errors
/// As the system says.
pub fn is_pseudo(path: &Path) -> io::Result<bool> {
    Ok(PSEUDO.contains(&kind_at(path)?))
}

/// Whether a file at `path` keeps its inode's number for as long as it is there.
pub fn has_steady_inodes(path: &Path) -> bool {
    kind_at(path).is_ok_and(|kind| STEADY.contains(&kind))
}

fn kind_at(path: &Path) -> io::Result<i64> {
    let kind = rustix::fs::statfs(path)?.f_type;
    // Its type differs between architectures; the kinds have 32 bits.
    #[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap, trivial_numeric_casts, reason = "see above")]
    let kind = kind as i64 & 0xffff_ffff;
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_told_from_those_on_a_disk() {
        let home = tempfile::tempdir().unwrap();
        assert!(!is_pseudo(home.path()).unwrap());
        for path in ["/proc", "/proc/self/status"] {
            assert!(is_pseudo(Path::new(path)).unwrap(), "{path}");
        }
    }
}
