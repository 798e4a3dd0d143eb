//! Identity of file systems and inodes, and recognition of pseudo file systems.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// File systems of Linux whose files are kernel state and not users' data, by magic number (`statfs(2)`).
const PSEUDO_KINDS: [i64; 24] = [
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

/// File systems whose files other machines, or a program behind them, can change without a report to this system, by magic
/// number (`statfs(2)`).
const REMOTE_KINDS: [i64; 12] = [
    0x6573_5546, // fuse
    0x6969,      // nfs
    0x517b,      // smb
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x0102_1997, // 9p
    0x00c3_6400, // ceph
    0x5346_414f, // afs
    0x7375_7245, // coda
    0x564c,      // ncp
    0x786f_4256, // vboxsf
    0x0bd0_0bd0, // lustre
];

/// An inode on its device. All hard links of a file have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InodeKey {
    device: u64,
    inode: u64,
}

impl InodeKey {
    /// Returns the inode number.
    pub const fn inode(self) -> u64 {
        self.inode
    }
}

/// Returns the key of a file or folder.
pub fn inode_key(metadata: &Metadata) -> InodeKey {
    InodeKey { device: metadata.dev(), inode: metadata.ino() }
}

/// Returns the device number of the file system that holds a file or folder.
pub fn device(metadata: &Metadata) -> u64 {
    metadata.dev()
}

/// Returns true if the file system at `path` holds kernel state and no users' files.
pub fn is_pseudo_file_system(path: &Path) -> io::Result<bool> {
    Ok(PSEUDO_KINDS.contains(&certs::file_system_kind(path)?))
}

/// Returns true if files on the file system at `path` can change without a report to this system.
pub fn is_changed_elsewhere(path: &Path) -> io::Result<bool> {
    Ok(REMOTE_KINDS.contains(&certs::file_system_kind(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_told_from_those_on_a_disk() {
        let home = tempfile::tempdir().unwrap();
        assert!(!is_pseudo_file_system(home.path()).unwrap());
        assert!(!is_changed_elsewhere(Path::new("/proc")).unwrap());
        for path in ["/proc", "/proc/self/status"] {
            assert!(is_pseudo_file_system(Path::new(path)).unwrap(), "{path}");
        }
    }
}
